"""Routers: which replica a request goes to. They see queues, never the length of an answer.

A router sees the replicas of the pools that serve the request's class. Ties go to the replica that comes first in
the fleet. The randomised router receives its draws with the trace, so every engine and fleet sees the same ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled
from sim.serving.state import NEVER, FleetState

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

    set_of_class: NDArray[np.int64]
    """Which tournament a class takes part in; classes served by the same replicas share one, shape (classes,)."""

    tournaments: NDArray[np.int64]
    """Fewest outstanding requests as tournament trees over all replicas, shape (sets, 2 leaves): leaf i is replica i,
    NEVER where it is no member; an inner node is the smaller of its two children."""

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
    kind = ROUTERS[router]
    sets = list(dict.fromkeys(map(tuple, members))) if kind == LEAST_OUTSTANDING else []
    leaves = 1 << max(0, replicas - 1).bit_length()
    tournaments = np.full((len(sets), 2 * leaves), NEVER, np.int64)
    for tree, indices in zip(tournaments, sets, strict=True):
        tree[leaves + np.array(indices)] = 0
        for node in range(leaves - 1, 0, -1):
            tree[node] = min(tree[2 * node], tree[2 * node + 1])
    return RoutingState(
        kind=kind,
        members=table,
        counts=np.array([len(row) for row in members], np.int64),
        cursor=np.zeros(len(members), np.int64),
        set_of_class=np.array([sets.index(tuple(row)) for row in members] if sets else [], np.int64),
        tournaments=tournaments,
        draws=np.zeros((0, 2)) if draws is None else draws,
    )


@compiled
def update_tree(tree: NDArray[np.int64], index: int, value: int) -> None:
    """Set leaf `index` of a tournament tree and play again on the way to the root: log2 of the leaves."""
    node = index + len(tree) // 2
    if tree[node] == value:
        return
    tree[node] = value
    node >>= 1
    while node > 0:
        smaller = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == smaller:
            return
        tree[node] = smaller
        node >>= 1


@compiled
def first_winner(tree: NDArray[np.int64]) -> int:
    """Return the first leaf of a tournament tree that holds the smallest value."""
    leaves = len(tree) // 2
    node = 1
    while node < leaves:
        node = 2 * node if tree[2 * node] == tree[1] else 2 * node + 1
    return node - leaves


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
        return first_winner(routing.tournaments[routing.set_of_class[class_index]])
    first = int(routing.draws[request, 0] * count)
    second = int(routing.draws[request, 1] * (count - 1)) if count > 1 else 0
    if count > 1 and second >= first:
        second += 1
    if fleet.replicas[members[second]]["outstanding"] < fleet.replicas[members[first]]["outstanding"]:
        return members[second]
    return members[first]


@compiled
def note_replica(fleet: FleetState, routing: RoutingState, index: int) -> None:
    """Tell the router that a replica's outstanding requests may have changed."""
    if routing.kind != LEAST_OUTSTANDING:
        return
    leaves = routing.tournaments.shape[1] // 2
    for row in range(routing.tournaments.shape[0]):
        if routing.tournaments[row, leaves + index] != NEVER:
            update_tree(routing.tournaments[row], index, fleet.replicas[index]["outstanding"])
