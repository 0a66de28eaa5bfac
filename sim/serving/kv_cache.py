"""Memory of a replica: weights per accelerator, KV bytes per token and accelerator, and the KV capacity in tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim.serving.parameter_counts import format_bytes, parameter_counts
from sim.serving.roofline import is_windowed, recurrent_state_bytes_per_sequence, window_tokens
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat
from sim.specs.model import ArchitectureSpec, Attention, GroupedQueryAttention, MultiHeadLatentAttention


@dataclass(frozen=True)
class Formats:
    """Number formats of one replica."""

    weights: NumberFormat
    """Weights that are not routed experts."""

    experts: NumberFormat
    """Routed experts."""

    expert_scale_bytes: float
    """Block scales per routed-expert weight [B]."""

    kv: NumberFormat
    """KV entries."""

    weight_arithmetic: NumberFormat
    """Matrix products with weights that are not routed experts."""

    expert_arithmetic: NumberFormat
    """Matrix products with routed experts."""


@dataclass(frozen=True)
class KvCapacity:
    """KV memory of a replica as its scheduler counts it."""

    tokens: int
    """KV entries of the whole replica [tokens]; not positive when the model does not fit."""

    group_tokens: int
    """Those of one data-parallel group, which holds all of a sequence [tokens]."""

    sequence_charge: int
    """Entries charged per sequence for bounded state and its partly filled last block [tokens]."""

    weight_bytes: float
    """Weights per accelerator [B]."""

    kv_bytes_per_token: float
    """KV bytes per token on one accelerator of the group that holds it [B]."""

    free_bytes: float
    """Memory per accelerator left for KV [B]; negative when the model does not fit."""


def weight_bytes_per_accelerator(
    architecture: ArchitectureSpec, formats: Formats, parallelism: ParallelismSpec
) -> float:
    """Return the bytes of weights on one accelerator [B].

    Attention, dense and shared-expert matrices are split over `tensor` and repeated over `data`; routed experts are
    split over all accelerators; the router is repeated; embeddings stay in bf16, as published checkpoints keep them.
    Pipeline stages share the layers evenly.
    """
    counts = parameter_counts(architecture)
    weights = format_bytes(formats.weights)
    unquantised = format_bytes(NumberFormat.BF16)
    split = (counts.attention + counts.dense + counts.shared_experts) * weights
    split += (counts.embedding + counts.output_projection) * unquantised
    expert_bytes = format_bytes(formats.experts) + formats.expert_scale_bytes
    experts = counts.routed_experts * expert_bytes / parallelism.accelerators
    repeated = (counts.router + counts.norms) * unquantised
    return (split / parallelism.tensor + repeated) / parallelism.pipeline + experts


def kv_elements_per_accelerator(group: Attention, tensor: int) -> int:
    """Return the KV elements that one token adds in a group of layers, on one of `tensor` accelerators.

    Grouped-query KV heads are split over the accelerators and repeated when there are fewer heads than accelerators;
    the one latent vector of multi-head latent attention is repeated on every accelerator.
    """
    if isinstance(group, GroupedQueryAttention):
        return group.layers * 2 * math.ceil(group.kv_heads / tensor) * group.head_dim
    if isinstance(group, MultiHeadLatentAttention):
        return group.layers * (group.kv_rank + group.rope_head_dim)
    return 0


def _kv_bytes_per_token(architecture: ArchitectureSpec, element_bytes: float, tensor: int, windowed: bool) -> float:
    groups = [group for group in architecture.attention if is_windowed(group) == windowed]
    return element_bytes * sum(kv_elements_per_accelerator(group, tensor) for group in groups)


def kv_bytes_of_token(architecture: ArchitectureSpec, kv_format: NumberFormat) -> float:
    """Return the KV bytes of one token without copies, as they are sent between replicas or kept by a host [B].

    Layers with a sliding window count in full, which is right for contexts up to the window and high beyond it.
    """
    element_bytes = format_bytes(kv_format)
    growing = _kv_bytes_per_token(architecture, element_bytes, 1, windowed=False)
    return growing + _kv_bytes_per_token(architecture, element_bytes, 1, windowed=True) or element_bytes


def kv_capacity(
    architecture: ArchitectureSpec,
    formats: Formats,
    parallelism: ParallelismSpec,
    memory_bytes: float,
    memory_fraction: float,
    activation_reserve_bytes: float,
    block_tokens: int,
) -> KvCapacity:
    """Return the KV capacity of a replica.

    Per accelerator `free = fraction x memory - weights - reserve`; a data-parallel group holds
    `free / (KV bytes per token)` tokens, and the replica `data` times as many. Sliding windows and recurrent states
    are bounded, so they are charged per sequence, as the tokens whose KV would take the same bytes.

    Parameters
    ----------
    architecture, formats, parallelism
        The model and how it is laid out.
    memory_bytes : float
        Usable memory per accelerator [B].
    memory_fraction : float
        Fraction of it that the engine takes [1].
    activation_reserve_bytes : float
        Memory per accelerator kept for other things [B].
    block_tokens : int
        Tokens in a KV block.

    """
    element_bytes = format_bytes(formats.kv)
    weights = weight_bytes_per_accelerator(architecture, formats, parallelism)
    stages = parallelism.pipeline
    per_token = _kv_bytes_per_token(architecture, element_bytes, parallelism.tensor, windowed=False) / stages
    window_bytes = _kv_bytes_per_token(architecture, element_bytes, parallelism.tensor, windowed=True) / stages
    state = window_tokens(architecture) * window_bytes
    state += recurrent_state_bytes_per_sequence(architecture) / parallelism.tensor / stages
    free = memory_fraction * memory_bytes - weights - activation_reserve_bytes
    # A model without growing KV is counted in units of its state.
    unit = per_token or state
    group_tokens = math.floor(free / unit)
    return KvCapacity(
        tokens=group_tokens * parallelism.data,
        group_tokens=group_tokens,
        sequence_charge=math.ceil(state / unit) + block_tokens - 1,
        weight_bytes=weights,
        kv_bytes_per_token=per_token,
        free_bytes=free,
    )
