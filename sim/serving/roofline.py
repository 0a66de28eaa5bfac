"""The work of a model, from the shape of its network alone: KV bytes and FLOPs, whatever it is served on.

One multiply-add is two FLOPs. Normalisation, rotary embedding, softmax and activation functions are not counted:
they are linear in the hidden size, where matrix products are quadratic. Layers with a sliding window are counted apart
from layers that see the whole context, because their share stops growing at the window.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.serving.parameter_counts import ParameterCounts, convolution_channels
from sim.specs.model import (
    ArchitectureSpec,
    Attention,
    GatedDeltaNet,
    GroupedQueryAttention,
    MultiHeadLatentAttention,
)

_RECURRENT_STATE_BYTES = 4
_CONVOLUTION_STATE_BYTES = 2
"""Engines keep the recurrent state in fp32 and the inputs of the convolution in bf16."""


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
            inputs = convolution_channels(group) * (group.convolution_width - 1) * _CONVOLUTION_STATE_BYTES
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
            flops += group.layers * (recurrence + 2 * group.convolution_width * convolution_channels(group))
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
