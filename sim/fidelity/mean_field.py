"""Latency and throughput of many systems at once without simulation: what calibration fits on.

Mean field: the B sequences of a replica decode side by side, each leaves after `output` steps, and every new one adds
to some step a prompt, or to fewer steps a chunk of several when many leave at once. It knows no queueing and no bursts,
which is why fits are made on it and judged by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sim.fidelity.systems import System
from sim.serving.capacity import request_mix
from sim.serving.kv_cache import kv_capacity
from sim.serving.roofline import window_tokens
from sim.serving.step_time import StepRates, attention_seconds, linear_seconds, sequence_seconds
from sim.serving.step_work import StepShape, step_shape
from sim.specs.serving_stack import BatchingSpec

FloatArray = NDArray[np.float64]
Arrays = TypeVar("Arrays", StepShape, StepRates, "Traffic")

_ITERATIONS = 24
_TAIL = 1.1
"""99th percentile of TPOT over its mean near the limit, as the benchmarks' logs have it on the median [1]."""


@dataclass(frozen=True)
class Traffic:
    """What a replica of each of n systems is asked; all arrays of shape (n,)."""

    kind: NDArray[np.str_]
    """Kind of load."""

    users: FloatArray
    """Users of a closed loop or sequences of a batch, per replica; infinite when all requests wait at once."""

    rate: FloatArray
    """Requests per second and replica, of an open loop."""

    tpot_limit_s: FloatArray
    """Limit on the 99th percentile of TPOT [s]."""

    output: FloatArray
    """Mean answer [tokens]."""

    uncached: FloatArray
    """Mean prompt tokens to prefill [tokens]."""

    pairs: FloatArray
    """Mean query-key pairs of a prefill [1]."""

    window_pairs: FloatArray
    """The same in sliding-window layers [1]."""

    context: FloatArray
    """Mean context over decode steps [tokens]."""

    window_context: FloatArray
    """The same cut at the window [tokens]."""

    most: FloatArray
    """Sequences of a replica at most, by slots, KV memory and token budget."""

    budget: FloatArray
    """Tokens of a replica in one step at most [tokens]."""

    accelerators: FloatArray
    """Accelerators of a replica."""


@dataclass(frozen=True)
class MeanField:
    """Estimates for n systems; arrays of shape (n,)."""

    tpot_s: FloatArray
    """Mean time per output token [s]."""

    ttft_s: FloatArray
    """Mean time to first token without queueing [s]."""

    e2e_s: FloatArray
    """Mean time of a request [s]."""

    output_tokens_per_s: FloatArray
    """Output tokens per second and accelerator."""

    saturated: NDArray[np.bool_]
    """Whether an open loop asks for more than the system can do."""


def stacked_shapes(systems: Sequence[System]) -> StepShape:
    """Return the work of a step of n systems, as arrays of shape (n,)."""
    return StepShape.stacked(
        [step_shape(each.model.architecture, each.hardware, each.parallelism, each.formats) for each in systems]
    )


def traffic(systems: Sequence[System], batching: Sequence[BatchingSpec]) -> Traffic:
    """Return what n systems are asked.

    Parameters
    ----------
    systems : sequence of System
        n systems.
    batching : sequence of BatchingSpec
        Their batching limits.

    """
    rows = [_traffic_row(system, limits) for system, limits in zip(systems, batching, strict=True)]
    columns = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    return Traffic(kind=np.array([each.load.kind for each in systems]), **columns)


def _traffic_row(system: System, limits: BatchingSpec) -> dict[str, float]:
    load, lengths, replicas = system.load, system.lengths, system.replicas
    window = window_tokens(system.model.architecture)
    prompt, output = round(lengths.prompt_tokens), max(1, round(lengths.output_tokens))
    mix = request_mix([prompt], [round(lengths.cached_tokens)], [output], window)
    kv = kv_capacity(
        system.model.architecture,
        system.formats,
        system.parallelism,
        system.hardware.memory.usable.value,
        limits.memory_fraction.value,
        limits.activation_reserve.value,
        int(limits.kv_block.value),
    )
    groups = system.parallelism.data * system.parallelism.pipeline
    slots = float(limits.max_sequences.value * groups)
    closed = load.kind in ("closed", "batch")
    users = load.amount / replicas if closed else np.inf
    held = max(1.0, kv.tokens / (kv.sequence_charge + mix.kv_tokens))
    budget = float(limits.step_token_budget.value * groups)
    sustained = budget / (1.0 + mix.uncached_tokens / mix.output_tokens)
    return {
        "users": users,
        "rate": load.amount / replicas if load.kind == "open" else 0.0,
        "tpot_limit_s": load.tpot_limit_s,
        "output": mix.output_tokens,
        "uncached": mix.uncached_tokens,
        "pairs": mix.pairs,
        "window_pairs": mix.window_pairs,
        "context": mix.context,
        "window_context": mix.window_context,
        "most": max(1.0, min(slots if not closed else max(slots, users), held, sustained)),
        "budget": budget,
        "accelerators": float(system.parallelism.accelerators),
    }


