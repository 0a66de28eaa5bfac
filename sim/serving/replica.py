"""A replica as a pure state machine: what it runs next, and when that ends.

Continuous batching as vLLM and SGLang do it: every decoding sequence gains one token per step; what is left of the
step's token budget prefills admitted prompts in chunks; waiting requests are admitted by priority, then first come
first served, while slots and KV memory last; when KV runs out, or a request of higher priority finds no room, the
newest sequence of the lowest priority is preempted and later recomputed.

Between changes of the batch, k steps are one span: step j of a span lasts `first + j * growth`, an exact integer in
units of 2**-20 ns, so cutting a span anywhere changes nothing. Order of events: at one instant, arrivals come before
step boundaries, so a boundary sees every request that has arrived by then.

Two functions are the interface: `enqueue` when a request arrives and `boundary` when a span ends; both return the
time of the replica's next boundary. They know nothing about engines, files or randomness.
"""

from __future__ import annotations

import numpy as np

from sim.serving.batch import plan_step
from sim.serving.compilation import compiled, compiled_apart, compiled_inside
from sim.serving.heap import heap_pop
from sim.serving.prefix_cache import lose_all, share_group, trim
from sim.serving.queueing import first_level, push_back, remove_waiting
from sim.serving.sequences import (
    advance_decode,
    enter_decode,
    finish_sequence,
    give_up,
    hand_over,
    leave,
    leave_decode,
    note_first_token,
    occupied,
    swapped_tokens,
)
from sim.serving.span import FRACTION_MASK, end_of_span_ns, span_duration, steps_before
from sim.serving.state import (
    CANCELLED,
    DROPPED,
    FINISH,
    NEVER,
    NOWHERE,
    PREFILL_ONLY,
    RUNNING,
    SWAPPED,
    TIMED_OUT,
    WATCHED,
    FleetState,
)
from sim.serving.timeline import account_span, account_waiting, interval_of


@compiled
def enqueue(fleet: FleetState, index: int, request: int, now_ns: int) -> int:
    """Put a request into a replica's queue; return the replica's next boundary [ns].

    A running span is cut at the first boundary at or after now if the request could join the batch there; an idle
    replica gets a boundary now, which is processed after all arrivals of this instant.
    """
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    fleet.requests[request]["replica"] = index
    fleet.timeline[replica["pool"], interval_of(fleet, now_ns)]["arrivals"] += 1
    level = fleet.requests[request]["priority"]
    push_back(fleet, index, request, now_ns)
    replica["outstanding"] += 1
    if replica["end_ns"] == NEVER:
        replica["clock_ns"] = now_ns
        replica["remainder"] = 0
        replica["span_steps"] = 0
        replica["end_ns"] = now_ns
    elif (
        replica["span_steps"] > 1
        and (replica["free_slots"] > 0 or fleet.queues.shape[1] > 1)
        and pool["step_token_budget"] > replica["decoding"]
        and fleet.queues[index, level]["head"] == request
        and first_level(fleet, index) == level
    ):
        _cut_span(replica, now_ns)
    return replica["end_ns"]


@compiled
def replan(fleet: FleetState, index: int, now_ns: int) -> None:
    """Let what has changed about a replica hold from its next step on: cut a running span at an instant [ns]."""
    if fleet.replicas[index]["span_steps"] > 1:
        _cut_span(fleet.replicas[index], now_ns)


@compiled_inside
def _cut_span(replica: np.void, now_ns: int) -> None:
    """End the running span at the first step boundary at or after an instant."""
    before = steps_before(replica, now_ns)
    if before + 1 < replica["span_steps"]:
        replica["span_steps"] = before + 1
        replica["end_ns"] = end_of_span_ns(replica)


@compiled
def boundary(fleet: FleetState, index: int) -> int:
    """End the running span of a replica and start the next one; return when that ends [ns], NEVER if idle.

    Requests that leave and concern others are put into `fleet.leaving`, for the engine to act on.
    """
    replica = fleet.replicas[index]
    fleet.leaving[0] = 0
    if replica["span_steps"] > 0:
        _complete_span(fleet, index, replica)
        if replica["cancelling"] > 0:
            _drop_cancelled(fleet, index, replica)
        trim(fleet, index, replica["kv_used"])
    plan_step(fleet, index, replica)
    return replica["end_ns"]


@compiled
def cancel(fleet: FleetState, index: int, request: int, now_ns: int) -> bool:
    """Take away a request whose client has given up.

    A waiting one is gone at once; a running one leaves at its next step boundary, unless it finishes there, and is
    then in `fleet.leaving`.

    Returns
    -------
    bool
        Whether it is gone already. The replica's next boundary may have changed.

    """
    replica = fleet.replicas[index]
    if fleet.requests[request]["previous"] == RUNNING:
        if fleet.requests[request]["stage"] & CANCELLED == 0:
            fleet.requests[request]["stage"] |= CANCELLED
            replica["cancelling"] += 1
            _cut_span(replica, now_ns)
        return False
    remove_waiting(fleet, index, request, now_ns)
    replica["outstanding"] -= 1
    if fleet.requests[request]["stage"] & SWAPPED:
        replica["swapped_tokens"] -= swapped_tokens(fleet.requests[request])
    fleet.requests[request]["outcome"] = TIMED_OUT
    if replica["span_steps"] > 1:
        _cut_span(replica, now_ns)  # who stood behind it may now be first, and fit
    return True


