"""Prefix hits: what is cached, its exact mean, and that the last token is always computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sim.demand.lengths import mean_length, sample_lengths
from sim.demand.prefix import mean_cached, sample_cached
from sim.demand.streams import stream
from sim.specs.distributions import LengthDistribution
from sim.specs.workload import Prefix

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
