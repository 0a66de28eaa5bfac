"""What a request costs in a month by the cheapest way to serve it."""

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
    return cheapest(offers(horizon, case, month, levers, path, with_api, capacity), rate_per_s)


@dataclass(frozen=True)
class OwnOffer:
    """One accelerator on some terms, before it is known how many replicas there are."""

    kind: str
    """`owned` or `rented`."""

    accelerator: str
    """Accelerator."""

    term: str
    """Rental term, empty where there is none."""

    accelerators: int
    """Accelerators of a replica."""

    served_per_s: float
    """Requests that a replica serves [requests/s]."""

    usd_per_hour: float
    """Price [USD per accelerator-hour]."""


@dataclass(frozen=True)
class Offers:
    """All ways to serve a use case in a month, at any demand."""

    peak: float
    """Busiest hour of a busy day over the mean rate [1]."""

    models: tuple[tuple[str, float, tuple[OwnOffer, ...]], ...]
    """Model, its share of the requests, and its own ways."""

    api: str
    """Name of the API model."""

    api_usd_per_request: float | None
    """Its price; none where it is not one of the ways [USD]."""


def offers(
    horizon: Horizon,
    case: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath = "base",
    with_api: bool = True,
    capacity: Capacity = coefficient,
) -> Offers:
    """Return all ways to serve a use case in a month; parameters as in `service_cost`."""
    return Offers(
        peak_over_mean(horizon, case),
        tuple(
            (model, share, tuple(_own_offers(horizon, case, model, month, levers, path, capacity)))
            for model, share in model_shares(horizon, case, month, levers).items()
        ),
        horizon.spec.use_cases[case].api or "",
        api_usd_per_request(horizon, case, month, path) if with_api else None,
    )


def cheapest(found: Offers, rate_per_s: float | None = None) -> ServiceCost:
    """Return what a request costs by the cheapest way at a mean demand; none means a very large one [requests/s]."""
    total = 0.0
    chosen = []
    for model, share, own in found.models:
        rate = None if rate_per_s is None else rate_per_s * share
        best: tuple[float, float, OwnOffer | None] | None = None
        for each in own:
            served = each.served_per_s
            load = 1.0 / found.peak
            if rate is not None and rate > 0.0:
                load = rate / (math.ceil(rate * found.peak / served - 1e-9) * served)
            usd = each.usd_per_hour * (each.accelerators / (served * load * SECONDS_PER_HOUR))
            if best is None or usd < best[0]:
                best = usd, load, each
        if found.api_usd_per_request is not None and (best is None or found.api_usd_per_request < best[0]):
            best = found.api_usd_per_request, 1.0, None
        if best is None:
            return ServiceCost(math.inf, ())
        usd, load, offer = best
        way = (
            Way("api", found.api, "", model, usd, load)
            if offer is None
            else Way(offer.kind, offer.accelerator, offer.term, model, usd, load)
        )
        chosen.append((share, way))
        total += share * usd
    return ServiceCost(total, tuple(chosen))


def _own_offers(
    horizon: Horizon,
    case: str,
    model: str,
    month: datetime.date,
    levers: frozenset[LeverName],
    path: PricePath,
    capacity: Capacity,
) -> Iterator[OwnOffer]:
    for name in hardware_on_offer(horizon, month, levers):
        accelerators, served = replica_rate(horizon, case, model, name, month, levers, capacity)
        if not accelerators:
            continue
        own = owning(horizon, name, month, path)
        if own is not None and horizon.spec.hardware[name].supply.value > 0:
            yield OwnOffer("owned", name, "", accelerators, served, own.total_usd_per_hour)
        for term in horizon.spec.terms:
            price = rent_usd_per_hour(horizon, name, term, month, path)
            if price is not None:
                yield OwnOffer("rented", name, term, accelerators, served, price)
