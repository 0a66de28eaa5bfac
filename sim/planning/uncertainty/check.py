"""The response without simulation against simulations of drawn worlds: how far it can be trusted."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from sim.demand.trace import Trace
from sim.planning.capacities import Service
from sim.planning.coefficients import (
    LOADS,
    REFINEMENTS,
    REQUESTS,
    SEED,
    TRIAL_REPLICAS,
    SimulatedCapacities,
    reached,
    requests_of,
    service_levels,
)
from sim.planning.uncertainty.world import World
from sim.planning.usage import speed
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment
from sim.specs.errors import InputError


def simulated_per_s(world: World, service: Service, hardware: str, accelerators: int) -> float:
    """Return what a replica serves in a world by simulation, as the plan's own trials find it [requests/s].

    The world's hardware, software parameters, lengths and hits are simulated; steps are faster by what software has
    gained until planning begins, only where a service level would not hold otherwise, as in the response.
    """
    simulated = SimulatedCapacities(world.horizon)
    try:
        deployment = simulated.deployment(service, hardware, accelerators)
    except InputError:
        return 0.0
    sample = _requests(world, service, 1.0, deployment)
    mix = request_mix(sample.prompt_tokens, sample.cached_tokens, sample.output_tokens, deployment.window)
    saturated = saturated_requests_per_s(deployment, mix)
    target = world.horizon.spec.target_load.value
    pace = max(1.0, speed(world.horizon, world.horizon.spec.plan_from, world.horizon.levers))
    missed = math.nan
    for load in LOADS:
        if _holds(world, service, deployment, saturated * load * target, pace):
            good, bad = load, missed
            for _ in range(REFINEMENTS if bad == bad else 0):
                middle = 0.5 * (good + bad)
                held = _holds(world, service, deployment, saturated * middle * target, pace)
                good, bad = (middle, bad) if held else (good, middle)
            return good * target * saturated
        missed = load
    return 0.0


def _holds(world: World, service: Service, deployment: Deployment, rate_per_s: float, pace: float) -> bool:
    trace = _requests(world, service, rate_per_s * TRIAL_REPLICAS, deployment)
    pool = dataclasses.replace(deployment, replicas=TRIAL_REPLICAS)
    levels = service_levels(world.horizon, service.case)
    return all(each.value_s / pace <= each.limit_s for each in reached([pool], trace, levels, service.case))


def _requests(world: World, service: Service, rate_per_s: float, deployment: Deployment) -> Trace:
    """Return requests of the world at a rate: its lengths, hits and compression; too long ones are left out."""
    trace = requests_of(world.horizon, dataclasses.replace(service, compressed=False), rate_per_s, REQUESTS, SEED, 0.0)
    case = world.horizon.spec.use_cases[service.case]
    factor = world.lengths.get((case.workload, "prompt_tokens"), 1.0)
    prompt = np.maximum(1, np.rint(trace.prompt_tokens * factor)).astype(np.int64)
    cached = np.minimum(np.rint(trace.cached_tokens * factor).astype(np.int64), prompt - 1)
    output = np.maximum(1.0, np.rint(trace.output_tokens * world.lengths.get((case.workload, "output_tokens"), 1.0)))
    if service.compressed and case.compression is not None:
        method = world.horizon.spec.compression[case.compression]
        reasoning = case.reasoning_share.value * output
        shorter = np.minimum(reasoning, method.c.value * np.maximum(reasoning, 1.0) ** method.b.value)
        output = np.maximum(1.0, np.rint(output - reasoning + shorter))
    longer = dataclasses.replace(
        trace, prompt_tokens=prompt, cached_tokens=cached, output_tokens=output.astype(np.int64)
    )
    if longer.follows is not None:
        return longer
    kept = np.flatnonzero(longer.prompt_tokens + longer.output_tokens <= deployment.longest_request())
    changes: dict[str, Any] = {
        each.name: getattr(longer, each.name)[kept]
        for each in dataclasses.fields(longer)
        if each.name != "classes" and getattr(longer, each.name) is not None
    }
    return dataclasses.replace(longer, **changes)
