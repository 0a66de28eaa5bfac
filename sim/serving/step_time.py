"""How long one step of a replica takes: a roofline per kind of operation, summed over the layers.

    t = overhead + linear(tokens) + sampling(sequences) + attention_decode(context) + attention_prefill(pairs)

Every part is the smooth maximum of a memory and a compute time at effective rates (peak x calibrated efficiency) plus
a latency per kernel. `StepShape` is what a step has to do at least, `StepRates` what of the hardware is reached; both
may hold arrays over many systems, which is how calibration evaluates thousands of them at once. What depends on the
number of tokens or sequences is tabulated; attention is linear in the context, so a span of decode steps has a closed
form. Another source of step times only has to fill `StepTime`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.serving.kv_cache import Formats
from sim.serving.step_work import Floats, StepShape, step_shape
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.model import ArchitectureSpec
from sim.specs.serving_stack import StepTimeSpec


@dataclass(frozen=True)
class StepTime:
    """Step time of a replica as tables and rates."""

    linear_s: NDArray[np.float64]
    """Time of everything that depends on the tokens in the step, overhead included [s], shape (T + 1,)."""

    sequence_s: NDArray[np.float64]
    """Time of what depends on the sequences that sample: output projection, recurrent state, host work [s],
    shape (S + 1,)."""

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


@dataclass(frozen=True)
class StepRates:
    """Efficiencies and latencies for one system, with the number formats chosen; see `StepTimeSpec` for each.

    Every field is one number, or an array over systems of shape (n,).
    """

    smoothness: Floats
    weight_bandwidth: Floats
    matmul: Floats
    projection_matmul: Floats
    matmul_latency: Floats
    quantisation_latency: Floats
    kv_bandwidth: Floats
    latent_kv_bandwidth: Floats
    decode_attention: Floats
    latent_decode_attention: Floats
    prefill_attention: Floats
    attention_latency: Floats
    expert_bandwidth: Floats
    expert_matmul: Floats
    expert_latency: Floats
    expert_passes: Floats
    expert_imbalance_exponent: Floats
    collective_latency: Floats
    ring_latency: Floats
    link_bandwidth: Floats
    elementwise_latency: Floats
    elementwise_bandwidth: Floats
    elementwise_passes: Floats
    launch_latency: Floats
    graph_tokens: Floats
    step_overhead: Floats
    sequence_overhead: Floats


def smooth_maximum(memory_s: ArrayLike, compute_s: ArrayLike, exponent: ArrayLike) -> NDArray[np.float64]:
    """Return `(memory**p + compute**p)**(1/p)` [s]: the larger of both, a little more where they are alike."""
    memory, compute = np.asarray(memory_s, np.float64), np.asarray(compute_s, np.float64)
    power = np.asarray(exponent, np.float64)
    larger = np.maximum(memory, compute)
    ratio = np.minimum(memory, compute) / np.where(larger > 0.0, larger, 1.0)
    return np.asarray(larger * (1.0 + ratio**power) ** (1.0 / power))


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
    shape = step_shape(architecture, hardware, parallelism, formats)
    rates = step_rates(parameters, formats, architecture.moe is not None)
    sequences = np.arange(max_sequences + 1, dtype=np.float64)
    context_s, window_context_s, pair_s, window_pair_s = attention_seconds(shape, rates)
    return StepTime(
        linear_s=linear_seconds(shape, rates, np.arange(max_tokens + 1, dtype=np.float64)),
        sequence_s=np.where(sequences > 0, sequence_seconds(shape, rates, sequences), 0.0),
        context_s=float(context_s),
        window_context_s=float(window_context_s),
        pair_s=float(pair_s),
        window_pair_s=float(window_pair_s),
    )


def linear_seconds(shape: StepShape, rates: StepRates, tokens: Floats) -> NDArray[np.float64]:
    """Return the time of everything that depends on the tokens of a step, the step's overhead included [s].

    Parameters
    ----------
    shape, rates
        Work and efficiencies, numbers or arrays of shape (n,).
    tokens : float or ndarray
        Decoded and prefilled tokens of the replica in the step; broadcasts with the arrays of shape and rates.

    """
    own = np.asarray(tokens, np.float64) * shape.own_share
    total = smooth_maximum(
        shape.weight_memory_s / rates.weight_bandwidth + 0.0 * own,
        shape.weight_compute_s * own / rates.matmul,
        rates.smoothness,
    )
    total = total + shape.matmuls * rates.matmul_latency + shape.quantised_matmuls * rates.quantisation_latency
    total = total + shape.layers * (rates.attention_latency + rates.elementwise_latency)
    total = total + shape.recurrence_compute_s * own / rates.prefill_attention
    total = total + rates.elementwise_passes * shape.element_memory_s * own / rates.elementwise_bandwidth
    total = total + _expert_seconds(shape, rates, np.asarray(tokens, np.float64))
    # Engines take the faster of two all-reduce algorithms: short messages once to everybody, long ones around a ring.
    once = shape.sums * rates.collective_latency + shape.sum_once_s * own / rates.link_bandwidth
    around = shape.sums * rates.ring_latency + shape.sum_ring_s * own / rates.link_bandwidth
    total = total + np.minimum(once, around) + shape.exchanges * rates.collective_latency
    total = total + shape.exchange_link_s * own / rates.link_bandwidth
    # A host that launches every kernel of a long step by itself is waited for where the kernels are short.
    launched = smooth_maximum(total, shape.layers * rates.launch_latency + 0.0 * own, rates.smoothness)
    total = np.where(own > rates.graph_tokens, launched, total)
    return np.asarray(total + rates.step_overhead)


def _expert_seconds(shape: StepShape, rates: StepRates, tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the time of the routed experts [s].

    Read are the experts that at least one token visits, `E (1 - (1 - k/E)**n)` of E for n tokens of all groups; with
    experts distributed over r accelerators the busiest does `r**g` times the mean work. Every visit also copies the
    token to the expert and back.
    """
    touched = shape.experts * (1.0 - (1.0 - np.minimum(shape.experts_per_token / shape.experts, 1.0 - 1e-12)) ** tokens)
    imbalance = np.asarray(shape.expert_ranks) ** rates.expert_imbalance_exponent
    work = smooth_maximum(
        touched * shape.expert_memory_s / rates.expert_bandwidth,
        shape.expert_compute_s * tokens * imbalance / rates.expert_matmul,
        rates.smoothness,
    )
    moved = rates.expert_passes * shape.expert_element_s * tokens * imbalance / rates.elementwise_bandwidth
    return np.asarray(work + moved + shape.expert_layers * rates.expert_latency)


