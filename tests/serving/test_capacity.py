"""Capacity against simulation: the estimate is close where nothing is idle, and the bound is never beaten."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sim
from sim.demand.trace import Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.engine.run import RunOutcome, RunPlan, run
from sim.serving.capacity import least_busy_s, request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment, deploy
from sim.serving.step_time import StepTime
from sim.specs.resolved import load_scenario

Lengths = NDArray[np.int64]

POOLS: dict[str, dict[str, Any]] = {
    "dense": {"hardware": "h100-sxm", "model": "llama-3.1-8b"},
    "small-memory": {"hardware": "tpu-v5e", "model": "llama-3.1-8b", "parallelism": {"tensor": 4}},
    "sharded": {"hardware": "h200-sxm", "model": "llama-3.1-70b", "parallelism": {"tensor": 4}},
    "windowed": {"hardware": "b200-hgx", "model": "gpt-oss-120b"},
    "experts": {"hardware": "gb200-nvl72", "model": "mistral-small-4-119b-a6b", "parallelism": {"tensor": 2}},
    "recurrent": {"hardware": "h100-sxm", "model": "qwen3.5-9b"},
    "data-parallel": {
        "hardware": "h200-sxm", "model": "qwen3-30b-a3b", "parallelism": {"tensor": 1, "data": 4, "expert": 4},
    },
}  # fmt: skip


@cache
def pool(name: str) -> Deployment:
    fleet = {"pool": POOLS[name] | {"replicas": 1}}
    traffic = {"chat": {"workload": "realtime-chat"}}
    return deploy(load_scenario("quickstart", {"alternatives": {}, "traffic": traffic, "fleet": fleet}))[0]


def lognormal(generator: np.random.Generator, median: float, sigma: float, longest: int, count: int) -> Lengths:
    return np.clip(np.ceil(generator.lognormal(np.log(median), sigma, count)), 1, longest).astype(np.int64)


def mix_of(kind: str, count: int) -> tuple[Lengths, Lengths, Lengths]:
    """Return prompts, cached parts and answers of one kind of traffic."""
    generator = np.random.default_rng(7)
    prompt, output = {
        "chat": (lognormal(generator, 900, 1.0, 8000, count), lognormal(generator, 150, 0.9, 1500, count)),
        "prefill": (lognormal(generator, 6000, 0.6, 30_000, count), lognormal(generator, 20, 0.7, 200, count)),
        "decode": (lognormal(generator, 200, 0.6, 2000, count), lognormal(generator, 1500, 0.7, 8000, count)),
        "document": (lognormal(generator, 60_000, 0.4, 100_000, count), lognormal(generator, 400, 0.6, 2000, count)),
        "cached": (lognormal(generator, 9000, 0.6, 30_000, count), lognormal(generator, 300, 0.6, 2000, count)),
    }[kind]
    cached = (0.8 * prompt).astype(np.int64) if kind == "cached" else np.zeros_like(prompt)
    return prompt, cached, output


def simulated(
    deployment: Deployment, prompt: Lengths, cached: Lengths, output: Lengths, gap_ns: int = 0, stop_ns: int = 10**16
) -> tuple[RunOutcome, float]:
    """Return what one replica does with requests that come at equal gaps, and its busy time [s]."""
    count = len(prompt)
    trace = trace_from_arrays(np.arange(count) * gap_ns, prompt, output, cached)
    outcome = run(plan_of(trace, deployment, stop_ns))
    return outcome, float(outcome.fleet.timeline["busy_ns"].sum()) * 1e-9


def plan_of(trace: Trace, deployment: Deployment, stop_ns: int) -> RunPlan:
    arrivals_end_ns = int(trace.arrival_ns[-1]) + 1
    return RunPlan(
        trace=trace,
        deployments=[deployment],
        pools_of_class=[[0]],
        router="round_robin",
        draws=np.zeros((0, 2)),
        arrivals_end_ns=arrivals_end_ns,
        drain_ns=max(0, stop_ns - arrivals_end_ns),
        interval_ns=10**13,
    )


# The estimate


@pytest.mark.parametrize(
    ("name", "kind", "error"),
    [
        *((name, "chat", 0.02) for name in POOLS if name not in ("windowed", "experts")),
        *((name, "prefill", 0.01) for name in POOLS),
        *((name, "decode", 0.02) for name in POOLS if name != "small-memory"),
        *((name, "cached", 0.04) for name in POOLS),
        # experts that are read whatever is prefilled: what varies between steps matters most
        ("windowed", "chat", 0.05),
        ("experts", "chat", 0.03),
        # few sequences fit, so the part of memory that is too small for the next prompt matters
        *((name, "document", 0.03) for name in ("dense", "small-memory", "windowed", "recurrent")),
        # memory bound with long answers: sequences are preempted again and again, which the estimate leaves out
        ("small-memory", "decode", 0.10),
    ],
)
def test_the_estimate_is_what_a_replica_does_when_its_queue_never_empties(name: str, kind: str, error: float) -> None:
    deployment = pool(name)
    count = max(1500 if kind == "document" else 8000, 12 * deployment.max_sequences)
    prompt, cached, output = mix_of(kind, count)
    estimate = saturated_requests_per_s(deployment, request_mix(prompt, cached, output, deployment.window))
    # Ten times the load, so that the queue grows from the start but sequences do not begin all at once.
    outcome, _ = simulated(deployment, prompt, cached, output, gap_ns=int(1e8 / estimate))
    finished = np.sort(outcome.requests["finished_ns"]) * 1e-9
    early, late = int(0.4 * count), int(0.8 * count)
    rate = (late - early) / (finished[late] - finished[early])
    assert rate == pytest.approx(estimate, rel=error)


def test_the_mix_weighs_steps_and_not_requests() -> None:
    """Two answers of 1 and 3 tokens are four steps; a prompt behind a cached prefix computes what is left of it."""
    mix = request_mix([10, 20], [0, 15], [1, 3])
    assert mix.uncached_tokens == 7.5
    assert mix.output_tokens == 2.0
    assert mix.context == pytest.approx((11 + 21 + 22 + 23) / 4)
    assert mix.kv_tokens == mix.context
    assert mix.pairs == pytest.approx((sum(range(1, 11)) + sum(range(16, 21))) / 2)
    assert (mix.window_context, mix.window_pairs) == (0.0, 0.0)
    # Each token belongs to a request of 10 (ten of fifteen) or of 5 uncached tokens.
    assert mix.uncached_spread == pytest.approx((10 * 10 + 5 * 5) / 15)
    assert mix.prompt_spread == pytest.approx((10 * 10 + 20 * 20) / 30)


@given(
    prompt=st.integers(1, 60),
    cached=st.integers(0, 59),
    output=st.integers(1, 60),
    window=st.sampled_from([1, 7, 50, 200]),
)
def test_windows_cut_contexts_and_pairs_token_by_token(prompt: int, cached: int, output: int, window: int) -> None:
    cached = min(cached, prompt - 1)
    mix = request_mix([prompt], [cached], [output], window)
    context = sum(min(prompt + step, window) for step in range(1, output + 1)) / output
    pairs = sum(min(token, window) for token in range(cached + 1, prompt + 1))
    assert mix.window_context == pytest.approx(context)
    assert mix.window_pairs == pytest.approx(pairs)
    assert mix.window_context <= mix.context
    assert mix.window_pairs <= mix.pairs


@pytest.mark.parametrize("name", POOLS)
def test_more_work_or_less_hardware_never_raises_the_estimate(name: str) -> None:
    deployment = pool(name)
    prompt, cached, output = mix_of("chat", 2000)

    def estimate(each: Deployment = deployment, factor: int = 1, answers: int = 1) -> float:
        mix = request_mix(factor * prompt, factor * cached, answers * output, each.window)
        return saturated_requests_per_s(each, mix)

    assert estimate(factor=2) < estimate()
    assert estimate(answers=2) < estimate()
    fewer = dataclasses.replace(deployment, max_sequences=deployment.max_sequences // 4)
    assert estimate(fewer) < estimate()
    kv = dataclasses.replace(deployment.kv, tokens=deployment.kv.tokens // 64)
    assert estimate(dataclasses.replace(deployment, kv=kv)) < estimate()


# The bound


@st.composite
def work(draw: st.DrawFn, proportional: bool = False) -> tuple[Deployment, Lengths, Lengths, Lengths]:
    """Return a replica with any step times, small limits and memory, and requests that it can hold."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 60))
    prompt = generator.integers(1, 80, count)
    output = np.where(generator.random(count) < 0.2, 1, generator.integers(1, 60, count))
    cached = np.zeros(count, np.int64)
    sequences, budget = draw(st.integers(1, 8)), draw(st.integers(1, 60))
    memory, window, charge = draw(st.integers(145, 600)), draw(st.sampled_from([0, 10, 100])), draw(st.integers(0, 5))
    tokens = np.arange(budget + sequences + 1)
    times = StepTime(
        1e-3 * generator.random(len(tokens)) * (1.0 + draw(st.sampled_from([0.0, 1.0])) * tokens),
        1e-3 * generator.random(sequences + 1) * (np.arange(sequences + 1) > 0),
        *(10.0 ** generator.uniform(-8, -5, 4)).tolist(),
    )
    if proportional:
        budget, memory, window = 10_000, 10**6, 0
        steps = np.arange(budget + sequences + 1, dtype=np.float64)
        times = dataclasses.replace(times, linear_s=1e-4 * steps, sequence_s=2e-4 * steps[: sequences + 1])
    else:
        cached = np.where(generator.random(count) < 0.5, 0, (prompt - 1) * generator.random(count)).astype(np.int64)
    real = pool("dense")
    kv = dataclasses.replace(real.kv, tokens=memory, group_tokens=memory, sequence_charge=charge)
    deployment = dataclasses.replace(
        real,
        kv=kv,
        max_sequences=sequences,
        step_token_budget=budget,
        admission_headroom=1,
        window=window,
        step_time=times,
    )
    return deployment, prompt, cached, output


