"""The report in a real headless Chromium: nothing complains, every plot is drawn, and nothing is fetched."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import sim
from sim.reporting.report.page import write_report
from sim.reporting.report.studies import read_studies
from sim.specs.resolved import load_scenario
from tests.reporting.pages import Cell, cells, is_rounded

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
REACHED = re.compile(r'"url":"((?:https?|wss?):[^"]*)"')


def opened(page: Path, folder: Path, width: int) -> str:
    """Return the document after its scripts ran; fails for anything on the console and any request to a network."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium or Chrome on the path")
    log = folder / "net.json"
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--log-net-log={log}",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
         f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=60000",
         "--dump-dom", page.as_uri()],
        text=True, capture_output=True, timeout=300, check=True, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert not re.findall(r"CONSOLE.*", done.stderr)
    assert log.stat().st_size > 0
    mine = [url for url in REACHED.findall(log.read_text("utf-8", errors="replace")) if "google" not in url]
    assert mine == []
    return done.stdout


def in_parquet(cell: Cell, folders: list[Path]) -> float:
    """Return the number of a cell's Parquet file."""
    rows = pd.read_parquet(folders[cell.study] / f"{cell.table}.parquet")
    for column, wanted in cell.where.items():
        rows = rows[rows[column].isna() if wanted is None else rows[column] == wanted]
    assert len(rows) == 1, cell
    return float(rows[cell.column].iloc[0])


def assert_drawn(document: str) -> int:
    """Assert that all plots are drawn, and return how many."""
    plots = document.count('role="img" aria-label=')
    assert document.count('data-drawn="true"') == plots
    assert f'data-plots="{plots}"' in document
    assert document.count('class="main-svg"') >= plots
    return plots


def test_a_run_opens_on_a_phone(tmp_path: Path) -> None:
    changes = {"duration": "2 min", "warm_up": "20 s", "drain": "2 min", "alternatives": {}}
    sim.simulate(load_scenario("quickstart", changes)).save(tmp_path / "run")
    write_report(read_studies([tmp_path / "run"]), tmp_path / "run.html")
    document = opened(tmp_path / "run.html", tmp_path, width=390)
    assert assert_drawn(document) >= 7
    shown = cells(document)[:10]
    assert len(shown) == 10
    for cell in shown:
        assert in_parquet(cell, [tmp_path / "run"]) == cell.value
        assert is_rounded(cell.text, cell.value)


@pytest.mark.slow
def test_the_plan_of_an_enterprise_shows_the_numbers_of_its_parquet(tmp_path: Path) -> None:
    sim.plan("enterprise-2027").save(tmp_path / "plan")
    write_report(read_studies([tmp_path / "plan"]), tmp_path / "plan.html")
    assert (tmp_path / "plan.html").stat().st_size < 8_000_000
    document = opened(tmp_path / "plan.html", tmp_path, width=1280)
    assert assert_drawn(document) >= 9
    wanted = {
        ("policies", "net_present_cost_usd"), ("policies", "most_owned"), ("policies", "most_rented"),
        ("policies", "over_optimum"), ("policies", "gap"), ("latency", "value_s"), ("latency", "limit_s"),
    }  # fmt: skip
    found = {}
    for cell in cells(document):
        found.setdefault((cell.table, cell.column, json.dumps(cell.where, sort_keys=True)), cell)
    assert {key[:2] for key in found} >= wanted
    assert len(found) >= 10
    for cell in found.values():
        assert in_parquet(cell, [tmp_path / "plan"]) == cell.value
        assert is_rounded(cell.text, cell.value)
