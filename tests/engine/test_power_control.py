"""Power caps on a fleet whose busy time is given: by hand, by rack, and over the site."""

from __future__ import annotations

import numpy as np
import pytest

from sim.engine.control import FAILED, OFF, READY, SPARE
from sim.engine.power_control import PoolPower, PowerControl
from sim.serving.power import FULL_SPEED
from sim.serving.state import NEVER

SECOND = 10**9
PER = 10 * SECOND


class GivenLoad:
    """A fleet whose replicas are busy for given fractions of the time."""

    def __init__(self, busy: list[float]) -> None:
        self.busy = np.array(busy)
        self.slowed: dict[int, float] = {}

    def busy_ns(self, index: int, now_ns: int) -> int:
        return round(float(self.busy[index]) * now_ns)

    def slow(self, index: int, factor: int) -> None:
        self.slowed[index] = factor / FULL_SPEED


def pool(**changes: object) -> PoolPower:
    given = {
        "first": 0, "most": 4, "accelerators": 2, "idle_w": 100.0, "busy_w": 500.0, "host_w": 50.0, "elasticity": 1.0,
        "rack_replicas": 2, "rack_cap_w": None,
    } | changes  # fmt: skip
    return PoolPower(**given)  # type: ignore[arg-type]


def states(*codes: int) -> np.ndarray[tuple[int], np.dtype[np.int8]]:
    return np.array(codes, np.int8)


def test_without_a_cap_nothing_is_read() -> None:
    assert PowerControl([pool()], None, PER, GivenLoad([1.0] * 4), 60 * SECOND, 60 * SECOND).next_ns() == NEVER


def test_a_rack_over_its_cap_is_slowed_and_the_other_is_not() -> None:
    """Fully busy, a rack of two replicas draws 4 x 550 W; under 1,400 W the 1,600 W above idle are halved."""
    fleet = GivenLoad([1.0, 1.0, 0.4, 0.1])
    control = PowerControl([pool(rack_cap_w=1400.0)], None, PER, fleet, 60 * SECOND, 60 * SECOND)
    assert control.next_ns() == PER
    control.act(PER, states(READY, READY, READY, READY))
    assert fleet.slowed == {0: 2.0, 1: 2.0}
    assert control.next_ns() == 2 * PER
    # For half of the time two replicas were busy at half of the power above idle.
    control.close(2 * PER)
    assert control.spared_ns.tolist() == [[PER]]


def test_the_cap_is_kept_at_the_speed_that_follows() -> None:
    fleet = GivenLoad([0.9, 1.0, 0.4, 0.1])
    power = pool(rack_cap_w=1500.0, elasticity=0.3)
    control = PowerControl([power], None, PER, fleet, 60 * SECOND, 60 * SECOND)
    control.act(PER, states(READY, READY, READY, READY))
    share = fleet.slowed[0] ** (-1 / 0.3)
    assert 600.0 + 2 * 1.9 * 400.0 * share == pytest.approx(1500.0, rel=1e-4)


def test_what_is_off_or_failed_leaves_its_power_to_others() -> None:
    for off, fixed in ((OFF, 300.0), (FAILED, 400.0), (SPARE, 600.0)):
        fleet = GivenLoad([1.0, 0.0, 0.0, 0.0])
        control = PowerControl([pool(rack_cap_w=1000.0)], None, PER, fleet, 60 * SECOND, 60 * SECOND)
        control.act(PER, states(READY, off, READY, READY))
        expected = max(1.0, 800.0 / (1000.0 - fixed))
        assert fleet.slowed.get(0, 1.0) == pytest.approx(expected, rel=1e-5)


def test_the_site_cuts_what_racks_have_left() -> None:
    """Two racks of 1,400 W at their caps make 2,800 W; a site of 2,000 W halves the 1,600 W above idle once more."""
    fleet = GivenLoad([1.0] * 4)
    control = PowerControl([pool(rack_cap_w=1400.0)], 2000.0, PER, fleet, 60 * SECOND, 60 * SECOND)
    control.act(PER, states(READY, READY, READY, READY))
    assert fleet.slowed == dict.fromkeys(range(4), pytest.approx(4.0))


def test_pools_of_a_site_are_slowed_by_their_own_elasticity() -> None:
    fleet = GivenLoad([1.0] * 8)
    pools = [pool(), pool(first=4, elasticity=0.5)]
    control = PowerControl(pools, 5600.0, PER, fleet, 60 * SECOND, 60 * SECOND)
    control.act(PER, states(*[READY] * 8))
    # 2,400 W for idle ones and hosts, 6,400 W above: half of them is left.
    assert [fleet.slowed[0], fleet.slowed[4]] == pytest.approx([2.0, 2.0**0.5], rel=1e-5)


def test_speed_comes_back_when_the_load_has_gone() -> None:
    fleet = GivenLoad([1.0, 1.0, 0.0, 0.0])
    control = PowerControl([pool(rack_cap_w=1400.0)], None, PER, fleet, 60 * SECOND, 60 * SECOND)
    control.act(PER, states(*[READY] * 4))
    fleet.busy[:2] = 0.5  # cumulated over 20 s: nothing since the reading
    control.act(2 * PER, states(*[READY] * 4))
    assert fleet.slowed == {0: 1.0, 1: 1.0}
