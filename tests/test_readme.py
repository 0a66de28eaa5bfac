"""The README keeps its promises: short, its two commands exist, and what it says of a result is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sim.cli import main
from sim.results.tables import TABLES
from sim.specs.library import default_library

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_fits_on_a_page() -> None:
    assert len(README.splitlines()) <= 130


def test_its_two_commands_are_targets_that_need_no_more_than_python() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("demo", "test"):
        assert f"make {target}" in README
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "PYTHON ?= python3" in makefile


def test_the_first_python_takes_five_lines() -> None:
    block = re.search(r"## Five lines of Python\n+```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    assert len([line for line in block[1].splitlines() if line.strip()]) <= 5


def test_the_number_that_it_shows_is_the_one_in_the_library() -> None:
    bandwidth = default_library().hardware("vr200-nvl72").spec.memory.bandwidth
    shown = re.search(r"value: ([\d.]+) TB/s\n +high: (\d+) TB/s\n +source: \[(.*)\]\n +confidence: (\w+)", README)
    assert shown is not None
    assert float(shown[1]) * 1e12 == bandwidth.value
    assert float(shown[2]) * 1e12 == bandwidth.high
    assert tuple(shown[3].split(", ")) == bandwidth.source
    assert shown[4] == bandwidth.confidence.value


def test_the_files_that_it_lists_are_the_files_that_a_run_writes(tmp_path: Path) -> None:
    brief = ["--set", "duration=2 min", "--set", "warm_up=10 s", "--set", "drain=1 min", "--set", "alternatives={}"]
    written = tmp_path / "first"
    result = CliRunner().invoke(main, ["run", "quickstart", "-o", str(written), *brief])
    assert result.exit_code == 0, result.output
    section = README.split("## Read the Parquet")[1].split("##")[0]
    listed = set(re.findall(r"`([a-z]+\.(?:parquet|json|html))`", section))
    assert listed == {path.name for path in written.iterdir()}
    for name in TABLES:
        schema = pq.read_schema(written / f"{name}.parquet")
        assert all(b"unit" in (field.metadata or {}) for field in schema)
    assert json.loads((written / "manifest.json").read_text(encoding="utf-8"))["seed"] == 1


def test_its_query_gives_the_quantile_of_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is no dependency; the README shows how to use it")
    query = re.search(r"```sql\n(.*?)```", README, re.DOTALL)
    assert query is not None
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["run", "quickstart", "-o", "out/first", "--set", "alternatives={}"])
    assert done.exit_code == 0, done.output
    summary = pq.read_table("out/first/summary.parquet").to_pandas()
    for _, name, value in duckdb.sql(query[1]).fetchall():
        chosen = (summary["metric"] == "ttft_s") & (summary["quantile"] == 0.99) & (summary["class"] == name)
        # DuckDB interpolates between two observations, the summary takes the larger one.
        assert value == pytest.approx(float(summary.loc[chosen, "value"].iloc[0]), rel=0.02)
