"""The next batch of a replica: who is admitted, what each sequence does in the next step, and how long steps last."""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled_apart, compiled_inside, compiled_where
from sim.serving.power import throttled
from sim.serving.prefix_cache import Hit, look_up, trim, use
from sim.serving.queueing import backlog_up_to, first_level, lowest_running_level, pop_front, ring_insert
from sim.serving.sequences import enter_decode, note_first_token, preempt, swapped_tokens
from sim.serving.span import LONGEST_SPAN, end_of_span_ns, steps_within
from sim.serving.state import CANCELLED, CROSSING, FINISH, NEVER, RUNNING, SWAPPED, TRANSFERRED, WATCHED, FleetState
from sim.serving.timeline import interval_of


@compiled_inside
def admit(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> None:
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
        while not fits(fleet, index, replica, pool, level, charge + hit.pinned_tokens):
            lowest = lowest_running_level(fleet, index)
            if lowest <= level:
                return
            preempt(fleet, index, replica, lowest)
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
            note_hit(fleet, index, slot)
        if request["admitted_ns"] < 0:
            request["admitted_ns"] = replica["clock_ns"]
        if computed:
            resume(fleet, index, replica, slot, request)
        else:
            ring_insert(fleet, index, slot, level)
            fleet.queues[index, level]["backlog"] += target - entry["done"]


def _nothing(fleet: FleetState, index: int, slot: int) -> None:
    return None


@compiled_where(0, "prefixes", _nothing)
def note_hit(fleet: FleetState, index: int, slot: int) -> None:
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
def resume(fleet: FleetState, index: int, replica: np.void, slot: int, request: np.void) -> None:
    """Let a request whose KV exists already decode from the next step on."""
    if request["stage"] & SWAPPED:
        tokens = swapped_tokens(request)
        replica["swapped_tokens"] -= tokens
        replica["extra_duration"] += tokens * fleet.pools[replica["pool"]]["swap_duration"]
    request["stage"] &= CANCELLED | WATCHED
    if request["first_token_ns"] < 0:
        note_first_token(replica, request, replica["clock_ns"])
    enter_decode(fleet, index, replica, slot, request["generated"])


@compiled_inside
def fits(fleet: FleetState, index: int, replica: np.void, pool: np.void, level: int, charge: int) -> bool:
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
def plan_step(fleet: FleetState, index: int, replica: np.void) -> None:
    """Choose the next batch and the length of its span; the replica goes idle when there is nothing to do."""
    pool = fleet.pools[replica["pool"]]
    while replica["kv_used"] + replica["decoding"] > pool["kv_capacity"]:
        preempt(fleet, index, replica, lowest_running_level(fleet, index))
    admit(fleet, index, replica, pool)
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
        duration += chunk_duration(pool, entry["done"], chunk)
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
        steps = steps_until_change(fleet, index, replica, pool)
    replica["span_steps"] = steps
    replica["end_ns"] = end_of_span_ns(replica)


@compiled_inside
def steps_until_change(fleet: FleetState, index: int, replica: np.void, pool: np.void) -> int:
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
def chunk_duration(pool: np.void, past: int, chunk: int) -> int:
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
