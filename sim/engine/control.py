"""Policies of control: how many replicas a pool asks for, and which steps lead there. Pure functions of numbers.

A replica is off, starting, a warm spare, ready, draining or failed. Each decision has two parts: `next_target` turns
the offered load into a number of replicas, within bounds, schedule and cool-downs; `scale_changes` turns that number
into starts and stops, whatever has failed meanwhile. A pool that does not scale has a constant target, and the same
second part brings back what has failed.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sim.serving.compilation import compiled
from sim.specs.control import Autoscaling, ScheduledScalingSpec
from sim.specs.fleet import PoolSpec

OFF, STARTING, SPARE, READY, DRAINING, FAILED = 0, 1, 2, 3, 4, 5
"""Where a replica stands: the codes of its life."""

UTILISATION, OUTSTANDING, QUEUE, TTFT, SCHEDULE = 0, 1, 2, 3, 4
"""Codes of what a pool scales by."""

SIGNALS = {
    "utilisation": UTILISATION,
    "outstanding": OUTSTANDING,
    "queue": QUEUE,
    "ttft": TTFT,
    "schedule": SCHEDULE,
}
"""Name in a scenario -> code."""

LONG_AGO_NS = -(2**62)
"""Instant of a change that never was [ns]."""

SCALING = np.dtype(
    [
        ("signal", np.int64),
        ("target", np.float64),  # per ready replica; for TTFT [ns]
        ("tolerance", np.float64),  # share of the target within which nothing changes
        ("release", np.float64),  # share of the target below which one replica is given back
        ("minimum", np.int64),
        ("maximum", np.int64),
        ("warm_spares", np.int64),
        ("interval_ns", np.int64),
        ("up_cooldown_ns", np.int64),
        ("down_cooldown_ns", np.int64),
        ("period_ns", np.int64),  # after which the schedule begins anew
        ("offset_ns", np.int64),  # of the start of the run in that period
    ]
)

_NANOSECONDS = 1e9
_HOUR_NS = 3600 * 10**9
_ROUNDING = 1e-9  # of a replica: 24 requests at 12 each are two replicas, whatever the division gives


def scaling_record(pool: PoolSpec, start_hour: float) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
    """Return how a pool scales, as the compiled functions read it.

    Parameters
    ----------
    pool : PoolSpec
        The pool; one without autoscaling keeps its replicas, and never decides.
    start_hour : float
        Hour at which the run starts, from Monday 0:00 [h].

    Returns
    -------
    tuple of arrays
        A SCALING record of shape (), the instants of the schedule within its period [ns] and the replicas from each
        of them on, both of shape (entries,).

    """
    record = np.zeros((), SCALING)
    scale = pool.autoscaling
    if scale is None:
        record["signal"] = SCHEDULE
        record["minimum"] = record["maximum"] = pool.replicas
        record["period_ns"] = 24 * _HOUR_NS
        return record, np.zeros(0, np.int64), np.zeros(0, np.int64)
    period_ns = (24 if scale.repeats == "day" else 168) * _HOUR_NS
    record["signal"] = SIGNALS[scale.signal]
    record["target"] = _target(scale)
    record["tolerance"] = scale.tolerance
    record["release"] = getattr(scale, "release", 0.0)
    record["minimum"] = scale.minimum
    record["maximum"] = scale.maximum
    record["warm_spares"] = scale.warm_spares
    for key in ("interval", "up_cooldown", "down_cooldown"):
        record[f"{key}_ns"] = round(getattr(scale, key) * _NANOSECONDS)
    record["period_ns"] = period_ns
    record["offset_ns"] = round(start_hour * _HOUR_NS) % period_ns
    hours = np.array([round(entry.hour * _HOUR_NS) for entry in scale.schedule], np.int64)
    return record, hours, np.array([entry.replicas for entry in scale.schedule], np.int64)


def _target(scale: Autoscaling) -> float:
    """Return the target of a signal, for TTFT in [ns]; 0 where the hour alone decides."""
    if isinstance(scale, ScheduledScalingSpec):
        return 0.0
    return scale.target * _NANOSECONDS if scale.signal == "ttft" else scale.target


@compiled
def scheduled_replicas(policy: np.void, hours_ns: NDArray[np.int64], replicas: NDArray[np.int64], now_ns: int) -> int:
    """Return the replicas that the schedule asks for; the minimum where there is none.

    Before its first entry of a period the last one still holds.
    """
    if len(hours_ns) == 0:
        return policy["minimum"]
    hour_ns = (policy["offset_ns"] + now_ns) % policy["period_ns"]
    entry = len(hours_ns) - 1
    for index in range(len(hours_ns)):
        if hours_ns[index] <= hour_ns:
            entry = index
    return replicas[entry]


@compiled
def wanted_by_load(replicas: int, load: float, target: float, tolerance: float) -> int:
    """Return the replicas that bring the load per replica to its target: `ceil(load / target)`.

    Where the load on the present number is within the tolerance of the target, it stays. This is the rule of the
    Kubernetes horizontal pod autoscaler, `ceil(replicas * signal / target)`, with the sum in place of replicas times
    mean, so that it holds with no replica ready.
    """
    if abs(load - replicas * target) <= tolerance * replicas * target:
        return replicas
    return math.ceil(load / target - _ROUNDING)


@compiled
def wanted_by_symptom(
    replicas: int, ready: int, symptom: float, target: float, tolerance: float, release: float
) -> int:
    """Return the replicas that a queue or a latency asks for, `replicas` being asked for already.

    Above its target, those that are ready grow in proportion, by one at least; those that are still on their way are
    not asked for twice. A symptom says nothing of how much is to spare: below `release` times the target one replica
    is given back, and the next decision sees what that did.
    """
    if symptom > target * (1.0 + tolerance):
        return max(replicas, ready + 1, math.ceil(ready * symptom / target - _ROUNDING))
    if symptom < target * release:
        return replicas - 1
    return replicas


@compiled
def next_target(
    policy: np.void,
    hours_ns: NDArray[np.int64],
    replicas: NDArray[np.int64],
    target: int,
    ready: int,
    load: float,
    now_ns: int,
    changed_ns: int,
) -> int:
    """Return the number of replicas that a pool asks for after a decision.

    Parameters
    ----------
    policy : SCALING record
        How the pool scales.
    hours_ns, replicas : ndarray of int, shape (entries,)
        Its schedule, see `scaling_record`.
    target : int
        Replicas that it has asked for so far.
    ready : int
        Replicas that take requests now.
    load : float
        The offered load. By signal: replicas' worth of slots or KV memory asked for, summed over the pool;
        requests sent there and not finished, summed; waiting requests, summed; or mean time to first token [ns].
    now_ns : int
        Time [ns].
    changed_ns : int
        When the target last changed; LONG_AGO_NS if never [ns].

    """
    floor = max(policy["minimum"], scheduled_replicas(policy, hours_ns, replicas, now_ns))
    signal = policy["signal"]
    if signal == SCHEDULE:
        wanted = floor
    elif signal in (UTILISATION, OUTSTANDING):
        wanted = wanted_by_load(target, load, policy["target"], policy["tolerance"])
    else:
        symptom = load / max(1, ready) if signal == QUEUE else load
        wanted = wanted_by_symptom(target, ready, symptom, policy["target"], policy["tolerance"], policy["release"])
    wanted = max(floor, min(wanted, policy["maximum"] - policy["warm_spares"]))
    if wanted > target and now_ns - changed_ns < policy["up_cooldown_ns"]:
        return target
    if wanted < target and now_ns - changed_ns < policy["down_cooldown_ns"]:
        return target
    return wanted


@compiled
def scale_changes(
    target: int, warm_spares: int, ready: int, draining: int, starting: int, spare: int, off: int
) -> tuple[int, int, int, int, int, int]:
    """Return what brings a pool to its target and its warm spares; those that have failed cannot help.

    Parameters
    ----------
    target, warm_spares : int
        Replicas to take requests, and replicas beyond them to be started.
    ready, draining, starting, spare, off : int
        Replicas in each state; only those that drain because the target fell.

    Returns
    -------
    tuple of int
        Numbers to recall (draining to ready), to promote (spare to ready), to start (off to starting), to cancel
        (starting to off), to release (spare to off) and to drain (ready to draining).

    """
    recalled = max(0, min(draining, target - ready))
    promoted = max(0, min(spare, target - ready - recalled))
    drained = max(0, ready - target)
    short = target - ready - recalled - promoted + drained
    standing = starting + spare - promoted
    started = max(0, min(off, short + warm_spares - standing - (draining - recalled) - drained))
    excess = max(0, standing - short - warm_spares)
    cancelled = min(starting, excess)
    return recalled, promoted, started, cancelled, excess - cancelled, drained


@compiled
def after_drain(target: int, warm_spares: int, ready: int, starting: int, spare: int) -> int:
    """Return what becomes of a replica that has drained: a warm spare where one is missing, else off."""
    return SPARE if starting + spare < max(0, target - ready) + warm_spares else OFF
