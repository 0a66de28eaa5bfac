"""How long one step of a replica takes: a roofline per kind of operation, summed over the layers.

    t = overhead + linear(tokens) + sampling(sequences) + attention_decode(context) + attention_prefill(pairs)

Every part is the smooth maximum of a memory and a compute time at effective rates (peak x calibrated efficiency) plus
a latency per kernel. What depends on the number of tokens or sequences is tabulated once; attention is linear in the
context, so a span of decode steps has a closed form. Another source of step times only has to fill `StepTime`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.serving.kv_cache import Formats, kv_elements_per_accelerator
from sim.serving.roofline import (
    attention_decode_flops,
    attention_prefill_flops,
    experts_touched,
    format_bytes,
    gated_delta_net_flops_per_token,
    is_windowed,
    parameter_counts,
    recurrent_state_bytes_per_sequence,
)
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.model import ArchitectureSpec, GatedDeltaNet, MultiHeadLatentAttention
from sim.specs.serving_stack import StepTimeSpec

ACTIVATION_BYTES = 2.0
"""Bytes of one activation; activations travel between accelerators in bf16."""

_MATMULS_PER_LAYER = {"gqa": 2, "mla": 4, "gated_delta_net": 3}
_MATMULS_PER_FEED_FORWARD = 2


@dataclass(frozen=True)
class StepTime:
    """Step time of a replica as tables and rates."""

    linear_s: NDArray[np.float64]
    """Time of everything that depends on the tokens in the step, overhead included [s], shape (T + 1,)."""

    sequence_s: NDArray[np.float64]
    """Time of what depends on the sequences that sample: output projection, recurrent state [s], shape (S + 1,)."""

    context_s: float
    """Attention time per context token of a decoding sequence [s/token]."""

    window_context_s: float
    """The same in sliding-window layers, per context token inside the window [s/token]."""

    pair_s: float
    """Prefill attention time per query-key pair [s]."""

    window_pair_s: float
    """The same in sliding-window layers [s]."""

    def decode_step_s(self, sequences: ArrayLike, context: ArrayLike, window_context: ArrayLike = 0) -> ArrayLike:
        """Return the time of a step that only decodes [s].

        Parameters
        ----------
        sequences : int or array of int
            Decoding sequences.
        context : int or array of int
            Their summed context [tokens].
        window_context : int or array of int
            The same with each sequence cut at the window [tokens].

        """
        count = np.asarray(sequences)
        attention = np.asarray(context) * self.context_s + np.asarray(window_context) * self.window_context_s
        return np.asarray(self.linear_s[count] + self.sequence_s[count] + attention)


def smooth_maximum(memory_s: ArrayLike, compute_s: ArrayLike, exponent: float) -> NDArray[np.float64]:
    """Return `(memory**p + compute**p)**(1/p)` [s]: the larger of both, a little more where they are alike."""
    memory, compute = np.asarray(memory_s, np.float64), np.asarray(compute_s, np.float64)
    larger = np.maximum(memory, compute)
    ratio = np.minimum(memory, compute) / np.where(larger > 0.0, larger, 1.0)
    return np.asarray(larger * (1.0 + ratio**exponent) ** (1.0 / exponent))


def tabulate_step_time(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    formats: Formats,
    parameters: StepTimeSpec,
    max_tokens: int,
    max_sequences: int,
) -> StepTime:
    """Return the step time of a replica.

    Parameters
    ----------
    architecture, hardware, parallelism, formats
        What is served, on what, and how it is laid out.
    parameters : StepTimeSpec
        Efficiencies and latencies.
    max_tokens : int
        Largest number of tokens in one step.
    max_sequences : int
        Largest number of sequences in one step.

    Raises
    ------
    KeyError
        The hardware states no peak, or the parameters no efficiency, for a format that is needed; checked before by
        `sim.serving.deployment`.

    """
    context_s, window_context_s, pair_s, window_pair_s = _attention_rates(
        architecture, hardware, parallelism, formats, parameters
    )
    return StepTime(
        linear_s=_linear_table(architecture, hardware, parallelism, formats, parameters, max_tokens),
        sequence_s=_sequence_table(architecture, hardware, parallelism, parameters, max_sequences),
        context_s=context_s,
        window_context_s=window_context_s,
        pair_s=pair_s,
        window_pair_s=window_pair_s,
    )


def _linear_table(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    formats: Formats,
    parameters: StepTimeSpec,
    max_tokens: int,
) -> NDArray[np.float64]:
    counts = parameter_counts(architecture)
    tokens = np.arange(max_tokens + 1, dtype=np.float64)
    own_tokens = tokens / parallelism.data  # of one data-parallel group
    bandwidth = hardware.memory.bandwidth.value
    layers = architecture.layers

    arithmetic = formats.weight_arithmetic
    compute = hardware.peak[arithmetic].value * parameters.matmul[arithmetic].value
    body = (counts.attention + counts.dense + counts.shared_experts) / parallelism.tensor + counts.router
    weight_bytes = body * format_bytes(formats.weights)
    total = smooth_maximum(
        np.full_like(tokens, weight_bytes / (bandwidth * parameters.weight_bandwidth.value)),
        2.0 * body * own_tokens / compute,
        parameters.smoothness.value,
    )
    latency = parameters.matmul_latency.value
    if arithmetic is not NumberFormat.BF16:
        latency += parameters.quantisation_latency.value
    total += _matmul_kernels(architecture) * latency

    total += layers * parameters.attention_latency.value
    total += (
        gated_delta_net_flops_per_token(architecture)
        * own_tokens
        / parallelism.tensor
        / (hardware.peak[NumberFormat.BF16].value * parameters.prefill_attention.value)
    )
    total += layers * parameters.elementwise_latency.value
    residual_bytes = own_tokens * architecture.hidden_size * ACTIVATION_BYTES
    passes = parameters.elementwise_passes.value
    total += layers * passes * residual_bytes / (bandwidth * parameters.elementwise_bandwidth.value)
    total += _expert_time(architecture, hardware, parallelism, formats, parameters, tokens)
    total += _communication_time(architecture, hardware, parallelism, parameters, tokens)
    return np.asarray(total + parameters.step_overhead.value)


def _matmul_kernels(architecture: ArchitectureSpec) -> int:
    """Return the matrix products of one step outside the routed experts."""
    kernels = sum(group.layers * _MATMULS_PER_LAYER[group.kind] for group in architecture.attention)
    if architecture.dense is not None:
        kernels += architecture.dense.layers * _MATMULS_PER_FEED_FORWARD
    if architecture.moe is not None:
        shared = _MATMULS_PER_FEED_FORWARD if architecture.moe.shared_intermediate_size else 0
        kernels += architecture.moe.layers * (1 + shared)  # the router is one product
    return kernels


def _expert_time(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    formats: Formats,
    parameters: StepTimeSpec,
    tokens: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the time of the routed experts [s].

    Read are the experts that at least one token visits, `E (1 - (1 - k/E)**n)` of E for n tokens of all groups; with
    experts distributed over r accelerators the busiest does `r**g` times the mean work.
    """
    moe = architecture.moe
    if moe is None:
        return np.zeros_like(tokens)
    accelerators = parallelism.accelerators
    arithmetic = formats.expert_arithmetic
    expert_parameters = 3.0 * architecture.hidden_size * moe.intermediate_size
    touched = np.asarray(experts_touched(moe.experts, moe.experts_per_token, tokens))
    bytes_per_parameter = format_bytes(formats.experts) + formats.expert_scale_bytes
    read_bytes = touched * expert_parameters * bytes_per_parameter / accelerators
    imbalance = float(parallelism.expert) ** parameters.expert_imbalance_exponent.value
    flops = 2.0 * expert_parameters * moe.experts_per_token * tokens / accelerators * imbalance
    per_layer = smooth_maximum(
        read_bytes / (hardware.memory.bandwidth.value * parameters.expert_bandwidth.value),
        flops / (hardware.peak[arithmetic].value * parameters.expert_matmul[arithmetic].value),
        parameters.smoothness.value,
    )
    return np.asarray(moe.layers * (per_layer + parameters.expert_latency.value))


