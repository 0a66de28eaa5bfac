"""What replicas serve in a drawn world, without a simulation: the mean field, and the simulated latency curves.

In a world in which hardware, software parameters and lengths differ, a replica's saturation is that of the mean-field
model at those numbers. Its steps take `tau` times as long, tau being the ratio of saturations at unchanged requests,
and so do its latencies; where a service level limits the load, the largest load is read off the simulated curve at
latencies that are so much longer. `sim.planning.uncertainty.check` compares this with simulations of drawn worlds.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sim.demand.trace import Trace
from sim.planning.capacities import CapacityTable, Coefficient, MeanTokens, Service
from sim.planning.coefficients import REQUESTS, SEED, SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.trials import requests_of
from sim.planning.uncertainty.curves import Curve, Setup
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.lengths import compressed, stretched
from sim.planning.uncertainty.world import World
from sim.planning.usage import paces
from sim.serving.capacity import RequestMix, request_mix, saturated_requests_per_s
from sim.specs.errors import InputError
from sim.specs.prefixes import HitFractionPrefix
from sim.specs.serving_stack import BandMetric

MOST_LEFT_OUT = 0.01
"""Share of a world's requests that may be too long for a replica before it is taken to serve none [1]."""

METRICS: tuple[BandMetric, ...] = ("throughput", "tpot", "e2e", "ttft")
NOTHING = Coefficient(0, 0.0, 0.0, "serves nothing in this world")


@dataclass(frozen=True, eq=False)
class ReplicaInWorld:
    """What a replica comes to in a world, beside how much it serves."""

    curve: Curve
    """Its curve."""

    load: float
    """Largest load that keeps the service levels there [1]."""

    slower: FloatArray
    """Factor on the simulated latency of each service level, at the calibrated pace, shape (M,) [1]."""

    replicate: int
    """Which set of requests holds."""

    def latency_s(self, utilisation: float, pace: float) -> FloatArray:
        """Return the quantiles at a share of that load, in a month of so much faster steps, shape (M,) [s]."""
        return self.curve.latency_s(self.replicate, utilisation * self.load) * self.slower / pace


@dataclass(frozen=True, eq=False)
class _Stretch:
    """How a setup changes from the horizon to a world."""

    capacity: float
    """Saturation there over that of the horizon [1]."""

    slower: FloatArray
    """Factor on the latency of each service level, shape (M,) [1]."""


