import datetime

import pytest

from sim.planning.horizon import Horizon
from sim.planning.uncertainty.inputs import REPLICATE, find_inputs
from sim.planning.uncertainty.world import drawn_world
from sim.specs.uncertainty import UncertaintySpec

day = datetime.date


def test_nothing_drawn_is_the_horizon_as_it_stands(horizon: Horizon, ranges: UncertaintySpec) -> None:
    found = drawn_world(horizon, find_inputs(horizon, ranges, 3), {})
    assert found.horizon == horizon
    assert (dict(found.lengths), dict(found.errors), found.replicate) == ({}, {}, 0)


def test_a_number_is_put_in_its_place_and_all_else_is_shared(horizon: Horizon, ranges: UncertaintySpec) -> None:
    values = {"hardware.h100-sxm.prices.capex": 33_000.0, "horizon.rent_change.1.yearly": -0.2}
    found = drawn_world(horizon, find_inputs(horizon, ranges), values).horizon
    assert found.hardware["h100-sxm"].prices.capex is not None
    assert found.hardware["h100-sxm"].prices.capex.value == 33_000.0
    assert found.hardware["h100-sxm"].prices.capex.low == 25_000.0
    assert [each.yearly.value for each in found.spec.rent_change] == [0.0, -0.2]
    assert found.hardware["b200-hgx"] is horizon.hardware["b200-hgx"]
    assert found.economics is horizon.economics
    assert horizon.spec.rent_change[1].yearly.value == -0.15


def test_whole_numbers_are_whole(horizon: Horizon, ranges: UncertaintySpec) -> None:
    values = {"horizon.hardware.b200-hgx.lead_time_months": 4.0}
    lead = drawn_world(horizon, find_inputs(horizon, ranges), values).horizon.spec.hardware["b200-hgx"].lead_time_months
    assert lead.value == 4
    assert isinstance(lead.value, int)


def test_progress_changes_what_comes_after_planning_begins(horizon: Horizon, ranges: UncertaintySpec) -> None:
    plain = horizon.spec.software
    for factor in (0.0, 1.0, 2.0):
        values = {"horizon.software": factor}
        found = drawn_world(horizon, find_inputs(horizon, ranges), values).horizon.spec.software
        for month in (day(2025, 10, 1), day(2026, 12, 1)):
            assert found.at(month) == pytest.approx(plain.at(month))
        start = plain.at(day(2026, 12, 1))
        for month in (day(2027, 3, 1), day(2027, 12, 1)):
            assert found.at(month) == pytest.approx(start + factor * (plain.at(month) - start))


def test_a_factor_on_a_path_holds_at_every_point(horizon: Horizon, ranges: UncertaintySpec) -> None:
    name = "horizon.compression.difficulty-aware.adoption"
    found = drawn_world(horizon, find_inputs(horizon, ranges), {name: 0.5}).horizon
    for month in (day(2026, 6, 1), day(2027, 12, 1)):
        before = horizon.spec.compression["difficulty-aware"].adoption.at(month)
        assert found.spec.compression["difficulty-aware"].adoption.at(month) == pytest.approx(0.5 * before)


def test_lengths_errors_and_replicates_are_told_beside_the_documents(horizon: Horizon, ranges: UncertaintySpec) -> None:
    inputs = find_inputs(horizon, ranges, 3)
    band = next(each.name for each in inputs if ".bands.tpot." in each.name and each.name.endswith(".h100-sxm"))
    values = {"workload.continuous.output_tokens": 1.3, band: 1.1, REPLICATE: 2.0}
    found = drawn_world(horizon, inputs, values)
    assert found.horizon == horizon
    assert found.lengths == {("continuous", "output_tokens"): 1.3}
    assert found.errors == {("tpot", "h100-sxm"): 1.1}
    assert found.replicate == 2
