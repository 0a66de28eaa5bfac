"""The two events of a fleet: a request arrives, and a replica's span ends. Engines only say when.

Arrivals are those of the trace in order, and follow-ups as completions release them; at one instant they come in the
order of the trace, whichever of the two they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled, compiled_apart
from sim.serving.heap import heap_pop, heap_push
from sim.serving.replica import boundary, enqueue
from sim.serving.routing import RoutingState, choose_replica, note_replica
from sim.serving.state import HEAP_ENTRY, NEVER, REJECTED, FleetState


class Arrivals(NamedTuple):
    """What is still to arrive."""

    own: NDArray[np.int64]
    """Requests with an arrival of their own, in order, shape (m,)."""

    position: NDArray[np.int64]
    """Next of these, and the number of follow-ups that are due, shape (2,)."""

    due: NDArray[np.void]
    """Follow-ups that have been released: a heap of (arrival [ns], request), shape (follow-ups + 1,)."""

    end_ns: int
    """Follow-ups that would come at this instant or later are not sent [ns]."""


def arrivals_of(requests: NDArray[np.void], own: NDArray[np.int64], end_ns: int) -> Arrivals:
    """Return the arrivals of a run.

    Parameters
    ----------
    requests : ndarray of REQUEST, shape (n,)
        All requests.
    own : ndarray of int, shape (m,)
        Those that arrive on their own and are to be sent, in order of arrival.
    end_ns : int
        End of the arrivals [ns].

    """
    follow_ups = int((requests["arrival_ns"] < 0).sum())
    return Arrivals(own, np.zeros(2, np.int64), np.zeros(follow_ups + 1, HEAP_ENTRY), end_ns)


@compiled
def next_arrival_ns(fleet: FleetState, arrivals: Arrivals) -> int:
    """Return when the next request arrives [ns]; NEVER when none is known to come."""
    position, due = arrivals.position[0], arrivals.position[1]
    own_ns = fleet.requests[arrivals.own[position]]["arrival_ns"] if position < len(arrivals.own) else NEVER
    return min(own_ns, arrivals.due[0]["key"]) if due > 0 else own_ns


@compiled_apart
def _release_follow_ups(fleet: FleetState, arrivals: Arrivals) -> None:
    """Place the follow-ups of the requests that the last boundary finished.

    A follow-up that no replica could hold is rejected when it is due, and whatever follows it is never sent.
    """
    for place in range(1, fleet.completed[0] + 1):
        parent = fleet.requests[fleet.completed[place]]
        child = parent["first_child"]
        while child >= 0:
            request = fleet.requests[child]
            arrival_ns = parent["finished_ns"] + request["gap_ns"]
            if arrival_ns < arrivals.end_ns:
                request["arrival_ns"] = arrival_ns
                if request["outcome"] != REJECTED:
                    arrivals.position[1] = heap_push(arrivals.due, arrivals.position[1], arrival_ns, child)
            child = request["next_sibling"]
    fleet.completed[0] = 0


@compiled
def arrive(
    fleet: FleetState, routing: RoutingState, arrivals: Arrivals, now_ns: int, chosen: int
) -> tuple[int, int, int]:
    """Let the next request arrive.

    Parameters
    ----------
    fleet, routing, arrivals
        The running fleet; a request must be due now.
    now_ns : int
        Time [ns].
    chosen : int
        Replica that a router outside has chosen; -1 lets the built-in router choose.

    Returns
    -------
    tuple of int
        Replica that took the request, its next boundary [ns], and the next arrival [ns].

    """
    request = peek_arrival(fleet, arrivals)
    if arrivals.position[1] > 0 and arrivals.due[0]["slot"] == request:
        arrivals.position[1] = heap_pop(arrivals.due, arrivals.position[1])
    else:
        arrivals.position[0] += 1
    index = choose_replica(fleet, routing, request) if chosen < 0 else chosen
    due_ns = enqueue(fleet, index, request, now_ns)
    note_replica(fleet, routing, index)
    return index, due_ns, next_arrival_ns(fleet, arrivals)


@compiled
def end_span(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, index: int) -> tuple[int, int]:
    """End a replica's span, start its next one, and release follow-ups.

    Returns
    -------
    tuple of int
        The replica's next boundary [ns], NEVER if idle, and the next arrival [ns].

    """
    due_ns = boundary(fleet, index)
    note_replica(fleet, routing, index)
    if fleet.completed[0] > 0:
        _release_follow_ups(fleet, arrivals)
    return due_ns, next_arrival_ns(fleet, arrivals)


@compiled
def peek_arrival(fleet: FleetState, arrivals: Arrivals) -> int:
    """Return the request that arrives next; there must be one."""
    position, due = arrivals.position[0], arrivals.position[1]
    if due > 0 and arrivals.due[0]["key"] == next_arrival_ns(fleet, arrivals):
        request = arrivals.due[0]["slot"]
        if position == len(arrivals.own):
            return request
        own = arrivals.own[position]
        if fleet.requests[own]["arrival_ns"] > arrivals.due[0]["key"] or request < own:
            return request
    return arrivals.own[position]
