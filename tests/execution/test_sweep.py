"""Sweeps: one dataset for every reader, the same bytes after any interruption, and only what is new is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pytest

import sim
from sim.execution.dataset import Sweep
from sim.execution.executor import InProcess
from sim.execution.identity import Identity
from sim.execution.sweep import run_point, sweep
from sim.execution.task import TaskError
from sim.results.result import Result
from sim.specs.errors import InputError
from sim.specs.library import KINDS, builtin_root
from sim.specs.resolved import Scenario, load_scenario

Contents = Callable[[Path], dict[str, bytes]]
BRIEF: dict[str, Any] = {
    "traffic": {"chat": {"workload": "realtime-chat", "rate": "5 requests/s"}},
    "duration": "90 s", "warm_up": "10 s", "drain": "30 s", "alternatives": {},
}  # fmt: skip
GRID: dict[str, Any] = {"fleet.serving.replicas": "6,8", "traffic.chat.rate": "5..10:2 requests/s"}
EVERYTHING = {path: value if isinstance(value, str) else [value] for path, value in (BRIEF | GRID).items()}
"""All of it as settings of a sweep."""


@pytest.fixture(scope="module")
def base() -> Scenario:
    return load_scenario("quickstart", BRIEF)


def run(base: Scenario, settings: dict[str, Any], output: Path | None = None, **more: Any) -> Sweep:
    return sweep(base, settings, output, executor=InProcess(), **more)


@pytest.fixture(scope="module")
def swept(base: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return run(base, GRID, tmp_path_factory.mktemp("sweep") / "out")


def test_every_run_is_that_of_the_changed_scenario(base: Scenario, swept: Sweep) -> None:
    assert list(zip(swept.runs["fleet.serving.replicas"], swept.runs["traffic.chat.rate"], strict=True)) == [
        (6, 5.0),
        (6, 10.0),
        (8, 5.0),
        (8, 10.0),
    ]
    changed = base.replace("fleet.serving.replicas", 8).replace("traffic.chat.rate", "10 requests/s")
    expected = sim.simulate(changed)
    found = swept.table("summary").filter(pyarrow.dataset.field("run") == 3)
    assert (found["fleet.serving.replicas"].to_pylist()[0], found["traffic.chat.rate"].to_pylist()[0]) == (8, 10.0)
    own = found.select(expected.tables["summary"].column_names)
    assert own.to_pylist() == expected.tables["summary"].to_pylist()
    manifest = json.loads(swept.runs["manifest"][3])
    assert manifest == json.loads(json.dumps({key: each for key, each in expected.manifest.items() if key != "wall_s"}))
    assert Result({"summary": own}, manifest).flags == expected.flags
    assert swept.runs["flags"][3].split() == sorted({flag.name for flag in expected.flags})


def test_the_dataset_reads_as_one_in_pyarrow_and_pandas_and_says_its_units(swept: Sweep) -> None:
    assert swept.directory is not None
    frame = pd.read_parquet(swept.directory / "summary")
    assert sorted(frame["run"].unique()) == list(range(4))
    dataset = pyarrow.dataset.dataset(swept.directory / "summary", partitioning="hive")
    assert dataset.schema.field("traffic.chat.rate").metadata[b"unit"] == b"requests/s"
    assert str(dataset.schema.field("traffic.chat.rate").type) == "double"
    assert str(dataset.schema.field("fleet.serving.replicas").type) == "int64"
    assert len(frame) == dataset.count_rows() == len(swept.summary)
    study = json.loads((swept.directory / "study.json").read_text())
    assert study["runs"] == 4
    assert study["settings"]["fleet.serving.replicas"] == [6, 8]


def test_the_dataset_has_blocks_in_the_order_of_the_runs(
    base: Scenario, swept: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert swept.directory is not None
    shutil.copytree(swept.directory / "results", tmp_path / "out" / "results")
    monkeypatch.setattr("sim.execution.dataset.BLOCK_RUNS", 3)
    blocks = run(base, GRID, tmp_path / "out")
    assert blocks.tally.ran == 0
    for name in ("runs", "summary"):
        assert [path.name for path in sorted((tmp_path / "out" / name).iterdir())] == ["block=0", "block=1"]
    pd.testing.assert_frame_equal(blocks.runs, swept.runs)
    pd.testing.assert_frame_equal(blocks.summary, swept.summary)
    first = blocks.overview(runs=2)
    pd.testing.assert_frame_equal(first, swept.overview().iloc[:2])


def test_without_a_directory_the_tables_are_in_memory(base: Scenario, swept: Sweep) -> None:
    found = run(base, GRID | {"fleet.serving.replicas": [6]})
    assert found.directory is None
    pd.testing.assert_frame_equal(found.runs, swept.runs.iloc[:2])
    pd.testing.assert_frame_equal(found.overview(), swept.overview().iloc[:2])
    assert found.any_finished
    assert "6" in found._repr_html_()


def test_a_larger_grid_runs_only_what_is_new_and_a_smaller_one_leaves_nothing_behind(
    base: Scenario, swept: Sweep, tmp_path: Path, contents: Contents
) -> None:
    assert swept.directory is not None
    out = tmp_path / "out"
    shutil.copytree(swept.directory, out)
    larger = run(base, GRID | {"fleet.serving.replicas": "6,7,8"}, out)
    assert (larger.tally.skipped, larger.tally.ran) == (4, 2)
    assert larger.tally.told() == "6 runs: 4 skipped as they were finished before, 2 run now"
    assert len(larger.runs) == 6
    smaller = run(base, GRID, out)
    assert (smaller.tally.skipped, smaller.tally.ran) == (4, 0)
    before = {name: content for name, content in contents(swept.directory).items() if not name.startswith("results")}
    assert {name: each for name, each in contents(out).items() if not name.startswith("results")} == before
    fresh = run(base, GRID | {"fleet.serving.replicas": [6]}, out, resume=False)
    assert (fresh.tally.skipped, fresh.tally.ran) == (0, 2)
    assert len(list((out / "results").rglob("*.json"))) == 2


def killed_in_the_middle(out: Path, signal_name: str) -> subprocess.CompletedProcess[str]:
    """Run the sweep of GRID by the command line, and send its process a signal when two results are stored."""
    code = (
        "import os, signal; from sim.execution.store import Store; from sim.cli import main\n"
        "write, written = Store.write, []\n"
        "def write_and_die(*given):\n"
        "    write(*given); written.append(given)\n"
        f"    if len(written) == 2: os.kill(os.getpid(), signal.{signal_name})\n"
        "Store.write = write_and_die\n"
        f"main({arguments(out, '--workers', '1')!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def arguments(out: Path, *more: str) -> list[str]:
    fixed = [f"{path}={'{}' if value == {} else value}" for path, value in BRIEF.items()]
    settings = [
        part for each in [*fixed, *(f"{path}={text}" for path, text in GRID.items())] for part in ("--set", each)
    ]
    return ["sweep", "quickstart", *settings, "-o", str(out), "--quiet", *more]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what the same sweep leaves when nothing happens."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    sweep("quickstart", EVERYTHING, out, executor=InProcess())
    return out


@pytest.mark.parametrize("signal_name", ["SIGKILL", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_killed_or_interrupted_sweep_that_is_resumed_equals_an_undisturbed_one(
    tmp_path: Path, undisturbed: Path, contents: Contents, signal_name: str
) -> None:
    out = tmp_path / "out"
    done = killed_in_the_middle(out, signal_name)
    if signal_name == "SIGINT":
        assert done.returncode == 130
        assert done.stderr == "Interrupted: what is finished is kept; the same command goes on from there.\n"
    else:
        assert done.returncode == -9
    assert not (out / "runs").exists(), "no half dataset"
    resumed = sweep("quickstart", EVERYTHING, out, executor=InProcess())
    assert (resumed.tally.skipped, resumed.tally.ran) == (2, 2)
    assert contents(out) == contents(undisturbed)
    assert not [path for path in out.iterdir() if path.name.startswith(".")], "nothing is left of the killed one"


def test_all_problems_are_told_at_once_before_anything_runs(base: Scenario, tmp_path: Path) -> None:
    wrong = {
        "fleet.serving.replcas": "6,8", "traffic.chat.rate": "10,20 req/s", "flet.x": "1..3", "drain": "1..2 s",
        "router": "least_outstanding,no_such_router", "fleet.serving.hardware": ["no-such-hardware", "h100-sxm"],
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        run(base, wrong, tmp_path / "out")
    told = [f"{each.path}: {each.message}" for each in caught.value.problems]
    assert not (tmp_path / "out").exists()
    assert [text for text in told if text.startswith("fleet.serving.replcas: unknown key")], told
    assert len([text for text in told if "replcas" in text]) == 1, "a bad path is told once, not for each value"
    assert len([text for text in told if text.startswith("traffic.chat.rate: unknown unit")]) == 2
    for path in ("flet.x", "drain", "router", "fleet.serving.hardware"):
        assert [text for text in told if text.startswith(path)], (path, told)


def test_values_that_only_go_together_are_no_problem(base: Scenario) -> None:
    """A warm-up of 2 minutes does not go with the 90 s of the scenario, but with another duration of the sweep."""
    found = run(base, {"warm_up": "10 s,2 min", "duration": "90 s,3 min"})
    assert list(found.runs["outcome"]) == ["finished", "finished", "refused", "finished"]
    assert "must be shorter than duration" in found.runs["problem"][2]
    assert found.any_finished


def test_what_the_scenario_does_not_allow_is_kept_as_refused(base: Scenario, tmp_path: Path) -> None:
    """A 119-billion-parameter model does not fit one H100."""
    settings: dict[str, Any] = {"fleet.serving.hardware": ["h100-sxm"], "fleet.serving.parallelism": [{"tensor": 1}]}
    found = run(base, settings, tmp_path / "out")
    assert list(found.runs["outcome"]) == ["refused"]
    assert not found.any_finished
    assert found.summary.empty
    assert "memory" in found.runs["problem"][0]
    assert str(tmp_path) not in found.runs["problem"][0]
    assert run(base, settings, tmp_path / "out").tally.ran == 0


def test_a_directory_with_anything_else_in_it_is_not_touched(base: Scenario, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for resume in (True, False):
        with pytest.raises(InputError, match=r"holds 'thesis.tex', which is no part of a sweep"):
            run(base, GRID, tmp_path, resume=resume)
    with pytest.raises(InputError, match="exists and is no directory"):
        run(base, GRID, tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_full_disk_is_told_and_the_sweep_goes_on_later(
    base: Scenario, swept: Sweep, tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the dataset, and later at a result: each time all that was finished stays."""
    out = tmp_path / "out"

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sim.execution.dataset.write_parquet", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            run(base, GRID, out)
        assert caught.value.filename == str(out)
    assert not (out / "runs").exists()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(base, GRID | {"fleet.serving.replicas": "6,9"}, out)
    assert run(base, GRID, out).tally.ran == 0
    assert swept.directory is not None
    assert contents(out) == contents(swept.directory)


