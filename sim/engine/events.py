"""The events of a fleet: a request arrives, a span ends, a client loses patience, a replica fails. Engines say when.

At one instant impatient clients come first, then arrivals, then boundaries. Arrivals are those of the trace in order,
and what has been released since: follow-ups of completed requests, requests that clients or failures send again, and
sequences on their way to the pool that decodes them; at one instant they come in the order of the trace.
"""

from __future__ import annotations

from sim.engine.arrivals import (
    EMPTIED,
    HELD_FIRST,
    HELD_LAST,
    Arrivals,
    send_at,
    set_timers,
    take_arrival,
    take_timer,
)
from sim.serving.compilation import compiled, compiled_apart, compiled_inside, compiled_where
from sim.serving.replica import boundary, cancel, enqueue, fail
from sim.serving.routing import RoutingState, choose_replica, note_replica, note_sent
from sim.serving.state import (
    CANCELLED,
    DROPPED,
    FINISHED,
    HANDED_OVER,
    HELD,
    NOWHERE,
    PARENT_FINISHED,
    REJECTED,
    TIMED_OUT,
    UNFINISHED,
    WATCHED,
    FleetState,
)
from sim.serving.transfer import transfer_end_ns


@compiled
def arrive(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, now_ns: int, chosen: int) -> int:
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
    int
        Replica that took the request, -1 when none did.

    """
    request = take_arrival(fleet, arrivals)
    record = fleet.requests[request]
    if record["outcome"] != UNFINISHED or record["stage"] & CANCELLED:
        _end_attempt(fleet, arrivals, request, TIMED_OUT, now_ns)
        return -1
    if len(arrivals.timers) > 0 and record["stage"] & WATCHED == 0:
        set_timers(fleet, arrivals, request, now_ns)
        record["stage"] |= WATCHED
    record["stage"] &= ~HELD
    index = choose_replica(fleet, routing, request) if chosen < 0 else chosen
    if index < 0:
        _take_elsewhere(fleet, arrivals, request, index, now_ns)
        return -1
    most = fleet.pools[fleet.replicas[index]["pool"]]["max_waiting"]
    if most > 0 and fleet.replicas[index]["waiting"] >= most:
        _end_attempt(fleet, arrivals, request, REJECTED, now_ns)
        return -1
    enqueue(fleet, index, request, now_ns)
    note_sent(fleet, routing, request, index)
    return index


@compiled_apart
def _take_elsewhere(fleet: FleetState, arrivals: Arrivals, request: int, index: int, now_ns: int) -> None:
    """Let an external endpoint answer a request, or let it wait until a replica comes up."""
    record = fleet.requests[request]
    if index == NOWHERE:
        record["stage"] |= HELD
        record["next"] = -1
        record["previous"] = arrivals.position[HELD_LAST]
        if arrivals.position[HELD_LAST] < 0:
            arrivals.position[HELD_FIRST] = request
        else:
            fleet.requests[arrivals.position[HELD_LAST]]["next"] = request
        arrivals.position[HELD_LAST] = request
        return
    endpoint = arrivals.endpoints[NOWHERE - 1 - index]
    record["replica"] = index
    record["admitted_ns"] = now_ns
    record["first_token_ns"] = now_ns + endpoint["first_token_ns"]
    record["finished_ns"] = record["first_token_ns"] + (record["output_tokens"] - 1) * endpoint["per_token_ns"]
    record["outcome"] = FINISHED
    _release_follow_ups(fleet, arrivals, request)


@compiled
def release_held(fleet: FleetState, arrivals: Arrivals, now_ns: int) -> None:
    """Let everything that waits for a replica to come up arrive now [ns]."""
    request = arrivals.position[HELD_FIRST]
    arrivals.position[HELD_FIRST] = arrivals.position[HELD_LAST] = -1
    while request >= 0:
        following = fleet.requests[request]["next"]
        send_at(arrivals, request, now_ns)
        request = following


@compiled_inside
def _unhold(fleet: FleetState, arrivals: Arrivals, request: int) -> None:
    """Take a request out of those that wait for a replica to come up."""
    before, after = fleet.requests[request]["previous"], fleet.requests[request]["next"]
    if before < 0:
        arrivals.position[HELD_FIRST] = after
    else:
        fleet.requests[before]["next"] = after
    if after < 0:
        arrivals.position[HELD_LAST] = before
    else:
        fleet.requests[after]["previous"] = before


@compiled_apart
def _end_attempt(fleet: FleetState, arrivals: Arrivals, request: int, outcome: int, now_ns: int) -> None:
    """End a client's attempt; it tries again after a pause until it has used up its retries."""
    record = fleet.requests[request]
    client = arrivals.clients[record["class_index"]]
    record["outcome"] = outcome
    if record["attempt"] < client["retries"]:
        pause_ns = client["backoff_ns"] * client["backoff_growth"] ** record["attempt"]
        record["outcome"] = UNFINISHED
        record["stage"] = 0
        record["generated"] = 0
        record["replica"] = NOWHERE
        record["first_token_ns"] = -1
        record["attempt"] += 1
        record["retries"] += 1
        send_at(arrivals, request, now_ns + int(pause_ns))


