"""KV memory against measured capacities, and how layouts share it."""

from __future__ import annotations

import dataclasses
import math

import pytest

from sim.serving.kv_cache import Formats, kv_capacity, kv_elements_per_accelerator, weight_bytes_per_accelerator
from sim.serving.parameter_counts import parameter_counts, weight_bytes
from sim.serving.roofline import kv_elements_per_token
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat
from sim.specs.library import Library, builtin_root
from sim.specs.model import ArchitectureSpec

LIBRARY = Library((builtin_root(),))
GIB = 2.0**30
FORMATS = Formats(
    NumberFormat.FP8, NumberFormat.FP8, 0.0, NumberFormat.BF16, NumberFormat.FP8, NumberFormat.FP8
)  # fmt: skip


def architecture(name: str) -> ArchitectureSpec:
    return LIBRARY.model(name).spec.architecture


def test_latent_kv_is_repeated_as_a_real_engine_reports() -> None:
    """vLLM log of Kimi-K2-Thinking at TP 8 on H200: 46.80 GiB per accelerator hold 715,072 tokens."""
    layout = ParallelismSpec(tensor=8)
    probe = kv_capacity(architecture("kimi-k2-thinking"), FORMATS, layout, 0.0, 1.0, 0.0, 1)
    capacity = kv_capacity(
        architecture("kimi-k2-thinking"), FORMATS, layout, probe.weight_bytes + 46.80 * GIB, 1.0, 0.0, 1
    )
    assert capacity.tokens == pytest.approx(715_072, rel=2e-4)


@pytest.mark.parametrize(("tensor", "share"), [(1, 1.0), (2, 0.5), (8, 0.125), (16, 0.125)])
def test_grouped_query_heads_are_split_until_each_has_one(tensor: int, share: float) -> None:
    model = architecture("llama-3.1-70b")
    held = sum(kv_elements_per_accelerator(group, tensor) for group in model.attention)
    assert held == share * kv_elements_per_token(model)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-120b", "deepseek-r1", "qwen3.5-9b"])
def test_one_accelerator_holds_all_weights(name: str) -> None:
    formats = dataclasses.replace(FORMATS, experts=NumberFormat.FP4, expert_scale_bytes=1 / 32)
    whole = weight_bytes(parameter_counts(architecture(name)), formats.weights, formats.experts, 1 / 32)
    assert weight_bytes_per_accelerator(architecture(name), formats, ParallelismSpec()) == pytest.approx(whole)


def test_data_parallel_attention_multiplies_latent_kv() -> None:
    """Eight groups with their own sequences hold nearly eight times the tokens of one group of eight."""
    model = architecture("deepseek-r1")
    arguments = (298e9, 0.9, 4 * GIB, 16)
    together = kv_capacity(model, FORMATS, ParallelismSpec(tensor=8), *arguments)
    apart = kv_capacity(model, FORMATS, ParallelismSpec(tensor=1, data=8, expert=8), *arguments)
    assert together.kv_bytes_per_token == apart.kv_bytes_per_token
    assert 6.0 < apart.tokens / together.tokens < 8.0


def test_capacity_counts_what_is_left() -> None:
    model = architecture("llama-3.1-8b")
    capacity = kv_capacity(model, FORMATS, ParallelismSpec(), 80 * GIB, 0.9, 4 * GIB, 16)
    left = 0.9 * 80 * GIB - capacity.weight_bytes - 4 * GIB
    assert capacity.free_bytes == pytest.approx(left)
    assert capacity.tokens == math.floor(left / 131_072)
    assert capacity.sequence_charge == 15
    assert kv_capacity(model, FORMATS, ParallelismSpec(), 8 * GIB, 0.9, 4 * GIB, 16).tokens < 0


@pytest.mark.parametrize(("name", "state_bytes"), [("gpt-oss-120b", 4_718_592), ("qwen3.5-9b", 51.5e6)])
def test_bounded_state_is_charged_per_sequence(name: str, state_bytes: float) -> None:
    model = architecture(name)
    capacity = kv_capacity(model, FORMATS, ParallelismSpec(), 280 * GIB, 0.9, 4 * GIB, 1)
    assert capacity.sequence_charge * capacity.kv_bytes_per_token == pytest.approx(state_bytes, rel=2e-3)
