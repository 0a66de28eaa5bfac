"""Scaling by hand: each signal, bounds, cool-downs, schedules, and the steps that lead to a number of replicas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from numpy.typing import NDArray
from pydantic import TypeAdapter

from sim.engine.control import (
    LONG_AGO_NS,
    OFF,
    SPARE,
    after_drain,
    next_target,
    scale_changes,
    scaling_record,
    scheduled_replicas,
    wanted_by_load,
    wanted_by_symptom,
)
from sim.specs.fleet import PoolSpec

SECOND = 10**9
HOUR = 3600 * SECOND
SCALING = {
    "signal": "outstanding", "target": 10, "minimum": 1, "maximum": 12, "interval": "30 s",
    "up_cooldown": "0 s", "down_cooldown": "0 s",
}  # fmt: skip

Policy = tuple[np.void, NDArray[np.int64], NDArray[np.int64]]


def policy(start_hour: float = 0.0, **changes: Any) -> Policy:
    scaling = {key: value for key, value in (SCALING | changes).items() if value is not None}
    pool = TypeAdapter(PoolSpec).validate_python(
        {"hardware": "chip", "model": "tiny", "replicas": scaling["minimum"], "autoscaling": scaling}
    )
    record, hours, replicas = scaling_record(pool, start_hour)
    return record[()], hours, replicas


def decisions(
    rules: Policy, loads: list[float], target: int, every_s: float = 30.0, ready: int | None = None
) -> list[int]:
    """Return the targets that follow each other when every change is ready at once."""
    changed_ns, path = LONG_AGO_NS, []
    for number, load in enumerate(loads):
        now_ns = int(number * every_s * SECOND)
        wanted = next_target(*rules, target, target if ready is None else ready, load, now_ns, changed_ns)
        changed_ns = changed_ns if wanted == target else now_ns
        target = wanted
        path.append(target)
    return path


def test_the_load_over_its_target_is_the_number_of_replicas() -> None:
    assert [wanted_by_load(2, load, 10.0, 0.0) for load in (0, 1, 10, 11, 20, 20.5, 200)] == [0, 1, 1, 2, 2, 3, 20]
    # Three tenths and a tenth are not exact, and are three replicas all the same.
    assert wanted_by_load(1, 0.3, 0.1, 0.0) == 3


def test_within_the_tolerance_nothing_changes() -> None:
    assert [wanted_by_load(10, load, 10.0, 0.1) for load in (89.0, 90.0, 100.0, 110.0, 111.0)] == [9, 10, 10, 10, 12]


def test_a_symptom_grows_the_ready_ones_in_proportion_and_gives_back_one_at_a_time() -> None:
    assert wanted_by_symptom(4, 4, 3.0, 2.0, 0.0, 0.5) == 6
    assert wanted_by_symptom(4, 4, 2.01, 2.0, 0.0, 0.5) == 5
    assert wanted_by_symptom(4, 4, 2.1, 2.0, 0.1, 0.5) == 4
    assert wanted_by_symptom(4, 4, 1.0, 2.0, 0.0, 0.5) == 4
    assert wanted_by_symptom(4, 4, 0.9, 2.0, 0.0, 0.5) == 3
    # Six are asked for and two of them still start: the same symptom does not ask for six halves of six.
    assert wanted_by_symptom(6, 4, 3.0, 2.0, 0.0, 0.5) == 6
    assert wanted_by_symptom(3, 0, 3.0, 2.0, 0.0, 0.5) == 3


@pytest.mark.parametrize(
    ("signal", "load", "ready", "wanted"),
    [
        ({"signal": "utilisation", "target": 0.7}, 3.5, 4, 5),
        ({"signal": "outstanding", "target": 10}, 51, 4, 6),
        ({"signal": "queue", "target": 2, "release": 0.25}, 12, 4, 6),
        ({"signal": "queue", "target": 2, "release": 0.25}, 1, 4, 3),
        ({"signal": "ttft", "target": "2 s", "release": 0.25}, 3.0 * SECOND, 4, 6),
        ({"signal": "ttft", "target": "2 s", "release": 0.25}, 1.0 * SECOND, 4, 4),
    ],
)
def test_each_signal_has_its_own_unit(signal: dict[str, Any], load: float, ready: int, wanted: int) -> None:
    assert next_target(*policy(**signal), 4, ready, load, 0, LONG_AGO_NS) == wanted


def test_bounds_hold_whatever_the_load() -> None:
    rules = policy(minimum=2, maximum=6, warm_spares=1)
    assert decisions(rules, [0, 1e9, 35, 0], 4) == [2, 5, 4, 2]


def test_load_counts_what_is_asked_for_and_not_what_is_ready() -> None:
    """While four replicas start, the same load asks for no more: the decision is about offered load."""
    assert decisions(policy(), [80, 80, 80], 4, ready=4) == [8, 8, 8]
    assert decisions(policy(), [80], 4, ready=0) == [8]


def test_cool_downs_by_hand() -> None:
    """Decisions every 30 s; up after 60 s, down after 120 s since the last change in either direction."""
    rules = policy(up_cooldown="60 s", down_cooldown="2 min")
    loads = [20, 40, 60, 60, 60, 10, 10, 10, 10, 10]
    #        0   30  60  90  120 150 180 210 240 270
    assert decisions(rules, loads, 1) == [2, 2, 6, 6, 6, 6, 1, 1, 1, 1]
    slow = policy(down_cooldown="2 min")
    assert decisions(slow, [20, 40, 60, 10, 10, 10, 10], 1) == [2, 4, 6, 6, 6, 6, 1]


def test_a_schedule_holds_from_entry_to_entry_and_over_midnight() -> None:
    schedule = [{"hour": 7, "replicas": 4}, {"hour": 9.5, "replicas": 9}, {"hour": 20, "replicas": 2}]
    rules = policy(signal="schedule", target=None, schedule=schedule)
    at = [0, 6.999, 7, 9.49, 9.5, 19.9, 20, 23, 24, 31, 33.5]
    wanted = [2, 2, 4, 4, 9, 9, 2, 2, 2, 4, 9]
    assert [scheduled_replicas(*rules, int(hour * HOUR)) for hour in at] == wanted
    assert decisions(rules, [1e9], 4) == [2]
    later = policy(start_hour=9.0, signal="schedule", target=None, schedule=schedule)
    assert [scheduled_replicas(*later, int(hour * HOUR)) for hour in (0, 0.5, 11, 22)] == [4, 9, 2, 4]


def test_a_schedule_of_a_week_knows_the_day() -> None:
    schedule = [{"hour": 8, "replicas": 6}, {"hour": 5 * 24, "replicas": 3}]
    rules = policy(start_hour=5 * 24 - 1, signal="schedule", target=None, schedule=schedule, repeats="week")
    assert [scheduled_replicas(*rules, hour * HOUR) for hour in (0, 1, 48, 57, 168)] == [6, 3, 3, 6, 6]


def test_a_schedule_is_a_floor_below_which_the_load_does_not_go() -> None:
    rules = policy(schedule=[{"hour": 0, "replicas": 5}])
    assert decisions(rules, [0, 70, 10], 1) == [5, 7, 5]


def test_a_pool_that_does_not_scale_keeps_its_number() -> None:
    pool = PoolSpec(hardware="chip", model="tiny", replicas=3)
    record, hours, replicas = scaling_record(pool, 12.0)
    assert decisions((record[()], hours, replicas), [0, 1e9], 3) == [3, 3]


@pytest.mark.parametrize(
    ("states", "changes"),
    [
        # target, spares; ready, draining, starting, spare, off
        # -> recalled, promoted, started, cancelled, released, drained
        ((4, 0, 4, 0, 0, 0, 2), (0, 0, 0, 0, 0, 0)),
        ((6, 0, 4, 0, 0, 0, 4), (0, 0, 2, 0, 0, 0)),
        ((6, 0, 4, 0, 0, 0, 1), (0, 0, 1, 0, 0, 0)),
        ((6, 1, 4, 0, 0, 1, 4), (0, 1, 2, 0, 0, 0)),
        ((5, 1, 4, 0, 0, 1, 4), (0, 1, 1, 0, 0, 0)),
        ((6, 0, 4, 1, 0, 1, 4), (1, 1, 0, 0, 0, 0)),
        ((4, 0, 4, 0, 2, 0, 0), (0, 0, 0, 2, 0, 0)),
        ((4, 1, 4, 0, 2, 0, 0), (0, 0, 0, 1, 0, 0)),
        ((4, 0, 4, 0, 1, 2, 0), (0, 0, 0, 1, 2, 0)),
        ((3, 0, 5, 0, 0, 0, 0), (0, 0, 0, 0, 0, 2)),
        ((3, 1, 4, 0, 0, 0, 3), (0, 0, 0, 0, 0, 1)),
        ((3, 1, 3, 1, 0, 0, 3), (0, 0, 0, 0, 0, 0)),
        ((4, 0, 3, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0)),
    ],
)
def test_changes_by_hand(states: tuple[int, ...], changes: tuple[int, ...]) -> None:
    assert scale_changes(*states) == changes


counts = some.integers(0, 9)


@given(
    target=counts, spares=some.integers(0, 3), ready=counts, draining=counts, starting=counts, spare=counts, off=counts
)
def test_changes_take_what_is_there_and_lead_as_near_as_there_are_replicas(
    target: int, spares: int, ready: int, draining: int, starting: int, spare: int, off: int
) -> None:
    changes = scale_changes(target, spares, ready, draining, starting, spare, off)
    recalled, promoted, started, cancelled, released, drained = changes
    assert min(changes) >= 0
    assert recalled <= draining
    assert promoted + released <= spare
    assert started <= off
    assert cancelled <= starting
    assert drained <= ready
    after = {
        "ready": ready + recalled + promoted - drained,
        "draining": draining - recalled + drained,
        "starting": starting + started - cancelled,
        "spare": spare - promoted - released,
        "off": off - started + cancelled + released,
    }
    assert sum(after.values()) == ready + draining + starting + spare + off
    assert after["ready"] == min(target, ready + draining + spare)
    standing = after["ready"] + after["starting"] + after["spare"]
    helping = standing + after["draining"]
    # Enough, or nothing is left to start; and never more than enough, but for those that still drain.
    assert helping >= target + spares or after["off"] == 0
    assert standing <= target + spares
    # A second look at the same moment changes nothing.
    assert scale_changes(target, spares, *after.values()) == (0, 0, 0, 0, 0, 0)


def test_a_replica_that_has_drained_becomes_a_spare_where_one_is_missing() -> None:
    assert after_drain(3, 1, 3, 0, 0) == SPARE
    assert after_drain(3, 1, 3, 1, 0) == OFF
    assert after_drain(3, 1, 3, 0, 1) == OFF
    assert after_drain(3, 0, 3, 0, 0) == OFF
    assert after_drain(4, 0, 3, 0, 0) == SPARE


def test_a_morning_ramp_by_hand() -> None:
    """Load per minute 10, 10, 30, 60, 90; a decision a minute, 150 s of cold start: how far behind the replicas are."""
    rules = policy(maximum=12)
    loads = [10.0, 10.0, 30.0, 60.0, 90.0, 90.0, 90.0, 90.0]
    cold_ns, target, changed_ns = 150 * SECOND, 1, LONG_AGO_NS
    ready, off, due, seen = 1, 11, [], []
    for minute, load in enumerate(loads):
        now_ns = minute * 60 * SECOND
        ready, due = ready + sum(each <= now_ns for each in due), [each for each in due if each > now_ns]
        seen.append(ready)
        wanted = next_target(*rules, target, ready, load, now_ns, changed_ns)
        changed_ns = changed_ns if wanted == target else now_ns
        target = wanted
        started = scale_changes(target, 0, ready, 0, len(due), 0, off)[2]
        due, off = due + [now_ns + cold_ns] * started, off - started
    # Two are started at minute 2 and ready from 4.5, three at minute 3 from 5.5, three at minute 4 from 6.5.
    assert seen == [1, 1, 1, 1, 1, 3, 6, 9]
