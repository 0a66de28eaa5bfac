"""One pool at any number of replicas against the same requests: does it meet its service levels, and how surely.

The requests are drawn once, so all sizes, layouts and accelerators meet the same customers. A trial starts on a short
part of them and goes on to twice as many while an interval still contains its limit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.demand.trace import Trace
from sim.engine.mechanisms import Mechanisms, no_mechanisms
from sim.engine.run import RunPlan, run
from sim.planning.levels import LevelReached, reached_levels
from sim.results.metrics import Window
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS, Deployment
from sim.serving.state import REQUEST
from sim.specs.resolved import Scenario

EXCEEDANCES = 20
"""Requests beyond the quantile with which a trial starts: two in each section."""

SENDS_NOTHING = {"spill_row": -1, "spill_endpoint": -1, "role": 0, "max_waiting": 0}
"""Columns of a pool that sends nothing on and turns nothing away."""

STEADY_SLICES = 8
"""Parts whose rates are compared before a part of a run is taken for the whole."""

ALONE_LIMIT = 5_000
"""Most requests of a class that are simulated one by one."""

ALONE_GAP_NS = 10_000 * 1_000_000_000
"""Time between requests that shall not meet; the longest answers take minutes [ns]."""


@dataclass(frozen=True)
class Trial:
    """A pool at one size."""

    replicas: int
    """Serving instances."""

    levels: tuple[LevelReached, ...]
    """What each service level came to."""

    simulated_s: float
    """Length of the arrivals that were simulated [s]."""

    @property
    def met(self) -> bool:
        """Return whether every service level is met."""
        return all(level.met for level in self.levels)

    @property
    def tightness(self) -> float:
        """Return the largest latency relative to its limit [1]; at most 1 where all levels are met."""
        return max((level.tightness for level in self.levels), default=math.nan)


@dataclass(frozen=True, eq=False)
class Probe:
    """A pool of a scenario whose size is free; all else, other pools included, stays as it is."""

    scenario: Scenario
    """The scenario."""

    plan: RunPlan
    """The whole run."""

    pool: int
    """Position of the pool in the fleet."""

    depths_s: tuple[float, ...]
    """Lengths of arrivals to simulate, shortest first [s]."""

    target_load: float = 1.0
    """Most load of a replica over its mean-field capacity, whatever its latencies would allow [1]."""

    @property
    def deployment(self) -> Deployment:
        """Return the pool as it stands in the scenario."""
        return self.plan.deployments[self.pool]

    @property
    def window(self) -> Window:
        """Return the measurement window of the whole run."""
        return Window(self.scenario.spec.warm_up, self.plan.arrivals_end_ns / NANOSECONDS)

    def least_replicas(self) -> int:
        """Return the replicas below which the load surely exceeds the target load, or the mean-field capacity.

        1 where the load of the pool is not known beforehand: other pools share it, or requests wait for others.
        """
        shared = any(len(self.plan.pools_of_class[index]) > 1 for index in self._served())
        return 1 if shared or self.plan.trace.follows is not None else self.estimated_replicas()

    def estimated_replicas(self) -> int:
        """Return the offered load over the target load of a replica, rounded up; at least 1."""
        offered = self.offered_per_s()
        if offered <= 0.0:
            return 1
        return max(1, math.ceil(offered / (self.target_load * self.saturated_per_s()) - 1e-9))

    def offered_per_s(self) -> float:
        """Return the rate of the requests that come to the pool in the measurement window [requests/s]."""
        return int(self._measured().sum()) / self.window.duration_s

    def saturated_per_s(self) -> float:
        """Return the mean-field capacity of a replica for these requests [requests/s]."""
        trace, measured = self.plan.trace, self._measured()
        mix = request_mix(
            trace.prompt_tokens[measured],
            trace.cached_tokens[measured],
            trace.output_tokens[measured],
            self.deployment.window,
        )
        return saturated_requests_per_s(self.deployment, mix)

    def trial(self, replicas: int) -> Trial:
        """Return what a size comes to; it stops as soon as every level is decided, or one is surely missed."""
        for depth_s in self.depths_s:
            requests = run(self._sized(self._part(depth_s), replicas)).requests
            arrival_s = requests["arrival_ns"] / NANOSECONDS
            counted = (arrival_s >= self.scenario.spec.warm_up) & (arrival_s < depth_s)
            levels = self._levels(requests, counted)
            if any(level.surely_missed for level in levels) or all(level.surely_met for level in levels):
                break
        return Trial(replicas, levels, depth_s)

    def alone(self) -> tuple[LevelReached, ...]:
        """Return what the levels come to when no request ever meets another one: the best of any size."""
        trace = self.plan.trace
        measured = self._measured()
        firsts = [np.flatnonzero(measured & (trace.class_index == index))[:ALONE_LIMIT] for index in self._served()]
        rows = np.sort(np.concatenate([np.zeros(0, np.intp), *firsts]))
        if not rows.size:
            return self._levels(np.zeros(0, REQUEST), np.zeros(0, np.bool_))
        arrival_ns = np.arange(rows.size, dtype=np.int64) * ALONE_GAP_NS
        apart = Trace(
            trace.classes,
            arrival_ns,
            trace.class_index[rows],
            trace.prompt_tokens[rows],
            trace.cached_tokens[rows],
            trace.output_tokens[rows],
        )
        plan = dataclasses.replace(
            self.plan,
            trace=apart,
            deployments=[dataclasses.replace(self.deployment, replicas=1)],
            mechanisms=self._alone_mechanisms(),
            pools_of_class=[[0]] * len(trace.classes),
            router="least_outstanding",
            draws=np.zeros((0, 2)),
            arrivals_end_ns=int(rows.size * ALONE_GAP_NS),
            drain_ns=ALONE_GAP_NS,
            interval_ns=int(rows.size * ALONE_GAP_NS),
        )
        requests = run(plan).requests
        return self._levels(requests, np.ones(len(requests), np.bool_))

    def _sized(self, plan: RunPlan, replicas: int) -> RunPlan:
        """Return a run in which the pool has another size, and can have no more replicas than that."""
        deployments = list(plan.deployments)
        deployments[self.pool] = dataclasses.replace(self.deployment, replicas=replicas)
        mechanisms = plan.mechanisms
        if mechanisms is not None:
            pools = list(mechanisms.pools)
            pools[self.pool] = dataclasses.replace(pools[self.pool], most_replicas=replicas)
            mechanisms = dataclasses.replace(mechanisms, pools=pools)
        return dataclasses.replace(plan, deployments=deployments, mechanisms=mechanisms)

    def _alone_mechanisms(self) -> Mechanisms | None:
        """Return what one replica of the pool does on its own: without failures, scaling, or pools to send on to."""
        if self.plan.mechanisms is None:
            return None
        nothing = no_mechanisms([self.deployment], len(self.plan.trace.classes))
        mine = self.plan.mechanisms.pools[self.pool]
        kept = dataclasses.replace(nothing.pools[0], columns={**mine.columns, **SENDS_NOTHING}, most_replicas=1)
        return dataclasses.replace(self.plan.mechanisms, pools=[kept], outages=nothing.outages, site_cap_w=None)

    def _served(self) -> list[int]:
        """Return the classes that come to the pool."""
        return [index for index, pools in enumerate(self.plan.pools_of_class) if self.pool in pools]

    def _measured(self) -> npt.NDArray[np.bool_]:
        """Return which requests of these arrive after the warm-up; of sessions all, whose instants are not known."""
        trace = self.plan.trace
        served = np.isin(trace.class_index, self._served())
        if trace.follows is not None:
            return served
        return np.asarray(served & (trace.arrival_ns >= self.scenario.spec.warm_up * NANOSECONDS))

    def _part(self, depth_s: float) -> RunPlan:
        if depth_s >= self.plan.arrivals_end_ns / NANOSECONDS:
            return self.plan
        trace = self.plan.trace.window(0.0, depth_s)
        draws = self.plan.draws[: trace.requests] if len(self.plan.draws) else self.plan.draws
        end_ns = round(depth_s * NANOSECONDS)
        return dataclasses.replace(self.plan, trace=trace, draws=draws, arrivals_end_ns=end_ns)

    def _levels(self, requests: npt.NDArray[np.void], counted: npt.NDArray[np.bool_]) -> tuple[LevelReached, ...]:
        """Return what the levels of the pool's classes come to over the requests that count."""
        classes = list(self.plan.trace.classes)
        found: list[LevelReached] = []
        for name in self.scenario.classes_served(list(self.scenario.spec.fleet)[self.pool]):
            index = classes.index(name) if name in classes else -1
            rows = np.flatnonzero(counted & (requests["class_index"] == index))
            levels = self.scenario.service_levels(name)
            found += reached_levels(requests, name, levels, self.deployment.request_overhead_s, rows)
        return tuple(found)


