"""Simulated benchmarks obey the laws of the loads that they simulate."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.measured_replica import deployment
from sim.fidelity.points import MeasuredRun
from sim.fidelity.prediction import Prediction, predict
from sim.fidelity.systems import UnmappedError

Maker = Callable[..., MeasuredRun]
LIBRARY = fidelity_library()
MAPPER = Mapper(LIBRARY)
STACK = LIBRARY.serving_stack("vllm").spec


def predicted(run: MeasuredRun) -> Prediction:
    return predict(MAPPER.system(run), STACK)


def test_a_closed_loop_obeys_little(measured_run: Maker) -> None:
    """Users = rate x time in system, up to ramps at both ends."""
    values = predicted(measured_run(concurrency_or_rate="conc=16")).values
    requests_per_s = values["throughput", "requests"] * 4
    assert requests_per_s * values["e2e", "mean"] == pytest.approx(16, rel=0.05)
    assert values["throughput", "output"] == pytest.approx(200 * values["throughput", "requests"], rel=1e-6)


def test_times_of_a_request_add_up(measured_run: Maker) -> None:
    values = predicted(measured_run(concurrency_or_rate="conc=8")).values
    whole = values["ttft", "mean"] + 199 * values["tpot", "mean"]
    assert values["e2e", "mean"] == pytest.approx(whole, rel=1e-9)
    for metric in ("ttft", "tpot", "e2e"):
        assert values[metric, "p50"] <= values[metric, "p90"] <= values[metric, "p99"]


def test_a_batch_is_one_batch(measured_run: Maker) -> None:
    one = predicted(measured_run(concurrency_or_rate="batch=1"))
    eight = predicted(measured_run(concurrency_or_rate="batch=8"))
    assert (one.requests, eight.requests) == (1, 8)
    assert eight.values["throughput", "output"] > 5 * one.values["throughput", "output"]
    assert eight.values["tpot", "mean"] > one.values["tpot", "mean"]


def test_an_open_loop_below_the_knee_serves_what_comes(measured_run: Maker) -> None:
    found = predicted(measured_run(concurrency_or_rate="rate=2/s"))
    assert found.load_factor < 0.5
    assert found.values["throughput", "requests"] * 4 == pytest.approx(2.0, rel=0.1)
    assert ("throughput", "input") in found.values


def test_past_the_knee_is_known(measured_run: Maker) -> None:
    assert predicted(measured_run(concurrency_or_rate="rate=500/s")).load_factor > 1.0


def test_the_limited_rate_keeps_its_limits_and_grows_with_them(measured_run: Maker) -> None:
    def rate(limit_ms: str) -> float:
        run = measured_run(concurrency_or_rate="server", ttft_p99_limit_ms="2000", tpot_p99_limit_ms=limit_ms)
        return predicted(run).values["throughput", "output"]

    offline = predicted(measured_run(concurrency_or_rate="offline")).values["throughput", "output"]
    tight, loose = rate("25"), rate("100")
    assert 0.0 < tight < loose <= 1.05 * offline


def test_requests_take_turns_between_replicas(measured_run: Maker) -> None:
    """Two replicas at twice the load are one replica at the load."""
    one = predicted(measured_run(concurrency_or_rate="conc=8")).values
    two = predicted(measured_run(concurrency_or_rate="conc=16", n_accel="8")).values
    assert two == one


def test_a_prefix_that_is_cached_is_not_computed(measured_run: Maker) -> None:
    plain = measured_run(isl_mean="220", concurrency_or_rate="rate=1/s")
    cached = measured_run(isl_mean="220", concurrency_or_rate="rate=1/s", source="inference-sim/training")
    assert predicted(cached).values["ttft", "mean"] < predicted(plain).values["ttft", "mean"]


def test_what_does_not_fit_says_so(measured_run: Maker) -> None:
    run = measured_run(model="Llama-3.1-405B", precision="bf16", n_accel="1", tp="1")
    with pytest.raises(UnmappedError, match="does not fit"):
        deployment(MAPPER.system(run), STACK)


def test_pipeline_stages_hold_a_share_of_the_layers(measured_run: Maker) -> None:
    """Stages multiply memory and, at full load, throughput of the system; a lone sequence gains nothing."""
    whole = measured_run(tp="1", n_accel="1", precision="fp8", accelerator="H200", concurrency_or_rate="conc=1")
    staged = measured_run(
        tp="1", pp="4", n_accel="4", precision="fp8", accelerator="H200", concurrency_or_rate="conc=1"
    )
    kv = [deployment(MAPPER.system(run), STACK).kv for run in (whole, staged)]
    assert kv[1].tokens > 4 * kv[0].tokens
    lone = [predicted(run).values["tpot", "mean"] for run in (whole, staged)]
    assert lone[1] == pytest.approx(lone[0], rel=0.1)
    assert math.isfinite(lone[0])
