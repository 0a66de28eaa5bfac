"""What the simulator says about a measured system: the run is simulated as it was driven, and read like its log.

One replica is simulated. Behind a load balancer that takes turns, a replica of R sees every R-th arrival, so Poisson
arrivals come to it with Gamma distributed gaps of shape R. Closed loops start with all users at once, as benchmark
clients do, and last as many rounds as those clients ask for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.engine.run import RunPlan, run
from sim.fidelity.mapping import Load, System, UnmappedError, dataset
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment
from sim.serving.kv_cache import kv_capacity
from sim.serving.roofline import window_tokens
from sim.serving.step_time import tabulate_step_time
from sim.specs.serving_stack import ServingStackSpec

FloatArray = NDArray[np.float64]

SEED = 20260901
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_NANOSECONDS = 1e9
_CLOSED_ROUNDS = 10
_FEWEST, _MOST = 40, 5000
_OPEN_REQUESTS = 2000
_OFFLINE_ROUNDS = 4
_BISECTIONS = 7
_LONGEST_NS = 4_000_000_000_000_000


@dataclass(frozen=True)
class Prediction:
    """Predicted metrics of one system."""

    values: Mapping[tuple[str, str], float]
    """Metric and statistic -> value [s, or 1/s and accelerator]."""

    load_factor: float
    """Offered load over mean-field capacity; below 1 for a stable open loop, 1 where the load adapts itself."""

    requests: int
    """Requests simulated."""


def deployment(system: System, stack: ServingStackSpec) -> Deployment:
    """Return one replica of a measured system under a serving stack.

    Parameters
    ----------
    system : System
        The system.
    stack : ServingStackSpec
        Batching limits and efficiencies.

    Raises
    ------
    UnmappedError
        The model does not fit in memory, or a number format has no efficiency.

    """
    layout, model, batching = system.parallelism, system.model, stack.batching
    kv = kv_capacity(
        model.architecture,
        system.formats,
        layout,
        system.hardware.memory.usable.value,
        batching.memory_fraction.value,
        batching.activation_reserve.value,
        int(batching.kv_block.value),
    )
    longest = round(1.0 / 0.9 * (system.lengths.prompt_tokens + system.lengths.output_tokens))
    if kv.tokens < longest + 2 * kv.sequence_charge:
        raise UnmappedError(f"{model.name} does not fit on {layout.accelerators} x {system.hardware.name}")
    groups = layout.data * layout.pipeline
    users = math.ceil(system.load.amount / system.replicas) if system.load.kind in ("closed", "batch") else 0
    sequences = max(int(batching.max_sequences.value) * groups, users)
    budget = int(batching.step_token_budget.value) * groups
    try:
        times = tabulate_step_time(
            model.architecture,
            system.hardware,
            layout,
            system.formats,
            stack.step_time_on(system.hardware.family),
            budget + sequences,
            sequences,
        )
    except KeyError as error:
        raise UnmappedError(
            f"{system.hardware.name} or the serving stack knows no {error.args[0]} arithmetic"
        ) from None
    return Deployment(
        pool="measured",
        model=model.name,
        hardware=system.hardware.name,
        replicas=1,
        accelerators=layout.accelerators,
        step_time=times,
        request_overhead_s=stack.step_time_on(system.hardware.family).request_overhead.value,
        kv=kv,
        max_sequences=sequences,
        step_token_budget=budget,
        admission_headroom=max(1, int(batching.admission_headroom.value * kv.tokens)),
        window=window_tokens(model.architecture),
        context_length=1 << 30,
        price=None,
        idle_w=None,
        busy_w=None,
        specification_only=False,
    )


def predict(system: System, stack: ServingStackSpec) -> Prediction:
    """Return what the simulator predicts for a measured system.

    Where a run was driven at a rate under stated limits, its throughput is the highest rate that keeps them, and its
    latencies are those at the rate that was driven.

    Parameters
    ----------
    system : System
        The system.
    stack : ServingStackSpec
        Batching limits and efficiencies.

    Raises
    ------
    UnmappedError
        The system cannot be represented; says why.

    """
    replica = deployment(system, stack)
    kind = system.load.kind
    overhead_s = stack.step_time.request_overhead.value
    if kind == "offline":
        return _offline(system, replica)
    if kind == "limits":
        return Prediction({("throughput", "output"): _limited(system, replica, overhead_s)}, 1.0, _OPEN_REQUESTS)
    if kind == "open":
        result = _open(system, replica, overhead_s, system.load.amount / system.replicas, _OPEN_REQUESTS)
        if math.isfinite(system.load.tpot_limit_s):
            values = dict(result.values)
            values["throughput", "output"] = _limited(system, replica, overhead_s)
            result = Prediction(values, result.load_factor, result.requests)
        return result
    users = max(1, round(system.load.amount / system.replicas))
    count = users if kind == "batch" else min(max(_CLOSED_ROUNDS * users, _FEWEST), max(_MOST, 3 * users))
    trace = _closed_trace(system, users, count)
    records = _simulate(trace, replica)
    return Prediction(_metrics(records, system, replica, overhead_s), 1.0, count)


def _lengths(system: System, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return prompt, cached and answer lengths of some requests [tokens], shape (count,) each."""
    lengths = system.lengths
    draws = stream(SEED, "fidelity", system.model.name, "lengths")
    if lengths.shape == "dataset":
        table = np.array(dataset(lengths.dataset), np.float64)
        rows = draws.permuted(np.resize(np.arange(len(table)), count))
        scale = np.array([lengths.prompt_tokens, lengths.output_tokens]) / table.mean(axis=0)
        prompt, output = (table * scale)[rows].T
    elif lengths.shape == "uniform":
        low, high = 0.8 / 0.9, 1.0 / 0.9
        prompt = lengths.prompt_tokens * draws.uniform(low, high, count)
        output = lengths.output_tokens * draws.uniform(low, high, count)
    else:
        prompt, output = np.full(count, lengths.prompt_tokens), np.full(count, lengths.output_tokens)
    whole = np.maximum(1, np.rint(prompt)).astype(np.int64)
    cached = np.minimum(np.int64(round(lengths.cached_tokens)), whole - 1)
    return whole, cached, np.maximum(1, np.rint(output)).astype(np.int64)


