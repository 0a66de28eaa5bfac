"""What control reads of a replica in the middle of a span: how busy it was, what it holds, and who waits how long."""

from __future__ import annotations

from sim.serving.compilation import compiled
from sim.serving.span import steps_before
from sim.serving.state import FleetState


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
