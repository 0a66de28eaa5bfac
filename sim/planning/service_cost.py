"""What a request costs in a month by the cheapest way to serve it, and how demand answers to that."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from sim.planning.coefficients import REQUESTS, SEED, Coefficient, Service, coefficient, requests_of
from sim.planning.cost import api_usd
from sim.planning.horizon import (
    Horizon,
    PricePath,
    adoption,
    change_factor,
    days_of,
    hardware_on_offer,
    hour_groups,
    model_shares,
    owning,
    rent_usd_per_hour,
    speed,
)
from sim.specs.horizon import LeverName

SECONDS_PER_HOUR = 3600.0
HOURS_PER_MONTH = 730.5
"""Hours of a mean month, by which rent and running cost are paid [h]."""

MOST_ITERATIONS = 200
TOLERANCE = 1e-6
"""Relative change of demand at which the fixed point is found [1]."""


@dataclass(frozen=True)
class Way:
    """One way to serve a use case's requests."""

    kind: str
    """`owned`, `rented` or `api`."""

    accelerator: str
    """Accelerator, or the name of the API model."""

    term: str
    """Rental term, empty where there is none."""

    model: str
    """Key of the model."""

    usd_per_request: float
    """Cost at the load of the month, idle capacity included [USD]."""

    utilisation: float
    """Mean load over the capacity that is paid [1]."""


@dataclass(frozen=True)
class ServiceCost:
    """What a request of a use case costs, over its models."""

    usd_per_request: float
    """Mean over models by share; infinite where a model cannot be served at all [USD]."""

    ways: tuple[tuple[float, Way], ...]
    """Share of the requests and cheapest way, by model."""


Capacity = Callable[[Horizon, Service, str], Coefficient]
"""What a replica serves: by simulation, or faster."""


def replica_rate(
    horizon: Horizon,
    case: str,
    model: str,
    hardware: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    capacity: Capacity = coefficient,
) -> tuple[int, float]:
    """Return the accelerators of a replica and the requests that it serves in a month [requests/s]; (0, 0) if none.

        rate = claim x speed / ((1 - a) / k_plain + a / k_compressed),  a = adoption of compression

    The layout is the one that suits uncompressed requests best, in every month. The coefficients are those of the
    calibrated software: faster steps leave more room below the limits, which is not used here and shows when the plan
    is simulated.
    """
    kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
    plain = capacity(horizon, Service(case, model, *kept, compressed=False), hardware)
    if plain.requests_per_s <= 0.0:
        return 0, 0.0
    share = adoption(horizon, case, month, levers)
    slowness = (1.0 - share) / plain.requests_per_s
    if share > 0.0:
        short = capacity(horizon, Service(case, model, *kept, compressed=True), hardware)
        # Where another layout suits compressed requests better, the plain one is taken to serve as much an accelerator.
        served = short.requests_per_s * plain.accelerators / max(1, short.accelerators)
        slowness += share / max(served, plain.requests_per_s)
    claim = horizon.spec.hardware[hardware].claim
    factor = 1.0 if claim is None else claim.value
    return plain.accelerators, factor * speed(horizon, month, levers) / slowness


def mean_tokens(horizon: Horizon, case: str, model: str, prefix_cached: bool = True) -> tuple[float, float, float]:
    """Return mean prompt, cached and answer tokens of a use case, uncompressed [tokens]."""
    key = ("tokens", case, model, prefix_cached)
    known = horizon.coefficients.get(key)
    if not isinstance(known, tuple):
        trace = requests_of(horizon, Service(case, model, True, True, prefix_cached, False), 1.0, REQUESTS, SEED, 0.0)
        known = tuple(float(np.mean(each)) for each in (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens))
        horizon.coefficients[key] = known
    return known[0], known[1], known[2]


def api_usd_per_request(horizon: Horizon, case: str, month: datetime.date, path: PricePath = "base") -> float | None:
    """Return what an API takes for a request in a month [USD]; none where there is no price yet or it may not be used.

    The last list price holds, and moves with the API price path from the day of the profiles' prices on.
    """
    name = horizon.spec.use_cases[case].api
    if name is None:
        return None
    listed = horizon.economics.api[name].on(month)
    if listed is None:
        return None
    first_model = next(iter(horizon.spec.use_cases[case].models))
    prompt, cached, output = mean_tokens(horizon, case, first_model)
    since = max(horizon.spec.priced_on, listed.since)
    return api_usd(listed, prompt, output, cached) * change_factor(horizon.spec.api_change, since, month, path)


