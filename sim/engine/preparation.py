"""From a scenario to what an engine runs: pools deployed, requests drawn or read, everything checked."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.demand.class_traffic import answers_told, scenario_trace
from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.engine.mechanisms import mechanisms_of
from sim.engine.run import RunPlan, longest_requests
from sim.serving.deployment import LONGEST_SPAN, NANOSECONDS, Deployment, deploy
from sim.specs.errors import InputError, Problem
from sim.specs.resolved import Scenario
from sim.specs.scenario import ScenarioSpec

_BYTES_PER_REQUEST = 210  # trace, state and working copies, as docs/performance.md measures them
_BYTES_PER_ROW = 88


@dataclass(frozen=True)
class Prepared:
    """A scenario whose pools are deployed; traces follow per replication."""

    scenario: Scenario
    deployments: list[Deployment]


def prepare(scenarios: Sequence[Scenario]) -> list[Prepared]:
    """Return scenarios with their pools deployed.

    Raises
    ------
    InputError
        Everything that keeps any pool from serving.

    """
    prepared: list[Prepared] = []
    problems: list[Problem] = []
    for scenario in scenarios:
        try:
            prepared.append(Prepared(scenario, deploy(scenario)))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return prepared


def check_replications(scenarios: Sequence[Scenario], replications: int) -> None:
    """Raise InputError when repetitions would repeat one recorded trace and so promise a false certainty."""
    spec = scenarios[0].spec
    if replications > 1 and all(traffic.trace is not None for traffic in spec.traffic.values()):
        message = f"{replications} replications of recorded traces are one run, repeated"
        remedy = "Use one replication: its intervals come from parts of the run."
        raise InputError([scenarios[0].raw.problem(message, ("traffic",), remedy=remedy)])


def common_trace(prepared: Sequence[Prepared], replication: int) -> Trace:
    """Return the requests that all scenarios meet; recorded classes are the same in every replication.

    Raises
    ------
    InputError
        Unreadable traces, classes that the scenario does not know, or no request at all.

    """
    _check_memory(prepared[0].scenario, len(prepared))
    return scenario_trace(prepared[0].scenario, replication)


def traces_met(prepared: Sequence[Prepared], replication: int) -> list[Trace]:
    """Return the requests that each scenario meets: the same customers, answered as its own models answer.

    One trace serves all scenarios whose answers are equally long.

    Raises
    ------
    InputError
        As `common_trace`.

    """
    _check_memory(prepared[0].scenario, len(prepared))
    known: dict[str, Trace] = {}
    traces = []
    for each in prepared:
        answers = json.dumps(answers_told(each.scenario), sort_keys=True)
        if answers not in known:
            known[answers] = scenario_trace(each.scenario, replication)
        traces.append(known[answers])
    return traces


def _check_memory(scenario: Scenario, variants: int) -> None:
    """Raise InputError when the synthetic requests alone would not fit the machine's memory."""
    spec = scenario.spec
    rates = [
        (scenario.workloads[traffic.workload].rate.value if traffic.rate is None else traffic.rate) * traffic.growth
        for traffic in spec.traffic.values()
        if traffic.trace is None and traffic.workload is not None
    ]
    expected = sum(rates) * spec.duration
    needed = expected * (_BYTES_PER_REQUEST + variants * _BYTES_PER_ROW)
    if not hasattr(os, "sysconf"):
        return  # no way to ask on this system
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        message = (
            f"about {expected:.3g} requests would need {needed / 2**30:,.0f} GiB of memory, "
            f"this machine has {there / 2**30:,.0f} GiB"
        )
        remedy = "Lower the rates or the duration, or run the alternatives one by one."
        raise InputError([scenario.raw.problem(message, ("traffic",), remedy=remedy)])


def plan_run(prepared: Prepared, trace: Trace, replication: int, max_span: int = LONGEST_SPAN) -> RunPlan:
    """Return one run of a scenario on a trace.

    Raises
    ------
    InputError
        A trace shorter than the warm-up, or requests that can never be served.

    """
    scenario = prepared.scenario
    spec = scenario.spec
    pools = [
        [index for index, pool in enumerate(spec.fleet) if name in scenario.classes_served(pool)]
        for name in trace.classes
    ]
    arrivals_end_ns = _arrivals_end_ns(scenario, trace)
    drain_ns = round(spec.drain * NANOSECONDS)
    plan = RunPlan(
        trace=trace,
        deployments=prepared.deployments,
        pools_of_class=pools,
        router=spec.router,
        priorities=[spec.traffic[name].priority for name in trace.classes],
        draws=_routing_draws(spec, trace, replication),
        arrivals_end_ns=arrivals_end_ns,
        drain_ns=drain_ns,
        interval_ns=round(spec.timeline_interval * NANOSECONDS),
        max_span=max_span,
        mechanisms=mechanisms_of(scenario, prepared.deployments, trace, replication, arrivals_end_ns + drain_ns),
    )
    if spec.warm_up * NANOSECONDS >= plan.arrivals_end_ns:
        message = f"the trace lasts {plan.arrivals_end_ns / NANOSECONDS:.0f} s, all of it warm-up"
        raise InputError([scenario.raw.problem(message, ("warm_up",), spec.warm_up, "Shorten the warm-up.")])
    _check_lengths(scenario, plan)
    return plan


def _routing_draws(spec: ScenarioSpec, trace: Trace, replication: int) -> NDArray[np.float64]:
    count = trace.requests if spec.router == "power_of_two" else 0
    return stream(spec.seed, "routing", replication).random((count, 2))


def _arrivals_end_ns(scenario: Scenario, trace: Trace) -> int:
    """Return the end of the arrivals: the stated duration where any class is synthetic, else the last request's."""
    traffic = scenario.spec.traffic
    recorded = np.array([traffic[name].trace is not None for name in trace.classes])
    stated_ns = 0 if recorded.all() else round(scenario.spec.duration * NANOSECONDS)
    instants = _nominal_arrivals_ns(trace)[recorded[trace.class_index]]
    return max(stated_ns, int(instants.max(initial=-1)) + 1)


def _nominal_arrivals_ns(trace: Trace) -> NDArray[np.int64]:
    """Return when requests would arrive if every answer came at once: an arrival of its own, or after the gaps [ns]."""
    instants = trace.arrival_ns.copy()
    if trace.follows is not None and trace.gap_ns is not None:
        for row in np.flatnonzero(trace.follows >= 0):
            instants[row] = instants[trace.follows[row]] + trace.gap_ns[row]
    return instants


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
                scenario.raw.problem(
                    f"{int(oversized.sum())} of {int((trace.class_index == index).sum())} requests can never be "
                    f"served: the longest has {longest} tokens, pool {pools} of {scenario.scenario_id} holds {limit} "
                    "(context length and KV memory)",
                    ("traffic", name),
                    remedy="Serve a model with longer context, give replicas more memory, or write "
                    "`oversized_requests: reject` to count them as rejected.",
                )
            )
    if problems:
        raise InputError(problems)
