"""How demand answers to what a request costs: a fixed point in every month."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from dataclasses import dataclass

from sim.planning.capacities import Capacities
from sim.planning.horizon import Horizon
from sim.planning.months import PricePath, change_factor
from sim.planning.service_cost import choices_in
from sim.specs.horizon import LeverName

MOST_ITERATIONS = 200
TOLERANCE = 1e-6
"""Relative change of demand at which the fixed point is found [1]."""


@dataclass(frozen=True)
class Demand:
    """Demand of a use case in a month."""

    at_constant_price_per_s: float
    """Mean rate if nothing had become cheaper since the first month [requests/s]."""

    rate_per_s: float
    """Mean rate at the unit cost of the month [requests/s]."""

    rebound: float
    """Second over first, less one [1]."""

    taken_back: float
    """Share of what the cheaper unit would have saved that the extra demand spends again; NaN if nothing was [1]."""


def respond(base_per_s: float, usd_then: float, cost: Callable[[float], float], exponent: float) -> float:
    """Return the demand at which demand and unit cost agree [requests/s].

        D = D_base (u(D) / u_then) ^ (elasticity x pass-through)

    Parameters
    ----------
    base_per_s : float
        Demand at the reference cost [requests/s].
    usd_then : float
        Reference cost per request [USD].
    cost : callable
        Cost per request u at a demand [USD].
    exponent : float
        Elasticity times pass-through, not positive [1].

    Damped iteration on the logarithm. A lumpy cost can have no fixed point, only a jump across it: the iteration then
    settles on the jump, to within its step.

    """
    if exponent == 0.0 or not math.isfinite(usd_then) or base_per_s <= 0.0:
        return base_per_s
    level = 0.0
    step = 0.5
    previous = 0.0
    for _ in range(MOST_ITERATIONS):
        unit = cost(base_per_s * math.exp(level))
        if not math.isfinite(unit):
            return base_per_s
        wanted = exponent * math.log(unit / usd_then)
        change = wanted - level
        if abs(change) < TOLERANCE:
            break
        if change * previous < 0.0:
            step *= 0.7
        level += step * change
        previous = change
    return base_per_s * math.exp(level)


def demand(
    horizon: Horizon,
    capacities: Capacities,
    case: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath = "base",
) -> Demand:
    """Return the demand of a use case in a month, with its answer to cost."""
    described = horizon.spec.use_cases[case]
    start = horizon.spec.start
    base = described.rate.value * change_factor(described.growth, start, month)
    exponent = described.elasticity.value * described.pass_through.value
    at_start = choices_in(horizon, capacities, case, start, levers, path)
    then = at_start.cheapest(described.rate.value).usd_per_request
    choices = choices_in(horizon, capacities, case, month, levers, path)

    def unit(rate_per_s: float) -> float:
        return choices.cheapest(rate_per_s).usd_per_request

    rate = respond(base, then, unit, exponent)
    saved = base * (then - unit(base))
    spent = base * then - rate * unit(rate)
    taken_back = 1.0 - spent / saved if saved > 0.0 and math.isfinite(saved) else math.nan
    return Demand(base, rate, rate / base - 1.0, taken_back)
