"""Errors are counted once, weighted, grouped, and nothing is dropped in silence."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import DATA, MeasuredRun, read_points
from sim.fidelity.prediction import predict
from sim.fidelity.validation import (
    Compared,
    Validation,
    error_measures,
    validate,
    weighted_quantile,
    worst_groups,
)

Maker = Callable[..., MeasuredRun]
LIBRARY = fidelity_library()


def compared(measured: float, predicted: float, weight: float = 1.0, **changes: Any) -> Compared:
    usual = Compared(
        row_id="r", line=2, source="s", accelerator="H100", model="m", framework="vllm", regime="low", load="closed",
        metric="tpot", statistic="mean", measured=measured, predicted=predicted, weight=weight, known="calibrated",
        band_low=0.8 * predicted, band_high=1.2 * predicted, load_factor=1.0,
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


def test_a_prediction_of_ourselves_has_no_error(measured_run: Maker) -> None:
    stack = LIBRARY.serving_stack("vllm").spec
    values = predict(Mapper(LIBRARY).system(measured_run()), stack).values
    metrics = {
        "tpot_mean_ms": values["tpot", "mean"] * 1e3,
        "ttft_p99_ms": values["ttft", "p99"] * 1e3,
        "e2e_p50_ms": values["e2e", "p50"] * 1e3,
        "output_tok_s": values["throughput", "output"] * 4,
    }
    found = validate([measured_run(metrics)], LIBRARY)
    assert found.unscored == []
    assert {kind: each["n"] for kind, each in found.errors().items()} == dict.fromkeys(
        ("throughput", "tpot", "e2e", "ttft"), 1
    )
    for measures in found.errors().values():
        assert measures["mean_ape"] == pytest.approx(0.0, abs=1e-9)


def test_every_row_is_compared_or_has_a_reason(measured_run: Maker) -> None:
    runs = [
        measured_run({"tpot_mean_ms": 20.0, "watts": 3.0}),
        measured_run({"tpot_mean_ms": 20.0, "ttft_p50_ms": 100.0}, model="Foo"),
        measured_run({"output_tok_s": 800.0}, concurrency_or_rate="rate=3/s"),
        measured_run({"itl_mean_ms": 9.0, "itl_p50_ms": 0.05}),
        measured_run({"tpot_mean_ms": 9.0}, concurrency_or_rate="offline"),
    ]
    found = validate(runs, LIBRARY)
    assert len(found.compared) + len(found.unscored) == sum(len(run.targets) for run in runs) == 8
    reasons = found.reasons()
    assert reasons["no model for 'Foo'"] == 2
    assert reasons["tokens per second at a given rate is the rate itself"] == 1
    assert all(reasons)
    answer: Any = found.to_json()
    assert (answer["unmapped"]["n"], answer["not_scored"]["n"]) == (2, 5)


def test_measures_are_weighted() -> None:
    rows = [compared(1.0, 1.1, 3.0), compared(1.0, 0.5, 1.0)]
    found = error_measures(rows)
    assert found["median_ape"] == pytest.approx(0.1)
    assert found["mean_ape"] == pytest.approx((3 * 0.1 + 0.5) / 4)
    assert found["p90_ape"] == pytest.approx(0.5)
    assert found["median_bias"] == pytest.approx(0.1)
    assert found["band_coverage"] == pytest.approx(0.75)


def test_coverage_counts_stated_bands_only() -> None:
    unstated = compared(1.0, 1.0, band_low=math.nan, band_high=math.nan)
    assert error_measures([unstated])["band_coverage"] is None
    assert error_measures([unstated, compared(1.0, 5.0)])["band_coverage"] == 0.0


def test_weighted_quantiles_without_weights_are_order_statistics() -> None:
    values = np.array([5.0, 1.0, 3.0, 4.0, 2.0])
    ones = np.ones(5)
    assert [weighted_quantile(values, ones, q) for q in (0.2, 0.5, 0.9, 1.0)] == [1.0, 3.0, 5.0, 5.0]


def test_groups_and_worst_groups() -> None:
    good, bad = [compared(1.0, 1.01)] * 4, [compared(1.0, 2.0, accelerator="B200")] * 3
    found = Validation([*good, *bad], [])
    assert found.by("accelerator")["B200"]["tpot"]["median_ape"] == pytest.approx(1.0)
    worst = worst_groups(found, count=1)
    assert worst[0][1] == "B200"


def test_the_answer_is_json() -> None:
    found = Validation([compared(1.0, 1.1)], [])
    answer = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert set(answer) >= {"overall", "by_accelerator", "by_model", "by_framework", "by_regime", "unmapped"}
    assert set(answer["overall"]["tpot"]) == {
        "n", "median_ape", "mean_ape", "p90_ape", "median_bias", "band_coverage",
    }  # fmt: skip


def test_what_is_known_of_a_system(measured_run: Maker) -> None:
    runs = [measured_run(), measured_run(accelerator="MI455X", precision="bf16"), measured_run(accelerator="Trn2")]
    found = validate(runs, LIBRARY).compared
    assert [each.known for each in found] == ["calibrated", "specification", "transferred"]
    assert (found[0].hardware, found[0].family, found[0].features) == ("h100-sxm", "hopper", ("dense",))
    assert (found[0].sequences, found[0].tokens) == (16.0, 1200.0)
    for each in found:
        assert each.band_low < each.predicted < each.band_high


def test_a_server_that_was_not_warm_is_known_no_better_than_by_specification(measured_run: Maker) -> None:
    steady, cold = validate([measured_run(), measured_run(source="InferenceX experimental x")], LIBRARY).compared
    assert (steady.known, cold.known) == ("calibrated", "specification")
    band = LIBRARY.serving_stack("vllm").spec.bands["tpot"]["specification"]
    assert (cold.band_low, cold.band_high) == pytest.approx((cold.predicted * band.low, cold.predicted * band.high))


def test_sequences_of_an_open_loop_are_littles_law(measured_run: Maker) -> None:
    metrics = {"e2e_mean_ms": 4000.0}
    slow, fast = (measured_run(metrics, concurrency_or_rate=f"rate={rate}/s") for rate in (0.5, 1e6))
    found = validate([slow, fast], LIBRARY).compared
    assert found[0].sequences == pytest.approx(0.5 * found[0].predicted)
    assert math.isnan(found[1].sequences), "past the knee nothing is level"
    assert found[1].past_the_knee


def test_the_answer_has_every_metric_and_nothing_where_there_is_nothing(measured_run: Maker) -> None:
    """Fractions, duplicates by weight, derived rows unscored, no group without rows."""
    answer: Any = validate([measured_run({"tpot_mean_ms": 1.0}, model="Foo")], LIBRARY).to_json()
    assert answer["overall"]["ttft"] == dict.fromkeys(answer["overall"]["ttft"]) | {"n": 0}
    assert set(answer["overall"]) == {"throughput", "tpot", "e2e", "ttft"}
    assert answer["by_accelerator"] == {}
    assert answer["unmapped"]["n"] == 1
    derived = measured_run({"tpot_mean_ms": 20.0, "output_tok_s_per_accel_derived": 9.0})
    answer = validate([derived], LIBRARY).to_json()
    assert answer["overall"]["throughput"]["n"] == 0
    assert answer["not_scored"]["reasons"] == {"computed from other rows, no evidence of its own": 1}
    assert set(answer["by_accelerator"]["H100"]) == {"tpot"}


def test_shipped_points_are_all_compared_and_near() -> None:
    """A tripwire far above today's errors: throughput within a fifth on the median."""
    runs = [run for run in read_points(DATA / "reference_points.csv") if run.columns["source"].startswith("Tensor")]
    found = validate(runs, LIBRARY)
    assert len(found.compared) > 200
    assert not found.unscored
    assert (found.errors()["throughput"]["median_ape"] or 1.0) < 0.2
