"""When replicas are away: failures drawn before the run, and outages, maintenance and roll-outs at stated times.

Every accelerator, system and rack has a random stream of its own, so that more replicas, another seed of the traffic
or a planted outage leave all other failures where they were. Replicas fill systems in the order of the pool, and none
that fits one lies across two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.demand.streams import stream
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.reliability import FailureModeSpec, RollOutSpec, SourcedFailureModeSpec

ACCELERATOR, SYSTEM, RACK, MAINTENANCE, ROLL_OUT = 0, 1, 2, 3, 4
"""Codes of what takes a replica away."""

KINDS = {"accelerator": ACCELERATOR, "system": SYSTEM, "rack": RACK, "maintenance": MAINTENANCE, "roll_out": ROLL_OUT}
"""Name in a scenario -> code."""

UP, DOWN, DRAIN = 0, 1, 2
"""Codes of what happens to a replica, in their order at one instant."""

OUTAGE = np.dtype(
    [
        ("drain_ns", np.int64),  # no new requests from here on
        ("start_ns", np.int64),  # down from here on
        ("end_ns", np.int64),  # may start again from here on; the cold start comes on top
        ("pool", np.int32),
        ("replica", np.int32),  # position in the pool
        ("kind", np.int8),  # of the earliest of those that were merged
    ]
)
"""A time in which a replica is away."""

OUTAGE_EVENT = np.dtype([("instant_ns", np.int64), ("pool", np.int32), ("replica", np.int32), ("change", np.int8)])
"""A replica goes or comes."""

_NANOSECONDS = 1e9
_FEWEST_DRAWS = 8


@dataclass(frozen=True)
class FailureMode:
    """How often one thing fails, how long it is away, and which replicas it takes along."""

    kind: int
    """Code of what it is."""

    rate: float
    """Failures of one that is up [1/s]."""

    repair_s: float
    """Mean time to repair [s]."""

    members: Sequence[Sequence[int]]
    """Replicas that each of them takes along."""


def failure_modes(pool: PoolSpec, hardware: HardwareSpec) -> list[FailureMode]:
    """Return what can fail in a pool, and what it takes along.

    Parameters
    ----------
    pool : PoolSpec
        The pool; its own rates go before those of the profile.
    hardware : HardwareSpec
        Profile of its accelerators.

    Raises
    ------
    ValueError
        The pool fails at the rates of a profile that states none.

    """
    if pool.failures is None:
        return []
    accelerators, replicas = pool.parallelism.accelerators, range(pool.most_replicas)
    stated = hardware.reliability.system_accelerators
    size = hardware.scale_up_domain if stated is None else stated.value
    # A replica larger than a system lies on several, any of which takes it down.
    per_system, of_each = max(1, size // accelerators), max(1, -(-accelerators // size))
    systems = [[*replicas[first : first + per_system]] for first in range(0, len(replicas), per_system)]
    own, known = pool.failures, hardware.reliability
    modes = [
        _mode(
            ACCELERATOR, own.accelerator, known.accelerator, [[each] for each in replicas for _ in range(accelerators)]
        ),
        _mode(SYSTEM, own.system, known.system, [members for members in systems for _ in range(of_each)]),
    ]
    if own.rack is not None:
        per_rack = max(1, per_system * own.rack.systems // of_each)
        racks = [[*replicas[first : first + per_rack]] for first in range(0, len(replicas), per_rack)]
        modes.append(_mode(RACK, own.rack, None, racks))
    return modes


def _mode(
    kind: int,
    own: FailureModeSpec | None,
    known: SourcedFailureModeSpec | None,
    members: Sequence[Sequence[int]],
) -> FailureMode:
    if own is not None:
        return FailureMode(kind, own.rate, own.repair, members)
    if known is None:
        raise ValueError("the hardware profile states no failure rate")
    return FailureMode(kind, known.rate.value, known.repair.value, members)


def outage_table(
    pools: Sequence[tuple[str, PoolSpec, HardwareSpec]], seed: int, replication: int, end_ns: int
) -> NDArray[np.void]:
    """Return when which replicas are away.

    Parameters
    ----------
    pools : sequence of (name, pool, hardware)
        The fleet in its order.
    seed, replication : int
        Of the run.
    end_ns : int
        End of the run; outages that would begin later are left out, those that last longer are kept whole [ns].

    Returns
    -------
    ndarray of OUTAGE
        Outages of one replica neither overlap nor touch; in order of start, pool and replica.

    """
    rows: list[tuple[int, int, int, int, int, int]] = []
    for index, (name, pool, hardware) in enumerate(pools):
        fixed = pool.failures is not None and pool.failures.repair_times == "fixed"
        for mode in failure_modes(pool, hardware):
            for number, members in enumerate(mode.members):
                draws = stream(seed, "outages", name, mode.kind, number, replication)
                for start_ns, away_ns in _failures(mode, fixed, draws, end_ns):
                    rows += [(start_ns, start_ns, start_ns + away_ns, index, replica, mode.kind) for replica in members]
        rows += [row for row in _planted(index, pool) if row[1] < end_ns]
    return merged(np.array(rows, OUTAGE))


def _failures(mode: FailureMode, fixed: bool, draws: np.random.Generator, end_ns: int) -> Iterator[tuple[int, int]]:
    """Yield start and length of the failures of one thing: an alternating renewal process that begins up [ns]."""
    if mode.rate <= 0.0:
        return
    now_ns = 0
    repair_ns = mode.repair_s * _NANOSECONDS
    while True:
        up = draws.exponential(_NANOSECONDS / mode.rate, _FEWEST_DRAWS)
        away = draws.exponential(repair_ns, _FEWEST_DRAWS)
        for up_ns, away_ns in zip(up, away, strict=True):
            now_ns += int(up_ns)
            if now_ns >= end_ns:
                return
            length_ns = max(1, round(repair_ns if fixed else away_ns))
            yield now_ns, length_ns
            now_ns += length_ns


def _planted(index: int, pool: PoolSpec) -> Iterator[tuple[int, int, int, int, int, int]]:
    for outage in pool.outages:
        start_ns, away_ns, drain_ns = _whole(outage.start), _whole(outage.duration), _whole(outage.drain)
        for replica in outage.replicas:
            yield start_ns - drain_ns, start_ns, start_ns + away_ns, index, replica, KINDS[outage.kind]
    for roll_out in pool.roll_outs:
        yield from _rolled_out(index, pool, roll_out)


def _rolled_out(index: int, pool: PoolSpec, roll_out: RollOutSpec) -> Iterator[tuple[int, int, int, int, int, int]]:
    drain_ns, away_ns = _whole(roll_out.drain), _whole(roll_out.duration)
    for replica in range(pool.most_replicas):
        begin_ns = _whole(roll_out.start) + replica // roll_out.at_once * _whole(roll_out.interval)
        start_ns = begin_ns + drain_ns
        yield begin_ns, start_ns, start_ns + away_ns, index, replica, ROLL_OUT


def _whole(seconds: float) -> int:
    return round(seconds * _NANOSECONDS)


def merged(table: NDArray[np.void]) -> NDArray[np.void]:
    """Return outages of which those of one replica that overlap or touch, draining included, are one.

    It drains and goes down with the first of them, comes back with the last, and is of the kind that took it down: who
    is away while another outage drains does not come back for that.

    Parameters
    ----------
    table : ndarray of OUTAGE
        In any order.

    """
    rows: list[list[int]] = []
    for drain_ns, start_ns, end_ns, pool, replica, kind in np.sort(
        table, order=["pool", "replica", "drain_ns", "start_ns", "kind", "end_ns"]
    ).tolist():
        if rows and rows[-1][3:5] == [pool, replica] and drain_ns <= rows[-1][2]:
            last = rows[-1]
            if start_ns < last[1]:
                last[1], last[5] = start_ns, kind
            last[2] = max(last[2], end_ns)
        else:
            rows.append([drain_ns, start_ns, end_ns, pool, replica, kind])
    result = np.array([tuple(row) for row in rows], OUTAGE)
    return np.sort(result, order=["start_ns", "pool", "replica"])


def outage_events(table: NDArray[np.void]) -> NDArray[np.void]:
    """Return what happens to replicas in order of time; at one instant they come before they go.

    Parameters
    ----------
    table : ndarray of OUTAGE
        As `outage_table` gives it.

    Returns
    -------
    ndarray of OUTAGE_EVENT
        Each outage goes down and comes up; one that drains before it does that first.

    """
    events = []
    for drain_ns, start_ns, end_ns, pool, replica, _ in table.tolist():
        if drain_ns < start_ns:
            events.append((drain_ns, pool, replica, DRAIN))
        events += [(start_ns, pool, replica, DOWN), (end_ns, pool, replica, UP)]
    return np.sort(np.array(events, OUTAGE_EVENT), order=["instant_ns", "change", "pool", "replica"])


def availability(rate: float, repair_s: float) -> float:
    """Return the long-run share of the time in which one thing is up, `1 / (1 + rate repair)` [1]."""
    return 1.0 / (1.0 + rate * repair_s)
