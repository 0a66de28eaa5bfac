"""What is wrong in a file is told all at once, with file, line, path, value and what to write instead."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.specs import reading
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.hardware import HardwareSpec
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, read_yaml, validate
from sim.specs.scenario import ScenarioSpec
from sim.specs.spec import Spec
from sim.specs.workload import WorkloadSpec

ProblemsOf = Callable[[Callable[[], object]], list[Problem]]
SPECS: dict[str, type[Spec]] = {
    "hardware_profiles/chip.yaml": HardwareSpec,
    "models/tiny.yaml": ModelSpec,
    "workloads/talk.yaml": WorkloadSpec,
    "scenarios/town.yaml": ScenarioSpec,
}


def read(path: Path) -> Any:
    return validate(read_yaml(path), SPECS[f"{path.parent.name}/{path.name}"])


@pytest.fixture(params=["fastest", "plain"])
def parser(request: Any, monkeypatch: Any) -> str:
    """Read with the fastest parser at hand, and with the one that every PyYAML has."""
    if request.param == "plain":
        plain = type("Plain", (reading._StrictConstructor, yaml.SafeLoader), {})
        monkeypatch.setattr(reading, "_Loader", plain)
    return str(request.param)


@pytest.fixture
def broken(edit: Callable[..., Path], problems_of: ProblemsOf) -> Callable[..., Problem]:
    """Return a function that changes a valid file and returns the one problem that it then has."""

    def one(name: str, *changes: tuple[str, str]) -> Problem:
        path = edit(name, *changes)
        problems = problems_of(lambda: read(path))
        assert len(problems) == 1, [str(each) for each in problems]
        assert problems[0].file == str(path)
        return problems[0]

    return one


@pytest.mark.parametrize("name", list(SPECS))
def test_the_files_of_these_tests_are_valid_as_written(folder: Path, name: str) -> None:
    assert read(folder / name).name == Path(name).stem


# Files that cannot be read at all


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, problems_of: ProblemsOf) -> None:
    missing = tmp_path / "absent.yaml"
    assert str(problems_of(lambda: read_yaml(missing))[0]) == (
        f"{missing}: cannot be read: no such file or directory. Check the path."
    )
    assert str(problems_of(lambda: read_yaml(tmp_path))[0]) == (
        f"{tmp_path}: cannot be read: is a directory. Name a YAML file in it."
    )


@pytest.mark.parametrize(
    ("content", "line", "message", "remedy"),
    [
        (b"", None, "is empty", "Start with `kind:`."),
        (b"# only a comment\n\n", None, "is empty", "Start with `kind:`."),
        (b"\n- a\n- b\n", 2, "holds no mapping of keys to values at its top", "Start with `kind:`."),
        (b"just text", 1, "holds no mapping of keys to values at its top", "Start with `kind:`."),
        (b"a: 1\nb: \xe4\n", 2, "is not UTF-8 text", "Save it as UTF-8."),
        ("a: 1\n".encode("utf-16"), 1, "is not UTF-8 text", "Save it as UTF-8."),
        ("a: ääää\nb: ä\x07y\n".encode(), 2, "not valid YAML: the character U+0007 is not allowed", "Remove it."),
        (b"a: 1\nb: x\0y\n", 2, "not valid YAML: the character U+0000 is not allowed", "Remove it."),
        (b"a:\n\tb: 1\n", 2, "not valid YAML: a tab in the indentation",
         "Indent with spaces, not tabs."),
        (b"a: 1\n---\nb: 1\n", 2, "not valid YAML: a second document",
         "Keep one document to a file: remove `---`."),
        (b"a: 1\nb: {{name}}\n", 2, "not valid YAML: a mapping or a list cannot be a key",
         "Put text that starts with { or [ in quotes."),
        (b"a: 1\nb: 2025-02-30\n", 2, "not valid YAML: '2025-02-30' cannot be read: day is out of range for month", ""),
        (b"a: 1\nb: !!int x\n", 2,
         "not valid YAML: 'x' cannot be read: invalid literal for int() with base 10: 'x'", ""),
    ],
    ids=["empty", "comment", "list", "text", "latin-1", "utf-16", "bell", "nul", "tab", "documents", "braces", "date",
         "tag"],
)  # fmt: skip
@pytest.mark.usefixtures("parser")
def test_what_is_no_yaml_mapping_is_told_with_line_and_remedy(
    tmp_path: Path, problems_of: ProblemsOf, content: bytes, line: int | None, message: str, remedy: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    problem = problems_of(lambda: read_yaml(path))[0]
    assert (problem.message, problem.line, problem.remedy, problem.file) == (message, line, remedy, str(path))
    assert "\n" not in str(problem)


@pytest.mark.parametrize("content", ["a: 1\ntitle: b: c\n", "a: 1\nb: [1, 2\nc: 3\n", 'a: 1\nb: "x\n', "a: 1\n b: 2\n"])
@pytest.mark.usefixtures("parser")
def test_other_mistakes_of_yaml_say_where_to_look(write: Any, problems_of: ProblemsOf, content: str) -> None:
    problem = problems_of(lambda: read_yaml(write("x.yaml", content)))[0]
    assert problem.message.startswith("not valid YAML: ")
    assert problem.line is not None
    assert problem.line >= 2
    assert problem.remedy.startswith("Check quotes, brackets and indentation here and just above")


@pytest.mark.parametrize("content", ["a: &x [*x]\n", "a: &x {b: *x}\n", "a: " + "[" * 5000])
@pytest.mark.usefixtures("parser")
def test_endless_nesting_is_one_problem(write: Any, problems_of: ProblemsOf, content: str) -> None:
    problem = problems_of(lambda: read_yaml(write("x.yaml", content)))[0]
    assert problem.message == "is nested too deeply"
    assert "alias inside its own anchor" in problem.remedy


@pytest.mark.parametrize(
    ("content", "line", "key"),
    [("a: 1\nb: 2\na: 3\n", 3, "'a'"), ("a:\n  b: 1\n  c: {d: 1}\n  b: 1\n", 4, "'b'"),
     ("a: [{b: 1, b: 1}]\n", 1, "'b'"),
     ("a:\n  0.5: 1\n  0.50: 1\n", 3, "0.5")],
)  # fmt: skip
@pytest.mark.usefixtures("parser")
def test_a_key_given_twice_is_refused_at_its_second_place(
    write: Any, problems_of: ProblemsOf, content: str, line: int, key: str
) -> None:
    problem = problems_of(lambda: read_yaml(write("x.yaml", content)))[0]
    assert (problem.message, problem.line) == (f"not valid YAML: the key {key} is given twice", line)


@pytest.mark.usefixtures("parser")
def test_anchors_and_merge_keys_are_read_and_a_key_may_replace_a_merged_one(write: Any) -> None:
    raw = read_yaml(write("x.yaml", "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n"))
    assert raw.data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}
    assert raw.lines["b", "y"] == 4


@pytest.mark.usefixtures("parser")
def test_every_key_and_entry_has_the_line_on_which_it_stands(write: Any) -> None:
    raw = read_yaml(write("x.yaml", "a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\ne:\n  0.50: 1\n  on: 2\n"))
    assert raw.lines == {
        ("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1): 4, ("b", 1, "c"): 4, ("b", 1, "d"): 5,
        ("e",): 6, ("e", 0.5): 7, ("e", True): 8,
    }  # fmt: skip


# All at once


def test_six_different_errors_in_a_file_are_six_problems_each_with_its_line(
    edit: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    path = edit(
        "hardware_profiles/chip.yaml",
        ("vendor: Acme\n", ""),
        ("announced: 2024-03-18", "announced: 2024"),
        ("bf16: {value: 1000 TFLOP/s", "bf16: {value: 1000"),
        ("low: 80 GB,", "low: 90 GiB,"),
        ("memory:\n", "memory:\n  bandwith: {}\n"),
        ("source: [DATASHEET], confidence: measured", "source: [DATASHET], confidence: measured"),
    )
    problems = problems_of(lambda: read(path))
    assert [(each.path, each.line, each.value, each.message, each.remedy) for each in problems] == [
        ("vendor", None, None, "missing", "Who makes it."),
        ("availability.announced", line_of(path, "announced:"), 2024,
         "must be a date of the calendar, such as 2025-05-15", ""),
        ("peak.bf16.value", line_of(path, "bf16:"), 1000,
         "a bare number has no unit; write a number and a unit, such as '989 TFLOP/s'", ""),
        ("memory.bandwith", line_of(path, "bandwith:"), None, "unknown key", "Did you mean bandwidth?"),
        ("memory.usable", line_of(path, "usable:"), None, "low, value and high must be in this order", ""),
        ("prices.hourly.on_demand.source", line_of(path, "on_demand:"), "DATASHET", "source is not listed",
         "Add it to `sources`. Did you mean DATASHEET?"),
    ]  # fmt: skip
    assert {each.file for each in problems} == {str(path)}


def test_the_text_of_an_error_is_one_line_a_problem_with_all_that_is_known(edit: Any, line_of: Any) -> None:
    path = edit("scenarios/town.yaml", ("duration: 10 min", "duration: 10"), ("replicas: 8", "replica: 8"))
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).splitlines() == [
        f"{path}:{line_of(path, 'duration:')}: duration: a bare number has no unit; write a number and a unit, such as "
        "'500 ms' (got 10).",
        f"{path}:{line_of(path, 'main:')}: fleet.main.replicas: missing. Serving instances.",
        f"{path}:{line_of(path, 'replica:')}: fleet.main.replica: unknown key. Did you mean replicas?",
    ]


def test_a_problem_that_occurs_twice_is_told_once_and_survives_pickling() -> None:
    first, second = Problem("wrong", "x.yaml", "a.b", [1], "Do it right.", 3), Problem("wrong", "x.yaml", "a.c", [1])
    error = InputError([first, second, first])
    assert error.problems == (first, second)
    assert str(error) == "x.yaml:3: a.b: wrong (got [1]). Do it right.\nx.yaml: a.c: wrong (got [1])."
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), copied.problems, str(copied)) == (InputError, error.problems, str(error))


def test_a_problem_without_file_path_value_or_remedy_is_still_a_sentence() -> None:
    assert str(Problem("nothing fits")) == "nothing fits."
    assert str(Problem("no such folder", "FLEETCAST_PATH", value="/x")) == "FLEETCAST_PATH: no such folder (got '/x')."
    assert str(Problem("wrong", path="a.b", value=False, line=7)) == "a.b: wrong (got False)."
    long = str(Problem("wrong", value="x" * 200))
    assert long.endswith("...).")
    assert len(long) < 100


# Near misses


@pytest.mark.parametrize(
    ("name", "old", "new", "path", "remedy"),
    [
        ("models/tiny.yaml", "vendor: Acme", "vendor: Acme\nvendr: Acme", "vendr", "Did you mean vendor?"),
        ("models/tiny.yaml", "kv_heads: 2,", "kv_heads: 2, query_head: 8,", "architecture.attention.0.query_head",
         "Did you mean query_heads"),
        ("models/tiny.yaml", "kv_heads: 2,", "kv_heads: 2, kv_rank: 8,", "architecture.attention.0.kv_rank",
         "kv_heads"),
        ("models/tiny.yaml", "0.1 Gparameters,", "0.1 Gparameters, hihg: 1 Gparameters,",
         "stated.total_parameters.hihg", "Did you mean high?"),
        ("workloads/talk.yaml", "process: poisson", "process: poisson, profil: 3", "arrivals.profil",
         "Did you mean profile?"),
        ("workloads/talk.yaml", "quantile: 0.99,", "quantile: 0.99, limits: 3 s,", "service_levels.0.limits",
         "Did you mean limit?"),
        ("hardware_profiles/chip.yaml", "value: 3 USD/h,", "value: 3 USD/h, notes: x,",
         "prices.hourly.on_demand.notes", "Did you mean note?"),
        ("hardware_profiles/chip.yaml", "kind: hardware", "kind: hardware\nextend: h100", "extend",
         "Did you mean extends?"),
        ("scenarios/town.yaml", "replicas: 8", "replicas: 8\n    paralelism: {tensor: 2}", "fleet.main.paralelism",
         "Did you mean parallelism?"),
        ("scenarios/town.yaml", "replicas: 8", "replicas: 8\n    parallelism: {tensors: 2}",
         "fleet.main.parallelism.tensors", "Did you mean tensor?"),
        ("scenarios/town.yaml", "voice: {workload: talk}", "voice: {workload: talk, rat: 3 requests/s}",
         "traffic.voice.rat", "Did you mean rate"),
    ],
)  # fmt: skip
def test_an_unknown_key_names_near_misses_of_its_own_place(
    broken: Any, line_of: Any, folder: Path, name: str, old: str, new: str, path: str, remedy: str
) -> None:
    problem = broken(name, (old, new))
    assert (problem.path, problem.message, problem.value) == (path, "unknown key", None)
    assert remedy in problem.remedy
    assert problem.line == line_of(folder / name, f"{path.split('.')[-1]}: ")


def test_an_unknown_key_of_a_union_suggests_only_keys_of_the_chosen_member(broken: Any) -> None:
    problem = broken("workloads/talk.yaml", ("process: poisson", "process: poisson, cv: 3"))
    assert problem.path == "arrivals.cv"
    assert problem.remedy.startswith("Known: process, profile")
    assert "cv" not in problem.remedy


@pytest.mark.parametrize("pool", ["model", "hardware", "parallelism", "replicas"])
def test_a_pool_may_be_named_like_a_field_and_still_gets_suggestions(edit: Any, problems_of: Any, pool: str) -> None:
    path = edit("scenarios/town.yaml", ("  main:", f"  {pool}:"), ("replicas: 8", "replicas: 8\n    pricee: 1 USD/h"))
    problem = problems_of(lambda: read(path))[0]
    assert (problem.path, problem.remedy) == (f"fleet.{pool}.pricee", "Did you mean price?")


def test_names_that_resemble_nothing_are_answered_with_all_that_is_known() -> None:
    assert suggest("replica", ["replicas", "model"]) == "Did you mean replicas?"
    assert suggest("zzz", ["b", "a"]) == "Known: a, b."
    assert suggest("zzz", []) == ""


# What stands where something else is expected, in words that do not speak of Python


@pytest.mark.parametrize(
    ("name", "old", "new", "path", "message", "value", "remedy"),
    [
        ("hardware_profiles/chip.yaml", "{value: 3.35 TB/s, source: [DATASHEET], confidence: published_spec}",
         "3.35 TB/s", "memory.bandwidth", "must be a mapping", "3.35 TB/s",
         "Write the value with its source, as in {value: 3.35 TB/s, source: [KEY], confidence: measured}."),
        ("hardware_profiles/chip.yaml", "source: [DATASHEET]", "source: DATASHEET", "peak.bf16.source",
         "must be a list", "DATASHEET", "Write it in brackets, separated by commas: [...]."),
        ("hardware_profiles/chip.yaml", "source: [DATASHEET],", "", "peak.bf16.source", "missing", None,
         "Keys into the file's `sources`, or `assumption`. Write it in brackets, separated by commas: [...]."),
        ("hardware_profiles/chip.yaml", "source: [DATASHEET]", "source: []", "peak.bf16.source",
         "must have at least 1 entry", None, ""),
        ("hardware_profiles/chip.yaml", "confidence: published_spec", "confidence: measurd", "peak.bf16.confidence",
         "must be 'published_spec', 'published_spec_via_secondary', 'measured', 'vendor_claim', 'analyst_estimate', "
         "'derived' or 'assumption'", "measurd", "Did you mean measured?"),
        ("hardware_profiles/chip.yaml", "bf16: {value: 1000 T", "bf17: {value: 1000 T", "peak.bf17",
         "must be 'bf16', 'fp8', ...", "bf17", "Did you mean bf16?"),
        ("hardware_profiles/chip.yaml", "3.35 TB/s", "0 TB/s", "memory.bandwidth.value", "must be more than 0",
         "0 TB/s", ""),
        ("hardware_profiles/chip.yaml", "1000 TFLOP/s", "0 FLOP/s", "peak.bf16.value", "must be more than 0",
         "0 FLOP/s", ""),
        ("hardware_profiles/chip.yaml", "purchasable: true", "purchasable: maybe", "availability.purchasable",
         "must be true or false", "maybe", ""),
        ("hardware_profiles/chip.yaml", "status: shipping", "status: internal", "availability",
         "a part with status 'internal' is not purchasable", None, ""),
        ("models/tiny.yaml", "hidden_size: 1024", "hidden_size: 1024.5", "architecture.hidden_size",
         "must be a whole number", 1024.5, ""),
        ("models/tiny.yaml", "hidden_size: 1024", "hidden_size: -1", "architecture.hidden_size",
         "must be greater than 0", -1, ""),
        ("models/tiny.yaml", "kind: gqa", "kind: gpa", "architecture.attention.0.kind", "unknown kind", "gpa",
         "Did you mean gqa?"),
        ("models/tiny.yaml", "kind: gqa, ", "", "architecture.attention.0.kind", "missing", None,
         "Write one of gqa, mla, gated_delta_net."),
        ("models/tiny.yaml", "license: MIT", "license: no", "license", "must be text", False,
         "YAML reads yes, no, on and off as true and false: put the word in quotes."),
        ("models/tiny.yaml", "license: MIT", "license: 2.0", "license", "must be text", 2.0, "Put it in quotes."),
        ("models/tiny.yaml", "license: MIT", "license: MIT\nreleased: soon", "released",
         "must be a date of the calendar, such as 2025-05-15", "soon", ""),
        ("models/tiny.yaml", "0.1 Gparameters", ".inf", "stated.total_parameters.value",
         "a bare number has no unit; write a number and a unit, such as '8 Gparameters'", float("inf"), ""),
        ("workloads/talk.yaml", "{process: poisson}", "poisson", "arrivals", "must be a mapping", "poisson",
         "Give its keys: process."),
        ("workloads/talk.yaml", "quantile: 0.99", "quantile: .nan", "service_levels.0.quantile",
         "must be a finite number", float("nan"), ""),
        ("workloads/talk.yaml", "metric: ttft", "metric: TTFT", "service_levels.0.metric",
         "must be 'ttft', 'tpot' or 'e2e'", "TTFT", ""),
        ("scenarios/town.yaml", "duration: 10 min\n", "", "duration", "missing", None,
         "Time during which synthetic requests arrive; a trace has its own. "
         "Write a number and a unit, such as '500 ms'."),
        ("scenarios/town.yaml", "kind: scenario\n", "", "kind", "missing", None,
         "Says what the file describes. Write scenario."),
        ("scenarios/town.yaml", "price_basis: [on_demand]", "price_basis: []", "price_basis",
         "must have at least 1 entry", None, ""),
        ("scenarios/town.yaml", "main:", "Main:", "fleet.Main",
         "is not a name: names are lower-case letters, digits, '-' and '_', and start with a letter or digit",
         "Main", ""),
        ("scenarios/town.yaml", "main:", "7:", "fleet.7", "must be text", 7, "Put it in quotes."),
        ("scenarios/town.yaml", "name: town", "name: My town", "name",
         "is not a name: names are lower-case letters, digits, '-', '_' and '.', and start with a letter or digit",
         "My town", ""),
        ("scenarios/town.yaml", "name: town", f"name: {'a' * 81}", "name", "must have at most 80 characters", "a" * 81,
         ""),
        ("scenarios/town.yaml", "voice: {workload: talk}", "voice:", "traffic.voice", "must be a mapping", None,
         "Give its keys: workload, ..."),
        ("scenarios/town.yaml", "kind: scenario", "kind: scenario\n5: x", "5", "keys must be text", 5,
         "Put it in quotes."),
        ("scenarios/town.yaml", "kind: scenario", "kind: scenario\nservice_levels: []", "service_levels",
         "must be a mapping", None, "Write its entries below it, indented, as `name: value`."),
        ("scenarios/town.yaml", "kind: scenario", "kind: scenario\nalternatives:\n  a:", "alternatives.a",
         "must be a mapping", None, "Write its entries below it, indented, as `name: value` or {} for none."),
    ],
)  # fmt: skip
def test_each_mistake_says_in_a_planners_words_what_to_write(
    broken: Any, name: str, old: str, new: str, path: str, message: str, value: object, remedy: str
) -> None:
    problem = broken(name, (old, new))
    assert problem.path == path
    for said, expected in ((problem.message, message), (problem.remedy, remedy)):
        assert said.startswith(expected[:-3]) if expected.endswith(", ...") else said == expected
    assert repr(problem.value) == repr(value)
    for word in ("Input should", "dictionary", "tuple", "NoneType", "instance of", "validation", "Annotated", "\n"):
        assert word not in str(problem)


def test_the_line_of_an_error_is_that_of_the_nearest_place_that_is_written(
    broken: Any, line_of: Any, folder: Path
) -> None:
    problem = broken("scenarios/town.yaml", ("    model: tiny\n", ""))
    assert (problem.path, problem.line) == ("fleet.main.model", line_of(folder / "scenarios/town.yaml", "main:"))


def test_an_error_of_a_whole_union_member_stands_at_its_key_and_not_at_its_tag(broken: Any) -> None:
    gamma = "prompt_tokens: {distribution: gamma, shape: 1, scale: 9 tokens, minimum: 5 tokens, maximum: 4 tokens"
    problem = broken("workloads/talk.yaml", ("prompt_tokens: {distribution: fixed, tokens: 100 tokens", gamma))
    assert (problem.path, problem.message) == ("prompt_tokens", "minimum cannot exceed maximum")


@pytest.mark.parametrize("written", ["0.5", "0.50", ".5"])
def test_an_entry_of_a_table_is_found_however_its_key_is_written(edit: Any, problems_of: Any, written: str) -> None:
    table = f"distribution: quantile_table, quantiles: {{0: 1 tokens,\n    {written}: 5,\n    1: 9 tokens}}"
    path = edit("workloads/talk.yaml", ("distribution: fixed, tokens: 100 tokens", table))
    problem = problems_of(lambda: read(path))[0]
    assert (problem.path, problem.value, problem.line) == ("prompt_tokens.quantiles.0.5", 5, 8)


# Sources


def test_every_source_that_is_not_listed_is_told_where_it_is_used(edit: Any, problems_of: Any, line_of: Any) -> None:
    path = edit("hardware_profiles/chip.yaml", ("  DATASHEET:", "  DATASHEETS:"))
    problems = problems_of(lambda: read(path))
    assert [each.path for each in problems] == [
        "peak.bf16.source", "peak.fp8.source", "memory.usable.source", "memory.bandwidth.source",
        "prices.hourly.on_demand.source",
    ]  # fmt: skip
    assert {each.value for each in problems} == {"DATASHEET"}
    assert {each.remedy for each in problems} == {"Add it to `sources`. Did you mean DATASHEETS?"}
    assert problems[3].line == line_of(path, "bandwidth:")


def test_only_the_missing_one_of_several_sources_is_told(broken: Any) -> None:
    problem = broken("hardware_profiles/chip.yaml", ("source: [DATASHEET]", "source: [DATASHEET, PAPER]"))
    assert (problem.path, problem.value) == ("peak.bf16.source", "PAPER")


def test_an_assumption_needs_no_citation_but_its_confidence(broken: Any) -> None:
    old = "source: [DATASHEET], confidence: measured"
    problem = broken("hardware_profiles/chip.yaml", (old, "source: [assumption], confidence: measured"))
    assert problem.path == "prices.hourly.on_demand"
    assert problem.message == "a number whose source is an assumption has confidence 'assumption'"


def test_sources_inside_lists_and_alternatives_are_checked_too(edit: Any, problems_of: Any) -> None:
    level = "[{metric: e2e, quantile: 0.9, limit: 9 s, source: [SURVEY], confidence: measured}]"
    path = edit(
        "scenarios/town.yaml",
        (
            "kind: scenario",
            f"kind: scenario\nservice_levels: {{chat: {level}}}\n"
            f"alternatives: {{a: {{service_levels.voice: {level}}}}}",
        ),
    )
    problems = problems_of(lambda: read(path))
    assert [(each.path, each.line) for each in problems] == [
        ("service_levels.chat.0.source", 2),
        ("alternatives.a.service_levels.voice.0.source", 3),
    ]


def test_a_citation_that_happens_to_be_called_source_is_no_use_of_one(folder: Path, edit: Any) -> None:
    path = edit("hardware_profiles/chip.yaml", ("sources:\n", "sources:\n  source: A book\n"))
    assert read(path).sources["source"] == "A book"


# Documents that differ from their file


def test_a_problem_of_a_changed_value_does_not_claim_a_line_of_the_file() -> None:
    lines = {("a",): 1, ("a", "b"): 2, ("a", "c"): 3}
    raw = RawDocument("x.yaml", {}, lines, changed={("a", "b"): None, ("a", "d"): ("a", "c")})
    assert (raw.problem("m", ("a", "b")).file, raw.problem("m", ("a", "b", "z")).line) == ("x.yaml (changed)", None)
    assert (raw.problem("m", ("a", "c")).file, raw.problem("m", ("a", "c")).line) == ("x.yaml", 3)
    assert raw.problem("m", ("a", "d", "e")).line == 3
    assert raw.problem("m", ("a",)).file == "x.yaml (changed)"
    assert raw.problem("m", ("z",)) == Problem("m", "x.yaml", "z")
    assert raw.problem("m", ("z",), 5, "r") == Problem("m", "x.yaml", "z", 5, "r")
