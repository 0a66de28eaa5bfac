"""How much one replica serves: requests per second within the service levels, by simulation."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sim.demand.generate import generate_class
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.engine.run import RunPlan, run
from sim.planning.capacities import CapacityTable, Coefficient, MeanTokens, Service
from sim.planning.horizon import Horizon
from sim.planning.levels import LevelReached
from sim.planning.probe import latencies
from sim.results.intervals import sectioned_quantile_interval
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment, deploy
from sim.specs.errors import InputError
from sim.specs.hardware import NumberFormat
from sim.specs.reading import RawDocument
from sim.specs.resolved import Scenario
from sim.specs.scenario import ScenarioSpec
from sim.specs.workload import ServiceLevelSpec, WorkloadSpec

REQUESTS = 3000
"""Requests of one trial; a p99 then has 24 beyond it after the warm-up."""

WARM_UP = 0.2
"""Share of a trial's requests that start before anything is counted."""

SECTIONS = 10
"""Sections of a trial, as in the summary of a simulation."""

TRIAL_REPLICAS = 2
"""Replicas of a trial: few, for a small pool bears less load than a large one."""

LOADS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.12)
"""Loads that are tried, over the target load."""

REFINEMENTS = 2
"""Halvings between the first load that holds and the last that does not."""

SEED = 20_270
"""Seed of the trials; plans are checked with another one."""


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

    A share `adoption` of the requests, at random, is answered by a compressed model: of T tokens of reasoning remain
    min(T, c T^b).
    """
    workload = trial_workload(horizon, service)
    trace = generate_class(workload, rate_per_s, count / rate_per_s, 0.0, seed, service.case)
    case = horizon.spec.use_cases[service.case]
    output = trace.output_tokens.astype(float)
    if case.compression is not None and adoption > 0.0:
        method = horizon.spec.compression[case.compression]
        reasoning = case.reasoning_share.value * output
        shorter = np.minimum(reasoning, method.c.value * np.maximum(reasoning, 1.0) ** method.b.value)
        chosen = stream(seed, service.case, "compression").random(output.size) < adoption
        output = np.where(chosen, output - reasoning + shorter, output)
    tokens = np.maximum(1, np.rint(output)).astype(np.int64)
    trace = dataclasses.replace(trace, output_tokens=tokens)
    context = horizon.models[case.models[service.model].model].architecture.context_length
    if trace.follows is not None or (trace.prompt_tokens + tokens <= context).all():
        return trace
    return trace.rows(np.flatnonzero(trace.prompt_tokens + tokens <= context))


def service_levels(horizon: Horizon, case: str) -> tuple[ServiceLevelSpec, ...]:
    """Return the service levels of a use case: its own, else its workload's."""
    described = horizon.spec.use_cases[case]
    return horizon.workloads[described.workload].service_levels if described.service_levels is None else (
        described.service_levels
    )  # fmt: skip


def reached(
    deployments: Sequence[Deployment], trace: Trace, levels: Sequence[ServiceLevelSpec], case: str, speed: float = 1.0
) -> tuple[LevelReached, ...]:
    """Return what each service level comes to when pools meet some requests, all steps `speed` times faster.

    The requests are those of the slower fleet; latencies are divided by the speed, which is exact (time scaling).
    """
    if not trace.requests:
        return ()
    end_ns = int(trace.arrival_ns[-1]) + 1
    drain_ns = 24 * 3600 * NANOSECONDS + end_ns
    plan = RunPlan(
        trace, list(deployments), [list(range(len(deployments)))], "least_outstanding", np.zeros((0, 2)), end_ns,
        drain_ns, end_ns + drain_ns,
    )  # fmt: skip
    requests = run(plan).requests
    requests = requests[requests["arrival_ns"] >= 0]
    requests = requests[np.argsort(requests["arrival_ns"], kind="stable")]
    requests = requests[int(WARM_UP * len(requests)) :]
    found = []
    for level in levels:
        overhead_s = max(each.request_overhead_s for each in deployments)
        values = latencies(requests, level.metric, overhead_s) / speed
        sections = np.array_split(values, SECTIONS) if values.size >= 2 * SECTIONS else [values]
        estimate = sectioned_quantile_interval(sections, level.quantile, method="sectioning")
        found.append(LevelReached.of(case, level, estimate, int(np.isinf(values).sum())))
    return tuple(found)


