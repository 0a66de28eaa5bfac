"""The planned fleets meet requests that nobody has planned with: every month, at its peak, shoulder and trough hour."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.demand.trace import Trace
from sim.engine.run import RunPlan, run
from sim.planning.capacities import Capacities, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.levels import LevelReached, reached_levels, with_model_error
from sim.planning.market import PlannedMarket, Stream
from sim.planning.procurement import Procurement
from sim.planning.program import Amounts
from sim.planning.trials import WARM_UP, requests_of, service_levels, sped_up
from sim.planning.usage import adoption, claimed, pace, speed
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS, Deployment
from sim.specs.scenario import LONGEST_RUN_S

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
    capacities: Capacities,
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
        quickness = speed(horizon, month, horizon.levers)
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
                key = (stream, tuple(replicas), round(rate, 9), round(quickness, 9), round(share, 9))
                if key not in known:
                    known[key] = _simulated(simulated, capacities, planned, stream, replicas, month, rate, seed)
                found += [Rehearsed(month, hour, stream, int(replicas.sum()), rate, level) for level in known[key]]
    return found


def _simulated(
    simulated: SimulatedCapacities,
    capacities: Capacities,
    planned: PlannedMarket,
    stream: Stream,
    replicas: Amounts,
    month: datetime.date,
    rate_per_s: float,
    seed: int,
) -> tuple[LevelReached, ...]:
    """Return what the levels come to; all times are those of the calibrated software, and scaled at the end."""
    horizon = simulated.horizon
    quickness = speed(horizon, month, horizon.levers)
    pools: list[Deployment] = []
    full, used = 0.0, 0.0
    factor = min(1.0, MOST_REPLICAS / float(replicas.sum()))
    for chip in np.flatnonzero(replicas):
        name = planned.market.accelerators[chip]
        service = _service(horizon, stream, pace(horizon, name, month, horizon.levers))
        found = capacities.replica(service, name)
        faster = claimed(horizon, name)
        count = max(1, round(float(replicas[chip]) * factor))
        full += faster * found.requests_per_s * float(replicas[chip])
        used += faster * found.requests_per_s * count
        deployment = simulated.deployment(service, name, found.layout, found.max_sequences)
        pools.append(dataclasses.replace(_faster(deployment, faster), pool=name, replicas=count))
    count = max(FEWEST_REQUESTS, REQUESTS_PER_REPLICA * sum(pool.replicas for pool in pools))
    share = adoption(horizon, stream.case, month, horizon.levers)
    trace = requests_of(horizon, _service(horizon, stream), rate_per_s * used / full, count, seed, share)
    return _reached(pools, sped_up(trace, 1.0 / quickness), horizon, stream.case, quickness)


def _reached(
    pools: list[Deployment], trace: Trace, horizon: Horizon, case: str, quickness: float
) -> tuple[LevelReached, ...]:
    if not trace.requests:
        return ()
    end_ns = int(trace.arrival_ns[-1]) + 1
    drain_ns = round(LONGEST_RUN_S * NANOSECONDS)
    plan = RunPlan(
        trace, pools, [list(range(len(pools)))], "least_outstanding", np.zeros((0, 2)), end_ns, drain_ns,
        end_ns + drain_ns,
    )  # fmt: skip
    requests = run(plan).requests
    requests = requests[requests["arrival_ns"] >= WARM_UP * end_ns]
    overhead_s = max(each.request_overhead_s for each in pools)
    levels = [level.model_copy(update={"limit": level.limit * quickness}) for level in service_levels(horizon, case)]
    judged, load_factor = [each.validity for each in pools], load_factor_of(pools, trace)
    return tuple(
        with_model_error(each, judged, load_factor).faster(quickness)
        for each in reached_levels(requests, case, levels, overhead_s)
    )


def load_factor_of(pools: Sequence[Deployment], trace: Trace) -> float:
    """Return the offered load over the mean-field capacity of some pools that share it [1]."""
    columns = (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
    capacity = sum(each.replicas * saturated_requests_per_s(each, request_mix(*columns, each.window)) for each in pools)
    return trace.requests * NANOSECONDS / max(1, int(trace.arrival_ns.max())) / capacity


def _service(horizon: Horizon, stream: Stream, pace: float = 1.0) -> Service:
    """Return what decides on the layout: uncompressed requests under the horizon's levers."""
    levers = horizon.levers
    kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
    return Service(stream.case, stream.model, *kept, compressed=False, pace=pace)


def _faster(deployment: Deployment, factor: float) -> Deployment:
    """Return a deployment all of whose steps take a factor less time, as a claim would have it."""
    if factor == 1.0:
        return deployment
    times = deployment.step_time
    quicker = dataclasses.replace(
        times, **{each.name: getattr(times, each.name) / factor for each in dataclasses.fields(times)}
    )
    return dataclasses.replace(deployment, step_time=quicker)


def missed(rehearsed: list[Rehearsed]) -> list[Rehearsed]:
    """Return the service levels that do not hold."""
    return [each for each in rehearsed if not each.level.met]
