"""The error of the step-time model stands beside the interval of chance, and never where a latency means nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.results.flags import Flag
from sim.results.metrics import Window
from sim.results.model_error import PAST_THE_KNEE, ModelError, annotated, model_error_of
from sim.results.summary import summarise
from sim.serving.validity import Validity
from sim.specs.serving_stack import BandSpec

TPOT, TTFT = BandSpec(low=0.8, high=1.5, points=30), BandSpec(low=0.5, high=3.0, points=40)
CAPACITY = BandSpec(low=0.8, high=1.25, points=50)
KNOWN = Validity("calibrated", {"tpot": TPOT, "ttft": TTFT, "throughput": CAPACITY})
LEVELS = [("chat", "ttft_s", 0.9, 2.0)]


def summary_of(requests_of, timeline_of, flags=(), load_factor=0.5, levels=LEVELS):
    requests = requests_of(np.linspace(0.0, 99.0, 400))
    return summarise(
        requests, timeline_of(np.linspace(0.0, 100.0, 11)), [], levels, Window(0.0, 100.0),
        flags=flags, load_factors={"main": load_factor}, validity={"main": KNOWN},
    )  # fmt: skip


def row_of(summary, metric, quantile=None, class_name="chat", pool="all"):
    rows = summary[(summary["metric"] == metric) & (summary["class"] == class_name) & (summary["pool"] == pool)]
    rows = rows[rows["quantile"].isna()] if quantile is None else rows[np.isclose(rows["quantile"], quantile)]
    (row,) = rows.to_dict("records")
    return row


def test_latencies_carry_the_band_beside_their_interval(requests_of, timeline_of):
    summary = summary_of(requests_of, timeline_of)
    ttft = row_of(summary, "ttft_s", 0.99)
    assert ttft["value"] == pytest.approx(1.0)
    assert (ttft["model_low"], ttft["model_high"]) == pytest.approx((0.5, 3.0))
    assert ttft["low"] == pytest.approx(1.0)
    tpot = row_of(summary, "tpot_s")
    assert tpot["model_high"] / tpot["value"] == pytest.approx(1.5)
    assert math.isnan(row_of(summary, "e2e_s", 0.5)["model_low"]), "the stack states no band for it"
    assert math.isnan(row_of(summary, "requests_offered")["model_low"])


def test_the_load_has_the_band_of_the_capacity_turned_over(requests_of, timeline_of):
    load = row_of(summary_of(requests_of, timeline_of), "load_factor", class_name="all", pool="main")
    assert (load["model_low"], load["model_high"]) == pytest.approx((0.5 / 1.25, 0.5 / 0.8))


def test_a_level_is_met_surely_only_at_both_ends_of_the_band(requests_of, timeline_of):
    summary = summary_of(requests_of, timeline_of, levels=[("chat", "ttft_s", 0.9, 2.0), ("chat", "tpot_s", 0.9, 9.0)])
    ttft = row_of(summary, "service_level_met_ttft_s", 0.9)
    assert (ttft["value"], ttft["model_low"], ttft["model_high"]) == (1.0, 0.0, 1.0)
    tpot = row_of(summary, "service_level_met_tpot_s", 0.9)
    assert (tpot["value"], tpot["model_low"], tpot["model_high"]) == (1.0, 1.0, 1.0)


def test_past_the_knee_every_latency_says_so_and_has_no_band(requests_of, timeline_of):
    flags = [Flag("saturated", "pool main", "too much"), Flag("not_converged", "pool main", "grows")]
    summary = summary_of(requests_of, timeline_of, flags, 1.4)
    latencies = summary[summary["metric"].isin(["ttft_s", "tpot_s", "e2e_s"])]
    assert len(latencies) > 20
    assert latencies["note"].str.startswith(PAST_THE_KNEE).all()
    assert latencies["model_low"].isna().all()
    assert latencies["model_high"].isna().all()
    assert math.isnan(row_of(summary, "service_level_met_ttft_s", 0.9)["model_low"])
    served = row_of(summary, "output_tokens_completed_per_s")
    assert served["model_low"] / served["value"] == pytest.approx(0.8)


def test_below_the_knee_what_is_served_is_the_load_and_no_matter_of_step_times(requests_of, timeline_of):
    assert math.isnan(row_of(summary_of(requests_of, timeline_of), "output_tokens_completed_per_s")["model_low"])


def test_a_queue_that_still_grows_is_said_beside_the_latency(requests_of, timeline_of):
    summary = summary_of(requests_of, timeline_of, [Flag("not_converged", "pool main", "grows")])
    assert row_of(summary, "ttft_s", 0.5)["note"] == "no steady state in pool main"


def test_a_class_on_several_pools_has_the_widest_of_their_bands(requests_of):
    requests = requests_of(np.arange(4.0), pool=["fast", "slow", "fast", "slow"])
    validity = {
        "fast": Validity("calibrated", {"tpot": BandSpec(low=0.9, high=1.1)}),
        "slow": Validity("transferred", {"tpot": BandSpec(low=0.95, high=2.0)}),
    }
    error = model_error_of(requests, [], validity, {"fast": 0.1, "slow": 0.2})
    assert error.pools_of_class == {"all": ["fast", "slow"], "chat": ["fast", "slow"]}
    assert error.ranges("chat", "tpot") == (0.9, 2.0)
    assert math.isnan(error.ranges("chat", "ttft")[0])
    partly = model_error_of(requests, [], {"fast": validity["fast"]}, {})
    assert math.isnan(partly.ranges("chat", "tpot")[0]), "one pool without a band leaves the class without"


def test_costs_have_the_band_of_the_tokens_past_the_knee_only():
    row = {
        "metric": "usd_per_million_tokens",
        "class": "all",
        "pool": "main",
        "quantile": None,
        "value": 2.0,
        "note": "",
    }
    bands = {"main": {"throughput": CAPACITY}}
    beyond = annotated(row, ModelError(bands, {"all": ["main"]}, {"main": "too much"}))
    assert (beyond["model_low"], beyond["model_high"]) == pytest.approx((2.0 / 1.25, 2.0 / 0.8))
    assert math.isnan(annotated(row, ModelError(bands, {"all": ["main"]}))["model_low"])
