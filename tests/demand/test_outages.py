"""Outages: as long and as often as stated, together where they are, none lost and none twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sim.demand.outages import (
    ACCELERATOR,
    DOWN,
    DRAIN,
    MAINTENANCE,
    OUTAGE,
    RACK,
    ROLL_OUT,
    SYSTEM,
    UP,
    availability,
    failure_modes,
    merged,
    outage_events,
    outage_table,
)
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import HardwareSpec

SECOND = 10**9
HOUR = 3600 * SECOND
SOURCED = {"source": ["SHEET"], "confidence": "measured"}
NONE = {"rate": "0 failures/year", "repair": "1 h"}
PROFILE: dict[str, Any] = {
    "kind": "hardware", "name": "chip", "title": "A chip", "vendor": "Acme", "family": "acme",
    "availability": {"status": "shipping", "purchasable": True},
    "peak": {"bf16": {"value": "1 PFLOP/s"} | SOURCED},
    "memory": {"usable": {"value": "80 GiB"} | SOURCED, "bandwidth": {"value": "3 TB/s"} | SOURCED},
    "scale_up": {"bandwidth": {"value": "450 GB/s"} | SOURCED, "domain": {"value": 8} | SOURCED},
    "sources": {"SHEET": "A data sheet"},
}  # fmt: skip


def chip(**changes: Any) -> HardwareSpec:
    return HardwareSpec.model_validate(PROFILE | changes)


def pool(**changes: Any) -> PoolSpec:
    return TypeAdapter(PoolSpec).validate_python({"hardware": "chip", "model": "tiny", "replicas": 4} | changes)


def table(*pools: PoolSpec, seed: int = 1, replication: int = 0, end_ns: int = 1000 * HOUR) -> NDArray[np.void]:
    named = [(f"pool-{number}", each, chip()) for number, each in enumerate(pools)]
    return outage_table(named, seed, replication, end_ns)


def rows(outages: NDArray[np.void], *fields: str) -> list[tuple[int, ...]]:
    return [tuple(int(row[field]) for field in fields) for row in outages]


def failing(accelerator: Any = NONE, system: Any = NONE, **more: Any) -> dict[str, Any]:
    return {"failures": {"accelerator": accelerator, "system": system} | more}


# At stated times


def test_planted_outages_are_as_stated() -> None:
    outages = [
        {"kind": "rack", "start": "2 h", "duration": "45 min", "replicas": [0, 2]},
        {"kind": "maintenance", "start": "1 h", "duration": "10 min", "replicas": [1], "drain": "5 min"},
        {"kind": "system", "start": "1000 h", "duration": "10 min", "replicas": [1]},
    ]
    found = rows(table(pool(outages=outages)), "drain_ns", "start_ns", "end_ns", "replica", "kind")
    assert found == [
        (55 * 60 * SECOND, HOUR, HOUR + 600 * SECOND, 1, MAINTENANCE),
        (2 * HOUR, 2 * HOUR, 2 * HOUR + 2700 * SECOND, 0, RACK),
        (2 * HOUR, 2 * HOUR, 2 * HOUR + 2700 * SECOND, 2, RACK),
    ]


def test_a_roll_out_takes_group_after_group() -> None:
    roll_out = {"start": "1 h", "at_once": 2, "drain": "2 min", "duration": "1 min", "interval": "10 min"}
    found = rows(table(pool(replicas=5, roll_outs=[roll_out])), "drain_ns", "start_ns", "end_ns", "replica", "kind")
    minute = 60 * SECOND
    assert found == [
        (HOUR + group * 10 * minute, HOUR + (group * 10 + 2) * minute, HOUR + (group * 10 + 3) * minute, each, ROLL_OUT)
        for each, group in enumerate([0, 0, 1, 1, 2])
    ]


def test_what_happens_comes_in_order_and_at_one_instant_replicas_come_before_they_go() -> None:
    outages = [
        {"kind": "system", "start": "1 h", "duration": "1 h", "replicas": [1]},
        {"kind": "maintenance", "start": "2 h", "duration": "1 h", "replicas": [0], "drain": "30 min"},
    ]
    assert rows(outage_events(table(pool(outages=outages))), "instant_ns", "replica", "change") == [
        (HOUR, 1, DOWN), (HOUR * 3 // 2, 0, DRAIN), (2 * HOUR, 1, UP), (2 * HOUR, 0, DOWN), (3 * HOUR, 0, UP),
    ]  # fmt: skip
    assert len(outage_events(table(pool()))) == 0


# Merging


def test_overlapping_and_touching_outages_of_a_replica_are_one() -> None:
    written = [
        (10, 10, 20, 0, 0, SYSTEM), (15, 15, 30, 0, 0, ACCELERATOR), (30, 30, 40, 0, 0, RACK),
        (41, 41, 50, 0, 0, RACK), (12, 12, 13, 0, 1, RACK), (12, 12, 14, 1, 0, RACK),
    ]  # fmt: skip
    assert merged(np.array(written, OUTAGE)).tolist() == [
        (10, 10, 40, 0, 0, SYSTEM), (12, 12, 13, 0, 1, RACK), (12, 12, 14, 1, 0, RACK), (41, 41, 50, 0, 0, RACK),
    ]  # fmt: skip


def test_a_failure_while_draining_for_maintenance_is_the_start_of_it() -> None:
    written = [(100, 200, 300, 0, 0, MAINTENANCE), (150, 150, 160, 0, 0, ACCELERATOR)]
    assert merged(np.array(written, OUTAGE)).tolist() == [(100, 150, 300, 0, 0, ACCELERATOR)]
    written = [(100, 200, 300, 0, 0, MAINTENANCE), (90, 90, 120, 0, 0, ACCELERATOR)]
    assert merged(np.array(written, OUTAGE)).tolist() == [(90, 90, 300, 0, 0, ACCELERATOR)]


spans = some.lists(
    some.tuples(some.integers(0, 60), some.integers(0, 5), some.integers(1, 20), some.integers(0, 2)), max_size=12
)


@given(written=spans)
def test_merged_outages_are_apart_and_cover_what_they_were_made_of(written: list[tuple[int, int, int, int]]) -> None:
    made = np.array([(at, at + drain, at + drain + away, 0, each, 0) for at, drain, away, each in written], OUTAGE)
    result = merged(made)
    assert (np.diff(result["start_ns"]) >= 0).all()
    for replica in range(3):
        before, after = made[made["replica"] == replica], result[result["replica"] == replica]
        instants = np.arange(100)[:, np.newaxis]
        away = ((before["drain_ns"] <= instants) & (instants < before["end_ns"])).any(axis=1)
        assert (away == ((after["drain_ns"] <= instants) & (instants < after["end_ns"])).any(axis=1)).all()
        down = ((before["start_ns"] <= instants) & (instants < before["end_ns"])).any(axis=1)
        assert (((after["start_ns"] <= instants) & (instants < after["end_ns"])).any(axis=1) >= down).all()
        assert (after["drain_ns"][1:] > after["end_ns"][:-1]).all()
    events = outage_events(result)
    assert (events["change"] == DOWN).sum() == (events["change"] == UP).sum() == len(result)


# At random


def test_what_fails_together_is_what_stands_together() -> None:
    spec = pool(
        replicas=10,
        parallelism={"tensor": 2},
        **failing(rack={"rate": "1 failures/year", "repair": "1 h", "systems": 2}),
    )
    accelerators, systems, racks = failure_modes(spec, chip())
    assert [len(mode.members) for mode in (accelerators, systems, racks)] == [20, 3, 2]
    assert accelerators.members[:3] == [[0], [0], [1]]
    assert systems.members == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert racks.members == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9]]
    # Where three do not fill eight accelerators, the rest stays empty: no replica lies across two systems.
    assert failure_modes(pool(parallelism={"tensor": 3}, **failing()), chip())[1].members == [[0, 1], [2, 3]]


def test_a_replica_on_several_systems_goes_down_with_any_of_them() -> None:
    four = chip(reliability={"system_accelerators": {"value": 4} | SOURCED})
    rack = {"rate": "1 failures/year", "repair": "1 h", "systems": 4}
    _, systems, racks = failure_modes(pool(parallelism={"tensor": 8}, **failing(rack=rack)), four)
    assert systems.members == [[0], [0], [1], [1], [2], [2], [3], [3]]
    assert racks.members == [[0, 1], [2, 3]]
    assert failure_modes(pool(parallelism={"tensor": 2}, **failing()), four)[1].members == [[0, 1], [2, 3]]


def test_all_replicas_of_a_system_go_and_come_together() -> None:
    spec = pool(replicas=6, parallelism={"tensor": 4}, **failing(system={"rate": "10 failures/d", "repair": "10 min"}))
    found = table(spec)
    assert len(found) > 100
    for first, second in ((0, 1), (2, 3), (4, 5)):
        one, other = found[found["replica"] == first], found[found["replica"] == second]
        assert len(one) > 0
        assert (one["start_ns"] == other["start_ns"]).all()
        assert (one["end_ns"] == other["end_ns"]).all()


def test_the_profiles_rates_hold_where_the_pool_states_none() -> None:
    mode = {"rate": {"value": "0.5 failures/d"} | SOURCED, "repair": {"value": "2 h"} | SOURCED}
    profile = chip(reliability={"accelerator": mode, "system": mode})
    accelerator, system = failure_modes(pool(failures={"system": NONE}), profile)
    assert (accelerator.rate, accelerator.repair_s) == (pytest.approx(0.5 / 86400), 7200.0)
    assert system.rate == 0.0
    assert failure_modes(pool(), profile) == []
    with pytest.raises(ValueError, match="no failure rate"):
        failure_modes(pool(failures={}), chip())


def test_availability_is_its_closed_form() -> None:
    """1,000 replicas over 200 days: the interval covers 1 / (1 + rate repair), and is narrow."""
    spec = pool(replicas=1000, **failing(accelerator={"rate": "1 failures/d", "repair": "2 h"}))
    end_ns = 200 * 24 * HOUR
    found = table(spec, end_ns=end_ns)
    late = end_ns // 10  # all are up at first: what follows is steady, for 20 days are many times 2 hours
    down_ns = np.minimum(found["end_ns"], end_ns) - np.clip(found["start_ns"], late, end_ns)
    away = np.bincount(found["replica"], np.maximum(down_ns, 0), 1000) / (end_ns - late)
    expected = availability(1 / 86400, 7200.0)
    assert expected == pytest.approx(12 / 13)
    half_width = 1.96 * away.std() / np.sqrt(1000)
    assert abs(1.0 - away.mean() - expected) < half_width < 0.0005


def test_fixed_repairs_take_the_mean_and_exponential_ones_have_it() -> None:
    often = {"rate": "2 failures/d", "repair": "30 min"}
    fixed = table(pool(replicas=50, **failing(accelerator=often, repair_times="fixed")))
    assert set((fixed["end_ns"] - fixed["start_ns"]).tolist()) == {1800 * SECOND}
    drawn = table(pool(replicas=50, **failing(accelerator=often)))
    lengths = (drawn["end_ns"] - drawn["start_ns"]) / SECOND
    half_width = 1.96 * lengths.std() / np.sqrt(len(lengths))
    assert abs(lengths.mean() - 1800) < half_width < 60


def test_more_replicas_and_other_pools_leave_failures_where_they_were() -> None:
    often = failing(accelerator={"rate": "2 failures/d", "repair": "30 min"})
    few = table(pool(replicas=3, **often))
    many = table(pool(replicas=9, **often), pool(**often))
    same = many[(many["pool"] == 0) & (many["replica"] < 3)]
    assert few.tolist() == same.tolist()
    assert table(pool(replicas=3, **often)).tolist() == few.tolist()
    assert table(pool(replicas=3, **often), seed=2).tolist() != few.tolist()
    assert table(pool(replicas=3, **often), replication=1).tolist() != few.tolist()
    assert table(pool(replicas=3, **often), end_ns=500 * HOUR).tolist() == few[few["start_ns"] < 500 * HOUR].tolist()


def test_a_pool_that_scales_may_lose_any_replica_that_it_can_have() -> None:
    scaling = {
        "signal": "outstanding", "target": 10, "minimum": 1, "maximum": 9, "interval": "30 s", "up_cooldown": "0 s",
        "down_cooldown": "0 s",
    }  # fmt: skip
    often = failing(accelerator={"rate": "2 failures/d", "repair": "30 min"})
    assert set(table(pool(autoscaling=scaling, **often))["replica"].tolist()) == set(range(9))
