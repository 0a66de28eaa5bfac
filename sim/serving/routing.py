"""Routers: which replica a request goes to. They see queues, never the length of an answer.

A router sees the replicas of the pools that serve the request's class. Ties go to the replica that comes first in
the fleet. The randomised router receives its draws with the trace, so every engine and fleet sees the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled
from sim.serving.state import FleetState

ROUND_ROBIN, LEAST_OUTSTANDING, POWER_OF_TWO = 0, 1, 2
"""Codes of the built-in routers."""

ROUTERS = {"round_robin": ROUND_ROBIN, "least_outstanding": LEAST_OUTSTANDING, "power_of_two": POWER_OF_TWO}
"""Name in a scenario -> code."""


class RoutingState(NamedTuple):
    """What a built-in router remembers."""

    kind: int
    """Code of the router."""

    members: NDArray[np.int64]
    """Replicas that serve each class, padded with -1, shape (classes, R)."""

    counts: NDArray[np.int64]
    """How many replicas serve each class, shape (classes,)."""

    cursor: NDArray[np.int64]
    """Next turn of each class in round robin, shape (classes,)."""

    draws: NDArray[np.float64]
    """Two uniform draws in [0, 1) per request for power of two choices, shape (n, 2); (0, 2) when unused."""


def routing_state(
    router: str, members: list[list[int]], replicas: int, draws: NDArray[np.float64] | None = None
) -> RoutingState:
    """Return the state of a built-in router at time 0.

    Parameters
    ----------
    router : str
        A key of `ROUTERS`.
    members : list of list of int
        Replicas that serve each class.
    replicas : int
        Replicas in the fleet.
    draws : ndarray of float, shape (n, 2), optional
        Uniform draws, needed by power of two choices.

    """
    table = np.full((len(members), replicas), -1, np.int64)
    for row, replicas_of_class in zip(table, members, strict=True):
        row[: len(replicas_of_class)] = replicas_of_class
    return RoutingState(
        kind=ROUTERS[router],
        members=table,
        counts=np.array([len(row) for row in members], np.int64),
        cursor=np.zeros(len(members), np.int64),
        draws=np.zeros((0, 2)) if draws is None else draws,
    )


@compiled
def choose_replica(fleet: FleetState, routing: RoutingState, request: int) -> int:
    """Return the replica for a request."""
    class_index = fleet.requests[request]["class_index"]
    members = routing.members[class_index]
    count = routing.counts[class_index]
    if routing.kind == ROUND_ROBIN:
        turn = routing.cursor[class_index]
        routing.cursor[class_index] = (turn + 1) % count
        return members[turn]
    if routing.kind == LEAST_OUTSTANDING:
        best = members[0]
        for position in range(1, count):
            candidate = members[position]
            if fleet.replicas[candidate]["outstanding"] < fleet.replicas[best]["outstanding"]:
                best = candidate
        return best
    first = int(routing.draws[request, 0] * count)
    second = int(routing.draws[request, 1] * (count - 1)) if count > 1 else 0
    if count > 1 and second >= first:
        second += 1
    if fleet.replicas[members[second]]["outstanding"] < fleet.replicas[members[first]]["outstanding"]:
        return members[second]
    return members[first]