def depths(scenario: Scenario, plan: RunPlan) -> tuple[float, ...]:
    """Return the lengths of arrivals that a trial goes through [s].

    The first has enough requests of every class for its quantiles, and measures as long as it warms up; each next one
    measures twice as long;
    the last is the whole. Where the rate changes in the course of the run, or requests wait for others, only the whole
    will do.
    """
    whole_s, warm_up_s = plan.arrivals_end_ns / NANOSECONDS, scenario.spec.warm_up
    trace = plan.trace
    if trace.follows is not None:
        return (whole_s,)
    # A part that is measured for less time than it warms up would save little.
    measured_s = warm_up_s
    for index, name in enumerate(trace.classes):
        arrivals = trace.arrival_ns[trace.class_index == index]
        after = arrivals[arrivals >= warm_up_s * NANOSECONDS]
        counts = np.histogram(after, STEADY_SLICES, (warm_up_s * NANOSECONDS, whole_s * NANOSECONDS))[0]
        if counts.max(initial=0) > 1.02 * counts.mean() + 4.0 * math.sqrt(counts.mean()):
            return (whole_s,)
        for level in scenario.service_levels(name):
            needed = EXCEEDANCES / min(level.quantile, 1.0 - level.quantile)
            measured_s = max(measured_s, needed * (whole_s - warm_up_s) / max(1, after.size))
    found = []
    while 0.0 < measured_s < 0.7 * (whole_s - warm_up_s):
        found.append(warm_up_s + measured_s)
        measured_s *= 2.0
    return (*found, whole_s)
