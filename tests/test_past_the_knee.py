"""A latency of a pool beyond its capacity is shown nowhere without saying so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import sim
from sim.cli import main
from sim.results.model_error import PAST_THE_KNEE
from sim.specs.resolved import load_scenario

OVERLOADED = [
    "--set", "alternatives={}", "--set", "fleet.serving.replicas=1", "--set", "duration=3 min", "--set", "warm_up=30 s",
    "--set", "traffic.chat.rate=400 requests/s",
]  # fmt: skip
LATENCIES = ("ttft_s", "tpot_s", "e2e_s")


def test_the_terminal_the_page_and_json_mark_every_latency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    out = tmp_path / "out"
    shown = CliRunner().invoke(main, ["run", "quickstart", *OVERLOADED, "--quiet", "-o", str(out)])
    assert shown.exit_code == 0, shown.output
    part = shown.output[shown.output.index("Latency") : shown.output.index("Model error")]
    # six latencies of five classes, one of each of seven service levels, however the tables are broken
    assert part.count("past knee: ") == 5 * 6 + 7
    marked = [line for line in part.splitlines() if "past knee: " in line]
    assert all(re.match(r"quickstart\s+(all|agent|chat|documents|voice)\s", line) for line in marked)
    assert "saturated: pool serving" in shown.output
    page = (out / "report.html").read_text("utf-8")
    latencies_shown = re.findall(r'(past knee: )?<data [^>]*data-where="[^"]*(?:ttft|tpot|e2e)_s&quot;[^"]*">', page)
    # of those in the page, only the limits of the seven service levels are not measured
    assert latencies_shown.count("past knee: ") == 1 + 3 + 7
    assert "saturated</b> pool serving" in page
    answered = CliRunner().invoke(main, ["run", "quickstart", *OVERLOADED, "--quiet", "--json"])
    answer = json.loads(answered.stdout)
    latencies = [row for row in answer["summary"] if row["metric"] in LATENCIES]
    assert len(latencies) > 50
    assert all(row["note"].startswith(PAST_THE_KNEE) and row["model_low"] is None for row in latencies)
    assert sim.Result.load(out).latency()["past_the_knee"].all()


def test_below_the_knee_nothing_is_marked() -> None:
    result = sim.simulate(load_scenario("quickstart", {"alternatives": {}, "duration": "3 min", "warm_up": "30 s"}))
    rows = result.summary()
    assert not rows["note"].fillna("").str.startswith(PAST_THE_KNEE).any()
    assert not result.latency()["past_the_knee"].any()
    latencies = rows[rows["metric"].isin(LATENCIES) & rows["value"].notna()]
    assert (latencies["model_low"] < latencies["model_high"]).all()
