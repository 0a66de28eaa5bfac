"""The SimPy engine: the reference, and where a user's own Python router runs.

Time is an integer number of nanoseconds. At one instant arrivals come first, in the order of the trace, then step
boundaries in the order of the fleet; SimPy's event priority carries this rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray
from simpy.core import StopSimulation
from simpy.events import Event

from sim.engine.arrivals import EMPTIED, Arrivals, next_arrival_ns, next_timer_ns, peek_arrival
from sim.engine.events import arrive, end_patience, end_span
from sim.serving.replica import close
from sim.serving.routing import RoutingState, refresh
from sim.serving.state import NEVER, TRANSFERRED, FleetState

_STOP, _REFRESH, _TIMERS, _ARRIVALS, _FIRST_BOUNDARY = range(5)


@dataclass(frozen=True)
class RequestView:
    """What a router may know of a request; the length of the answer is not among it."""

    index: int
    """Position in the trace."""

    class_index: int
    """Position of its traffic class in the trace's classes."""

    prompt_tokens: int
    """Prompt length [tokens]."""

    cached_tokens: int
    """Part of the prompt assumed resident in a prefix cache [tokens]."""

    now_s: float
    """Time of arrival [s]."""


@dataclass(frozen=True)
class ReplicaView:
    """What a router may know of a replica."""

    index: int
    """Position in the fleet."""

    outstanding: int
    """Requests routed to it and not finished."""

    waiting: int
    """Requests in its queue."""

    kv_used: int
    """KV entries in use [tokens] at its last step boundary."""


Router = Callable[[RequestView, Sequence[ReplicaView]], int]
"""A user's router: returns the `index` of one of the replicas that it is shown."""


class _Instant(Event):
    """An event that is due after a delay, with a priority among events of the same instant."""

    def __init__(self, env: simpy.Environment, delay: int, priority: int, action: Callable[[Event], None]) -> None:
        super().__init__(env)
        self._ok = True
        self._value = None
        assert self.callbacks is not None
        self.callbacks.append(action)
        env.schedule(self, priority, delay)  # type: ignore[arg-type]  # SimPy's priority is an int by another name


