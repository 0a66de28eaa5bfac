"""The life of replicas in time: scaling, outages and draining, acted out between the events of an engine.

Engines stop before each instant at which control has something to do, so both of them see the same control, and it
may be plain Python: it acts thousands of times in a run, not millions. At one instant replicas that have started come
first, then those that come back, go down, and begin to drain, then decisions; all before the requests that arrive then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.demand.outages import DOWN, DRAIN, UP
from sim.engine.control import (
    DRAINING,
    FAILED,
    LONG_AGO_NS,
    OFF,
    READY,
    SPARE,
    STARTING,
    after_drain,
    next_target,
    scale_changes,
)
from sim.serving.state import NEVER

STATES = FAILED + 1
"""States of a replica."""

_STARTED, _UP, _DOWN, _DRAIN, _DECIDE = range(5)
_CHANGES = {UP: _UP, DOWN: _DOWN, DRAIN: _DRAIN}


class Operations(Protocol):
    """What control does to a fleet, and sees of it."""

    def open(self, index: int, now_ns: int) -> None:
        """Let a replica take requests from now on."""

    def shut(self, index: int, drains: bool) -> None:
        """Let a replica take no new requests; `drains` where control waits for it to become empty."""

    def fail(self, index: int, now_ns: int) -> None:
        """Lose everything that a replica has; its requests go elsewhere."""

    def empty(self, index: int) -> bool:
        """Return whether a replica has no requests."""

    def load(self, pool: int, signal: int, now_ns: int) -> float:
        """Return the offered load of a pool, see `sim.engine.control.next_target`."""


@dataclass(frozen=True)
class PoolControl:
    """How one pool is controlled."""

    first: int
    """Its first replica in the fleet."""

    most: int
    """Replicas that it can have."""

    initial: int
    """Replicas that are ready at the start."""

    policy: np.void
    """How it scales, a SCALING record."""

    hours_ns: NDArray[np.int64]
    """Its schedule, see `sim.engine.control.scaling_record`."""

    replicas: NDArray[np.int64]
    """Replicas from each of these on."""

    cold_start_ns: int
    """Time from off to ready [ns]."""

    scales: bool
    """Whether there are decisions."""


class FleetControl:
    """State of all replicas in their life, and what is to happen to them."""

    def __init__(
        self,
        pools: Sequence[PoolControl],
        outages: NDArray[np.void],
        operations: Operations,
        interval_ns: int,
        end_ns: int,
    ) -> None:
        self._pools = pools
        self._operations = operations
        count = sum(pool.most for pool in pools)
        self.states = np.full(count, OFF, np.int8)
        """State of each replica, shape (R,)."""
        self.targets = [pool.initial for pool in pools]
        """Replicas that each pool asks for."""
        self._changed_ns = [LONG_AGO_NS] * len(pools)
        self._pool_of = np.repeat(np.arange(len(pools)), [pool.most for pool in pools])
        self._leaving = np.zeros(count, np.bool_)  # drained for an outage that comes: not to be started or recalled
        self._due_ns = np.full(count, NEVER, np.int64)  # when a start ends
        self._since_ns = np.zeros(count, np.int64)
        self._interval_ns = interval_ns
        self.state_ns = np.zeros((len(pools), max(1, -(-end_ns // interval_ns)), STATES), np.int64)
        """Time in each state by pool and interval, shape (P, I, STATES) [ns]."""
        self._events: list[tuple[int, int, int]] = []  # instant, what, replica or pool
        for number, pool in enumerate(pools):
            self.states[pool.first : pool.first + pool.initial] = READY
            spares = pool.first + pool.initial + int(pool.policy["warm_spares"])
            self.states[pool.first + pool.initial : spares] = SPARE
            if pool.scales:
                self._events.append((int(pool.policy["interval_ns"]), _DECIDE, number))
        for instant_ns, pool_number, replica, change in outages.tolist():
            self._events.append((instant_ns, _CHANGES[change], pools[pool_number].first + replica))
        heapq.heapify(self._events)
        for index in np.flatnonzero(self.states != READY).tolist():
            operations.shut(index, False)

    def next_ns(self) -> int:
        """Return when control acts next [ns]; NEVER if not at all."""
        return self._events[0][0] if self._events else NEVER

    def act(self, now_ns: int) -> None:
        """Do all that is due at an instant [ns]."""
        touched = set()
        while self._events and self._events[0][0] == now_ns:
            _, what, number = heapq.heappop(self._events)
            if what == _DECIDE:
                self._decide(number, now_ns)
                touched.add(number)
            else:
                self._change(what, number, now_ns)
                touched.add(int(self._pool_of[number]))
        for pool in sorted(touched):
            self._settle(pool, now_ns)

    def drained(self, now_ns: int) -> None:
        """Let replicas that have drained become spares or go off."""
        for index in np.flatnonzero((self.states == DRAINING) & ~self._leaving).tolist():
            if self._operations.empty(index):
                pool = int(self._pool_of[index])
                counts = self._counts(pool)
                spares = int(self._pools[pool].policy["warm_spares"])
                becomes = after_drain(self.targets[pool], spares, counts[READY], counts[STARTING], counts[SPARE])
                self._operations.shut(index, False)
                self._set(index, becomes, now_ns)
                self._settle(pool, now_ns)

    def close(self, now_ns: int) -> None:
        """Account for all states until the run stops [ns]."""
        for index in range(len(self.states)):
            self._account(index, now_ns)

    def _decide(self, number: int, now_ns: int) -> None:
        pool = self._pools[number]
        signal = int(pool.policy["signal"])
        load = self._operations.load(number, signal, now_ns)
        ready = self._counts(number)[READY]
        target = self.targets[number]
        wanted = next_target(
            pool.policy, pool.hours_ns, pool.replicas, target, ready, load, now_ns, self._changed_ns[number]
        )
        if wanted != target:
            self.targets[number], self._changed_ns[number] = int(wanted), now_ns
        heapq.heappush(self._events, (now_ns + int(pool.policy["interval_ns"]), _DECIDE, number))

    def _change(self, what: int, index: int, now_ns: int) -> None:
        """Let one replica start, come back, go down, or begin to drain."""
        state = self.states[index]
        if what == _STARTED:
            if state == STARTING and self._due_ns[index] == now_ns:
                self._join(index, now_ns)
        elif what == _UP:
            self._leaving[index] = False
            self._set(index, OFF, now_ns)
        elif what == _DOWN:
            if state in (READY, DRAINING):
                self._operations.shut(index, False)
                self._operations.fail(index, now_ns)
            self._set(index, FAILED, now_ns)
        else:
            self._leaving[index] = True
            if state in (READY, DRAINING):
                self._operations.shut(index, False)
                self._set(index, DRAINING, now_ns)
            else:
                self._set(index, OFF, now_ns)

    def _join(self, index: int, now_ns: int) -> None:
        """Let a started replica take requests where its pool has too few, else stand by."""
        pool = int(self._pool_of[index])
        if self._counts(pool)[READY] < self.targets[pool]:
            self._operations.open(index, now_ns)
            self._set(index, READY, now_ns)
        else:
            self._set(index, SPARE, now_ns)

    def _settle(self, number: int, now_ns: int) -> None:
        """Take the steps to what a pool asks for."""
        pool = self._pools[number]
        counts = self._counts(number)
        recalled, promoted, started, cancelled, released, drained = scale_changes(
            self.targets[number],
            int(pool.policy["warm_spares"]),
            counts[READY],
            counts[DRAINING],
            counts[STARTING],
            counts[SPARE],
            counts[OFF],
        )
        for index in [*self._pick(number, DRAINING, recalled), *self._pick(number, SPARE, promoted)]:
            self._operations.open(index, now_ns)
            self._set(index, READY, now_ns)
        for index in self._pick(number, OFF, started):
            if pool.cold_start_ns == 0:
                self._join(index, now_ns)
            else:
                self._due_ns[index] = now_ns + pool.cold_start_ns
                heapq.heappush(self._events, (now_ns + pool.cold_start_ns, _STARTED, index))
                self._set(index, STARTING, now_ns)
        for index in [*self._pick(number, STARTING, -cancelled), *self._pick(number, SPARE, -released)]:
            self._set(index, OFF, now_ns)
        for index in self._pick(number, READY, -drained):
            self._operations.shut(index, True)
            self._set(index, DRAINING, now_ns)
        if drained:
            self.drained(now_ns)

    def _counts(self, number: int) -> list[int]:
        """Return the replicas of a pool in each state, without those that an outage is about to take."""
        pool = self._pools[number]
        mine = slice(pool.first, pool.first + pool.most)
        counts: list[int] = np.bincount(self.states[mine][~self._leaving[mine]], minlength=STATES).tolist()
        return counts

    def _pick(self, number: int, state: int, count: int) -> list[int]:
        """Return so many replicas of a pool in a state: the first ones, or for a negative count the last ones."""
        pool = self._pools[number]
        places = pool.first + np.arange(pool.most)
        there: list[int] = places[(self.states[places] == state) & ~self._leaving[places]].tolist()
        return there[:count] if count >= 0 else there[count:]

    def _set(self, index: int, state: int, now_ns: int) -> None:
        self._account(index, now_ns)
        self.states[index] = state

    def _account(self, index: int, now_ns: int) -> None:
        """Count the time since the last change to the state that ends."""
        rows = self.state_ns[self._pool_of[index], :, self.states[index]]
        for interval, length_ns in pieces(int(self._since_ns[index]), now_ns, self._interval_ns, len(rows)):
            rows[interval] += length_ns
        self._since_ns[index] = now_ns


def pieces(start_ns: int, end_ns: int, interval_ns: int, intervals: int) -> Iterator[tuple[int | slice, int]]:
    """Yield the intervals that a time meets, and for how long; what lies beyond the last one is left out."""
    end_ns = min(end_ns, interval_ns * intervals)
    if end_ns <= start_ns:
        return
    first, last = start_ns // interval_ns, (end_ns - 1) // interval_ns
    if first == last:
        yield first, end_ns - start_ns
        return
    yield first, (first + 1) * interval_ns - start_ns
    yield slice(first + 1, last), interval_ns
    yield last, end_ns - last * interval_ns