def sequence_seconds(shape: StepShape, rates: StepRates, sequences: Floats) -> NDArray[np.float64]:
    """Return the time of sampling for some sequences: output projection (bf16), recurrent states, host work [s]."""
    own = np.asarray(sequences, np.float64) * shape.own_share
    sampled = smooth_maximum(
        shape.projection_memory_s / rates.weight_bandwidth + 0.0 * own,
        shape.projection_compute_s * own / rates.projection_matmul,
        rates.smoothness,
    )
    state = own * shape.state_memory_s / rates.kv_bandwidth
    return np.asarray(sampled + rates.matmul_latency + state + rates.sequence_overhead * np.asarray(sequences))


def attention_seconds(shape: StepShape, rates: StepRates) -> tuple[NDArray[np.float64], ...]:
    """Return seconds per context token and per query-key pair, each for whole-context and for windowed layers.

    Sequences are spread evenly over data-parallel groups. Decoding multi-head latent attention works on the latent
    vector (absorbed form), prefilling on keys and values of each head.
    """
    grouped = rates.kv_bandwidth, rates.decode_attention
    context = _attention(shape.context_memory_s, shape.context_compute_s, grouped, rates.smoothness)
    latent = rates.latent_kv_bandwidth, rates.latent_decode_attention
    context = context + _attention(shape.latent_memory_s, shape.latent_compute_s, latent, rates.smoothness)
    window = _attention(shape.window_memory_s, shape.window_compute_s, grouped, rates.smoothness)
    pair = np.asarray(shape.pair_compute_s / rates.prefill_attention)
    return context, window, pair, np.asarray(shape.window_pair_compute_s / rates.prefill_attention)


def _attention(
    memory_s: Floats, compute_s: Floats, efficiencies: tuple[Floats, Floats], smoothness: Floats
) -> NDArray[np.float64]:
    return smooth_maximum(memory_s / efficiencies[0], compute_s / efficiencies[1], smoothness)


def step_rates(parameters: StepTimeSpec, formats: Formats, experts: bool = True) -> StepRates:
    """Return the parameters of one system as plain numbers.

    Parameters
    ----------
    parameters : StepTimeSpec
        Efficiencies and latencies of a serving stack.
    formats : Formats
        Formats of the system's matrix products.
    experts : bool
        Whether the model has routed experts, whose format must then have an efficiency.

    Raises
    ------
    KeyError
        No efficiency for a format that is needed.

    """
    quantised = parameters.quantisation_latency.get(formats.weight_arithmetic)
    chosen = {
        "quantisation_latency": 0.0 if quantised is None else quantised.value,
        "matmul": parameters.matmul[formats.weight_arithmetic].value,
        "projection_matmul": parameters.matmul[NumberFormat.BF16].value,
        "expert_matmul": parameters.expert_matmul[formats.expert_arithmetic].value if experts else 1.0,
    }
    plain = {
        field.name: getattr(parameters, field.name).value for field in fields(StepRates) if field.name not in chosen
    }
    return StepRates(**plain, **chosen)
