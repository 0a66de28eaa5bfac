"""What a step of a replica has to do at least: bytes, FLOPs and messages at datasheet rates, and numbers of kernels.

`sim.serving.step_time` turns this work into time with the efficiencies that a serving stack reaches.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sim.serving.kv_cache import Formats, kv_elements_per_accelerator
from sim.serving.parameter_counts import format_bytes, parameter_counts
from sim.serving.roofline import (
    attention_decode_flops,
    attention_prefill_flops,
    gated_delta_net_flops_per_token,
    is_windowed,
    recurrent_state_bytes_per_sequence,
)
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.model import ArchitectureSpec, GatedDeltaNet, MultiHeadLatentAttention

Floats = float | NDArray[np.float64]

ACTIVATION_BYTES = 2.0
"""Bytes of one activation; activations travel between accelerators in bf16."""

_MATMULS_PER_LAYER = {"gqa": 2, "mla": 4, "gated_delta_net": 3}
_MATMULS_PER_FEED_FORWARD = 2


@dataclass(frozen=True)
class StepShape:
    """What a step has to do at least: seconds at datasheet rates per unit of work, and numbers of kernels.

    Every field is one number, or an array over systems of shape (n,).
    """

    own_share: Floats
    """Share of the step's tokens that one accelerator group works on: one over data groups and pipeline stages [1]."""

    weight_memory_s: Floats
    """Reading the weights that every token passes, on one accelerator [s]."""

    weight_compute_s: Floats
    """Their matrix products per own token [s/token]."""

    matmuls: Floats
    """Matrix products of one step outside routed experts."""

    quantised_matmuls: Floats
    """Those of them whose inputs have to be quantised first."""

    layers: Floats
    """Layers."""

    recurrence_compute_s: Floats
    """Linear attention per own token [s/token]."""

    element_memory_s: Floats
    """Reading or writing the residual once in every layer, per own token [s/token]."""

    expert_layers: Floats
    """Layers with routed experts; 0 for a dense model."""

    experts: Floats
    """Routed experts per layer; 1 for a dense model."""

    experts_per_token: Floats
    """Experts that a token visits; 1 for a dense model."""

    expert_memory_s: Floats
    """Reading one expert of every layer, shared among the accelerators [s]."""

    expert_compute_s: Floats
    """Expert matrix products per token of the whole step [s/token]."""

    expert_element_s: Floats
    """Reading or writing the inputs of all experts visited once, per token of the whole step [s/token]."""

    expert_ranks: Floats
    """Accelerators over which experts are distributed, 1 when they are split instead."""

    sums: Floats
    """Collectives of one step: all-reduce under tensor parallelism, hand-over under pipeline parallelism."""

    sum_once_s: Floats
    """All of them on the link when everybody sends everything at once, per own token [s/token]."""

    sum_ring_s: Floats
    """All of them on the link when they go around a ring, per own token [s/token]."""

    exchanges: Floats
    """All-to-all exchanges of one step under data-parallel attention."""

    exchange_link_s: Floats
    """All of them on the link, per own token [s/token]."""

    projection_memory_s: Floats
    """Reading the output projection [s]."""

    projection_compute_s: Floats
    """Output projection per own sequence [s]."""

    state_memory_s: Floats
    """Reading and writing the recurrent state, per own sequence [s]."""

    context_memory_s: Floats
    """Reading grouped-query KV, per context token of the replica [s/token]."""

    context_compute_s: Floats
    """Its arithmetic [s/token]."""

    latent_memory_s: Floats
    """Reading latent KV [s/token]."""

    latent_compute_s: Floats
    """Its arithmetic [s/token]."""

    window_memory_s: Floats
    """Reading grouped-query KV of sliding-window layers, per context token inside the window [s/token]."""

    window_compute_s: Floats
    """Its arithmetic [s/token]."""

    pair_compute_s: Floats
    """Prefill attention per query-key pair [s]."""

    window_pair_compute_s: Floats
    """The same in sliding-window layers [s]."""

    @classmethod
    def stacked(cls, shapes: list[Self]) -> Self:
        """Return the shapes of n systems as one of arrays of shape (n,)."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.array([getattr(each, name) for each in shapes], np.float64) for name in names})


def step_shape(
    architecture: ArchitectureSpec, hardware: HardwareSpec, parallelism: ParallelismSpec, formats: Formats
) -> StepShape:
    """Return the work of a step at datasheet rates.

    With p pipeline stages a replica runs p batches of a p-th of its sequences, one in each stage; a step of all of
    them reads every weight once on one stage after the other, while arithmetic and KV are shared by the stages.

    Raises
    ------
    KeyError
        The hardware states no peak for a format that is needed.

    """
    counts = parameter_counts(architecture)
    bandwidth = hardware.memory.bandwidth.value
    peak = hardware.peak[NumberFormat.BF16].value
    own_share = 1.0 / (parallelism.data * parallelism.pipeline)
    tensor = parallelism.tensor
    body = (counts.attention + counts.dense + counts.shared_experts) / tensor + counts.router
    projection = float(architecture.vocabulary) * architecture.hidden_size / tensor
    arithmetic = formats.weight_arithmetic
    matmuls = float(_matmul_kernels(architecture))
    state_bytes = 2.0 * recurrent_state_bytes_per_sequence(architecture) / tensor
    return StepShape(
        own_share=own_share,
        weight_memory_s=body * format_bytes(formats.weights) / bandwidth,
        weight_compute_s=2.0 * body / hardware.peak[arithmetic].value,
        matmuls=matmuls,
        quantised_matmuls=0.0 if arithmetic is NumberFormat.BF16 else matmuls,
        layers=float(architecture.layers),
        recurrence_compute_s=gated_delta_net_flops_per_token(architecture) / tensor / peak,
        element_memory_s=architecture.layers * architecture.hidden_size * ACTIVATION_BYTES / bandwidth,
        projection_memory_s=projection * ACTIVATION_BYTES / bandwidth,
        projection_compute_s=2.0 * projection / peak,
        state_memory_s=state_bytes / bandwidth,
        **_expert_shape(architecture, hardware, parallelism, formats),
        **_communication_shape(architecture, hardware, parallelism),
        **_attention_shape(architecture, hardware, parallelism, formats),
    )


def _matmul_kernels(architecture: ArchitectureSpec) -> int:
    """Return the matrix products of one step outside the routed experts."""
    kernels = sum(group.layers * _MATMULS_PER_LAYER[group.kind] for group in architecture.attention)
    if architecture.dense is not None:
        kernels += architecture.dense.layers * _MATMULS_PER_FEED_FORWARD
    if architecture.moe is not None:
        shared = _MATMULS_PER_FEED_FORWARD if architecture.moe.shared_intermediate_size else 0
        kernels += architecture.moe.layers * (1 + shared)  # the router is one product
    return kernels


def _expert_shape(
    architecture: ArchitectureSpec, hardware: HardwareSpec, parallelism: ParallelismSpec, formats: Formats
) -> dict[str, float]:
    moe = architecture.moe
    if moe is None:
        names = ("expert_layers", "expert_memory_s", "expert_compute_s", "expert_element_s")
        return dict.fromkeys(names, 0.0) | dict.fromkeys(("experts", "experts_per_token", "expert_ranks"), 1.0)
    parameters = 3.0 * architecture.hidden_size * moe.intermediate_size * moe.layers
    ranks = float(parallelism.tensor * parallelism.data)
    bytes_per_parameter = format_bytes(formats.experts) + formats.expert_scale_bytes
    flops = 2.0 * parameters * moe.experts_per_token / ranks / parallelism.pipeline
    visits = moe.layers * moe.experts_per_token / ranks / parallelism.pipeline
    return {
        "expert_layers": float(moe.layers),
        "experts": float(moe.experts),
        "experts_per_token": float(moe.experts_per_token),
        "expert_memory_s": parameters * bytes_per_parameter / ranks / hardware.memory.bandwidth.value,
        "expert_compute_s": flops / hardware.peak[formats.expert_arithmetic].value,
        "expert_element_s": visits * architecture.hidden_size * ACTIVATION_BYTES / hardware.memory.bandwidth.value,
        "expert_ranks": float(parallelism.expert),
    }


def _communication_shape(
    architecture: ArchitectureSpec, hardware: HardwareSpec, parallelism: ParallelismSpec
) -> dict[str, float]:
    """Return collectives inside the scale-up domain.

    Tensor parallelism sums the residual after attention and after the feed-forward block: each of r accelerators
    sends `r - 1` times the residual when all send at once, `2 (r - 1) / r` times around a ring (Patarasuk and Yuan,
    J. Parallel Distrib. Comput. 69, 2009). With data-parallel attention, mixture-of-experts layers send tokens to
    their experts and back instead of the second sum. Pipeline stages hand the residual over.
    """
    result = dict.fromkeys(("sums", "sum_once_s", "sum_ring_s", "exchanges", "exchange_link_s"), 0.0)
    if parallelism.accelerators == 1 or hardware.scale_up is None:
        return result
    moe_layers = 0 if architecture.moe is None or parallelism.data == 1 else architecture.moe.layers
    residual_s = architecture.hidden_size * ACTIVATION_BYTES / hardware.scale_up.bandwidth.value
    handed = float(parallelism.pipeline - 1)
    result["sums"], result["sum_once_s"], result["sum_ring_s"] = handed, handed * residual_s, handed * residual_s
    if parallelism.tensor > 1:
        sums = float(2 * architecture.layers - moe_layers)
        result["sums"] += sums
        result["sum_once_s"] += sums * residual_s * (parallelism.tensor - 1)
        result["sum_ring_s"] += sums * residual_s * 2.0 * (parallelism.tensor - 1) / parallelism.tensor
    if moe_layers and architecture.moe is not None:
        result["exchanges"] = 2.0 * moe_layers
        sent = architecture.moe.experts_per_token / parallelism.tensor
        result["exchange_link_s"] = 2.0 * moe_layers * residual_s * sent
    return result


def _attention_shape(
    architecture: ArchitectureSpec, hardware: HardwareSpec, parallelism: ParallelismSpec, formats: Formats
) -> dict[str, float]:
    own_share = 1.0 / (parallelism.data * parallelism.pipeline)
    element_s = format_bytes(formats.kv) / hardware.memory.bandwidth.value
    peak = hardware.peak[NumberFormat.BF16].value
    names = ("context", "latent", "window")
    result = {f"{name}_{kind}_s": 0.0 for name in names for kind in ("memory", "compute")}
    result |= {"pair_compute_s": 0.0, "window_pair_compute_s": 0.0}
    for group in architecture.attention:
        if isinstance(group, GatedDeltaNet):
            continue
        windowed = is_windowed(group)
        latent = isinstance(group, MultiHeadLatentAttention)
        name = "latent" if latent else "window" if windowed else "context"
        elements = kv_elements_per_accelerator(group, parallelism.tensor)
        result[f"{name}_memory_s"] += elements * element_s * own_share
        result[f"{name}_compute_s"] += attention_decode_flops(group) / parallelism.tensor / peak * own_share
        pair = "window_pair_compute_s" if windowed else "pair_compute_s"
        result[pair] += attention_prefill_flops(group) / parallelism.accelerators / peak
    return result
