"""Who waits, who is next, and who has to go: queues by priority, first come first served within one.

A lower number goes first; within a priority requests with deadlines go by them. A request that does not fit holds up
all behind it, those of lower priority too; running sequences of lower priority give way to it, the newest of the
lowest priority first.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled_apart, compiled_inside
from sim.serving.state import FleetState
from sim.serving.timeline import account_waiting


@compiled_inside
def first_level(fleet: FleetState, index: int) -> int:
    """Return the highest priority that has a waiting request; the number of priorities when nobody waits."""
    for level in range(fleet.queues.shape[1]):
        if fleet.queues[index, level]["head"] >= 0:
            return level
    return fleet.queues.shape[1]


@compiled_inside
def lowest_running_level(fleet: FleetState, index: int) -> int:
    """Return the lowest priority that has a running sequence; -1 when nothing runs."""
    for level in range(fleet.queues.shape[1] - 1, -1, -1):
        if fleet.queues[index, level]["running"] > 0:
            return level
    return -1


@compiled_inside
def push_back(fleet: FleetState, index: int, request: int, now_ns: int) -> None:
    """Put a request behind the others of its priority that are due before it, which without deadlines are all."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    queue = fleet.queues[index, fleet.requests[request]["priority"]]
    before = queue["tail"]
    if len(fleet.deadlines) > 0:
        while before >= 0 and fleet.deadlines[before] > fleet.deadlines[request]:
            before = fleet.requests[before]["previous"]
    _insert(fleet, queue, request, before)
    replica["waiting"] += 1
    replica["waiting_tokens"] += fleet.requests[request]["prompt_tokens"]


@compiled_inside
def push_front(fleet: FleetState, index: int, request: int, now_ns: int) -> None:
    """Put a request before the others of its priority."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    _insert(fleet, fleet.queues[index, fleet.requests[request]["priority"]], request, -1)
    replica["waiting"] += 1
    replica["waiting_tokens"] += fleet.requests[request]["prompt_tokens"]


@compiled_inside
def _insert(fleet: FleetState, queue: np.void, request: int, before: int) -> None:
    """Put a request behind another one of a queue, at its head when that is -1."""
    after = queue["head"] if before < 0 else fleet.requests[before]["next"]
    fleet.requests[request]["previous"] = before
    fleet.requests[request]["next"] = after
    if before < 0:
        queue["head"] = request
    else:
        fleet.requests[before]["next"] = request
    if after < 0:
        queue["tail"] = request
    else:
        fleet.requests[after]["previous"] = request


@compiled_inside
def remove_waiting(fleet: FleetState, index: int, request: int, now_ns: int) -> None:
    """Take a waiting request out of its queue, wherever it stands."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    record = fleet.requests[request]
    queue = fleet.queues[index, record["priority"]]
    before, after = record["previous"], record["next"]
    if before < 0:
        queue["head"] = after
    else:
        fleet.requests[before]["next"] = after
    if after < 0:
        queue["tail"] = before
    else:
        fleet.requests[after]["previous"] = before
    replica["waiting"] -= 1
    replica["waiting_tokens"] -= record["prompt_tokens"]


@compiled_inside
def pop_front(fleet: FleetState, index: int, level: int, now_ns: int) -> int:
    """Take the first waiting request of a priority, which must have one."""
    request = fleet.queues[index, level]["head"]
    remove_waiting(fleet, index, request, now_ns)
    return request


@compiled_inside
def ring_insert(fleet: FleetState, index: int, slot: int, level: int) -> None:
    """Put a slot into the prefill ring behind those of its own and of higher priorities."""
    replica = fleet.replicas[index]
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    place = replica["prefilling"]
    while place > 0:
        before = fleet.prefill_ring[index, (replica["prefill_head"] + place - 1) % capacity]
        if fleet.requests[fleet.slots[index, before]["request"]]["priority"] <= level:
            break
        fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity] = before
        place -= 1
    fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity] = slot
    replica["prefilling"] += 1


@compiled_apart
def newest_prefilling(fleet: FleetState, index: int, level: int) -> int:
    """Return the newest prefilling slot of a priority; -1 when none of it prefills."""
    replica = fleet.replicas[index]
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    for place in range(replica["prefilling"] - 1, -1, -1):
        slot = fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity]
        if fleet.requests[fleet.slots[index, slot]["request"]]["priority"] == level:
            return slot
    return -1


@compiled_apart
def ring_remove(fleet: FleetState, index: int, slot: int) -> bool:
    """Take a slot out of the prefill ring; return whether it was there."""
    replica = fleet.replicas[index]
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    found = False
    for place in range(replica["prefilling"]):
        each = fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity]
        if found:
            fleet.prefill_ring[index, (replica["prefill_head"] + place - 1) % capacity] = each
        elif each == slot:
            found = True
    if found:
        replica["prefilling"] -= 1
    return found


@compiled_inside
def backlog_up_to(fleet: FleetState, index: int, level: int) -> int:
    """Return the tokens that admitted sequences of this and of higher priorities still have to prefill."""
    tokens = 0
    for each in range(level + 1):
        tokens += fleet.queues[index, each]["backlog"]
    return tokens


@compiled_inside
def link_newest(fleet: FleetState, index: int, slot: int, level: int) -> None:
    """Append a slot to the decoding slots of its priority."""
    queue = fleet.queues[index, level]
    entry = fleet.slots[index, slot]
    entry["newer"] = -1
    entry["older"] = queue["newest"]
    if queue["newest"] >= 0:
        fleet.slots[index, queue["newest"]]["newer"] = slot
    queue["newest"] = slot


@compiled_inside
def unlink(fleet: FleetState, index: int, entry: np.void, level: int) -> None:
    """Take a slot out of the decoding slots of its priority."""
    if entry["newer"] >= 0:
        fleet.slots[index, entry["newer"]]["older"] = entry["older"]
    else:
        fleet.queues[index, level]["newest"] = entry["older"]
    if entry["older"] >= 0:
        fleet.slots[index, entry["older"]]["newer"] = entry["newer"]
