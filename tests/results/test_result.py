import dataclasses

import numpy as np
import pandas as pd
import pytest

from sim.results.flags import Flag
from sim.results.metrics import PoolCost, Window
from sim.results.result import Result
from sim.results.summary import summarise
from sim.results.tables import arrow_table, frame

FLAG = Flag("few_samples", "class chat", "p99 needs more than <100> requests")


@pytest.fixture
def result(requests_of, timeline_of):
    rng = np.random.default_rng(3)
    requests = frame(
        "requests",
        arrow_table(
            "requests",
            requests_of(
                np.sort(rng.uniform(0.0, 100.0, 400)),
                ttft_s=rng.exponential(1.0, 400),
                e2e_s=5.0 + rng.exponential(2.0, 400),
                **{"class": rng.choice(["chat", "agent"], 400)},
            ),
        ),
    )
    timeline = frame("timeline", arrow_table("timeline", timeline_of(np.linspace(0.0, 100.0, 11))))
    summary = summarise(requests, timeline, [PoolCost("main", 8, 2.0, "rent")], [], Window(0.0, 100.0), flags=[FLAG])
    headroom = pd.DataFrame(
        {
            "scenario_id": "test", "replication": 0, "pool": "main", "class": ["chat", "agent"], "part": "used",
            "accelerator_s": [30.0, 70.0], "cost_usd": [1.0, None], "price_basis": ["rent", None],
        }
    )  # fmt: skip
    tables = {
        name: arrow_table(name, table)
        for name, table in (
            ("requests", requests), ("timeline", timeline), ("summary", summary), ("headroom", headroom)
        )
    }  # fmt: skip
    return Result(tables, {"seed": 1, "flags": [dataclasses.asdict(FLAG)]})


def test_a_saved_result_comes_back_the_same(tmp_path, result):
    result.save(tmp_path / "run")
    back = Result.load(tmp_path / "run")
    for name in ("requests", "timeline", "summary_table", "headroom"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(result, name))
    assert back.manifest == result.manifest
    with pytest.raises(FileExistsError, match="exists already"):
        back.save(tmp_path / "run")
    back.save(tmp_path / "run", overwrite=True)


def test_loading_what_is_no_whole_result(tmp_path, result):
    with pytest.raises(FileNotFoundError, match="no such result directory"):
        Result.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="not a result directory"):
        Result.load(tmp_path)
    result.save(tmp_path / "run")
    (tmp_path / "run" / "timeline.parquet").unlink()
    with pytest.raises(ValueError, match=r"not a whole result: timeline\.parquet is missing"):
        Result.load(tmp_path / "run")


def test_summary_by_metric_and_class(result):
    assert len(result.summary()) == len(result.summary_table)
    rows = result.summary("ttft_s", "chat")
    assert set(rows["metric"]) == {"ttft_s"}
    assert set(rows["class"]) == {"chat"}
    assert rows["quantile"].dropna().tolist() == [0.5, 0.9, 0.95, 0.99]
    rows["note"] = "mine"
    assert "mine" not in set(result.summary("ttft_s")["note"])


@pytest.mark.parametrize(
    ("metric", "class_name", "message"),
    [("ttft", None, "no metric 'ttft' in the summary; did you mean ttft_s"), (None, "chats", "did you mean chat")],
)
def test_near_misses_are_suggested(result, metric, class_name, message):
    with pytest.raises(ValueError, match=message):
        result.summary(metric, class_name)


def test_latency_is_the_summary_spread_out(result):
    wide = result.latency()
    assert wide["class"].tolist() == ["all", "agent", "chat"]
    assert len(wide.columns) == 3 + 3 * 4 * 3
    assert not wide["past_the_knee"].any()
    for metric, stem in (("ttft_s", "ttft"), ("tpot_s", "tpot"), ("e2e_s", "e2e")):
        rows = result.summary(metric, "agent").set_index("quantile")
        for quantile, name in ((0.5, "p50"), (0.9, "p90"), (0.95, "p95"), (0.99, "p99")):
            agent = wide.set_index("class").loc["agent"]
            for column, suffix in (("value", "_s"), ("low", "_low_s"), ("high", "_high_s")):
                assert agent[f"{stem}_{name}{suffix}"] == rows.loc[quantile, column]


def test_flags_come_from_the_manifest(result):
    assert result.flags == [FLAG]
    assert dataclasses.replace(result, manifest={}).flags == []


def test_the_notebook_view_is_short_and_escaped(result):
    text = result._repr_html_()
    assert "400 requests" in text
    assert "few_samples" in text
    assert "&lt;100&gt;" in text
    assert "ttft_p99_s" in text
    assert "_low_s" not in text
    assert len(text) < 5000
