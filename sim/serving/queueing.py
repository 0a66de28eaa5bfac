"""Who waits, who is next, and who has to go: queues by priority, first come first served within one.

A lower number goes first. A request that does not fit holds up all behind it, those of lower priority too; running
sequences of lower priority give way to it, the newest of the lowest priority first.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled, compiled_apart
from sim.serving.state import FleetState
from sim.serving.timeline import account_waiting


@compiled
def first_level(fleet: FleetState, index: int) -> int:
    """Return the highest priority that has a waiting request; the number of priorities when nobody waits."""
    for level in range(fleet.queues.shape[1]):
        if fleet.queues[index, level]["head"] >= 0:
            return level
    return fleet.queues.shape[1]


@compiled
def lowest_running_level(fleet: FleetState, index: int) -> int:
    """Return the lowest priority that has a running sequence; -1 when nothing runs."""
    for level in range(fleet.queues.shape[1] - 1, -1, -1):
        if fleet.queues[index, level]["running"] > 0:
            return level
    return -1


@compiled
def push_back(fleet: FleetState, index: int, request: int, now_ns: int) -> None:
    """Put a request behind the others of its priority."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    queue = fleet.queues[index, fleet.requests[request]["priority"]]
    fleet.requests[request]["next"] = -1
    if queue["head"] < 0:
        queue["head"] = request
    else:
        fleet.requests[queue["tail"]]["next"] = request
    queue["tail"] = request
    replica["waiting"] += 1


@compiled
def push_front(fleet: FleetState, index: int, request: int, now_ns: int) -> None:
    """Put a request before the others of its priority."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    queue = fleet.queues[index, fleet.requests[request]["priority"]]
    fleet.requests[request]["next"] = queue["head"]
    if queue["head"] < 0:
        queue["tail"] = request
    queue["head"] = request
    replica["waiting"] += 1


@compiled
def pop_front(fleet: FleetState, index: int, level: int, now_ns: int) -> int:
    """Take the first waiting request of a priority, which must have one."""
    replica = fleet.replicas[index]
    account_waiting(fleet, replica, now_ns)
    queue = fleet.queues[index, level]
    request = queue["head"]
    queue["head"] = fleet.requests[request]["next"]
    replica["waiting"] -= 1
    return request


@compiled
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
def ring_remove_newest(fleet: FleetState, index: int, level: int) -> int:
    """Take the newest prefilling slot of a priority out of the ring; -1 when none of it prefills."""
    replica = fleet.replicas[index]
    capacity = fleet.pools[replica["pool"]]["max_sequences"]
    for place in range(replica["prefilling"] - 1, -1, -1):
        slot = fleet.prefill_ring[index, (replica["prefill_head"] + place) % capacity]
        if fleet.requests[fleet.slots[index, slot]["request"]]["priority"] == level:
            for later in range(place + 1, replica["prefilling"]):
                moved = fleet.prefill_ring[index, (replica["prefill_head"] + later) % capacity]
                fleet.prefill_ring[index, (replica["prefill_head"] + later - 1) % capacity] = moved
            replica["prefilling"] -= 1
            return slot
    return -1


@compiled
def backlog_up_to(fleet: FleetState, index: int, level: int) -> int:
    """Return the tokens that admitted sequences of this and of higher priorities still have to prefill."""
    tokens = 0
    for each in range(level + 1):
        tokens += fleet.queues[index, each]["backlog"]
    return tokens


@compiled
def link_newest(fleet: FleetState, index: int, slot: int, level: int) -> None:
    """Append a slot to the decoding slots of its priority."""
    queue = fleet.queues[index, level]
    entry = fleet.slots[index, slot]
    entry["newer"] = -1
    entry["older"] = queue["newest"]
    if queue["newest"] >= 0:
        fleet.slots[index, queue["newest"]]["newer"] = slot
    queue["newest"] = slot


@compiled
def unlink(fleet: FleetState, index: int, entry: np.void, level: int) -> None:
    """Take a slot out of the decoding slots of its priority."""
    if entry["newer"] >= 0:
        fleet.slots[index, entry["newer"]]["older"] = entry["older"]
    else:
        fleet.queues[index, level]["newest"] = entry["older"]
    if entry["older"] >= 0:
        fleet.slots[index, entry["older"]]["newer"] = entry["newer"]
