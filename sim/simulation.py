"""Simulate a scenario, or compare scenarios on the same customers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sim.demand.generate import generate_class
from sim.demand.streams import stream
from sim.demand.trace import Trace, merge_traces
from sim.demand.trace_files import read_trace
from sim.engine.run import EngineName, RunPlan, longest_requests, run
from sim.engine.simpy_engine import Router
from sim.results.collect import requests_table, timeline_table
from sim.results.flags import Flag, honesty_flags
from sim.results.intervals import Estimate, paired_difference_interval
from sim.results.manifest import run_manifest
from sim.results.metrics import PoolCost, ServiceLevel, Window
from sim.results.result import Result
from sim.results.summary import summarise
from sim.results.tables import ALL, arrow_table, labels, numbers
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import LONGEST_SPAN, NANOSECONDS, Deployment, deploy
from sim.specs.errors import InputError, Problem
from sim.specs.resolved import Scenario
from sim.specs.scenario import ScenarioSpec

Progress = Callable[[str, float], None]
"""Called with what is being simulated and the fraction of the whole work that is done."""


@dataclass(frozen=True)
class _Prepared:
    """A scenario whose pools are deployed; traces follow per replication."""

    scenario: Scenario
    deployments: list[Deployment]


@dataclass(frozen=True)
class _Run:
    """One replication of one scenario."""

    prepared: _Prepared
    window: Window
    engine: str
    engine_reason: str
    events: int
    not_sent: int
    requests: pa.Table
    timeline: pa.Table


def simulate(
    scenario: Scenario,
    replications: int = 1,
    engine: EngineName = "auto",
    router: Router | None = None,
    progress: Progress | None = None,
    max_span: int = LONGEST_SPAN,
) -> Result:
    """Simulate a scenario, or all its alternatives on the same requests.

    Parameters
    ----------
    scenario : Scenario
        What to simulate.
    replications : int
        Independent repetitions; with two or more, intervals are over them.
    engine : str
        `auto`, `simpy` or `compiled`.
    router : callable, optional
        A router of your own, which runs on the SimPy engine.
    progress : callable, optional
        Told what is running and how far it is.
    max_span : int
        Longest span [steps]; 1 simulates step by step, for checking.

    Raises
    ------
    InputError
        Bad input; everything is checked before anything runs, of later replications only their requests' lengths.
    ValueError
        An engine that cannot run the router, or no replications.

    """
    if replications < 1:
        raise ValueError(f"replications must be at least 1, not {replications}")
    started = time.perf_counter()
    prepared = _prepare(scenario.variants())
    per_scenario: list[list[_Run]] = [[] for _ in prepared]
    for number in range(replications):
        trace = _trace(prepared, number)
        plans = [_plan(each, trace, number, max_span) for each in prepared]
        for position, (each, plan) in enumerate(zip(prepared, plans, strict=True)):
            done = number * len(prepared) + position
            told = _share(progress, each, done, len(prepared) * replications)
            per_scenario[position].append(_execute(each, number, plan, engine, router, told))
    runs = [each for group in per_scenario for each in group]
    flags: dict[str, list[Flag]] = {}
    summaries = []
    for group in per_scenario:
        factors = _load_factors(group)
        found = _flags(group, factors)
        flags[group[0].prepared.scenario.scenario_id] = found
        summaries.append(_summary(group, found, factors))
    measured = {
        "seed": scenario.spec.seed,
        "replications": replications,
        "engine": runs[0].engine,
        "engine_reason": runs[0].engine_reason,
        "requests": sum(len(each.requests) for each in runs),
        "follow_ups_not_sent": sum(each.not_sent for each in runs),
        "events": sum(each.events for each in runs),
        "wall_s": time.perf_counter() - started,
    }
    deployments = {each.scenario.scenario_id: each.deployments for each in prepared}
    return Result(
        {
            "requests": _joined([each.requests for each in runs]),
            "timeline": _joined([each.timeline for each in runs]),
            "summary": _joined([arrow_table("summary", each) for each in summaries]),
        },
        run_manifest([each.scenario for each in prepared], deployments, flags, measured),
    )


@dataclass(frozen=True)
class Comparison:
    """Two scenarios on the same requests, replication by replication."""

    names: tuple[str, str]
    """Names of the two scenarios."""

    summaries: tuple[list[pd.DataFrame], list[pd.DataFrame]]
    """Summary of each replication of each scenario."""

    def values(self, metric: str, class_name: str = ALL, pool: str = ALL) -> pd.DataFrame:
        """Return a metric of both scenarios, one row a replication.

        Parameters
        ----------
        metric : str
            A metric of the summary; a quantile is written inside its name, as in `ttft_p99_s`.
        class_name, pool : str
            Traffic class or pool; `all` for everything.

        Raises
        ------
        ValueError
            No such metric, class or pool in the summaries.

        """
        columns = [
            [_metric_value(summary, metric, class_name, pool) for summary in summaries] for summaries in self.summaries
        ]
        return pd.DataFrame(dict(zip(self.names, columns, strict=True))).rename_axis("replication")

    def difference(self, metric: str, class_name: str = ALL, pool: str = ALL, confidence: float = 0.95) -> Estimate:
        """Return second minus first, with the interval of paired differences (common random numbers).

        Raises
        ------
        ValueError
            As `values`.

        """
        values = self.values(metric, class_name, pool)
        return paired_difference_interval(values.iloc[:, 1].to_numpy(), values.iloc[:, 0].to_numpy(), confidence)

    def _repr_html_(self) -> str:
        rows = [
            {"metric": metric, **self.values(metric).mean().to_dict(), "difference": estimate.value,
             "low": estimate.low, "high": estimate.high}
            for metric in ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "e2e_p50_s", "usd_per_million_tokens")
            for estimate in [self.difference(metric)]
        ]  # fmt: skip
        return str(pd.DataFrame(rows).to_html(index=False, border=0, float_format="{:.4g}".format))


def compare(
    first: Scenario,
    second: Scenario,
    replications: int = 10,
    engine: EngineName = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Simulate two scenarios on the same requests.

    Parameters
    ----------
    first, second : Scenario
        Scenarios without alternatives; where their traffic and seed agree, they meet the same customers.
    replications : int
        Independent repetitions, at least 2.
    engine : str
        `auto`, `simpy` or `compiled`.
    progress : callable, optional
        Told what is running and how far it is.

    Raises
    ------
    InputError
        Bad input.
    ValueError
        Fewer than two replications.

    """
    if replications < 2:
        raise ValueError(f"a paired comparison needs at least 2 replications, not {replications}")
    prepared = _prepare([*first.variants(), *second.variants()])
    if len(prepared) != 2:
        raise ValueError("compare takes two scenarios without alternatives; simulate runs alternatives side by side")
    summaries: tuple[list[pd.DataFrame], list[pd.DataFrame]] = ([], [])
    for number in range(replications):
        for side, each in enumerate(prepared):
            plan = _plan(each, _trace([each], number), number, LONGEST_SPAN)
            told = _share(progress, each, 2 * number + side, 2 * replications)
            single = [_execute(each, number, plan, engine, None, told)]
            summaries[side].append(_summary(single, [], _load_factors(single)))
    names = (prepared[0].scenario.scenario_id, prepared[1].scenario.scenario_id)
    if names[0] == names[1]:
        names = (f"{names[0]} (first)", f"{names[1]} (second)")
    return Comparison(names, summaries)


