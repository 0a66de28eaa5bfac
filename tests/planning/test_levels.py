"""A service level carries the error of the model beside the interval of chance, and no latency past the knee."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.demand.trace import Trace
from sim.planning.levels import LevelReached, with_model_error
from sim.planning.rehearsal import load_factor_of
from sim.reporting.sizing_table import model_band
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import deploy
from sim.serving.validity import Validity
from sim.specs.resolved import load_scenario
from sim.specs.serving_stack import BandSpec

NARROW = Validity("calibrated", {"ttft": BandSpec(low=0.8, high=1.5)})
WIDE = Validity("transferred", {"ttft": BandSpec(low=0.9, high=4.0)})


def level(limit_s: float = 1.0) -> LevelReached:
    return LevelReached("chat", "ttft", 0.99, limit_s, 0.5, 0.45, 0.55, 1000, 0)


def test_the_band_is_the_widest_of_the_pools() -> None:
    found = with_model_error(level(), [NARROW, WIDE])
    assert (found.model_low_s, found.model_high_s) == pytest.approx((0.4, 2.0))
    assert found.met_in_any_case is None
    assert with_model_error(level(), [NARROW]).met_in_any_case is True
    assert with_model_error(level(0.3), [NARROW]).met_in_any_case is False
    assert math.isnan(with_model_error(level(), [NARROW, Validity("transferred")]).model_high_s)
    assert math.isnan(with_model_error(level(), []).model_high_s)


def test_past_the_knee_a_level_says_so_and_has_no_band() -> None:
    found = with_model_error(level(), [NARROW], load_factor=1.01)
    assert found.past_the_knee
    assert math.isnan(found.model_high_s)
    assert model_band(found) == "past knee"


def test_the_load_of_pools_is_that_over_their_joint_capacity() -> None:
    pool = deploy(load_scenario("quickstart").variants()[0])[0]
    count = 400
    columns = [np.full(count, number, np.int64) for number in (1000, 0, 200)]
    full = saturated_requests_per_s(pool, request_mix(*columns, pool.window)) * pool.replicas
    arrival_ns = (np.arange(1, count + 1) / (1.5 * full) * 1e9).astype(np.int64)
    trace = Trace(("chat",), arrival_ns, np.zeros(count, np.int16), *columns)
    assert load_factor_of([pool], trace) == pytest.approx(1.5, rel=1e-6)
    assert load_factor_of([pool, pool], trace) == pytest.approx(0.75, rel=1e-6)
