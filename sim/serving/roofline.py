"""The work of a model, from the shape of its network alone: parameters, bytes and FLOPs, whatever it is served on.

One multiply-add is two FLOPs. Normalisation, rotary embedding, softmax and activation functions are not counted:
they are linear in the hidden size, where matrix products are quadratic. Layers with a sliding window are counted apart
from layers that see the whole context, because their share stops growing at the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.specs.hardware import NumberFormat
from sim.specs.model import (
    ArchitectureSpec,
    Attention,
    GatedDeltaNet,
    GroupedQueryAttention,
    MultiHeadLatentAttention,
)

_FORMAT_BYTES = {
    NumberFormat.BF16: 2.0,
    NumberFormat.FP8: 1.0,
    NumberFormat.FP4: 0.5,
    NumberFormat.INT8: 1.0,
    NumberFormat.INT4: 0.5,
}

_RECURRENT_STATE_BYTES = 4
_CONVOLUTION_STATE_BYTES = 2
"""Engines keep the recurrent state in fp32 and the inputs of the convolution in bf16."""


@dataclass(frozen=True)
class ParameterCounts:
    """Parameters of a network by what they do."""

    embedding: int
    """Input embedding; 0 where it is tied to the output projection."""

    output_projection: int
    """Projection to the vocabulary; the one shared matrix where embeddings are tied."""

    attention: int
    """Attention of all layers, with gates, biases and the projections of linear attention."""

    dense: int
    """Dense feed-forward blocks."""

    routed_experts: int
    """All routed experts."""

    active_routed_experts: int
    """Routed experts that one token visits."""

    shared_experts: int
    """Shared experts, which every token visits."""

    router: int
    """Routers."""

    norms: int
    """Normalisation before attention, before the feed-forward block, and at the end; the rest is negligible."""

    @property
    def non_expert(self) -> int:
        """Return all parameters but the routed experts."""
        return self.embedding + self._visited_by_every_token

    @property
    def total(self) -> int:
        """Return all parameters."""
        return self.non_expert + self.routed_experts

    @property
    def active(self) -> int:
        """Return the parameters that take part in one token: of the input embedding only one row is read."""
        return self._visited_by_every_token + self.active_routed_experts

    @property
    def _visited_by_every_token(self) -> int:
        body = self.attention + self.dense + self.shared_experts + self.router + self.norms
        return body + self.output_projection


def parameter_counts(architecture: ArchitectureSpec) -> ParameterCounts:
    """Return the parameters of a network.

    A gated feed-forward block of width w has three projections, `3 h w` for hidden size h; E experts of which a token
    visits k have `3 h w E` and, active, `3 h w k`. Attention: see the sources.

    Parameters
    ----------
    architecture : ArchitectureSpec
        Shape of the network.

    Notes
    -----
    Grouped-query attention: Ainslie et al., arXiv:2305.13245. Multi-head latent attention: DeepSeek-V2,
    arXiv:2405.04434. Gated DeltaNet: Yang et al., arXiv:2412.06464. Gated feed-forward block: Shazeer,
    arXiv:2002.05202.

    """
    hidden = architecture.hidden_size
    vocabulary = architecture.vocabulary * hidden
    dense, moe = architecture.dense, architecture.moe
    expert = shared = router = 0
    if moe is not None:
        expert = moe.layers * (3 * hidden * moe.intermediate_size)
        shared = moe.layers * (3 * hidden * moe.shared_intermediate_size)
        router = moe.layers * hidden * moe.experts
        if moe.biased:
            expert += moe.layers * (2 * moe.intermediate_size + hidden)
            router += moe.layers * moe.experts
    return ParameterCounts(
        embedding=0 if architecture.tied_embeddings else vocabulary,
        output_projection=vocabulary,
        attention=sum(group.layers * _attention_parameters(group, hidden) for group in architecture.attention),
        dense=0 if dense is None else dense.layers * (3 * hidden * dense.intermediate_size),
        routed_experts=0 if moe is None else expert * moe.experts,
        active_routed_experts=0 if moe is None else expert * moe.experts_per_token,
        shared_experts=shared,
        router=router,
        norms=(2 * architecture.layers + 1) * hidden,
    )


def _attention_parameters(group: Attention, hidden: int) -> int:
    """Return the parameters of one layer."""
    if isinstance(group, GroupedQueryAttention):
        queries = group.query_heads * group.head_dim
        inputs = queries * (2 if group.output_gate else 1) + 2 * group.kv_heads * group.head_dim
        return hidden * (inputs + queries) + (inputs + hidden if group.biased else 0)
    if isinstance(group, MultiHeadLatentAttention):
        queries = group.query_heads * (group.nope_head_dim + group.rope_head_dim)
        rank = group.query_rank
        query = rank * (hidden + queries + 1) if rank else hidden * queries
        values = group.query_heads * group.value_head_dim
        down = hidden * (group.kv_rank + group.rope_head_dim) + group.kv_rank
        up = group.kv_rank * (group.query_heads * group.nope_head_dim + values)
        return query + down + up + values * hidden
    values = group.value_heads * group.head_dim
    decays = 2 * group.value_heads
    channels = _convolution_channels(group)
    inputs = channels + values + decays
    return hidden * (inputs + values) + channels * group.convolution_width + decays + group.head_dim


def _convolution_channels(group: GatedDeltaNet) -> int:
    return (2 * group.key_heads + group.value_heads) * group.head_dim


def format_bytes(number_format: NumberFormat) -> float:
    """Return the bytes of one element [B]: its bits over eight.

    Scales of block formats come on top: one byte per 32 elements in MXFP4 (OCP Microscaling Formats specification
    v1.0), which is 6% of fp4; see `weight_bytes`.
    """
    return _FORMAT_BYTES[number_format]


def weight_bytes(
    counts: ParameterCounts, weights: NumberFormat, experts: NumberFormat, expert_scale_bytes: float = 0.0
) -> float:
    """Return the bytes of all weights [B].

    Embedding, output projection, routers and norms are counted in bf16, as published checkpoints keep them.

    Parameters
    ----------
    counts : ParameterCounts
        Parameters by what they do.
    weights : NumberFormat
        Format of attention, dense and shared-expert matrices.
    experts : NumberFormat
        Format of the routed experts.
    expert_scale_bytes : float
        Block scales per routed-expert weight [B].

    """
    matrices = counts.attention + counts.dense + counts.shared_experts
    unquantised = counts.non_expert - matrices
    return (
        matrices * format_bytes(weights)
        + unquantised * format_bytes(NumberFormat.BF16)
        + counts.routed_experts * (format_bytes(experts) + expert_scale_bytes)
    )


def experts_touched(experts: int, experts_per_token: int, tokens: ArrayLike) -> NDArray[np.float64]:
    """Return the mean number of experts of one layer that at least one token visits [1].

    `E (1 - (1 - k/E)**n)`: every token visits k of E experts, independently and uniformly. Routing in practice is
    skewed, so this is an upper bound.

    Parameters
    ----------
    experts : int
        Routed experts E.
    experts_per_token : int
        Experts k that one token visits.
    tokens : array_like
        Tokens n in the step, summed over all accelerators that share the experts [tokens].

    Returns
    -------
    ndarray of float64, shape of tokens
        Experts, from 0 (no token) over k (one token) to E.

    """
    missed = (1.0 - experts_per_token / experts) ** np.asarray(tokens, dtype=np.float64)
    return np.asarray(experts * (1.0 - missed))


def kv_elements_per_token(architecture: ArchitectureSpec) -> int:
    """Return the KV elements that every token of the context adds.

    Per layer `2 kv_heads head_dim` for grouped-query attention (arXiv:2305.13245) and `kv_rank + rope_head_dim` for
    multi-head latent attention (arXiv:2405.04434, table 1). Layers with a window and linear attention add none: see
    `window_kv_bytes_per_token` and `recurrent_state_bytes_per_sequence`.
    """
    return sum(_kv_elements(group) for group in architecture.attention if not is_windowed(group))


def kv_bytes_per_token(architecture: ArchitectureSpec, bytes_per_element: float) -> float:
    """Return the KV bytes that every token of the context adds, on all accelerators together [B].

    Parameters
    ----------
    architecture : ArchitectureSpec
        Shape of the network.
    bytes_per_element : float
        Bytes per KV element [B].

    """
    return kv_elements_per_token(architecture) * bytes_per_element


def window_kv_bytes_per_token(architecture: ArchitectureSpec, bytes_per_element: float) -> float:
    """Return the KV bytes that one token adds in layers with a sliding window [B], until the window is full.

    Parameters
    ----------
    architecture : ArchitectureSpec
        Shape of the network.
    bytes_per_element : float
        Bytes per KV element [B].

    """
    return sum(_kv_elements(group) for group in architecture.attention if is_windowed(group)) * bytes_per_element


def window_tokens(architecture: ArchitectureSpec) -> int:
    """Return the sliding window [tokens]; 0 for a model without."""
    windows = (group.window for group in architecture.attention if isinstance(group, GroupedQueryAttention))
    return max((window for window in windows if window is not None), default=0)


def recurrent_state_bytes_per_sequence(architecture: ArchitectureSpec) -> float:
    """Return the bytes of recurrent state per sequence, whatever the length of its context [B].

    Per Gated DeltaNet layer a matrix `head_dim x head_dim` per value head in fp32, and in bf16 the last
    `convolution_width - 1` inputs of the short convolution (arXiv:2412.06464).
    """
    state = 0
    for group in architecture.attention:
        if isinstance(group, GatedDeltaNet):
            matrices = group.value_heads * group.head_dim**2 * _RECURRENT_STATE_BYTES
            inputs = _convolution_channels(group) * (group.convolution_width - 1) * _CONVOLUTION_STATE_BYTES
            state += group.layers * (matrices + inputs)
    return float(state)


def state_bytes_per_sequence(architecture: ArchitectureSpec, bytes_per_element: float) -> float:
    """Return the bytes of bounded state of one long sequence: full windows and recurrent state [B].

    Parameters
    ----------
    architecture : ArchitectureSpec
        Shape of the network.
    bytes_per_element : float
        Bytes per KV element [B].

    """
    windows = window_tokens(architecture) * window_kv_bytes_per_token(architecture, bytes_per_element)
    return windows + recurrent_state_bytes_per_sequence(architecture)


def body_flops_per_token(counts: ParameterCounts) -> float:
    """Return the FLOPs of the matrix products that every token of a step passes, without attention itself [FLOP].

    Two FLOPs per active parameter (Kaplan et al., arXiv:2001.08361, section 2.1) of attention projections,
    feed-forward blocks, visited experts and routers.
    """
    return 2.0 * (counts.active - counts.output_projection - counts.norms)


def output_projection_flops_per_token(counts: ParameterCounts) -> float:
    """Return the FLOPs of the projection to the vocabulary [FLOP], needed only for tokens that are sampled."""
    return 2.0 * counts.output_projection


def decode_attention_flops_per_context_token(architecture: ArchitectureSpec) -> float:
    """Return the attention FLOPs of one new token per token in its context, over layers without window [FLOP].

    Grouped-query attention: `4 query_heads head_dim` per layer, scores and weighted sum of values. Multi-head latent
    attention in its absorbed form works on the cached vector itself, `2 heads (kv_rank + rope_head_dim)` for scores
    and `2 heads kv_rank` for values (DeepSeek-V2, arXiv:2405.04434, section 2.1.2).
    """
    return sum((attention_decode_flops(group) for group in architecture.attention if not is_windowed(group)), 0.0)


def window_attention_flops_per_context_token(architecture: ArchitectureSpec) -> float:
    """Return the same over layers with a sliding window, per token inside the window [FLOP]."""
    return sum((attention_decode_flops(group) for group in architecture.attention if is_windowed(group)), 0.0)


def prefill_attention_flops_per_pair(architecture: ArchitectureSpec) -> float:
    """Return the attention FLOPs per pair of a query and a key that it sees, over layers without window [FLOP].

    Grouped-query attention: `4 query_heads head_dim` per layer. Multi-head latent attention prefills on the keys and
    values of every head: `2 heads (nope_head_dim + rope_head_dim) + 2 heads value_head_dim`. A causal prompt of n
    tokens has `n (n + 1) / 2` pairs.
    """
    return sum((attention_prefill_flops(group) for group in architecture.attention if not is_windowed(group)), 0.0)


def window_prefill_attention_flops_per_pair(architecture: ArchitectureSpec) -> float:
    """Return the same over layers with a sliding window, per pair inside the window [FLOP]."""
    return sum((attention_prefill_flops(group) for group in architecture.attention if is_windowed(group)), 0.0)


def gated_delta_net_flops_per_token(architecture: ArchitectureSpec) -> float:
    """Return the FLOPs of linear attention per token, without its projections [FLOP].

    Per value head the recurrence decays its state matrix S of d x d elements (d**2), reads it with the key (2 d**2),
    writes the correction (2 d**2) and reads it with the query (2 d**2); the short convolution needs
    `2 convolution_width` per channel. This is the recurrent form (Yang et al., arXiv:2412.06464, equation 10); the
    chunked form of prefill does more FLOPs in larger matrix products.
    """
    flops = 0.0
    for group in architecture.attention:
        if isinstance(group, GatedDeltaNet):
            recurrence = 7 * group.value_heads * group.head_dim**2
            flops += group.layers * (recurrence + 2 * group.convolution_width * _convolution_channels(group))
    return flops


def is_windowed(group: Attention) -> bool:
    """Return whether a group of layers attends to a sliding window only."""
    return isinstance(group, GroupedQueryAttention) and group.window is not None


def _kv_elements(group: Attention) -> int:
    if isinstance(group, GroupedQueryAttention):
        return group.layers * 2 * group.kv_heads * group.head_dim
    if isinstance(group, MultiHeadLatentAttention):
        return group.layers * (group.kv_rank + group.rope_head_dim)
    return 0


def attention_decode_flops(group: Attention) -> float:
    """Return the FLOPs of a group of layers per token in the context of one new token [FLOP]."""
    if isinstance(group, MultiHeadLatentAttention):
        return 2.0 * group.layers * group.query_heads * (2 * group.kv_rank + group.rope_head_dim)
    return attention_prefill_flops(group)


def attention_prefill_flops(group: Attention) -> float:
    """Return the FLOPs of a group of layers per pair of a query and a key that it sees [FLOP]."""
    if isinstance(group, GroupedQueryAttention):
        return 4.0 * group.layers * group.query_heads * group.head_dim
    if isinstance(group, MultiHeadLatentAttention):
        per_head = group.nope_head_dim + group.rope_head_dim + group.value_head_dim
        return 2.0 * group.layers * group.query_heads * per_head
    return 0.0
