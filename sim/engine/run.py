"""One run: a trace against a fleet, on one of the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim.demand.trace import Trace
from sim.engine.arrivals import arrivals_of
from sim.engine.compiled_engine import CompiledEngine
from sim.engine.simpy_engine import Router, SimpyEngine
from sim.serving.deployment import LONGEST_SPAN, Deployment, pool_records
from sim.serving.routing import routing_state
from sim.serving.state import REJECTED, REQUEST, UNFINISHED, FleetState, empty_fleet

EngineName = Literal["auto", "simpy", "compiled"]
ENGINES = ("auto", "simpy", "compiled")
Progress = Callable[[float], None]
"""Called with the fraction of simulated time that has passed."""

_PROGRESS_STEPS = 50


@dataclass(frozen=True)
class RunPlan:
    """What one run needs, and nothing else."""

    trace: Trace
    """Requests."""

    deployments: Sequence[Deployment]
    """Pools."""

    pools_of_class: Sequence[Sequence[int]]
    """Pools that serve each class of the trace."""

    router: str
    """Built-in router."""

    draws: NDArray[np.float64]
    """Two uniform draws per request for the randomised router, shape (n, 2); (0, 2) for the others."""

    arrivals_end_ns: int
    """End of the arrivals [ns]."""

    drain_ns: int
    """Longest time after the arrivals [ns]."""

    interval_ns: int
    """Length of a timeline interval [ns]."""

    max_span: int = LONGEST_SPAN
    """Longest span [steps]; 1 simulates step by step."""

    priorities: Sequence[int] = ()
    """Priority of each class of the trace, 0 goes first; none means one priority for all."""


@dataclass(frozen=True)
class RunOutcome:
    """What happened."""

    fleet: FleetState
    """Final state; its timeline holds what happened by pool and interval."""

    requests: NDArray[np.void]
    """All requests of the trace, dtype REQUEST; arrival -1 for follow-ups that were never sent."""

    replica_pool: NDArray[np.int64]
    """Pool of each replica, shape (R,)."""

    ended_ns: int
    """End of the run: the last finish, or the time at which it was stopped [ns]."""

    events: int
    """Arrivals and step boundaries."""

    engine: str
    """Engine that ran."""

    engine_reason: str
    """Why this engine."""


def choose_engine(engine: EngineName, router: Router | None) -> tuple[str, str]:
    """Return the engine for a run and the reason for it.

    Raises
    ------
    ValueError
        There is no such engine, or the compiled engine is asked to run a Python router.

    """
    if engine not in ENGINES:
        raise ValueError(f"there is no engine {engine!r}; there are {', '.join(ENGINES)}")
    if engine == "compiled" and router is not None:
        raise ValueError("the compiled engine runs built-in routers only; use engine='simpy' for a Python router")
    if engine != "auto":
        return engine, "asked for"
    if router is not None:
        return "simpy", "the router is the user's own Python"
    return "compiled", "router and policies are built in"


def longest_requests(plan: RunPlan) -> NDArray[np.int64]:
    """Return the longest prompt plus answer that every replica open to a class can hold [tokens], by class."""
    limits = [[plan.deployments[pool].longest_request() for pool in pools] for pools in plan.pools_of_class]
    return np.array([min(limit) for limit in limits], np.int64)


def run(
    plan: RunPlan, engine: EngineName = "auto", router: Router | None = None, progress: Progress | None = None
) -> RunOutcome:
    """Simulate a trace until everything has finished or the drain time is over.

    Requests that no replica of their class could ever hold are rejected at the door and take part in nothing. A
    request that follows another one is sent after its gap, if that is before the end of the arrivals.

    Raises
    ------
    ValueError
        The engine cannot run this router, the user's router chose a replica that it was not shown, or max_span is
        below 1.

    """
    name, reason = choose_engine(engine, router)
    if plan.max_span < 1:
        raise ValueError(f"max_span must be at least 1 step, not {plan.max_span}")
    trace = plan.trace
    requests = request_records(trace)
    if plan.priorities:
        requests["priority"] = np.array(plan.priorities, np.int8)[trace.class_index]
    oversized = trace.prompt_tokens + trace.output_tokens > longest_requests(plan)[trace.class_index]
    requests["outcome"][oversized] = REJECTED
    own = np.flatnonzero((requests["arrival_ns"] >= 0) & ~oversized)
    replica_pool = np.repeat(np.arange(len(plan.deployments)), [each.replicas for each in plan.deployments])
    stop_ns = plan.arrivals_end_ns + plan.drain_ns
    pools, linear, sequence = pool_records(plan.deployments, plan.max_span)
    fleet = empty_fleet(
        pools, replica_pool, linear, sequence, requests, -(-stop_ns // plan.interval_ns) + 1, plan.interval_ns
    )
    members = [np.flatnonzero(np.isin(replica_pool, pools)).tolist() for pools in plan.pools_of_class]
    routing = routing_state(plan.router, members, len(replica_pool), plan.draws)
    arrivals = arrivals_of(requests, own, plan.arrivals_end_ns)
    mover: SimpyEngine | CompiledEngine
    if name == "compiled":
        mover = CompiledEngine(fleet, routing, arrivals)
    else:
        mover = SimpyEngine(fleet, routing, arrivals, router)
    for step in range(1, _PROGRESS_STEPS + 1):
        mover.advance(stop_ns * step // _PROGRESS_STEPS)
        if progress is not None:
            progress(step / _PROGRESS_STEPS)
    mover.close(stop_ns)
    return RunOutcome(
        fleet=fleet,
        requests=requests,
        replica_pool=replica_pool,
        ended_ns=_end_of_run(requests, plan.arrivals_end_ns, stop_ns),
        events=mover.events,
        engine=name,
        engine_reason=reason,
    )


def request_records(trace: Trace) -> NDArray[np.void]:
    """Return the requests of a trace as the engines keep them; follow-ups have no arrival yet (-1)."""
    records = np.zeros(trace.requests, REQUEST)
    for column in ("arrival_ns", "prompt_tokens", "cached_tokens", "output_tokens", "class_index"):
        records[column] = getattr(trace, column)
    for column in ("admitted_ns", "first_token_ns", "finished_ns"):
        records[column] = -1
    for column in ("replica", "first_child", "next_sibling", "previous"):
        records[column] = -1
    if trace.follows is not None and trace.gap_ns is not None:
        records["gap_ns"] = trace.gap_ns
        children = np.flatnonzero(trace.follows >= 0)
        records["arrival_ns"][children] = -1
        order = children[np.argsort(trace.follows[children], kind="stable")]
        parents = trace.follows[order]
        same = parents[1:] == parents[:-1]
        records["next_sibling"][order[:-1][same]] = order[1:][same]
        first = np.concatenate([[True], ~same]) if len(order) else np.zeros(0, bool)
        records["first_child"][parents[first]] = order[first]
    return records


def _end_of_run(requests: NDArray[np.void], arrivals_end_ns: int, stop_ns: int) -> int:
    sent = requests["arrival_ns"] >= 0
    if (sent & (requests["outcome"] == UNFINISHED)).any():
        return stop_ns
    return max(arrivals_end_ns, int(requests["finished_ns"].max(initial=0)))
