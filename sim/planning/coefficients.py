"""How much one replica serves: requests per second within the service levels, by sizing a load of several replicas."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from sim.demand.trace import Trace
from sim.planning.capacities import CapacityTable, Coefficient, MeanTokens, Service
from sim.planning.horizon import Horizon
from sim.planning.levels import worst
from sim.planning.search import Answer, Found, answers_for
from sim.planning.trials import POOL, WARM_UP, layouts_of, length_s, requests_of, sped_up, trial_scenario
from sim.planning.usage import paces
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS, Deployment, deploy
from sim.specs.errors import InputError
from sim.specs.fleet import ParallelismSpec

REQUESTS = 3000
"""Requests from which means are taken."""

TRIAL_REPLICAS = 10
"""Replicas that a trial's load takes at the least: the answer is a whole number, so it is a tenth too low at most."""

FEWER_REPLICAS = 5
"""The same where only the order and size of savings matter."""

REQUESTS_PER_REPLICA = 1200
"""Requests of a trial; a quarter of them warm up, which is about as many as a replica holds at a time."""

RequestsOf = Callable[[Horizon, Service, float, int, int, float], Trace]
"""Draws requests of a service: horizon, service, rate [requests/s], count, seed, share that is compressed."""

SEED = 20_270
"""Seed of the trials; plans are rehearsed with another one."""


