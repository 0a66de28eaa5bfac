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


def test_drafts_that_are_all_rejected_cost_and_accepted_ones_pay(measured_run: Maker) -> None:
    def tpot(words: str) -> float:
        return predicted(measured_run(concurrency_or_rate="conc=2", spec_decode=words)).values["tpot", "mean"]

    plain = tpot("none")
    assert plain < tpot("mtp 2 acceptance 0.0") < 1.6 * plain
    assert tpot("mtp 2 acceptance 0.9") < 0.6 * plain


def test_drafts_keep_the_answer_and_its_throughput(measured_run: Maker) -> None:
    """Users = rate x time in system, in tokens: no token is lost or counted twice."""
    values = predicted(measured_run(concurrency_or_rate="conc=16", spec_decode="mtp 1 acceptance 0.8")).values
    per_s = values["throughput", "output"] * 4 / 200
    assert per_s * values["e2e", "mean"] == pytest.approx(16, rel=0.06)


def test_a_pool_that_prefills_takes_prompts_from_the_one_that_decodes(measured_run: Maker) -> None:
    """Steps of the decode pool never hold a prompt, first tokens are those of the prefill pool and its transfer."""
    one = {
        "model": "DeepSeek-R1",
        "accelerator": "H200",
        "concurrency_or_rate": "conc=32",
        "isl_mean": "8000",
        "osl_mean": "50",
    }
    system = "H200 disagg prefill {}x(N=1,dpattn=False,ep=8) decode 1x(N=1,dpattn=False,ep=8)"
    few, many = (predicted(measured_run(**one, system=system.format(count), n_accel="8")).values for count in (1, 8))
    together = predicted(measured_run(**one, tp="8", n_accel="8", ep="8")).values
    assert many["tpot", "mean"] < 0.8 * together["tpot", "mean"]
    assert many["ttft", "mean"] < few["ttft", "mean"]
    assert many["e2e", "mean"] == pytest.approx(many["ttft", "mean"] + 49 * many["tpot", "mean"], rel=0.05)


def test_a_server_under_limits_is_read_at_its_limit(measured_run: Maker) -> None:
    """Whatever the rate, unless it is asked for; the load factor tells the rate."""
    limits = {"ttft_p99_limit_ms": "2000", "tpot_p99_limit_ms": "30", "source": "MLPerf Inference v5.1"}
    run = {"model": "Llama-2-70B", "framework": "TensorRT 10.8", **limits}
    slow, fast = (measured_run(concurrency_or_rate=f"rate={rate}/s", **run) for rate in (1, 40))
    first, second = predicted(slow), predicted(fast)
    assert first.values == second.values
    assert second.load_factor == pytest.approx(40 * first.load_factor)
    assert 0.02 < first.values["tpot", "p99"] <= 0.03
    given = predict(MAPPER.system(slow), STACK, at_given_rate=True)
    assert given.values["tpot", "p99"] < first.values["tpot", "p99"]
    assert given.values["throughput", "output"] == first.values["throughput", "output"]


def test_an_open_loop_past_the_knee_is_read_at_the_knee(measured_run: Maker) -> None:
    found, more = (predicted(measured_run(concurrency_or_rate=f"rate={rate}/s")) for rate in (500, 5000))
    assert more.load_factor == pytest.approx(10 * found.load_factor)
    assert more.values == found.values
    given = predict(MAPPER.system(measured_run(concurrency_or_rate="rate=500/s")), STACK, at_given_rate=True)
    assert given.values["ttft", "mean"] > 5 * found.values["ttft", "mean"]
