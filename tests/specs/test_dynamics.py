"""Caches, control, failures and power as a scenario describes them: defaults change nothing, nonsense is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.specs.errors import Problem
from sim.specs.fleet_checks import fleet_problems
from sim.specs.hardware import HardwareSpec
from sim.specs.reading import RawDocument, read_yaml, validate
from sim.specs.scenario import ScenarioSpec

EVERYTHING = """\
router: prefix_affinity
routing: {signal_age: 500 ms, load_guard: 16}
site: {power_cap: 1 MW, interval: 5 s}
apis:
  rented: {input: 1.25 USD/Mtoken, output: 10 USD/Mtoken, first_token: 600 ms, per_token: 12 ms}
traffic:
  chat:
    workload: talk
    rate: 2 requests/s
    reserved_share: 0.25
    timeout: {first_token: 10 s, whole: 2 min}
    retries: {maximum: 2, backoff: 1 s, growth: 2.0}
  voice: {workload: talk, priority: 1, deadline: 4 h}
fleet:
  main:
    hardware: chip
    model: tiny
    serving_stack: engine
    replicas: 4
    prefix_cache: {capacity_fraction: 0.8, block: 16 tokens, host_memory: {size: 1 TB, bandwidth: 50 GB/s}}
    swap: {size: 256 GB, bandwidth: 50 GB/s}
    hand_over: {to: answers, bandwidth: 50 GB/s, latency: 1 ms}
    admission: {max_waiting: 40}
    spill_over: {to: rented, at: 20}
    autoscaling:
      {signal: outstanding, target: 12, minimum: 2, maximum: 8, interval: 30 s, up_cooldown: 0 s, down_cooldown: 5 min,
       warm_spares: 1, schedule: [{hour: 7, replicas: 4}, {hour: 20, replicas: 2}]}
    cold_start: {source: network, bandwidth: 5 GB/s, fixed: 90 s}
    failures:
      accelerator: {rate: 0.111 failures/year, repair: 30 min}
      system: {rate: 1.38 failures/year, repair: 72 h}
      rack: {rate: 0.1 failures/year, repair: 9 h, systems: 4}
    outages:
      - {kind: rack, start: 4 min, duration: 2 min, replicas: [0, 1]}
      - {kind: maintenance, start: 5 min, duration: 1 min, replicas: [7], drain: 30 s}
    roll_outs: [{start: 1 min, drain: 30 s, duration: 20 s, interval: 2 min}]
    power: {host: 300 W, rack_accelerators: 4, rack_cap: 3 kW, speed_elasticity: 0.3}
  answers: {hardware: chip, model: tiny, serving_stack: engine, power: {speed_elasticity: 0.3}, replicas: 3}
