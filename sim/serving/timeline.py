"""What happened when: the timeline of a pool, kept as time passes.

Waiting, running and busy time and tokens are exact integers, split at the ends of the timeline's intervals; a token
counts in the interval in which its step ends.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled_inside
from sim.serving.span import steps_within
from sim.serving.state import FRACTION_BITS, NEVER, FleetState


@compiled_inside
def interval_of(fleet: FleetState, time_ns: int) -> int:
    """Return the timeline interval of an instant; what comes after the last one is counted in it."""
    return min(time_ns // fleet.interval_ns, fleet.timeline.shape[1] - 1)


@compiled_inside
def _interval_end(fleet: FleetState, interval: int) -> int:
    """Return the end of a timeline interval [ns]; the last one has none."""
    if interval >= fleet.timeline.shape[1] - 1:
        return NEVER
    return (interval + 1) * fleet.interval_ns


@compiled_inside
def account_waiting(fleet: FleetState, replica: np.void, now_ns: int) -> None:
    """Add `waiting x time` since the last change of the queue, split at the timeline's intervals."""
    start = replica["waiting_since_ns"]
    replica["waiting_since_ns"] = now_ns
    if replica["waiting"] == 0:
        return
    interval = interval_of(fleet, start)
    while start < now_ns:
        end = min(now_ns, _interval_end(fleet, interval))
        fleet.timeline[replica["pool"], interval]["waiting_ns"] += replica["waiting"] * (end - start)
        start = end
        interval += 1


@compiled_inside
def account_span(fleet: FleetState, replica: np.void, until_ns: int) -> None:
    """Add the running span to the timeline: time exactly, tokens to the interval in which their step ends."""
    first, growth = replica["first_duration"], replica["duration_growth"]
    running = replica["decoding"] + replica["prefilling"]
    ended = 0
    kv_before = 0.0
    start = replica["clock_ns"]
    interval = interval_of(fleet, start)
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
        row["decode_tokens"] += replica["decoding"] * (steps - ended)
        if steps > ended:
            row["prefill_tokens"] += replica["prefill_tokens"]
        kv_until = _kv_integral(replica, steps, ((end - replica["clock_ns"]) << FRACTION_BITS))
        row["kv_token_ns"] += kv_until - kv_before
        kv_before = kv_until
        if end >= until_ns:
            return
        ended = steps
        start = end
        interval += 1


@compiled_inside
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
