"""How a model is served: the engine's batching limits and the efficiencies that it reaches of the hardware's peaks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.specs.hardware import NumberFormat
from sim.specs.spec import Document, Fraction, Number, PositiveFraction, PositiveInteger, PositiveNumber, Sourced, Spec
from sim.specs.units import Bytes, Seconds
from sim.specs.workload import WholeTokens


class BatchingSpec(Spec):
    """Limits of the continuous batching scheduler and of its KV memory."""

    max_sequences: Sourced[PositiveInteger]
    """Sequences that one replica runs at a time, per data-parallel group."""

    step_token_budget: Sourced[WholeTokens]
    """Tokens (decoded and prefilled) in one step [tokens]."""

    kv_block: Sourced[WholeTokens]
    """Tokens in one KV block; a sequence is charged the unused part of its last block [tokens]."""

    memory_fraction: Sourced[PositiveFraction]
    """Fraction of usable accelerator memory that the engine takes [1]."""

    activation_reserve: Sourced[Bytes]
    """Memory per accelerator kept for activations, graphs and collectives [B]."""

    admission_headroom: Sourced[Fraction]
    """Fraction of KV memory kept free when a sequence joins others [1]."""


Efficiency = Annotated[Number, Field(gt=0.0, le=2.0)]


class StepTimeSpec(Spec):
    """Shared parameters of the step-time model: fractions of dense peaks and bandwidths, and latencies."""

    smoothness: Sourced[PositiveNumber]
    """Exponent p of the smooth maximum (memory**p + compute**p)**(1/p) [1]."""

    weight_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth when reading dense weights [1]."""

    matmul: dict[NumberFormat, Sourced[Efficiency]]
    """Fraction of the dense peak of matrix products, by arithmetic format [1]."""

    matmul_latency: Sourced[Seconds]
    """Latency floor of one matrix product [s]."""

    quantisation_latency: Sourced[Seconds]
    """Time to quantise the activations of one fp8 or fp4 matrix product [s]."""

    kv_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth when reading grouped-query KV [1]."""

    latent_kv_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth when reading multi-head latent KV [1]."""

    decode_attention: Sourced[Efficiency]
    """Fraction of the bf16 peak in decode attention [1]."""

    latent_decode_attention: Sourced[Efficiency]
    """Fraction of the bf16 peak in multi-head latent decode attention [1]."""

    prefill_attention: Sourced[Efficiency]
    """Fraction of the bf16 peak in prefill attention [1]."""

    attention_latency: Sourced[Seconds]
    """Latency floor of the attention of one layer [s]."""

    expert_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth when reading expert weights [1]."""

    expert_matmul: dict[NumberFormat, Sourced[Efficiency]]
    """Fraction of the dense peak of expert matrix products, by arithmetic format [1]."""

    expert_latency: Sourced[Seconds]
    """Latency floor of the experts of one layer [s]."""

    expert_imbalance_exponent: Sourced[Fraction]
    """Exponent g of `ranks**g`, by which the busiest rank's expert work exceeds the mean [1]."""

    collective_latency: Sourced[Seconds]
    """Latency of one collective inside the scale-up domain [s]."""

    link_bandwidth: Sourced[Efficiency]
    """Fraction of the one-way link bandwidth inside the scale-up domain [1]."""

    elementwise_latency: Sourced[Seconds]
    """Time of normalisation, activation and residual of one layer [s]."""

    elementwise_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth of elementwise operations [1]."""

    elementwise_passes: Sourced[PositiveNumber]
    """Times that one layer's residual is read or written [1]."""

    step_overhead: Sourced[Seconds]
    """Host time of one engine iteration: scheduling, input preparation [s]."""

    sequence_overhead: Sourced[Seconds]
    """Host time of one iteration per sequence in it: sampling, stop conditions, detokenisation [s]."""

    request_overhead: Sourced[Seconds]
    """Time from a request's arrival to the scheduler and from its first token to the client [s]."""

    step_time_spread: Sourced[Fraction]
    """Relative error of predicted step times on systems that the parameters were not fitted on [1]."""


class ServingStackSpec(Document):
    """One serving framework at one date: its batching and its efficiencies."""

    kind: Literal["serving_stack"]
    """Says what the file describes."""

    batching: BatchingSpec
    """Scheduler and KV memory."""

    step_time: StepTimeSpec
    """Efficiencies and latencies."""