"""
HEAD = """\
kind: scenario
name: town
title: A town
duration: 10 min
warm_up: 1 min
drain: 5 min
timeline_interval: 1 min
price_basis: [on_demand]
"""


@pytest.fixture
def read(write: Callable[[str, str], Path]) -> Callable[..., tuple[ScenarioSpec, RawDocument]]:
    """Return a function that reads the scenario with everything after replacing texts, each of which must be there."""

    def one(*changes: tuple[str, str]) -> tuple[ScenarioSpec, RawDocument]:
        text = HEAD + EVERYTHING
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        raw = read_yaml(write("town.yaml", text))
        return validate(raw, ScenarioSpec), raw

    return one


@pytest.fixture
def chip(texts: dict[str, str]) -> HardwareSpec:
    data = yaml.safe_load(texts["hardware_profiles/chip.yaml"])
    sourced = {"source": ["DATASHEET"], "confidence": "measured"}
    data["power"] = {
        "thermal_design": {"value": "700 W"} | sourced,
        "idle_fraction": {"value": 0.2} | sourced,
    }
    return HardwareSpec.model_validate(data)


@pytest.fixture
def problems(read: Any, chip: HardwareSpec) -> Callable[..., list[Problem]]:
    def found(*changes: tuple[str, str]) -> list[Problem]:
        return list(fleet_problems(*read(*changes), {"chip": chip}))

    return found


def test_everything_is_read_in_si_units_and_fits_together(read: Any, problems: Any) -> None:
    spec, _ = read()
    main = spec.fleet["main"]
    assert problems() == []
    assert (spec.routing.signal_age, spec.routing.load_guard) == (0.5, 16)
    assert (spec.site.power_cap, spec.site.interval) == (1e6, 5.0)
    assert (spec.apis["rented"].input, spec.apis["rented"].per_token) == (1.25, 0.012)
    chat = spec.traffic["chat"]
    assert (chat.timeout.first_token, chat.timeout.whole, chat.retries.growth) == (10.0, 120.0, 2.0)
    assert main.prefix_cache.host_memory.size == 1e12
    assert main.failures.accelerator.rate == pytest.approx(0.111 / (365.25 * 86400))
    assert main.autoscaling.schedule[1].replicas == 2
    assert main.outages[1].drain == 30.0
    assert (main.most_replicas, main.targets) == (8, ("answers", "rented"))


def test_without_a_word_of_it_nothing_is_asked_for(read: Any) -> None:
    text = EVERYTHING[EVERYTHING.index("traffic:") :]
    plain = "traffic: {chat: {workload: talk}}\nfleet: {main: {hardware: chip, model: tiny, replicas: 4}}\n"
    head = EVERYTHING[: EVERYTHING.index("traffic:")]
    spec, raw = read((head, ""), (text, plain))
    assert list(fleet_problems(spec, raw, {})) == []
    assert (spec.fleet["main"].most_replicas, spec.fleet["main"].targets) == (4, ())


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("to: answers", "to: answer", "fleet.main.hand_over.to", "not there"),
        ("to: answers", "to: main", "fleet.main.hand_over.to", "not there"),
        ("to: rented", "to: rent", "fleet.main.spill_over.to", "not there"),
        ("to: rented", "to: answers", "fleet.main.hand_over.to", "spill over"),
        ("replicas: 3}", "replicas: 3, serves: [chat]}", "fleet.answers.serves", "another pool sends"),
        ("replicas: 3}", "replicas: 3, kv_format: fp8}", "fleet.answers.kv_format", "same kv_format"),
        ("replicas: [7]", "replicas: [8]", "fleet.main.outages.1.replicas", "replicas 0 to 7"),
        ("start: 4 min", "start: 16 min", "fleet.main.outages.0.start", "after the end"),
        ("start: 1 min, drain: 30 s", "start: 15 min, drain: 30 s", "fleet.main.roll_outs.0.start", "after the end"),
        ("accelerator: {rate: 0.111 failures/year, repair: 30 min}", "repair_times: fixed",
         "fleet.main.failures", "states no failure rate of the accelerator"),
        (", speed_elasticity: 0.3", "", "fleet.main.hardware", "needs speed_elasticity"),
        ("rack_cap: 3 kW", "rack_cap: 1.7 kW", "fleet.main.power.rack_cap", "1760 W"),
        ("    reserved_share: 0.25", "    reserved_share: 0.6", "", ""),
        ("deadline: 4 h", "deadline: 4 h, reserved_share: 0.8", "fleet.main", "reserve 1.05"),
        ("router: prefix_affinity", "router: least_kv", "routing.load_guard", "load guard"),
        ("load_guard: 16}", "load_guard: null}\nseed: 2", "", ""),
        ("prefix_cache: {capacity_fraction: 0.8, block: 16 tokens, host_memory: {size: 1 TB, bandwidth: 50 GB/s}}",
         "prefix_cache: null", "router", "without a prefix cache"),
        ("signal_age: 500 ms, load_guard: 16}", "signal_age: 500 ms}", "", ""),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_told_where_it_stands(
    problems: Any, old: str, new: str, path: str, message: str
) -> None:
    found = problems((old, new))
    assert [each.path for each in found][:1] == ([path] if path else [])
    if path:
        assert message in found[0].message
        assert found[0].remedy


def test_round_robin_has_no_signal_and_an_api_that_nobody_uses_is_told(problems: Any) -> None:
    found = problems(("router: prefix_affinity", "router: round_robin"), ("to: rented", "to: main"))
    assert [each.path for each in found] == [
        "fleet.main.spill_over.to", "apis.rented", "routing.load_guard", "routing.signal_age",
    ]  # fmt: skip


def test_nobody_spills_over_in_a_circle(problems: Any) -> None:
    found = problems(
        ("hand_over: {to: answers, bandwidth: 50 GB/s, latency: 1 ms}", ""),
        ("to: rented", "to: answers"),
        ("replicas: 3}", "replicas: 3, spill_over: {to: rented, at: 3}}"),
    )
    assert found == []
    found = problems(
        ("hand_over: {to: answers, bandwidth: 50 GB/s, latency: 1 ms}", ""),
        ("to: rented", "to: answers"),
        ("replicas: 3}", "replicas: 3, spill_over: {to: main, at: 3}}"),
    )
    assert [each.path for each in found] == ["fleet.main.spill_over.to", "fleet.answers.spill_over.to", "apis.rented"]


def test_there_must_be_something_to_try_again(problems: Any) -> None:
    found = problems(
        ("    timeout: {first_token: 10 s, whole: 2 min}\n", ""), ("    admission: {max_waiting: 40}\n", "")
    )
    assert [(each.path, each.message[:30]) for each in found] == [
        ("traffic.chat.retries", "there is nothing to try again:")
    ]


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("minimum: 2, maximum: 8", "minimum: 9, maximum: 8", "fleet.main.autoscaling", "exceed maximum"),
        ("minimum: 2, maximum: 8", "minimum: 2, maximum: 2", "fleet.main.autoscaling", "warm spares"),
        ("minimum: 2, maximum: 8", "minimum: 2, maximum: 4", "fleet.main", "2 to 3"),
        ("{hour: 20, replicas: 2}", "{hour: 7, replicas: 2}", "fleet.main.autoscaling", "rise"),
        ("{hour: 20, replicas: 2}", "{hour: 24, replicas: 2}", "fleet.main.autoscaling", "below 24"),
        ("{hour: 20, replicas: 2}", "{hour: 20, replicas: 1}", "fleet.main.autoscaling", "outside minimum to maximum"),
        ("signal: outstanding, target: 12", "signal: schedule", "", ""),
        ("signal: outstanding, target: 12", "signal: ttft, release: 0.5, target: 2",
         "fleet.main.autoscaling.target", "no unit"),
        ("signal: outstanding", "signal: load", "fleet.main.autoscaling.signal", "signal"),
        ("first_token: 10 s, whole: 2 min", "first_token: 3 min, whole: 2 min", "traffic.chat.timeout", "exceed"),
        ("growth: 2.0", "growth: 0.5", "traffic.chat.retries.growth", "equal to 1"),
        ("reserved_share: 0.25", "reserved_share: 1.0", "traffic.chat.reserved_share", "below 1"),
        ("kind: rack, start: 4 min, duration: 2 min", "kind: rack, start: 4 min, duration: 2 min, drain: 1 s",
         "fleet.main.outages.0", "without warning"),
        ("start: 5 min, duration: 1 min", "start: 10 s, duration: 1 min", "fleet.main.outages.1", "before the run"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(read: Any, problems_of: Any, old: str, new: str, path: str, message: str) -> None:
    if not path:
        read((old, new))
        return
    (found,) = problems_of(lambda: read((old, new)))
    assert found.path == path
    assert message in found.message


def test_a_pool_that_scales_by_schedule_needs_one(read: Any, problems_of: Any) -> None:
    schedule = ", schedule: [{hour: 7, replicas: 4}, {hour: 20, replicas: 2}]"
    (found,) = problems_of(lambda: read(("signal: outstanding, target: 12", "signal: schedule"), (schedule, "")))
    assert "needs one" in found.message


def test_how_a_class_is_treated_may_differ_between_alternatives_what_it_asks_for_may_not(
    read: Any, problems_of: Any
) -> None:
    end = "replicas: 3}\n"
    spec, _ = read(
        (end, end + "alternatives: {patient: {traffic.chat.timeout.whole: 5 min, traffic.chat.priority: 2}}\n")
    )
    assert list(spec.alternatives) == ["patient"]
    (found,) = problems_of(lambda: read((end, end + "alternatives: {busy: {traffic.chat.rate: 3 requests/s}}\n")))
    assert "cannot change traffic" in found.message
