"""The SimPy engine: the reference, and where a user's own Python router runs.

Time is an integer number of nanoseconds. At one instant arrivals come first, in the order of the trace, then step
boundaries in the order of the fleet; SimPy's event priority carries this rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import simpy
from simpy.events import Event

from sim.engine.events import Arrivals, arrive, end_span, next_arrival_ns, peek_arrival
from sim.serving.replica import close
from sim.serving.routing import RoutingState
from sim.serving.state import NEVER, FleetState

_ARRIVALS = 0
_FIRST_BOUNDARY = 1


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
        self._due = [NEVER] * len(fleet.replicas)
        self._arrival_due = NEVER
        self._boundaries = [self._boundary_action(index) for index in range(len(fleet.replicas))]
        self.events = 0
        """Arrivals and step boundaries processed so far."""
        self._schedule_arrival(next_arrival_ns(fleet, arrivals))

    def advance(self, until_ns: int) -> None:
        """Process every event before an instant [ns]."""
        if until_ns > self._env.now:
            self._env.run(until=until_ns)

    def close(self, now_ns: int) -> None:
        """Account for what is still running when the simulation stops [ns]."""
        for index in range(len(self._fleet.replicas)):
            close(self._fleet, index, now_ns)

    def _schedule_arrival(self, due_ns: int) -> None:
        """Schedule the next arrival; one scheduled earlier for another time finds itself out of date."""
        if due_ns != self._arrival_due:
            self._arrival_due = due_ns
            if due_ns != NEVER:
                _Instant(self._env, due_ns - int(self._env.now), _ARRIVALS, self._arrive)

    def _arrive(self, _: Event) -> None:
        now_ns = int(self._env.now)
        if self._arrival_due != now_ns:
            return
        next_ns = now_ns
        while next_ns == now_ns:
            chosen = -1 if self._router is None else self._choose_with(self._router)
            index, due_ns, next_ns = arrive(self._fleet, self._routing, self._arrivals, now_ns, chosen)
            self._schedule_boundary(index, due_ns)
            self.events += 1
        self._arrival_due = NEVER
        self._schedule_arrival(next_ns)

    def _choose_with(self, router: Router) -> int:
        request = int(peek_arrival(self._fleet, self._arrivals))
        record = self._fleet.requests[request]
        class_index = int(record["class_index"])
        members = self._routing.members[class_index][: self._routing.counts[class_index]]
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

    def _schedule_boundary(self, index: int, due_ns: int) -> None:
        """Schedule a replica's boundary; one scheduled earlier for another time finds itself out of date."""
        if due_ns != self._due[index]:
            self._due[index] = due_ns
            if due_ns != NEVER:
                delay = due_ns - int(self._env.now)
                _Instant(self._env, delay, _FIRST_BOUNDARY + index, self._boundaries[index])

    def _boundary_action(self, index: int) -> Callable[[Event], None]:
        def act(_: Event) -> None:
            if self._due[index] == self._env.now:
                self._due[index] = NEVER
                self.events += 1
                due_ns, arrival_ns = end_span(self._fleet, self._routing, self._arrivals, index)
                self._schedule_boundary(index, due_ns)
                self._schedule_arrival(arrival_ns)

        return act
