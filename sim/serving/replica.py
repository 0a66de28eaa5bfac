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

from sim.serving.compilation import compiled, compiled_apart, compiled_inside, compiled_where
from sim.serving.heap import heap_pop, heap_push, heap_remove
from sim.serving.power import throttled
from sim.serving.prefix_cache import Hit, keep, let_go, look_up, lose_all, share_group, trim, use
from sim.serving.queueing import (
    backlog_up_to,
    first_level,
    link_newest,
    lowest_running_level,
    newest_prefilling,
    pop_front,
    push_back,
    push_front,
    remove_waiting,
    ring_insert,
    ring_remove,
    unlink,
)
from sim.serving.span import FRACTION_MASK, LONGEST_SPAN, end_of_span_ns, span_duration, steps_before, steps_within
from sim.serving.state import (
    CANCELLED,
    CROSSING,
    DROPPED,
    FINISH,
    FINISHED,
    HANDED_OVER,
    NEVER,
    NOWHERE,
    PARENT_FINISHED,
    PREFILL_ONLY,
    RUNNING,
    SWAPPED,
    TIMED_OUT,
    TRANSFERRED,
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


@compiled
def busy_until_ns(fleet: FleetState, index: int, now_ns: int) -> int:
    """Return how long a replica has had a step in progress until an instant [ns], the one under way included."""
    replica = fleet.replicas[index]
    under_way = now_ns - replica["clock_ns"] if replica["span_steps"] > 0 else 0
    return replica["busy_ns"] + under_way


@compiled
def kv_used_at(fleet: FleetState, index: int, now_ns: int) -> int:
    """Return the KV in use at an instant [tokens]: what the steps of the running span have added by then included."""
    replica = fleet.replicas[index]
    if replica["span_steps"] == 0 or replica["decoding"] == 0:
        return replica["kv_used"]
    return replica["kv_used"] + replica["decoding"] * min(steps_before(replica, now_ns), replica["span_steps"])


@compiled
def pending_ages(fleet: FleetState, index: int, now_ns: int) -> tuple[int, float]:
    """Return how many requests of a replica have no first token yet, and the sum of their ages [ns]."""
    count = 0
    ages = 0.0
    for level in range(fleet.queues.shape[1]):
        request = fleet.queues[index, level]["head"]
        while request >= 0:
            if fleet.requests[request]["first_token_ns"] < 0:
                count += 1
                ages += now_ns - fleet.requests[request]["arrival_ns"]
            request = fleet.requests[request]["next"]
    replica = fleet.replicas[index]
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    for place in range(replica["prefilling"]):
        slot = fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity]
        request = fleet.slots[index, slot]["request"]
        if fleet.requests[request]["first_token_ns"] < 0:
            count += 1
            ages += now_ns - fleet.requests[request]["arrival_ns"]
    return count, ages


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
    _plan_step(fleet, index, replica)
    return replica["end_ns"]


@compiled_inside
def _leave(fleet: FleetState, request: int, reason: int) -> None:
    """Tell the engine of a request that leaves."""
    fleet.leaving[0] += 1
    fleet.leaving[fleet.leaving[0]] = 4 * request + reason


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
        replica["swapped_tokens"] -= _swapped_tokens(fleet.requests[request])
    fleet.requests[request]["outcome"] = TIMED_OUT
    if replica["span_steps"] > 1:
        _cut_span(replica, now_ns)  # who stood behind it may now be first, and fit
    return True