@settings(max_examples=200)
@given(case=work(), gap_ns=st.sampled_from([0, 10**5, 10**8]), stop_ns=st.sampled_from([10**7, 10**8, 10**12]))
def test_no_schedule_beats_the_bound(
    case: tuple[Deployment, Lengths, Lengths, Lengths], gap_ns: int, stop_ns: int
) -> None:
    """Whatever steps cost, a replica is busy at least as long as the bound of the requests that it finished."""
    deployment, prompt, cached, output = case
    outcome, busy_s = simulated(deployment, prompt, cached, output, gap_ns, stop_ns)
    done = outcome.requests["outcome"] == 1
    bound_s = least_busy_s(deployment, prompt[done], cached[done], output[done])
    assert bound_s <= busy_s * (1 + 1e-9) + 1e-9 * len(prompt)
    if stop_ns == 10**12:
        assert done.all()


@given(case=work(proportional=True))
def test_the_bound_is_exact_where_nothing_is_shared(case: tuple[Deployment, Lengths, Lengths, Lengths]) -> None:
    """Costs proportional to tokens, samples, contexts and pairs: then no batch can save anything."""
    deployment, prompt, cached, output = case
    _, busy_s = simulated(deployment, prompt, cached, output)
    assert busy_s == pytest.approx(least_busy_s(deployment, prompt, cached, output), rel=1e-6)


