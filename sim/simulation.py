"""Simulate a scenario and all its alternatives on the same customers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sim.engine.preparation import Prepared, check_replications, plan_run, prepare, traces_met
from sim.engine.run import EngineName, RunPlan, run
from sim.engine.simpy_engine import Router
from sim.serving.deployment import LONGEST_SPAN, Deployment
from sim.specs.resolved import Scenario

if TYPE_CHECKING:
    from sim.results.evaluation import Run
    from sim.results.result import Result

Progress = Callable[[str, float], None]
"""Called with what is being simulated and the fraction of the whole work that is done."""


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
        traces = traces_met(prepared, number)
        plans = [plan_run(each, trace, number, max_span) for each, trace in zip(prepared, traces, strict=True)]
        for position, (each, plan) in enumerate(zip(prepared, plans, strict=True)):
            done = number * len(prepared) + position
            told = share_of(progress, each, done, len(prepared) * replications)
            per_scenario[position].append(execute(each, number, plan, engine, router, told))
    from sim.results.evaluation import evaluated

    return evaluated(per_scenario, scenario.spec.seed, time.perf_counter() - started)


def check(scenario: Scenario) -> list[list[Deployment]]:
    """Check all that can be checked without running; return the pools of each variant.

    Raises
    ------
    InputError
        Everything that is wrong, recorded traces included.

    """
    prepared = prepare(scenario.variants())
    for each, trace in zip(prepared, traces_met(prepared, 0), strict=True):
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
    # pandas and what builds on it are slow to import, and nobody waits for them before the first event
    from sim.results.evaluation import collected

    return collected(prepared, replication, plan, outcome)


def share_of(progress: Progress | None, prepared: Prepared, index: int, count: int) -> Callable[[float], None] | None:
    """Return how one of `count` equal runs tells its progress."""
    if progress is None:
        return None
    return lambda fraction: progress(prepared.scenario.scenario_id, (index + fraction) / count)