@compiled_apart
def _drop_cancelled(fleet: FleetState, index: int, replica: np.void) -> None:
    """Drop the running requests whose clients have given up."""
    for slot in range(fleet.pools[replica["pool"]]["max_sequences"]):
        number = fleet.slots[index, slot]["request"]
        if _occupied(fleet, index, slot) and fleet.requests[number]["stage"] & CANCELLED:
            _give_up(fleet, index, replica, slot)
            fleet.requests[number]["outcome"] = TIMED_OUT
            if fleet.requests[number]["first_token_ns"] == replica["clock_ns"]:
                fleet.requests[number]["first_token_ns"] = -1  # it came when nobody waited for it any more
            replica["outstanding"] -= 1
            _leave(fleet, number, DROPPED)
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
            _advance_decode(fleet, index, replica, min(steps_before(replica, now_ns + 1), replica["span_steps"]))
    lost = -1
    for slot in range(fleet.pools[replica["pool"]]["max_sequences"]):
        if _occupied(fleet, index, slot):
            _give_up(fleet, index, replica, slot)
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
def _occupied(fleet: FleetState, index: int, slot: int) -> bool:
    """Return whether a request runs in a slot: requests know their slots, free slots keep an old request's number."""
    request = fleet.requests[fleet.slots[index, slot]["request"]]
    return request["previous"] == RUNNING and request["next"] == slot and request["replica"] == index


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
        _advance_decode(fleet, index, replica, steps)
        finish = fleet.heaps[index, FINISH]
        while replica["finish_size"] > 0 and finish[0]["key"] <= replica["decode_step"]:
            slot = finish[0]["slot"]
            replica["finish_size"] = heap_pop(finish, replica["finish_size"])
            request = fleet.requests[fleet.slots[index, slot]["request"]]
            _leave_decode(fleet, index, replica, slot, request["output_tokens"])
            _finish(fleet, index, replica, slot, now_ns)
    if replica["prefill_tokens"] > 0:
        _complete_chunks(fleet, index, replica, now_ns)


@compiled_inside
def _advance_decode(fleet: FleetState, index: int, replica: np.void, steps: int) -> None:
    """Give every decoding sequence so many tokens, and notice which of them have filled the window."""
    replica["decode_step"] += steps
    replica["context"] += steps * replica["decoding"]
    replica["window_context"] += steps * replica["window_growing"]
    replica["kv_used"] += steps * replica["decoding"]
    crossing = fleet.heaps[index, CROSSING]
    while replica["crossing_size"] > 0 and crossing[0]["key"] <= replica["decode_step"]:
        replica["crossing_size"] = heap_pop(crossing, replica["crossing_size"])
        replica["window_growing"] -= 1


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
            _hand_over(fleet, index, replica, slot, request)
            continue
        if request["first_token_ns"] < 0:
            _note_first_token(replica, request, now_ns)
        if generated == request["output_tokens"]:
            _finish(fleet, index, replica, slot, now_ns)
        else:
            _enter_decode(fleet, index, replica, slot, generated)
    replica["prefill_tokens"] = 0


@compiled_inside
def _note_first_token(replica: np.void, request: np.void, now_ns: int) -> None:
    request["first_token_ns"] = now_ns
    replica["first_tokens"] += 1
    replica["first_token_wait_ns"] += now_ns - request["arrival_ns"]


@compiled_inside
def _enter_decode(fleet: FleetState, index: int, replica: np.void, slot: int, generated: int) -> None:
    """Let a sequence with so many output tokens decode from the next step on."""
    pool = fleet.pools[replica["pool"]]
    entry = fleet.slots[index, slot]
    request = fleet.requests[entry["request"]]
    entry["generated"] = generated
    entry["entered"] = replica["decode_step"]
    finish_key = replica["decode_step"] + request["output_tokens"] - entry["generated"]
    context = request["prompt_tokens"] + entry["generated"]
    replica["context"] += context
    if pool["window"] > 0:
        replica["window_context"] += min(context, pool["window"])
        if context < pool["window"]:
            replica["window_growing"] += 1
            crossing_key = replica["decode_step"] + pool["window"] - context
            if crossing_key < finish_key:
                crossing = fleet.heaps[index, CROSSING]
                replica["crossing_size"] = heap_push(crossing, replica["crossing_size"], crossing_key, slot)
    replica["finish_size"] = heap_push(fleet.heaps[index, FINISH], replica["finish_size"], finish_key, slot)
    link_newest(fleet, index, slot, request["priority"])
    replica["decoding"] += 1


@compiled_inside
def _leave_decode(fleet: FleetState, index: int, replica: np.void, slot: int, generated: int) -> None:
    """Take a sequence with so many output tokens out of the running sums and the list of decoding slots."""
    pool = fleet.pools[replica["pool"]]
    entry = fleet.slots[index, slot]
    request = fleet.requests[entry["request"]]
    context = request["prompt_tokens"] + generated
    replica["context"] -= context
    if pool["window"] > 0:
        replica["window_context"] -= min(context, pool["window"])
        if request["prompt_tokens"] + entry["generated"] < pool["window"]:
            # The window is filled at a step that is either still in the heap or never was put there.
            if context < pool["window"]:
                replica["window_growing"] -= 1
                if request["prompt_tokens"] + request["output_tokens"] > pool["window"]:
                    crossing = fleet.heaps[index, CROSSING]
                    replica["crossing_size"] = heap_remove(crossing, replica["crossing_size"], slot)
            elif context == pool["window"] and generated == request["output_tokens"]:
                replica["window_growing"] -= 1
    replica["decoding"] -= 1
    unlink(fleet, index, entry, request["priority"])


