"""Routers: which replica a request goes to. They see queues, never the length of an answer.

A router sees the replicas of the pools that serve the request's class and that are up. Where too many wait at the one
it chooses, its pool may send the request on, to another pool or out of the fleet. Ties go to the replica that comes
first in the fleet. The randomised router receives its draws with the trace, so every engine and fleet sees the same.

What a router knows of a replica is either its present state or, with a signal interval, the state at the last refresh
and what it has itself sent there since.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled, compiled_inside, compiled_where
from sim.serving.state import NEVER, NOWHERE, TRANSFERRED, FleetState

ROUND_ROBIN, LEAST_OUTSTANDING, POWER_OF_TWO, LEAST_KV, PREFIX_AFFINITY = 0, 1, 2, 3, 4
"""Codes of the built-in routers."""

ROUTERS = {
    "round_robin": ROUND_ROBIN,
    "least_outstanding": LEAST_OUTSTANDING,
    "power_of_two": POWER_OF_TWO,
    "least_kv": LEAST_KV,
    "prefix_affinity": PREFIX_AFFINITY,
}
"""Name in a scenario -> code."""

_COMPARING = (LEAST_OUTSTANDING, LEAST_KV, PREFIX_AFFINITY)


class RoutingState(NamedTuple):
    """What a built-in router remembers.

    A row is a set of replicas among which it chooses: first one for each class, then those of pools that take what
    others send on.
    """

    kind: int
    """Code of the router."""

    decode_rows: NDArray[np.int64]
    """Row to which prefilled requests of each class go, -1 where their own replica decodes, shape (classes,)."""

    candidates: NDArray[np.int64]
    """Replicas of each row whether up or not, padded with -1, shape (rows, R)."""

    members: NDArray[np.int64]
    """Replicas of each row that are up, padded with -1, shape (rows, R)."""

    counts: NDArray[np.int64]
    """How many replicas of each row are up, shape (rows,)."""

    cursor: NDArray[np.int64]
    """Next turn of each row in round robin, shape (rows,)."""

    tree_of_row: NDArray[np.int64]
    """Which tournament a row takes part in; rows of the same replicas share one, shape (rows,)."""

    tournaments: NDArray[np.int64]
    """Smallest load as tournament trees over all replicas, shape (trees, 2 leaves): leaf i is replica i, NEVER where
    it is no member or not up; an inner node is the smaller of its two children."""

    up: NDArray[np.int64]
    """1 for replicas that take requests, shape (R,)."""

    seen: NDArray[np.int64]
    """Load of each replica as the router knows it, shape (R,)."""

    signal: NDArray[np.int64]
    """Interval between two looks at the replicas, 0 for always, and the next look [ns], shape (2,)."""

    draws: NDArray[np.float64]
    """Two uniform draws in [0, 1) per request for power of two choices, shape (n, 2); (0, 2) when unused."""

    session_homes: NDArray[np.int32]
    """Replica that served each session last, -1 at first, shape (sessions,)."""

    group_homes: NDArray[np.int32]
    """The same for each shared text, shape (groups,)."""

    load_guard: int
    """How many more requests than the least loaded replica a home may have."""


def routing_state(
    router: str,
    members: list[list[int]],
    replicas: int,
    draws: NDArray[np.float64] | None = None,
    *,
    decode_rows: NDArray[np.int64] | None = None,
    signal_interval_ns: int = 0,
    prefixes: NDArray[np.void] | None = None,
    load_guard: int = 0,
) -> RoutingState:
    """Return the state of a built-in router at time 0, all replicas up.

    Parameters
    ----------
    router : str
        A key of `ROUTERS`.
    members : list of list of int
        Replicas of each row: those of the classes first.
    replicas : int
        Replicas in the fleet.
    draws : ndarray of float, shape (n, 2), optional
        Uniform draws, needed by power of two choices.
    decode_rows : ndarray of int, shape (classes,), optional
        Row to which prefilled requests of each class go; without it they decode where they are.
    signal_interval_ns : int
        Age that the router's picture of the replicas may reach [ns].
    prefixes : ndarray of PREFIX, shape (n,), optional
        Sessions and shared texts of the requests, needed by prefix affinity.
    load_guard : int
        How many more requests than the least loaded replica the home of a prefix may have.

    """
    table = np.full((len(members), replicas), -1, np.int64)
    for row, replicas_of_row in zip(table, members, strict=True):
        row[: len(replicas_of_row)] = replicas_of_row
    kind = ROUTERS[router]
    sets = list(dict.fromkeys(map(tuple, members))) if kind in _COMPARING else []
    leaves = 1 << max(0, replicas - 1).bit_length()
    known = kind == PREFIX_AFFINITY and prefixes is not None and len(prefixes) > 0
    state = RoutingState(
        kind=kind,
        decode_rows=np.full(len(members), -1, np.int64) if decode_rows is None else decode_rows,
        candidates=table,
        members=table.copy(),
        counts=np.array([len(row) for row in members], np.int64),
        cursor=np.zeros(len(members), np.int64),
        tree_of_row=np.array([sets.index(tuple(row)) for row in members] if sets else [], np.int64),
        tournaments=np.full((len(sets), 2 * leaves), NEVER, np.int64),
        up=np.ones(replicas, np.int64),
        seen=np.zeros(replicas, np.int64),
        signal=np.array([signal_interval_ns, signal_interval_ns or NEVER], np.int64),
        draws=np.zeros((0, 2)) if draws is None else draws,
        session_homes=np.full(_numbers(prefixes, "session") if known else 0, -1, np.int32),
        group_homes=np.full(_numbers(prefixes, "group") if known else 0, -1, np.int32),
        load_guard=load_guard,
    )
    put_up(state)
    return state


def _numbers(prefixes: NDArray[np.void] | None, column: str) -> int:
    return 0 if prefixes is None else int(prefixes[column].max(initial=-1)) + 1


def put_up(routing: RoutingState) -> None:
    """Let the router choose among the replicas that `routing.up` says are up, and no others."""
    for row in range(len(routing.counts)):
        candidates = routing.candidates[row][routing.candidates[row] >= 0]
        up = candidates[routing.up[candidates] > 0]
        routing.members[row] = -1
        routing.members[row, : len(up)] = up
        routing.counts[row] = len(up)
        routing.cursor[row] = routing.cursor[row] % len(up) if len(up) else 0
        if len(routing.tree_of_row):
            tree = routing.tournaments[routing.tree_of_row[row]]
            leaves = len(tree) // 2
            tree[leaves:] = NEVER
            tree[leaves + up] = routing.seen[up]
            for node in range(leaves - 1, 0, -1):
                tree[node] = min(tree[2 * node], tree[2 * node + 1])


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
    """Return the replica for a request; NOWHERE when none is up, NOWHERE - 1 - e for external endpoint e."""
    row = fleet.requests[request]["class_index"]
    if fleet.requests[request]["stage"] & TRANSFERRED and routing.decode_rows[row] >= 0:
        row = routing.decode_rows[row]
    chosen = NOWHERE
    while row >= 0 and routing.counts[row] > 0:
        chosen = _choose_in_row(fleet, routing, request, row)
        replica = fleet.replicas[chosen]
        pool = fleet.pools[replica["pool"]]
        if pool["spill_at"] == 0 or replica["waiting"] < pool["spill_at"]:
            return chosen
        if pool["spill_endpoint"] >= 0:
            return NOWHERE - 1 - pool["spill_endpoint"]
        row = pool["spill_row"]
    return chosen


@compiled_inside
def _choose_in_row(fleet: FleetState, routing: RoutingState, request: int, row: int) -> int:
    """Return the replica of a row, which must have one, for a request."""
    members = routing.members[row]
    count = routing.counts[row]
    if routing.kind == ROUND_ROBIN:
        turn = routing.cursor[row]
        routing.cursor[row] = (turn + 1) % count
        return members[turn]
    if routing.kind == POWER_OF_TWO:
        first = int(routing.draws[request, 0] * count)
        second = int(routing.draws[request, 1] * (count - 1)) if count > 1 else 0
        if count > 1 and second >= first:
            second += 1
        if routing.seen[members[second]] < routing.seen[members[first]]:
            return members[second]
        return members[first]
    tree = routing.tournaments[routing.tree_of_row[row]]
    if routing.kind == PREFIX_AFFINITY:
        home = _home(fleet, routing, request)
        if home >= 0 and tree[len(tree) // 2 + home] <= tree[1] + routing.load_guard:
            return home
    return first_winner(tree)


def _no_home(fleet: FleetState, routing: RoutingState, request: int) -> int:
    return -1


@compiled_where(0, "prefixes", _no_home)
def _home(fleet: FleetState, routing: RoutingState, request: int) -> int:
    """Return the replica that last served a request's session, or else its shared text; -1 when none did."""
    prefix = fleet.prefixes[request]
    if prefix["session"] >= 0 and routing.session_homes[prefix["session"]] >= 0:
        return routing.session_homes[prefix["session"]]
    return routing.group_homes[prefix["group"]] if prefix["group"] >= 0 else -1


