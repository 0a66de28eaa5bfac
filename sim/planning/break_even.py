"""From which volume and use on own replicas cost less than an API, today and by month."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.planning.cost import api_usd
from sim.planning.sizing_comparison import SizingComparison
from sim.planning.sizing_result import Sizing
from sim.planning.token_cost import Load
from sim.specs.economics import ApiModelSpec, ApiPriceSpec, EconomicsSpec
from sim.specs.errors import InputError, Problem, suggest

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class SelfHosting:
    """Own replicas, paid all hours, sized for the peak."""

    capacity_per_s: float
    """Requests that one replica serves within the service levels at the peak [requests/s]."""

    usd_per_replica_hour: float
    """What one replica costs, busy or idle [USD/h]."""

    fixed_usd_per_hour: float = 0.0
    """What comes on top at any size, such as staff [USD/h]."""

    least_replicas: int = 1
    """Smallest fleet, such as 2 for redundancy."""

    mean_over_peak: float = 1.0
    """Mean volume over peak volume, in (0, 1] [1]; a fleet for the peak idles outside it."""

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if not (self.capacity_per_s > 0.0 and 0.0 < self.mean_over_peak <= 1.0 and self.least_replicas >= 1):
            raise ValueError("capacity must exceed 0, mean over peak lie in (0, 1], and the least fleet be 1 or more")

    @property
    def mean_capacity_per_s(self) -> float:
        """Return the mean volume that one replica allows [requests/s]."""
        return self.capacity_per_s * self.mean_over_peak

    def replicas(self, mean_per_s: float) -> int:
        """Return the replicas for a mean volume [requests/s]: the peak over the capacity of one, rounded up."""
        return max(self.least_replicas, math.ceil(mean_per_s / self.mean_capacity_per_s * (1 - 1e-12)))

    def usd_per_hour(self, mean_per_s: float) -> float:
        """Return what a mean volume [requests/s] costs [USD/h]."""
        return self.fixed_usd_per_hour + self.replicas(mean_per_s) * self.usd_per_replica_hour


@dataclass(frozen=True)
class BreakEven:
    """When own replicas pay."""

    utilisation: float
    """Part of a replica's capacity that must be used so that it costs what an API charges [1]; above 1 never."""

    first_per_s: float
    """Smallest mean volume at which own replicas cost no more [requests/s]; infinite where they never do."""

    always_per_s: float
    """Mean volume from which they cost no more at any larger one [requests/s]; infinite likewise."""

    @property
    def ever(self) -> bool:
        """Return whether own replicas ever pay."""
        return math.isfinite(self.first_per_s)


def break_even(hosting: SelfHosting, api_usd_per_request: float) -> BreakEven:
    """Return when own replicas pay.

    With p the API's price of an hour of one request/s, c the mean capacity of a replica, u its cost an hour and F the
    fixed cost, k replicas cost no more from volume (F + k u) / p on, which lies within their capacity k c if
    k (p c - u) >= F. Between k - 1 and k replicas the API is cheaper again while (k - 1) c p < F + k u, so

        utilisation = u / (p c)
        first  = (F + k1 u) / p,  k1 = max(least, ceil(F / (p c - u)))
        always = (F + K u) / p,   K  = max(least, ceil((F + p c) / (p c - u)) - 1)

    Parameters
    ----------
    hosting : SelfHosting
        Own replicas.
    api_usd_per_request : float
        What the API charges for a request on average [USD].

    Assumes capacity in proportion to replicas: pooling makes large fleets a little better than that, so volumes are
    on the safe side where the capacity was found on a small one.

    """
    price = api_usd_per_request * SECONDS_PER_HOUR
    revenue = price * hosting.mean_capacity_per_s
    used = hosting.usd_per_replica_hour / revenue if revenue > 0.0 else math.inf
    gain = revenue - hosting.usd_per_replica_hour
    if gain < 0.0 or (gain == 0.0 and hosting.fixed_usd_per_hour > 0.0) or price <= 0.0:
        return BreakEven(used, math.inf, math.inf)
    if gain == 0.0:
        return BreakEven(used, hosting.least_replicas * hosting.mean_capacity_per_s, math.inf)
    fixed = hosting.fixed_usd_per_hour
    fewest = max(hosting.least_replicas, math.ceil(fixed / gain * (1 - 1e-12)))
    last = max(hosting.least_replicas, math.ceil((fixed + revenue) / gain * (1 - 1e-12)) - 1)
    first = (fixed + fewest * hosting.usd_per_replica_hour) / price
    if fewest > hosting.least_replicas:
        first = max(first, (fewest - 1) * hosting.mean_capacity_per_s)
    return BreakEven(used, first, max(first, (fixed + last * hosting.usd_per_replica_hour) / price))


