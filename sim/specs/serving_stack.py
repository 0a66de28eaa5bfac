"""How a model is served: the engine's batching limits and the efficiencies that it reaches of the hardware's peaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sim.specs.hardware import NumberFormat
from sim.specs.spec import (
    Document,
    Fraction,
    NonNegativeInteger,
    Number,
    PositiveFraction,
    PositiveInteger,
    PositiveNumber,
    Sourced,
    Spec,
)
from sim.specs.step_time_source import StepTimeSource
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

    quantisation_latency: dict[NumberFormat, Sourced[Seconds]]
    """Time to quantise the activations of one matrix product, by arithmetic format; nothing for one not listed [s]."""

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

    expert_passes: Sourced[PositiveNumber]
    """Times that a token's activation is read or written for each expert that it visits [1]."""

    expert_imbalance_exponent: Sourced[Fraction]
    """Exponent g of `ranks**g`, by which the busiest rank's expert work exceeds the mean [1]."""

    collective_latency: Sourced[Seconds]
    """Latency of one collective inside the scale-up domain [s]."""

    ring_latency: Sourced[Seconds]
    """Latency of one all-reduce around a ring, which spares the link and costs more hand-overs [s]."""

    link_bandwidth: Sourced[Efficiency]
    """Fraction of the one-way link bandwidth inside the scale-up domain [1]."""

    elementwise_latency: Sourced[Seconds]
    """Time of normalisation, activation and residual of one layer [s]."""

    elementwise_bandwidth: Sourced[Efficiency]
    """Fraction of memory bandwidth of elementwise operations [1]."""

    elementwise_passes: Sourced[PositiveNumber]
    """Times that one layer's residual is read or written [1]."""

    launch_latency: Sourced[Seconds]
    """Host time to launch the kernels of one layer in a step that is no recorded graph; it overlaps with them [s]."""

    graph_tokens: Sourced[WholeTokens]
    """Tokens up to which steps are recorded graphs, which launch at once [tokens]."""

    step_overhead: Sourced[Seconds]
    """Host time of one engine iteration: scheduling, input preparation [s]."""

    sequence_overhead: Sourced[Seconds]
    """Host time of one iteration per sequence in it: sampling, stop conditions, detokenisation [s]."""

    request_overhead: Sourced[Seconds]
    """Time from a request's arrival to the scheduler and from its first token to the client [s]."""

    step_time_spread: Sourced[Fraction]
    """Relative error of predicted step times on systems that the parameters were not fitted on [1]."""


EFFICIENCIES = frozenset(
    {
        "weight_bandwidth", "kv_bandwidth", "latent_kv_bandwidth", "decode_attention", "latent_decode_attention",
        "prefill_attention", "expert_bandwidth", "elementwise_bandwidth", "matmul", "expert_matmul",
    }
)  # fmt: skip
"""Fractions of a datasheet rate that no factor lifts above 1; links are left out, for switches can add up."""

BandMetric = Literal["throughput", "tpot", "e2e", "ttft"]
BandClass = Literal["calibrated", "transferred", "specification"]


class BandSpec(Spec):
    """Range around a prediction that held four of five measured values, as ratios of measured to predicted."""

    low: PositiveNumber
    """10th percentile of measured over predicted [1]."""

    high: PositiveNumber
    """90th percentile of measured over predicted [1]."""

    points: NonNegativeInteger = 0
    """Measured points behind it; 0 means that the band is an assumption."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be below high")
        return self


ModelFeature = Literal["dense", "experts", "latent_attention", "sliding_window", "recurrent_state"]


class CoverageSpec(Spec):
    """What the measured points behind the efficiencies on one accelerator family are points of."""

    points: NonNegativeInteger
    """Measured numbers that were compared."""

    accelerators: tuple[str, ...] = ()
    """Hardware profiles with enough points to judge predictions for them; others of the family inherit."""

    features: tuple[ModelFeature, ...] = ()
    """Kinds of layers that the measured models have."""

    formats: tuple[NumberFormat, ...] = ()
    """Arithmetic formats of the matrix products that were measured."""

    most_sequences: PositiveNumber | None = None
    """Most sequences that one measured replica ran at a time; absent where no source says so."""

    most_tokens: PositiveNumber | None = None
    """Longest measured requests, prompt and answer together [tokens]."""

    bands: dict[BandMetric, BandSpec] = Field(default_factory=dict)
    """Metric -> error band earned by these points when their group was left out of the fit."""


class ServingStackSpec(Document):
    """One serving framework at one date: its batching and its efficiencies."""

    kind: Literal["serving_stack"]
    """Says what the file describes."""

    batching: BatchingSpec
    """Scheduler and KV memory."""

    step_time: StepTimeSpec
    """Efficiencies and latencies."""

    step_time_source: StepTimeSource | None = None
    """Where step times come from, instead of `step_time`: a table of measured steps, or aiconfigurator-core; pools may
    name another one. `step_time` still says how they continue outside of it, and the overhead of requests."""

    families: dict[str, dict[str, Sourced[PositiveNumber]]] = Field(default_factory=dict)
    """Accelerator family -> parameter of `step_time`, or `parameter.format` -> factor on it; families without an entry
    use it as it is."""

    bands: dict[BandMetric, dict[BandClass, BandSpec]] = Field(default_factory=dict)
    """Metric -> how well the system is known -> error band of a prediction."""

    coverage: dict[str, CoverageSpec] = Field(default_factory=dict)
    """Accelerator family -> what its measured points cover; predictions outside are flagged."""

    @model_validator(mode="after")
    def _factors_name_parameters(self) -> Self:
        known = set(StepTimeSpec.model_fields) - {"smoothness", "step_time_spread"}
        for family, factors in self.families.items():
            unknown = sorted(name for name in factors if name.partition(".")[0] not in known)
            if unknown:
                raise ValueError(f"families.{family} has factors on what is no parameter: {', '.join(unknown)}")
        return self

    def step_time_on(self, family: str) -> StepTimeSpec:
        """Return the step-time parameters on one accelerator family.

        Parameters
        ----------
        family : str
            Family of a hardware profile; one without factors gets the stack's own values.

        """
        update: dict[str, Any] = {}
        for written, factor in self.families.get(family, {}).items():
            name, _, number_format = written.partition(".")
            value = update.get(name, getattr(self.step_time, name))
            if isinstance(value, Mapping):
                update[name] = {
                    key: _times(name, each, factor.value) if number_format in ("", key.value) else each
                    for key, each in value.items()
                }
            else:
                update[name] = _times(name, value, factor.value)
        return self.step_time.model_copy(update=update)


def _times(name: str, parameter: Sourced[float], factor: float) -> Sourced[float]:
    """Return a parameter and its range times a factor; an efficiency stays at or below 1, as an exponent does."""
    most = 1.0 if name in EFFICIENCIES or name.endswith("exponent") else math.inf
    scaled = {
        key: None if (value := getattr(parameter, key)) is None else min(value * factor, max(most, value))
        for key in ("value", "low", "high")
    }
    return parameter.model_copy(update=scaled)