@compiled_inside
def _finish(fleet: FleetState, index: int, replica: np.void, slot: int, now_ns: int) -> None:
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    request = fleet.requests[number]
    request["finished_ns"] = now_ns
    request["outcome"] = FINISHED
    replica["outstanding"] -= 1
    if request["first_child"] >= 0:
        _leave(fleet, number, PARENT_FINISHED)
    # The last token's KV is never written: nothing attends to it.
    context = request["prompt_tokens"] + request["output_tokens"] - 1
    if pool["cache_block"] > 0:
        keep(fleet, index, slot, context)
    _release(fleet, index, replica, slot, pool["sequence_charge"] + context)


@compiled_apart
def _hand_over(fleet: FleetState, index: int, replica: np.void, slot: int, request: np.void) -> None:
    """Let a prefilled request go to the pool that decodes it; its KV here is free once it is on its way."""
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    context = fleet.slots[index, slot]["target"]
    request["generated"] += 1
    request["stage"] |= TRANSFERRED
    replica["outstanding"] -= 1
    _leave(fleet, number, HANDED_OVER)
    if pool["cache_block"] > 0:
        keep(fleet, index, slot, context)
    _release(fleet, index, replica, slot, pool["sequence_charge"] + context)


@compiled_inside
def _release(fleet: FleetState, index: int, replica: np.void, slot: int, charged: int) -> None:
    """Free a slot and the KV of its request, but for what entries of the prefix cache hold of it."""
    entry = fleet.slots[index, slot]
    request = fleet.requests[entry["request"]]
    fleet.queues[index, request["priority"]]["running"] -= 1
    replica["kv_used"] -= charged
    replica["kv_used"] += entry["shared"]
    let_go(fleet, index, slot)
    request["previous"] = -1
    fleet.free_stack[index, replica["free_slots"]] = slot
    replica["free_slots"] += 1


@compiled_apart
def _give_up(fleet: FleetState, index: int, replica: np.void, slot: int) -> bool:
    """Take a running sequence out of the batch and drop its KV; return whether it was decoding."""
    pool = fleet.pools[replica["pool"]]
    entry = fleet.slots[index, slot]
    request = fleet.requests[entry["request"]]
    prefilling = ring_remove(fleet, index, slot)
    if prefilling:
        fleet.queues[index, request["priority"]]["backlog"] -= entry["target"] - entry["done"]
        charged = pool["sequence_charge"] + entry["target"]
    else:
        generated = entry["generated"] + replica["decode_step"] - entry["entered"]
        replica["finish_size"] = heap_remove(fleet.heaps[index, FINISH], replica["finish_size"], slot)
        _leave_decode(fleet, index, replica, slot, generated)
        request["generated"] = generated
        charged = pool["sequence_charge"] + request["prompt_tokens"] + generated - 1
    _release(fleet, index, replica, slot, charged)
    return not prefilling


@compiled_apart
def _preempt(fleet: FleetState, index: int, replica: np.void, level: int) -> None:
    """Give up the newest sequence of a priority: its KV is recomputed, or read back, when it is admitted again."""
    slot = newest_prefilling(fleet, index, level)
    if slot < 0:
        slot = fleet.queues[index, level]["newest"]
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    request = fleet.requests[number]
    if _give_up(fleet, index, replica, slot) and pool["swap_capacity"] > 0:
        tokens = _swapped_tokens(request)
        if replica["swapped_tokens"] + tokens <= pool["swap_capacity"]:
            request["stage"] |= SWAPPED
            replica["swapped_tokens"] += tokens
            replica["extra_duration"] += tokens * pool["swap_duration"]
    request["preemptions"] += 1
    replica["preemptions"] += 1
    push_front(fleet, index, number, replica["clock_ns"])


