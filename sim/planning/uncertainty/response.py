"""What replicas serve in a drawn world, without a simulation: the mean field, and the simulated latency curves.

In a world in which hardware, software parameters and lengths differ, a replica's saturation is that of the mean-field
model at those numbers. Its steps take `tau` times as long, tau being the ratio of saturations at unchanged requests,
and so do its latencies; where a service level limits the load, the largest load is read off the simulated curve at
latencies that are so much longer. `sim.planning.uncertainty.check` compares this with simulations of drawn worlds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.planning.capacities import CapacityTable, Coefficient, MeanTokens, Service
from sim.planning.coefficients import REQUESTS, SEED, SimulatedCapacities, requests_of
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.curves import Curve
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.world import World
from sim.planning.usage import speed
from sim.serving.capacity import RequestMix, request_mix, saturated_requests_per_s
from sim.specs.errors import InputError
from sim.specs.prefixes import HitFractionPrefix
from sim.specs.serving_stack import BandMetric

MOST_LEFT_OUT = 0.01
"""Share of a world's requests that may be too long for a replica before it is taken to serve none [1]."""


@dataclass(frozen=True, eq=False)
class Lengths:
    """Tokens of sampled requests."""

    prompt: FloatArray
    """Prompt, cached part included, shape (n,) [tokens]."""

    cached: FloatArray
    """Cached part, shape (n,) [tokens]."""

    output: FloatArray
    """Answer, shape (n,) [tokens]."""

    def mix(self, kept: npt.NDArray[np.bool_] | None = None, window: int = 0) -> RequestMix:
        """Return the means of some of the requests, all by default."""
        chosen = slice(None) if kept is None else kept
        return request_mix(self.prompt[chosen], self.cached[chosen], self.output[chosen], window)


@dataclass(frozen=True, eq=False)
class ReplicaInWorld:
    """What a replica comes to in a world, beside how much it serves."""

    curve: Curve
    """Its curve."""

    load: float
    """Largest load that keeps the service levels there [1]."""

    slower: FloatArray
    """Factor on the simulated latency of each service level, software progress left out, shape (M,) [1]."""

    replicate: int
    """Which set of requests holds."""

    def latency_s(self, utilisation: float, pace: float) -> FloatArray:
        """Return the quantiles at a share of that load, in a month of so much faster steps, shape (M,) [s]."""
        return self.curve.latency_s(self.replicate, utilisation * self.load) * self.slower / pace


