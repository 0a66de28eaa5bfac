"""The life of replicas, acted out on a fleet that only notes what is done to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from numpy.typing import NDArray

from sim.demand.outages import OUTAGE, outage_events
from sim.engine.control import DRAINING, FAILED, OFF, READY, SPARE, STARTING, scaling_record
from sim.engine.fleet_control import STATES, FleetControl, PoolControl
from sim.serving.state import NEVER
from sim.specs.fleet import PoolSpec

SECOND = 10**9
COLD = 100 * SECOND
END = 3600 * SECOND
SCALING = {
    "signal": "outstanding", "target": 10, "minimum": 1, "maximum": 6, "interval": "60 s",
    "up_cooldown": "0 s", "down_cooldown": "0 s",
}  # fmt: skip


class NotedFleet:
    """A fleet of which control sees the load, and which notes who takes requests."""

    def __init__(self, count: int) -> None:
        self.takes = np.ones(count, bool)
        self.busy = np.zeros(count, bool)
        self.failures: list[tuple[int, int]] = []
        self.loads = [0.0]

    def open(self, index: int, now_ns: int) -> None:
        self.takes[index] = True

    def shut(self, index: int, drains: bool) -> None:
        self.takes[index] = False

    def fail(self, index: int, now_ns: int) -> None:
        self.failures.append((index, now_ns))
        self.busy[index] = False

    def empty(self, index: int) -> bool:
        return not self.busy[index]

    def load(self, pool: int, signal: int, now_ns: int) -> float:
        return self.loads[pool]


def control_of(
    replicas: int, outages: Sequence[tuple[int, int, int, int, int, int]] = (), cold_ns: int = COLD, **scaling: Any
) -> tuple[FleetControl, NotedFleet]:
    spec = PoolSpec.model_validate(
        {"hardware": "chip", "model": "tiny", "replicas": replicas}
        | ({"autoscaling": SCALING | scaling} if scaling else {})
    )
    record, hours, counts = scaling_record(spec, 0.0)
    fleet = NotedFleet(spec.most_replicas)
    pool = PoolControl(0, spec.most_replicas, replicas, record[()], hours, counts, cold_ns, bool(scaling))
    events = outage_events(np.array(list(outages), OUTAGE))
    return FleetControl([pool], events, fleet, 600 * SECOND, END), fleet


def run_to(control: FleetControl, seconds: float) -> NDArray[np.int8]:
    while control.next_ns() <= seconds * SECOND:
        control.act(control.next_ns())
    return control.states.copy()


def at(start: int, end: int, replica: int, drain: int | None = None) -> tuple[int, int, int, int, int, int]:
    return ((start if drain is None else drain) * SECOND, start * SECOND, end * SECOND, 0, replica, 0)


def test_a_failed_replica_is_away_and_starts_again_by_itself() -> None:
    control, fleet = control_of(3, [at(500, 800, 1)])
    assert run_to(control, 499).tolist() == [READY] * 3
    assert run_to(control, 500).tolist() == [READY, FAILED, READY]
    assert (fleet.failures, fleet.takes.tolist()) == ([(1, 500 * SECOND)], [True, False, True])
    assert run_to(control, 800).tolist() == [READY, STARTING, READY]
    assert not fleet.takes[1]
    assert run_to(control, 900).tolist() == [READY] * 3
    assert fleet.takes.all()
    control.close(END)
    seconds = control.state_ns.sum(axis=(0, 1)) / SECOND
    assert seconds[[FAILED, STARTING]].tolist() == [300, 100]
    assert seconds[READY] == 3 * 3600 - 400
    assert (control.state_ns.sum(axis=2) == 3 * 600 * SECOND).all()
    assert control.next_ns() == NEVER


def test_another_replica_takes_the_place_of_one_that_failed_where_the_pool_can_have_more() -> None:
    control, _ = control_of(2, [at(500, 2000, 0)], minimum=2)
    assert run_to(control, 500).tolist() == [FAILED, READY, STARTING, OFF, OFF, OFF]
    assert run_to(control, 600).tolist() == [FAILED, READY, READY, OFF, OFF, OFF]
    # When the failed one could start again it is not needed any more.
    assert run_to(control, 3000).tolist() == [OFF, READY, READY, OFF, OFF, OFF]


def test_a_warm_spare_helps_at_once_and_is_replaced() -> None:
    control, fleet = control_of(2, [at(500, 3000, 0)], minimum=2, warm_spares=1)
    assert control.states.tolist() == [READY, READY, SPARE, OFF, OFF, OFF]
    assert fleet.takes.tolist() == [True, True, False, False, False, False]
    assert run_to(control, 500).tolist() == [FAILED, READY, READY, STARTING, OFF, OFF]
    assert fleet.takes.tolist() == [False, True, True, False, False, False]
    assert run_to(control, 600).tolist() == [FAILED, READY, READY, SPARE, OFF, OFF]


def test_scaling_up_lags_by_the_cold_start_and_down_by_what_still_runs() -> None:
    control, fleet = control_of(1, minimum=1)
    fleet.loads[0] = 35.0
    assert run_to(control, 59).tolist() == [READY] + [OFF] * 5
    assert run_to(control, 60).tolist() == [READY] + [STARTING] * 3 + [OFF] * 2
    assert run_to(control, 159).tolist() == [READY] + [STARTING] * 3 + [OFF] * 2
    assert run_to(control, 160).tolist() == [READY] * 4 + [OFF] * 2
    fleet.loads[0], fleet.busy[3] = 20.0, True
    assert run_to(control, 180).tolist() == [READY] * 2 + [OFF, DRAINING] + [OFF] * 2
    assert fleet.takes.tolist() == [True, True, False, False, False, False]
    control.drained(190 * SECOND)
    assert control.states[3] == DRAINING
    fleet.busy[3] = False
    control.drained(200 * SECOND)
    assert control.states.tolist() == [READY] * 2 + [OFF] * 4


def test_a_draining_replica_is_recalled_before_another_starts() -> None:
    control, fleet = control_of(3, minimum=1)
    fleet.loads[0], fleet.busy[:] = 15.0, True
    assert run_to(control, 60).tolist() == [READY, READY, DRAINING, OFF, OFF, OFF]
    fleet.loads[0] = 40.0
    assert run_to(control, 120).tolist() == [READY, READY, READY, STARTING, OFF, OFF]
    assert fleet.takes[2]


def test_a_start_that_is_no_longer_needed_is_cancelled() -> None:
    control, fleet = control_of(1, minimum=1)
    fleet.loads[0] = 60.0
    run_to(control, 60)
    fleet.loads[0] = 5.0
    assert run_to(control, 120).tolist() == [READY] + [OFF] * 5
    fleet.loads[0] = 20.0
    # The start at 180 s ends at 280 s; the cancelled one would have ended at 160 s.
    assert run_to(control, 279).tolist() == [READY, STARTING] + [OFF] * 4
    assert run_to(control, 280).tolist() == [READY, READY] + [OFF] * 4


def test_maintenance_drains_and_loses_nothing_that_had_the_time() -> None:
    control, fleet = control_of(2, [at(800, 1000, 1, drain=500)], minimum=2)
    fleet.busy[1] = True
    assert run_to(control, 500).tolist() == [READY, DRAINING, STARTING, OFF, OFF, OFF]
    assert not fleet.takes[1]
    fleet.busy[1] = False
    control.drained(600 * SECOND)
    assert control.states[1] == DRAINING  # it waits for its maintenance, and nobody calls it back
    assert run_to(control, 800).tolist() == [READY, FAILED, READY, OFF, OFF, OFF]
    assert run_to(control, 1000).tolist() == [READY, OFF, READY, OFF, OFF, OFF]


def test_a_cold_start_of_no_time_is_none() -> None:
    control, fleet = control_of(2, [at(500, 800, 0)], cold_ns=0)
    assert run_to(control, 800).tolist() == [READY, READY]
    assert fleet.takes.all()


class LifeOfAFleet(RuleBasedStateMachine):
    """Any order of loads, outages, drains and time: the laws of control."""

    def __init__(self) -> None:
        super().__init__()
        draws = np.random.default_rng(7)
        outages = []
        for replica in range(6):
            now = 0
            while now < 3000:
                drain = now + int(draws.integers(1, 400))
                start = drain + int(draws.integers(0, 2)) * int(draws.integers(0, 100))
                now = start + int(draws.integers(1, 200))
                outages.append(at(start, now, replica, drain))
        self.control, self.fleet = control_of(2, outages, minimum=2, warm_spares=1, maximum=6)
        self.now_ns = 0

    @rule(load=some.floats(0, 80))
    def ask(self, load: float) -> None:
        self.fleet.loads[0] = load

    @rule(replica=some.integers(0, 5), busy=some.booleans())
    def work(self, replica: int, busy: bool) -> None:
        self.fleet.busy[replica] = busy and self.control.states[replica] in (READY, DRAINING)
        if not self.fleet.busy[replica]:
            self.control.drained(self.now_ns)

    @rule(seconds=some.integers(1, 300))
    def wait(self, seconds: int) -> None:
        until_ns = min(self.now_ns + seconds * SECOND, END)
        while self.control.next_ns() <= until_ns:
            self.now_ns = self.control.next_ns()
            self.control.act(self.now_ns)
        self.now_ns = until_ns

    @invariant()
    def who_takes_requests_is_ready_and_nobody_else(self) -> None:
        assert (self.fleet.takes == (self.control.states == READY)).all()
        assert not self.fleet.busy[~np.isin(self.control.states, (READY, DRAINING))].any()

    @invariant()
    def no_more_are_started_than_are_asked_for(self) -> None:
        states, target = self.control.states, self.control.targets[0]
        assert 2 <= target <= 5
        assert (states == READY).sum() <= target
        assert np.isin(states, (READY, SPARE, STARTING)).sum() <= target + 1
        short = np.isin(states, (READY, SPARE, STARTING, DRAINING)).sum() < target + 1
        able = (states == OFF) & ~self.control._leaving
        assert not (short and able.any())

    def teardown(self) -> None:
        self.control.close(self.now_ns)
        times = self.control.state_ns
        assert times.sum() == 6 * self.now_ns
        assert times.shape[2] == STATES
        assert (times >= 0).all()
        assert (times.sum(axis=2) <= 6 * 600 * SECOND).all()


TestLifeOfAFleet = LifeOfAFleet.TestCase
TestLifeOfAFleet.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