def check(scenario: Scenario) -> list[list[Deployment]]:
    """Check all that can be checked without running; return the pools of each variant.

    Raises
    ------
    InputError
        Everything that is wrong, recorded traces included.

    """
    prepared = _prepare(scenario.variants())
    trace = _trace(prepared, 0)
    for each in prepared:
        _plan(each, trace, 0, LONGEST_SPAN)
    return [each.deployments for each in prepared]


def _prepare(scenarios: Sequence[Scenario]) -> list[_Prepared]:
    prepared: list[_Prepared] = []
    problems: list[Problem] = []
    for scenario in scenarios:
        try:
            prepared.append(_Prepared(scenario, deploy(scenario)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(dict.fromkeys(problems))
    return prepared


def _trace(prepared: Sequence[_Prepared], replication: int) -> Trace:
    """Return the requests that all scenarios meet; recorded classes are the same in every replication."""
    scenario = prepared[0].scenario
    spec = scenario.spec
    traces: list[Trace] = []
    problems: list[Problem] = []
    for name, traffic in spec.traffic.items():
        try:
            file = scenario.trace_file(name)
            if file is not None:
                traces.append(read_trace(file, name).scaled(1.0 / traffic.trace_speed))
                continue
            assert traffic.workload is not None, "a class without a trace has a workload"
            workload = scenario.workloads[traffic.workload]
            rate = workload.rate.value if traffic.rate is None else traffic.rate
            traces.append(generate_class(workload, rate, spec.duration, spec.start_hour, spec.seed, name, replication))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    trace = merge_traces(traces)
    unknown = [name for name in trace.classes if name not in spec.traffic]
    if unknown:
        remedy = "Add them to `traffic`, or leave out the column `class`."
        raise InputError(
            [Problem("a trace has classes that the scenario does not know", scenario.raw.file, "traffic",
                     ", ".join(unknown), remedy)]
        )  # fmt: skip
    if trace.requests == 0:
        remedy = "Raise the rates or the duration."
        raise InputError([Problem("no request arrives at all", scenario.raw.file, "traffic", remedy=remedy)])
    return trace


def _plan(prepared: _Prepared, trace: Trace, replication: int, max_span: int) -> RunPlan:
    scenario = prepared.scenario
    spec = scenario.spec
    pools = [
        [index for index, pool in enumerate(spec.fleet) if name in scenario.classes_served(pool)]
        for name in trace.classes
    ]
    plan = RunPlan(
        trace=trace,
        deployments=prepared.deployments,
        pools_of_class=pools,
        router=spec.router,
        priorities=[spec.traffic[name].priority for name in trace.classes],
        draws=_routing_draws(spec, trace, replication),
        arrivals_end_ns=_arrivals_end_ns(scenario, trace),
        drain_ns=round(spec.drain * NANOSECONDS),
        interval_ns=round(spec.timeline_interval * NANOSECONDS),
        max_span=max_span,
    )
    if spec.warm_up * NANOSECONDS >= plan.arrivals_end_ns:
        raise InputError(
            [Problem(f"the trace lasts {plan.arrivals_end_ns / NANOSECONDS:.0f} s, all of it warm-up",
                     scenario.raw.file, "warm_up", spec.warm_up, "Shorten the warm-up.")]
        )  # fmt: skip
    _check_lengths(scenario, plan)
    return plan


def _routing_draws(spec: ScenarioSpec, trace: Trace, replication: int) -> NDArray[np.float64]:
    count = trace.requests if spec.router == "power_of_two" else 0
    return stream(spec.seed, "routing", replication).random((count, 2))


def _arrivals_end_ns(scenario: Scenario, trace: Trace) -> int:
    """Return the end of the arrivals: the stated duration where any class is synthetic, else the last request's."""
    recorded = int(trace.arrival_ns[-1]) + 1
    if all(traffic.trace is not None for traffic in scenario.spec.traffic.values()):
        return recorded
    return max(recorded, round(scenario.spec.duration * NANOSECONDS))


def _check_lengths(scenario: Scenario, plan: RunPlan) -> None:
    """Raise InputError when some request can never be served and the scenario does not say to reject it."""
    if scenario.spec.oversized_requests == "reject":
        return
    trace = plan.trace
    total = trace.prompt_tokens + trace.output_tokens
    problems = []
    for index, (name, limit) in enumerate(zip(trace.classes, longest_requests(plan), strict=True)):
        oversized = (trace.class_index == index) & (total > limit)
        if oversized.any():
            longest = int(total[oversized].max())
            pools = ", ".join(plan.deployments[pool].pool for pool in plan.pools_of_class[index])
            problems.append(
                Problem(
                    f"{int(oversized.sum())} of {int((trace.class_index == index).sum())} requests can never be "
                    f"served: the longest has {longest} tokens, pool {pools} of {scenario.scenario_id} holds {limit} "
                    "(context length and KV memory)",
                    scenario.raw.file,
                    f"traffic.{name}",
                    remedy="Serve a model with longer context, give replicas more memory, or write "
                    "`oversized_requests: reject` to count them as rejected.",
                )
            )
    if problems:
        raise InputError(problems)


def _execute(
    prepared: _Prepared,
    replication: int,
    plan: RunPlan,
    engine: EngineName,
    router: Router | None,
    progress: Callable[[float], None] | None,
) -> _Run:
    outcome = run(plan, engine, router, progress)
    scenario_id = prepared.scenario.scenario_id
    return _Run(
        prepared=prepared,
        window=Window(prepared.scenario.spec.warm_up, plan.arrivals_end_ns / NANOSECONDS),
        engine=outcome.engine,
        engine_reason=outcome.engine_reason,
        events=outcome.events,
        not_sent=int((outcome.requests["arrival_ns"] < 0).sum()),
        requests=requests_table(plan, outcome, scenario_id, replication),
        timeline=timeline_table(plan, outcome, scenario_id, replication),
    )


def _summary(runs: Sequence[_Run], flags: Sequence[Flag], load_factors: dict[str, float]) -> pd.DataFrame:
    prepared = runs[0].prepared
    return summarise(
        pa.concat_tables([each.requests for each in runs]),
        pa.concat_tables([each.timeline for each in runs]),
        [_pool_cost(each) for each in prepared.deployments],
        _service_levels(prepared.scenario),
        runs[0].window,
        flags=flags,
        load_factors=load_factors,
    )


def _flags(runs: Sequence[_Run], load_factors: dict[str, float]) -> list[Flag]:
    prepared, window = runs[0].prepared, runs[0].window
    requests = pa.concat_tables([each.requests for each in runs])
    timeline = pa.concat_tables([each.timeline for each in runs])
    flags = honesty_flags(requests, timeline, window, load_factors)
    flags += [
        Flag("no_price", f"pool {each.pool}", f"{each.hardware} has no price on the terms that the scenario accepts")
        for each in prepared.deployments
        if each.price is None
    ]
    flags += [
        Flag("specification_only", f"pool {each.pool}", f"{each.hardware} rests on announcements or claims, not on "
             "measurements: read its figures as a scenario")
        for each in prepared.deployments
        if each.specification_only
    ]  # fmt: skip
    return flags


def _load_factors(runs: Sequence[_Run]) -> dict[str, float]:
    """Return offered load over mean-field capacity by pool, for the requests that were routed to it."""
    window = runs[0].window
    requests = pa.concat_tables([each.requests for each in runs])
    offered = window.holds(numbers(requests, "arrival_s"))
    pools, names = labels(requests, "pool")
    lengths = [numbers(requests, column) for column in ("prompt_tokens", "cached_tokens", "output_tokens")]
    factors = {}
    for each in runs[0].prepared.deployments:
        mine = offered & (pools == names.index(each.pool)) if each.pool in names else np.zeros_like(offered)
        if not mine.any():
            continue
        prompt, cached, output = (column[mine] for column in lengths)
        rate = int(mine.sum()) / (window.duration_s * len(runs))
        capacity = saturated_requests_per_s(each, request_mix(prompt, cached, output, each.window)) * each.replicas
        factors[each.pool] = rate / capacity
    return factors


def _service_levels(scenario: Scenario) -> list[ServiceLevel]:
    return [
        (name, f"{level.metric}_s", level.quantile, level.limit)
        for name in scenario.spec.traffic
        for level in scenario.service_levels(name)
    ]


def _pool_cost(deployment: Deployment) -> PoolCost:
    price = deployment.price
    return PoolCost(
        deployment.pool,
        deployment.replicas * deployment.accelerators,
        None if price is None else price.usd_per_hour,
        "none" if price is None else price.basis.value,
    )


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()


def _share(progress: Progress | None, prepared: _Prepared, index: int, count: int) -> Callable[[float], None] | None:
    if progress is None:
        return None
    return lambda fraction: progress(prepared.scenario.scenario_id, (index + fraction) / count)


def _metric_value(summary: pd.DataFrame, metric: str, class_name: str, pool: str) -> float:
    match = re.fullmatch(r"(ttft|tpot|e2e)_(?:p(\d+(?:\.\d+)?)|mean)_s", metric)
    name = f"{match.group(1)}_s" if match else metric
    quantile = float(match.group(2)) / 100 if match and match.group(2) else None
    rows = summary[(summary["metric"] == name) & (summary["class"] == class_name) & (summary["pool"] == pool)]
    rows = rows[rows["quantile"].isna()] if quantile is None else rows[np.isclose(rows["quantile"], quantile)]
    if len(rows) != 1:
        known = sorted(set(summary["metric"].astype(str)))
        raise ValueError(f"no metric {metric!r} for class {class_name!r} and pool {pool!r}; known: {', '.join(known)}")
    return float(rows["value"].iloc[0])
