"""A scenario with all that it names: what-ifs by path, alternatives as deltas, and every wrong name told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.specs.errors import Problem
from sim.specs.library import default_library
from sim.specs.reading import RawDocument, read_yaml
from sim.specs.resolved import Scenario, changed, load_scenario, replayed

ProblemsOf = Callable[[Callable[[], object]], list[Problem]]
Where = list[tuple[str, object, str, str]]

ALTERNATIVES = """\
kind: scenario
alternatives:
  plain: {}
  wide:
    fleet.main.replicas: 16
    fleet.main.parallelism: {tensor: 2}
  narrow:
    fleet.main.parallelism.tensor: 4
    router: round_robin
"""


@pytest.fixture
def town(folder: Path) -> Scenario:
    return load_scenario("town")


@pytest.fixture
def with_alternatives(edit: Any) -> Scenario:
    edit("scenarios/town.yaml", ("kind: scenario\n", ALTERNATIVES))
    return load_scenario("town")


def where(problems: list[Problem]) -> Where:
    return [(each.path, each.value, each.message, each.remedy) for each in problems]


# Resolving


def test_a_scenario_brings_every_document_that_it_names(town: Scenario, folder: Path) -> None:
    assert (set(town.hardware), set(town.models)) == ({"chip"}, {"tiny"})
    assert (set(town.serving_stacks), set(town.workloads)) == ({"engine"}, {"talk"})
    assert town.scenario_id == "town"
    assert set(town.fingerprints) == {
        "scenarios/town.yaml", "hardware_profiles/chip.yaml", "models/tiny.yaml", "serving_stacks/engine.yaml",
        "workloads/talk.yaml",
    }  # fmt: skip


def test_a_scenario_may_be_given_as_a_path_from_anywhere(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("FLEETCAST_PATH")
    monkeypatch.chdir(tmp_path)
    assert load_scenario(str(folder / "scenarios/town.yaml")).spec == load_scenario("library/scenarios/town.yaml").spec


def test_a_pool_may_name_files_beside_the_scenario(folder: Path, edit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    path = edit("scenarios/town.yaml", ("hardware: chip", "hardware: ../hardware_profiles/chip.yaml"))
    monkeypatch.chdir(tmp_path)
    assert load_scenario(str(path)).hardware["../hardware_profiles/chip.yaml"].name == "chip"


def test_every_unknown_name_is_told_at_once_with_near_misses_and_lines(
    edit: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    path = edit(
        "scenarios/town.yaml",
        ("hardware: chip", "hardware: chips"), ("model: tiny", "model: tinny"),
        ("serving_stack: engine", "serving_stack: enginee"), ("voice: {workload: talk}", "voice: {workload: talks}"),
    )  # fmt: skip
    problems = problems_of(lambda: load_scenario("town"))
    assert [(each.path, each.value, each.message) for each in problems] == [
        ("fleet.main.hardware", "chips", "there is no hardware of this name"),
        ("fleet.main.model", "tinny", "there is no model of this name"),
        ("fleet.main.serving_stack", "enginee", "there is no serving_stack of this name"),
        ("traffic.voice.workload", "talks", "there is no workload of this name"),
    ]
    near = ["chip", "tiny", "engine", "talk"]
    assert all(each.remedy.startswith(f"Did you mean {name}") for each, name in zip(problems, near, strict=True))
    assert [each.line for each in problems] == [
        line_of(path, text) for text in ("hardware:", "model:", "serving_stack:", "voice:")
    ]
    assert {each.file for each in problems} == {str(path)}


def test_wrong_values_unknown_names_and_unserved_classes_are_told_together(edit: Any, problems_of: ProblemsOf) -> None:
    edit(
        "scenarios/town.yaml",
        ("duration: 10 min", "duration: 10"), ("hardware: chip", "hardware: chips"),
        ("replicas: 8", "replicas: 8\n    serves: [caht]"),
    )  # fmt: skip
    edit("models/tiny.yaml", ("vendor: Acme\n", ""))
    problems = problems_of(lambda: load_scenario("town"))
    assert [each.path for each in problems] == [
        "duration", "fleet.main.serves", "traffic.chat", "traffic.voice", "fleet.main.hardware", "vendor",
    ]  # fmt: skip
    assert problems[-1].file.endswith("models/tiny.yaml")


def test_a_broken_document_that_two_pools_use_is_told_once_in_its_own_file(edit: Any, problems_of: ProblemsOf) -> None:
    pool = "  spare: {hardware: chip, model: tiny, serving_stack: engine, replicas: 1}\n"
    edit("scenarios/town.yaml", ("fleet:\n", f"fleet:\n{pool}"))
    path = edit("hardware_profiles/chip.yaml", ("3.35 TB/s", "3.35"))
    problems = problems_of(lambda: load_scenario("town"))
    assert [(each.file, each.path) for each in problems] == [(str(path), "memory.bandwidth.value")]


def test_a_wrong_name_that_two_pools_use_is_told_at_both(edit: Any, problems_of: ProblemsOf) -> None:
    pool = "  spare: {hardware: chips, model: tiny, serving_stack: engine, replicas: 1}\n"
    edit("scenarios/town.yaml", ("fleet:\n", f"fleet:\n{pool}"), ("hardware: chip\n", "hardware: chips\n"))
    paths = [each.path for each in problems_of(lambda: load_scenario("town"))]
    assert paths == ["fleet.spare.hardware", "fleet.main.hardware"]


@pytest.mark.parametrize("fleet", ["fleet: 5", "fleet: []", "fleet:", "fleet: {main: 5}", "fleet: {main: {serves: 5}}"])
def test_a_fleet_of_the_wrong_shape_is_bad_input_and_not_a_crash(
    folder: Path, problems_of: ProblemsOf, fleet: str
) -> None:
    path = folder / "scenarios/town.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("fleet:")] + fleet + "\n")
    assert all(each.path.startswith("fleet") for each in problems_of(lambda: load_scenario("town")))


def test_the_name_of_a_scenario_found_by_name_is_that_of_its_file(edit: Any, problems_of: ProblemsOf) -> None:
    path = edit("scenarios/town.yaml", ("name: town", "name: city"))
    assert problems_of(lambda: load_scenario("town")) == [
        Problem("differs from the name of the file", str(path), "name", "city",
                "Write `name: town`, or rename the file to city.yaml.", 2)
    ]  # fmt: skip
    assert load_scenario(str(path)).scenario_id == "city"


def test_another_kind_of_file_is_no_scenario_and_says_so_once(folder: Path, problems_of: ProblemsOf) -> None:
    problems = problems_of(lambda: load_scenario(str(folder / "models/tiny.yaml")))
    assert [each.message for each in problems] == ["this file is to be of kind scenario"]


def test_an_unknown_scenario_names_near_misses(folder: Path, problems_of: ProblemsOf) -> None:
    problem = problems_of(lambda: load_scenario("twon"))[0]
    assert (problem.message, problem.remedy) == ("there is no scenario of this name", "Did you mean town?")


def test_a_scenario_may_extend_another_one(folder: Path, write: Any) -> None:
    text = "kind: scenario\nname: city\nextends: town\nfleet: {main: {replicas: 80}}\n"
    write("library/scenarios/city.yaml", text)
    city = load_scenario("city")
    assert (city.scenario_id, city.spec.fleet["main"].replicas, city.spec.fleet["main"].model) == ("city", 80, "tiny")
    assert {"scenarios/town.yaml", "scenarios/city.yaml"} < set(city.fingerprints)


# Classes, pools and service levels


def test_a_service_level_for_a_class_without_traffic_is_told_with_near_misses(
    edit: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    path = edit("scenarios/town.yaml", ("kind: scenario", "kind: scenario\nservice_levels:\n  caht: []\n  chat: []"))
    assert problems_of(lambda: load_scenario("town")) == [
        Problem("service level for a class that has no traffic", str(path), "service_levels.caht", None,
                "Did you mean chat?", line_of(path, "caht"))
    ]  # fmt: skip


def test_a_class_that_no_pool_serves_and_a_pool_that_serves_no_class_are_told(
    edit: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    path = edit("scenarios/town.yaml", ("replicas: 8", "replicas: 8\n    serves: [chat, voise]"))
    assert problems_of(lambda: load_scenario("town")) == [
        Problem("serves a class that has no traffic", str(path), "fleet.main.serves", "voise", "Did you mean voice?",
                line_of(path, "serves")),
        Problem("no pool serves this class", str(path), "traffic.voice", None, "Add it to a pool's `serves`.",
                line_of(path, "voice:")),
    ]  # fmt: skip


def test_a_pool_serves_all_classes_or_those_that_it_names(edit: Any) -> None:
    pool = "  spare: {hardware: chip, model: tiny, serving_stack: engine, replicas: 1, serves: [voice]}\n"
    edit("scenarios/town.yaml", ("fleet:\n", f"fleet:\n{pool}"))
    scenario = load_scenario("town")
    assert scenario.classes_served("main") == ("chat", "voice")
    assert scenario.classes_served("spare") == ("voice",)


def test_service_levels_are_the_scenarios_own_or_those_of_the_workload_or_none(edit: Any) -> None:
    level = "{metric: e2e, quantile: 0.9, limit: 9 s, source: [assumption], confidence: assumption}"
    edit(
        "scenarios/town.yaml",
        ("kind: scenario", f"kind: scenario\nservice_levels: {{voice: [{level}]}}"),
        ("  voice:", "  calls: {trace: calls.csv}\n  quiet: {workload: talk}\n  voice:"),
    )
    scenario = load_scenario("town", {"service_levels.quiet": []})
    assert [(level.metric, level.limit) for level in scenario.service_levels("chat")] == [("ttft", 0.5)]
    assert [(level.metric, level.limit) for level in scenario.service_levels("voice")] == [("e2e", 9.0)]
    assert scenario.service_levels("calls") == scenario.service_levels("quiet") == ()


# What-ifs


@pytest.mark.parametrize(
    ("path", "value", "read"),
    [
        ("fleet.main.replicas", 12, lambda spec: spec.fleet["main"].replicas),
        ("fleet.main.parallelism.tensor", 4, lambda spec: spec.fleet["main"].parallelism.tensor),
        ("router", "round_robin", lambda spec: spec.router),
        ("seed", 7, lambda spec: spec.seed),
        ("price_basis", ["spot"], lambda spec: [each.value for each in spec.price_basis]),
        ("service_levels.chat", [], lambda spec: list(spec.service_levels["chat"])),
        ("alternatives.big", {"fleet.main.replicas": 2}, lambda spec: spec.alternatives["big"]),
    ],
)  # fmt: skip
def test_replacing_changes_one_value_and_nothing_else(town: Scenario, path: str, value: Any, read: Any) -> None:
    before = town.spec.model_dump()
    other = town.replace(path, value)
    assert read(other.spec) == value
    assert town.spec.model_dump() == before
    assert (other.scenario_id, other.hardware, other.library) == (town.scenario_id, town.hardware, town.library)
    top = path.split(".")[0]
    assert other.spec.model_dump(exclude={top}) == town.spec.model_dump(exclude={top})


def test_replacing_takes_values_as_yaml_writes_them(town: Scenario) -> None:
    assert town.replace("traffic.chat.rate", "20 requests/s").spec.traffic["chat"].rate == 20.0
    assert town.replace("duration", "1 h").spec.duration == 3600.0


def test_replacing_with_what_is_there_changes_nothing(town: Scenario) -> None:
    assert town.replace("fleet.main.replicas", 8).spec == town.spec
    assert town.replace("fleet", town.raw.data["fleet"]).spec == town.spec


def test_a_pool_can_be_added_and_another_kind_of_hardware_chosen(town: Scenario, texts: Any, write: Any) -> None:
    text = texts["hardware_profiles/chip.yaml"].replace("name: chip", "name: newer")
    write("library/hardware_profiles/newer.yaml", text)
    pool = {"hardware": "newer", "model": "tiny", "serving_stack": "engine", "replicas": 1}
    assert set(town.replace("fleet.spare", pool).hardware) == {"chip", "newer"}
    other = town.replace("fleet.main.hardware", "newer")
    assert set(other.hardware) == {"newer"}
    assert "hardware_profiles/newer.yaml" in other.fingerprints


def test_a_replaced_value_does_not_change_with_the_object_that_was_given(town: Scenario) -> None:
    layout = {"tensor": 2}
    other = town.replace("fleet.main.parallelism", layout)
    layout["tensor"] = 4
    assert other.raw.data["fleet"]["main"]["parallelism"] == {"tensor": 2}
    assert "parallelism" not in town.raw.data["fleet"]["main"]


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("fleet.man.replicas", 2, ("fleet.man.replicas", "fleet.man", "there is no such path", "Did you mean main?")),
        ("flet.main.replicas", 2, ("flet.main.replicas", "flet", "there is no such path", "Did you mean fleet?")),
        ("fleet.main.paralelism.tensor", 2,
         ("fleet.main.paralelism.tensor", "fleet.main.paralelism", "there is no such path",
          "Did you mean parallelism?")),
        ("traffic.chta.rate", "2 requests/s",
         ("traffic.chta.rate", "traffic.chta", "there is no such path", "Did you mean chat?")),
        ("fleet.main.replica", 2, ("fleet.main.replica", None, "unknown key", "Did you mean replicas?")),
        ("rooter", "round_robin", ("rooter", None, "unknown key", "Did you mean router?")),
        ("fleet.main.replicas.x", 2,
         ("fleet.main.replicas.x", 8, "there are no keys below fleet.main.replicas",
          "Set fleet.main.replicas as a whole.")),
        ("price_basis.0", "spot",
         ("price_basis.0", ["on_demand"], "there are no keys below price_basis", "Set price_basis as a whole.")),
        ("", 2, ("", None, "is not a path", "Write keys joined by dots, as in `fleet.chat.replicas`.")),
        ("fleet..replicas", 2,
         ("fleet..replicas", None, "is not a path", "Write keys joined by dots, as in `fleet.chat.replicas`.")),
        ("fleet.main.replicas", 0, ("fleet.main.replicas", 0, "must be greater than 0", "")),
        ("fleet.main.replicas", "12", ("fleet.main.replicas", "12", "must be a whole number", "")),
        ("traffic.chat.rate", 20,
         ("traffic.chat.rate", 20, "a bare number has no unit; write a number and a unit, such as '5 requests/s'", "")),
        ("fleet.main.hardware", "chips",
         ("fleet.main.hardware", "chips", "there is no hardware of this name", "Did you mean chip?")),
        ("router", "round-robin",
         ("router", "round-robin",
          "must be 'round_robin', 'least_outstanding', 'least_kv', 'power_of_two' or 'prefix_affinity'",
          "Did you mean round_robin?")),
        ("fleet.main.serves", ["chta", "chat", "voice"],
         ("fleet.main.serves", "chta", "serves a class that has no traffic", "Did you mean chat?")),
    ],
)  # fmt: skip
def test_a_wrong_replacement_says_what_is_there_and_claims_no_line(
    town: Scenario, problems_of: ProblemsOf, path: str, value: Any, problem: tuple[str, object, str, str]
) -> None:
    problems = problems_of(lambda: town.replace(path, value))
    assert where(problems) == [problem]
    if path:
        assert problems[0].file == f"{town.raw.file} (changed)"
        assert problems[0].line is None


def test_a_problem_elsewhere_keeps_its_line_after_a_replacement(town: Scenario, problems_of: ProblemsOf) -> None:
    problems = problems_of(lambda: town.replace("fleet.main.serves", ["chat"]))
    assert [(each.path, each.file, each.line) for each in problems] == [("traffic.voice", town.raw.file, 11)]


def test_changes_are_made_before_anything_is_checked_and_all_wrong_ones_are_told(
    edit: Any, problems_of: ProblemsOf
) -> None:
    edit("scenarios/town.yaml", ("hardware: chip", "hardware: chips"))
    assert load_scenario("town", {"fleet.main.hardware": "chip", "seed": 3}).spec.seed == 3
    wrong = {"fleet.man.replicas": 1, "sead.x": 2, "traffic.chat.rate": "1 requests/s"}
    assert [each.path for each in problems_of(lambda: load_scenario("town", wrong))] == ["fleet.man.replicas", "sead.x"]


paths = st.lists(st.sampled_from(["fleet", "main", "replicas", "seed", "x", ""]), min_size=1, max_size=4).map(".".join)


@given(path=paths, value=st.integers() | st.none() | st.text(max_size=3) | st.lists(st.integers(), max_size=2))
def test_a_change_sets_exactly_its_path_or_is_refused(path: str, value: Any) -> None:
    data = {"fleet": {"main": {"replicas": 8}}, "seed": 1}
    raw = RawDocument("x.yaml", data, {})
    try:
        after = changed(raw, {path: value}).data
    except ValueError:
        after = None
    assert data == {"fleet": {"main": {"replicas": 8}}, "seed": 1}
    if after is not None:
        here: Any = after
        for part in path.split("."):
            here = here[part]
        assert here == value


# Alternatives


def test_without_alternatives_the_scenario_is_its_only_variant(town: Scenario) -> None:
    assert town.variants() == [town]


def test_alternatives_are_deltas_of_the_scenario_and_not_of_one_another(with_alternatives: Scenario) -> None:
    plain, wide, narrow = with_alternatives.variants()
    assert [each.scenario_id for each in (plain, wide, narrow)] == ["town/plain", "town/wide", "town/narrow"]
    pools = [each.spec.fleet["main"] for each in (plain, wide, narrow)]
    assert [(pool.replicas, pool.parallelism.tensor) for pool in pools] == [(8, 1), (16, 2), (8, 4)]
    assert [each.spec.router for each in (plain, wide, narrow)] == [
        "least_outstanding", "least_outstanding", "round_robin",
    ]  # fmt: skip
    assert all(each.spec.alternatives == {} and each.variants() == [each] for each in (plain, wide, narrow))
    assert plain.spec.model_copy(update={"alternatives": with_alternatives.spec.alternatives}) == with_alternatives.spec
    assert all(each.spec.traffic == with_alternatives.spec.traffic for each in (plain, wide, narrow))


def test_a_replacement_reaches_every_alternative_that_does_not_replace_the_same(with_alternatives: Scenario) -> None:
    replicas = [
        each.spec.fleet["main"].replicas for each in with_alternatives.replace("fleet.main.replicas", 3).variants()
    ]
    assert replicas == [3, 16, 3]


def test_a_value_of_an_alternative_can_be_replaced_by_its_dotted_key(
    with_alternatives: Scenario, problems_of: ProblemsOf
) -> None:
    other = with_alternatives.replace("alternatives.wide.fleet.main.replicas", 5)
    assert other.variants()[1].spec.fleet["main"].replicas == 5
    added = with_alternatives.replace("alternatives.plain.fleet.main.replicas", 6)
    assert added.variants()[0].spec.fleet["main"].replicas == 6
    problems = problems_of(lambda: with_alternatives.replace("alternatives.wyde.fleet.main.replicas", 5))
    assert where(problems) == [
        ("alternatives.wyde.fleet.main.replicas", "alternatives.wyde", "there is no such path", "Did you mean wide?")
    ]


def test_errors_in_alternatives_name_the_alternative_and_its_line_and_are_told_for_all(
    edit: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    text = (
        "kind: scenario\nalternatives:\n  good: {}\n  typo:\n    fleet.mian.replicas: 2\n    router: fastest\n"
        "  wrong:\n    fleet.main.hardware: chips\n    fleet.main.replicas: 0\n    fleet.main.parallelism.data: 2\n"
        "  lonely:\n    fleet.main.serves: [chat]\n"
    )
    path = edit("scenarios/town.yaml", ("kind: scenario\n", text))
    scenario = load_scenario("town")
    problems = problems_of(scenario.variants)
    assert [(each.path, each.line, each.message.split(" needs")[0]) for each in problems] == [
        ("alternatives.typo: fleet.mian.replicas", 5, "there is no such path"),
        ("alternatives.wrong: fleet.main.replicas", 9, "must be greater than 0"),
        ("alternatives.wrong: fleet.main.parallelism", 10, "data-parallel attention"),
        ("alternatives.wrong: fleet.main.hardware", 8, "there is no hardware of this name"),
        ("alternatives.lonely: traffic.voice", line_of(path, "voice:"), "no pool serves this class"),
    ]
    assert {each.file for each in problems} == {str(path)}
    assert problems[0].remedy == "Did you mean main?"


def test_a_broken_document_of_an_alternative_is_told_in_its_own_file(
    edit: Any, texts: Any, write: Any, problems_of: ProblemsOf
) -> None:
    text = texts["hardware_profiles/chip.yaml"].replace("name: chip", "name: newer").replace("vendor: Acme\n", "")
    newer = write("library/hardware_profiles/newer.yaml", text)
    edit("scenarios/town.yaml", ("kind: scenario", "kind: scenario\nalternatives: {a: {fleet.main.hardware: newer}}"))
    problems = problems_of(load_scenario("town").variants)
    assert [(each.file, each.path) for each in problems] == [(str(newer), "vendor")]


def test_an_error_of_a_changed_alternative_claims_no_line(with_alternatives: Scenario, problems_of: ProblemsOf) -> None:
    other = with_alternatives.replace("alternatives.wide.fleet.main.replicas", 0)
    problem = problems_of(other.variants)[0]
    assert (problem.path, problem.line) == ("alternatives.wide: fleet.main.replicas", None)
    assert problem.file.endswith("town.yaml (changed)")


# Recorded traces


def test_a_replayed_trace_is_the_only_traffic(town: Scenario, tmp_path: Path) -> None:
    scenario = load_scenario("town", replay=(None, str(tmp_path / "calls.csv")))
    assert list(scenario.spec.traffic) == ["trace"]
    assert scenario.trace_file("trace") == tmp_path / "calls.csv"
    assert scenario.service_levels("trace") == ()
    assert scenario.workloads == {}
    assert scenario.spec.fleet == town.spec.fleet


def test_a_trace_replayed_as_a_class_has_its_service_levels_and_speed_but_not_its_rate(
    edit: Any, tmp_path: Path
) -> None:
    level = "{metric: e2e, quantile: 0.9, limit: 9 s, source: [assumption], confidence: assumption}"
    edit(
        "scenarios/town.yaml",
        ("kind: scenario", f"kind: scenario\nservice_levels: {{voice: [{level}]}}"),
        ("voice: {workload: talk}", "voice: {trace: old.csv, trace_speed: 3}"),
    )
    chat = load_scenario("town", replay=("chat", str(tmp_path / "calls.csv")))
    assert chat.service_levels("chat")[0].metric == "ttft"
    assert (chat.spec.traffic["chat"].rate, chat.spec.service_levels) == (None, {})
    voice = load_scenario("town", replay=("voice", str(tmp_path / "calls.csv")))
    assert voice.service_levels("voice")[0].metric == "e2e"
    assert voice.spec.traffic["voice"].trace_speed == 3.0
    assert voice.trace_file("voice") == tmp_path / "calls.csv"


def test_changes_reach_the_replayed_trace(folder: Path) -> None:
    assert (
        load_scenario("town", {"traffic.trace.trace_speed": 10}, (None, "x.csv")).spec.traffic["trace"].trace_speed
        == 10
    )
    assert (
        load_scenario("town", {"traffic.chat.trace_speed": 10}, ("chat", "x.csv")).spec.traffic["chat"].trace_speed
        == 10
    )


def test_a_trace_cannot_be_replayed_as_a_class_that_is_not_there(folder: Path, problems_of: ProblemsOf) -> None:
    problem = problems_of(lambda: load_scenario("town", replay=("chta", "x.csv")))[0]
    assert (problem.path, problem.value, problem.remedy) == ("traffic", "chta", "Did you mean chat?")
    assert problem.line == 9


@pytest.mark.parametrize("traffic", [None, [], "x", {}])
def test_a_trace_replaces_even_traffic_that_is_wrong(folder: Path, traffic: Any) -> None:
    raw = read_yaml(folder / "scenarios/town.yaml")
    broken = RawDocument(raw.file, raw.data | {"traffic": traffic}, raw.lines)
    scenario = Scenario.resolve(replayed(broken, None, "/x.csv"), default_library())
    assert scenario.spec.traffic["trace"].trace == "/x.csv"


def test_a_trace_is_looked_up_beside_the_scenario_before_the_folder_of_the_day(
    edit: Any, write: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    edit("scenarios/town.yaml", ("voice: {workload: talk}", "voice: {trace: calls.csv}"))
    scenario = load_scenario("town")
    here = write("here/calls.csv", "")
    monkeypatch.chdir(here.parent)
    assert scenario.trace_file("voice") == Path("calls.csv")
    beside = write("library/scenarios/calls.csv", "")
    assert scenario.trace_file("voice") == beside
    assert scenario.trace_file("chat") is None
    here.unlink()
    beside.unlink()
    assert scenario.trace_file("voice") == beside
    relative = load_scenario("town", replay=(None, "calls.csv"))
    assert relative.trace_file("trace") == here
