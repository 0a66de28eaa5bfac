"""What a scenario may say: times that leave something to measure, traffic from one origin, names that are free."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sim.specs.errors import Problem
from sim.specs.fleet import ParallelismSpec, PoolSpec
from sim.specs.reading import read_yaml, validate
from sim.specs.scenario import ScenarioSpec, TrafficSpec

Change = tuple[str, str]


@pytest.fixture
def scenario(edit: Callable[..., Path]) -> Callable[..., ScenarioSpec]:
    return lambda *changes: validate(read_yaml(edit("scenarios/town.yaml", *changes)), ScenarioSpec)


@pytest.fixture
def problem(scenario: Any, problems_of: Any) -> Callable[..., Problem]:
    """Return a function that returns the one problem of the scenario after changes."""

    def one(*changes: Change) -> Problem:
        problems = problems_of(lambda: scenario(*changes))
        assert len(problems) == 1, [str(each) for each in problems]
        found: Problem = problems[0]
        return found

    return one


def added(text: str) -> Change:
    return ("kind: scenario\n", f"kind: scenario\n{text}\n")


def test_a_scenario_is_read_in_si_units_with_stated_defaults(scenario: Any) -> None:
    spec = scenario()
    assert (spec.duration, spec.warm_up, spec.drain, spec.timeline_interval) == (600.0, 60.0, 300.0, 60.0)
    assert (spec.traffic["chat"].rate, spec.traffic["voice"].rate) == (2.0, None)
    assert (spec.router, spec.seed, spec.start_hour) == ("least_outstanding", 1, 0.0)
    assert (spec.oversized_requests, spec.alternatives, spec.service_levels) == ("error", {}, {})
    pool = spec.fleet["main"]
    assert (pool.replicas, pool.parallelism.accelerators, pool.serves) == (8, 1, ())


# Times


@pytest.mark.parametrize("key", ["duration", "timeline_interval"])
def test_a_time_of_zero_is_refused_where_it_stands(problem: Any, key: str) -> None:
    old = {"duration": "duration: 10 min", "timeline_interval": "timeline_interval: 1 min"}[key]
    found = problem((old, f"{key}: 0 s"))
    assert (found.path, found.message, found.value) == (key, "must be more than 0", "0 s")
    assert found.line is not None


def test_two_wrong_times_are_two_problems(scenario: Any, problems_of: Any) -> None:
    changes = [("duration: 10 min", "duration: 0 s"), ("timeline_interval: 1 min", "timeline_interval: 0 s")]
    assert [each.path for each in problems_of(lambda: scenario(*changes))] == ["duration", "timeline_interval"]


@pytest.mark.parametrize("warm_up", ["600 s", "10 min", "601 s", "1 h"])
def test_a_warm_up_that_leaves_nothing_is_refused_where_it_stands(problem: Any, warm_up: str) -> None:
    found = problem(("warm_up: 1 min", f"warm_up: {warm_up}"))
    assert (found.path, found.line, found.value) == ("warm_up", 5, warm_up)
    assert found.message == "must be shorter than duration; nothing would be measured"


@pytest.mark.parametrize("warm_up", ["0 s", "599.9 s"])
def test_a_warm_up_that_leaves_something_is_accepted(scenario: Any, warm_up: str) -> None:
    assert scenario(("warm_up: 1 min", f"warm_up: {warm_up}")).warm_up < 600.0


def test_a_recorded_trace_has_its_own_duration_so_that_no_warm_up_is_too_long_here(scenario: Any) -> None:
    changes = [("warm_up: 1 min", "warm_up: 1 h"), ("voice: {workload: talk}", "voice: {trace: calls.csv}")]
    assert scenario(*changes).warm_up == 3600.0


@pytest.mark.parametrize(
    ("key", "value"),
    [("duration", "367 d"), ("duration", "2 year"), ("drain", "367 d"), ("warm_up", "400 d")],
)
def test_a_run_longer_than_a_year_is_refused(scenario: Any, problems_of: Any, key: str, value: str) -> None:
    old = {"duration": "duration: 10 min", "drain": "drain: 5 min", "warm_up": "warm_up: 1 min"}[key]
    changes = [(old, f"{key}: {value}"), ("timeline_interval: 1 min", "timeline_interval: 1 d")]
    problems = problems_of(lambda: scenario(*changes))
    assert [(each.path, each.value) for each in problems] == [(key, value)]
    assert problems[0].message == "must be at most 366 d; simulate representative hours instead"


def test_a_timeline_of_too_many_rows_is_refused_before_memory_ends(problem: Any, scenario: Any) -> None:
    found = problem(("timeline_interval: 1 min", "timeline_interval: 1 us"))
    assert (found.path, found.value) == ("timeline_interval", "1 us")
    assert found.message == "makes 9e+08 rows for each pool, more than 1000000; choose a longer one"
    assert scenario(("timeline_interval: 1 us", "timeline_interval: 0.9 ms")).timeline_interval == 0.0009


@pytest.mark.parametrize(("hour", "message"), [
    ("168", "must be less than 168"), ("-1", "must be greater than or equal to 0"), (".nan", "must be a finite number"),
    ("yes", "must be a number, not true or false"), ("noon", "must be a number"),
])  # fmt: skip
def test_the_hour_at_which_a_run_starts_is_one_of_a_week(problem: Any, hour: str, message: str) -> None:
    found = problem(added(f"start_hour: {hour}"))
    assert (found.path, found.message.split(",")[0]) == ("start_hour", message.split(",")[0])


@pytest.mark.parametrize("seed", ["-1", "1.5", "one", "true", "1.0"])
def test_a_seed_is_a_whole_number_from_zero_on(problem: Any, seed: str) -> None:
    assert problem(added(f"seed: {seed}")).path == "seed"


# Traffic


@pytest.mark.parametrize(("traffic", "message"), [
    ("{}", "a traffic class needs a workload or a trace"),
    ("{rate: 5 requests/s}", "a traffic class needs a workload or a trace"),
    ("{trace: calls.csv, rate: 5 requests/s}", "a trace has its own rate; use trace_speed to replay it faster"),
    ("{trace: calls.csv, workload: talk, rate: 5 requests/s}",
     "a trace has its own rate; use trace_speed to replay it faster"),
])  # fmt: skip
def test_traffic_comes_from_a_workload_at_a_rate_or_from_a_trace(problem: Any, traffic: str, message: str) -> None:
    found = problem(("voice: {workload: talk}", f"voice: {traffic}"))
    assert (found.path, found.message, found.line) == ("traffic.voice", message, 11)


@pytest.mark.parametrize("traffic", [
    "{trace: calls.csv}", "{trace: calls.csv, trace_speed: 2}", "{trace: calls.csv, workload: talk}",
])  # fmt: skip
def test_a_trace_may_have_a_speed_and_the_service_levels_of_a_workload(scenario: Any, traffic: str) -> None:
    assert scenario(("voice: {workload: talk}", f"voice: {traffic}")).traffic["voice"].trace == "calls.csv"


@pytest.mark.parametrize("speed", ["0", "-1", ".inf", ".nan", "true", "fast"])
def test_the_speed_of_a_trace_is_a_positive_number(problem: Any, speed: str) -> None:
    change = ("voice: {workload: talk}", f"voice: {{trace: calls.csv, trace_speed: {speed}}}")
    assert problem(change).path == "traffic.voice.trace_speed"


def test_traffic_and_fleet_may_not_be_empty(scenario: Any, edit: Any, problems_of: Any) -> None:
    text = edit("scenarios/town.yaml").read_text()
    data = yaml.safe_load(text) | {"traffic": {}, "fleet": {}}
    edit("scenarios/town.yaml", (text, yaml.safe_dump(data)))
    problems = problems_of(scenario)
    assert sorted((each.path, each.message) for each in problems) == [
        ("fleet", "must have at least 1 entry"), ("traffic", "must have at least 1 entry"),
    ]  # fmt: skip


# Names


@pytest.mark.parametrize(("old", "path"), [("  voice:", "traffic.all"), ("  main:", "fleet.all")])
def test_no_class_and_no_pool_is_called_all_because_that_means_everything(
    problem: Any, line_of: Any, folder: Path, old: str, path: str
) -> None:
    found = problem((old, "  all:"))
    assert (found.path, found.value) == (path, "all")
    assert found.message == "the name 'all' stands for everything in results; choose another"
    assert found.line == line_of(folder / "scenarios/town.yaml", "all:")


# Alternatives


@pytest.mark.parametrize(
    "path",
    [
        "seed",
        "name",
        "kind",
        "alternatives",
        "alternatives.b",
        "traffic.chat.rate",
        "traffic",
        "duration",
        "start_hour",
    ],
)
def test_an_alternative_meets_the_same_requests_as_all_others(problem: Any, path: str) -> None:
    found = problem(added(f"alternatives:\n  same: {{}}\n  other:\n    fleet.main.replicas: 4\n    {path}: 3"))
    assert (found.path, found.line) == ("alternatives.other", 4)
    assert found.message == (
        f"an alternative cannot change {path.split('.')[0]}: all alternatives meet the same requests; "
        "make a scenario of its own with `extends`"
    )


def test_all_that_an_alternative_may_not_change_is_named_at_once(problem: Any) -> None:
    found = problem(added("alternatives: {a: {traffic.chat.rate: 3 requests/s, seed: 2, fleet.main.replicas: 2}}"))
    assert "cannot change seed, traffic:" in found.message


def test_an_alternative_may_change_the_fleet_its_router_and_its_service_levels(scenario: Any) -> None:
    delta = (
        "{fleet.main.replicas: 4, router: round_robin, service_levels.chat: [], price_basis: [spot], warm_up: 2 min}"
    )
    assert set(scenario(added(f"alternatives: {{a: {{}}, b: {delta}}}")).alternatives) == {"a", "b"}


# Pools


@pytest.mark.parametrize("replicas", ["0", "-1", "1.5", "8.0", "many", "true", "100001", "1_000_000"])
def test_replicas_are_a_whole_number_up_to_a_limit(problem: Any, replicas: str) -> None:
    assert problem(("replicas: 8", f"replicas: {replicas}")).path == "fleet.main.replicas"


@pytest.mark.parametrize(
    ("key", "value"),
    [("step_token_budget", "0 tokens"), ("step_token_budget", "1.5 tokens"), ("step_token_budget", "-1 tokens"),
     ("step_token_budget", "1024"), ("max_sequences", "0"), ("max_sequences", "2.0"), ("activation_reserve", "-1 GiB"),
     ("price", "-1 USD/h"), ("price", "3"), ("price_basis", "[cheap]"), ("weight_format", "fp16"), ("hardware", "7")],
)  # fmt: skip
def test_nonsense_in_a_pool_is_refused_where_it_stands(scenario: Any, problems_of: Any, key: str, value: str) -> None:
    change = ("    hardware: chip\n", f"    {key}: {value}\n" + ("" if key == "hardware" else "    hardware: chip\n"))
    problems = problems_of(lambda: scenario(change))
    assert [each.path.removesuffix(".0") for each in problems] == [f"fleet.main.{key}"]


def test_a_step_token_budget_is_whole_tokens() -> None:
    pool = PoolSpec.model_validate({"hardware": "h", "model": "m", "replicas": 1, "step_token_budget": "2 ktokens"})
    assert (pool.step_token_budget, type(pool.step_token_budget)) == (2000, int)


@pytest.mark.parametrize("tensor", [1, 2, 8])
@pytest.mark.parametrize("data", [1, 2, 4])
@pytest.mark.parametrize("expert", [1, 2, 8, 32])
@pytest.mark.parametrize("pipeline", [1, 3])
def test_experts_are_on_one_or_on_all_ranks_of_a_stage_and_data_parallel_attention_needs_all(
    tensor: int, data: int, expert: int, pipeline: int
) -> None:
    layout = {"tensor": tensor, "data": data, "expert": expert, "pipeline": pipeline}
    if expert == tensor * data or (expert == 1 and data == 1):
        assert ParallelismSpec.model_validate(layout).accelerators == tensor * data * pipeline
    else:
        with pytest.raises(ValidationError, match=rf"expert (must be 1 or tensor x data )?= {tensor * data}"):
            ParallelismSpec.model_validate(layout)


def test_a_class_at_rate_zero_is_switched_off_and_not_an_error() -> None:
    assert TrafficSpec.model_validate({"workload": "talk", "rate": "0 requests/s"}).rate == 0.0
