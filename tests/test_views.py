"""The SQL for BI people runs on a result, and says what the Parquet says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sim

ROOT = Path(__file__).resolve().parent.parent
SQL = (ROOT / "docs" / "views.sql").read_text(encoding="utf-8")
VIEWS = re.findall(r"CREATE OR REPLACE VIEW (\w+)", SQL)


def test_the_page_names_every_view() -> None:
    page = (ROOT / "docs" / "bi.md").read_text(encoding="utf-8")
    assert len(VIEWS) == 10
    assert [view for view in VIEWS if f"| `{view}` |" not in page] == []


def test_every_view_answers_from_the_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is part of the extra `dev`")
    scenario = sim.load("quickstart", {"duration": "3 min", "warm_up": "30 s"}).variants()[0]
    result = sim.simulate(scenario)
    result.save(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    connection = duckdb.connect()
    connection.execute(SQL)
    rows = {view: connection.execute(f"SELECT * FROM {view}").fetchall() for view in VIEWS}
    assert all(rows.values())
    requests = result.requests
    counted = {name: count for _, name, count, *_ in rows["latency_by_class"]}
    assert counted == requests["class"].value_counts().to_dict()
    first = connection.execute("SELECT ttft_p50_s FROM latency_by_class WHERE class = 'chat'").fetchone()
    chat = requests[requests["class"] == "chat"]
    assert first[0] == pytest.approx((chat["first_token_s"] - chat["arrival_s"]).median())
    energy = sum(row[-1] for row in rows["energy_by_pool"])
    timeline = result.timeline
    expected = (timeline["power_w"] * (timeline["interval_end_s"] - timeline["interval_start_s"])).sum() / 3.6e6
    assert energy == pytest.approx(expected)
