"""What the simulator says about a measured system: the run is simulated as it was driven, and read like its log.

Closed loops last as many rounds as benchmark clients ask for. A server under limits on its latencies is driven at the
highest rate that keeps them, for as long as MLPerf drives it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sim.fidelity.clients import clients
from sim.fidelity.driven_runs import (
    NANOSECONDS,
    QUANTILES,
    client_metrics,
    closed_trace,
    open_trace,
    request_lengths,
    simulate,
)
from sim.fidelity.measured_replica import deployment
from sim.fidelity.systems import Load, Speculation, System, UnmappedError
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment
from sim.specs.serving_stack import ServingStackSpec

_CLOSED_ROUNDS = 10
_FEWEST, _MOST = 40, 5000
_OPEN_REQUESTS = 2000
_OFFLINE_ROUNDS = 4
_BISECTIONS = 7
_POOL_STEPS = 8

_SERVER_S = 600.0
"""Shortest run of MLPerf's server scenario [s]: what a small overload needs to show in the latencies."""

_SERVER_MOST = 12_000
"""Requests of one replica after which longer runs say nothing new."""

_SERVED = 0.97
"""Load factor beyond which an open loop is predicted at this one: see `predict`."""


@dataclass(frozen=True)
class Prediction:
    """Predicted metrics of one system."""

    values: Mapping[tuple[str, str], float]
    """Metric and statistic -> value [s, or 1/s and accelerator]."""

    load_factor: float
    """Offered load over what the system can do: over mean-field capacity, or over the highest rate that keeps the
    limits where there are any; 1 where the load adapts itself."""

    requests: int
    """Requests simulated."""


def predict(
    system: System,
    stack: ServingStackSpec,
    at_given_rate: bool = False,
    factors: Mapping[str, float] | None = None,
) -> Prediction:
    """Return what the simulator predicts for a measured system.

    A run at a rate under stated limits is taken for what it is, a server driven as hard as its limits allow: its
    throughput is the highest rate that keeps them in simulation, and so are its latencies those at that rate. At the
    absolute rate a capacity that is wrong by a tenth would make latencies wrong by half, below or beyond the knee. For
    the same reason an open loop without limits whose rate exceeds 0.97 of the predicted capacity is predicted at 0.97:
    that it was measured shows that the system served it. In both cases the load factor keeps the given rate.

    Parameters
    ----------
    system : System
        The system.
    stack : ServingStackSpec
        Batching limits and efficiencies.
    at_given_rate : bool
        Predict latencies of open loops at the absolute rate, whatever the predicted capacity.
    factors : mapping, optional
        Benchmark client -> factor on the overhead of a request; by default those of the shipped fit.

    Raises
    ------
    UnmappedError
        The system cannot be represented; says why.

    """
    replica = deployment(system, stack)
    kind = system.load.kind
    overhead_s = replica.request_overhead_s * (clients() if factors is None else factors).get(system.client, 1.0)
    if kind == "offline":
        return _offline(system, replica)
    if kind == "limits":
        return _limited(system, replica, overhead_s)
    if kind == "open":
        rate = system.load.amount / system.replicas
        if math.isfinite(system.load.tpot_limit_s):
            return _limited(system, replica, overhead_s, rate, at_given_rate)
        return _open(system, replica, overhead_s, rate, at_given_rate)
    users = max(1, round(system.load.amount / system.replicas))
    if system.prefill is not None and kind == "closed":
        return _two_pools(system, stack, replica, overhead_s, users)
    return _closed(system, replica, overhead_s, users)


def _closed(system: System, replica: Deployment, overhead_s: float, users: int) -> Prediction:
    batch = system.load.kind == "batch"
    count = users if batch else min(max(_CLOSED_ROUNDS * users, _FEWEST), max(_MOST, 3 * users))
    records = simulate(closed_trace(system, users, count), replica)
    return Prediction(client_metrics(records, system, replica, overhead_s), 1.0, count)


def _two_pools(
    system: System, stack: ServingStackSpec, replica: Deployment, overhead_s: float, users: int
) -> Prediction:
    """Return metrics where one pool prefills and another decodes, with a KV transfer between them.

    The decode pool is simulated with as many users as the prefill pool can feed, found by bisection; the prefill pool
    in an open loop at the rate that these sustain, and everybody else waits for a prompt to be computed. The KV of a
    prompt passes at the rate of one link out of the scale-up domain for each accelerator of the prefill replica.
    """
    pool = system.prefill
    assert pool is not None
    whole = dataclasses.replace(system.lengths, cached_tokens=0.0, output_tokens=1.0)
    first = dataclasses.replace(
        system,
        parallelism=pool.parallelism,
        replicas=pool.replicas,
        lengths=whole,
        load=Load("open", 1.0),
        prefill=None,
        speculation=Speculation(),
    )
    computing = deployment(first, stack)
    sent_s = _transfer_s(system, computing)
    total = float(users * system.replicas)
    low, high, inside = 0, users, users
    for _ in range(_POOL_STEPS):
        values = _closed(system, replica, 0.0, inside).values
        per_s = values["throughput", "requests"] * replica.accelerators * system.replicas
        prefilled = _open(first, computing, overhead_s, per_s / pool.replicas, False)
        served_per_s = per_s * min(1.0, _SERVED / prefilled.load_factor)
        # Little's law: whom the decode pool does not hold computes a prompt, or waits for that.
        computed_s = prefilled.values["ttft", "mean"] + sent_s
        room = served_per_s == per_s and inside + computed_s * per_s / system.replicas <= users
        low, high = (inside, high) if room else (low, inside)
        if high - low <= 1:
            break
        inside = (low + high) // 2
    queued_s = max(0.0, total / served_per_s - values["e2e", "mean"] - computed_s)
    result = dict(values)
    for statistic in ("mean", *QUANTILES):
        waited_s = prefilled.values["ttft", statistic] + sent_s + queued_s
        result["ttft", statistic] = waited_s
        result["e2e", statistic] = waited_s + values["e2e", statistic]
    decoding = replica.accelerators * system.replicas
    part = decoding / (decoding + computing.accelerators * pool.replicas)
    part *= served_per_s / per_s
    for key in [key for key in result if key[0] == "throughput"]:
        result[key] = result[key] * part
    return Prediction(result, prefilled.load_factor, _CLOSED_ROUNDS * users)


