"""Power caps in time: at every reading, racks and the site slow their replicas as far as their caps ask for.

A reading takes the busy fractions since the last one for those to come. What a slow-down saves is counted, so that
the power in the tables is what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim.engine.control import FAILED, OFF
from sim.engine.fleet_control import pieces
from sim.serving.power import FULL_SPEED, dynamic_share, slowdown_factor
from sim.serving.state import NEVER


class PowerOperations(Protocol):
    """What power control does to a fleet, and sees of it."""

    def busy_ns(self, index: int, now_ns: int) -> int:
        """Return for how long a replica has had a step in progress until now [ns]."""

    def slow(self, index: int, factor: int) -> None:
        """Let all later steps of a replica take longer by a factor [2**-20]."""


@dataclass(frozen=True)
class PoolPower:
    """What the replicas of a pool draw."""

    first: int
    """Its first replica in the fleet."""

    most: int
    """Replicas that it can have."""

    accelerators: int
    """Accelerators of one replica."""

    idle_w: float
    """Power of an idle accelerator [W]."""

    busy_w: float
    """Power of a busy one [W]."""

    host_w: float
    """Power of host, network and fans per accelerator [W]."""

    elasticity: float
    """Exponent by which speed follows the power above idle [1]."""

    rack_replicas: int
    """Replicas in one rack, in the order of the pool."""

    rack_cap_w: float | None
    """Most that a rack may draw [W]; none means any."""


class PowerControl:
    """Readings of the power, and the slow-downs that follow from them."""

    def __init__(
        self,
        pools: Sequence[PoolPower],
        site_cap_w: float | None,
        reading_ns: int,
        operations: PowerOperations,
        interval_ns: int,
        end_ns: int,
    ) -> None:
        self._pools = pools
        self._site_cap_w = site_cap_w
        self._reading_ns = reading_ns
        self._operations = operations
        self._interval_ns = interval_ns
        count = sum(pool.most for pool in pools)
        self.factors = np.full(count, FULL_SPEED, np.int64)
        """Slow-down of each replica, shape (R,) [2**-20]."""
        self._shares = np.ones(count)
        self._busy_ns = np.zeros(count, np.int64)
        capped = site_cap_w is not None or any(pool.rack_cap_w is not None for pool in pools)
        self._next_ns = reading_ns if capped else NEVER
        self._last_ns = 0
        self.spared_ns = np.zeros((len(pools), max(1, -(-end_ns // interval_ns))))
        """Busy replica time by which less than full power was drawn, by pool and interval [ns at full power]."""

    def next_ns(self) -> int:
        """Return when the power is read next [ns]; NEVER where there is no cap."""
        return self._next_ns

    def act(self, now_ns: int, states: NDArray[np.int8]) -> None:
        """Read the power and set the slow-downs.

        Parameters
        ----------
        now_ns : int
            Time [ns].
        states : ndarray of int, shape (R,)
            State of each replica in its life.

        """
        busy = self._read(now_ns)
        fixed_w, dynamic_w = self._draws(states, busy)
        factors = np.ones(len(busy))
        for pool in self._pools:
            if pool.rack_cap_w is None:
                continue
            for first in range(pool.first, pool.first + pool.most, pool.rack_replicas):
                rack = slice(first, min(first + pool.rack_replicas, pool.first + pool.most))
                fixed = float(fixed_w[rack].sum())
                full = fixed + float(dynamic_w[rack].sum())
                factor = slowdown_factor(full, fixed, pool.rack_cap_w, pool.elasticity)
                factors[rack] = factor / FULL_SPEED
                dynamic_w[rack] *= dynamic_share(factor, pool.elasticity)
        if self._site_cap_w is not None:
            fixed, drawn = float(fixed_w.sum()), float(dynamic_w.sum())
            for pool in self._pools:
                factor = slowdown_factor(fixed + drawn, fixed, self._site_cap_w, pool.elasticity)
                factors[pool.first : pool.first + pool.most] *= factor / FULL_SPEED
        for index, factor in enumerate(np.ceil(factors * FULL_SPEED).astype(np.int64).tolist()):
            if factor != self.factors[index]:
                self.factors[index] = factor
                self._operations.slow(index, factor)
        for pool in self._pools:
            for index in range(pool.first, pool.first + pool.most):
                self._shares[index] = dynamic_share(int(self.factors[index]), pool.elasticity)
        self._next_ns = now_ns + self._reading_ns

    def close(self, now_ns: int) -> None:
        """Count what was spared until the run stops [ns]."""
        if self._next_ns != NEVER:
            self._read(now_ns)

    def _read(self, now_ns: int) -> NDArray[np.float64]:
        """Return the busy fraction of each replica since the last reading, and count what was spared."""
        length_ns = max(1, now_ns - self._last_ns)
        busy_ns = np.array([self._operations.busy_ns(index, now_ns) for index in range(len(self._busy_ns))], np.int64)
        since_ns = busy_ns - self._busy_ns
        spared = since_ns * (1.0 - self._shares) / length_ns
        for number, pool in enumerate(self._pools):
            share = float(spared[pool.first : pool.first + pool.most].sum())
            row = self.spared_ns[number]
            for interval, part_ns in pieces(self._last_ns, now_ns, self._interval_ns, len(row)):
                row[interval] += share * part_ns
        self._busy_ns, self._last_ns = busy_ns, now_ns
        return np.asarray(np.clip(since_ns / length_ns, 0.0, 1.0))

    def _draws(
        self, states: NDArray[np.int8], busy: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return what each replica draws whatever its speed, and on top of that at full speed [W]."""
        fixed_w, dynamic_w = np.zeros(len(busy)), np.zeros(len(busy))
        for pool in self._pools:
            mine = slice(pool.first, pool.first + pool.most)
            there, on = states[mine] != OFF, (states[mine] != OFF) & (states[mine] != FAILED)
            fixed_w[mine] = pool.accelerators * (there * pool.host_w + on * pool.idle_w)
            dynamic_w[mine] = pool.accelerators * on * busy[mine] * (pool.busy_w - pool.idle_w)
        return fixed_w, dynamic_w
