"""Power caps of racks and site, kept by slowing replicas down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sim.engine.control import DRAINING, FAILED, OFF, READY
from sim.engine.mechanisms import Mechanisms
from sim.serving.deployment import Deployment
from sim.serving.power import FULL_SPEED, power_w, slowdown_factor
from sim.serving.readings import busy_until_ns
from sim.serving.state import FleetState


class PowerControl:
    """Reads how busy each replica was since the last reading, and sets how slow it has to be until the next one."""

    def __init__(
        self,
        mechanisms: Mechanisms,
        deployments: Sequence[Deployment],
        members: Sequence[NDArray[np.int64]],
        fleet: FleetState,
    ) -> None:
        self._fleet = fleet
        self._site_cap_w = mechanisms.site_cap_w
        self._busy_ns = np.zeros(len(fleet.replicas), np.int64)
        self._read_ns = 0
        self._racks: list[tuple[Deployment, NDArray[np.int64], float | None]] = []
        for pool, deployment, indices in zip(mechanisms.pools, deployments, members, strict=True):
            racks = np.arange(len(indices)) * deployment.accelerators // max(pool.rack_accelerators, 1)
            for rack in np.unique(racks):
                self._racks.append((deployment, indices[racks == rack], pool.rack_cap_w))

    def changed(self, states: NDArray[np.int8], now_ns: int) -> list[int]:
        """Return the replicas whose slow-down has changed at a reading [ns], after setting it."""
        drawn = [self._draw(deployment, indices, states, now_ns) for deployment, indices, _ in self._racks]
        elapsed = [busy_until_ns(self._fleet, index, now_ns) for index in range(len(states))]
        self._busy_ns[:] = elapsed
        self._read_ns = now_ns
        total_w, fixed_w = sum(full for full, _ in drawn), sum(fixed for _, fixed in drawn)
        changed = []
        for (deployment, indices, cap_w), (rack_w, rack_fixed_w) in zip(self._racks, drawn, strict=True):
            factor = FULL_SPEED
            if deployment.speed_elasticity is not None:
                if cap_w is not None:
                    factor = slowdown_factor(rack_w, rack_fixed_w, cap_w, deployment.speed_elasticity)
                if self._site_cap_w is not None:
                    site = slowdown_factor(total_w, fixed_w, self._site_cap_w, deployment.speed_elasticity)
                    factor = max(factor, site)
            slowdown = 0 if factor == FULL_SPEED else int(factor)
            for index in map(int, indices):
                if self._fleet.replicas[index]["slowdown"] != slowdown:
                    self._fleet.replicas[index]["slowdown"] = slowdown
                    changed.append(index)
        return changed

    def _draw(
        self, deployment: Deployment, indices: NDArray[np.int64], states: NDArray[np.int8], now_ns: int
    ) -> tuple[float, float]:
        """Return what a rack would draw at full speed, and the part of it that no cap changes [W]."""
        idle_w, busy_w = deployment.idle_w or 0.0, deployment.busy_w or 0.0
        full_w = fixed_w = 0.0
        for index in map(int, indices):
            if states[index] in (OFF, FAILED):
                continue
            busy = 0.0
            if states[index] in (READY, DRAINING) and now_ns > self._read_ns:
                busy_ns = busy_until_ns(self._fleet, index, now_ns) - int(self._busy_ns[index])
                busy = min(1.0, busy_ns / (now_ns - self._read_ns))
            full_w += deployment.accelerators * (power_w(busy, idle_w, busy_w) + deployment.host_w)
            fixed_w += deployment.accelerators * (idle_w + deployment.host_w)
        return full_w, fixed_w
