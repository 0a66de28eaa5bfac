"""How latencies of a replica grow with its load: simulated once, with several sets of requests, for all worlds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sim.demand.streams import stream
from sim.planning.capacities import CapacityTable, Coefficient, Service
from sim.planning.coefficients import (
    LOADS,
    REQUESTS,
    SEED,
    TRIAL_REPLICAS,
    SimulatedCapacities,
    reached,
    requests_of,
    service_levels,
)
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.distributions import FloatArray
from sim.specs.workload import ServiceLevelSpec

NEVER_S = 1e9
"""Stands for the latency of requests that are never served, so that logarithms are finite [s]."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What one replica of a service comes to on an accelerator, at loads up to the target load."""

    service: Service
    """Service."""

    hardware: str
    """Accelerator."""

    accelerators: int
    """Accelerators of the replica."""

    requests_per_s: float
    """Requests that the plan takes it to serve [requests/s]."""

    load: float
    """That over its saturation [1]."""

    loads: FloatArray
    """Simulated loads in rising order, shape (L,) [1]."""

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
            allowed = math.log(limit / factor) if factor > 0.0 else math.inf
            largest = min(largest, float(np.interp(allowed, rising, self.loads, left=0.0, right=self.loads[-1])))
        return largest

    def to_json(self) -> dict[str, Any]:
        """Return it in JSON types."""
        plain = dataclasses.asdict(self)
        return {key: each.tolist() if isinstance(each, np.ndarray) else each for key, each in plain.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return what `to_json` made."""
        arrays = {key: np.array(data[key], np.float64) for key in ("loads", "limits_s", "values_s")}
        return cls(**{**data, **arrays, "service": Service(**data["service"]), "metrics": tuple(data["metrics"]),
                      "labels": tuple(data["labels"])})  # fmt: skip


def label_of(level: ServiceLevelSpec) -> str:
    """Return the name of a service level's latency, as in `ttft_p95_s`."""
    return f"{level.metric}_p{100 * level.quantile:g}_s"


def needed(table: CapacityTable) -> list[tuple[Service, str, Coefficient]]:
    """Return what curves are needed for: all that serves, in the order of the table."""
    return [(service, hardware, each) for (service, hardware), each in table.replicas.items() if each.accelerators]


def simulate_curve(
    horizon: Horizon, service: Service, hardware: str, coefficient: Coefficient, replicates: int, seed: int
) -> Curve:
    """Return the curve of a replica, by simulation.

    The first set of requests is that of the plan's own trials; the others are drawn from named streams of the seed.

    Parameters
    ----------
    horizon : Horizon
        What is planned.
    service, hardware, coefficient
        What serves, and what the plan takes it to serve.
    replicates : int
        Sets of requests.
    seed : int
        Seed of the study.

    """
    simulated = SimulatedCapacities(horizon)
    deployment = simulated.deployment(service, hardware, coefficient.accelerators)
    levels = service_levels(horizon, service.case)
    saturated = coefficient.requests_per_s / coefficient.load
    loads = np.sort(np.array(LOADS)) * horizon.spec.target_load.value
    pool = dataclasses.replace(deployment, replicas=TRIAL_REPLICAS)
    values = np.empty((replicates, len(levels), loads.size))
    for replicate in range(replicates):
        drawn = SEED if replicate == 0 else int(stream(seed, "uncertainty", "replicate", replicate).integers(1 << 31))
        for position, load in enumerate(loads):
            rate = saturated * float(load) * TRIAL_REPLICAS
            trace = requests_of(horizon, service, rate, REQUESTS, drawn, float(service.compressed))
            for level, found in enumerate(reached([pool], trace, levels, service.case)):
                values[replicate, level, position] = min(found.value_s, NEVER_S)
    return Curve(
        service, hardware, coefficient.accelerators, coefficient.requests_per_s, coefficient.load, loads,
        np.array([level.limit for level in levels]), tuple(level.metric for level in levels),
        tuple(map(label_of, levels)), np.maximum.accumulate(values, axis=2),
    )  # fmt: skip