class SimulatedCapacities:
    """What replicas of a horizon serve, simulated when first asked for and kept."""

    def __init__(self, horizon: Horizon) -> None:
        self.horizon = horizon
        self._known: dict[tuple[Service, str], Coefficient] = {}
        self._means: dict[tuple[str, str], MeanTokens] = {}
        self._deployments: dict[object, Deployment | InputError] = {}

    def table(self) -> CapacityTable:
        """Return all that a plan of the horizon can ask for, under its levers, as a plain table."""
        spec, levers = self.horizon.spec, self.horizon.levers
        kept = ("quantisation" in levers, "batching" in levers, "prefix_caching" in levers)
        for case, described in spec.use_cases.items():
            with_compression = described.compression is not None and "compression" in levers
            for model in described.models:
                self.tokens(case, model)
                for hardware in spec.hardware:
                    for compressed in (False, True)[: 1 + with_compression]:
                        self.replica(Service(case, model, *kept, compressed), hardware)
        return CapacityTable(dict(self._known), dict(self._means))

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return what the best layout serves on an accelerator.

        The layout with the most saturated requests per accelerator comes first; the largest load that keeps all service
        levels is found by trials on the same requests. Where it bears less than half the target load the next layouts
        are tried, and the one that serves most per accelerator counts.
        """
        if (service, hardware) not in self._known:
            self._known[service, hardware] = self._best_layout(service, hardware)
        return self._known[service, hardware]

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean prompt, cached and answer tokens of a use case, uncompressed [tokens]."""
        if (case, model) not in self._means:
            service = Service(case, model, True, True, True, False)
            trace = requests_of(self.horizon, service, 1.0, REQUESTS, SEED, 0.0)
            columns = (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
            self._means[case, model] = MeanTokens(*(float(np.mean(each)) for each in columns))
        return self._means[case, model]

    def deployment(self, service: Service, hardware: str, tensor: int) -> Deployment:
        """Return one replica of a use case's model on an accelerator; InputError where it cannot serve."""
        key = (service.case, service.model, service.quantised, service.batched, hardware, tensor)
        if key not in self._deployments:
            try:
                self._deployments[key] = deploy(self._scenario(service, hardware, tensor))[0]
            except InputError as error:
                self._deployments[key] = error
        found = self._deployments[key]
        if isinstance(found, InputError):
            raise found
        return found

    def _scenario(self, service: Service, hardware: str, tensor: int) -> Scenario:
        horizon = self.horizon
        share = horizon.spec.use_cases[service.case].models[service.model]
        pool: dict[str, object] = {
            "hardware": hardware,
            "model": share.model,
            "replicas": 1,
            "parallelism": {"tensor": tensor},
            "serving_stack": horizon.spec.serving_stack,
            "weight_format": (share.weight_format if service.quantised else share.plain_format),
            "kv_format": share.kv_format if service.quantised else NumberFormat.BF16,
        }
        if not service.batched:
            pool["max_sequences"] = horizon.spec.baseline.max_sequences
        data = {
            "kind": "scenario", "name": "trial", "title": "trial", "duration": "1 h", "warm_up": "1 min",
            "drain": "1 h", "timeline_interval": "1 h", "price_basis": ["stated"],
            "traffic": {service.case: {"workload": horizon.spec.use_cases[service.case].workload}},
            "fleet": {"pool": pool},
        }  # fmt: skip
        return Scenario(
            ScenarioSpec.model_validate(data), "trial", horizon.hardware, horizon.models,
            {horizon.spec.serving_stack: horizon.serving_stack}, horizon.workloads, {},
            RawDocument(horizon.raw.file, data), horizon.library,
        )  # fmt: skip

    def _best_layout(self, service: Service, hardware: str) -> Coefficient:
        sample = requests_of(self.horizon, service, 1.0, REQUESTS, SEED, float(service.compressed))
        candidates: list[tuple[float, float, Deployment]] = []
        reason = "no layout within the scale-up domain"
        for tensor in self.horizon.spec.use_cases[service.case].models[service.model].layouts:
            try:
                deployment = self.deployment(service, hardware, tensor)
            except InputError as error:
                reason = error.problems[0].message
                continue
            longest = deployment.longest_request()
            too_long = float((sample.prompt_tokens + sample.output_tokens > longest).mean())
            if too_long > 0.0:
                reason = f"KV memory holds {longest} tokens, {too_long:.1%} of the requests are longer"
                continue
            mix = request_mix(sample.prompt_tokens, sample.cached_tokens, sample.output_tokens, deployment.window)
            saturated = saturated_requests_per_s(deployment, mix)
            candidates.append((saturated / deployment.accelerators, saturated, deployment))
        best = Coefficient(0, 0.0, 0.0, reason)
        target = self.horizon.spec.target_load.value
        for per_accelerator, saturated, deployment in sorted(candidates, key=lambda each: -each[0]):
            if best.accelerators and per_accelerator * target <= best.requests_per_s / best.accelerators:
                break
            load, limit = _largest_load(self.horizon, service, deployment, saturated, target)
            served = load * saturated
            better = served / deployment.accelerators > best.requests_per_s / max(1, best.accelerators)
            if better:
                best = Coefficient(deployment.accelerators, served, load, limit)
            elif not best.accelerators:
                best = Coefficient(0, 0.0, 0.0, limit)
            if load >= 0.5 * target:
                break
        return best


def _largest_load(
    horizon: Horizon, service: Service, deployment: Deployment, saturated: float, target: float
) -> tuple[float, str]:
    """Return the largest load at which all levels hold, over saturation, and what limits it."""
    levels = service_levels(horizon, service.case)
    limit = "target load"
    missed = math.nan
    for load in LOADS:
        held, worst = _holds(horizon, service, deployment, saturated * load * target, levels)
        if held:
            good, bad = load, missed
            for _ in range(REFINEMENTS if bad == bad else 0):
                middle = 0.5 * (good + bad)
                held, _ = _holds(horizon, service, deployment, saturated * middle * target, levels)
                good, bad = (middle, bad) if held else (good, middle)
            return good * target, limit
        missed, limit = load, worst
    return 0.0, limit


def _holds(
    horizon: Horizon, service: Service, deployment: Deployment, rate_per_s: float, levels: Sequence[ServiceLevelSpec]
) -> tuple[bool, str]:
    trace = requests_of(horizon, service, rate_per_s * TRIAL_REPLICAS, REQUESTS, SEED, float(service.compressed))
    pool = dataclasses.replace(deployment, replicas=TRIAL_REPLICAS)
    for level in reached([pool], trace, levels, service.case):
        if not level.met:
            return False, level.in_words()
    return True, ""
