"""What is served: an LLM's architecture, its formats, and how long its answers are."""

from __future__ import annotations

import datetime
import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.hardware import NumberFormat
from sim.specs.spec import Document, NonNegativeInteger, PositiveInteger, Provenance, Sourced, Spec
from sim.specs.units import Bytes, Parameters, Tokens


class GroupedQueryAttention(Spec):
    """Layers with grouped-query attention (multi-head when every query head has its own KV head)."""

    kind: Literal["gqa"]
    """Says which attention it is."""

    layers: PositiveInteger
    """Layers of this kind."""

    query_heads: PositiveInteger
    """Query heads per layer."""

    kv_heads: PositiveInteger
    """Key-value heads per layer."""

    head_dim: PositiveInteger
    """Elements per head."""

    window: PositiveInteger | None = None
    """Tokens that a layer attends to; none means the whole context."""

    output_gate: bool = False
    """Whether a gate of the size of the query projection multiplies the output."""

    biased: bool = False
    """Whether the projections carry biases."""


class MultiHeadLatentAttention(Spec):
    """Layers with multi-head latent attention: one compressed KV vector per token and layer."""

    kind: Literal["mla"]
    """Says which attention it is."""

    layers: PositiveInteger
    """Layers of this kind."""

    query_heads: PositiveInteger
    """Query heads per layer."""

    query_rank: NonNegativeInteger
    """Rank of the query compression; 0 means an uncompressed query projection."""

    kv_rank: PositiveInteger
    """Rank of the KV compression."""

    nope_head_dim: PositiveInteger
    """Query-key elements per head without positional encoding."""

    rope_head_dim: PositiveInteger
    """Query-key elements per head with positional encoding; stored once per token."""

    value_head_dim: PositiveInteger
    """Value elements per head."""


class GatedDeltaNet(Spec):
    """Layers with linear attention: a recurrent state of constant size instead of a growing cache."""

    kind: Literal["gated_delta_net"]
    """Says which attention it is."""

    layers: PositiveInteger
    """Layers of this kind."""

    key_heads: PositiveInteger
    """Key (and query) heads per layer."""

    value_heads: PositiveInteger
    """Value heads per layer."""

    head_dim: PositiveInteger
    """Elements per head."""

    convolution_width: PositiveInteger
    """Width of the short convolution, whose inputs are part of the state."""


Attention = Annotated[GroupedQueryAttention | MultiHeadLatentAttention | GatedDeltaNet, Field(discriminator="kind")]


class DenseFeedForward(Spec):
    """Layers whose gated feed-forward block every token passes."""

    layers: PositiveInteger
    """Layers of this kind."""

    intermediate_size: PositiveInteger
    """Width of the gated block (three projections)."""


class MixtureOfExperts(Spec):
    """Layers whose feed-forward block is routed to a few of many experts."""

    layers: PositiveInteger
    """Layers of this kind."""

    experts: PositiveInteger
    """Routed experts per layer."""

    experts_per_token: PositiveInteger
    """Routed experts that one token visits."""

    intermediate_size: PositiveInteger
    """Width of one routed expert (three projections)."""

    shared_intermediate_size: NonNegativeInteger = 0
    """Summed width of the shared experts, which every token visits."""

    biased: bool = False
    """Whether routed experts and router carry biases."""

    @model_validator(mode="after")
    def _no_more_visits_than_experts(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError("experts_per_token cannot exceed experts")
        return self


class ArchitectureSpec(Provenance):
    """Shape of the network; parameters, FLOPs and KV bytes are computed from it."""

    hidden_size: PositiveInteger
    """Width of the residual stream."""

    vocabulary: PositiveInteger
    """Tokens in the vocabulary."""

    tied_embeddings: bool = False
    """Whether input embedding and output projection are one matrix."""

    context_length: PositiveInteger
    """Longest context that the model accepts [tokens]."""

    attention: Annotated[tuple[Attention, ...], Field(min_length=1)]
    """Groups of layers by kind of attention; their layers add up to all layers."""

    dense: DenseFeedForward | None = None
    """Dense feed-forward layers."""

    moe: MixtureOfExperts | None = None
    """Mixture-of-experts layers."""

    @property
    def layers(self) -> int:
        """Return the number of layers."""
        return sum(group.layers for group in self.attention)

    @model_validator(mode="after")
    def _layers_agree(self) -> Self:
        feed_forward = (self.dense.layers if self.dense else 0) + (self.moe.layers if self.moe else 0)
        if feed_forward != self.layers:
            raise ValueError(f"attention groups have {self.layers} layers, dense and moe together {feed_forward}")
        windows = {group.window for group in self.attention if isinstance(group, GroupedQueryAttention)} - {None}
        if len(windows) > 1:
            raise ValueError("sliding-window layers of one model must share one window")
        return self


class StatedSpec(Spec):
    """What the vendor states, against which the computed numbers are tested."""

    total_parameters: Sourced[Parameters]
    """All parameters, without vision towers and draft heads."""

    active_parameters: Sourced[Parameters] | None = None
    """Parameters that one token visits."""

    kv_bytes_per_token: Sourced[Bytes] | None = None
    """KV bytes that one token adds at bf16 [B]."""

    state_bytes_per_sequence: Sourced[Bytes] | None = None
    """Bytes of bounded state per sequence (windows at bf16, recurrent state at fp32) [B]."""


class BlockScalesSpec(Spec):
    """Scales that a block-quantised format stores beside the weights."""

    block: PositiveInteger
    """Weights that share one scale."""

    scale: Bytes
    """Size of one scale [B]."""

    @property
    def bytes_per_weight(self) -> float:
        """Bytes of scales per weight [B]."""
        return self.scale / self.block


class FormatsSpec(Provenance):
    """Number formats in which the model is published."""

    weights: NumberFormat
    """Format of all weights that are not routed experts."""

    experts: NumberFormat | None = None
    """Format of the routed experts where it differs."""

    expert_scales: BlockScalesSpec | None = None
    """Block scales of the routed experts, where they are not negligible."""


class OutputLengthSpec(Provenance):
    """Measured output lengths of one model on one task."""

    task: str
    """What was asked."""

    quantiles: Annotated[dict[float, Tokens], Field(min_length=2)]
    """Probability -> output tokens."""

    mean: Tokens
    """Mean output tokens."""

    samples: PositiveInteger | None = None
    """Answers measured."""

    cap: Tokens | None = None
    """Generation cap at which answers were cut; longer ones are censored."""

    censored: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of answers that hit the cap."""

    @model_validator(mode="after")
    def _quantiles_rise(self) -> Self:
        pairs = sorted(self.quantiles.items())
        if any(not 0.0 <= probability <= 1.0 for probability, _ in pairs):
            raise ValueError("probabilities lie between 0 and 1")
        if any(later[1] < earlier[1] for earlier, later in itertools.pairwise(pairs)):
            raise ValueError("quantiles must not fall with the probability")
        return self


class ModelSpec(Document):
    """One model that a pool can serve."""

    kind: Literal["model"]
    """Says what the file describes."""

    vendor: str
    """Who publishes it."""

    license: str
    """Licence."""

    released: datetime.date | None = None
    """Release date, where known."""

    formats: FormatsSpec
    """Published number formats."""

    architecture: ArchitectureSpec
    """Shape of the network."""

    stated: StatedSpec
    """What the vendor states."""

    output_lengths: dict[str, OutputLengthSpec] = Field(default_factory=dict)
    """Measured output lengths by task."""
