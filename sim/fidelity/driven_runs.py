"""A measured run as the engine sees it: lengths, arrivals, one replica simulated, and its log read like a client's.

One replica is simulated. Behind a load balancer that takes turns, a replica of R sees every R-th arrival, so Poisson
arrivals come to it with Gamma distributed gaps of shape R. Closed loops start with all users at once, as benchmark
clients do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.engine.run import RunPlan, run
from sim.fidelity.systems import System, UnmappedError
from sim.fidelity.wording import dataset
from sim.serving.deployment import Deployment

SEED = 20260901
NANOSECONDS = 1e9
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_LONGEST_NS = 4_000_000_000_000_000


def request_lengths(system: System, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return prompt and cached tokens of some requests, and steps of their answers, shape (count,) each.

    A step gives one token, or several with speculation.
    """
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
    output = output / system.speculation.tokens_per_step
    whole = np.maximum(1, np.rint(prompt)).astype(np.int64)
    cached = np.minimum(np.int64(round(lengths.cached_tokens)), whole - 1)
    return whole, cached, np.maximum(1, np.rint(output)).astype(np.int64)


def closed_trace(system: System, users: int, count: int) -> Trace:
    """Return requests of users who ask again when they are answered, all of them at once at first."""
    prompt, cached, output = request_lengths(system, count)
    follows = np.arange(count, dtype=np.int64) - users
    return Trace(
        ("requests",), np.zeros(count, np.int64), np.zeros(count, np.int16), prompt, cached, output,
        np.maximum(follows, -1), np.zeros(count, np.int64),
    )  # fmt: skip


def open_trace(system: System, rate: float, count: int) -> Trace:
    """Return requests to one replica at a rate [1/s]: as a balancer deals them for data sets, else evenly spaced."""
    prompt, cached, output = request_lengths(system, count)
    if system.lengths.shape == "dataset":
        shape = float(system.replicas)
        gaps = stream(SEED, "fidelity", "gaps", system.replicas).gamma(shape, 1.0 / shape, count) / rate
    else:
        gaps = np.full(count, 1.0 / rate)
    arrival = np.cumsum(np.rint(gaps * NANOSECONDS)).astype(np.int64)
    return Trace(("requests",), arrival, np.zeros(count, np.int16), prompt, cached, output)


def simulate(trace: Trace, replica: Deployment) -> NDArray[np.void]:
    """Return the requests of a trace that one replica has finished."""
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


def client_metrics(
    records: NDArray[np.void], system: System, replica: Deployment, overhead_s: float, skip: float = 0.0
) -> dict[tuple[str, str], float]:
    """Return metrics of the requests that finished, without the first `skip` of the arrivals."""
    records = records[int(skip * len(records)) :]
    if len(records) == 0:
        raise UnmappedError("no request finishes in simulation: longer than the KV memory of a replica")
    arrival, first, finished = (records[name] / NANOSECONDS for name in ("arrival_ns", "first_token_ns", "finished_ns"))
    output = records["output_tokens"] * system.speculation.tokens_per_step
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