@compiled_inside
def _swapped_tokens(request: np.void) -> int:
    """Return the KV that a decoding sequence leaves when it is preempted [tokens]."""
    return request["prompt_tokens"] + request["generated"] - 1


@compiled_inside
def _admit(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> None:
    """Admit waiting requests while slots, KV memory for the whole prompt and the step's token budget last."""
    while replica["waiting"] > 0 and pool["step_token_budget"] > replica["decoding"]:
        level = first_level(fleet, index)
        number = fleet.queues[index, level]["head"]
        request = fleet.requests[number]
        computed = request["stage"] & (TRANSFERRED | SWAPPED) != 0
        target = request["prompt_tokens"] + request["generated"] - computed
        hit = Hit(-1, 0, -1, 0, 0)
        if pool["cache_block"] > 0 and not computed:
            hit = look_up(fleet, index, number)
        charge = pool["sequence_charge"] + target - hit.group_tokens - hit.session_tokens
        while not _fits(fleet, index, replica, pool, level, charge + hit.pinned_tokens):
            lowest = lowest_running_level(fleet, index)
            if lowest <= level:
                return
            _preempt(fleet, index, replica, lowest)
            if pool["cache_block"] > 0 and not computed:
                hit = look_up(fleet, index, number)
                charge = pool["sequence_charge"] + target - hit.group_tokens - hit.session_tokens
        if not computed and backlog_up_to(fleet, index, level) >= pool["step_token_budget"] - replica["decoding"]:
            return
        pop_front(fleet, index, level, replica["clock_ns"])
        replica["free_slots"] -= 1
        slot = fleet.free_stack[index, replica["free_slots"]]
        request["previous"] = RUNNING
        request["next"] = slot
        entry = fleet.slots[index, slot]
        entry["request"] = number
        entry["target"] = target
        entry["done"] = request["cached_tokens"]
        entry["chunk"] = 0
        replica["kv_used"] += charge
        fleet.queues[index, level]["running"] += 1
        use(fleet, index, slot, hit)
        if pool["cache_block"] > 0:
            _note_hit(fleet, index, slot)
        if request["admitted_ns"] < 0:
            request["admitted_ns"] = replica["clock_ns"]
        if computed:
            _resume(fleet, index, replica, slot, request)
        else:
            ring_insert(fleet, index, slot, level)
            fleet.queues[index, level]["backlog"] += target - entry["done"]


def _nothing(fleet: FleetState, index: int, slot: int) -> None:
    return None


@compiled_where(0, "prefixes", _nothing)
def _note_hit(fleet: FleetState, index: int, slot: int) -> None:
    """Let a request start behind what the cache holds of its prompt."""
    replica = fleet.replicas[index]
    entry = fleet.slots[index, slot]
    request = fleet.requests[entry["request"]]
    entry["done"] = entry["shared"]
    if request["first_token_ns"] < 0:
        request["cached_tokens"] = entry["shared"]
    fleet.timeline[replica["pool"], interval_of(fleet, replica["clock_ns"])]["hit_tokens"] += entry["shared"]
    trim(fleet, index, replica["kv_used"])


@compiled_apart
def _resume(fleet: FleetState, index: int, replica: np.void, slot: int, request: np.void) -> None:
    """Let a request whose KV exists already decode from the next step on."""
    if request["stage"] & SWAPPED:
        tokens = _swapped_tokens(request)
        replica["swapped_tokens"] -= tokens
        replica["extra_duration"] += tokens * fleet.pools[replica["pool"]]["swap_duration"]
    request["stage"] &= CANCELLED | WATCHED
    if request["first_token_ns"] < 0:
        _note_first_token(replica, request, replica["clock_ns"])
    _enter_decode(fleet, index, replica, slot, request["generated"])


@compiled_inside
def _fits(fleet: FleetState, index: int, replica: np.void, pool: np.void, level: int, charge: int) -> bool:
    """Return whether a slot is free and KV memory lasts for one more sequence beside the next step of the others.

    Beside others, a request also leaves free what other priorities have reserved and do not use: slots, and KV in
    proportion to them.
    """
    free_slots = replica["free_slots"]
    free = pool["kv_capacity"] - replica["kv_used"] - replica["decoding"]
    if replica["decoding"] + replica["prefilling"] > 0:
        free -= pool["admission_headroom"]
        for other in range(fleet.queues.shape[1]):
            reserve = fleet.reserves[replica["pool"], other]
            unused = reserve["slots"] - fleet.queues[index, other]["running"]
            if other != level and unused > 0:
                free_slots -= unused
                free -= reserve["kv"] * unused // reserve["slots"]
    return free_slots > 0 and charge <= free


@compiled_inside
def _plan_step(fleet: FleetState, index: int, replica: np.void) -> None:
    """Choose the next batch and the length of its span; the replica goes idle when there is nothing to do."""
    pool = fleet.pools[replica["pool"]]
    while replica["kv_used"] + replica["decoding"] > pool["kv_capacity"]:
        _preempt(fleet, index, replica, lowest_running_level(fleet, index))
    _admit(fleet, index, replica, pool)
    budget = pool["step_token_budget"] - replica["decoding"]
    extra = replica["extra_duration"]
    replica["extra_duration"] = 0
    duration = extra
    sampling = replica["decoding"]
    tokens = 0
    position = 0
    while budget > 0 and position < replica["prefilling"]:
        slot = fleet.prefill_ring[index, (replica["prefill_head"] + position) % pool["max_sequences"]]
        entry = fleet.slots[index, slot]
        chunk = min(budget, entry["target"] - entry["done"])
        entry["chunk"] = chunk
        duration += _chunk_duration(pool, entry["done"], chunk)
        if entry["done"] + chunk == entry["target"]:
            sampling += 1
        tokens += chunk
        budget -= chunk
        position += 1
    replica["prefill_tokens"] = tokens
    if tokens == 0 and replica["decoding"] == 0:
        replica["end_ns"] = NEVER
        return
    duration += (
        fleet.linear_duration[replica["pool"], replica["decoding"] + tokens]
        + fleet.sequence_duration[replica["pool"], sampling]
        + replica["context"] * pool["context_duration"]
        + replica["window_context"] * pool["window_duration"]
    )
    replica["first_duration"] = duration
    replica["duration_growth"] = 0
    steps = 1
    growing = tokens == 0 and extra == 0
    if growing:
        replica["duration_growth"] = (
            replica["decoding"] * pool["context_duration"] + replica["window_growing"] * pool["window_duration"]
        )
    if replica["slowdown"] > 0:
        replica["first_duration"] = throttled(replica["first_duration"], replica["slowdown"])
        replica["duration_growth"] = throttled(replica["duration_growth"], replica["slowdown"])
    if growing:
        steps = _steps_until_change(fleet, index, replica, pool)
    replica["span_steps"] = steps
    replica["end_ns"] = end_of_span_ns(replica)


@compiled_inside
def _steps_until_change(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> int:
    """Return the decode steps before a sequence finishes, fills the window, or KV memory runs out."""
    steps = fleet.heaps[index, FINISH, 0]["key"] - replica["decode_step"]
    if replica["crossing_size"] > 0:
        steps = min(steps, fleet.heaps[index, CROSSING, 0]["key"] - replica["decode_step"])
    steps = min(steps, (pool["kv_capacity"] - replica["kv_used"]) // replica["decoding"])
    steps = min(steps, pool["max_span"])
    first, growth = replica["first_duration"], replica["duration_growth"]
    if steps * (float(first) + 0.5 * growth * steps) > LONGEST_SPAN:
        steps = max(1, steps_within(first, growth, LONGEST_SPAN))
    return steps


@compiled_inside
def _chunk_duration(pool: np.void, past: int, chunk: int) -> int:
    """Return the attention time of a prefill chunk behind `past` cached tokens [2**-20 ns].

    The larger of compute, `pairs = chunk past + chunk (chunk + 1) / 2` query-key pairs, and of reading the past.
    """
    pairs = chunk * past + chunk * (chunk + 1) // 2
    duration = max(pairs * pool["pair_duration"], past * pool["context_duration"])
    if pool["window"] > 0:
        window = pool["window"]
        below = min(chunk, max(0, window - past))  # query tokens that see less than a whole window
        window_pairs = below * past + below * (below + 1) // 2 + (chunk - below) * window
        duration += max(window_pairs * pool["window_pair_duration"], min(past, window) * pool["window_duration"])
    return duration
