"""How latencies of a replica grow with its load: simulated once, with several sets of requests, for all worlds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sim.demand.streams import stream
from sim.engine.run import RunPlan, run
from sim.planning.capacities import CapacityTable, Service
from sim.planning.coefficients import REQUESTS_PER_REPLICA, SEED, TRIAL_REPLICAS, SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.levels import reached_levels
from sim.planning.trials import WARM_UP, requests_of, service_levels
from sim.planning.uncertainty.distributions import FloatArray
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS
from sim.specs.fleet import ParallelismSpec
from sim.specs.workload import ServiceLevelSpec

LOADS = (0.1, 0.25, 0.45, 0.65, 0.85, 1.0)
"""Loads that are simulated, over the target load."""

NEVER_S = 1e9
"""Stands for the latency of requests that are never served, so that logarithms are finite [s]."""


@dataclass(frozen=True)
class Setup:
    """What serves, without the pace of its steps: latencies at any pace follow from those at one."""

    service: Service
    """Service at the calibrated pace."""

    hardware: str
    """Accelerator."""

    layout: ParallelismSpec
    """Parallelism of a replica."""

    max_sequences: int
    """Sequences of a replica at a time."""

    def to_json(self) -> dict[str, Any]:
        """Return it in JSON types."""
        service = dataclasses.asdict(self.service)
        return {**dataclasses.asdict(self), "service": service, "layout": self.layout.model_dump()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` made."""
        layout = ParallelismSpec.model_validate(data["layout"])
        return cls(Service(**data["service"]), data["hardware"], layout, data["max_sequences"])


@dataclass(frozen=True, eq=False)
class Curve:
    """What a replica comes to among others of its kind, at loads up to the target load and calibrated steps."""

    setup: Setup
    """What serves."""

    loads: FloatArray
    """Simulated loads over the mean-field saturation in rising order, shape (L,) [1]."""

    limits_s: FloatArray
    """Limits of the service levels, shape (M,) [s]."""

    metrics: tuple[str, ...]
    """Their metrics, M."""

    labels: tuple[str, ...]
    """Their names as columns, as in `ttft_p95_s`, M."""

    values_s: FloatArray
    """Quantiles by set of requests, service level and load, never falling with load, shape (R, M, L) [s]."""

    def latency_s(self, replicate: int, load: float) -> FloatArray:
        """Return every level's quantile at a load, straight lines between simulated loads, shape (M,) [s]."""
        return np.array([float(np.interp(load, self.loads, each)) for each in self.values_s[replicate]])

    def largest_load(self, replicate: int, slower: FloatArray) -> float:
        """Return the largest simulated load at which all levels hold when latencies are some times as long [1].

        Parameters
        ----------
        replicate : int
            Which set of requests.
        slower : ndarray, shape (M,)
            Factor on the latency of each level [1].

        Returns 0 where a level does not hold at the smallest load.

        """
        largest = float(self.loads[-1])
        for level, (limit, factor) in enumerate(zip(self.limits_s, slower, strict=True)):
            known = np.log(self.values_s[replicate, level])
            # Equal latencies at several loads are told apart, so that the last of these loads is found.
            rising = known + 1e-12 * np.arange(known.size)
            allowed = math.log(limit / factor)
            largest = min(largest, float(np.interp(allowed, rising, self.loads, left=0.0, right=self.loads[-1])))
        return largest

    def to_json(self) -> dict[str, Any]:
        """Return it in JSON types."""
        arrays = {key: getattr(self, key).tolist() for key in ("loads", "limits_s", "values_s")}
        return {"setup": self.setup.to_json(), "metrics": list(self.metrics), "labels": list(self.labels), **arrays}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` made."""
        arrays = {key: np.array(data[key], np.float64) for key in ("loads", "limits_s", "values_s")}
        return cls(
            setup=Setup.from_json(data["setup"]),
            metrics=tuple(data["metrics"]),
            labels=tuple(data["labels"]),
            **arrays,
        )


def label_of(level: ServiceLevelSpec) -> str:
    """Return the name of a service level's latency, as in `ttft_p95_s`."""
    return f"{level.metric}_p{100 * level.quantile:g}_s"


def setups(table: CapacityTable) -> list[Setup]:
    """Return everything that serves in a table, each once, in its order."""
    found = [
        Setup(dataclasses.replace(service, pace=1.0), hardware, each.layout, each.max_sequences)
        for (service, hardware), each in table.replicas.items()
        if each.accelerators
    ]
    return list(dict.fromkeys(found))


def simulate_curve(horizon: Horizon, setup: Setup, replicates: int, seed: int) -> Curve:
    """Return the curve of a replica, by simulation of as many replicas as the plan's own trials have.

    The first set of requests is drawn from the seed of these trials; the others from named streams of the study's.

    Parameters
    ----------
    horizon : Horizon
        What is planned.
    setup : Setup
        What serves.
    replicates : int
        Sets of requests.
    seed : int
        Seed of the study.

    """
    service = setup.service
    simulated = SimulatedCapacities(horizon)
    deployment = simulated.deployment(service, setup.hardware, setup.layout, setup.max_sequences)
    pool = dataclasses.replace(deployment, replicas=TRIAL_REPLICAS)
    levels = service_levels(horizon, service.case)
    loads = np.array(LOADS) * horizon.spec.target_load.value
    count = TRIAL_REPLICAS * REQUESTS_PER_REPLICA
    values = np.empty((replicates, len(levels), loads.size))
    for replicate in range(replicates):
        drawn = SEED if replicate == 0 else int(stream(seed, "uncertainty", "replicate", replicate).integers(1 << 31))
        sample = requests_of(horizon, service, 1.0, count, drawn, float(service.compressed))
        mix = request_mix(sample.prompt_tokens, sample.cached_tokens, sample.output_tokens, deployment.window)
        saturated = saturated_requests_per_s(deployment, mix) * TRIAL_REPLICAS
        for position, load in enumerate(loads):
            if sample.follows is None:
                trace = sample.scaled(1.0 / (saturated * float(load)))
            else:
                trace = requests_of(horizon, service, saturated * float(load), count, drawn, float(service.compressed))
            end_ns = int(trace.arrival_ns[-1]) + 1
            drain_ns = 24 * 3600 * int(NANOSECONDS) + end_ns
            plan = RunPlan(
                trace, [pool], [[0]], "least_outstanding", np.zeros((0, 2)), end_ns, drain_ns, end_ns + drain_ns
            )
            requests = run(plan).requests
            requests = requests[requests["arrival_ns"] >= WARM_UP * end_ns]
            found = reached_levels(requests, service.case, levels, deployment.request_overhead_s)
            values[replicate, :, position] = [min(each.value_s, NEVER_S) for each in found]
    return Curve(
        setup=setup,
        loads=loads,
        limits_s=np.array([level.limit for level in levels]),
        metrics=tuple(level.metric for level in levels),
        labels=tuple(map(label_of, levels)),
        values_s=np.maximum.accumulate(values, axis=2),
    )
