"""The compiled engine: the same replica functions under a compiled event loop, for the built-in routers.

Events come in the order of the SimPy engine: by time, arrivals before boundaries, boundaries in the order of the
fleet. `advance` stops before any instant that the caller names, which is the seam for control events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled
from sim.serving.replica import close
from sim.serving.routing import RoutingState, choose_replica, end_span, first_winner, send, update_tree
from sim.serving.state import NEVER, FleetState


class CompiledEngine:
    """One simulation: holds the position in the trace and a tournament tree over the replicas' next boundaries."""

    def __init__(self, fleet: FleetState, routing: RoutingState) -> None:
        self._fleet = fleet
        self._routing = routing
        leaves = 1 << max(0, len(fleet.replicas) - 1).bit_length()
        self._tree = np.full(2 * leaves, NEVER, np.int64)
        self._next_request = 0
        self.events = 0
        """Arrivals and step boundaries processed so far."""

    def advance(self, until_ns: int) -> None:
        """Process every event before an instant [ns]."""
        self._next_request, events = _advance(self._fleet, self._routing, self._tree, self._next_request, until_ns)
        self.events += events

    def close(self, now_ns: int) -> None:
        """Account for what is still running when the simulation stops [ns]."""
        for index in range(len(self._fleet.replicas)):
            close(self._fleet, index, now_ns)


@compiled
def _advance(
    fleet: FleetState, routing: RoutingState, tree: NDArray[np.int64], request: int, until_ns: int
) -> tuple[int, int]:
    """Process events before `until_ns`; return the next request and the number of events.

    Leaf i of the tournament tree holds the next boundary of replica i, so its root is that of the fleet.
    """
    count = len(fleet.requests)
    events = 0
    arrival_ns = fleet.requests[request]["arrival_ns"] if request < count else NEVER
    while True:
        boundary_ns = tree[1]
        if arrival_ns <= boundary_ns:
            if arrival_ns >= until_ns:
                return request, events
            index = choose_replica(fleet, routing, request)
            due_ns = send(fleet, routing, index, request, arrival_ns)
            request += 1
            arrival_ns = fleet.requests[request]["arrival_ns"] if request < count else NEVER
        else:
            if boundary_ns >= until_ns:
                return request, events
            index = first_winner(tree)
            due_ns = end_span(fleet, routing, index)
        events += 1
        update_tree(tree, index, due_ns)
