"""From finished runs to a result: tables, summaries with intervals, flags and the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import pyarrow as pa

from sim.demand.class_traffic import class_traffic
from sim.engine.preparation import Prepared
from sim.engine.run import RunOutcome, RunPlan
from sim.results.class_work import ClassWork
from sim.results.collect import requests_table, timeline_table
from sim.results.flags import Flag, honesty_flags
from sim.results.fleet_rows import serving_replicas
from sim.results.headroom_table import headroom_table
from sim.results.manifest import run_manifest
from sim.results.metrics import PoolCost, ServiceLevel, TokenPrices, Window
from sim.results.pool_costs import pool_costs
from sim.results.result import Result
from sim.results.shares_of_work import served_by
from sim.results.summary import summarise
from sim.results.tables import arrow_table, labels, numbers
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS
from sim.specs.control import ApiSpec
from sim.specs.resolved import Scenario


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


def collected(prepared: Prepared, replication: int, plan: RunPlan, outcome: RunOutcome) -> Run:
    """Return the tables of a finished run, after which its arrays can go."""
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


def evaluated(per_scenario: Sequence[Sequence[Run]], seed: int, wall_s: float) -> Result:
    """Return the result of the replications of each scenario.

    Parameters
    ----------
    per_scenario : sequence of sequence of Run
        Runs by scenario, then replication.
    seed : int
        Seed of all random streams.
    wall_s : float
        Time that the runs took [s].

    """
    runs = [each for group in per_scenario for each in group]
    flags: dict[str, list[Flag]] = {}
    summaries = []
    for group in per_scenario:
        factors = load_factors_of(group)
        found = flags_of(group, factors)
        flags[group[0].prepared.scenario.scenario_id] = found
        summaries.append(arrow_table("summary", summary_of(group, found, factors)))
    measured = {
        "seed": seed,
        "replications": len(per_scenario[0]),
        "engine": runs[0].engine,
        "engine_reason": runs[0].engine_reason,
        "requests": sum(each.requests.num_rows for each in runs),
        "follow_ups_not_sent": sum(each.not_sent for each in runs),
        "events": sum(each.events for each in runs),
        "wall_s": wall_s,
    }
    prepared = [group[0].prepared for group in per_scenario]
    deployments = {each.scenario.scenario_id: each.deployments for each in prepared}
    return Result(
        {
            "requests": _joined([each.requests for each in runs]),
            "timeline": _joined([each.timeline for each in runs]),
            "summary": _joined(summaries),
            "headroom": _joined([headroom_of(each) for each in runs]),
        },
        run_manifest([each.scenario for each in prepared], deployments, flags, measured),
    )


def summary_of(runs: Sequence[Run], flags: Sequence[Flag], load_factors: dict[str, float]) -> pd.DataFrame:
    """Return the summary of the replications of one scenario."""
    prepared = runs[0].prepared
    requests = pa.concat_tables([each.requests for each in runs])
    timeline = pa.concat_tables([each.timeline for each in runs])
    return summarise(
        requests,
        timeline,
        _costs(prepared, requests, timeline, runs[0].window),
        _service_levels(prepared.scenario),
        runs[0].window,
        flags=flags,
        load_factors=load_factors,
        work=_class_work(prepared.scenario),
        validity={each.pool: each.validity for each in prepared.deployments},
    )


def headroom_of(run: Run) -> pa.Table:
    """Return whose the paid accelerator time of a run is; a pool that takes what others send on serves all classes."""
    scenario = run.prepared.scenario
    classes = {name: scenario.classes_served(name) or tuple(scenario.spec.traffic) for name in scenario.spec.fleet}
    return headroom_table(
        run.requests, run.timeline, run.prepared.deployments, scenario.spec.fleet, classes, scenario.spec.peak_share
    )


def flags_of(runs: Sequence[Run], load_factors: dict[str, float]) -> list[Flag]:
    """Return the honesty flags of the replications of one scenario."""
    prepared, window = runs[0].prepared, runs[0].window
    requests = pa.concat_tables([each.requests for each in runs])
    timeline = pa.concat_tables([each.timeline for each in runs])
    validity = {each.pool: each.validity for each in prepared.deployments}
    flags = honesty_flags(requests, timeline, window, load_factors, validity=validity)
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
    """Return offered load over mean-field capacity by pool, for the requests that were routed to it.

    The capacity is that of the replicas that served, as a mean over the window.
    """
    window = runs[0].window
    fleet = runs[0].prepared.scenario.spec.fleet
    requests = pa.concat_tables([each.requests for each in runs])
    serving = serving_replicas(pa.concat_tables([each.timeline for each in runs]), window)
    offered = window.holds(numbers(requests, "arrival_s"))
    factors = {}
    for each in runs[0].prepared.deployments:
        served = served_by(each.pool, fleet, requests)
        mine = offered & served.mine
        if not mine.any() or serving[each.pool] <= 0.0:
            continue
        rate = int(mine.sum()) / (window.duration_s * len(runs))
        mix = request_mix(served.prompt[mine], served.cached[mine], served.output[mine], each.window)
        factors[each.pool] = rate / (saturated_requests_per_s(each, mix) * serving[each.pool])
    return factors


def _costs(prepared: Prepared, requests: pa.Table, timeline: pa.Table, window: Window) -> list[PoolCost]:
    """Return what pools and APIs cost; where prompts and answers are apart, the answers' requests bear both."""
    fleet = prepared.scenario.spec.fleet
    answering = {pool.hand_over.to for pool in fleet.values() if pool.hand_over is not None}
    costs = _api_costs(prepared.scenario)
    for each in pool_costs(prepared.deployments, requests, timeline, window):
        hand_over = fleet[each.pool].hand_over
        if hand_over is not None:
            costs.append(replace(each, borne_by=hand_over.to, prefill_share=1.0))
        else:
            costs.append(replace(each, prefill_share=0.0) if each.pool in answering else each)
    return costs


def _api_costs(scenario: Scenario) -> list[PoolCost]:
    """Return what the APIs cost to which pools spill over."""
    return [
        PoolCost(name, 0.0, None, "api", token_prices=TokenPrices(each.input, _cached(each), each.output))
        for name, each in scenario.spec.apis.items()
    ]


def _cached(api: ApiSpec) -> float:
    return api.input if api.cached_input is None else api.cached_input


def _service_levels(scenario: Scenario) -> list[ServiceLevel]:
    return [
        (name, f"{level.metric}_s", level.quantile, level.limit)
        for name in scenario.spec.traffic
        for level in scenario.service_levels(name)
    ]


def _class_work(scenario: Scenario) -> dict[str, ClassWork]:
    """Return what the workloads of the classes say of work and users; of recorded classes those that they name."""
    found = {}
    for name, traffic in scenario.spec.traffic.items():
        if traffic.workload is not None:
            workload = scenario.workloads[traffic.workload]
            change = None if traffic.trace is not None else class_traffic(scenario, name).accuracy_change
            found[name] = ClassWork(workload.work, workload.users, change)
    return found


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).unify_dictionaries()
