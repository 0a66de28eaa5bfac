"""Trials: the requests of a use case, and one pool that meets them, as a scenario that sizing can work on.

Steps that are `pace` times as fast as calibrated are simulated in slow motion: the calibrated replica meets requests
that come that much slower, and has limits that are that much longer. All times scale alike, so this is exact.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from sim.demand.adoption import partly_compressed
from sim.demand.generate import generate_class
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.planning.capacities import Service
from sim.planning.horizon import Horizon
from sim.planning.usage import compression_law
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat
from sim.specs.reading import RawDocument
from sim.specs.resolved import Scenario
from sim.specs.scenario import LONGEST_RUN_S, ScenarioSpec
from sim.specs.workload import ServiceLevelSpec, WorkloadSpec

WARM_UP = 0.25
"""Share of a trial during which nothing is counted."""

POOL = "pool"
"""Name of the pool of a trial."""


def trial_workload(horizon: Horizon, service: Service) -> WorkloadSpec:
    """Return the workload at a constant rate, without its prefix cache where that is off."""
    workload = horizon.workloads[horizon.spec.use_cases[service.case].workload]
    arrivals = workload.arrivals.model_copy(update={"profile": None})
    changes: dict[str, object] = {"arrivals": arrivals}
    if not service.prefix_cached:
        changes["prefix"] = None
    return workload.model_copy(update=changes)


def requests_of(horizon: Horizon, service: Service, rate_per_s: float, count: int, seed: int, adoption: float) -> Trace:
    """Return about `count` requests of a use case that arrive at a constant rate; none exceeds the model's context.

    A share `adoption` of the requests, at random, is answered by a compressed model.
    """
    workload = trial_workload(horizon, service)
    trace = generate_class(workload, rate_per_s, count / rate_per_s, 0.0, seed, service.case)
    case = horizon.spec.use_cases[service.case]
    law = compression_law(horizon, service.case)
    if law is not None and adoption > 0.0:
        generator = stream(seed, service.case, "compression")
        trace = partly_compressed(trace, law, case.reasoning_share.value, adoption, generator)
    context = horizon.models[case.models[service.model].model].architecture.context_length
    fits = trace.prompt_tokens + trace.output_tokens <= context
    return trace if trace.follows is not None or fits.all() else trace.rows(np.flatnonzero(fits))


def service_levels(horizon: Horizon, case: str) -> tuple[ServiceLevelSpec, ...]:
    """Return the service levels of a use case: its own, else its workload's."""
    described = horizon.spec.use_cases[case]
    if described.service_levels is not None:
        return described.service_levels
    return horizon.workloads[described.workload].service_levels


def layouts_of(horizon: Horizon, service: Service) -> tuple[ParallelismSpec, ...]:
    """Return the layouts of a replica to choose from."""
    return horizon.spec.use_cases[service.case].models[service.model].layouts


def trial_scenario(
    horizon: Horizon,
    service: Service,
    hardware: str,
    layout: ParallelismSpec,
    duration_s: float,
    max_sequences: int = 0,
) -> Scenario:
    """Return one pool that serves one use case; its requests are given to it and not drawn.

    Parameters
    ----------
    horizon : Horizon
        What is described.
    service : Service
        Use case, model, formats; its pace stretches the limits.
    hardware : str
        Accelerator.
    layout : ParallelismSpec
        Parallelism of a replica.
    duration_s : float
        Length of the trial [s].
    max_sequences : int
        Sequences of a replica at a time; 0 means the serving stack's, or the baseline's without the lever batching.

    """
    share = horizon.spec.use_cases[service.case].models[service.model]
    pool: dict[str, object] = {
        "hardware": hardware,
        "model": share.model,
        "replicas": 1,
        "parallelism": layout.model_dump(),
        "serving_stack": horizon.spec.serving_stack,
        "weight_format": share.weight_format if service.quantised else share.plain_format,
        "kv_format": share.kv_format if service.quantised else NumberFormat.BF16,
    }
    if max_sequences:
        pool["max_sequences"] = max_sequences
    elif not service.batched:
        pool["max_sequences"] = horizon.spec.baseline.max_sequences
    data = {
        "kind": "scenario", "name": "trial", "title": "trial", "duration": "1 h", "warm_up": "1 min",
        "drain": "1 h", "timeline_interval": "1 h", "price_basis": ["stated"],
        "traffic": {service.case: {"workload": horizon.spec.use_cases[service.case].workload}},
        "fleet": {POOL: pool},
    }  # fmt: skip
    levels = tuple(
        level.model_copy(update={"limit": level.limit * service.pace})
        for level in service_levels(horizon, service.case)
    )
    spec = ScenarioSpec.model_validate(data).model_copy(
        update={
            "duration": duration_s, "warm_up": WARM_UP * duration_s, "drain": LONGEST_RUN_S,
            "timeline_interval": LONGEST_RUN_S, "service_levels": {service.case: levels},
        }
    )  # fmt: skip
    return Scenario(
        spec, "trial", horizon.hardware, horizon.models, {horizon.spec.serving_stack: horizon.serving_stack},
        horizon.workloads, {}, RawDocument(horizon.raw.file, data), horizon.library,
    )  # fmt: skip


def length_s(trace: Trace) -> float:
    """Return the time from the start of a trace to just after its last arrival [s]."""
    return (float(trace.arrival_ns[-1]) + 1.0) / NANOSECONDS if trace.requests else 0.0


def sped_up(trace: Trace, factor: float) -> Trace:
    """Return a trace whose every time, gaps included, is divided by a factor."""
    quicker = trace.scaled(1.0 / factor)
    if quicker.gap_ns is None:
        return quicker
    return dataclasses.replace(quicker, gap_ns=np.rint(quicker.gap_ns / factor).astype(np.int64))