def peak_over_mean(horizon: Horizon, case: str) -> float:
    """Return the busiest hour of a busy day over the mean rate [1]."""
    return horizon.spec.busy_day.value * max(group.highest for group in hour_groups(horizon, case))


def requests_in(horizon: Horizon, case: str, month: datetime.date, rate_per_s: float) -> float:
    """Return the requests of a month at a mean rate [requests]."""
    del case
    return rate_per_s * days_of(month) * 24.0 * SECONDS_PER_HOUR


def service_cost(
    horizon: Horizon,
    case: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath = "base",
    rate_per_s: float | None = None,
    with_api: bool = True,
    capacity: Capacity = coefficient,
) -> ServiceCost:
    """Return what a request costs by the cheapest way in a month, sized to the busiest hour.

    Parameters
    ----------
    horizon, case, month, levers, path
        What is asked.
    rate_per_s : float, optional
        Mean demand: replicas are whole numbers then; none means a fleet so large that it does not matter [requests/s].
    with_api : bool
        Whether an API is one of the ways.
    capacity : callable
        What a replica serves.

    Owning is priced at the annuity of the purchase, as if the accelerator were used over its whole life.

    """
    api = api_usd_per_request(horizon, case, month, path) if with_api else None
    total = 0.0
    chosen = []
    for model, share in model_shares(horizon, case, month, levers).items():
        rate = None if rate_per_s is None else rate_per_s * share
        ways = list(_own_ways(horizon, case, model, month, levers, path, rate, capacity))
        if api is not None:
            ways.append(Way("api", horizon.spec.use_cases[case].api or "", "", model, api, 1.0))
        if not ways:
            return ServiceCost(math.inf, ())
        best = min(ways, key=lambda way: way.usd_per_request)
        chosen.append((share, best))
        total += share * best.usd_per_request
    return ServiceCost(total, tuple(chosen))


def _own_ways(
    horizon: Horizon,
    case: str,
    model: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath,
    rate_per_s: float | None,
    capacity: Capacity,
) -> Iterator[Way]:
    peak = peak_over_mean(horizon, case)
    for name in hardware_on_offer(horizon, month, levers):
        accelerators, served = replica_rate(horizon, case, model, name, month, levers, capacity)
        if not accelerators:
            continue
        load = 1.0 / peak
        if rate_per_s is not None and rate_per_s > 0.0:
            load = rate_per_s / (math.ceil(rate_per_s * peak / served - 1e-9) * served)
        per_dollar = accelerators / (served * load * SECONDS_PER_HOUR)
        own = owning(horizon, name, month, path)
        if own is not None and horizon.spec.hardware[name].supply.value > 0:
            yield Way("owned", name, "", model, own.total_usd_per_hour * per_dollar, load)
        for term in horizon.spec.terms:
            price = rent_usd_per_hour(horizon, name, term, month, path)
            if price is not None:
                yield Way("rented", name, term, model, price * per_dollar, load)


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
    horizon: Horizon, case: str, month: datetime.date, levers: frozenset[LeverName], path: PricePath = "base"
) -> Demand:
    """Return the demand of a use case in a month, with its answer to cost."""
    described = horizon.spec.use_cases[case]
    start = horizon.spec.start
    base = described.rate.value * change_factor(described.growth, start, month)
    exponent = described.elasticity.value * described.pass_through.value
    then = service_cost(horizon, case, start, levers, path, described.rate.value).usd_per_request

    def unit(rate_per_s: float) -> float:
        return service_cost(horizon, case, month, levers, path, rate_per_s).usd_per_request

    rate = respond(base, then, unit, exponent)
    saved = base * (then - unit(base))
    spent = base * then - rate * unit(rate)
    taken_back = 1.0 - spent / saved if saved > 0.0 and math.isfinite(saved) else math.nan
    return Demand(base, rate, rate / base - 1.0, taken_back)
