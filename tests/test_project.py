"""Before the first run: a project to start from, completion, and the examination of the machine."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

import sim.project
from sim.cli import main
from sim.project import Finding, examine


def ran(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.output


def test_a_new_project_is_right_and_can_be_simulated(tmp_path: Path) -> None:
    code, output = ran("init", str(tmp_path / "ours"))
    assert code == 0, output
    scenario = str(tmp_path / "ours" / "scenario.yaml")
    code, output = ran("check", scenario)
    assert code == 0, output
    short = ("--set", "duration=3 min", "--set", "warm_up=1 min")
    code, output = ran("run", scenario, *short, "-o", str(tmp_path / "out"))
    assert code == 0, output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))
    assert "our-h100" in json.dumps(manifest)


@pytest.mark.parametrize("is_file", [False, True])
def test_a_project_overwrites_nothing(tmp_path: Path, is_file: bool) -> None:
    there = tmp_path / "there"
    if is_file:
        there.write_text("mine", encoding="utf-8")
    else:
        there.mkdir()
        (there / "mine.txt").write_text("mine", encoding="utf-8")
    code, output = ran("init", str(there))
    assert code == 2
    assert str(there) in output
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["there" if is_file else "mine.txt"]


def test_the_doctor_finds_what_every_run_needs_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not [finding for finding in examine() if finding.state == "broken"]
    monkeypatch.setattr(sim.project, "_REQUIRED", ("click", "no-such-package"))
    monkeypatch.setattr(sim.project, "_EXTRAS", {"ghost": (("no_such_module",), "haunting")})
    findings = examine()
    assert [finding.what for finding in findings if finding.state == "broken"] == ["no-such-package"]
    assert Finding("absent", "extra ghost", "for haunting", 'pip install "fleetcast[ghost]"') in findings
    code, output = ran("doctor")
    assert code == 1
    assert 'pip install "fleetcast[ghost]"' in output
    code, output = ran("doctor", "--json")
    assert code == 1
    assert {"state", "what", "found", "remedy"} == set(json.loads(output)["findings"][0])


def test_the_completion_of_bash_is_a_script_that_bash_reads() -> None:
    code, output = ran("completion", "bash")
    assert code == 0
    assert "_FLEETCAST_COMPLETE" in output
    if bash := shutil.which("bash"):
        assert subprocess.run([bash, "-n"], input=output, text=True, capture_output=True).returncode == 0
