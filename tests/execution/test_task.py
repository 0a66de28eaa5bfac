"""Keys: equal content gives equal keys in every process, and nothing that matters can change without a new key."""

from __future__ import annotations

import copy
import subprocess
import sys
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

import sim.execution.task
from sim.execution.task import TaskError, call, encoded, make_task, path_of, program_fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(min_size=1), JSON, max_size=4)


def shuffled(value: Any) -> Any:
    """Return an equal value whose mappings are in the opposite order."""
    if isinstance(value, dict):
        return {key: shuffled(each) for key, each in reversed(value.items())}
    return [shuffled(each) for each in value] if isinstance(value, list) else copy.copy(value)


@hypothesis.given(ARGUMENTS)
def test_the_order_in_which_arguments_are_written_makes_no_difference(arguments: dict[str, Any]) -> None:
    assert make_task("a:b", arguments).key == make_task("a:b", shuffled(arguments)).key


@hypothesis.given(ARGUMENTS, ARGUMENTS)
def test_keys_are_equal_exactly_when_the_content_is(first: dict[str, Any], second: dict[str, Any]) -> None:
    """1 and 1.0 and true are different content: the texts of their JSON differ."""
    same = repr(shuffled(shuffled(first))) == repr(second)
    if same:
        assert make_task("a:b", first).key == make_task("a:b", second).key
    elif first != second:
        assert make_task("a:b", first).key != make_task("a:b", second).key


@hypothesis.given(ARGUMENTS)
def test_the_function_and_the_program_are_part_of_the_key(arguments: dict[str, Any]) -> None:
    task = make_task("a:b", arguments)
    assert make_task("a:c", arguments).key != task.key
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sim.execution.task, "program_fingerprint", lambda: "another")
        assert make_task("a:b", arguments).key != task.key


def test_with_an_identity_only_the_identity_is_part_of_the_key() -> None:
    here = make_task("a:b", {"file": "/here/x.yaml"}, {"content": "1"})
    assert make_task("a:b", {"file": "/there/x.yaml"}, {"content": "1"}).key == here.key
    assert make_task("a:b", {"file": "/here/x.yaml"}, {"content": "2"}).key != here.key


def test_another_process_with_another_hash_seed_makes_the_same_key() -> None:
    code = "from sim.execution.task import make_task; print(make_task('a:b', {'x': [1, 2.5, 'ä'], 'y': None}).key)"
    for seed in ("1", "2"):
        environment = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == make_task("a:b", {"y": None, "x": [1, 2.5, "ä"]}).key


def test_the_fingerprint_of_the_program_knows_its_sources_and_not_how_results_are_shown(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"engine/run.py": "1", "reporting/table.py": "1", "cli.py": "1", "cli_execution.py": "1"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sim.execution.task, "_PACKAGE", tmp_path)
    before = program_fingerprint.__wrapped__()
    for name, changes in {
        "cli.py": False,
        "cli_execution.py": False,
        "reporting/table.py": False,
        "engine/run.py": True,
    }.items():
        (tmp_path / name).write_text("2")
        assert (program_fingerprint.__wrapped__() != before) is changes, name


def test_the_source_of_a_module_of_the_users_own_is_part_of_the_key(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    keys = set()
    for body in ("return 1", "return 2"):
        (tmp_path / "study_of_mine.py").write_text(f"def one():\n    {body}\n")
        sim.execution.task._source_digest.cache_clear()
        keys.add(make_task("study_of_mine:one", {}).key)
    assert len(keys) == 2


def test_functions_that_no_worker_could_import_are_refused() -> None:
    assert path_of(make_task) == "sim.execution.task:make_task"
    for function in (lambda: 1, make_task.__call__, {}.get):
        with pytest.raises(ValueError, match="cannot be imported by name"):
            path_of(function)


def test_arguments_and_results_that_are_no_json_are_refused() -> None:
    for wrong in (float("nan"), float("inf"), {1, 2}, b"bytes"):
        with pytest.raises(ValueError, match="not in JSON types"):
            make_task("a:b", {"x": wrong})
        with pytest.raises(ValueError, match="not in JSON types"):
            encoded(wrong)


def test_a_worker_refuses_tasks_of_another_program_and_unknown_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TaskError, match="cannot be imported by this worker"):
        call(make_task("sim.execution.task:nowhere", {}))
    task = make_task("studies:square", {"number": 2})
    assert call(task).value == b"4"
    monkeypatch.setattr(sim.execution.task, "program_fingerprint", lambda: "another")
    with pytest.raises(TaskError, match="another version of the program"):
        call(task)
