"""The commands of recorded traffic: what they print, what they write, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sim.cli import main
from sim.demand.trace_files import read_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def command(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    seconds = np.cumsum(generator.exponential(2.0, 900))
    rows = [
        f"2023-11-16 18:{int(second // 60):02d}:{second % 60:010.7f},{prompt},{output}\n"
        for second, prompt, output in zip(
            seconds, generator.integers(5, 4000, 900), generator.integers(1, 300, 900), strict=True
        )
        if second < 1800
    ]
    path = tmp_path / "azure.csv"
    path.write_text(AZURE + "".join(rows))
    return path


def test_a_trace_is_imported_fitted_and_checked(tmp_path: Path, recorded: Path) -> None:
    trace, mine = tmp_path / "out" / "trace.parquet", tmp_path / "out" / "workloads" / "mine.yaml"
    done = command("import", "trace", recorded, "--format", "azure", "-o", trace, "--class", "chat")
    assert done.exit_code == 0, done.output
    assert f"requests: {read_trace(trace, 'x').requests}" in done.stdout
    assert read_trace(trace, "x").classes == ("chat",)
    assert [path.name for path in trace.parent.iterdir()] == ["trace.parquet"]
    done = command("fit-workload", trace, "-o", mine)
    assert done.exit_code == 0, done.output
    assert "KS of prompt tokens" in done.stdout
    assert command("check", mine).exit_code == 0


def test_answers_as_json_are_json(tmp_path: Path, recorded: Path) -> None:
    trace = tmp_path / "trace.csv"
    told = json.loads(command("import", "trace", recorded, "--format", "azure", "-o", trace, "--json").stdout)
    assert told["requests"] == read_trace(trace, "x").requests
    assert told["left_out"] == {}
    fit = json.loads(command("fit-workload", trace, "-o", tmp_path / "mine.yaml", "--json").stdout)
    assert {"check", "trace", "workload", "difference"} == set(fit["checks"][0])


def test_a_trace_with_classes_is_replayed_as_these(tmp_path: Path) -> None:
    trace = tmp_path / "mine.csv"
    rows = [f"{second / 10},{name},900,50\n" for second, name in zip(range(900), ["chat", "voice"] * 450, strict=True)]
    trace.write_text("arrival_s,class,prompt_tokens,output_tokens\n" + "".join(rows))
    settings = ("--set", "alternatives={}", "--set", "warm_up=10 s", "--quiet", "--json")
    done = command("run", "quickstart", "--trace", trace, *settings)
    assert done.exit_code == 0, done.output
    rows = [row for row in json.loads(done.stdout)["summary"] if row["metric"] == "requests_offered"]
    assert {row["class"]: row["value"] for row in rows} == {"all": 800, "chat": 400, "voice": 400}
    met = [row for row in json.loads(done.stdout)["summary"] if row["metric"] == "service_level_met_ttft_s"]
    assert {row["class"] for row in met} == {"chat", "voice"}


def test_a_trace_without_a_class_is_replayed_as_any(tmp_path: Path, recorded: Path) -> None:
    trace = tmp_path / "trace.parquet"
    assert command("import", "trace", recorded, "--format", "azure", "-o", trace).exit_code == 0
    assert read_trace(trace, "mine").classes == ("mine",)
    assert command("check", "quickstart", "--trace", f"chat={trace}").exit_code == 0


def test_nothing_is_replaced_unasked(tmp_path: Path, recorded: Path) -> None:
    trace = tmp_path / "trace.parquet"
    trace.write_text("mine")
    refused = command("import", "trace", recorded, "--format", "azure", "-o", trace)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert trace.read_text() == "mine"
    assert command("import", "trace", recorded, "--format", "azure", "-o", trace, "--overwrite").exit_code == 0


def test_bad_input_names_the_line_and_writes_nothing(tmp_path: Path, recorded: Path) -> None:
    lines = recorded.read_text().splitlines()
    lines[7] = lines[7].rpartition(",")[0] + ",none"
    recorded.write_text("\n".join(lines))
    trace = tmp_path / "trace.parquet"
    refused = command("import", "trace", recorded, "--format", "azure", "-o", trace)
    assert refused.exit_code == 2
    assert "azure.csv:8: GeneratedTokens: is not a whole number" in refused.stderr
    assert not trace.exists()
    refused = command("import", "trace", recorded, "--format", "csv", "--column", "arrival", "-o", trace)
    assert "Write ROLE=COLUMN" in refused.stderr
    assert command("fit-workload", tmp_path / "absent.parquet", "-o", tmp_path / "x.yaml").exit_code == 2