def _closed_trace(system: System, users: int, count: int) -> Trace:
    prompt, cached, output = _lengths(system, count)
    follows = np.arange(count, dtype=np.int64) - users
    return Trace(
        ("requests",), np.zeros(count, np.int64), np.zeros(count, np.int16), prompt, cached, output,
        np.maximum(follows, -1), np.zeros(count, np.int64),
    )  # fmt: skip


def _open_trace(system: System, rate: float, count: int) -> Trace:
    prompt, cached, output = _lengths(system, count)
    if system.lengths.shape == "dataset":
        shape = float(system.replicas)
        gaps = stream(SEED, "fidelity", "gaps", system.replicas).gamma(shape, 1.0 / shape, count) / rate
    else:
        gaps = np.full(count, 1.0 / rate)
    arrival = np.cumsum(np.rint(gaps * _NANOSECONDS)).astype(np.int64)
    return Trace(("requests",), arrival, np.zeros(count, np.int16), prompt, cached, output)


def _simulate(trace: Trace, replica: Deployment) -> NDArray[np.void]:
    plan = RunPlan(
        trace=trace,
        deployments=[replica],
        pools_of_class=[[0]],
        router="round_robin",
        draws=np.zeros((0, 2)),
        arrivals_end_ns=_LONGEST_NS,
        drain_ns=0,
        interval_ns=_LONGEST_NS,
    )
    records = run(plan, "compiled").requests
    return records[records["finished_ns"] >= 0]


