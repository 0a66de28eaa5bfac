"""The compiled engine: the same replica functions under a compiled event loop, for the built-in routers.

Events come in the order of the SimPy engine: by time, arrivals before boundaries, boundaries in the order of the
fleet. `advance` stops before any instant that the caller names, which is the seam for control events.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.engine.events import Arrivals, arrive, end_span, next_arrival_ns
from sim.serving.compilation import compiled
from sim.serving.replica import close
from sim.serving.routing import RoutingState, first_winner, update_tree
from sim.serving.state import NEVER, FleetState


class CompiledEngine:
    """One simulation: holds what is still to arrive and a tournament tree over the replicas' next boundaries."""

    def __init__(self, fleet: FleetState, routing: RoutingState, arrivals: Arrivals) -> None:
        self._fleet = fleet
        self._routing = routing
        self._arrivals = arrivals
        leaves = 1 << max(0, len(fleet.replicas) - 1).bit_length()
        self._tree = np.full(2 * leaves, NEVER, np.int64)
        self.events = 0
        """Arrivals and step boundaries processed so far."""

    def advance(self, until_ns: int) -> None:
        """Process every event before an instant [ns]."""
        self.events += _advance(self._fleet, self._routing, self._arrivals, self._tree, until_ns)

    def close(self, now_ns: int) -> None:
        """Account for what is still running when the simulation stops [ns]."""
        for index in range(len(self._fleet.replicas)):
            close(self._fleet, index, now_ns)


@compiled
def _advance(
    fleet: FleetState, routing: RoutingState, arrivals: Arrivals, tree: NDArray[np.int64], until_ns: int
) -> int:
    """Process events before `until_ns`; return the number of events.

    Leaf i of the tournament tree holds the next boundary of replica i, so its root is that of the fleet.
    """
    events = 0
    arrival_ns = next_arrival_ns(fleet, arrivals)
    while True:
        boundary_ns = tree[1]
        if min(arrival_ns, boundary_ns) >= until_ns:
            return events
        if arrival_ns <= boundary_ns:
            index, due_ns, arrival_ns = arrive(fleet, routing, arrivals, arrival_ns, -1)
        else:
            index = first_winner(tree)
            due_ns, arrival_ns = end_span(fleet, routing, arrivals, index)
        events += 1
        update_tree(tree, index, due_ns)
