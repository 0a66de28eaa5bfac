"""The parameters of a network by what they do, and their bytes, from the shape of the network alone."""

from __future__ import annotations

from dataclasses import dataclass

from sim.specs.hardware import NumberFormat
from sim.specs.model import ArchitectureSpec, Attention, GatedDeltaNet, GroupedQueryAttention, MultiHeadLatentAttention

_FORMAT_BYTES = {
    NumberFormat.BF16: 2.0,
    NumberFormat.FP8: 1.0,
    NumberFormat.FP4: 0.5,
    NumberFormat.INT8: 1.0,
    NumberFormat.INT4: 0.5,
}


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
    channels = convolution_channels(group)
    inputs = channels + values + decays
    return hidden * (inputs + values) + channels * group.convolution_width + decays + group.head_dim


def convolution_channels(group: GatedDeltaNet) -> int:
    """Return the channels of the short convolution: queries, keys and values of all heads."""
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
