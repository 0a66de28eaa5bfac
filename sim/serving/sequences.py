"""A running sequence: how it enters the batch, gains tokens, and leaves it.

It leaves because it has finished, goes to another pool, is preempted, or is given up. Whatever way it goes, its slot
and its KV are free, and who must know is told through `fleet.leaving`.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled_apart, compiled_inside
from sim.serving.heap import heap_pop, heap_push, heap_remove
from sim.serving.prefix_cache import keep, let_go
from sim.serving.queueing import link_newest, newest_prefilling, push_front, ring_remove, unlink
from sim.serving.state import (
    CROSSING,
    FINISH,
    FINISHED,
    HANDED_OVER,
    PARENT_FINISHED,
    RUNNING,
    SWAPPED,
    TRANSFERRED,
    FleetState,
)


@compiled_inside
def leave(fleet: FleetState, request: int, reason: int) -> None:
    """Tell the engine of a request that leaves."""
    fleet.leaving[0] += 1
    fleet.leaving[fleet.leaving[0]] = 4 * request + reason


@compiled_inside
def occupied(fleet: FleetState, index: int, slot: int) -> bool:
    """Return whether a request runs in a slot: requests know their slots, free slots keep an old request's number."""
    request = fleet.requests[fleet.slots[index, slot]["request"]]
    return request["previous"] == RUNNING and request["next"] == slot and request["replica"] == index


@compiled_inside
def note_first_token(replica: np.void, request: np.void, now_ns: int) -> None:
    """Note when a request has its first token [ns], and how long it had waited for it."""
    request["first_token_ns"] = now_ns
    replica["first_tokens"] += 1
    replica["first_token_wait_ns"] += now_ns - request["arrival_ns"]


@compiled_inside
def enter_decode(fleet: FleetState, index: int, replica: np.void, slot: int, generated: int) -> None:
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
def leave_decode(fleet: FleetState, index: int, replica: np.void, slot: int, generated: int) -> None:
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
def advance_decode(fleet: FleetState, index: int, replica: np.void, steps: int) -> None:
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
def finish_sequence(fleet: FleetState, index: int, replica: np.void, slot: int, now_ns: int) -> None:
    """End a request whose last token has come at an instant [ns]."""
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    request = fleet.requests[number]
    request["finished_ns"] = now_ns
    request["outcome"] = FINISHED
    replica["outstanding"] -= 1
    if request["first_child"] >= 0:
        leave(fleet, number, PARENT_FINISHED)
    # The last token's KV is never written: nothing attends to it.
    context = request["prompt_tokens"] + request["output_tokens"] - 1
    if pool["cache_block"] > 0:
        keep(fleet, index, slot, context)
    release(fleet, index, replica, slot, pool["sequence_charge"] + context)


@compiled_apart
def hand_over(fleet: FleetState, index: int, replica: np.void, slot: int, request: np.void) -> None:
    """Let a prefilled request go to the pool that decodes it; its KV here is free once it is on its way."""
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    context = fleet.slots[index, slot]["target"]
    request["generated"] += 1
    request["stage"] |= TRANSFERRED
    replica["outstanding"] -= 1
    leave(fleet, number, HANDED_OVER)
    if pool["cache_block"] > 0:
        keep(fleet, index, slot, context)
    release(fleet, index, replica, slot, pool["sequence_charge"] + context)


@compiled_inside
def release(fleet: FleetState, index: int, replica: np.void, slot: int, charged: int) -> None:
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
def give_up(fleet: FleetState, index: int, replica: np.void, slot: int) -> bool:
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
        leave_decode(fleet, index, replica, slot, generated)
        request["generated"] = generated
        charged = pool["sequence_charge"] + request["prompt_tokens"] + generated - 1
    release(fleet, index, replica, slot, charged)
    return not prefilling


@compiled_inside
def swapped_tokens(request: np.void) -> int:
    """Return the KV that a decoding sequence leaves when it is preempted [tokens]."""
    return request["prompt_tokens"] + request["generated"] - 1


@compiled_apart
def preempt(fleet: FleetState, index: int, replica: np.void, level: int) -> None:
    """Give up the newest sequence of a priority: its KV is recomputed, or read back, when it is admitted again."""
    slot = newest_prefilling(fleet, index, level)
    if slot < 0:
        slot = fleet.queues[index, level]["newest"]
    pool = fleet.pools[replica["pool"]]
    number = fleet.slots[index, slot]["request"]
    request = fleet.requests[number]
    if give_up(fleet, index, replica, slot) and pool["swap_capacity"] > 0:
        tokens = swapped_tokens(request)
        if replica["swapped_tokens"] + tokens <= pool["swap_capacity"]:
            request["stage"] |= SWAPPED
            replica["swapped_tokens"] += tokens
            replica["extra_duration"] += tokens * pool["swap_duration"]
    request["preemptions"] += 1
    replica["preemptions"] += 1
    push_front(fleet, index, number, replica["clock_ns"])
