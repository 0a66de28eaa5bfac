"""Simulate a scenario and all its alternatives on the same customers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa

from sim.engine.preparation import Prepared, check_replications, common_trace, plan_run, prepare
from sim.engine.run import EngineName, RunPlan, run
from sim.engine.simpy_engine import Router
from sim.results.collect import requests_table, timeline_table
from sim.results.flags import Flag, honesty_flags
from sim.results.manifest import run_manifest
from sim.results.metrics import PoolCost, ServiceLevel, Window
from sim.results.result import Result
from sim.results.summary import summarise
from sim.results.tables import arrow_table, labels, numbers
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import LONGEST_SPAN, NANOSECONDS, Deployment
from sim.specs.resolved import Scenario

Progress = Callable[[str, float], None]
"""Called with what is being simulated and the fraction of the whole work that is done."""


@dataclass(frozen=True)
class Run:
    """One replication of one scenario."""

    prepared: Prepared
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
    prepared = prepare(scenario.variants())
    check_replications([each.scenario for each in prepared], replications)
    per_scenario: list[list[Run]] = [[] for _ in prepared]
    for number in range(replications):
        trace = common_trace(prepared, number)
        plans = [plan_run(each, trace, number, max_span) for each in prepared]
        for position, (each, plan) in enumerate(zip(prepared, plans, strict=True)):
            done = number * len(prepared) + position
            told = share_of(progress, each, done, len(prepared) * replications)
            per_scenario[position].append(execute(each, number, plan, engine, router, told))
    runs = [each for group in per_scenario for each in group]
    flags: dict[str, list[Flag]] = {}
    summaries = []
    for group in per_scenario:
        factors = load_factors_of(group)
        found = flags_of(group, factors)
        flags[group[0].prepared.scenario.scenario_id] = found
        summaries.append(summary_of(group, found, factors))
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


def check(scenario: Scenario) -> list[list[Deployment]]:
    """Check all that can be checked without running; return the pools of each variant.

    Raises
    ------
    InputError
        Everything that is wrong, recorded traces included.

    """
    prepared = prepare(scenario.variants())
    trace = common_trace(prepared, 0)
    for each in prepared:
        plan_run(each, trace, 0, LONGEST_SPAN)
    return [each.deployments for each in prepared]


def execute(
    prepared: Prepared,
    replication: int,
    plan: RunPlan,
    engine: EngineName,
    router: Router | None,
    progress: Callable[[float], None] | None,
) -> Run:
    """Simulate one replication of one scenario and collect its tables."""
    outcome = run(plan, engine, router, progress)
    scenario_id = prepared.scenario.scenario_id
    return Run(
        prepared=prepared,
        window=Window(prepared.scenario.spec.warm_up, plan.arrivals_end_ns / NANOSECONDS),
        engine=outcome.engine,
        engine_reason=outcome.engine_reason,
        events=outcome.events,
        not_sent=int((outcome.requests["arrival_ns"] < 0).sum()),
        requests=requests_table(plan, outcome, scenario_id, replication),
        timeline=timeline_table(plan, outcome, scenario_id, replication),
    )


def summary_of(runs: Sequence[Run], flags: Sequence[Flag], load_factors: dict[str, float]) -> pd.DataFrame:
    """Return the summary of the replications of one scenario."""
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


def flags_of(runs: Sequence[Run], load_factors: dict[str, float]) -> list[Flag]:
    """Return the honesty flags of the replications of one scenario."""
    prepared, window = runs[0].prepared, runs[0].window
    requests = pa.concat_tables([each.requests for each in runs])
    timeline = pa.concat_tables([each.timeline for each in runs])
    flags = honesty_flags(requests, timeline, window, load_factors)
    _, seen = labels(requests, "class")
    flags += [
        Flag("few_samples", f"class {name}", "no request came at all; raise its rate, or lengthen the run")
        for name in prepared.scenario.spec.traffic
        if name not in seen
    ]
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


def load_factors_of(runs: Sequence[Run]) -> dict[str, float]:
    """Return offered load over mean-field capacity by pool, for the requests that were routed to it."""
    window = runs[0].window
    requests = pa.concat_tables([each.requests for each in runs])
    offered = window.holds(numbers(requests, "arrival_s"))
    pools, names = labels(requests, "pool")
    lengths = [numbers(requests, column) for column in ("prompt_tokens", "cached_tokens", "output_tokens")]
    factors = {}
    for each in runs[0].prepared.deployments:
        mine = offered & (pools == names.index(each.pool)) if each.pool in names else offered & False
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


def share_of(progress: Progress | None, prepared: Prepared, index: int, count: int) -> Callable[[float], None] | None:
    """Return how one of `count` equal runs tells its progress."""
    if progress is None:
        return None
    return lambda fraction: progress(prepared.scenario.scenario_id, (index + fraction) / count)
