"""Transcripts of `fleetcast sweep`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sim.cli import main

CHAT = "traffic={chat: {workload: realtime-chat, rate: 5 requests/s}}"
BRIEF = (
    "--set", CHAT, "--set", "duration=90 s", "--set", "warm_up=10 s", "--set", "drain=30 s",
    "--set", "alternatives={}", "--workers", "0",
)  # fmt: skip


def fleetcast(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_prints_a_table_and_says_on_stderr_what_it_skipped() -> None:
    command = ("sweep", "quickstart", *BRIEF, "--set", "fleet.serving.replicas=6,8", "-o", "out")
    first, second = fleetcast(*command), fleetcast(*command)
    assert first.exit_code == second.exit_code == 0, first.output
    assert first.stdout == second.stdout, "the answer does not depend on what was there before"
    assert first.stderr == "2 runs: 2 run now\n"
    assert second.stderr == "2 runs: 2 skipped as they were finished before, 0 run now\n"
    lines = [line.split() for line in first.stdout.splitlines()]
    assert [line[:2] for line in lines if line and line[0] in ("0", "1")] == [["0", "6"], ["1", "8"]]
    assert "Written: out/" in first.stdout


def test_json_holds_every_run_and_no_constant_of_this_machine() -> None:
    drawn = ("--latin-hypercube", "3", "--set", "traffic.chat.rate=1..40 requests/s")
    done = fleetcast("sweep", "quickstart", *BRIEF, *drawn, "--json", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["values"]["traffic.chat.rate"] == ["1 requests/s", "40 requests/s"]
    rates = sorted(run["traffic.chat.rate"] for run in answer["runs"])
    assert [int((rate - 1) / 39 * 3) for rate in rates] == [0, 1, 2], "one in each third"
    assert all(run["outcome"] == "finished" and run["ttft_p99_s"] > 0 for run in answer["runs"])


def test_a_sweep_without_any_feasible_run_exits_with_1() -> None:
    settings = ("--set", "fleet.serving.hardware=h100-sxm", "--set", "fleet.serving.parallelism={tensor: 1}")
    done = fleetcast("sweep", "quickstart", *BRIEF, *settings)
    assert done.exit_code == 1
    assert "refused: " in done.stdout


def test_bad_settings_are_all_told_at_once() -> None:
    settings = ("--set", "replicas", "--set", "seed=1,2", "--set", "seed=3")
    done = fleetcast("sweep", "quickstart", *settings)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "2 problems:" in done.stderr
    assert "not a setting (got 'replicas')" in done.stderr
    assert "--set: seed: is given twice" in done.stderr
    done = fleetcast("sweep", "quickstart", "--set", "seed=2..1:2", "--set", "fleet.x.replicas=1,2")
    assert done.exit_code == 2
    assert "from a lower to a higher value" in done.stderr
    assert done.stderr.count("there is no such path") == 1
    done = fleetcast("sweep", "no-such-scenario", "--set", "seed=1,2")
    assert done.exit_code == 2
    assert "no-such-scenario" in done.stderr


def test_a_cluster_without_dask_or_scheduler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("sweep", "quickstart", "--set", "seed=1,2", "--cluster", "tcp://127.0.0.1:1")
    monkeypatch.setattr("sim.execution.cluster._ANSWER_WITHIN_S", 0.1)
    pytest.importorskip("distributed")
    done = fleetcast(*command)
    assert done.exit_code == 2
    assert "no Dask scheduler answers" in done.stderr
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = fleetcast(*command)
    assert done.exit_code == 2
    assert "pip install 'fleetcast[cluster]'" in done.stderr
    assert list(Path().iterdir()) == []


def test_a_full_disk_and_a_failing_run_are_told_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("sweep", "quickstart", *BRIEF, "--set", "seed=1,2", "-o", "out")

    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        done = fleetcast(*command)
    assert done.exit_code == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("No space left on device; what is finished is kept; the same command goes on") == 1

    def broken(*given: object, **more: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr("sim.execution.sweep.simulate", broken)
        done = fleetcast(*command)
    assert done.exit_code == 2
    assert "ZeroDivisionError: a fault of ours" in done.stderr
    assert fleetcast(*command).exit_code == 0
