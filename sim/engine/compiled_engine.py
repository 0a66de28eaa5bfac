"""The compiled engine: the same replica functions under a compiled event loop, for the built-in routers.

Events come in the order of the SimPy engine: by time; at one instant the router's look at the replicas, impatient
clients, arrivals, then boundaries in the order of the fleet. `advance` stops before any instant that the caller names,
which is the seam for control: scaling, failures, power.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.engine.arrivals import EMPTIED, Arrivals, next_arrival_ns, next_timer_ns
from sim.engine.events import arrive, end_span, lose_patience
from sim.serving.compilation import compiled
from sim.serving.replica import close
from sim.serving.routing import RoutingState, first_winner, refresh, update_tree
from sim.serving.state import NEVER, FleetState


class CompiledEngine:
    """One simulation: holds what is still to come and a tournament tree over the replicas' next boundaries."""

    def __init__(self, fleet: FleetState, routing: RoutingState, arrivals: Arrivals) -> None:
        self._fleet = fleet
        self._routing = routing
        self._arrivals = arrivals
        leaves = 1 << max(0, len(fleet.replicas) - 1).bit_length()
        self._tree = np.full(2 * leaves, NEVER, np.int64)
        self.events = 0
        """Arrivals, step boundaries and impatient clients processed so far."""

    def advance(self, until_ns: int) -> int:
        """Process every event before an instant [ns], or until a draining replica is empty; return when that is [ns].

        In the second case events of the same instant may still be to come.
        """
        events, reached_ns = advance_until(self._fleet, self._routing, self._arrivals, self._tree, until_ns)
        self.events += events
        return int(reached_ns)

    def notice(self, index: int) -> None:
        """Take note that control has changed a replica."""
        update_tree(self._tree, index, self._fleet.replicas[index]["end_ns"])

    def close(self, now_ns: int) -> None:
        """Account for what is still running when the simulation stops [ns]."""
        for index in range(len(self._fleet.replicas)):
            close(self._fleet, index, now_ns)


@compiled
def advance_until(
    fleet: FleetState, routing: RoutingState, arrivals: Arrivals, tree: NDArray[np.int64], until_ns: int
) -> tuple[int, int]:
    """Process events before `until_ns`; return their number and the instant reached [ns].

    Leaf i of the tournament tree holds the next boundary of replica i, so its root is that of the fleet.
    """
    events = 0
    arrivals.position[EMPTIED] = 0
    while True:
        arrival_ns = next_arrival_ns(fleet, arrivals)
        boundary_ns = tree[1]
        timer_ns = next_timer_ns(arrivals)
        now_ns = min(arrival_ns, boundary_ns, timer_ns)
        if routing.signal[1] <= now_ns and routing.signal[1] < until_ns:
            refresh(fleet, routing)
            continue
        if now_ns >= until_ns:
            return events, until_ns
        if timer_ns == now_ns:
            index = lose_patience(fleet, routing, arrivals, now_ns)
        elif arrival_ns == now_ns:
            index = arrive(fleet, routing, arrivals, now_ns, -1)
        else:
            index = first_winner(tree)
            end_span(fleet, routing, arrivals, index)
        events += 1
        if index >= 0:
            update_tree(tree, index, fleet.replicas[index]["end_ns"])
        if arrivals.position[EMPTIED] > 0:
            return events, now_ns
