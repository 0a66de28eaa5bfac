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

from sim.serving.compilation import compiled, compiled_apart
from sim.serving.heap import heap_pop, heap_push, heap_remove
from sim.serving.queueing import (
    backlog_up_to,
    first_level,
    link_newest,
    lowest_running_level,
    pop_front,
    push_back,
    push_front,
    ring_insert,
    ring_remove_newest,
    unlink,
)
from sim.serving.span import FRACTION_MASK, LONGEST_SPAN, end_of_span_ns, span_duration, steps_before, steps_within
from sim.serving.state import CROSSING, FINISH, FINISHED, NEVER, FleetState
from sim.serving.timeline import account_span, account_waiting, interval_of


@compiled
def enqueue(fleet: FleetState, index: int, request: int, now_ns: int) -> int:
    """Put a request at the end of a replica's queue; return the replica's next boundary [ns].

    A running span is cut at the first boundary at or after now if the request could join the batch there; an idle
    replica gets a boundary now, which is processed after all arrivals of this instant.
    """
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    fleet.requests[request]["replica"] = index
    fleet.timeline[replica["pool"], interval_of(fleet, now_ns)]["arrivals"] += 1
    level = fleet.requests[request]["priority"]
    is_next = level < first_level(fleet, index)
    push_back(fleet, index, request, now_ns)
    replica["outstanding"] += 1
    if replica["end_ns"] == NEVER:
        replica["clock_ns"] = now_ns
        replica["remainder"] = 0
        replica["span_steps"] = 0
        replica["end_ns"] = now_ns
    elif (
        is_next
        and replica["span_steps"] > 1
        and (replica["free_slots"] > 0 or fleet.queues.shape[1] > 1)
        and pool["step_token_budget"] > replica["decoding"]
    ):
        before = steps_before(replica, now_ns)
        if before + 1 < replica["span_steps"]:
            replica["span_steps"] = before + 1
            replica["end_ns"] = end_of_span_ns(replica)
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


@compiled_apart
def close(fleet: FleetState, index: int, now_ns: int) -> None:
    """Account for a replica until the simulation stops, in the middle of a span if need be."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    if replica["end_ns"] != NEVER and replica["span_steps"] > 0:
        account_span(fleet, replica, now_ns)


@compiled
def _complete_span(fleet: FleetState, index: int, replica: np.void) -> None:
    """Apply the steps of the running span: tokens, finishes, prefills that end, and the clock."""
    now_ns = replica["end_ns"]
    steps = replica["span_steps"]
    account_span(fleet, replica, now_ns)
    length = span_duration(replica["first_duration"], replica["duration_growth"], steps)
    replica["remainder"] = (replica["remainder"] + length) & FRACTION_MASK
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
        request = fleet.requests[entry["request"]]
        fleet.queues[index, request["priority"]]["backlog"] -= entry["chunk"]
        entry["done"] += entry["chunk"]
        entry["chunk"] = 0
        if entry["done"] < entry["target"]:
            break
        replica["prefill_head"] = (replica["prefill_head"] + 1) % capacity
        replica["prefilling"] -= 1
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
    link_newest(fleet, index, slot, request["priority"])
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
    unlink(fleet, index, entry, request["priority"])


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
    charged = pool["sequence_charge"] + request["prompt_tokens"] + request["output_tokens"] - 1
    _release(fleet, index, replica, slot, charged)


@compiled
def _release(fleet: FleetState, index: int, replica: np.void, slot: int, charged: int) -> None:
    request = fleet.requests[fleet.slots[index, slot]["request"]]
    fleet.queues[index, request["priority"]]["running"] -= 1
    replica["kv_used"] -= charged
    fleet.free_stack[index, replica["free_slots"]] = slot
    replica["free_slots"] += 1


@compiled_apart
def _preempt(fleet: FleetState, index: int, replica: np.void, level: int) -> None:
    """Give up the newest sequence of a priority: its KV is dropped and recomputed when it is admitted again."""
    pool = fleet.pools[replica["pool"]]
    slot = ring_remove_newest(fleet, index, level)
    if slot >= 0:
        entry = fleet.slots[index, slot]
        fleet.queues[index, level]["backlog"] -= entry["target"] - entry["done"]
        charged = pool["sequence_charge"] + entry["target"]
    else:
        slot = fleet.queues[index, level]["newest"]
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
    push_front(fleet, index, entry["request"], replica["clock_ns"])


@compiled
def _admit(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> None:
    """Admit waiting requests while slots, KV memory for the whole prompt and the step's token budget last."""
    while replica["waiting"] > 0 and pool["step_token_budget"] > replica["decoding"]:
        level = first_level(fleet, index)
        number = fleet.queues[index, level]["head"]
        request = fleet.requests[number]
        target = request["prompt_tokens"] + request["generated"]
        charge = pool["sequence_charge"] + target
        while not _fits(replica, pool, charge):
            lowest = lowest_running_level(fleet, index)
            if lowest <= level:
                return
            _preempt(fleet, index, replica, lowest)
        if backlog_up_to(fleet, index, level) >= pool["step_token_budget"] - replica["decoding"]:
            return
        pop_front(fleet, index, level, replica["clock_ns"])
        replica["free_slots"] -= 1
        slot = fleet.free_stack[index, replica["free_slots"]]
        entry = fleet.slots[index, slot]
        entry["request"] = number
        entry["target"] = target
        entry["done"] = request["cached_tokens"]
        entry["chunk"] = 0
        ring_insert(fleet, index, slot, level)
        replica["kv_used"] += charge
        fleet.queues[index, level]["running"] += 1
        fleet.queues[index, level]["backlog"] += target - entry["done"]
        if request["admitted_ns"] < 0:
            request["admitted_ns"] = replica["clock_ns"]


@compiled
def _fits(replica: np.void, pool: np.void, charge: int) -> bool:
    """Return whether a slot is free and KV memory lasts for one more sequence beside the next step of the others."""
    if replica["free_slots"] == 0:
        return False
    free = pool["kv_capacity"] - replica["kv_used"] - replica["decoding"]
    if replica["decoding"] + replica["prefilling"] > 0:
        free -= pool["admission_headroom"]
    return charge <= free


@compiled
def _plan_step(fleet: FleetState, index: int, replica: np.void) -> None:
    """Choose the next batch and the length of its span; the replica goes idle when there is nothing to do."""
    pool = fleet.pools[replica["pool"]]
    while replica["kv_used"] + replica["decoding"] > pool["kv_capacity"]:
        _preempt(fleet, index, replica, lowest_running_level(fleet, index))
    _admit(fleet, index, replica, pool)
    budget = pool["step_token_budget"] - replica["decoding"]
    duration = 0
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
    if tokens == 0:
        replica["duration_growth"] = (
            replica["decoding"] * pool["context_duration"] + replica["window_growing"] * pool["window_duration"]
        )
        steps = _steps_until_change(fleet, index, replica, pool)
    replica["span_steps"] = steps
    replica["end_ns"] = end_of_span_ns(replica)


@compiled
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