def _transfer_s(system: System, computing: Deployment) -> float:
    """Return the time to hand the KV of a mean prompt over [s]; nothing where no link is stated."""
    link = system.hardware.scale_out
    if link is None:
        return 0.0
    per_s = link.bandwidth.value * computing.accelerators
    return float(system.lengths.prompt_tokens * computing.kv.kv_bytes_per_token * computing.accelerators / per_s)


def _open(system: System, replica: Deployment, overhead_s: float, rate: float, at_given_rate: bool) -> Prediction:
    mix = request_mix(*request_lengths(system, _OPEN_REQUESTS), replica.window)
    load_factor = rate / saturated_requests_per_s(replica, mix)
    served = rate if at_given_rate else rate * min(1.0, _SERVED / load_factor)
    records = simulate(open_trace(system, served, _OPEN_REQUESTS), replica)
    return Prediction(client_metrics(records, system, replica, overhead_s, 0.2), load_factor, _OPEN_REQUESTS)


def _offline(system: System, replica: Deployment) -> Prediction:
    """Return throughput between the first tenth and the moment when no request waits any more, all queued at once."""
    prompt, cached, output = request_lengths(system, 200)
    mix = request_mix(prompt, cached, output, replica.window)
    held = min(replica.max_sequences, max(1.0, replica.kv.tokens / (replica.kv.sequence_charge + mix.kv_tokens)))
    count = math.ceil(_OFFLINE_ROUNDS * held) + _FEWEST
    records = simulate(closed_trace(system, count, count), replica)
    if len(records) == 0:
        raise UnmappedError("no request finishes in simulation: longer than the KV memory of a replica")
    end = int(records["admitted_ns"].max())
    start = end // 10
    seconds = (end - start) / NANOSECONDS * replica.accelerators
    values = {}
    for statistic, amount, since, until in (
        ("output", "output_tokens", "first_token_ns", "finished_ns"),
        ("input", "prompt_tokens", "admitted_ns", "first_token_ns"),
    ):
        length = np.maximum(records[until] - records[since], 1)
        done = [np.clip((instant - records[since]) / length, 0.0, 1.0) for instant in (start, end)]
        values["throughput", statistic] = float(((done[1] - done[0]) * records[amount]).sum() / seconds)
    values["throughput", "requests"] = values["throughput", "output"] / mix.output_tokens
    values["throughput", "output"] *= system.speculation.tokens_per_step
    return Prediction(values, 1.0, count)


def _limited(
    system: System,
    replica: Deployment,
    overhead_s: float,
    rate: float | None = None,
    at_given_rate: bool = False,
) -> Prediction:
    """Return metrics at the highest rate that keeps the limits, found by bisection, or latencies at the given rate."""
    mix = request_mix(*request_lengths(system, 200), replica.window)
    high, low = 1.1 * saturated_requests_per_s(replica, mix), 0.0
    limits = system.load
    kept: dict[tuple[str, str], float] = {}
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high) if low else 0.7 * high
        driven = _driven(system, replica, overhead_s, middle)
        good = driven["ttft", "p99"] <= limits.ttft_limit_s and driven["tpot", "p99"] <= limits.tpot_limit_s
        low, high = (middle, high) if good else (low, middle)
        kept = driven if good else kept
    highest = low or high
    values = kept or driven
    if rate is not None and at_given_rate:
        values = _driven(system, replica, overhead_s, rate)
    values["throughput", "output"] = (
        highest * mix.output_tokens / replica.accelerators * system.speculation.tokens_per_step
    )
    return Prediction(values, 1.0 if rate is None else rate / highest, _server_requests(highest))


def _driven(system: System, replica: Deployment, overhead_s: float, rate: float) -> dict[tuple[str, str], float]:
    """Return the metrics of a whole run of a server at a rate [requests/s], warm-up and drain included."""
    records = simulate(open_trace(system, rate, _server_requests(rate)), replica)
    return client_metrics(records, system, replica, overhead_s)


def _server_requests(rate: float) -> int:
    return int(min(max(_OPEN_REQUESTS, rate * _SERVER_S), _SERVER_MOST))