class Response:
    """What replicas serve in any world of a horizon; keeps what is the same in all of them."""

    def __init__(self, horizon: Horizon, curves: Sequence[Curve]) -> None:
        """Prepare the response.

        Parameters
        ----------
        horizon : Horizon
            The horizon as it stands.
        curves : sequence of Curve
            Curves of all replicas that the plan knows.

        """
        self.horizon = horizon
        self.curves = tuple(curves)
        self._simulated = SimulatedCapacities(horizon)
        self._lengths: dict[tuple[str, str, bool], Lengths] = {}
        self._saturated: dict[tuple[Service, str], float] = {}
        for curve in self.curves:
            deployment = self._simulated.deployment(curve.service, curve.hardware, curve.accelerators)
            plain = self._compressed(horizon, curve.service, self._sampled(curve.service))
            rate = saturated_requests_per_s(deployment, plain.mix(window=deployment.window))
            self._saturated[curve.service, curve.hardware] = rate

    def capacities(self, world: World) -> tuple[CapacityTable, dict[tuple[Service, str], ReplicaInWorld]]:
        """Return what replicas serve in a world, and what their latencies are made of.

            load      = plan's load x x(r) / x0(1),  x(r) the largest load on the curve at latencies r times as long
            served    = load x mean-field saturation of the world x measured over predicted throughput
            r(ttft)   = tau x uncached prompt over that of the plan
            r(tpot)   = tau
            r(e2e)    = tau x work of a request over that of the plan

        each r times measured over predicted latency. Progress of software until planning begins may make up for a
        slower world, never for more than the plan's own load.
        """
        table: dict[tuple[Service, str], Coefficient] = {}
        inside: dict[tuple[Service, str], ReplicaInWorld] = {}
        simulated = SimulatedCapacities(world.horizon)
        pace = max(1.0, speed(world.horizon, world.horizon.spec.plan_from, world.horizon.levers))
        lengths: dict[Service, tuple[Lengths, Lengths]] = {}
        for curve in self.curves:
            key = (curve.service, curve.hardware)
            if curve.service not in lengths:
                before = self._compressed(self.horizon, curve.service, self._sampled(curve.service))
                after = self._compressed(world.horizon, curve.service, self._stretched(world, curve.service))
                lengths[curve.service] = before, after
            found = self._replica(world, simulated, curve, pace, *lengths[curve.service])
            if found is None:
                table[key] = Coefficient(0, 0.0, 0.0, "does not serve this world's requests")
                continue
            table[key], inside[key] = found
        return CapacityTable(self._with_idle(table), self._means(world)), inside

    def _replica(
        self,
        world: World,
        simulated: SimulatedCapacities,
        curve: Curve,
        pace: float,
        before: Lengths,
        after: Lengths,
    ) -> tuple[Coefficient, ReplicaInWorld] | None:
        try:
            deployment = simulated.deployment(curve.service, curve.hardware, curve.accelerators)
        except InputError:
            return None
        kept = after.prompt + after.output <= deployment.longest_request()
        if float(kept.mean()) < 1.0 - MOST_LEFT_OUT:
            return None
        then = self._saturated[curve.service, curve.hardware]
        same = saturated_requests_per_s(deployment, before.mix(window=deployment.window))
        mix = after.mix(kept, deployment.window)
        now = saturated_requests_per_s(deployment, mix)
        uncached = mix.uncached_tokens / before.mix().uncached_tokens
        work = {"ttft": then / same * uncached, "tpot": then / same, "e2e": then / now}
        errors = {metric: world.errors.get((metric, curve.hardware), 1.0) for metric in _METRICS}
        slower = np.array([work[metric] * errors[metric] for metric in curve.metrics])  # type: ignore[index]
        left = np.where(slower > 1.0, np.maximum(1.0, slower / pace), slower)
        unlimited = curve.largest_load(0, np.ones_like(slower))
        load = curve.load * curve.largest_load(world.replicate, left) / unlimited if unlimited > 0.0 else 0.0
        load = min(load, self.horizon.spec.target_load.value)
        if load <= 0.0:
            return None
        served = load * now * errors["throughput"]
        return (
            Coefficient(curve.accelerators, served, load, "mean field in a drawn world"),
            ReplicaInWorld(curve, load, slower, world.replicate),
        )

    def _sampled(self, service: Service) -> Lengths:
        """Return requests of the horizon as it stands, before compression."""
        key = (service.case, service.model, service.prefix_cached)
        if key not in self._lengths:
            trace = requests_of(self.horizon, service, 1.0, REQUESTS, SEED, 0.0)
            columns = (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
            self._lengths[key] = Lengths(*(each.astype(np.float64) for each in columns))
        return self._lengths[key]

    def _stretched(self, world: World, service: Service) -> Lengths:
        """Return the same requests with a world's lengths and hits of the prefix cache, none beyond the context."""
        plain = self._sampled(service)
        case = self.horizon.spec.use_cases[service.case]
        longer = world.lengths.get((case.workload, "prompt_tokens"), 1.0)
        prompt = np.maximum(1.0, np.rint(plain.prompt * longer))
        output = np.maximum(1.0, np.rint(plain.output * world.lengths.get((case.workload, "output_tokens"), 1.0)))
        hits = _hit_fraction(world.horizon, case.workload) / max(1e-12, _hit_fraction(self.horizon, case.workload))
        cached = np.minimum(np.rint(plain.cached * longer * hits), prompt - 1.0)
        context = self.horizon.models[case.models[service.model].model].architecture.context_length
        kept = prompt + output <= context
        return Lengths(prompt[kept], cached[kept], output[kept])

    def _compressed(self, horizon: Horizon, service: Service, plain: Lengths) -> Lengths:
        """Return requests as a service answers them: all reasoning compressed where the service says so."""
        case = horizon.spec.use_cases[service.case]
        if not service.compressed or case.compression is None:
            return plain
        method = horizon.spec.compression[case.compression]
        reasoning = case.reasoning_share.value * plain.output
        shorter = np.minimum(reasoning, method.c.value * np.maximum(reasoning, 1.0) ** method.b.value)
        return Lengths(plain.prompt, plain.cached, np.maximum(1.0, np.rint(plain.output - reasoning + shorter)))

    def _means(self, world: World) -> dict[tuple[str, str], MeanTokens]:
        """Return mean tokens by use case and model, which API prices take."""
        found = {}
        for case, described in self.horizon.spec.use_cases.items():
            for model in described.models:
                each = self._stretched(world, Service(case, model, True, True, True, False))
                found[case, model] = MeanTokens(
                    float(each.prompt.mean()), float(each.cached.mean()), float(each.output.mean())
                )
        return found

    def _with_idle(self, table: dict[tuple[Service, str], Coefficient]) -> dict[tuple[Service, str], Coefficient]:
        """Return the table with everything that serves nothing in the horizon as it stands."""
        spec, levers = self.horizon.spec, self.horizon.levers
        kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
        nothing = Coefficient(0, 0.0, 0.0, "serves nothing in the plan")
        for case, described in spec.use_cases.items():
            for model in described.models:
                for hardware in spec.hardware:
                    for compressed in (False, True):
                        table.setdefault((Service(case, model, *kept, compressed), hardware), nothing)
        return table


_METRICS: tuple[BandMetric, ...] = ("throughput", "tpot", "e2e", "ttft")


def _hit_fraction(horizon: Horizon, workload: str) -> float:
    """Return the share of a prompt that a prefix cache is assumed to hold; 1 where it is stated in tokens or not."""
    prefix = horizon.workloads[workload].prefix
    return prefix.fraction.value if isinstance(prefix, HitFractionPrefix) else 1.0
