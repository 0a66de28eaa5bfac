"""The work of a model: enumerated matrices, counted operations, and laws that any shape must obey."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.parameter_counts import format_bytes, parameter_counts, weight_bytes
from sim.serving.roofline import (
    body_flops_per_token,
    decode_attention_flops_per_context_token,
    experts_touched,
    gated_delta_net_flops_per_token,
    kv_bytes_per_token,
    kv_elements_per_token,
    output_projection_flops_per_token,
    prefill_attention_flops_per_pair,
    recurrent_state_bytes_per_sequence,
    state_bytes_per_sequence,
    window_attention_flops_per_context_token,
    window_kv_bytes_per_token,
    window_prefill_attention_flops_per_pair,
    window_tokens,
)
from sim.specs.hardware import NumberFormat
from sim.specs.model import ArchitectureSpec

HIDDEN, VOCABULARY = 48, 1000
GQA: Final[dict[str, Any]] = {"kind": "gqa", "layers": 3, "query_heads": 6, "kv_heads": 2, "head_dim": 10}
MLA: Final[dict[str, Any]] = {
    "kind": "mla", "layers": 2, "query_heads": 5, "query_rank": 11, "kv_rank": 7, "nope_head_dim": 4,
    "rope_head_dim": 3, "value_head_dim": 6,
}  # fmt: skip
GDN: Final[dict[str, Any]] = {
    "kind": "gated_delta_net", "layers": 4, "key_heads": 3, "value_heads": 6, "head_dim": 5, "convolution_width": 4,
}  # fmt: skip
MOE: Final[dict[str, Any]] = {
    "experts": 8,
    "experts_per_token": 2,
    "intermediate_size": 13,
    "shared_intermediate_size": 9,
}

LINEAR_IN_LAYERS: tuple[Callable[[ArchitectureSpec], float], ...] = (
    lambda architecture: parameter_counts(architecture).attention,
    kv_elements_per_token,
    lambda architecture: window_kv_bytes_per_token(architecture, 2.0),
    recurrent_state_bytes_per_sequence,
    decode_attention_flops_per_context_token,
    window_attention_flops_per_context_token,
    prefill_attention_flops_per_pair,
    window_prefill_attention_flops_per_pair,
    gated_delta_net_flops_per_token,
)


def build(*attention: dict[str, Any], moe: dict[str, Any] | None = None, **changes: Any) -> ArchitectureSpec:
    """Return a network whose feed-forward blocks are dense, or all of them experts."""
    layers = sum(group["layers"] for group in attention)
    blocks = (
        {"dense": {"layers": layers, "intermediate_size": 17}} if moe is None else {"moe": {"layers": layers} | moe}
    )
    return ArchitectureSpec.model_validate(
        {
            "hidden_size": HIDDEN,
            "vocabulary": VOCABULARY,
            "context_length": 4096,
            "attention": attention,
            "source": ("assumption",),
            "confidence": "assumption",
        }
        | blocks
        | changes
    )


def elements(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


groups = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("gqa"),
            "layers": st.integers(1, 5),
            "query_heads": st.integers(1, 8),
            "kv_heads": st.integers(1, 4),
            "head_dim": st.integers(1, 16),
            "window": st.sampled_from([None, 64]),
            "output_gate": st.booleans(),
            "biased": st.booleans(),
        }
    ),
    st.fixed_dictionaries({"kind": st.just("mla"), "layers": st.integers(1, 5)}).map(lambda drawn: MLA | drawn),
    st.fixed_dictionaries({"kind": st.just("gated_delta_net"), "layers": st.integers(1, 5)}).map(
        lambda drawn: GDN | drawn
    ),
)


# --- parameters: the matrices of reference implementations, listed by shape ---

QUERIES, KEYS = (HIDDEN, 60), (HIDDEN, 20)


@pytest.mark.parametrize(
    ("group", "shapes"),
    [
        (GQA, [QUERIES, KEYS, KEYS, (60, HIDDEN)]),
        (GQA | {"output_gate": True}, [QUERIES, QUERIES, KEYS, KEYS, (60, HIDDEN)]),
        (GQA | {"biased": True}, [QUERIES, KEYS, KEYS, (60, HIDDEN), (60,), (20,), (20,), (HIDDEN,)]),
        (
            MLA,  # query down, norm, up; KV and rope down, norm; keys and values up; output
            [(HIDDEN, 11), (11,), (11, 5 * 7), (HIDDEN, 7 + 3), (7,), (7, 5 * 4), (7, 5 * 6), (5 * 6, HIDDEN)],
        ),
        (
            MLA | {"query_rank": 0},
            [(HIDDEN, 5 * 7), (HIDDEN, 7 + 3), (7,), (7, 5 * 4), (7, 5 * 6), (5 * 6, HIDDEN)],
        ),
        (
            GDN,  # queries, keys, values, gate; beta, alpha; convolution of the first three; decay, step, norm; output
            [
                (HIDDEN, 15), (HIDDEN, 15), (HIDDEN, 30), (HIDDEN, 30), (HIDDEN, 6), (HIDDEN, 6),
                (15 + 15 + 30, 4), (6,), (6,), (5,), (30, HIDDEN),
            ],
        ),
    ],
)  # fmt: skip
def test_attention_parameters_are_the_elements_of_its_matrices(
    group: dict[str, Any], shapes: list[tuple[int, ...]]
) -> None:
    assert parameter_counts(build(group)).attention == group["layers"] * elements(shapes)


def test_feed_forward_parameters_are_the_elements_of_their_matrices() -> None:
    layers = GQA["layers"]
    dense = parameter_counts(build(GQA))
    assert dense.dense == layers * elements([(HIDDEN, 17)] * 2 + [(17, HIDDEN)])
    assert (dense.routed_experts, dense.active_routed_experts, dense.shared_experts, dense.router) == (0, 0, 0, 0)

    plain = parameter_counts(build(GQA, moe=MOE))
    expert = elements([(HIDDEN, 13)] * 2 + [(13, HIDDEN)])
    assert plain.dense == 0
    assert plain.routed_experts == layers * 8 * expert
    assert plain.active_routed_experts == layers * 2 * expert
    assert plain.shared_experts == layers * elements([(HIDDEN, 9)] * 2 + [(9, HIDDEN)])
    assert plain.router == layers * HIDDEN * 8

    biased = parameter_counts(build(GQA, moe=MOE | {"biased": True}))
    assert biased.routed_experts - plain.routed_experts == layers * 8 * elements([(13,), (13,), (HIDDEN,)])
    assert biased.router - plain.router == layers * 8


def test_embeddings_count_once_where_they_are_tied_and_only_one_side_is_active() -> None:
    apart, tied = parameter_counts(build(GQA)), parameter_counts(build(GQA, tied_embeddings=True))
    matrix = VOCABULARY * HIDDEN
    assert (apart.embedding, apart.output_projection) == (matrix, matrix)
    assert apart.total - tied.total == matrix
    assert apart.active == tied.active == tied.total
    assert apart.norms == (2 * 3 + 1) * HIDDEN


def test_total_and_active_differ_by_what_a_token_does_not_visit() -> None:
    counts = parameter_counts(build(GQA, MLA, GDN, moe=MOE))
    assert counts.total - counts.active == counts.embedding + counts.routed_experts * (8 - 2) // 8
    assert counts.total - counts.non_expert == counts.routed_experts
    parts = (counts.embedding, counts.output_projection, counts.attention, counts.dense, counts.routed_experts)
    assert counts.total == sum(parts) + counts.shared_experts + counts.router + counts.norms


# --- FLOPs: counted operation by operation ---


def products(*shapes: tuple[int, int, int]) -> float:
    """FLOPs of matrix products (rows, inner, columns)."""
    return sum(2.0 * math.prod(shape) for shape in shapes)


def test_attention_flops_are_those_of_its_matrix_products() -> None:
    context = 100
    windowed = GQA | {"window": 64, "layers": 7}
    architecture = build(GQA, MLA, windowed, GDN)
    per_head = products((1, 10, context), (1, context, 10))  # scores, then the weighted sum of values
    latent = products((1, 7 + 3, context), (1, context, 7))
    decompressed = products((1, 4 + 3, context), (1, context, 6))
    assert context * decode_attention_flops_per_context_token(architecture) == 3 * 6 * per_head + 2 * 5 * latent
    assert context * prefill_attention_flops_per_pair(architecture) == 3 * 6 * per_head + 2 * 5 * decompressed
    assert context * window_attention_flops_per_context_token(architecture) == 7 * 6 * per_head
    assert context * window_prefill_attention_flops_per_pair(architecture) == 7 * 6 * per_head


def test_linear_attention_flops_are_counted_in_its_recurrence() -> None:
    dim, width, operations = GDN["head_dim"], GDN["convolution_width"], 0
    state, key, value, query = np.ones((dim, dim)), np.ones(dim), np.ones(dim), np.ones(dim)
    for _ in range(GDN["value_heads"]):
        read = np.zeros(dim)
        for row, column in itertools.product(range(dim), repeat=2):
            state[row, column] *= 0.9
            operations += 1
            read[row] += state[row, column] * key[column]
            operations += 2
        for row, column in itertools.product(range(dim), repeat=2):
            state[row, column] += (value[row] - read[row]) * key[column]
            operations += 2
            _ = state[row, column] * query[column]
            operations += 2
    channels = (2 * GDN["key_heads"] + GDN["value_heads"]) * dim
    operations += channels * width * 2
    assert gated_delta_net_flops_per_token(build(GDN)) == GDN["layers"] * operations
    assert gated_delta_net_flops_per_token(build(GQA, MLA)) == 0.0


def test_matmul_flops_are_two_per_active_parameter_without_norms() -> None:
    counts = parameter_counts(build(MLA, GDN, moe=MOE))
    assert output_projection_flops_per_token(counts) == 2.0 * VOCABULARY * HIDDEN
    assert body_flops_per_token(counts) + output_projection_flops_per_token(counts) == 2.0 * (
        counts.active - counts.norms
    )
    blocks = products(*[(1, HIDDEN, 2 * 13 + 9)] * 3, (1, HIDDEN, 8)) * 6
    assert body_flops_per_token(counts) - 2.0 * counts.attention == blocks


# --- KV and state ---


def test_kv_elements_and_states_of_small_networks() -> None:
    windowed = GQA | {"window": 64, "layers": 7}
    architecture = build(GQA, MLA, windowed, GDN)
    assert kv_elements_per_token(architecture) == 3 * 2 * 2 * 10 + 2 * (7 + 3)
    assert kv_bytes_per_token(architecture, 0.5) == 0.5 * kv_elements_per_token(architecture)
    assert window_kv_bytes_per_token(architecture, 0.5) == 7 * 2 * 2 * 10 * 0.5
    assert window_tokens(architecture) == 64
    state = 4 * (6 * 5 * 5 * 4 + (2 * 3 + 6) * 5 * (4 - 1) * 2)  # matrices in fp32, convolution inputs in bf16
    assert recurrent_state_bytes_per_sequence(architecture) == state
    assert state_bytes_per_sequence(architecture, 0.5) == 64 * 7 * 20 + state


@given(st.integers(1, 4096), st.sampled_from([0.5, 1.0, 2.0]))
def test_inside_its_window_a_layer_costs_what_a_layer_without_window_costs(window: int, element_bytes: float) -> None:
    whole, windowed = build(GQA), build(GQA | {"window": window})
    assert window_kv_bytes_per_token(windowed, element_bytes) == kv_bytes_per_token(whole, element_bytes)
    assert state_bytes_per_sequence(windowed, element_bytes) == window * kv_bytes_per_token(whole, element_bytes)
    assert window_attention_flops_per_context_token(windowed) == decode_attention_flops_per_context_token(whole)
    assert window_prefill_attention_flops_per_pair(windowed) == prefill_attention_flops_per_pair(whole)
    assert parameter_counts(windowed) == parameter_counts(whole)
    assert kv_bytes_per_token(windowed, element_bytes) == 0.0
    assert decode_attention_flops_per_context_token(windowed) == 0.0
    assert (window_tokens(whole), state_bytes_per_sequence(whole, element_bytes)) == (0, 0.0)


@given(st.integers(1, 32), st.integers(1, 64))
def test_as_many_kv_heads_as_query_heads_is_multi_head_attention(heads: int, head_dim: int) -> None:
    architecture = build(GQA | {"query_heads": heads, "kv_heads": heads, "head_dim": head_dim})
    assert parameter_counts(architecture).attention == 3 * 4 * HIDDEN * heads * head_dim
    assert kv_elements_per_token(architecture) == 3 * 2 * heads * head_dim


@given(st.integers(1, 8), st.integers(2, 8))
def test_kv_heads_scale_the_cache_and_not_the_flops(kv_heads: int, times: int) -> None:
    few = build(GQA | {"query_heads": 64, "kv_heads": kv_heads})
    many = build(GQA | {"query_heads": 64, "kv_heads": kv_heads * times})
    assert kv_elements_per_token(many) == times * kv_elements_per_token(few)
    assert decode_attention_flops_per_context_token(many) == decode_attention_flops_per_context_token(few)


@given(groups, groups)
def test_groups_of_layers_add_up(first: dict[str, Any], second: dict[str, Any]) -> None:
    for work in LINEAR_IN_LAYERS:
        assert work(build(first, second)) == work(build(first)) + work(build(second))
        assert work(build(first | {"layers": 5 * first["layers"]})) == 5 * work(build(first))


# --- mixture of experts ---


@given(st.integers(1, 16), st.integers(1, 64))
def test_a_token_that_visits_all_experts_meets_a_dense_block_of_their_summed_width(experts: int, width: int) -> None:
    moe = {"experts": experts, "experts_per_token": experts, "intermediate_size": width}
    sparse = parameter_counts(build(GQA, moe=moe))
    dense = parameter_counts(build(GQA, dense={"layers": 3, "intermediate_size": experts * width}))
    assert sparse.active_routed_experts == sparse.routed_experts == dense.dense
    assert sparse.active - sparse.router == dense.active
    assert body_flops_per_token(sparse) - 2.0 * sparse.router == body_flops_per_token(dense)
    for number_format in NumberFormat:
        routers = sparse.router * format_bytes(NumberFormat.BF16)
        assert weight_bytes(sparse, number_format, number_format) - routers == pytest.approx(
            weight_bytes(dense, number_format, number_format), rel=1e-12
        )
    np.testing.assert_array_equal(experts_touched(experts, experts, np.arange(1, 50)), experts)


@pytest.mark.parametrize(("experts", "visited", "tokens"), [(4, 2, 2), (5, 1, 3), (5, 3, 2), (6, 2, 3)])
def test_experts_touched_is_the_mean_over_all_routings(experts: int, visited: int, tokens: int) -> None:
    choices = list(itertools.combinations(range(experts), visited))
    union = [len(set().union(*routing)) for routing in itertools.product(choices, repeat=tokens)]
    assert float(experts_touched(experts, visited, tokens)) == pytest.approx(float(np.mean(union)), rel=1e-12)


@given(st.integers(1, 512), st.integers(1, 512), st.integers(1, 10_000))
def test_experts_touched_rises_from_k_to_all(experts: int, visited: int, tokens: int) -> None:
    visited = min(visited, experts)
    touched = experts_touched(experts, visited, np.array([0, 1, tokens, tokens + 1, 10**9]))
    assert touched[0] == 0.0
    assert touched[1] == pytest.approx(visited, rel=1e-9)
    assert visited * (1 - 1e-9) <= touched[2] <= touched[3] <= experts
    assert touched[2] <= tokens * visited * (1 + 1e-9)
    assert touched[4] == experts


def test_experts_touched_keeps_the_shape_of_tokens() -> None:
    tokens = np.arange(6).reshape(2, 3)
    assert experts_touched(128, 4, tokens).shape == (2, 3)
    assert experts_touched(128, 4, 7).shape == ()


# --- bytes of weights ---


def test_format_bytes_are_the_bits_in_the_name_over_eight() -> None:
    for number_format in NumberFormat:
        bits = int("".join(filter(str.isdigit, number_format.value)))
        assert format_bytes(number_format) == bits / 8


def test_weight_bytes_keep_embeddings_routers_and_norms_in_bf16() -> None:
    counts = parameter_counts(build(GQA, moe=MOE))
    assert weight_bytes(counts, NumberFormat.BF16, NumberFormat.BF16) == 2.0 * counts.total
    fp8 = weight_bytes(counts, NumberFormat.FP8, NumberFormat.FP8)
    assert 2.0 * counts.total - fp8 == counts.attention + counts.shared_experts + counts.routed_experts
    mixed = weight_bytes(counts, NumberFormat.BF16, NumberFormat.FP4, expert_scale_bytes=1 / 32)
    assert 2.0 * counts.total - mixed == pytest.approx((1.5 - 1 / 32) * counts.routed_experts, rel=1e-12)
    dense = parameter_counts(build(GQA))
    assert 2.0 * dense.total - weight_bytes(dense, NumberFormat.FP8, NumberFormat.BF16) == dense.attention + dense.dense
