"""Prefix hits: what is cached, its exact mean, and that the last token is always computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sim.demand.generate import generate_class
from sim.demand.lengths import length_table, mean_length, sample_lengths
from sim.demand.prefix import (
    draw_groups,
    first_of_group,
    ideal_hit_fraction,
    mean_cached,
    popularity_table,
    sample_cached,
    shared_lengths,
)
from sim.demand.streams import stream
from sim.specs.distributions import LengthDistribution
from sim.specs.prefixes import PopularitySpec, Prefix
from sim.specs.workload import WorkloadSpec

OURS = {"source": ["assumption"], "confidence": "assumption"}
PROMPT: LengthDistribution = TypeAdapter(LengthDistribution).validate_python(
    {"distribution": "gamma", "shape": 1.3, "scale": "800 tokens", "minimum": "1 tokens", "maximum": "9000 tokens"}
    | OURS
)


def prefix(raw: dict[str, object]) -> Prefix:
    spec: Prefix = TypeAdapter(Prefix).validate_python(raw)
    return spec


def hit(fraction: float) -> Prefix:
    return prefix({"kind": "hit_fraction", "fraction": {"value": fraction} | OURS})


NEW_TOKENS = prefix(
    {
        "kind": "uncached_lengths",
        "uncached_tokens": {
            "distribution": "lognormal_mixture",
            "components": [{"weight": 1.0, "mu": 6.0, "sigma": 1.5}],
            "minimum": "5 tokens",
            "maximum": "20000 tokens",
        }
        | OURS,
    }
)


@given(fraction=st.floats(0.0, 1.0), prompts=st.lists(st.integers(1, 10**6), min_size=1, max_size=20))
def test_a_hit_fraction_finds_its_share_but_never_the_last_token(fraction: float, prompts: list[int]) -> None:
    prompt = np.array(prompts, dtype=np.int64)
    cached = sample_cached(hit(fraction), prompt, stream(1))
    assert np.all((cached >= 0) & (cached < prompt))
    assert np.all(np.abs(cached - np.minimum(fraction * prompt, prompt - 1.0)) <= 1.0)


def test_whole_shares_are_exact() -> None:
    prompt = np.array([100, 50, 1, 3], dtype=np.int64)
    assert sample_cached(hit(0.29), prompt, stream(1)).tolist() == [29, 14, 0, 0]
    assert sample_cached(hit(1.0), prompt, stream(1)).tolist() == [99, 49, 0, 2]
    assert sample_cached(hit(0.0), prompt, stream(1)).tolist() == [0, 0, 0, 0]


def test_new_tokens_are_what_is_not_cached() -> None:
    assert NEW_TOKENS.kind == "uncached_lengths"
    prompt = sample_lengths(PROMPT, 50_000, stream(2, "prompt"))
    cached = sample_cached(NEW_TOKENS, prompt, stream(2, "prefix"))
    new = sample_lengths(NEW_TOKENS.uncached_tokens, prompt.size, stream(2, "prefix"))
    assert np.array_equal(prompt - cached, np.minimum(new, prompt))
    assert cached.min() == 0
    assert np.all(cached < prompt)
    assert np.any(new > prompt)


@pytest.mark.parametrize("spec", [None, hit(0.0), hit(0.62), hit(1.0), NEW_TOKENS])
def test_the_exact_mean_is_the_mean_of_the_samples(spec: Prefix | None) -> None:
    prompt = sample_lengths(PROMPT, 400_000, stream(3, "prompt"))
    cached = sample_cached(spec, prompt, stream(3, "prefix"))
    half_width = 4.0 * cached.std() / np.sqrt(cached.size)
    assert half_width < 0.01 * prompt.mean()
    assert mean_cached(spec, PROMPT) == pytest.approx(cached.mean(), abs=half_width + 1e-9)


def test_no_prefix_and_a_full_hit_bound_the_mean() -> None:
    assert mean_cached(None, PROMPT) == 0.0
    assert mean_cached(hit(1.0), PROMPT) == pytest.approx(mean_length(PROMPT) - 1.0)


def popularity(groups: int, exponent: float) -> PopularitySpec:
    return PopularitySpec.model_validate({"groups": groups, "exponent": exponent} | OURS)


def test_popularity_goes_as_a_power_of_the_rank() -> None:
    shares = np.diff(popularity_table(popularity(1000, 0.8)), prepend=0.0)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] / shares[99] == pytest.approx(100**0.8)
    uniform = np.diff(popularity_table(popularity(4, 0.0)), prepend=0.0)
    assert uniform == pytest.approx(0.25)
    assert draw_groups(popularity_table(popularity(4, 0.0)), np.array([0.0, 0.249, 0.25, 0.999])).tolist() == [
        0,
        0,
        1,
        3,
    ]


@given(groups=st.integers(1, 300))
def test_lengths_of_groups_are_spread_over_the_distribution_and_stay_when_groups_are_added(groups: int) -> None:
    table = length_table(PROMPT)
    lengths = shared_lengths(table, groups)
    assert (lengths == shared_lengths(table, 2 * groups)[:groups]).all()
    ranks = np.sort(table.cumulative[lengths - table.minimum])
    even = (np.arange(groups) + 0.5) / groups
    # the discrepancy of van der Corput's sequence is at most (log2 n + 2) / n
    assert np.abs(ranks - even).max() <= (np.log2(groups) + 2.5) / groups


def shared(**changes: object) -> WorkloadSpec:
    documents = {"kind": "shared", "popularity": {"groups": 50, "exponent": 0.8} | OURS}
    fixed = {"distribution": "fixed", "tokens": "20 tokens"} | OURS
    lengths = PROMPT.model_dump(mode="json")
    lengths |= {"scale": "800 tokens", "minimum": "1 tokens", "maximum": "9000 tokens"}
    return WorkloadSpec.model_validate(
        {
            "kind": "workload", "name": "w", "title": "w", "traffic_class": "continuous",
            "rate": {"value": "5 requests/s"} | OURS, "arrivals": {"process": "poisson"},
            "prompt_tokens": fixed, "output_tokens": fixed, "prefix": documents | {"tokens": lengths} | changes,
        }
    )  # fmt: skip


def test_requests_of_a_document_begin_with_all_of_it_and_find_it_from_the_second_on() -> None:
    trace = generate_class(shared(), 5.0, 400.0, 0.0, 1, "docs")
    group, length = np.asarray(trace.prefix_group), np.asarray(trace.prefix_tokens)
    assert (trace.prompt_tokens == length + 20).all()
    for number in np.unique(group):
        mine = group == number
        assert np.unique(length[mine]).size == 1
        assert trace.cached_tokens[mine].tolist() == [0, *length[mine][1:]]
    shares = np.bincount(group, minlength=50) / trace.requests
    expected = np.diff(popularity_table(popularity(50, 0.8)), prepend=0.0)
    assert np.abs(shares - expected).max() < 4.0 * np.sqrt(expected.max() / trace.requests)
    assert ideal_hit_fraction(trace) == 1.0 - (length[first_of_group(group)].sum() + 20 * trace.requests) / (
        trace.prompt_tokens.sum()
    )


def test_some_requests_have_no_document() -> None:
    spec = shared(share_of_requests={"value": 0.3} | OURS)
    trace = generate_class(spec, 5.0, 800.0, 0.0, 1, "docs")
    group = np.asarray(trace.prefix_group)
    assert (trace.prompt_tokens[group < 0] == 20).all()
    assert (group >= 0).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / trace.requests))
    assert spec.prefix is not None
    assert mean_cached(spec.prefix, spec.prompt_tokens) == pytest.approx(
        0.3 * mean_cached(shared().prefix, spec.prompt_tokens)
    )


def test_the_mean_of_what_is_shared_is_that_of_the_draws() -> None:
    spec = shared()
    trace = generate_class(spec, 50.0, 2000.0, 0.0, 1, "docs")
    tokens = np.asarray(trace.prefix_tokens)
    half_width = 4.0 * tokens.std() / np.sqrt(tokens.size)
    assert mean_cached(spec.prefix, spec.prompt_tokens) == pytest.approx(tokens.mean(), abs=half_width)
    assert half_width < 0.03 * tokens.mean()