@pytest.mark.parametrize("name", ["dense", "sharded", "recurrent", "data-parallel"])
def test_the_bound_is_not_vacuous(name: str) -> None:
    """In a saturated run with long answers the bound is a good part of the busy time."""
    deployment = pool(name)
    prompt, cached, output = mix_of("decode", 3 * deployment.max_sequences)
    _, busy_s = simulated(deployment, prompt, cached, output)
    assert 0.3 < least_busy_s(deployment, prompt, cached, output) / busy_s < 1.0


# Throughput can never exceed capacity, at any load

RATES = {"chat": 12, "voice": 8, "agent": 3, "documents": 1}


@pytest.fixture(scope="module", params=[1, 10, 100])
def loaded(request: pytest.FixtureRequest) -> tuple[int, Deployment, sim.Result]:
    """Return a built-in scenario at one, ten and a hundred times its load."""
    factor = int(request.param)
    changes = {f"traffic.{name}.rate": f"{rate * factor} requests/s" for name, rate in RATES.items()}
    changes |= {"duration": "2 min", "warm_up": "30 s", "drain": "0 s", "timeline_interval": "5 s"}
    scenario = sim.load("quickstart", {"alternatives": {}, "fleet.serving.replicas": 4, **changes})
    return factor, deploy(scenario)[0], sim.simulate(scenario)


