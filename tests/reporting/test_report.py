"""The report: its numbers are those of the Parquet files, it needs nothing else, and it says what it lacks."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

import sim
from sim.cli import main
from sim.reporting.report import page as report_page
from sim.reporting.report import plotly_script
from sim.reporting.report.assumptions import assumptions_of
from sim.reporting.report.numbers import plain, seconds, share, usd
from sim.reporting.report.page import write_report
from sim.reporting.report.plots import band, line, listed, style
from sim.reporting.report.studies import read_studies
from sim.specs.errors import InputError
from sim.specs.resolved import load_scenario
from tests.reporting.pages import cells, is_rounded

SHORT = {"duration": "2 min", "warm_up": "20 s", "drain": "2 min"}
MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "short"
    sim.simulate(load_scenario("quickstart", SHORT)).save(folder)
    return folder


@pytest.fixture(scope="module")
def run_page(run_directory: Path) -> str:
    file = run_directory.parent / "report.html"
    write_report(read_studies([run_directory]), file)
    return file.read_text("utf-8")


def test_every_number_of_the_page_is_a_cell_of_the_parquet(run_directory: Path, run_page: str) -> None:
    found = cells(run_page)
    assert len(found) > 100
    tables: dict[str, pd.DataFrame] = {}
    for cell in found:
        rows = tables.setdefault(cell.table, pd.read_parquet(run_directory / f"{cell.table}.parquet"))
        for column, wanted in cell.where.items():
            rows = rows[rows[column].isna() if wanted is None else rows[column] == wanted]
        assert len(rows) == 1, cell
        assert float(rows[cell.column].iloc[0]) == cell.value
        assert is_rounded(cell.text, cell.value), cell


def test_it_carries_all_it_needs(run_page: str) -> None:
    assert len(run_page.encode()) < MOST_BYTES
    own = run_page.split("<script>")[0] + run_page.rsplit("<script>", 1)[1]
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", own)
    assert "default-src 'none'" in own
    assert run_page.count('class="plot"') == run_page.count('role="img"') > 6
    assert all(html.unescape(name) for name in re.findall(r'role="img" aria-label="([^"]*)"', run_page))


def test_sections_follow_from_the_answer_to_how_to_reproduce(run_page: str) -> None:
    anchors = re.findall(r'<h2 id="(\w+)">', run_page)
    assert anchors == ["fleets", "latency", "time", "cost", "assumptions", "trust", "reproduce"]
    assert run_page.index('class="sentence"') < run_page.index("<h2")
    for words in ("fleetcast run quickstart.yaml --seed 1", "SHA-256", "numpy", "Error of the step-time model"):
        assert words in run_page


def test_what_was_written_can_be_run_again(run_page: str, tmp_path: Path) -> None:
    written = re.search(r"quickstart\.yaml</summary><pre><code>(.*?)</code>", run_page, re.DOTALL)
    assert written
    (tmp_path / "quickstart.yaml").write_text(html.unescape(written[1]), "utf-8")
    assert load_scenario(str(tmp_path / "quickstart.yaml")).spec.duration == 120.0


def test_assumptions_have_units_and_sources(run_directory: Path) -> None:
    found = assumptions_of(read_studies([run_directory])[0])
    assert len(found) > 100
    assert all(each.source and each.confidence for each in found)
    bandwidth = next(each for each in found if (each.document, each.path) == ("gb200-nvl72", "memory.bandwidth"))
    assert bandwidth.value == "8.00 TB/s"
    assert len({(each.kind, each.document, each.path) for each in found}) == len(found)


def test_two_runs_are_compared_with_the_first(run_directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    changes: dict[str, Any] = {**SHORT, "alternatives": {}, "fleet.serving.replicas": 4}
    sim.simulate(load_scenario("quickstart", changes)).save(other)
    write_report(read_studies([run_directory, other]), tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text("utf-8")
    assert "Side by side" in page
    base = pd.read_parquet(run_directory / "summary.parquet")
    change = pd.read_parquet(other / "summary.parquet")

    def cost(rows: pd.DataFrame, scenario: str) -> float:
        kept = rows[(rows["metric"] == "usd_per_million_output_tokens") & (rows["pool"] == "all")]
        return float(kept.loc[kept["scenario_id"] == scenario, "value"].iloc[0])

    ratio = cost(change, "quickstart") / cost(base, "quickstart/blackwell") - 1
    assert f'<span class="change">{ratio:+.0%}</span>' in page
    assert {cell.study for cell in cells(page)} == {0, 1}


def test_bad_directories_are_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = CliRunner().invoke(main, ["report", str(tmp_path / "empty"), str(tmp_path / "none"), "-o", "x.html"])
    assert result.exit_code == 2
    assert "neither manifest.json nor study.json" in result.stderr
    assert "there is no such directory" in result.stderr


def test_without_plotly_the_command_says_what_to_install(
    run_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plotly_script.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"fleetcast\[report\]"):
        write_report(read_studies([run_directory]), tmp_path / "x.html")
    assert not list(tmp_path.iterdir())
    page = report_page.report_page(read_studies([run_directory]))
    assert len(page.encode()) < 1_000_000
    assert "fleetcast[report]" in page
    assert "<script" not in page


def test_a_page_needs_a_folder_and_a_name(run_directory: Path, tmp_path: Path) -> None:
    studies = read_studies([run_directory])
    with pytest.raises(InputError, match="no such folder"):
        write_report(studies, tmp_path / "nowhere" / "x.html")
    with pytest.raises(InputError, match="is a directory"):
        write_report(studies, tmp_path)


def test_the_command_prints_where_it_is_and_what_matters(run_directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.html"
    result = CliRunner().invoke(main, ["report", str(run_directory), "-o", str(file)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"Report: {file}"
    assert [text.split(":")[0] for text in lines[1:]] == ["Fleet", "Cost", "Latency"]
    answered = CliRunner().invoke(main, ["report", str(run_directory), "-o", str(file), "--json"])
    answer = json.loads(answered.stdout)
    assert set(answer["answers"][0]["numbers"]) == {"Fleet", "Cost", "Latency", "Room to grow"}
    assert "<" not in json.dumps(answer)


def test_a_sweep_is_shown_along_its_axis(tmp_path: Path) -> None:
    base = load_scenario("quickstart", {**SHORT, "alternatives": {}})
    sim.sweep(base, {"fleet.serving.replicas": [4, 8]}, output=tmp_path / "sweep", workers=0)
    write_report(read_studies([tmp_path / "sweep"]), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text("utf-8")
    assert "What changes along the sweep" in page
    assert "fleet.serving.replicas = 4" in page


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [(plain, 1234.5, "1,234"), (plain, 0.012345, "0.0123"), (plain, math.nan, "–"), (seconds, 0.0375, "37.5 ms"),
     (seconds, 14.52, "14.5 s"), (seconds, math.inf, "unserved"), (usd, 3_425_856.0, "USD 3.43 million"),
     (share, 0.0268, "2.7%"), (share, 0.999, "99.90%"), (share, 1.0, "100%")],
)  # fmt: skip
def test_numbers_are_written_for_readers(form: Any, value: float, text: str) -> None:
    assert form(value) == text


def test_series_differ_without_colour() -> None:
    looks = [style(place) for place in range(8)]
    for aspect in ("dash", "symbol", "pattern"):
        assert len({look[aspect] for look in looks}) == 8
    assert line("a", [1], [2], 3)["line"]["dash"] == looks[3]["dash"]
    fan = band([1, 2], [1.0, 2.0], [3.0, 4.0], 0, "fan")
    assert list(zip(fan["x"], fan["y"], strict=True)) == [(1, 3.0), (2, 4.0), (2, 2.0), (1, 1.0)]
    assert listed([math.inf, math.nan, 1.23456789]) == [None, None, 1.23457]
