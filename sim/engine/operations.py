"""Control of a running fleet: replicas that scale, start, fail, drain and are slowed down, between the engine's events.

Control acts at instants before anything else happens there: the engine advances to the next one and stops. Whatever
control does is the same Python for both engines, so that they cannot differ in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sim.demand.outages import DOWN, DRAIN, UP
from sim.engine.arrivals import HELD_FIRST, Arrivals
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
from sim.engine.events import lose_replica, release_held
from sim.engine.life_log import LifeLog
from sim.engine.mechanisms import Mechanisms
from sim.engine.offered_load import OfferedLoad
from sim.engine.power_control import PowerControl
from sim.serving.deployment import Deployment
from sim.serving.replica import replan
from sim.serving.routing import RoutingState, put_up
from sim.serving.state import NEVER, FleetState

_STARTED, _DECISION, _POWER = 3, 4, 5
"""What control does at one instant, behind UP, DOWN and DRAIN of `sim.demand.outages`, in this order."""


class Engine(Protocol):
    """What control asks of an engine."""

    def advance(self, until_ns: int) -> int:
        """Process every event before an instant, or until a draining replica is empty; return when that is [ns]."""

    def notice(self, index: int) -> None:
        """Take note that control has changed a replica."""


class Operations:
    """A fleet under control: where each replica stands, what each pool asks for, and what comes next."""

    def __init__(
        self,
        mechanisms: Mechanisms,
        deployments: list[Deployment],
        replica_pool: NDArray[np.int64],
        fleet: FleetState,
        routing: RoutingState,
        arrivals: Arrivals,
        engine: Engine,
    ) -> None:
        self._mechanisms = mechanisms
        self._fleet = fleet
        self._routing = routing
        self._arrivals = arrivals
        self._engine = engine
        self._replica_pool = replica_pool
        self._members = [np.flatnonzero(replica_pool == pool) for pool in range(len(deployments))]
        self._target = [each.replicas for each in deployments]
        self._changed_ns = [LONG_AGO_NS] * len(deployments)
        self._states = np.full(len(replica_pool), OFF, np.int8)
        for members, each in zip(self._members, deployments, strict=True):
            self._states[members[: each.replicas]] = READY
        self._leaving = np.zeros(len(replica_pool), bool)  # away soon: not because the target fell, and not to start
        self._due_start = np.full(len(replica_pool), NEVER, np.int64)
        self.log = LifeLog(replica_pool, self._states)
        self._load = OfferedLoad(fleet, self._members)
        self._power = PowerControl(mechanisms, deployments, self._members, fleet)
        self._agenda: list[tuple[int, int, int]] = []
        self._plan_agenda()
        self._show_up()

    def run_until(self, stop_ns: int, progress: Callable[[float], None] | None, ticks: int) -> None:
        """Let the fleet run until an instant [ns], and tell how far it is so many times."""
        tick = 1
        while True:
            tick_ns = stop_ns * tick // ticks
            control_ns = self._agenda[0][0] if self._agenda else NEVER
            until_ns = min(tick_ns, control_ns)
            reached_ns = self._engine.advance(until_ns)
            self._retire_empty(reached_ns)
            if reached_ns < until_ns:
                continue
            if control_ns <= tick_ns and control_ns < stop_ns:
                self._act(control_ns)
                continue
            if progress is not None:
                progress(tick / ticks)
            if tick == ticks:
                return
            tick += 1

    def _plan_agenda(self) -> None:
        """Write down all that is known beforehand, and when pools decide for the first time."""
        for event in self._mechanisms.outages:
            index = int(self._members[event["pool"]][event["replica"]])
            heapq.heappush(self._agenda, (int(event["instant_ns"]), int(event["change"]), index))
        for pool, each in enumerate(self._mechanisms.pools):
            if each.scaling is not None:
                heapq.heappush(self._agenda, (int(each.scaling[0]["interval_ns"]), _DECISION, pool))
                self._target[pool] = max(self._target[pool], int(each.scaling[0]["minimum"]))
                self._settle(pool, 0)
        if self._mechanisms.watches_power:
            heapq.heappush(self._agenda, (self._mechanisms.power_interval_ns, _POWER, 0))

    def _act(self, now_ns: int) -> None:
        """Do all that control has to do at an instant [ns]."""
        while self._agenda and self._agenda[0][0] == now_ns:
            _, kind, number = heapq.heappop(self._agenda)
            if kind == _DECISION:
                self._decide(number, now_ns)
                continue
            if kind == _POWER:
                self._watch_power(now_ns)
                continue
            if kind == UP:
                self._leaving[number] = False
                self._put(number, OFF, now_ns)
            elif kind == DOWN:
                self._lose(number, now_ns)
            elif kind == DRAIN:
                self._drain_for_outage(number, now_ns)
            elif kind == _STARTED and self._due_start[number] == now_ns:
                self._due_start[number] = NEVER
                self._put(number, SPARE, now_ns)
            self._settle(int(self._replica_pool[number]), now_ns)
        self._show_up()
        if self._arrivals.position[HELD_FIRST] >= 0:
            release_held(self._fleet, self._arrivals, now_ns)

    def _decide(self, pool: int, now_ns: int) -> None:
        """Let a pool decide how many replicas it asks for."""
        scaling = self._mechanisms.pools[pool].scaling
        assert scaling is not None, "only pools that scale decide"
        record, hours_ns, replicas = scaling
        policy: Any = record[()]
        ready = int((self._states[self._members[pool]] == READY).sum())
        load = self._load.of(pool, int(policy["signal"]), now_ns)
        target = next_target(
            policy, hours_ns, replicas, self._target[pool], ready, load, now_ns, self._changed_ns[pool]
        )
        if target != self._target[pool]:
            self._target[pool], self._changed_ns[pool] = int(target), now_ns
            self._settle(pool, now_ns)
        heapq.heappush(self._agenda, (now_ns + int(policy["interval_ns"]), _DECISION, pool))

    def _settle(self, pool: int, now_ns: int) -> None:
        """Bring a pool to its target, with what has failed away."""
        while True:
            members = self._members[pool]
            states = self._states[members]
            recallable = members[(states == DRAINING) & ~self._leaving[members]]
            startable = (states == OFF) & ~self._leaving[members]
            scaling = self._mechanisms.pools[pool].scaling
            counts = scale_changes(
                self._target[pool],
                0 if scaling is None else int(scaling[0]["warm_spares"]),
                int((states == READY).sum()),
                len(recallable),
                int((states == STARTING).sum()),
                int((states == SPARE).sum()),
                int(startable.sum()),
            )
            recalled, promoted, started, cancelled, released, drained = counts
            self._change(recallable[:recalled], READY, now_ns)
            self._change(members[states == SPARE][:promoted], READY, now_ns)
            self._start(pool, members[startable][:started], now_ns)
            self._change(_last(members[states == STARTING], cancelled), OFF, now_ns)
            self._change(_last(members[states == SPARE][promoted:], released), OFF, now_ns)
            for index in _last(members[states == READY], drained):
                self._drain(int(index), now_ns)
            # What starts at once, or was empty already, may change what is needed.
            if not (drained or (started and self._mechanisms.pools[pool].cold_start_ns == 0)):
                return

    def _change(self, replicas: NDArray[np.int64], state: int, now_ns: int) -> None:
        for index in replicas:
            self._put(int(index), state, now_ns)

    def _put(self, index: int, state: int, now_ns: int) -> None:
        """Let a replica stand elsewhere."""
        self._states[index] = state
        self._fleet.replicas[index]["draining"] = int(state == DRAINING and not self._leaving[index])
        if state != STARTING:
            self._due_start[index] = NEVER
        self.log.note(now_ns, index, state, int(self._fleet.replicas[index]["slowdown"]))

    def _start(self, pool: int, replicas: NDArray[np.int64], now_ns: int) -> None:
        """Start replicas; they are spares once their weights are there."""
        cold_start_ns = self._mechanisms.pools[pool].cold_start_ns
        for index in map(int, replicas):
            if cold_start_ns == 0:
                self._put(index, SPARE, now_ns)
                continue
            self._put(index, STARTING, now_ns)
            self._due_start[index] = now_ns + cold_start_ns
            heapq.heappush(self._agenda, (now_ns + cold_start_ns, _STARTED, index))

    def _drain(self, index: int, now_ns: int) -> None:
        """Let a replica finish what it has, and take nothing new."""
        self._put(index, DRAINING, now_ns)
        if self._fleet.replicas[index]["outstanding"] == 0:
            self._retire(index, now_ns)

    def _drain_for_outage(self, index: int, now_ns: int) -> None:
        """Let a replica that will be away take nothing new; one that does not serve is turned off until then."""
        self._leaving[index] = True
        self._put(index, DRAINING if self._states[index] in (READY, DRAINING) else OFF, now_ns)

    def _retire(self, index: int, now_ns: int) -> None:
        """Turn off a replica that has drained, or keep it as a spare where one is missing."""
        pool = int(self._replica_pool[index])
        states = self._states[self._members[pool]]
        scaling = self._mechanisms.pools[pool].scaling
        spares = 0 if scaling is None else int(scaling[0]["warm_spares"])
        ready, starting, spare = (int((states == state).sum()) for state in (READY, STARTING, SPARE))
        self._put(index, int(after_drain(self._target[pool], spares, ready, starting, spare)), now_ns)

    def _retire_empty(self, now_ns: int) -> None:
        """Turn off the replicas that have just become empty."""
        draining = np.flatnonzero((self._states == DRAINING) & ~self._leaving)
        empty = draining[self._fleet.replicas["outstanding"][draining] == 0]
        for index in map(int, empty):
            self._retire(index, now_ns)
            self._settle(int(self._replica_pool[index]), now_ns)
        if len(empty):
            self._show_up()

    def _lose(self, index: int, now_ns: int) -> None:
        """Let a replica fail; what it was doing starts again elsewhere."""
        if self._states[index] in (READY, DRAINING):
            lose_replica(self._fleet, self._routing, self._arrivals, index, now_ns)
            self._engine.notice(index)
        self._put(index, FAILED, now_ns)

    def _watch_power(self, now_ns: int) -> None:
        """Read the power and slow down what draws too much; steps under way end as they began."""
        for index in self._power.changed(self._states, now_ns):
            replan(self._fleet, index, now_ns)
            self._engine.notice(index)
            self.log.note(now_ns, index, int(self._states[index]), int(self._fleet.replicas[index]["slowdown"]))
        heapq.heappush(self._agenda, (now_ns + self._mechanisms.power_interval_ns, _POWER, 0))

    def _show_up(self) -> None:
        """Let the router see which replicas are ready."""
        up = (self._states == READY).astype(np.int64)
        if (up != self._routing.up).any():
            self._routing.up[:] = up
            put_up(self._routing)


def _last(replicas: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the last so many replicas, the very last first."""
    return replicas[len(replicas) - count :][::-1]