class SimpyEngine:
    """One simulation: holds SimPy's clock and the time at which each replica's next boundary is due."""

    def __init__(
        self, fleet: FleetState, routing: RoutingState, arrivals: Arrivals, router: Router | None = None
    ) -> None:
        self._fleet = fleet
        self._routing = routing
        self._arrivals = arrivals
        self._router = router
        self._env = simpy.Environment(initial_time=0)
        self._until = 0
        self._due = [NEVER] * len(fleet.replicas)
        self._arrival_due = NEVER
        self._timer_due = NEVER
        self._boundaries = [self._boundary_action(index) for index in range(len(fleet.replicas))]
        self.events = 0
        """Arrivals, step boundaries and impatient clients processed so far."""
        if routing.signal[1] != NEVER:
            _Instant(self._env, int(routing.signal[1]), _REFRESH, self._refresh)

    def advance(self, until_ns: int) -> int:
        """Process every event before an instant [ns], or until a draining replica is empty; return when that is [ns].

        In the second case events of the same instant may still be to come.
        """
        if until_ns > self._env.now:
            self._arrivals.position[EMPTIED] = 0
            self._schedule_arrival()
            self._schedule_timer()
            self._until = until_ns
            _Instant(self._env, until_ns - int(self._env.now), _STOP, self._stop)
            self._env.run()
        return int(self._env.now)

    def _stop(self, _: Event) -> None:
        """End the call of `advance`; the end of an earlier call that stopped before it finds itself out of date."""
        if self._env.now == self._until:
            raise StopSimulation(None)

    def notice(self, index: int) -> None:
        """Take note that control has changed a replica."""
        self._schedule_boundary(index)

    def close(self, now_ns: int) -> None:
        """Account for what is still running when the simulation stops [ns]."""
        for index in range(len(self._fleet.replicas)):
            close(self._fleet, index, now_ns)

    def _refresh(self, _: Event) -> None:
        refresh(self._fleet, self._routing)
        _Instant(self._env, int(self._routing.signal[1]) - int(self._env.now), _REFRESH, self._refresh)

    def _schedule_arrival(self) -> None:
        """Schedule the next arrival; one scheduled earlier for another time finds itself out of date."""
        due_ns = int(next_arrival_ns(self._fleet, self._arrivals))
        if due_ns != self._arrival_due:
            self._arrival_due = due_ns
            if due_ns != NEVER:
                _Instant(self._env, due_ns - int(self._env.now), _ARRIVALS, self._arrive)

    def _schedule_timer(self) -> None:
        """Schedule the next client that may lose patience, in the same way."""
        due_ns = int(next_timer_ns(self._arrivals))
        if due_ns != self._timer_due:
            self._timer_due = due_ns
            if due_ns != NEVER:
                _Instant(self._env, due_ns - int(self._env.now), _TIMERS, self._lose_patience)

    def _schedule_boundary(self, index: int) -> None:
        """Schedule a replica's boundary, in the same way."""
        due_ns = int(self._fleet.replicas[index]["end_ns"])
        if due_ns != self._due[index]:
            self._due[index] = due_ns
            if due_ns != NEVER:
                delay = due_ns - int(self._env.now)
                _Instant(self._env, delay, _FIRST_BOUNDARY + index, self._boundaries[index])

    def _after(self, index: int) -> None:
        """Count an event and schedule what it has changed."""
        self.events += 1
        if index >= 0:
            self._schedule_boundary(index)
        self._schedule_arrival()
        self._schedule_timer()
        if self._arrivals.position[EMPTIED] > 0:
            raise StopSimulation(None)

    def _arrive(self, _: Event) -> None:
        now_ns = int(self._env.now)
        if self._arrival_due == now_ns:
            self._arrival_due = NEVER
            chosen = -1 if self._router is None else self._choose_with(self._router)
            self._after(arrive(self._fleet, self._routing, self._arrivals, now_ns, chosen))

    def _lose_patience(self, _: Event) -> None:
        now_ns = int(self._env.now)
        if self._timer_due == now_ns:
            self._timer_due = NEVER
            self._after(end_patience(self._fleet, self._routing, self._arrivals, now_ns))

    def _boundary_action(self, index: int) -> Callable[[Event], None]:
        def act(_: Event) -> None:
            if self._due[index] == self._env.now:
                self._due[index] = NEVER
                end_span(self._fleet, self._routing, self._arrivals, index)
                self._after(index)

        return act

    def _choose_with(self, router: Router) -> int:
        request = int(peek_arrival(self._fleet, self._arrivals))
        record = self._fleet.requests[request]
        class_index = int(record["class_index"])
        members = self._members_for(class_index, bool(record["stage"] & TRANSFERRED))
        if not len(members):
            return -1
        replicas = self._fleet.replicas
        views = [
            ReplicaView(
                index=int(index),
                outstanding=int(replicas[index]["outstanding"]),
                waiting=int(replicas[index]["waiting"]),
                kv_used=int(replicas[index]["kv_used"]),
            )
            for index in members
        ]
        view = RequestView(
            index=request,
            class_index=class_index,
            prompt_tokens=int(record["prompt_tokens"]),
            cached_tokens=int(record["cached_tokens"]),
            now_s=self._env.now * 1e-9,
        )
        chosen = router(view, views)
        if chosen not in members:
            raise ValueError(f"the router chose replica {chosen!r}; it was shown {[int(i) for i in members]}")
        return int(chosen)

    def _members_for(self, class_index: int, transferred: bool) -> NDArray[np.int64]:
        """Return the replicas that a router may choose."""
        routing = self._routing
        row = class_index
        if transferred and routing.decode_rows[class_index] >= 0:
            row = routing.decode_rows[class_index]
        members: NDArray[np.int64] = routing.members[row][: routing.counts[row]]
        return members
