"""What a world comes to: one number for each thing that is asked, the same list in every world."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from sim.planning.capacities import CapacityTable, Service
from sim.planning.demand import Demand
from sim.planning.market import PlannedMarket, demands, planned_market
from sim.planning.plan_rows import rent_by_accelerator
from sim.planning.program import FloatArray
from sim.planning.service_cost import HOURS_PER_MONTH, choices_in
from sim.planning.terms import owning
from sim.planning.trials import service_levels
from sim.planning.uncertainty.curves import label_of
from sim.planning.uncertainty.fleets import Decided, WorldFleet, cheapest_fleet, decided_fleet
from sim.planning.uncertainty.response import ReplicaInWorld, Response
from sim.planning.uncertainty.world import World
from sim.planning.usage import pace

BEST, PLAN, WORLD = "best", "plan", "world"
"""Which fleet a number is about: the cheapest of the world, the decided one, or none."""

ALL = "all"


class Asked(NamedTuple):
    """What a number is."""

    metric: str
    """Name, whose ending is its unit."""

    fleet: str
    """`best`, `plan` or `world`."""

    class_name: str
    """Use case, or `all`."""

    period: str
    """Month, or `all`."""


def outcomes(world: World, response: Response, plan: Decided, unserved_price: float) -> dict[Asked, float]:
    """Return all numbers of a world; NaN where there is none, infinite for what never happens.

    Parameters
    ----------
    world : World
        The world.
    response : Response
        What replicas serve in it.
    plan : Decided
        What was decided.
    unserved_price : float
        Price of demand unserved in one representative hour, over the rent that would serve it that month [1].

    """
    table, replicas = response.capacities(world)
    horizon = world.horizon
    planned = planned_market(horizon, table, demands(horizon, table))
    lead = np.array([offer.lead_time_months.value for offer in horizon.spec.hardware.values()], np.int64)
    best = cheapest_fleet(planned.market, unserved_price)
    ours = decided_fleet(planned.market, plan, lead, unserved_price)
    found: dict[Asked, float] = {}
    found.update(_units(world, table))
    found.update(_demand(planned.demands, planned))
    own = _owning_usd(world, planned)
    found.update(_fleet(planned, best, own, BEST))
    found.update(_fleet(planned, ours, own, PLAN))
    found[Asked("regret_usd", PLAN, ALL, ALL)] = ours.net_present_cost_usd - best.net_present_cost_usd
    found[Asked("cost_over_best", PLAN, ALL, ALL)] = ours.net_present_cost_usd / best.net_present_cost_usd
    found.update(_extra_rent(planned, ours, plan))
    found.update(_latency(world, planned, ours, replicas))
    return found


def _units(world: World, table: CapacityTable) -> Iterator[tuple[Asked, float]]:
    """Yield cost by unit of every use case and month, and from which month it pays and self-hosting is cheaper."""
    horizon = world.horizon
    for case, described in horizon.spec.use_cases.items():
        worth = described.unit.requests.value
        pays: list[bool] = []
        cheaper: list[bool] = []
        for month in horizon.months:
            choices = choices_in(horizon, table, case, month, horizon.levers)
            cost = choices.cheapest().usd_per_request * worth
            yield Asked("usd_per_unit", WORLD, case, f"{month:%Y-%m}"), cost
            if described.unit.ceiling is not None:
                pays.append(cost <= described.unit.ceiling.value)
            own = choices.cheapest(with_api=False).usd_per_request
            cheaper.append(choices.api is None or own <= choices.api.request_usd)
        if pays:
            yield Asked("viable_from_months", WORLD, case, ALL), _holds_from(pays)
        if described.api is not None:
            yield Asked("self_host_from_months", WORLD, case, ALL), _holds_from(cheaper)


def _holds_from(flags: list[bool]) -> float:
    """Return the months until something is true for good, infinite where it is not true at the end."""
    count = 0
    for flag in reversed(flags):
        if not flag:
            break
        count += 1
    return float(len(flags) - count) if count else math.inf


def _demand(wanted: Mapping[str, tuple[Demand, ...]], planned: PlannedMarket) -> Iterator[tuple[Asked, float]]:
    for case, by_month in wanted.items():
        for month, each in zip(planned.months, by_month, strict=True):
            yield Asked("demand_per_s", WORLD, case, f"{month:%Y-%m}"), each.rate_per_s


def _owning_usd(world: World, planned: PlannedMarket) -> FloatArray:
    """Return what owning one system costs a month, purchase as an annuity, shape (H, T) [USD]."""
    found = np.zeros((len(planned.market.accelerators), len(planned.months)))
    for chip, name in enumerate(planned.market.accelerators):
        for column, month in enumerate(planned.months):
            own = owning(world.horizon, name, month, "base")
            if own is not None:
                found[chip, column] = own.total_usd_per_hour * HOURS_PER_MONTH
    return found * planned.market.system_accelerators[:, None]


def _fleet(planned: PlannedMarket, chosen: WorldFleet, own: FloatArray, which: str) -> Iterator[tuple[Asked, float]]:
    market, fleet = planned.market, chosen.fleet
    owned = fleet.owned * market.system_accelerators[:, None]
    rent = rent_by_accelerator(planned, fleet).sum(axis=0)
    cost = (fleet.owned * own).sum(axis=0) + rent + fleet.money_usd["api"] + chosen.penalty_usd
    out = sum(fleet.money_usd[kind] for kind in ("purchase", "running", "rent", "api")) - fleet.money_usd["resale"]
    demand = market.demand_per_s.sum(axis=(0, 2))
    unserved = chosen.unserved_per_s.sum(axis=(0, 2))
    api = fleet.api_per_s.sum(axis=(0, 2))
    yield Asked("net_present_cost_usd", which, ALL, ALL), chosen.net_present_cost_usd
    yield Asked("unserved_share", which, ALL, ALL), float(unserved.sum() / max(float(demand.sum()), 1e-12))
    for column, month in enumerate(planned.months):
        period = f"{month:%Y-%m}"
        yield Asked("cost_usd", which, ALL, period), float(cost[column])
        yield Asked("money_out_usd", which, ALL, period), float(np.asarray(out)[column])
        yield Asked("owned_accelerators", which, ALL, period), float(owned[:, column].sum())
        yield Asked("rented_accelerators", which, ALL, period), float(fleet.rented[:, column].sum())
        yield (
            Asked("accelerators", which, ALL, period),
            float(owned[:, column].sum() + fleet.rented[:, column].sum()),
        )
        yield Asked("api_share", which, ALL, period), float(api[column] / max(float(demand[column]), 1e-12))
        yield Asked("unserved_share", which, ALL, period), float(unserved[column] / max(float(demand[column]), 1e-12))


def _extra_rent(planned: PlannedMarket, ours: WorldFleet, plan: Decided) -> Iterator[tuple[Asked, float]]:
    """Yield accelerators rented beyond those of the plan, by month."""
    market = planned.market
    rented = np.zeros(ours.fleet.rented.shape)
    for term, length in enumerate(market.term_months):
        for start in range(len(planned.months)):
            rented[:, start : start + int(length)] += (plan.contracts[:, term, start] * market.rent_unit)[:, None]
    extra = np.maximum(0.0, ours.fleet.rented - rented).sum(axis=0)
    for column, month in enumerate(planned.months):
        yield Asked("extra_rented_accelerators", PLAN, ALL, f"{month:%Y-%m}"), float(extra[column])


def _latency(
    world: World,
    planned: PlannedMarket,
    ours: WorldFleet,
    replicas: Mapping[tuple[Service, str], ReplicaInWorld],
) -> Iterator[tuple[Asked, float]]:
    """Yield every service level's latency at the busiest hour, on the slowest accelerator in use.

    Accelerators that are in service and not needed take their part of the load of the streams on their kind.
    """
    horizon, market = world.horizon, planned.market
    levers, by_pace = horizon.levers, _by_pace(replicas)
    have = ours.fleet.owned * market.system_accelerators[:, None] + ours.fleet.rented
    used = np.einsum("hst,hs->ht", ours.fleet.replicas, market.replica_accelerators.astype(float))
    spread = np.where(used > 1e-9, np.maximum(1.0, have / np.maximum(used, 1e-9)), 1.0)
    count = ours.fleet.replicas * spread[:, None, :]
    served = np.einsum("hst,hst->st", market.capacity_per_s, count)
    wanted = (market.demand_per_s - ours.fleet.api_per_s - ours.unserved_per_s).max(axis=2)
    worst: dict[Asked, float] = {}
    for row, stream in enumerate(planned.streams):
        for column, month in enumerate(planned.months):
            for level in service_levels(horizon, stream.case):
                worst.setdefault(Asked(label_of(level), PLAN, stream.case, f"{month:%Y-%m}"), math.nan)
            for chip, name in enumerate(market.accelerators):
                quickness = pace(horizon, name, month, levers)
                replica = _slower(by_pace.get((stream.case, stream.model, name), []), quickness)
                if replica is None or count[chip, row, column] < 1e-6 or wanted[row, column] < 1e-9:
                    continue
                utilisation = float(min(1.0, wanted[row, column] / served[row, column]))
                for label, value in zip(replica.curve.labels, replica.latency_s(utilisation, quickness), strict=True):
                    asked = Asked(label, PLAN, stream.case, f"{month:%Y-%m}")
                    worst[asked] = float(np.fmax(worst[asked], value))
    yield from worst.items()


_ByPace = dict[tuple[str, str, str], list[tuple[float, ReplicaInWorld]]]


def _by_pace(replicas: Mapping[tuple[Service, str], ReplicaInWorld]) -> _ByPace:
    """Return the replicas of uncompressed services by use case, model and accelerator, slowest steps first."""
    found: _ByPace = {}
    for (service, hardware), each in replicas.items():
        if not service.compressed:
            found.setdefault((service.case, service.model, hardware), []).append((service.pace, each))
    return {key: sorted(each, key=lambda pair: pair[0]) for key, each in found.items()}


def _slower(known: list[tuple[float, ReplicaInWorld]], quickness: float) -> ReplicaInWorld | None:
    """Return the replica at a pace or the next slower one, whose load the plan takes; none where there is none."""
    if not known:
        return None
    return next((each for pace, each in reversed(known) if pace <= quickness), known[0][1])


def months_in_words(start_month: str, months: float) -> str:
    """Return the month that comes some months after another, or `never`."""
    if not math.isfinite(months):
        return "never"
    year, month = (int(part) for part in start_month.split("-"))
    number = year * 12 + month - 1 + round(months)
    return f"{number // 12}-{number % 12 + 1:02d}"
