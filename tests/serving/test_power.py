"""Power from idle to thermal design, and the price of a cap in speed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sim.serving.power import (
    FULL_SPEED,
    LONGEST_FACTOR,
    dynamic_share,
    energy_kilowatt_hours,
    energy_per_million_tokens,
    power_w,
    slowdown_factor,
    throttled,
)


def test_power_is_linear_in_the_busy_fraction() -> None:
    assert [power_w(busy, 140.0, 700.0) for busy in (0.0, 0.5, 1.0)] == [140.0, 420.0, 700.0]


def test_no_cap_that_is_kept_slows_anything() -> None:
    assert slowdown_factor(1000.0, 300.0, 1000.0, 0.2) == FULL_SPEED
    assert slowdown_factor(1000.0, 300.0, 5000.0, 0.2) == FULL_SPEED


def test_the_two_points_of_vera_rubin() -> None:
    """1,800 W instead of 2,300 W cost 5% of FP8: an elasticity of 0.21 with all power dynamic, 0.16 with 20% idle."""
    assert slowdown_factor(2300.0, 0.0, 1800.0, 0.209) / FULL_SPEED == pytest.approx(1 / 0.95, rel=1e-3)
    assert slowdown_factor(2300.0, 460.0, 1800.0, 0.162) / FULL_SPEED == pytest.approx(1 / 0.95, rel=1e-3)


def test_with_an_elasticity_of_one_speed_is_proportional_to_power_above_idle() -> None:
    assert slowdown_factor(1000.0, 200.0, 600.0, 1.0) == 2 * FULL_SPEED
    assert dynamic_share(2 * FULL_SPEED, 1.0) == 0.5
    assert slowdown_factor(1000.0, 200.0, 100.0, 1.0) == LONGEST_FACTOR


@given(
    full=some.floats(301, 1e6), cap=some.floats(301, 1e6), elasticity=some.floats(0.05, 1.0),
)  # fmt: skip
def test_at_the_reduced_speed_the_cap_is_kept_and_used(full: float, cap: float, elasticity: float) -> None:
    factor = slowdown_factor(full, 300.0, cap, elasticity)
    drawn = 300.0 + dynamic_share(factor, elasticity) * (full - 300.0)
    if full <= cap or factor == LONGEST_FACTOR:
        assert factor in (FULL_SPEED, LONGEST_FACTOR)
    else:
        # The factor is rounded up by at most 2**-20, which an elasticity of 0.05 makes twenty times as much of power.
        assert cap * (1 - 3e-5) < drawn <= cap * (1 + 1e-12)


@given(duration=some.integers(0, 1 << 52), factor=some.integers(FULL_SPEED, LONGEST_FACTOR))
def test_throttled_durations_are_exact_and_rounded_up(duration: int, factor: int) -> None:
    assert throttled(duration, factor) == -(-duration * factor // FULL_SPEED)
    assert throttled(duration, FULL_SPEED) == duration


def test_energy_per_million_tokens() -> None:
    energy = energy_kilowatt_hours(700.0, 7200.0)
    assert energy == pytest.approx(1.4)
    assert energy_per_million_tokens(energy, 7e6) == pytest.approx(0.2)
    assert energy_per_million_tokens(energy, 0.0) == math.inf