def _nobody(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, now_ns: int) -> int:
    return -1


@compiled_where(2, "timers", _nobody)
def lose_patience(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, now_ns: int) -> int:
    """Let the next impatient client act; return the replica whose next boundary may have changed, -1 when none has."""
    request, whole = take_timer(fleet, arrivals)
    record = fleet.requests[request]
    if request < 0 or record["outcome"] != UNFINISHED or (not whole and record["first_token_ns"] >= 0):
        return -1
    index = record["replica"]
    if index >= 0:
        if cancel(fleet, index, request, now_ns):
            note_replica(fleet, routing, index)
            _end_attempt(fleet, arrivals, request, TIMED_OUT, now_ns)
            _notice_empty(fleet, arrivals, index)
        return index
    if record["stage"] & HELD:
        _unhold(fleet, arrivals, request)
        _end_attempt(fleet, arrivals, request, TIMED_OUT, now_ns)
    else:
        record["stage"] |= CANCELLED  # on its way; noticed when it arrives
    return -1


@compiled
def end_patience(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, now_ns: int) -> int:
    """Do what `lose_patience` does, for an engine in Python."""
    return lose_patience(fleet, routing, arrivals, now_ns)


@compiled
def end_span(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, index: int) -> None:
    """End a replica's span, start its next one, and act on the requests that leave."""
    now_ns = fleet.replicas[index]["end_ns"]
    boundary(fleet, index)
    note_replica(fleet, routing, index)
    if fleet.leaving[0] > 0:
        _let_leave(fleet, arrivals, index, now_ns)
    _notice_empty(fleet, arrivals, index)


@compiled_inside
def _notice_empty(fleet: FleetState, arrivals: Arrivals, index: int) -> None:
    """Tell control that a replica that was to drain is empty."""
    if fleet.replicas[index]["draining"] > 0 and fleet.replicas[index]["outstanding"] == 0:
        arrivals.position[EMPTIED] = 1


@compiled_apart
def _let_leave(fleet: FleetState, arrivals: Arrivals, index: int, now_ns: int) -> None:
    """Act on what the last boundary of a replica let go."""
    for place in range(1, fleet.leaving[0] + 1):
        request, reason = fleet.leaving[place] // 4, fleet.leaving[place] % 4
        if reason == PARENT_FINISHED:
            _release_follow_ups(fleet, arrivals, request)
        elif reason == HANDED_OVER:
            _hand_over(fleet, arrivals, index, request, now_ns)
        elif reason == DROPPED:
            _end_attempt(fleet, arrivals, request, TIMED_OUT, now_ns)
    fleet.leaving[0] = 0


@compiled_inside
def _release_follow_ups(fleet: FleetState, arrivals: Arrivals, request: int) -> None:
    """Place the follow-ups of a finished request.

    A follow-up that no replica could hold is rejected when it is due, and whatever follows it is never sent.
    """
    child = fleet.requests[request]["first_child"]
    while child >= 0:
        record = fleet.requests[child]
        arrival_ns = fleet.requests[request]["finished_ns"] + record["gap_ns"]
        if arrival_ns < arrivals.end_ns:
            record["arrival_ns"] = arrival_ns
            if record["outcome"] != REJECTED:
                send_at(arrivals, child, arrival_ns)
        child = record["next_sibling"]


@compiled_inside
def _hand_over(fleet: FleetState, arrivals: Arrivals, index: int, request: int, now_ns: int) -> None:
    """Send the KV of a prefilled request to the pool that decodes it.

    A replica sends one after the other, so transfers wait for those before them; the receiver is chosen when the KV
    arrives, so that its own link holds up nobody.
    """
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    record = fleet.requests[request]
    free_ns, there_ns = transfer_end_ns(
        now_ns,
        replica["link_free_ns"],
        record["prompt_tokens"],
        pool["transfer_duration"],
        pool["transfer_latency_ns"],
    )
    replica["link_free_ns"] = free_ns
    record["replica"] = NOWHERE
    send_at(arrivals, request, there_ns)


@compiled
def lose_replica(fleet: FleetState, routing: RoutingState, arrivals: Arrivals, index: int, now_ns: int) -> int:
    """Let a replica fail; its requests are sent elsewhere after `restart_ns`. Return how many they are."""
    request = fail(fleet, index, now_ns)
    note_replica(fleet, routing, index)
    count = 0
    while request >= 0:
        record = fleet.requests[request]
        following = record["next"]
        record["retries"] += 1
        send_at(arrivals, request, now_ns + arrivals.restart_ns)
        request = following
        count += 1
    return count
