"""Documents are found by name in a stated order, extend one another one level deep, and are what their place says."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.specs import library as library_module
from sim.specs.errors import Problem
from sim.specs.library import KINDS, Library, builtin_root, default_library, located, merged, spec_type

ProblemsOf = Callable[[Callable[[], object]], list[Problem]]

DELTA = "kind: hardware\nname: faster\nextends: chip\ntitle: A faster chip\n"


# Search order


def test_the_first_folder_that_has_a_name_wins(folder: Path, write: Any, tmp_path: Path, monkeypatch: Any) -> None:
    text = (folder / "hardware_profiles/chip.yaml").read_text()
    for place in ("first", "second"):
        write(f"{place}/hardware_profiles/chip.yaml", text.replace("A chip", f"The {place} chip"))
    write("second/hardware_profiles/other.yaml", text.replace("name: chip", "name: other"))
    monkeypatch.setenv(
        "FLEETCAST_PATH", os.pathsep.join(str(tmp_path / each) for each in ("first", "second", "library"))
    )
    library = default_library()
    assert library.hardware("chip").spec.title == "The first chip"
    assert library.hardware("other").spec.name == "other"
    assert library.find("hardware", "chip") == tmp_path / "first/hardware_profiles/chip.yaml"
    assert library.roots[-1] == builtin_root()


def test_the_search_goes_from_path_to_environment_to_the_scenarios_folder_to_the_built_in_library(
    folder: Path, texts: dict[str, str], write: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    builtin = sorted(Library((builtin_root(),)).names("hardware"))[0]
    scenario = write("project/scenarios/town.yaml", texts["scenarios/town.yaml"])
    text = texts["hardware_profiles/chip.yaml"].replace("name: chip", f"name: {builtin}")

    def title() -> str:
        return default_library(beside=scenario).hardware(builtin).spec.title

    assert title() != "Beside the scenario"
    write(f"project/hardware_profiles/{builtin}.yaml", text.replace("A chip", "Beside the scenario"))
    assert title() == "Beside the scenario"
    write(f"library/hardware_profiles/{builtin}.yaml", text.replace("A chip", "In the environment"))
    assert title() == "In the environment"
    explicit = write("anywhere/my.yaml", text.replace("A chip", "By its path"))
    assert default_library(beside=scenario).hardware(str(explicit)).spec.title == "By its path"
    monkeypatch.delenv("FLEETCAST_PATH")
    assert title() == "Beside the scenario"
    assert builtin in default_library().names("hardware")


def test_a_scenario_outside_a_folder_of_scenarios_brings_its_own_folder(texts: Any, write: Any, tmp_path: Path) -> None:
    scenario = write("loose/town.yaml", texts["scenarios/town.yaml"])
    write("loose/models/tiny.yaml", texts["models/tiny.yaml"])
    assert default_library(beside=scenario).roots[0] == tmp_path / "loose"
    assert "tiny" in default_library(beside=scenario).names("model")
    assert "tiny" not in default_library().names("model")


def test_names_are_the_stems_of_yaml_files_of_either_suffix(folder: Path, edit: Any) -> None:
    (folder / "models/notes.txt").write_text("not a model")
    (folder / "models/tiny.yaml").rename(folder / "models/tiny.yml")
    library = Library((folder,))
    assert library.names("model") == {"tiny": folder / "models/tiny.yml"}
    assert library.model("tiny").spec.name == "tiny"


def test_every_kind_is_found_in_its_own_folder_only(folder: Path) -> None:
    library = Library((folder,))
    for kind, name in (("hardware", "chip"), ("model", "tiny"), ("serving_stack", "engine"), ("workload", "talk"),
                       ("scenario", "town")):  # fmt: skip
        assert library.kinds_of(name) == [kind]
        found = library.load(kind, name)
        assert isinstance(found.spec, spec_type(kind))
        assert found.spec.name == name
    assert library.kinds_of("nothing") == []
    assert library.serving_stack("engine").spec.kind == "serving_stack"
    assert library.workload("talk").spec.kind == "workload"


@pytest.mark.parametrize(
    ("kind", "name", "remedy"),
    [("hardware", "chips", "Did you mean chip?"), ("model", "tinny", "Did you mean tiny?"),
     ("workload", "zzz", "Known: talk."), ("scenario", "chip", "Known: town."),
     ("serving_stack", "", "Known: engine.")],
)  # fmt: skip
def test_an_unknown_name_names_near_misses_of_its_kind(
    folder: Path, problems_of: ProblemsOf, kind: str, name: str, remedy: str
) -> None:
    problem = problems_of(lambda: Library((folder,)).load(kind, name))[0]
    assert (problem.message, problem.value, problem.remedy) == (f"there is no {kind} of this name", name, remedy)


def test_a_path_that_does_not_exist_is_named(folder: Path, problems_of: ProblemsOf) -> None:
    library = Library((folder,))
    assert str(problems_of(lambda: library.load("model", "elsewhere/huge.yaml"))[0]) == (
        "there is no such file (got 'elsewhere/huge.yaml'). Check the path."
    )
    assert problems_of(lambda: library.load("model", "models/tiny"))[0].remedy == (
        "The library has tiny: write its name alone."
    )
    assert "is a directory" in problems_of(lambda: library.load("model", f"{folder}/models"))[0].message


def test_a_relative_path_is_looked_up_beside_the_file_that_names_it_and_then_from_here(
    write: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    here = write("here/x.yaml", "")
    beside = write("there/x.yaml", "")
    monkeypatch.chdir(tmp_path / "here")
    assert located("x.yaml", str(tmp_path / "there/scenario.yaml")) == beside
    assert located("x.yaml", None).resolve() == here
    beside.unlink()
    assert located("x.yaml", str(tmp_path / "there/scenario.yaml")).resolve() == here
    here.unlink()
    assert located("x.yaml", str(tmp_path / "there/scenario.yaml")) == beside
    assert located(str(here), str(tmp_path / "there/scenario.yaml")) == here
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert located("~/x.yaml", str(tmp_path / "there/scenario.yaml")) == tmp_path / "home/x.yaml"


# The environment


def test_every_wrong_folder_in_the_environment_is_told(
    tmp_path: Path, problems_of: ProblemsOf, monkeypatch: Any
) -> None:
    file, absent, empty = tmp_path / "file", tmp_path / "absent", tmp_path / "empty"
    file.write_text("")
    empty.mkdir()
    monkeypatch.setenv("FLEETCAST_PATH", os.pathsep.join(map(str, (absent, file, empty))))
    problems = problems_of(default_library)
    assert [(each.file, each.value, each.message) for each in problems] == [
        ("FLEETCAST_PATH", str(absent), "no such folder"),
        ("FLEETCAST_PATH", str(file), "no such folder"),
        (
            "FLEETCAST_PATH",
            str(empty),
            f"this folder holds none of {', '.join(KINDS.values())}",
        ),
    ]
    assert all(each.remedy == "Check the path." for each in problems[:2])


def test_a_folder_of_one_kind_in_the_environment_is_told_to_be_one_too_deep(
    folder: Path, problems_of: ProblemsOf, monkeypatch: Any
) -> None:
    monkeypatch.setenv("FLEETCAST_PATH", str(folder / "models"))
    assert problems_of(default_library)[0].remedy == "Name the folder above it."


def test_an_empty_entry_in_the_environment_means_nothing(folder: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("FLEETCAST_PATH", f"{os.pathsep}{folder}{os.pathsep}")
    assert default_library().roots == (folder, builtin_root())


def test_the_built_in_library_is_found_in_a_checkout_and_in_an_installed_wheel(
    root: Path, texts: dict[str, str], write: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    assert builtin_root() == root
    for name, text in texts.items():
        write(f"site-packages/sim/builtin/{name}", text)
    module = write("site-packages/sim/specs/library.py", "")
    monkeypatch.setattr(library_module, "__file__", str(module))
    monkeypatch.delenv("FLEETCAST_PATH", raising=False)
    assert builtin_root() == tmp_path / "site-packages/sim/builtin"
    assert {kind: list(names) for kind in KINDS if (names := default_library().names(kind))} == {
        "hardware": ["chip"], "model": ["tiny"], "serving_stack": ["engine"], "workload": ["talk"],
        "scenario": ["town"],
    }  # fmt: skip
    assert default_library().hardware("chip").spec.title == "A chip"


def test_every_folder_of_the_library_is_packed_into_the_wheel(root: Path) -> None:
    project = (root / "pyproject.toml").read_text(encoding="utf-8")
    for folder in KINDS.values():
        assert (root / folder).is_dir()
        assert f'{folder} = "sim/builtin/{folder}"' in project


# Names and kinds


@pytest.mark.parametrize("given", ["model", "Hardware", "", None, 5])
def test_a_document_of_another_kind_is_refused_once_with_its_line(
    edit: Any, folder: Path, problems_of: ProblemsOf, given: Any
) -> None:
    path = edit("hardware_profiles/chip.yaml", ("kind: hardware", f"kind: {'' if given is None else given}"))
    problems = problems_of(lambda: Library((folder,)).hardware("chip"))
    move = "Move the file to models/, or write" if given == "model" else "Write"
    assert problems == [
        Problem("this file is to be of kind hardware", str(path), "kind", given or None, f"{move} `kind: hardware`.", 1)
    ]


def test_a_document_without_a_kind_is_told_to_write_it(edit: Any, folder: Path, problems_of: ProblemsOf) -> None:
    edit("models/tiny.yaml", ("kind: model\n", ""))
    problem = problems_of(lambda: Library((folder,)).model("tiny"))[0]
    assert (problem.path, problem.remedy) == ("kind", "Write `kind: model`.")


def test_the_name_of_a_document_is_that_of_its_file(edit: Any, folder: Path, problems_of: ProblemsOf) -> None:
    path = edit("models/tiny.yaml", ("name: tiny", "name: huge"), ("vendor: Acme\n", ""))
    problems = problems_of(lambda: Library((folder,)).model("tiny"))
    assert [(each.path, each.message, each.line) for each in problems] == [
        ("name", "differs from the name of the file", 2), ("vendor", "missing", None),
    ]  # fmt: skip
    assert problems[0].remedy == "Write `name: tiny`, or rename the file to huge.yaml."
    edit("models/tiny.yaml", ("license: MIT", "vendor: Acme\nlicense: MIT"))
    assert [each.path for each in problems_of(lambda: Library((folder,)).model("tiny"))] == ["name"]
    assert Library((folder,)).model(str(path)).spec.name == "huge"


# One extends another


def test_a_delta_changes_what_it_names_and_keeps_the_rest(folder: Path, write: Any) -> None:
    write("library/hardware_profiles/faster.yaml", DELTA + "memory:\n  bandwidth: {value: 4 TB/s}\n")
    library = Library((folder,))
    plain, fast = library.hardware("chip").spec, library.hardware("faster").spec
    assert fast.memory.bandwidth.value == 4e12
    assert fast.memory.bandwidth.source == plain.memory.bandwidth.source
    assert (fast.name, fast.title) == ("faster", "A faster chip")
    changed = {"name", "title", "memory"}
    assert fast.model_dump(exclude=changed) == plain.model_dump(exclude=changed)
    assert fast.memory.usable == plain.memory.usable
    assert library.hardware("chip").spec == plain


values = st.recursive(
    st.integers() | st.text(max_size=2) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@given(one=mappings, delta=mappings)
def test_merging_takes_each_value_from_the_delta_where_it_has_one(one: dict[str, Any], delta: dict[str, Any]) -> None:
    result = merged(one, delta)
    assert set(result) == set(one) | set(delta)
    for key, value in result.items():
        if isinstance(one.get(key), dict) and isinstance(delta.get(key), dict):
            assert value == merged(one[key], delta[key])
        else:
            assert value == (delta[key] if key in delta else one[key])
    assert merged(one, {}) == one == merged({}, one)
    assert merged(result, delta) == result


@given(one=mappings, delta=mappings)
def test_merging_shares_nothing_with_what_it_merges(one: dict[str, Any], delta: dict[str, Any]) -> None:
    before = repr((one, delta))
    result = merged(one, delta)
    for value in result.values():
        if isinstance(value, list | dict):
            value.clear()
    assert repr((one, delta)) == before


def test_lists_are_replaced_and_not_joined() -> None:
    assert merged({"a": [1, 2], "b": {"c": [1]}}, {"a": [3], "b": {"c": []}}) == {"a": [3], "b": {"c": []}}
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_what_a_delta_extends_may_lie_in_another_folder_of_the_library(texts: Any, write: Any, tmp_path: Path) -> None:
    write("far/hardware_profiles/chip.yaml", texts["hardware_profiles/chip.yaml"])
    write("near/hardware_profiles/faster.yaml", DELTA)
    library = Library((tmp_path / "near", tmp_path / "far"))
    assert library.hardware("faster").spec.vendor == "Acme"


def test_a_delta_may_extend_a_path_beside_it(folder: Path, write: Any) -> None:
    path = write("elsewhere/my.yaml", DELTA.replace("extends: chip", "extends: ./parts/chip.yaml"))
    write("elsewhere/parts/chip.yaml", (folder / "hardware_profiles/chip.yaml").read_text())
    assert Library(()).hardware(str(path)).spec.vendor == "Acme"


@pytest.mark.parametrize(
    ("extends", "message", "value", "remedy"),
    [("chips", "there is no hardware of this name", "chips", "Did you mean chip?"),
     ("tiny", "there is no hardware of this name", "tiny", "Known: chip, faster."),
     ("./nothing.yaml", "there is no such file", "./nothing.yaml", "Check the path."),
     ("faster", "a file cannot extend itself", "faster", "Give the delta a name of its own."),
     ("[chip]", "extends takes one name", ["chip"], ""),
     ("", "extends takes one name", None, ""),
     ("7", "extends takes one name", 7, "")],
)  # fmt: skip
def test_an_extends_that_leads_nowhere_is_told_where_it_stands(
    folder: Path, write: Any, problems_of: ProblemsOf, extends: str, message: str, value: Any, remedy: str
) -> None:
    path = write("library/hardware_profiles/faster.yaml", DELTA.replace("extends: chip", f"extends: {extends}"))
    assert problems_of(lambda: Library((folder,)).hardware("faster")) == [
        Problem(message, str(path), "extends", value, remedy, 3)
    ]


def test_a_delta_of_another_kind_is_refused_in_the_file_of_that_kind(
    folder: Path, write: Any, problems_of: ProblemsOf
) -> None:
    delta = DELTA.replace("extends: chip", "extends: ../models/tiny.yaml")
    write("library/hardware_profiles/faster.yaml", delta)
    problems = problems_of(lambda: Library((folder,)).hardware("faster"))
    assert [(each.path, each.value, each.line) for each in problems] == [("kind", "model", 1)]
    assert problems[0].file.endswith("models/tiny.yaml")


def test_a_delta_of_a_delta_is_refused(folder: Path, write: Any, problems_of: ProblemsOf) -> None:
    write("library/hardware_profiles/faster.yaml", DELTA)
    path = write(
        "library/hardware_profiles/fastest.yaml",
        DELTA.replace("extends: chip", "extends: faster").replace("name: faster", "name: fastest"),
    )
    assert problems_of(lambda: Library((folder,)).hardware("fastest")) == [
        Problem("extends one level only", str(path), "extends", "faster",
                "Extend 'chip' and repeat what 'faster' changes.", 3)
    ]  # fmt: skip


def test_errors_of_a_delta_stand_in_the_delta_with_its_lines(folder: Path, write: Any, problems_of: ProblemsOf) -> None:
    text = (
        DELTA
        + "memory:\n  bandwidth: {value: 4}\n  usable: {low: 81 GiB}\npeek: {}\nprices: {hourly: {spot: 3 USD/h}}\n"
    )
    path = write("library/hardware_profiles/faster.yaml", text)
    problems = problems_of(lambda: Library((folder,)).hardware("faster"))
    assert [(each.path, each.line) for each in problems] == [
        ("memory.bandwidth.value", 6), ("memory.usable", 7), ("peek", 8), ("prices.hourly.spot", 9),
    ]  # fmt: skip
    assert {each.file for each in problems} == {str(path)}


def test_errors_of_what_is_extended_stand_in_its_own_file(
    folder: Path, edit: Any, write: Any, problems_of: ProblemsOf, line_of: Any
) -> None:
    extended = edit("hardware_profiles/chip.yaml", ("3.35 TB/s", "3.35"), ("DATASHEET:", "PAPER:"))
    delta = write("library/hardware_profiles/faster.yaml", DELTA + "vendr: Acme\n")
    problems = problems_of(lambda: Library((folder,)).hardware("faster"))
    places = [(each.file, each.path, each.line) for each in problems]
    assert places[-1] == (str(delta), "vendr", 5)
    assert (str(extended), "memory.bandwidth.value", line_of(extended, "bandwidth:")) in places
    assert (str(extended), "peak.bf16.source", line_of(extended, "bf16:")) in places
    assert sum(file == str(delta) for file, _, _ in places) == 1


def test_a_delta_may_repair_what_it_extends(folder: Path, edit: Any, write: Any) -> None:
    edit("hardware_profiles/chip.yaml", ("vendor: Acme\n", ""))
    write("library/hardware_profiles/faster.yaml", DELTA + "vendor: Acme\n")
    assert Library((folder,)).hardware("faster").spec.vendor == "Acme"


def test_a_delta_uses_the_sources_of_what_it_extends_and_may_add_its_own(
    folder: Path, write: Any, problems_of: ProblemsOf
) -> None:
    text = DELTA + "memory: {bandwidth: {value: 4 TB/s, source: [DATASHEET, BLOG]}}\n"
    path = write("library/hardware_profiles/faster.yaml", text)
    problem = problems_of(lambda: Library((folder,)).hardware("faster"))[0]
    assert (problem.path, problem.value, problem.line) == ("memory.bandwidth.source", "BLOG", 5)
    path.write_text(text + "sources: {BLOG: A page}\n")
    assert Library((folder,)).hardware("faster").spec.sources == {
        "DATASHEET": "The chip's data sheet",
        "BLOG": "A page",
    }


# Fingerprints


def test_fingerprints_are_of_the_bytes_of_both_files_and_change_with_either(folder: Path, write: Any) -> None:
    delta = write("library/hardware_profiles/faster.yaml", DELTA)
    extended = folder / "hardware_profiles/chip.yaml"
    library = Library((folder,))

    def expected() -> dict[str, str]:
        return {
            f"hardware_profiles/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (delta, extended)
        }

    first = library.hardware("faster").fingerprints
    assert first == expected()
    assert list(library.hardware("chip").fingerprints) == ["hardware_profiles/chip.yaml"]
    for path in (delta, extended):
        path.write_text(path.read_text() + "# a comment\n")
        assert library.hardware("faster").fingerprints == expected() != first


def test_documents_of_two_kinds_that_share_a_name_have_two_fingerprints(folder: Path, texts: Any, write: Any) -> None:
    write("library/models/chip.yaml", texts["models/tiny.yaml"].replace("name: tiny", "name: chip"))
    library = Library((folder,))
    assert library.kinds_of("chip") == ["hardware", "model"]
    assert set(library.model("chip").fingerprints).isdisjoint(library.hardware("chip").fingerprints)


def test_a_library_that_was_moved_has_the_same_fingerprints(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    assert Library((tmp_path / "moved",)).model("tiny").fingerprints == Library((folder,)).model("tiny").fingerprints