# What a run is, wherever its files lie


@pytest.fixture
def own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a scenario of one's own, a hardware profile and a trace."""
    for kind in ("scenario", "hardware"):
        (tmp_path / KINDS[kind]).mkdir()
    text = (builtin_root() / "hardware_profiles" / "gb200-nvl72.yaml").read_text(encoding="utf-8")
    (tmp_path / "hardware_profiles" / "mine.yaml").write_text(text.replace("name: gb200-nvl72", "name: mine"))
    (tmp_path / "scenarios" / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0.5,100,20\n1.5,200,30\n")
    scenario = (builtin_root() / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8")
    scenario = scenario.partition("alternatives:")[0].replace("name: quickstart", "name: own").replace(
        "hardware: gb200-nvl72", "hardware: mine"
    ).replace("voice: {workload: realtime-voice, rate: 8 requests/s}", "voice: {trace: trace.csv}")  # fmt: skip
    (tmp_path / "scenarios" / "own.yaml").write_text(scenario)
    return tmp_path


def identity(folder: Path) -> str:
    scenario = load_scenario(str(folder / "scenarios" / "own.yaml"))
    return Identity(scenario.library).of(scenario.raw)


def test_an_identity_follows_the_content_of_all_files_and_not_their_place(own_library: Path, tmp_path: Path) -> None:
    found = identity(own_library)
    moved = tmp_path / "moved"
    for folder in ("scenarios", "hardware_profiles"):
        shutil.copytree(own_library / folder, moved / folder)
    assert identity(moved) == found
    for file in ("scenarios/trace.csv", "hardware_profiles/mine.yaml", "scenarios/own.yaml"):
        path = moved / file
        text = path.read_text()
        changed = text.replace("200,30", "200,31").replace("title: ", "title: Other ", 1)
        assert changed != text
        path.write_text(changed)
        assert identity(moved) != found, file
        path.write_text(text)
    assert identity(moved) == found


def test_alternatives_are_part_of_an_identity(base: Scenario) -> None:
    raw = load_scenario("quickstart").raw
    other = load_scenario("quickstart", {"alternatives.tpu.fleet.serving.hardware": "tpu-v6e"}).raw
    library = base.library
    assert len({Identity(library).of(each) for each in (raw, other, base.raw)}) == 3


def test_a_worker_with_other_files_refuses_the_run(own_library: Path) -> None:
    scenario = load_scenario(str(own_library / "scenarios" / "own.yaml"))
    found = identity(own_library)
    (own_library / "scenarios" / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0.5,100,21\n")
    with pytest.raises(TaskError, match="differ on this worker"):
        run_point(scenario.raw.file, scenario.raw.data, {}, found, 1, "auto")