def _nowhere_at_home(fleet: FleetState, routing: RoutingState, request: int, index: int) -> None:
    return None


@compiled_where(0, "prefixes", _nowhere_at_home)
def _make_home(fleet: FleetState, routing: RoutingState, request: int, index: int) -> None:
    """Remember which replica serves a request's session and shared text."""
    prefix = fleet.prefixes[request]
    if prefix["session"] >= 0:
        routing.session_homes[prefix["session"]] = index
    if prefix["group"] >= 0:
        routing.group_homes[prefix["group"]] = index


@compiled_inside
def note_sent(fleet: FleetState, routing: RoutingState, request: int, index: int) -> None:
    """Tell the router that a request has gone to a replica."""
    if routing.kind == PREFIX_AFFINITY:
        _make_home(fleet, routing, request, index)
    if routing.signal[0] > 0:
        _see(routing, index, routing.seen[index] + _weight(fleet, routing, request))
    else:
        note_replica(fleet, routing, index)


@compiled_inside
def _weight(fleet: FleetState, routing: RoutingState, request: int) -> int:
    """Return by how much a request loads the replica it goes to."""
    return fleet.requests[request]["prompt_tokens"] if routing.kind == LEAST_KV else 1


@compiled
def note_replica(fleet: FleetState, routing: RoutingState, index: int) -> None:
    """Tell the router that a replica's load may have changed; one that looks at intervals does not notice yet."""
    if routing.signal[0] == 0 and routing.kind != ROUND_ROBIN:
        _see(routing, index, _load(fleet, routing, index))


@compiled
def refresh(fleet: FleetState, routing: RoutingState) -> None:
    """Let the router look at all replicas, and say when it looks again."""
    for index in range(len(fleet.replicas)):
        _see(routing, index, _load(fleet, routing, index))
    routing.signal[1] += routing.signal[0]


@compiled_inside
def _load(fleet: FleetState, routing: RoutingState, index: int) -> int:
    """Return the load of a replica: requests sent there and not finished, or their KV as of its last boundary [tokens].

    That is what engines report of their memory, and it makes `least_kv` the one router that steps and spans, which
    have fewer boundaries, may lead to different replicas.
    """
    replica = fleet.replicas[index]
    if routing.kind == LEAST_KV:
        return replica["kv_used"] + replica["waiting_tokens"]
    return replica["outstanding"]


@compiled_inside
def _see(routing: RoutingState, index: int, load: int) -> None:
    """Write down the load of a replica."""
    routing.seen[index] = load
    leaves = routing.tournaments.shape[1] // 2
    for tree in range(routing.tournaments.shape[0]):
        if routing.tournaments[tree, leaves + index] != NEVER:
            update_tree(routing.tournaments[tree], index, load)
