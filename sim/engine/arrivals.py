"""What is still to come: arrivals, requests that are sent again or handed over, and clients that lose patience."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled, compiled_inside, compiled_where
from sim.serving.heap import heap_pop, heap_push
from sim.serving.state import HEAP_ENTRY, NEVER, FleetState

CLIENT = np.dtype(
    [
        ("first_token_ns", np.int64),  # how long a client waits for the first token, NEVER without a limit
        ("whole_ns", np.int64),  # how long it waits for the whole answer
        ("retries", np.int64),  # how often it sends a request again
        ("backoff_ns", np.int64),  # pause before the first of these
        ("backoff_growth", np.float64),  # by which each later pause is longer [1]
    ]
)
"""What the clients of a traffic class do."""

ENDPOINT = np.dtype(
    [
        ("first_token_ns", np.int64),
        ("per_token_ns", np.int64),  # between two output tokens
    ]
)
"""An external endpoint: it takes any load at a stated latency."""

OWN, DUE, TIMERS, HELD_FIRST, HELD_LAST, EMPTIED = range(6)
"""Places of `position`: the next own arrival, the sizes of both heaps, the queue of requests that no replica can take,
and whether a replica that was to drain has become empty."""

MOST_RETRIES = 100
"""Most often that a client sends a request again."""

_ATTEMPTS = 256  # two timers for each attempt, MOST_RETRIES + 1 of these


class Arrivals(NamedTuple):
    """What is still to come."""

    own: NDArray[np.int64]
    """Requests with an arrival of their own, in order, shape (m,)."""

    position: NDArray[np.int64]
    """Where things stand, see `OWN` and the others, shape (6,)."""

    due: NDArray[np.void]
    """Requests that follow others, are sent again or are on their way between pools: a heap of (instant [ns],
    request), shape (most at a time + 1,)."""

    timers: NDArray[Any]
    """When clients lose patience: a heap of (instant [ns], request and attempt), shape (most at a time + 1,); of shape
    (0,), dtype int8, when none ever does."""

    end_ns: int
    """Follow-ups that would come at this instant or later are not sent [ns]."""

    clients: NDArray[np.void]
    """What clients do, shape (classes,), dtype CLIENT."""

    patience_ns: NDArray[np.int64]
    """Patience of each request's own client, -1 for the class's, shape (n,), or (0,) when all have their class's."""

    endpoints: NDArray[np.void]
    """External endpoints, shape (e,), dtype ENDPOINT."""

    restart_ns: int
    """From the failure of a replica until its requests are sent elsewhere [ns]."""


def arrivals_of(
    requests: NDArray[np.void],
    own: NDArray[np.int64],
    end_ns: int,
    clients: NDArray[np.void] | None = None,
    patience_ns: NDArray[np.int64] | None = None,
    endpoints: NDArray[np.void] | None = None,
    *,
    resent: bool = False,
    restart_ns: int = 0,
) -> Arrivals:
    """Return the arrivals of a run.

    Parameters
    ----------
    requests : ndarray of REQUEST, shape (n,)
        All requests.
    own : ndarray of int, shape (m,)
        Those that arrive on their own and are to be sent, in order of arrival.
    end_ns : int
        End of the arrivals [ns].
    clients : ndarray of CLIENT, shape (classes,), optional
        What clients do; without it they wait for ever.
    patience_ns : ndarray of int, shape (n,), optional
        Patience of single clients [ns].
    endpoints : ndarray of ENDPOINT, shape (e,), optional
        External endpoints.
    resent : bool
        Whether replicas may fail, or hand requests over, so that any request may come again.
    restart_ns : int
        From the failure of a replica until its requests are sent elsewhere [ns].

    """
    follow_ups = int((requests["arrival_ns"] < 0).sum())
    classes = int(requests["class_index"].max(initial=0)) + 1
    if clients is None:
        clients = np.zeros(classes, CLIENT)
        clients["first_token_ns"] = clients["whole_ns"] = NEVER
    limited = (clients["first_token_ns"] < NEVER).astype(np.int64) + (clients["whole_ns"] < NEVER)
    timers = int((limited * (clients["retries"] + 1))[requests["class_index"]].sum())
    if patience_ns is not None:
        timers += int((clients["retries"] + 1)[requests["class_index"]].sum())
    resent |= bool((clients["retries"] > 0).any())
    position = np.zeros(6, np.int64)
    position[HELD_FIRST] = position[HELD_LAST] = -1
    return Arrivals(
        own=own,
        position=position,
        due=np.zeros((len(requests) if resent else follow_ups) + 1, HEAP_ENTRY),
        timers=np.zeros(timers + 1, HEAP_ENTRY) if timers else np.zeros(0, np.int8),
        end_ns=end_ns,
        clients=clients,
        patience_ns=np.zeros(0, np.int64) if patience_ns is None else patience_ns,
        endpoints=np.zeros(0, ENDPOINT) if endpoints is None else endpoints,
        restart_ns=restart_ns,
    )


