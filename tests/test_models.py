"""The shipped models: complete, sourced, and computed numbers equal to what vendors state and the fact tables hold."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import yaml

from sim.serving.parameter_counts import ParameterCounts, parameter_counts, weight_bytes
from sim.serving.roofline import experts_touched, kv_bytes_per_token, state_bytes_per_sequence
from sim.specs.hardware import NumberFormat
from sim.specs.library import Library
from sim.specs.model import GroupedQueryAttention, ModelSpec
from sim.specs.spec import ASSUMPTION_SOURCE, Confidence

ROOT: Final = Path(__file__).parents[1]
FACTS: Final = ROOT.parent / "shared" / "facts" / "models.yaml"
GIB: Final = 2.0**30
BF16: Final = 2.0

NAMES: Final = (
    "deepseek-r1", "deepseek-v3", "gemma-3-27b", "glm-4.5-355b-a32b", "glm-4.5-air-106b-a12b", "glm-4.6-355b-a32b",
    "gpt-oss-120b", "gpt-oss-20b", "kimi-k2", "kimi-k2-thinking", "llama-3.1-405b", "llama-3.1-70b", "llama-3.1-8b",
    "llama-3.3-70b", "llama-4-maverick-400b-a17b", "llama-4-scout-109b-a17b", "minimax-m2", "mistral-large-3-675b-a41b",
    "mistral-small-3-24b", "mistral-small-4-119b-a6b", "mixtral-8x7b", "qwen3-14b", "qwen3-235b-a22b", "qwen3-30b-a3b",
    "qwen3-32b", "qwen3-8b", "qwen3.5-122b-a10b", "qwen3.5-27b", "qwen3.5-35b-a3b", "qwen3.5-397b-a17b", "qwen3.5-9b",
)  # fmt: skip

# The fact table has no number here; 36 layers x 8,192 tokens x 4,096 B are the 1,208 MB of its text.
WITHOUT_STATE_FACT: Final = ("llama-4-maverick-400b-a17b", "llama-4-scout-109b-a17b")
# Names that round: "1T" for 1,026 billion.
ROUNDED_NAMES: Final = ("kimi-k2", "kimi-k2-thinking")


@cache
def model(name: str) -> ModelSpec:
    return Library((ROOT,)).model(name).spec


def counts(name: str) -> ParameterCounts:
    return parameter_counts(model(name).architecture)


@cache
def all_facts() -> dict[str, Any]:
    if not FACTS.is_file():
        pytest.skip("no fact tables beside the checkout")
    return dict(yaml.safe_load(FACTS.read_text(encoding="utf-8")))


def fact(name: str, section: str, key: str) -> Any:
    return all_facts()["models"][name][section][key]["v"]


def test_the_library_holds_exactly_the_known_models() -> None:
    assert sorted(Library((ROOT,)).names("model")) == sorted(NAMES)


# --- what vendors state ---


@pytest.mark.parametrize("name", NAMES)
def test_computed_parameters_agree_with_the_vendor(name: str) -> None:
    stated = model(name).stated
    tolerance = 0.03 if name in ROUNDED_NAMES else 0.015
    assert counts(name).total == pytest.approx(stated.total_parameters.value, rel=tolerance)
    assert (stated.active_parameters is None) == (model(name).architecture.moe is None)
    if stated.active_parameters is not None:
        assert counts(name).active == pytest.approx(stated.active_parameters.value, rel=0.10)


@pytest.mark.parametrize("name", NAMES)
def test_computed_kv_and_state_agree_with_what_is_stated(name: str) -> None:
    architecture, stated = model(name).architecture, model(name).stated
    assert stated.kv_bytes_per_token is not None
    measured = stated.kv_bytes_per_token.confidence is Confidence.MEASURED
    tolerance = 1e-4 if measured else 0.0
    assert kv_bytes_per_token(architecture, BF16) == pytest.approx(stated.kv_bytes_per_token.value, rel=tolerance)
    state = state_bytes_per_sequence(architecture, BF16)
    assert (stated.state_bytes_per_sequence is None) == (state == 0.0)
    if stated.state_bytes_per_sequence is not None:
        tolerance = 1e-4 if name in WITHOUT_STATE_FACT else 0.0
        assert state == pytest.approx(stated.state_bytes_per_sequence.value, rel=tolerance)


def test_kv_bytes_agree_with_a_serving_log() -> None:
    # vLLM, Kimi-K2-Thinking on 8 H200: 46.80 GiB per accelerator hold 715,072 tokens.
    logged = 46.80 * GIB / 715_072
    assert kv_bytes_per_token(model("kimi-k2-thinking").architecture, BF16) == pytest.approx(logged, rel=1e-4)


@pytest.mark.parametrize(("name", "gibibytes"), [("gpt-oss-120b", 60.8)])
def test_weights_fill_the_published_checkpoint(name: str, gibibytes: float) -> None:
    # Published as 60.8 GB; at 4.25 bits per expert weight it can only be GiB.
    formats = model(name).formats
    assert formats.experts is not None
    assert formats.expert_scales is not None
    scales = formats.expert_scales.bytes_per_weight
    assert weight_bytes(counts(name), formats.weights, formats.experts, scales) / GIB == pytest.approx(
        gibibytes, rel=0.005
    )


# --- traps of single architectures ---


@pytest.mark.parametrize("name", NAMES)
def test_an_assumed_shape_is_marked_and_no_other(name: str) -> None:
    architecture = model(name).architecture
    assumed = name == "mistral-large-3-675b-a41b"
    assert (architecture.confidence is Confidence.ASSUMPTION) == assumed
    assert (ASSUMPTION_SOURCE in architecture.source) == assumed


def test_published_formats() -> None:
    fp8 = {name for name in NAMES if model(name).formats.weights is NumberFormat.FP8}
    assert fp8 == {
        "deepseek-r1", "deepseek-v3", "kimi-k2", "minimax-m2", "mistral-large-3-675b-a41b", "mistral-small-4-119b-a6b",
    }  # fmt: skip
    experts = {name: model(name).formats.experts for name in NAMES if model(name).formats.experts is not None}
    assert experts == {
        "gpt-oss-20b": NumberFormat.FP4,
        "gpt-oss-120b": NumberFormat.FP4,
        "kimi-k2-thinking": NumberFormat.INT4,
    }
    for name in experts:
        assert model(name).formats.expert_scales is not None


def test_windows_cover_the_published_share_of_layers() -> None:
    found = {}
    for name in NAMES:
        for group in model(name).architecture.attention:
            if isinstance(group, GroupedQueryAttention) and group.window is not None:
                found[name] = (group.window, group.layers, model(name).architecture.layers)
    assert found == {
        "gemma-3-27b": (1024, 52, 62),
        "gpt-oss-20b": (128, 12, 24),
        "gpt-oss-120b": (128, 18, 36),
        "llama-4-maverick-400b-a17b": (8192, 36, 48),
        "llama-4-scout-109b-a17b": (8192, 36, 48),
    }


# --- output lengths ---


@pytest.mark.parametrize("name", NAMES)
def test_output_lengths_are_plausible(name: str) -> None:
    for lengths in model(name).output_lengths.values():
        quantiles = lengths.quantiles
        assert 0.5 in quantiles
        # Markov: no distribution of positive lengths has a smaller mean for its quantiles.
        assert all(lengths.mean >= (1.0 - probability) * tokens for probability, tokens in quantiles.items())
        assert lengths.mean < max(quantiles.values())
        assert lengths.samples is not None
        if lengths.cap is None:
            assert lengths.censored == 0.0
        else:
            # Derived quantiles overshoot the cap a little; a quantile is at the cap exactly where answers are cut.
            assert max(quantiles.values()) <= 1.01 * lengths.cap
            for probability, tokens in quantiles.items():
                assert (tokens >= lengths.cap) == (probability >= 1.0 - lengths.censored)


@pytest.mark.parametrize("name", NAMES)
def test_output_lengths_are_in_the_fact_table(name: str) -> None:
    rows = [
        (row["mean"]["s"], row["mean"]["v"], row["p50"]["v"], row["p90"]["v"])
        for row in all_facts()["token_lengths"]
        if "p50" in row
    ]
    for task, lengths in model(name).output_lengths.items():
        if task == "production":  # from the workload facts
            continue
        (source,) = lengths.source
        assert (source, lengths.mean, lengths.quantiles[0.5], lengths.quantiles[0.9]) in rows


# --- the fact table, to its last digit ---


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_fact_table(name: str) -> None:
    computed = counts(name)
    assert computed.total == pytest.approx(fact(name, "params", "total_b") * 1e9, rel=1e-3)
    for key, parameters in (
        ("total_b", computed.total),
        ("active_b", computed.active),
        ("non_expert_b", computed.non_expert),
        ("routed_expert_b", computed.routed_experts),
    ):
        assert parameters == pytest.approx(fact(name, "params", key) * 1e9, abs=0.006e9), key


@pytest.mark.parametrize("name", NAMES)
def test_kv_and_state_are_those_of_the_fact_table(name: str) -> None:
    architecture = model(name).architecture
    assert kv_bytes_per_token(architecture, BF16) == fact(name, "kv", "bytes_per_token_bf16")
    assert kv_bytes_per_token(architecture, 1.0) == fact(name, "kv", "bytes_per_token_fp8")
    if name not in WITHOUT_STATE_FACT:
        assert state_bytes_per_sequence(architecture, BF16) == fact(name, "kv", "fixed_state_bytes_per_seq")


@pytest.mark.parametrize("name", NAMES)
def test_experts_touched_are_those_of_the_fact_table(name: str) -> None:
    moe = model(name).architecture.moe
    if moe is None:
        assert "experts_touched_fraction" not in all_facts()["models"][name]
        return
    fractions = all_facts()["models"][name]["experts_touched_fraction"]
    tokens = np.array(sorted(fractions))
    computed = experts_touched(moe.experts, moe.experts_per_token, tokens) / moe.experts
    # The table rounds to three decimals.
    np.testing.assert_allclose(computed, [fractions[count]["v"] for count in tokens], rtol=0, atol=5.1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_are_those_of_the_fact_table(name: str) -> None:
    architecture = model(name).architecture
    assert architecture.hidden_size == fact(name, "arch", "hidden_size")
    assert architecture.vocabulary == fact(name, "arch", "vocab")
    assert architecture.layers == fact(name, "arch", "layers")
    assert architecture.context_length == fact(name, "arch", "context_length")
