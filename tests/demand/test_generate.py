"""Synthetic classes: reproducible, independent of each other, and true to rate, profile and lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.demand.generate import generate_class
from sim.demand.lengths import mean_length
from sim.demand.prefix import mean_cached
from sim.demand.streams import stream
from sim.demand.trace import Trace, merge_traces
from sim.specs.workload import WorkloadSpec

OURS = {"source": ["assumption"], "confidence": "assumption"}
PROFILE = [0.0] * 6 + [1.0] * 6 + [3.0] * 6 + [2.0] * 6
COLUMNS = ("arrival_ns", "prompt_tokens", "cached_tokens", "output_tokens")


def workload(**changes: Any) -> WorkloadSpec:
    raw: dict[str, Any] = {
        "kind": "workload",
        "name": "test",
        "title": "test",
        "traffic_class": "realtime",
        "rate": {"value": "1 requests/s"} | OURS,
        "arrivals": {"process": "poisson"},
        "prompt_tokens": {
            "distribution": "gamma", "shape": 1.2, "scale": "500 tokens",
            "minimum": "1 tokens", "maximum": "4000 tokens",
        } | OURS,
        "output_tokens": {
            "distribution": "lognormal_mixture", "components": [{"weight": 1.0, "mu": 4.0, "sigma": 0.8}],
            "minimum": "1 tokens", "maximum": "2000 tokens",
        } | OURS,
        "prefix": {
            "kind": "uncached_lengths",
            "uncached_tokens": {"distribution": "quantile_table", "quantiles": {0: "5 tokens", 1: "900 tokens"}} | OURS,
        },
    }  # fmt: skip
    return WorkloadSpec.model_validate(raw | changes)


def same(first: Trace, second: Trace) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in COLUMNS)


def content(trace: Trace) -> bytes:
    return b"".join(getattr(trace, name).tobytes() for name in COLUMNS)


def test_the_same_seed_gives_the_same_bytes() -> None:
    draws = [generate_class(workload(), 5.0, 600.0, 0.0, 3, "chat", 1) for _ in range(2)]
    assert content(draws[0]) == content(draws[1])
    assert draws[0].classes == ("chat",)


@pytest.mark.parametrize(("seed", "name", "replication"), [(4, "chat", 1), (3, "voice", 1), (3, "chat", 2)])
def test_seed_class_and_replication_each_draw_anew(seed: int, name: str, replication: int) -> None:
    first = generate_class(workload(), 5.0, 600.0, 0.0, 3, "chat", 1)
    other = generate_class(workload(), 5.0, 600.0, 0.0, seed, name, replication)
    count = min(first.requests, other.requests)
    for column in COLUMNS:
        assert not np.array_equal(getattr(first, column)[:count], getattr(other, column)[:count])


def test_a_class_does_not_feel_the_rate_of_another() -> None:
    def chat_beside(rate: float) -> Trace:
        chat = generate_class(workload(), 5.0, 600.0, 0.0, 3, "chat")
        merged = merge_traces([generate_class(workload(), rate, 600.0, 0.0, 3, "agent"), chat])
        mine = merged.class_index == merged.classes.index("chat")
        return Trace(("chat",), *(getattr(merged, column)[mine] for column in
                     ("arrival_ns", "class_index", "prompt_tokens", "cached_tokens", "output_tokens")))  # fmt: skip

    assert same(chat_beside(1.0), chat_beside(30.0))


def test_requests_keep_their_lengths_when_rate_profile_or_duration_change() -> None:
    profiled = workload(arrivals={"process": "poisson", "profile": {"multipliers": PROFILE} | OURS})
    short = generate_class(workload(), 2.0, 600.0, 0.0, 3, "chat")
    for other in (
        generate_class(workload(), 2.0, 1800.0, 0.0, 3, "chat"),
        generate_class(workload(), 4.0, 600.0, 0.0, 3, "chat"),
        generate_class(profiled, 4.0, 3600.0, 12.0, 3, "chat"),
    ):
        assert other.requests > short.requests
        for column in COLUMNS[1:]:
            assert np.array_equal(getattr(other, column)[: short.requests], getattr(short, column))
    longer = generate_class(workload(), 2.0, 1800.0, 0.0, 3, "chat").window(0.0, 600.0)
    assert same(longer, short)


def test_changing_the_outputs_leaves_all_else() -> None:
    fixed = {"distribution": "fixed", "tokens": "7 tokens"} | OURS
    first = generate_class(workload(), 5.0, 600.0, 0.0, 3, "chat")
    second = generate_class(workload(output_tokens=fixed), 5.0, 600.0, 0.0, 3, "chat")
    assert set(second.output_tokens.tolist()) == {7}
    for column in COLUMNS[:3]:
        assert np.array_equal(getattr(first, column), getattr(second, column))


def test_every_part_has_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | int, ...]] = []

    def recorded(seed: int, *names: str | int) -> np.random.Generator:
        asked.append((seed, *names))
        return stream(seed, *names)

    monkeypatch.setattr("sim.demand.generate.stream", recorded)
    generate_class(workload(), 5.0, 60.0, 0.0, 3, "chat", 2)
    assert asked == [(3, "chat", 2, part) for part in ("arrivals", "prompt", "output", "prefix")]


def test_arrivals_lengths_and_prefixes_are_independent() -> None:
    trace = generate_class(workload(), 50.0, 2000.0, 0.0, 3, "chat")
    gaps = np.diff(trace.arrival_ns, prepend=0).astype(np.float64)
    new = (trace.prompt_tokens - trace.cached_tokens)[trace.cached_tokens > 0]
    pairs = [(gaps, trace.prompt_tokens), (gaps, trace.output_tokens), (trace.prompt_tokens, trace.output_tokens)]
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < 4.0 / np.sqrt(trace.requests)
    long_prompts = trace.prompt_tokens[trace.cached_tokens > 0] > 900
    assert abs(np.corrcoef(trace.prompt_tokens[trace.prompt_tokens > 900], new[long_prompts])[0, 1]) < 0.03


def test_counts_and_means_are_those_of_the_spec() -> None:
    spec = workload()
    trace = generate_class(spec, 50.0, 2000.0, 0.0, 3, "chat")
    assert trace.requests == pytest.approx(100_000, abs=4 * np.sqrt(100_000))
    for column, mean in (
        ("prompt_tokens", mean_length(spec.prompt_tokens)),
        ("output_tokens", mean_length(spec.output_tokens)),
        ("cached_tokens", mean_cached(spec.prefix, spec.prompt_tokens)),
    ):
        values = getattr(trace, column)
        half_width = 4.0 * values.std() / np.sqrt(values.size)
        assert half_width < 0.03 * mean
        assert values.mean() == pytest.approx(mean, abs=half_width)
    assert np.all(trace.cached_tokens < trace.prompt_tokens)
    assert np.all((trace.arrival_ns >= 0) & (trace.arrival_ns < 2000 * 10**9))


@pytest.mark.parametrize(
    "arrivals", [{"process": "poisson"}, {"process": "gamma_renewal", "cv": {"value": 2.0} | OURS}]
)
def test_the_profile_shares_out_the_day(arrivals: dict[str, Any]) -> None:
    profiled = workload(arrivals=arrivals | {"profile": {"multipliers": PROFILE} | OURS})
    trace = generate_class(profiled, 2.0, 86_400.0, 6.0, 3, "chat")
    counts = np.bincount(trace.arrival_ns // (6 * 3600 * 10**9), minlength=4)
    expected = 2.0 * 86_400 * np.array([1.0, 3.0, 2.0, 0.0]) / 6.0
    spread = 2.0 if arrivals["process"] == "gamma_renewal" else 1.0
    assert np.all(np.abs(counts - expected) <= 4.0 * spread * np.sqrt(expected))
    assert counts[3] == 0


def test_gamma_renewal_reaches_the_trace() -> None:
    bursty = workload(arrivals={"process": "gamma_renewal", "cv": {"value": 3.0} | OURS})
    gaps = np.diff(generate_class(bursty, 20.0, 5000.0, 0.0, 3, "chat").arrival_ns)
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.04)


def test_a_quiet_class_may_have_no_request() -> None:
    profiled = workload(arrivals={"process": "poisson", "profile": {"multipliers": PROFILE} | OURS})
    assert generate_class(profiled, 100.0, 3600.0, 0.0, 3, "chat").requests == 0
    assert generate_class(workload(), 0.0, 3600.0, 0.0, 3, "chat").requests == 0
