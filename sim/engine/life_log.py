"""How replicas stood over time: written down as it happens, summed up by timeline interval when a run is over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.engine.control import DRAINING, OFF, READY
from sim.serving.power import FULL_SPEED

STATES = 6
"""Codes of `sim.engine.control`, from OFF to FAILED."""


class _Entry(NamedTuple):
    instant_ns: int
    replica: int
    state: int
    slowdown: int


class LifeLog:
    """The state and the slow-down of every replica from the start of a run on."""

    def __init__(self, replica_pool: NDArray[np.int64], states: NDArray[np.int8]) -> None:
        self._pool = replica_pool
        self._entries = [_Entry(0, index, int(state), FULL_SPEED) for index, state in enumerate(states)]

    def note(self, instant_ns: int, replica: int, state: int, slowdown: int) -> None:
        """Write down that a replica stands so from an instant on [ns, 2**-20]."""
        self._entries.append(_Entry(instant_ns, replica, state, slowdown or FULL_SPEED))

    def sums(
        self, pools: int, intervals: int, interval_ns: int, ended_ns: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return how long replicas stood where.

        Parameters
        ----------
        pools, intervals, interval_ns : int
            Shape of the timeline, and length of its intervals [ns].
        ended_ns : int
            End of the run; what comes later is not counted [ns].

        Returns
        -------
        tuple of arrays
            Time by state [ns], shape (P, I, 6), and the mean slow-down of replicas that served, at least 1, shape
            (P, I).

        """
        time_ns = np.zeros((pools, intervals, STATES), np.int64)
        slowed_ns = np.zeros((pools, intervals))
        last: dict[int, _Entry] = {}
        end = [_Entry(ended_ns, index, OFF, FULL_SPEED) for index in range(len(self._pool))]
        for entry in [*self._entries, *end]:
            before = last.get(entry.replica)
            if before is not None:
                until_ns = min(entry.instant_ns, ended_ns)
                self._add(time_ns, slowed_ns, before, until_ns, interval_ns)
            last[entry.replica] = entry
        serving_ns = time_ns[:, :, READY] + time_ns[:, :, DRAINING]
        return time_ns, np.divide(slowed_ns, serving_ns, out=np.ones_like(slowed_ns), where=serving_ns > 0)

    def _add(
        self,
        time_ns: NDArray[np.int64],
        slowed_ns: NDArray[np.float64],
        entry: _Entry,
        until_ns: int,
        interval_ns: int,
    ) -> None:
        """Add the time from an entry until an instant, split at the ends of intervals."""
        pool = self._pool[entry.replica]
        if until_ns <= entry.instant_ns:
            return
        first, last = entry.instant_ns // interval_ns, min(-(-until_ns // interval_ns), time_ns.shape[1])
        edges = np.arange(first, last + 1) * interval_ns
        edges[0], edges[-1] = entry.instant_ns, until_ns
        parts = np.diff(edges)
        time_ns[pool, first:last, entry.state] += parts
        if entry.state in (READY, DRAINING):
            slowed_ns[pool, first:last] += parts * (entry.slowdown / FULL_SPEED)