def cost_by_volume(hosting: SelfHosting, api_usd_per_request: float, mean_per_s: Iterable[float]) -> pd.DataFrame:
    """Return what both cost at some mean volumes [requests/s], one row a volume.

    Columns: `mean_per_s`, `replicas`, `utilisation` (part of the capacity at the mean that is used),
    `self_host_usd_per_hour`, `api_usd_per_hour`, and both by request, `self_host_usd_per_request` and
    `api_usd_per_request`.
    """
    volumes = np.array(list(mean_per_s), dtype=np.float64)
    replicas = np.array([hosting.replicas(each) for each in volumes])
    own = np.array([hosting.usd_per_hour(each) for each in volumes])
    with np.errstate(divide="ignore"):
        per_request = own / SECONDS_PER_HOUR / volumes
    return pd.DataFrame(
        {
            "mean_per_s": volumes,
            "replicas": replicas,
            "utilisation": volumes / (replicas * hosting.capacity_per_s),
            "self_host_usd_per_hour": own,
            "api_usd_per_hour": volumes * api_usd_per_request * SECONDS_PER_HOUR,
            "self_host_usd_per_request": per_request,
            "api_usd_per_request": api_usd_per_request,
        }
    )


def hosting_of(sizing: Sizing, mean_over_peak: float = 1.0, fixed_usd_per_hour: float = 0.0) -> SelfHosting:
    """Return the self-hosting of a sized pool: its load over its replicas is the capacity of one.

    Parameters
    ----------
    sizing : Sizing
        A feasible sizing with a price, confirmed by simulation.
    mean_over_peak : float
        Mean volume over the volume that was sized for [1].
    fixed_usd_per_hour : float
        What comes on top at any size [USD/h].

    Raises
    ------
    ValueError
        Nothing to host: infeasible, not confirmed, or without a price.

    """
    if sizing.load is None or sizing.price_usd_per_hour is None:
        raise ValueError("a break-even needs a feasible sizing with a price, confirmed by simulation")
    return SelfHosting(
        capacity_per_s=sizing.load.requests_per_s / sizing.replicas,
        usd_per_replica_hour=sizing.accelerators // sizing.replicas * sizing.price_usd_per_hour,
        fixed_usd_per_hour=fixed_usd_per_hour,
        mean_over_peak=mean_over_peak,
    )


def break_even_by_month(
    api: ApiModelSpec,
    months: Sequence[datetime.date],
    hosting: Callable[[datetime.date], SelfHosting],
    load: Load,
) -> pd.DataFrame:
    """Return the break-even of each month, one row a month.

    Parameters
    ----------
    api : ApiModelSpec
        List prices by date; months before the first price are left out.
    months : sequence of date
        A day of each month, at which prices are read.
    hosting : callable
        Own replicas in a month; prices of accelerators change, and so may their capacity.
    load : Load
        What requests are like on average.

    Columns: `month`, `api_usd_per_request`, `utilisation`, `first_per_s`, `always_per_s`.

    """
    rows = []
    for month in months:
        price = api.on(month)
        if price is None:
            continue
        charge = api_usd(price, load.prompt_tokens, load.output_tokens, load.cached_tokens)
        found = break_even(hosting(month), charge)
        rows.append(
            {
                "month": pd.Timestamp(month),
                "api_usd_per_request": charge,
                "utilisation": found.utilisation,
                "first_per_s": found.first_per_s,
                "always_per_s": found.always_per_s,
            }
        )
    return pd.DataFrame(rows, columns=["month", "api_usd_per_request", "utilisation", "first_per_s", "always_per_s"])


def api_price(economics: EconomicsSpec, model: str, day: datetime.date) -> ApiPriceSpec:
    """Return the list price of a model behind an API on a day.

    Raises
    ------
    InputError
        No such model, or no price yet on that day.

    """
    known = economics.api.get(model)
    if known is None:
        remedy = suggest(model, economics.api)
        raise InputError([Problem(f"{economics.name} has no API price of this model", value=model, remedy=remedy)])
    price = known.on(day)
    if price is None:
        remedy = f"Choose a day from {known.prices[0].since} on."
        raise InputError([Problem(f"{model} has no API price on this day", value=str(day), remedy=remedy)])
    return price


def against_api(comparison: SizingComparison, price: ApiPriceSpec) -> dict[str, BreakEven]:
    """Return the break-even of every feasible sizing with a price, by scenario and hardware."""
    found = {}
    for each in comparison.sizings:
        if each.load is not None and each.price_usd_per_hour is not None:
            load = each.load
            charge = api_usd(price, load.prompt_tokens, load.output_tokens, load.cached_tokens)
            found[f"{each.hardware} ({each.scenario_id})"] = break_even(hosting_of(each), charge)
    return found