def mean_field(shape: StepShape, rates: StepRates, asked: Traffic, request_overhead_s: FloatArray) -> MeanField:
    """Return estimates for n systems.

    Parameters
    ----------
    shape, rates : StepShape, StepRates
        Work and efficiencies, arrays of shape (n,).
    asked : Traffic
        Traffic of n systems.
    request_overhead_s : ndarray, shape (n,)
        Time of a request outside the engine [s].

    """
    step = _StepSeconds(shape, rates, asked)
    batch = asked.kind == "batch"
    full = np.minimum(asked.users, asked.most)
    sequences = full.copy()
    searched = (asked.kind == "open") | (asked.kind == "limits")
    if searched.any():
        sequences[searched] = _batch_in_balance(_rows(shape, searched), _rows(rates, searched), _rows(asked, searched))
    attention = step.attention
    seconds = step(sequences)
    together = np.where(batch, full, 1.0)
    first_s = linear_seconds(shape, rates, together * asked.uncached + np.where(batch, 0.0, sequences))
    first_s = first_s + sequence_seconds(shape, rates, sequences)
    first_s = first_s + together * (asked.pairs * attention[2] + asked.window_pairs * attention[3])
    ttft_s = request_overhead_s + first_s + np.where(batch, 0.0, 0.5 * np.minimum(sequences, 1.0) * seconds)
    saturated = (asked.kind == "open") & (full <= asked.rate * asked.output * step(full))
    waiting_s = np.where(np.isfinite(asked.users), asked.users - full, 0.0) * asked.output * seconds / full
    ttft_s = ttft_s + waiting_s
    rate = np.where(batch, full / np.maximum(ttft_s / asked.output + seconds, 1e-12), sequences / seconds)
    return MeanField(
        tpot_s=seconds,
        ttft_s=np.asarray(ttft_s),
        e2e_s=np.asarray(ttft_s + (asked.output - 1.0) * seconds),
        output_tokens_per_s=np.asarray(rate / asked.accelerators),
        saturated=np.asarray(saturated),
    )


class _StepSeconds:
    """Mean time of a step as a function of the batch; keeps the attention rates of its systems."""

    def __init__(self, shape: StepShape, rates: StepRates, asked: Traffic) -> None:
        self._shape, self._rates, self._asked = shape, rates, asked
        self._interleaved = np.where(asked.kind == "batch", 0.0, 1.0)
        self.attention = attention_seconds(shape, rates)

    def __call__(self, sequences: FloatArray) -> FloatArray:
        asked, shape, rates = self._asked, self._shape, self._rates
        finished = sequences / asked.output * self._interleaved
        chunk = np.clip(finished * asked.uncached, np.minimum(asked.uncached, asked.budget), asked.budget)
        alone = linear_seconds(shape, rates, sequences)
        longer = linear_seconds(shape, rates, sequences + chunk) - alone
        seconds = alone + finished * asked.uncached / chunk * longer + sequence_seconds(shape, rates, sequences)
        context_s, window_context_s, pair_s, window_pair_s = self.attention
        seconds = seconds + sequences * (asked.context * context_s + asked.window_context * window_context_s)
        return np.asarray(seconds + finished * (asked.pairs * pair_s + asked.window_pairs * window_pair_s))


def _batch_in_balance(shape: StepShape, rates: StepRates, asked: Traffic) -> FloatArray:
    """Return the batch that finishes what arrives, or the one whose step meets the limit, by bisection."""
    step = _StepSeconds(shape, rates, asked)
    open_loop = asked.kind == "open"
    demand = asked.rate * asked.output
    high = np.minimum(asked.users, asked.most)
    low = np.zeros_like(high)
    for _ in range(_ITERATIONS):
        middle = 0.5 * (low + high)
        seconds = step(middle)
        enough = np.where(open_loop, middle >= demand * seconds, seconds * _TAIL > asked.tpot_limit_s)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.maximum(high, 1e-3)


def _rows(arrays: Arrays, rows: NDArray[np.bool_]) -> Arrays:
    """Return some of the systems of a dataclass of arrays."""
    changed = {field.name: np.asarray(getattr(arrays, field.name))[rows] for field in fields(arrays)}
    return replace(arrays, **changed)