@compiled
def next_arrival_ns(fleet: FleetState, arrivals: Arrivals) -> int:
    """Return when the next request arrives [ns]; NEVER when none is known to come."""
    position, due = arrivals.position[OWN], arrivals.position[DUE]
    own_ns = fleet.requests[arrivals.own[position]]["arrival_ns"] if position < len(arrivals.own) else NEVER
    return min(own_ns, arrivals.due[0]["key"]) if due > 0 else own_ns


def _never(arrivals: Arrivals) -> int:
    return NEVER


def _no_timers(fleet: FleetState, arrivals: Arrivals, request: int, sent_ns: int) -> None:
    return None


@compiled_where(0, "timers", _never)
def next_timer_ns(arrivals: Arrivals) -> int:
    """Return when the next client may lose patience [ns]; NEVER when none will."""
    return arrivals.timers[0]["key"] if arrivals.position[TIMERS] > 0 else NEVER


@compiled
def peek_arrival(fleet: FleetState, arrivals: Arrivals) -> int:
    """Return the request that arrives next; there must be one."""
    position, due = arrivals.position[OWN], arrivals.position[DUE]
    if due > 0 and arrivals.due[0]["key"] == next_arrival_ns(fleet, arrivals):
        request = arrivals.due[0]["slot"]
        if position == len(arrivals.own):
            return request
        own = arrivals.own[position]
        if fleet.requests[own]["arrival_ns"] > arrivals.due[0]["key"] or request < own:
            return request
    return arrivals.own[position]


@compiled_inside
def take_arrival(fleet: FleetState, arrivals: Arrivals) -> int:
    """Take the request that arrives next; there must be one."""
    request = peek_arrival(fleet, arrivals)
    if arrivals.position[DUE] > 0 and arrivals.due[0]["slot"] == request:
        arrivals.position[DUE] = heap_pop(arrivals.due, arrivals.position[DUE])
    else:
        arrivals.position[OWN] += 1
    return request


@compiled_inside
def send_at(arrivals: Arrivals, request: int, instant_ns: int) -> None:
    """Let a request arrive at an instant [ns] that is not before now."""
    arrivals.position[DUE] = heap_push(arrivals.due, arrivals.position[DUE], instant_ns, request)


@compiled_where(1, "timers", _no_timers)
def set_timers(fleet: FleetState, arrivals: Arrivals, request: int, sent_ns: int) -> None:
    """Let a client lose patience some time after it has sent a request, if it ever does."""
    client = arrivals.clients[fleet.requests[request]["class_index"]]
    entry = _ATTEMPTS * request + 2 * fleet.requests[request]["attempt"]
    wait_ns = client["first_token_ns"]
    if len(arrivals.patience_ns) > 0 and arrivals.patience_ns[request] >= 0:
        wait_ns = min(wait_ns, arrivals.patience_ns[request])
    if wait_ns < NEVER - sent_ns:
        arrivals.position[TIMERS] = heap_push(arrivals.timers, arrivals.position[TIMERS], sent_ns + wait_ns, entry)
    wait_ns = client["whole_ns"]
    if wait_ns < NEVER - sent_ns:
        arrivals.position[TIMERS] = heap_push(arrivals.timers, arrivals.position[TIMERS], sent_ns + wait_ns, entry + 1)


@compiled_inside
def take_timer(fleet: FleetState, arrivals: Arrivals) -> tuple[int, bool]:
    """Take the client that loses patience next.

    Returns
    -------
    tuple
        Its request, -1 when that attempt is over, and whether it has waited for the whole answer or its first token.

    """
    entry = arrivals.timers[0]["slot"]
    arrivals.position[TIMERS] = heap_pop(arrivals.timers, arrivals.position[TIMERS])
    request, attempt = entry // _ATTEMPTS, entry % _ATTEMPTS
    if fleet.requests[request]["attempt"] != attempt // 2:
        return -1, False
    return request, attempt % 2 == 1