class SimulatedCapacities:
    """What replicas of a horizon serve, simulated when first asked for and kept."""

    def __init__(self, horizon: Horizon, replicas: int = TRIAL_REPLICAS, requests: RequestsOf = requests_of) -> None:
        """Prepare to simulate.

        Parameters
        ----------
        horizon : Horizon
            What is described.
        replicas : int
            Replicas that a trial's load takes at the least; what a replica serves is too low by up to one part in it.
        requests : callable
            Draws requests in place of `sim.planning.trials.requests_of`.

        """
        self.horizon = horizon
        self._draw = requests
        self.replicas = replicas
        self._known: dict[tuple[Service, str], Coefficient] = {}
        self._means: dict[tuple[str, str], MeanTokens] = {}
        self._traces: dict[tuple[str, str, bool, bool], tuple[Trace, float]] = {}
        self._deployments: dict[tuple[str, str, bool, bool, str, ParallelismSpec, int], Deployment | InputError] = {}
        self._expected: dict[tuple[Service, str], dict[ParallelismSpec, float]] = {}

    def table(self) -> CapacityTable:
        """Return all that a plan of the horizon can ask for, under its levers, as a plain table.

        Paces are some of those of the horizon's months; in between, the next slower one holds.
        """
        spec, levers = self.horizon.spec, self.horizon.levers
        kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
        asked = []
        for case, described in spec.use_cases.items():
            with_compression = described.compression is not None and "compression" in levers
            for model in described.models:
                self.tokens(case, model)
                for hardware in spec.hardware:
                    for compressed in (False, True)[: 1 + with_compression]:
                        asked += [
                            (Service(case, model, *kept, compressed, pace), hardware)
                            for pace in paces(self.horizon, hardware)
                        ]
        return CapacityTable({key: self.replica(*key) for key in asked}, dict(self._means))

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return what a replica serves on an accelerator, in the layout and batch limit that need fewest of them.

        The load is that of ten replicas at the target load, by the mean field; sizing says how many it really takes.
        """
        if (service, hardware) not in self._known:
            if not service.batched and self._limit_is_idle(service, hardware):
                self._known[service, hardware] = self.replica(dataclasses.replace(service, batched=True), hardware)
                return self._known[service, hardware]
            slower = [
                each for (other, on), each in self._known.items()
                if on == hardware and other.pace <= service.pace
                and dataclasses.replace(other, pace=service.pace) == service and each.reason == AT_TARGET
            ]  # fmt: skip
            self._known[service, hardware] = slower[0] if slower else self._sized(service, hardware)
        return self._known[service, hardware]

    def _limit_is_idle(self, service: Service, hardware: str) -> bool:
        """Return whether memory, not the baseline's batch limit, bounds a saturated replica in all layouts."""
        free = self._saturated(dataclasses.replace(service, batched=True), hardware)
        return self._saturated(service, hardware) == free

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean prompt, cached and answer tokens of a use case, uncompressed [tokens]."""
        if (case, model) not in self._means:
            service = Service(case, model, True, True, True, False)
            trace = self._draw(self.horizon, service, 1.0, REQUESTS, SEED, 0.0)
            columns = (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
            self._means[case, model] = MeanTokens(*(float(np.mean(each)) for each in columns))
        return self._means[case, model]

    def bound(self, service: Service, hardware: str) -> Coefficient:
        """Return the most that a replica can serve, without a simulation: the target load by the mean field."""
        best = Coefficient(0, 0.0, 0.0, "no layout serves")
        target = self.horizon.spec.target_load.value
        for layout, saturated in self._saturated(service, hardware).items():
            served = target * saturated
            if served / layout.accelerators > best.requests_per_s / max(1, best.accelerators):
                best = Coefficient(layout.accelerators, served, target, "mean field", layout)
        return best

    def deployment(
        self, service: Service, hardware: str, layout: ParallelismSpec | int, max_sequences: int = 0
    ) -> Deployment:
        """Return one replica of a use case's model on an accelerator; InputError where it cannot serve."""
        given = ParallelismSpec(tensor=layout) if isinstance(layout, int) else layout
        key = (service.case, service.model, service.quantised, service.batched, hardware, given, max_sequences)
        if key not in self._deployments:
            try:
                scenario = trial_scenario(self.horizon, service, hardware, given, 1.0, max_sequences)
                self._deployments[key] = deploy(scenario)[0]
            except InputError as error:
                self._deployments[key] = error
        found = self._deployments[key]
        if isinstance(found, InputError):
            raise found
        return found

    def put_together(self) -> dict[tuple[str, str], Deployment]:
        """Return (model of a use case, accelerator) -> a deployment that stands behind its capacity."""
        found: dict[tuple[str, str], Deployment] = {}
        for (_, model, _, _, hardware, _, _), each in self._deployments.items():
            if isinstance(each, Deployment):
                found.setdefault((model, hardware), each)
        return found

    def _saturated(self, service: Service, hardware: str) -> dict[ParallelismSpec, float]:
        """Return the layouts that can serve, with the mean-field capacity of a replica [requests/s]."""
        key = (dataclasses.replace(service, pace=1.0), hardware)
        if key in self._expected:
            return self._expected[key]
        trace, _ = self._requests(service)
        counted = trace.arrival_ns >= WARM_UP * length_s(trace) * NANOSECONDS
        prompt, cached, output = (
            column[counted] for column in (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
        )
        found: dict[ParallelismSpec, float] = {}
        for layout in layouts_of(self.horizon, service):
            try:
                deployment = self.deployment(service, hardware, layout)
            except InputError:
                continue
            if (trace.prompt_tokens + trace.output_tokens).max() <= deployment.longest_request():
                found[layout] = saturated_requests_per_s(
                    deployment, request_mix(prompt, cached, output, deployment.window)
                )
        self._expected[key] = found
        return found

    def _requests(self, service: Service) -> tuple[Trace, float]:
        """Return the requests of all trials, about one a second, and their rate after the warm-up [requests/s]."""
        key = (service.case, service.model, service.prefix_cached, service.compressed)
        if key not in self._traces:
            count = self.replicas * REQUESTS_PER_REPLICA
            trace = self._draw(self.horizon, service, 1.0, count, SEED, float(service.compressed))
            start_s = WARM_UP * length_s(trace)
            counted = int((trace.arrival_ns >= start_s * NANOSECONDS).sum())
            self._traces[key] = trace, counted / (length_s(trace) - start_s)
        return self._traces[key]

    def _sized(self, service: Service, hardware: str) -> Coefficient:
        """Size a load that takes a whole number of replicas at the target load; then again for the layout chosen."""
        target = self.horizon.spec.target_load.value
        expected = self._saturated(service, hardware)
        wanted = self.bound(service, hardware).layout
        layouts = layouts_of(self.horizon, service)
        load = self.replicas * target * expected.get(wanted, 1.0)
        found, best = self._search(service, hardware, load, layouts)
        if best is not None and best.choice.layout != wanted:
            chosen = best.choice.layout
            found, best = self._search(service, hardware, self.replicas * target * expected[chosen], (chosen,))
        if best is None:
            return Coefficient(0, 0.0, 0.0, found.reason)
        served = best.probe.offered_per_s() / best.replicas
        larger = [trial for trial in best.trials if trial.replicas < best.replicas]
        reason = AT_TARGET
        if larger:
            failing = worst([level for level in larger[-1].levels if not level.met])
            reason = failing.faster(service.pace).in_words()
        return Coefficient(
            best.probe.deployment.accelerators,
            served,
            min(served / best.probe.saturated_per_s(), target),
            reason,
            best.choice.layout,
            best.probe.deployment.max_sequences,
            best.trial.tightness,
        )

    def _search(
        self, service: Service, hardware: str, rate_per_s: float, layouts: tuple[ParallelismSpec, ...]
    ) -> tuple[Found, Answer | None]:
        if self.horizon.workloads[self.horizon.spec.use_cases[service.case].workload].sessions is None:
            trace, rate = self._requests(service)
            trace = trace.scaled(rate / rate_per_s)
        else:
            # The time of users and tools does not follow the rate: sessions are drawn at it, then put in slow motion.
            count = self.replicas * REQUESTS_PER_REPLICA
            real = rate_per_s * service.pace
            trace = self._draw(self.horizon, service, real, count, SEED, float(service.compressed))
            trace = sped_up(trace, 1.0 / service.pace)
        share = self.horizon.spec.use_cases[service.case].models[service.model]
        scenario = trial_scenario(self.horizon, service, hardware, layouts[0], length_s(trace))
        found = answers_for(
            scenario, POOL, self.horizon.hardware[hardware], layouts=layouts,
            batch_limits=share.batch_limits if service.batched else (),
            target_load=self.horizon.spec.target_load.value, trace=trace,
            made=lambda choice: self.deployment(service, hardware, choice.layout, choice.max_sequences or 0),
        )  # fmt: skip
        return found, found.best


AT_TARGET = "target load"
"""What limits a replica whose latencies would allow more."""