class Response:
    """What replicas serve in any world of a horizon; keeps what is the same in all of them."""

    def __init__(self, horizon: Horizon, table: CapacityTable, curves: Sequence[Curve]) -> None:
        """Prepare the response.

        Parameters
        ----------
        horizon : Horizon
            The horizon as it stands.
        table : CapacityTable
            What replicas serve in it, by simulation.
        curves : sequence of Curve
            Curves of everything that serves in the table.

        """
        self.horizon = horizon
        self.table = table
        self.curves = {each.setup: each for each in curves}
        self._traces: dict[tuple[str, str, bool], Trace] = {}
        self._paces: dict[tuple[Service, str], dict[float, Service]] = {}
        for service, hardware in table.replicas:
            plain = dataclasses.replace(service, pace=1.0)
            self._paces.setdefault((plain, hardware), {})[service.pace] = service
        self._saturated: dict[Setup, tuple[float, RequestMix]] = {}
        simulated = SimulatedCapacities(horizon)
        for setup in self.curves:
            deployment = simulated.deployment(setup.service, setup.hardware, setup.layout, setup.max_sequences)
            mix = _mix(self._requests(horizon, setup.service, self._sampled(setup.service)), deployment.window)
            self._saturated[setup] = saturated_requests_per_s(deployment, mix), mix

    def capacities(self, world: World) -> tuple[CapacityTable, dict[tuple[Service, str], ReplicaInWorld]]:
        """Return what replicas serve in a world, and what their latencies are made of.

            served   = plan's x (saturation of the world over the plan's) x (largest load over the plan's)
                       x measured over predicted throughput
            r(ttft)  = tau x uncached prompt over that of the plan
            r(tpot)  = tau
            r(e2e)   = tau x work of a request over that of the plan

        with r the factor on a latency, times measured over predicted latency, and the largest loads read off the curve
        at limits of r / pace. A pace that the plan has not simulated takes the coefficient of the nearest one.
        """
        simulated = SimulatedCapacities(world.horizon)
        traces: dict[Service, Trace] = {}
        changes: dict[Setup, _Stretch | None] = {}
        found: dict[tuple[Service, str], Coefficient] = {}
        inside: dict[tuple[Service, str], ReplicaInWorld] = {}
        for service, nearest, hardware in self._asked(world):
            base = self.table.replicas[nearest, hardware]
            found[service, hardware] = NOTHING
            if not base.accelerators:
                continue
            plain = dataclasses.replace(service, pace=1.0)
            setup = Setup(plain, hardware, base.layout, base.max_sequences)
            if plain not in traces:
                traces[plain] = self._requests(world.horizon, plain, self._stretched(world, plain))
            if setup not in changes:
                changes[setup] = self._change(world, simulated, setup, traces[plain])
            change = changes[setup]
            if change is not None:
                answer = self._answer(world, service, nearest, base, self.curves[setup], change)
                if answer is not None:
                    found[service, hardware], inside[service, hardware] = answer
        return CapacityTable(found, self._means(world)), inside

    def _asked(self, world: World) -> Iterable[tuple[Service, Service, str]]:
        """Yield everything of the plan's table at the paces of a world, and at the nearest pace that the plan knows."""
        by_name = {name: paces(world.horizon, name) for name in dict.fromkeys(name for _, name in self._paces)}
        for (plain, name), known in self._paces.items():
            for pace in by_name[name]:
                nearest = min(known, key=lambda each, pace=pace: abs(math.log(each / pace)))  # type: ignore[misc]  # a default binds the loop's pace
                yield dataclasses.replace(plain, pace=pace), known[nearest], name

    def _answer(
        self, world: World, service: Service, nearest: Service, base: Coefficient, curve: Curve, change: _Stretch
    ) -> tuple[Coefficient, ReplicaInWorld] | None:
        errors = {metric: world.errors.get((metric, curve.setup.hardware), 1.0) for metric in METRICS}
        wrong = np.array([errors[metric] for metric in curve.metrics])  # type: ignore[index]  # these are METRICS
        slower = change.slower * wrong
        then = curve.largest_load(0, np.ones_like(slower) / nearest.pace)
        now = curve.largest_load(world.replicate, slower / service.pace)
        if now <= 0.0:
            return None
        target = self.horizon.spec.target_load.value
        # What the plan found by sizing may hold at a load that the curve has just below its first limit.
        rise = min(now / then if then > 0.0 else 1.0, max(1.0, target / base.load))
        load = base.load * rise
        served = base.requests_per_s * change.capacity * rise * errors["throughput"]
        coefficient = dataclasses.replace(base, requests_per_s=served, load=load, reason="mean field in a drawn world")
        return coefficient, ReplicaInWorld(curve, load, slower, world.replicate)

    def _change(self, world: World, simulated: SimulatedCapacities, setup: Setup, trace: Trace) -> _Stretch | None:
        try:
            deployment = simulated.deployment(setup.service, setup.hardware, setup.layout, setup.max_sequences)
        except InputError:
            return None
        fits = trace.prompt_tokens + trace.output_tokens <= deployment.longest_request()
        if float(fits.mean()) < 1.0 - MOST_LEFT_OUT:
            return None
        then, before = self._saturated[setup]
        after = _mix(trace.rows(np.flatnonzero(fits)) if not fits.all() else trace, deployment.window)
        same = saturated_requests_per_s(deployment, before)
        now = saturated_requests_per_s(deployment, after)
        work = {
            "ttft": then / same * after.uncached_tokens / before.uncached_tokens,
            "tpot": then / same,
            "e2e": then / now,
        }
        return _Stretch(now / then, np.array([work[metric] for metric in self.curves[setup].metrics]))

    def _sampled(self, service: Service) -> Trace:
        """Return requests of the horizon as it stands, before compression."""
        key = (service.case, service.model, service.prefix_cached)
        if key not in self._traces:
            self._traces[key] = requests_of(self.horizon, service, 1.0, REQUESTS, SEED, 0.0)
        return self._traces[key]

    def _stretched(self, world: World, service: Service) -> Trace:
        """Return the same requests with a world's lengths and hits of the prefix cache."""
        trace = self._sampled(service)
        workload = self.horizon.spec.use_cases[service.case].workload
        hits, before = _hit_fraction(world.horizon, workload), _hit_fraction(self.horizon, workload)
        if hits != before and before > 0.0 and service.prefix_cached:
            cached = np.minimum(
                np.rint(trace.cached_tokens * (hits / before)).astype(np.int64), trace.prompt_tokens - 1
            )
            trace = dataclasses.replace(trace, cached_tokens=cached)
        return stretched(world, service, trace)

    def _requests(self, horizon: Horizon, service: Service, trace: Trace) -> Trace:
        return compressed(horizon, service, trace, float(service.compressed), SEED)

    def _means(self, world: World) -> dict[tuple[str, str], MeanTokens]:
        """Return mean tokens by use case and model, which API prices take."""
        found = {}
        for case, model in self.table.means:
            trace = self._stretched(world, Service(case, model, True, True, True, False))
            columns = (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
            found[case, model] = MeanTokens(*(float(each.mean()) for each in columns))
        return found


def _mix(trace: Trace, window: int) -> RequestMix:
    return request_mix(trace.prompt_tokens, trace.cached_tokens, trace.output_tokens, window)


def _hit_fraction(horizon: Horizon, workload: str) -> float:
    """Return the share of a prompt that a prefix cache is assumed to hold; 1 where it is not stated as a share."""
    prefix = horizon.workloads[workload].prefix
    return prefix.fraction.value if isinstance(prefix, HitFractionPrefix) else 1.0
