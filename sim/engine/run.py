"""One run: a trace against a fleet, on one of the engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sim.demand.trace import Trace
from sim.engine import fleet_setup
from sim.engine.compiled_engine import CompiledEngine
from sim.engine.fleet_setup import set_up
from sim.engine.mechanisms import Mechanisms, no_mechanisms
from sim.engine.operations import Operations
from sim.engine.simpy_engine import Router, SimpyEngine
from sim.serving.deployment import LONGEST_SPAN, Deployment
from sim.serving.state import NOWHERE, UNFINISHED, FleetState

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

    mechanisms: Mechanisms | None = None
    """Caches, limits, clients and control; none means that the fleet only serves."""

    def all_mechanisms(self) -> Mechanisms:
        """Return the mechanisms, those of a fleet that only serves where none are stated."""
        return self.mechanisms or no_mechanisms(self.deployments, len(self.pools_of_class))


@dataclass(frozen=True)
class RunOutcome:
    """What happened."""

    fleet: FleetState
    """Final state; its timeline holds what happened by pool and interval."""

    requests: NDArray[np.void]
    """All requests of the trace, dtype REQUEST; arrival -1 for follow-ups that were never sent."""

    replica_pool: NDArray[np.int64]
    """Pool of each replica, shape (R,)."""

    state_ns: NDArray[np.int64]
    """Time of replicas by pool, timeline interval and state of `sim.engine.control` [ns], shape (P, I, 6)."""

    slowdown: NDArray[np.float64]
    """Mean factor on step times by power caps, by pool and timeline interval [1], shape (P, I)."""

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
    return fleet_setup.longest_requests(plan, plan.all_mechanisms())


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
    mechanisms = plan.all_mechanisms()
    fleet, routing, arrivals, replica_pool = set_up(plan, mechanisms)
    stop_ns = plan.arrivals_end_ns + plan.drain_ns
    mover: SimpyEngine | CompiledEngine
    if name == "compiled":
        mover = CompiledEngine(fleet, routing, arrivals)
    else:
        mover = SimpyEngine(fleet, routing, arrivals, router)
    operations = Operations(mechanisms, list(plan.deployments), replica_pool, fleet, routing, arrivals, mover)
    operations.run_until(stop_ns, progress, _PROGRESS_STEPS)
    mover.close(stop_ns)
    _cut_endpoints(fleet.requests, stop_ns)
    ended_ns = _end_of_run(fleet.requests, plan.arrivals_end_ns, stop_ns)
    state_ns, slowdown = operations.log.sums(len(fleet.pools), fleet.timeline.shape[1], plan.interval_ns, ended_ns)
    return RunOutcome(
        fleet=fleet,
        requests=fleet.requests,
        replica_pool=replica_pool,
        state_ns=state_ns,
        slowdown=slowdown,
        ended_ns=ended_ns,
        events=mover.events,
        engine=name,
        engine_reason=reason,
    )


def _cut_endpoints(requests: NDArray[np.void], stop_ns: int) -> None:
    """Let answers of external endpoints that would come after the end be unfinished."""
    late = (requests["replica"] < NOWHERE) & (requests["finished_ns"] > stop_ns)
    requests["outcome"][late] = UNFINISHED
    requests["finished_ns"][late] = -1
    requests["first_token_ns"][late & (requests["first_token_ns"] > stop_ns)] = -1


def _end_of_run(requests: NDArray[np.void], arrivals_end_ns: int, stop_ns: int) -> int:
    sent = requests["arrival_ns"] >= 0
    if (sent & (requests["outcome"] == UNFINISHED)).any():
        return stop_ns
    return max(arrivals_end_ns, int(requests["finished_ns"].max(initial=0)))