@compiled_apart
def _drop_cancelled(fleet: FleetState, index: int, replica: np.void) -> None:
    """Drop the running requests whose clients have given up."""
    for slot in range(fleet.pools[replica["pool"]]["max_sequences"]):
        number = fleet.slots[index, slot]["request"]
        if occupied(fleet, index, slot) and fleet.requests[number]["stage"] & CANCELLED:
            give_up(fleet, index, replica, slot)
            fleet.requests[number]["outcome"] = TIMED_OUT
            if fleet.requests[number]["first_token_ns"] == replica["clock_ns"]:
                fleet.requests[number]["first_token_ns"] = -1  # it came when nobody waited for it any more
            replica["outstanding"] -= 1
            leave(fleet, number, DROPPED)
    replica["cancelling"] = 0


@compiled
def fail(fleet: FleetState, index: int, now_ns: int) -> int:
    """Lose a replica in the middle of whatever it does, and all KV with it.

    Steps that had ended count in the timeline.

    Returns
    -------
    int
        The first of the requests that were here, all linked by `next`; -1 when there was none.

    """
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    if replica["span_steps"] > 0:
        account_span(fleet, replica, now_ns)
        replica["busy_ns"] += now_ns - replica["clock_ns"]
        if replica["decoding"] > 0:
            advance_decode(fleet, index, replica, min(steps_before(replica, now_ns + 1), replica["span_steps"]))
    lost = -1
    for slot in range(fleet.pools[replica["pool"]]["max_sequences"]):
        if occupied(fleet, index, slot):
            give_up(fleet, index, replica, slot)
            lost = _lose(fleet, fleet.slots[index, slot]["request"], lost)
    for level in range(fleet.queues.shape[1]):
        while fleet.queues[index, level]["head"] >= 0:
            request = fleet.queues[index, level]["head"]
            remove_waiting(fleet, index, request, now_ns)
            lost = _lose(fleet, request, lost)
    replica["outstanding"] = 0
    replica["cancelling"] = 0
    replica["prefill_tokens"] = 0
    replica["extra_duration"] = 0
    replica["swapped_tokens"] = 0
    replica["span_steps"] = 0
    replica["clock_ns"] = now_ns
    replica["end_ns"] = NEVER
    lose_all(fleet, index)
    return lost


@compiled_inside
def _lose(fleet: FleetState, number: int, lost: int) -> int:
    """Let a request start from nothing, and put it before those that are lost already."""
    request = fleet.requests[number]
    request["generated"] = 0
    request["stage"] &= CANCELLED | WATCHED
    request["first_token_ns"] = -1
    request["replica"] = NOWHERE
    request["next"] = lost
    return number


@compiled
def close(fleet: FleetState, index: int, now_ns: int) -> None:
    """Account for a replica until the simulation stops, in the middle of a span if need be."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    if replica["end_ns"] != NEVER and replica["span_steps"] > 0:
        account_span(fleet, replica, now_ns)
        replica["busy_ns"] += now_ns - replica["clock_ns"]


@compiled_inside
def _complete_span(fleet: FleetState, index: int, replica: np.void) -> None:
    """Apply the steps of the running span: tokens, finishes, prefills that end, and the clock."""
    now_ns = replica["end_ns"]
    steps = replica["span_steps"]
    account_span(fleet, replica, now_ns)
    length = span_duration(replica["first_duration"], replica["duration_growth"], steps)
    replica["remainder"] = (replica["remainder"] + length) & FRACTION_MASK
    replica["busy_ns"] += now_ns - replica["clock_ns"]
    replica["clock_ns"] = now_ns
    replica["steps"] += steps
    replica["span_steps"] = 0
    if replica["decoding"] > 0:
        # What grew before the last step took its memory then, whatever that step gives back.
        trim(fleet, index, replica["kv_used"] + (steps - 1) * replica["decoding"])
        advance_decode(fleet, index, replica, steps)
        finish = fleet.heaps[index, FINISH]
        while replica["finish_size"] > 0 and finish[0]["key"] <= replica["decode_step"]:
            slot = finish[0]["slot"]
            replica["finish_size"] = heap_pop(finish, replica["finish_size"])
            request = fleet.requests[fleet.slots[index, slot]["request"]]
            leave_decode(fleet, index, replica, slot, request["output_tokens"])
            finish_sequence(fleet, index, replica, slot, now_ns)
    if replica["prefill_tokens"] > 0:
        _complete_chunks(fleet, index, replica, now_ns)


@compiled_inside
def _complete_chunks(fleet: FleetState, index: int, replica: np.void, now_ns: int) -> None:
    """Advance prefilling sequences; those that end get a token and decode from the next step on."""
    pool = fleet.pools[replica["pool"]]
    while replica["prefilling"] > 0:
        slot = fleet.prefill_ring[index, replica["prefill_head"]]
        entry = fleet.slots[index, slot]
        request = fleet.requests[entry["request"]]
        fleet.queues[index, request["priority"]]["backlog"] -= entry["chunk"]
        entry["done"] += entry["chunk"]
        entry["chunk"] = 0
        if entry["done"] < entry["target"]:
            break
        replica["prefill_head"] = (replica["prefill_head"] + 1) % pool["max_sequences"]
        replica["prefilling"] -= 1
        if pool["cache_block"] > 0:
            share_group(fleet, index, slot)
        generated = request["generated"] + 1
        if pool["role"] == PREFILL_ONLY and generated < request["output_tokens"]:
            hand_over(fleet, index, replica, slot, request)
            continue
        if request["first_token_ns"] < 0:
            note_first_token(replica, request, now_ns)
        if generated == request["output_tokens"]:
            finish_sequence(fleet, index, replica, slot, now_ns)
        else:
            enter_decode(fleet, index, replica, slot, generated)
    replica["prefill_tokens"] = 0
