"""The planned fleets meet requests that nobody has planned with: every month, at its peak, shoulder and trough hour."""

from __future__ import annotations

import dataclasses
import datetime
from dataclasses import dataclass

import numpy as np

from sim.planning.capacities import Service
from sim.planning.coefficients import SimulatedCapacities, reached, requests_of, service_levels
from sim.planning.horizon import Horizon
from sim.planning.levels import LevelReached
from sim.planning.market import PlannedMarket, Stream
from sim.planning.procurement import Procurement
from sim.planning.program import Amounts
from sim.planning.usage import adoption, speed
from sim.serving.deployment import Deployment

MOST_REPLICAS = 24
"""Replicas of a rehearsal: a larger fleet is rehearsed as that many at the same load, which is no easier for them."""

FEWEST_REQUESTS = 4000
REQUESTS_PER_REPLICA = 200

REHEARSAL_SEED = 909
"""Another seed than that of the trials behind the coefficients."""


@dataclass(frozen=True)
class Rehearsed:
    """One service level of one stream in one representative hour of a month."""

    month: datetime.date
    """Month."""

    hour: str
    """Representative hour."""

    stream: Stream
    """Use case and model."""

    replicas: int
    """Replicas that serve it."""

    rate_per_s: float
    """Requests that they serve, those left to the API not counted [requests/s]."""

    level: LevelReached
    """What the service level came to."""


def rehearse(
    simulated: SimulatedCapacities,
    planned: PlannedMarket,
    fleet: Procurement,
    hours: tuple[str, ...],
    seed: int = REHEARSAL_SEED,
) -> list[Rehearsed]:
    """Return what every service level comes to in some representative hours of every month.

    Months that differ in nothing that matters are simulated once. Requests that the plan leaves to the API are not
    part of the rehearsal: their latency is the provider's.
    """
    horizon = simulated.horizon
    known: dict[object, tuple[LevelReached, ...]] = {}
    found = []
    for column, month in enumerate(planned.months):
        pace = speed(horizon, month, horizon.levers)
        for row, stream in enumerate(planned.streams):
            replicas = fleet.replicas[:, row, column]
            if not replicas.any():
                continue
            share = adoption(horizon, stream.case, month, horizon.levers)
            for hour in hours:
                position = planned.hours.index(hour)
                rate = float(
                    planned.market.demand_per_s[row, column, position] - fleet.api_per_s[row, column, position]
                )
                if rate <= 0.0:
                    continue
                key = (stream, tuple(replicas), round(rate / pace, 9), round(pace, 9), round(share, 9))
                if key not in known:
                    known[key] = _simulated(simulated, planned, stream, replicas, rate / pace, pace, share, seed)
                found += [Rehearsed(month, hour, stream, int(replicas.sum()), rate, level) for level in known[key]]
    return found


def _simulated(
    simulated: SimulatedCapacities,
    planned: PlannedMarket,
    stream: Stream,
    replicas: Amounts,
    slow_rate_per_s: float,
    pace: float,
    share: float,
    seed: int,
) -> tuple[LevelReached, ...]:
    horizon = simulated.horizon
    service = _service(horizon, stream)
    pools: list[Deployment] = []
    full, used = 0.0, 0.0
    factor = min(1.0, MOST_REPLICAS / float(replicas.sum()))
    for chip in np.flatnonzero(replicas):
        name = planned.market.accelerators[chip]
        found = simulated.replica(service, name)
        claim = horizon.spec.hardware[name].claim
        served = found.requests_per_s * (1.0 if claim is None else claim.value)
        count = max(1, round(float(replicas[chip]) * factor))
        full += served * float(replicas[chip])
        used += served * count
        deployment = simulated.deployment(service, name, found.accelerators)
        if claim is not None:
            deployment = _faster(deployment, claim.value)
        pools.append(dataclasses.replace(deployment, pool=name, replicas=count))
    rate = slow_rate_per_s * used / full
    count = max(FEWEST_REQUESTS, REQUESTS_PER_REPLICA * sum(pool.replicas for pool in pools))
    trace = requests_of(horizon, service, rate, count, seed, share)
    return reached(pools, trace, service_levels(horizon, stream.case), stream.case, pace)


def _service(horizon: Horizon, stream: Stream) -> Service:
    """Return what decides on the layout: uncompressed requests under the horizon's levers."""
    levers = horizon.levers
    return Service(
        stream.case,
        stream.model,
        "quantisation" in levers,
        "batching" in levers,
        "prefix_caching" in levers,
        False,
    )


def _faster(deployment: Deployment, factor: float) -> Deployment:
    """Return a deployment all of whose steps take a factor less time, as a claim would have it."""
    times = deployment.step_time
    quicker = dataclasses.replace(
        times, **{each.name: getattr(times, each.name) / factor for each in dataclasses.fields(times)}
    )
    return dataclasses.replace(deployment, step_time=quicker)


def missed(rehearsed: list[Rehearsed]) -> list[Rehearsed]:
    """Return the service levels that do not hold."""
    return [each for each in rehearsed if not each.level.met]
