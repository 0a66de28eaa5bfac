"""A replica as a pure state machine: what it runs next, and when that ends.

Continuous batching as vLLM and SGLang do it: every decoding sequence gains one token per step; what is left of the
step's token budget prefills admitted prompts in chunks, first come first served; waiting requests are admitted while
slots and KV memory last; when KV runs out, the newest sequence is preempted and later recomputed.

Between changes of the batch, k steps are one span: step j of a span lasts `first + j * growth`, an exact integer in
units of 2**-20 ns, so cutting a span anywhere changes nothing. Order of events: at one instant, arrivals come before
step boundaries, so a boundary sees every request that has arrived by then.

Two functions are the interface: `enqueue` when a request arrives and `boundary` when a span ends; both return the
time of the replica's next boundary. They know nothing about engines, files or randomness.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled
from sim.serving.heap import heap_pop, heap_push, heap_remove
from sim.serving.state import (
    CROSSING,
    FINISH,
    FINISHED,
    FRACTION_BITS,
    NEVER,
    FleetState,
)

_FRACTION_MASK = (1 << FRACTION_BITS) - 1
_LONGEST_SPAN = 1 << 60  # [2**-20 ns], 18 minutes; spans are cut there so that sums stay inside 64 bits


@compiled
def span_duration(first: int, growth: int, steps: int) -> int:
    """Return the duration of a span's first steps [2**-20 ns]: `k first + growth k (k - 1) / 2`."""
    return steps * first + growth * (steps * (steps - 1) // 2)


@compiled
def steps_within(first: int, growth: int, limit: int) -> int:
    """Return how many steps of a span end within a limit.

    Parameters
    ----------
    first, growth : int
        Duration of the first step, and by which each later step is longer [2**-20 ns].
    limit : int
        Time since the start of the span [2**-20 ns], not negative.

    Returns
    -------
    int
        The largest k with `k first + growth k (k - 1) / 2 <= limit`: the root of the quadratic, corrected exactly.

    """
    linear = first - 0.5 * growth
    if growth == 0:
        steps = limit // first
    else:
        steps = int(2.0 * limit / (linear + np.sqrt(linear * linear + 2.0 * growth * limit)))
    while steps > 0 and span_duration(first, growth, steps) > limit:
        steps -= 1
    while span_duration(first, growth, steps + 1) <= limit:
        steps += 1
    return steps


@compiled
def enqueue(fleet: FleetState, index: int, request: int, now_ns: int) -> int:
    """Put a request at the end of a replica's queue; return the replica's next boundary [ns].

    A running span is cut at the first boundary at or after now if the request could join the batch there; an idle
    replica gets a boundary now, which is processed after all arrivals of this instant.
    """
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    fleet.requests[request]["replica"] = index
    fleet.timeline[replica["pool"], _interval(fleet, now_ns)]["arrivals"] += 1
    alone = replica["waiting"] == 0
    _push_back(fleet, replica, request, now_ns)
    replica["outstanding"] += 1
    if replica["end_ns"] == NEVER:
        replica["clock_ns"] = now_ns
        replica["remainder"] = 0
        replica["span_steps"] = 0
        replica["end_ns"] = now_ns
    elif (
        alone
        and replica["span_steps"] > 1
        and replica["free_slots"] > 0
        and pool["step_token_budget"] > replica["decoding"]
    ):
        elapsed = ((now_ns - replica["clock_ns"]) << FRACTION_BITS) - 1 - replica["remainder"]
        before = 0
        if elapsed >= 0:
            before = steps_within(replica["first_duration"], replica["duration_growth"], elapsed)
        if before + 1 < replica["span_steps"]:
            replica["span_steps"] = before + 1
            replica["end_ns"] = _end_of_span(replica)
    return replica["end_ns"]


@compiled
def boundary(fleet: FleetState, index: int) -> int:
    """End the running span of a replica and start the next one; return when that ends [ns], NEVER if idle.

    Finished requests that others follow are left in `fleet.completed`, for the engine to place their follow-ups.
    """
    replica = fleet.replicas[index]
    fleet.completed[0] = 0
    if replica["span_steps"] > 0:
        _complete_span(fleet, index, replica)
    _plan_step(fleet, index, replica)
    return replica["end_ns"]


@compiled
def close(fleet: FleetState, index: int, now_ns: int) -> None:
    """Account for a replica until the simulation stops, in the middle of a span if need be."""
    replica = fleet.replicas[index]
    _account_waiting(fleet, replica, now_ns)
    if replica["end_ns"] != NEVER and replica["span_steps"] > 0:
        _account_span(fleet, replica, now_ns)


@compiled
def _end_of_span(replica: np.void) -> int:
    length = span_duration(replica["first_duration"], replica["duration_growth"], replica["span_steps"])
    return replica["clock_ns"] + ((replica["remainder"] + length) >> FRACTION_BITS)


@compiled
def _complete_span(fleet: FleetState, index: int, replica: np.void) -> None:
    """Apply the steps of the running span: tokens, finishes, prefills that end, and the clock."""
    now_ns = replica["end_ns"]
    steps = replica["span_steps"]
    _account_span(fleet, replica, now_ns)
    length = span_duration(replica["first_duration"], replica["duration_growth"], steps)
    replica["remainder"] = (replica["remainder"] + length) & _FRACTION_MASK
    replica["clock_ns"] = now_ns
    replica["steps"] += steps
    replica["span_steps"] = 0
    if replica["decoding"] > 0:
        replica["decode_step"] += steps
        replica["context"] += steps * replica["decoding"]
        replica["window_context"] += steps * replica["window_growing"]
        replica["kv_used"] += steps * replica["decoding"]
        crossing = fleet.heaps[index, CROSSING]
        while replica["crossing_size"] > 0 and crossing[0]["key"] <= replica["decode_step"]:
            replica["crossing_size"] = heap_pop(crossing, replica["crossing_size"])
            replica["window_growing"] -= 1
        finish = fleet.heaps[index, FINISH]
        while replica["finish_size"] > 0 and finish[0]["key"] <= replica["decode_step"]:
            slot = finish[0]["slot"]
            replica["finish_size"] = heap_pop(finish, replica["finish_size"])
            request = fleet.requests[fleet.slots[index, slot]["request"]]
            _leave_decode(fleet, index, replica, slot, request["output_tokens"])
            _finish(fleet, index, replica, slot, now_ns)
    if replica["prefill_tokens"] > 0:
        _complete_chunks(fleet, index, replica, now_ns)


@compiled
def _complete_chunks(fleet: FleetState, index: int, replica: np.void, now_ns: int) -> None:
    """Advance prefilling sequences; those that end get a token and decode from the next step on."""
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    while replica["prefilling"] > 0:
        slot = fleet.prefill_ring[index, replica["prefill_head"]]
        entry = fleet.slots[index, slot]
        entry["done"] += entry["chunk"]
        entry["chunk"] = 0
        if entry["done"] < entry["target"]:
            break
        replica["prefill_head"] = (replica["prefill_head"] + 1) % capacity
        replica["prefilling"] -= 1
        request = fleet.requests[entry["request"]]
        if request["first_token_ns"] < 0:
            request["first_token_ns"] = now_ns
        if request["generated"] + 1 == request["output_tokens"]:
            _finish(fleet, index, replica, slot, now_ns)
        else:
            _enter_decode(fleet, index, replica, slot, request)
    replica["prefill_tokens"] = 0


@compiled
def _enter_decode(fleet: FleetState, index: int, replica: np.void, slot: int, request: np.void) -> None:
    pool = fleet.pools[replica["pool"]]
    entry = fleet.slots[index, slot]
    entry["generated"] = request["generated"] + 1
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
    entry["newer"] = -1
    entry["older"] = replica["newest"]
    if replica["newest"] >= 0:
        fleet.slots[index, replica["newest"]]["newer"] = slot
    replica["newest"] = slot
    replica["decoding"] += 1


@compiled
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
    if entry["newer"] >= 0:
        fleet.slots[index, entry["newer"]]["older"] = entry["older"]
    else:
        replica["newest"] = entry["older"]
    if entry["older"] >= 0:
        fleet.slots[index, entry["older"]]["newer"] = entry["newer"]


@compiled
def _finish(fleet: FleetState, index: int, replica: np.void, slot: int, now_ns: int) -> None:
    pool = fleet.pools[replica["pool"]]
    request = fleet.requests[fleet.slots[index, slot]["request"]]
    request["finished_ns"] = now_ns
    request["outcome"] = FINISHED
    replica["outstanding"] -= 1
    if request["first_child"] >= 0:
        fleet.completed[0] += 1
        fleet.completed[fleet.completed[0]] = fleet.slots[index, slot]["request"]
    # The last token's KV is never written: nothing attends to it.
    _release(
        fleet,
        index,
        replica,
        slot,
        pool["sequence_charge"] + request["prompt_tokens"] + request["output_tokens"] - 1,
    )


@compiled
def _release(fleet: FleetState, index: int, replica: np.void, slot: int, charged: int) -> None:
    replica["kv_used"] -= charged
    fleet.free_stack[index, replica["free_slots"]] = slot
    replica["free_slots"] += 1


@compiled
def _preempt_newest(fleet: FleetState, index: int, replica: np.void) -> None:
    """Give up the newest sequence: its KV is dropped and recomputed when it is admitted again."""
    pool = fleet.pools[replica["pool"]]
    if replica["prefilling"] > 0:
        last = (replica["prefill_head"] + replica["prefilling"] - 1) % pool["max_sequences"]
        slot = fleet.prefill_ring[index, last]
        entry = fleet.slots[index, slot]
        replica["prefilling"] -= 1
        charged = pool["sequence_charge"] + entry["target"]
    else:
        slot = replica["newest"]
        entry = fleet.slots[index, slot]
        request = fleet.requests[entry["request"]]
        generated = entry["generated"] + replica["decode_step"] - entry["entered"]
        replica["finish_size"] = heap_remove(fleet.heaps[index, FINISH], replica["finish_size"], slot)
        _leave_decode(fleet, index, replica, slot, generated)
        request["generated"] = generated
        charged = pool["sequence_charge"] + request["prompt_tokens"] + generated - 1
    fleet.requests[entry["request"]]["preemptions"] += 1
    replica["preemptions"] += 1
    _release(fleet, index, replica, slot, charged)
    _push_front(fleet, replica, entry["request"], replica["clock_ns"])


@compiled
def _plan_step(fleet: FleetState, index: int, replica: np.void) -> None:
    """Choose the next batch and the length of its span; the replica goes idle when there is nothing to do."""
    pool = fleet.pools[replica["pool"]]
    while replica["kv_used"] + replica["decoding"] > pool["kv_capacity"]:
        _preempt_newest(fleet, index, replica)
    budget = pool["step_token_budget"] - replica["decoding"]
    duration = 0
    sampling = replica["decoding"]
    tokens = 0
    position = 0
    while budget > 0:
        if position == replica["prefilling"] and not _admit_next(fleet, index, replica, pool):
            break
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
    if tokens == 0:
        replica["duration_growth"] = (
            replica["decoding"] * pool["context_duration"] + replica["window_growing"] * pool["window_duration"]
        )
        steps = _steps_until_change(fleet, index, replica, pool)
    replica["span_steps"] = steps
    replica["end_ns"] = _end_of_span(replica)


@compiled
def _steps_until_change(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> int:
    """Return the decode steps before a sequence finishes, fills the window, or KV memory runs out."""
    steps = fleet.heaps[index, FINISH, 0]["key"] - replica["decode_step"]
    if replica["crossing_size"] > 0:
        steps = min(steps, fleet.heaps[index, CROSSING, 0]["key"] - replica["decode_step"])
    steps = min(steps, (pool["kv_capacity"] - replica["kv_used"]) // replica["decoding"])
    steps = min(steps, pool["max_span"])
    first, growth = replica["first_duration"], replica["duration_growth"]
    if steps * (float(first) + 0.5 * growth * steps) > _LONGEST_SPAN:
        steps = max(1, steps_within(first, growth, _LONGEST_SPAN))
    return steps


@compiled
def _admit_next(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> bool:
    """Admit the first waiting request if a slot and KV memory for its whole prompt are free."""
    if replica["waiting"] == 0 or replica["free_slots"] == 0:
        return False
    number = replica["waiting_head"]
    request = fleet.requests[number]
    target = request["prompt_tokens"] + request["generated"]
    charge = pool["sequence_charge"] + target
    running = replica["decoding"] + replica["prefilling"]
    free = pool["kv_capacity"] - replica["kv_used"] - replica["decoding"]
    if running > 0:
        free -= pool["admission_headroom"]
    if charge > free:
        return False
    _account_waiting(fleet, replica, replica["clock_ns"])
    replica["waiting_head"] = request["next"]
    replica["waiting"] -= 1
    replica["free_slots"] -= 1
    slot = fleet.free_stack[index, replica["free_slots"]]
    ring_end = (replica["prefill_head"] + replica["prefilling"]) % pool["max_sequences"]
    fleet.prefill_ring[index, ring_end] = slot
    replica["prefilling"] += 1
    replica["kv_used"] += charge
    entry = fleet.slots[index, slot]
    entry["request"] = number
    entry["target"] = target
    entry["done"] = request["cached_tokens"]
    entry["chunk"] = 0
    if request["admitted_ns"] < 0:
        request["admitted_ns"] = replica["clock_ns"]
    return True


@compiled
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


@compiled
def _push_back(fleet: FleetState, replica: np.void, request: int, now_ns: int) -> None:
    _account_waiting(fleet, replica, now_ns)
    fleet.requests[request]["next"] = -1
    if replica["waiting"] == 0:
        replica["waiting_head"] = request
    else:
        fleet.requests[replica["waiting_tail"]]["next"] = request
    replica["waiting_tail"] = request
    replica["waiting"] += 1


@compiled
def _push_front(fleet: FleetState, replica: np.void, request: int, now_ns: int) -> None:
    _account_waiting(fleet, replica, now_ns)
    if replica["waiting"] == 0:
        replica["waiting_tail"] = request
        fleet.requests[request]["next"] = -1
    else:
        fleet.requests[request]["next"] = replica["waiting_head"]
    replica["waiting_head"] = request
    replica["waiting"] += 1


@compiled
def _interval(fleet: FleetState, time_ns: int) -> int:
    return min(time_ns // fleet.interval_ns, fleet.timeline.shape[1] - 1)


@compiled
def _interval_end(fleet: FleetState, interval: int) -> int:
    """Return the end of a timeline interval [ns]; the last one has none."""
    if interval >= fleet.timeline.shape[1] - 1:
        return NEVER
    return (interval + 1) * fleet.interval_ns


@compiled
def _account_waiting(fleet: FleetState, replica: np.void, now_ns: int) -> None:
    """Add `waiting x time` since the last change of the queue, split at the timeline's intervals."""
    start = replica["waiting_since_ns"]
    replica["waiting_since_ns"] = now_ns
    if replica["waiting"] == 0:
        return
    interval = _interval(fleet, start)
    while start < now_ns:
        end = min(now_ns, _interval_end(fleet, interval))
        fleet.timeline[replica["pool"], interval]["waiting_ns"] += replica["waiting"] * (end - start)
        start = end
        interval += 1


@compiled
def _account_span(fleet: FleetState, replica: np.void, until_ns: int) -> None:
    """Add the running span to the timeline: time exactly, tokens to the interval in which their step ends."""
    first, growth = replica["first_duration"], replica["duration_growth"]
    running = replica["decoding"] + replica["prefilling"]
    steps_before = 0
    kv_before = 0.0
    start = replica["clock_ns"]
    interval = _interval(fleet, start)
    while True:
        end = min(until_ns, _interval_end(fleet, interval))
        if end == replica["end_ns"]:
            steps = replica["span_steps"]
        else:
            limit = ((end - replica["clock_ns"] + 1) << FRACTION_BITS) - 1 - replica["remainder"]
            steps = min(steps_within(first, growth, limit), replica["span_steps"])
        row = fleet.timeline[replica["pool"], interval]
        row["busy_ns"] += end - start
        row["running_ns"] += running * (end - start)
        row["decode_tokens"] += replica["decoding"] * (steps - steps_before)
        if steps > steps_before:
            row["prefill_tokens"] += replica["prefill_tokens"]
        kv_until = _kv_integral(replica, steps, ((end - replica["clock_ns"]) << FRACTION_BITS))
        row["kv_token_ns"] += kv_until - kv_before
        kv_before = kv_until
        if end >= until_ns:
            return
        steps_before = steps
        start = end
        interval += 1


@compiled
def _kv_integral(replica: np.void, steps: int, elapsed: int) -> float:
    """Return the integral of KV use since the start of the span [token ns].

    In step j of a span `kv_used + (j + 1) decoding` entries are in use for `first + j growth`; the sum over the
    `steps` that have ended is closed, and the step under way counts with the time that it has had.
    """
    first, growth = float(replica["first_duration"]), float(replica["duration_growth"])
    kv, added = float(replica["kv_used"] + replica["decoding"]), float(replica["decoding"])
    below = 0.5 * steps * (steps - 1.0)
    squares = steps * (steps - 1.0) * (2.0 * steps - 1.0) / 6.0
    whole = steps * kv * first + below * (kv * growth + added * first) + squares * added * growth
    under_way = elapsed - (steps * first + below * growth)
    return (whole + (kv + steps * added) * under_way) / (1 << FRACTION_BITS)
