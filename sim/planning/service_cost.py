"""What a request costs in a month by the cheapest way to serve it."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sim.planning.capacities import Capacities, Service
from sim.planning.cost import api_usd
from sim.planning.horizon import Horizon
from sim.planning.months import PricePath, change_factor, days_of
from sim.planning.terms import hardware_on_offer, owning, rent_usd_per_hour
from sim.planning.usage import adoption, claimed, hour_groups, model_shares, pace, speed
from sim.specs.horizon import LeverName

SECONDS_PER_HOUR = 3600.0
HOURS_PER_MONTH = 730.5
"""Hours of a mean month, by which rent and running cost are paid [h]."""


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

    replica_usd_per_hour: float
    """Cost of a replica; of an API, 0 [USD/h]."""

    served_per_s: float
    """Requests that a replica serves within its service levels; of an API, infinite [requests/s]."""

    request_usd: float
    """What is paid for each request on top: the price of an API [USD]."""

    def usd_per_request(self, rate_per_s: float | None, peak_over_mean: float) -> float:
        """Return the cost of a request, idle capacity included [USD].

        Whole replicas are sized to the busiest hour; without a rate the fleet is so large that it does not matter.

        Parameters
        ----------
        rate_per_s : float or None
            Mean demand [requests/s].
        peak_over_mean : float
            Busiest hour of a busy day over the mean rate [1].

        """
        if self.kind == "api":
            return self.request_usd
        replicas_per_request_s = peak_over_mean / self.served_per_s
        if rate_per_s is not None and rate_per_s > 0.0:
            replicas_per_request_s = math.ceil(rate_per_s * replicas_per_request_s - 1e-9) / rate_per_s
        return replicas_per_request_s * self.replica_usd_per_hour / SECONDS_PER_HOUR


@dataclass(frozen=True)
class ServiceCost:
    """What a request of a use case costs, over its models."""

    usd_per_request: float
    """Mean over models by share; infinite where a model cannot be served at all [USD]."""

    ways: tuple[tuple[float, Way], ...]
    """Share of the requests and cheapest way, by model."""


@dataclass(frozen=True)
class Choices:
    """All ways to serve a use case in a month, found once and asked at many rates."""

    shares: Mapping[str, float]
    """Share of the requests by model [1]."""

    own: Mapping[str, tuple[Way, ...]]
    """Owned and rented ways by model."""

    api: Way | None
    """The API, where there is a price and it may be used."""

    peak_over_mean: float
    """Busiest hour of a busy day over the mean rate [1]."""

    def cheapest(self, rate_per_s: float | None = None, with_api: bool = True) -> ServiceCost:
        """Return the cheapest way of every model and what a request costs so.

        Parameters
        ----------
        rate_per_s : float, optional
            Mean demand of the use case: replicas are whole numbers then; none means so large a fleet that it does not
            matter [requests/s].
        with_api : bool
            Whether the API is one of the ways.

        """
        total = 0.0
        chosen = []
        for model, share in self.shares.items():
            ways = self.own[model] + ((self.api,) if with_api and self.api is not None else ())
            rate = None if rate_per_s is None else rate_per_s * share
            costs = [way.usd_per_request(rate, self.peak_over_mean) for way in ways]
            if not costs:
                return ServiceCost(math.inf, ())
            least = min(costs)
            chosen.append((share, ways[costs.index(least)]))
            total += share * least
        return ServiceCost(total, tuple(chosen))


def replica_rate(
    horizon: Horizon,
    capacities: Capacities,
    case: str,
    model: str,
    hardware: str,
    month: datetime.date,
    levers: frozenset[LeverName],
) -> tuple[int, float]:
    """Return the accelerators of a replica and the requests that it serves in a month [requests/s]; (0, 0) if none.

        rate = claim x speed / ((1 - a) / k_plain + a / k_compressed),  a = adoption of compression

    The layout is the one that suits uncompressed requests best, in every month. The k are counted at the calibrated
    speed, with the room below the limits that the speed of the month leaves.
    """
    kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
    quickness = pace(horizon, hardware, month, levers)
    plain = capacities.replica(Service(case, model, *kept, compressed=False, pace=quickness), hardware)
    if plain.requests_per_s <= 0.0:
        return 0, 0.0
    share = adoption(horizon, case, month, levers)
    slowness = (1.0 - share) / plain.requests_per_s
    if share > 0.0:
        short = capacities.replica(Service(case, model, *kept, compressed=True, pace=quickness), hardware)
        # Where another layout suits compressed requests better, the plain one is taken to serve as much an accelerator.
        served = short.requests_per_s * plain.accelerators / max(1, short.accelerators)
        slowness += share / max(served, plain.requests_per_s)
    return plain.accelerators, claimed(horizon, hardware) * speed(horizon, month, levers) / slowness


def api_usd_per_request(
    horizon: Horizon, capacities: Capacities, case: str, month: datetime.date, path: PricePath = "base"
) -> float | None:
    """Return what an API takes for a request in a month [USD]; none where there is no price yet or it may not be used.

    The last list price holds, and moves with the API price path from the day of the profiles' prices on.
    """
    name = horizon.spec.use_cases[case].api
    if name is None:
        return None
    listed = horizon.economics.api[name].on(month)
    if listed is None:
        return None
    tokens = capacities.tokens(case, next(iter(horizon.spec.use_cases[case].models)))
    since = max(horizon.spec.priced_on, listed.since)
    moved = change_factor(horizon.spec.api_change, since, month, path)
    return api_usd(listed, tokens.prompt, tokens.output, tokens.cached) * moved


def peak_over_mean(horizon: Horizon, case: str) -> float:
    """Return the busiest hour of a busy day over the mean rate [1]."""
    return horizon.spec.busy_day.value * max(group.highest for group in hour_groups(horizon, case))


def requests_in(month: datetime.date, rate_per_s: float) -> float:
    """Return the requests of a month at a mean rate [requests]."""
    return rate_per_s * days_of(month) * 24.0 * SECONDS_PER_HOUR


def choices_in(
    horizon: Horizon,
    capacities: Capacities,
    case: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath = "base",
) -> Choices:
    """Return all ways to serve a use case in a month.

    Owning is priced at the annuity of the purchase, as if the accelerator were used over its whole life.
    """
    shares = model_shares(horizon, case, month, levers)
    price = api_usd_per_request(horizon, capacities, case, month, path)
    api = None if price is None else Way("api", horizon.spec.use_cases[case].api or "", "", "", 0.0, math.inf, price)
    offered = hardware_on_offer(horizon, month, levers)
    own = {
        model: tuple(
            way for name in offered for way in own_ways(horizon, capacities, case, model, name, month, levers, path)
        )
        for model in shares
    }
    return Choices(shares, own, api, peak_over_mean(horizon, case))


def own_ways(
    horizon: Horizon,
    capacities: Capacities,
    case: str,
    model: str,
    hardware: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath = "base",
) -> Iterator[Way]:
    """Yield the ways to own or rent one accelerator for a use case's model in a month."""
    accelerators, served = replica_rate(horizon, capacities, case, model, hardware, month, levers)
    if not accelerators:
        return
    own = owning(horizon, hardware, month, path) if horizon.spec.hardware[hardware].supply.value > 0 else None
    if own is not None:
        yield Way("owned", hardware, "", model, accelerators * own.total_usd_per_hour, served, 0.0)
    for term in horizon.spec.terms:
        price = rent_usd_per_hour(horizon, hardware, term, month, path)
        if price is not None:
            yield Way("rented", hardware, term, model, accelerators * price, served, 0.0)