def total(result: sim.Result, metric: str) -> float:
    rows = result.summary(metric, "all")
    return float(rows[rows["pool"] == "all"]["value"].iloc[0])


def test_throughput_never_exceeds_capacity(loaded: tuple[int, Deployment, sim.Result]) -> None:
    _, deployment, result = loaded
    timeline = result.timeline
    seconds = timeline["interval_end_s"] - timeline["interval_start_s"]
    assert seconds.sum() == pytest.approx(120.0)
    busy_s = float((timeline["busy_fraction"] * timeline["replicas"] * seconds).sum())
    finished = result.requests[result.requests["outcome"] == "finished"]
    prompt, cached, output = (
        finished[column].to_numpy() for column in ("prompt_tokens", "cached_tokens", "output_tokens")
    )
    assert least_busy_s(deployment, prompt, cached, output) <= busy_s <= 4 * 120.0 * (1 + 1e-9)
    # The estimate for what was finished: with a few percent for what the mean field leaves out.
    capacity = 4 * saturated_requests_per_s(deployment, request_mix(prompt, cached, output, deployment.window))
    assert total(result, "requests_completed_per_s") <= 1.05 * capacity


def test_overload_is_flagged_and_shows_what_was_offered_and_what_was_done(
    loaded: tuple[int, Deployment, sim.Result],
) -> None:
    factor, _, result = loaded
    offered, completed = total(result, "requests_offered_per_s"), total(result, "requests_completed_per_s")
    hour = 1.3  # rates are means over a day; chat and voice are busier at the hour of the scenario
    assert offered == pytest.approx(24 * factor * hour, rel=0.15)
    raised = {flag.name for flag in result.flags}
    counts = [total(result, f"requests_{name}") for name in ("offered", "finished", "unfinished", "rejected")]
    assert counts[0] == sum(counts[1:])
    latency = result.latency().set_index("class").loc["all"]
    if factor == 1:
        assert not {"saturated", "not_converged"} & raised
        assert completed == pytest.approx(offered, rel=0.05)
        assert np.isfinite(latency["ttft_p99_s"])
        return
    assert {"saturated", "not_converged"} <= raised
    assert completed < 0.3 * offered
    assert total(result, "output_tokens_completed_per_s") < 0.3 * total(result, "output_tokens_offered_per_s")
    assert total(result, "load_factor") == pytest.approx(0.61 * factor, rel=0.15)
    message = next(flag.message for flag in result.flags if flag.name == "saturated")
    assert f"{total(result, 'load_factor'):.4g} times the capacity" in message
    # Most requests never get a token: every percentile from the median on is infinite, and says why.
    for column in ("ttft_p50_s", "ttft_p99_s", "e2e_p50_s", "e2e_p99_s"):
        assert latency[column] == np.inf
    rows = result.summary("e2e_s", "all")
    assert rows["note"].str.contains("were not served and count as infinite").all()
    table = result.requests
    late = table[table["arrival_s"] >= 30.0]
    waited = late["finished_s"].isna().mean()
    assert waited > 0.6
    assert total(result, "goodput_requests_fraction") <= 1 - waited


def test_ten_times_more_overload_does_not_serve_more() -> None:
    """Beyond saturation the queue decides nothing: throughput is the same to a few percent."""
    deployment = pool("dense")
    prompt, cached, output = mix_of("chat", 20_000)
    estimate = saturated_requests_per_s(deployment, request_mix(prompt, cached, output))
    done = []
    for load in (10, 100):
        outcome, _ = simulated(deployment, prompt, cached, output, int(1e9 / estimate / load), 120 * 10**9)
        done.append(int((outcome.requests["outcome"] == 1).sum()))
    assert done[1] == pytest.approx(done[0], rel=0.03)
    assert done[0] < 120 * estimate * 1.02