def _metrics(
    records: NDArray[np.void], system: System, replica: Deployment, overhead_s: float, skip: float = 0.0
) -> dict[tuple[str, str], float]:
    """Return metrics of the requests that finished, without the first `skip` of the arrivals."""
    records = records[int(skip * len(records)) :]
    if len(records) == 0:
        raise UnmappedError("no request finishes in simulation: longer than the KV memory of a replica")
    arrival, first, finished = (
        records[name] / _NANOSECONDS for name in ("arrival_ns", "first_token_ns", "finished_ns")
    )
    output = records["output_tokens"]
    several = output > 1
    columns = {"ttft": first - arrival + overhead_s, "e2e": finished - arrival + overhead_s}
    if several.any():
        columns["tpot"] = ((finished - first)[several]) / (output[several] - 1)
    values: dict[tuple[str, str], float] = {}
    for name, column in columns.items():
        values[name, "mean"] = float(column.mean())
        for statistic, quantile in QUANTILES.items():
            values[name, statistic] = float(np.quantile(column, quantile))
    span_s = float(finished.max() - arrival.min()) + overhead_s
    for statistic, total in (
        ("output", output.sum()), ("input", records["prompt_tokens"].sum()), ("requests", len(records)),
    ):  # fmt: skip
        values["throughput", statistic] = float(total / span_s / replica.accelerators)
    return values


def _open(system: System, replica: Deployment, overhead_s: float, rate: float, count: int) -> Prediction:
    trace = _open_trace(system, rate, count)
    mix = request_mix(trace.prompt_tokens, trace.cached_tokens, trace.output_tokens, replica.window)
    load_factor = rate / saturated_requests_per_s(replica, mix)
    values = _metrics(_simulate(trace, replica), system, replica, overhead_s, skip=0.2)
    return Prediction(values, load_factor, count)


def _offline(system: System, replica: Deployment) -> Prediction:
    """Return throughput between the first tenth and the moment when no request waits any more, all queued at once."""
    prompt, cached, output = _lengths(system, 200)
    mix = request_mix(prompt, cached, output, replica.window)
    held = min(replica.max_sequences, max(1.0, replica.kv.tokens / (replica.kv.sequence_charge + mix.kv_tokens)))
    count = math.ceil(_OFFLINE_ROUNDS * held) + _FEWEST
    records = _simulate(_closed_trace(system, count, count), replica)
    if len(records) == 0:
        raise UnmappedError("no request finishes in simulation: longer than the KV memory of a replica")
    end = int(records["admitted_ns"].max())
    start = end // 10
    seconds = (end - start) / _NANOSECONDS * replica.accelerators
    values = {}
    for statistic, amount, since, until in (
        ("output", "output_tokens", "first_token_ns", "finished_ns"),
        ("input", "prompt_tokens", "admitted_ns", "first_token_ns"),
    ):
        length = np.maximum(records[until] - records[since], 1)
        done = [np.clip((instant - records[since]) / length, 0.0, 1.0) for instant in (start, end)]
        values["throughput", statistic] = float(((done[1] - done[0]) * records[amount]).sum() / seconds)
    values["throughput", "requests"] = values["throughput", "output"] / mix.output_tokens
    return Prediction(values, 1.0, count)


def _limited(system: System, replica: Deployment, overhead_s: float) -> float:
    """Return output tokens per second and accelerator at the highest rate that keeps the limits, by bisection."""
    lengths = _lengths(system, 200)
    mix = request_mix(*lengths, replica.window)
    high = 1.1 * saturated_requests_per_s(replica, mix)
    low = 0.0
    limits = Load("limits", 0.0, system.load.ttft_limit_s, system.load.tpot_limit_s)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high) if low else 0.7 * high
        values = _open(system, replica, overhead_s, middle, _OPEN_REQUESTS).values
        kept = values["ttft", "p99"] <= limits.ttft_limit_s and values["tpot", "p99"] <= limits.tpot_limit_s
        low, high = (middle, high) if kept else (low, middle)
    rate = low or high
    return float(rate * mix.output_tokens / replica.accelerators)