def _communication_time(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    parameters: StepTimeSpec,
    tokens: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the time of collectives inside the scale-up domain [s], each `latency + bytes / (link x efficiency)`.

    Tensor parallelism sums the residual after attention and after the feed-forward block; with data-parallel
    attention, mixture-of-experts layers send tokens to their experts and back instead of the second sum.
    """
    result = np.zeros_like(tokens)
    if parallelism.accelerators == 1 or hardware.scale_up is None:
        return result
    latency = parameters.collective_latency.value
    rate = hardware.scale_up.bandwidth.value * parameters.link_bandwidth.value
    residual_bytes = tokens / parallelism.data * architecture.hidden_size * ACTIVATION_BYTES
    if parallelism.tensor > 1:
        sums = 2 * architecture.layers
        if parallelism.data > 1 and architecture.moe is not None:
            sums -= architecture.moe.layers
        result = result + sums * (latency + residual_bytes / rate)
    if parallelism.data > 1 and architecture.moe is not None:
        sent_bytes = residual_bytes / parallelism.tensor * architecture.moe.experts_per_token
        result = result + 2 * architecture.moe.layers * (latency + sent_bytes / rate)
    return result


def _sequence_table(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    parameters: StepTimeSpec,
    max_sequences: int,
) -> NDArray[np.float64]:
    """Return the time per step of the output projection (bf16) and of recurrent states, which are read and written."""
    sequences = np.arange(max_sequences + 1, dtype=np.float64)
    own = sequences / parallelism.data
    bandwidth = hardware.memory.bandwidth.value
    projection = float(architecture.vocabulary) * architecture.hidden_size / parallelism.tensor
    compute = hardware.peak[NumberFormat.BF16].value * parameters.matmul[NumberFormat.BF16].value
    sampled = smooth_maximum(
        np.full_like(own, projection * ACTIVATION_BYTES / (bandwidth * parameters.weight_bandwidth.value)),
        2.0 * projection * own / compute,
        parameters.smoothness.value,
    )
    sampled += parameters.matmul_latency.value
    state_bytes = 2.0 * recurrent_state_bytes_per_sequence(architecture) / parallelism.tensor
    result = np.where(sequences > 0, sampled, 0.0)
    return np.asarray(result + own * state_bytes / (bandwidth * parameters.kv_bandwidth.value))


def _attention_rates(
    architecture: ArchitectureSpec,
    hardware: HardwareSpec,
    parallelism: ParallelismSpec,
    formats: Formats,
    parameters: StepTimeSpec,
) -> tuple[float, float, float, float]:
    """Return seconds per context token and per query-key pair, each for whole-context and for windowed layers.

    Sequences are spread evenly over data-parallel groups. Decoding multi-head latent attention works on the latent
    vector (absorbed form), prefilling on keys and values of each head.
    """
    bandwidth = hardware.memory.bandwidth.value
    peak = hardware.peak[NumberFormat.BF16].value
    element_bytes = format_bytes(formats.kv)
    context = {False: 0.0, True: 0.0}
    pairs = {False: 0.0, True: 0.0}
    for group in architecture.attention:
        if isinstance(group, GatedDeltaNet):
            continue
        windowed = is_windowed(group)
        read_bytes = kv_elements_per_accelerator(group, parallelism.tensor) * element_bytes
        latent = isinstance(group, MultiHeadLatentAttention)
        kv_efficiency = parameters.latent_kv_bandwidth if latent else parameters.kv_bandwidth
        efficiency = parameters.latent_decode_attention if latent else parameters.decode_attention
        seconds = smooth_maximum(
            read_bytes / (bandwidth * kv_efficiency.value),
            attention_decode_flops(group) / parallelism.tensor / (peak * efficiency.value),
            parameters.smoothness.value,
        )
        context[windowed] += float(seconds) / parallelism.data
        pair_flops = attention_prefill_flops(group) / parallelism.accelerators
        pairs[windowed] += pair_flops / (peak * parameters.prefill_attention.value)
    return context[False], context[True], pairs[False], pairs[True]
