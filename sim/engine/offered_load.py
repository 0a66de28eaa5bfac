"""What is asked of a pool, as autoscaling sees it: offered load, never only what was completed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.control import OUTSTANDING, QUEUE, TTFT, UTILISATION
from sim.serving.readings import kv_used_at, pending_ages
from sim.serving.state import FleetState


class OfferedLoad:
    """Readings of all pools; remembers first tokens until the last one."""

    def __init__(self, fleet: FleetState, members: Sequence[NDArray[np.int64]]) -> None:
        self._fleet = fleet
        self._members = members
        self._first_tokens = np.zeros(len(members), np.int64)
        self._waits_ns = np.zeros(len(members), np.int64)

    def of(self, pool: int, signal: int, now_ns: int) -> float:
        """Return the load of a pool as a signal of `sim.engine.control` states it, see `next_target` there."""
        replicas = self._fleet.replicas[self._members[pool]]
        if signal == OUTSTANDING:
            return float(replicas["outstanding"].sum())
        if signal == QUEUE:
            return float(replicas["waiting"].sum())
        if signal == UTILISATION:
            size = self._fleet.pools[pool]
            used = sum(kv_used_at(self._fleet, index, now_ns) for index in self._members[pool])
            memory = (used + replicas["waiting_tokens"].sum()) / size["kv_capacity"]
            return float(max(replicas["outstanding"].sum() / size["max_sequences"], memory))
        return self._mean_wait_ns(pool, replicas, now_ns) if signal == TTFT else 0.0

    def _mean_wait_ns(self, pool: int, replicas: NDArray[np.void], now_ns: int) -> float:
        """Return the mean time to first token since the last reading, over requests without one at their age [ns]."""
        tokens, waits_ns = int(replicas["first_tokens"].sum()), int(replicas["first_token_wait_ns"].sum())
        count = tokens - int(self._first_tokens[pool])
        total_ns = float(waits_ns - int(self._waits_ns[pool]))
        self._first_tokens[pool], self._waits_ns[pool] = tokens, waits_ns
        for index in self._members[pool]:
            if self._fleet.replicas[index]["outstanding"] > 0:
                pending, ages_ns = pending_ages(self._fleet, index, now_ns)
                count += pending
                total_ns += ages_ns
        return total_ns / count if count else 0.0
