"""The engines against queueing theory: exact pathwise oracles first, then statistical ones that are narrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.engine.compiled_engine import CompiledEngine
from sim.engine.simpy_engine import SimpyEngine
from sim.results.intervals import batch_means_interval
from sim.theory.processor_sharing import affine_mean_response, capped_processor_sharing
from sim.theory.queues import (
    erlang_c,
    lindley_waits,
    mg1_mean_wait,
    mg_infinity_mean_in_system,
    mmc_mean_wait,
    multi_server_fifo,
)

FOREVER = 1 << 62


def simulate(builder: Any, engine: type[CompiledEngine] | type[SimpyEngine] = CompiledEngine) -> Any:
    fleet, routing, arrivals = builder.build()
    engine(fleet, routing, arrivals).advance(FOREVER)
    assert (fleet.requests["outcome"] == 1).all()
    return fleet.requests


@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    services=st.lists(st.integers(1, 30), min_size=60, max_size=60),
)
@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_batch_of_one_is_lindley(
    fleet_builder: Any, engine: type[CompiledEngine], gaps: list[int], services: list[int]
) -> None:
    """One sequence at a time and a millisecond per prompt token is a FIFO single server."""
    arrivals = np.cumsum(gaps) * 1e-3
    service = np.array(services[: len(gaps)])
    requests = simulate(fleet_builder(arrivals, prompt=service, token_s=1e-3), engine)
    waits = lindley_waits(np.diff(arrivals), service * 1e-3)
    assert requests["admitted_ns"] - requests["arrival_ns"] == pytest.approx(np.rint(waits * 1e9), abs=2)
    assert requests["finished_ns"] == pytest.approx(np.rint((arrivals + waits + service * 1e-3) * 1e9), abs=2)


@given(
    gaps=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    services=st.lists(st.integers(1, 100), min_size=60, max_size=60),
    replicas=st.integers(1, 5),
)
def test_round_robin_is_one_lindley_queue_per_replica(
    fleet_builder: Any, gaps: list[int], services: list[int], replicas: int
) -> None:
    """Dealt in turn, every replica is a FIFO queue of its own."""
    arrivals = np.cumsum(gaps) * 1e-3
    service = np.array(services[: len(gaps)])
    builder = fleet_builder(arrivals, prompt=service, token_s=1e-3, replicas=replicas, router="round_robin")
    requests = simulate(builder)
    for first in range(replicas):
        mine = slice(first, None, replicas)
        assert (requests["replica"][mine] == first).all()
        if len(arrivals[mine]) == 0:
            continue
        waits = lindley_waits(np.diff(arrivals[mine]), service[mine] * 1e-3)
        assert (requests["admitted_ns"] - requests["arrival_ns"])[mine] == pytest.approx(np.rint(waits * 1e9), abs=2)


@given(
    arrivals=st.lists(st.integers(0, 100), min_size=1, max_size=5, unique=True),
    services=st.lists(st.integers(1, 100), min_size=5, max_size=5),
)
def test_least_outstanding_is_a_shared_queue_while_servers_last(
    fleet_builder: Any, arrivals: list[int], services: list[int]
) -> None:
    """With as many replicas as requests nobody waits, exactly as with one queue before many servers."""
    arrivals_s = np.sort(arrivals) * 1e-3
    service = np.array(services[: len(arrivals)])
    requests = simulate(fleet_builder(arrivals_s, prompt=service, token_s=1e-3, replicas=5))
    start = multi_server_fifo(arrivals_s, service * 1e-3, 5)
    assert requests["admitted_ns"] == pytest.approx(np.rint(start * 1e9), abs=2)


@pytest.mark.parametrize(("load", "width"), [(0.5, 0.06), (0.8, 0.15)])
def test_single_server_wait_is_pollaczek_khinchine(fleet_builder: Any, load: float, width: float) -> None:
    """Mean wait of M/G/1 with lognormal service, covered by an interval that is narrow."""
    generator = np.random.default_rng(5)
    count = 400_000
    service = np.ceil(generator.lognormal(np.log(200), 0.7, count))
    mean_s, second = service.mean() * 1e-3, (service**2).mean() * 1e-6
    rate = load / mean_s
    arrivals = np.cumsum(generator.exponential(1 / rate, count))
    requests = simulate(fleet_builder(arrivals, prompt=service.astype(np.int64), token_s=1e-3))
    waits = (requests["admitted_ns"] - requests["arrival_ns"]) * 1e-9
    estimate = batch_means_interval(arrivals, waits, batches=20, confidence=0.99)
    theory = mg1_mean_wait(rate, mean_s, second)
    assert estimate.low <= theory <= estimate.high
    assert estimate.high - estimate.low < width * theory


def test_exponential_service_matches_erlang_c_with_one_server(fleet_builder: Any) -> None:
    """M/M/1 is M/M/c with c = 1: probability of waiting and mean wait."""
    generator = np.random.default_rng(11)
    count = 400_000
    service = np.ceil(generator.exponential(2000, count)).astype(np.int64)
    rate = 0.6 / (service.mean() * 1e-4)
    arrivals = np.cumsum(generator.exponential(1 / rate, count))
    requests = simulate(fleet_builder(arrivals, prompt=service, token_s=1e-4))
    waits = (requests["admitted_ns"] - requests["arrival_ns"]) * 1e-9
    delayed = batch_means_interval(arrivals, (waits > 0).astype(float), batches=20, confidence=0.99)
    assert delayed.low <= erlang_c(1, 0.6) <= delayed.high
    assert delayed.high - delayed.low < 0.02
    mean = batch_means_interval(arrivals, waits, batches=20, confidence=0.99)
    theory = mmc_mean_wait(rate, rate / 0.6, 1)
    assert mean.low <= theory <= mean.high
    assert mean.high - mean.low < 0.1 * theory


def test_steps_without_sharing_are_infinite_servers(fleet_builder: Any) -> None:
    """A step time that does not depend on the batch is M/G/inf: sequences do not feel each other."""
    generator = np.random.default_rng(3)
    count, step_s, rate = 100_000, 0.01, 4.0
    output = np.ceil(generator.lognormal(np.log(300), 0.8, count)).astype(np.int64)
    arrivals = np.cumsum(generator.exponential(1 / rate, count))
    requests = simulate(fleet_builder(arrivals, output=output, base_s=step_s, max_sequences=1024))
    sojourn = (requests["finished_ns"] - requests["arrival_ns"]) * 1e-9
    # A request joins at the next boundary, at most one step after its arrival.
    excess = sojourn - output * step_s
    assert excess.min() >= -1e-9
    assert excess.max() <= step_s + 1e-9
    in_system = batch_means_interval(arrivals, sojourn * rate, batches=20, confidence=0.99)
    theory = mg_infinity_mean_in_system(rate, output.mean() * step_s + 0.5 * step_s)
    assert in_system.low <= theory <= in_system.high
    assert in_system.high - in_system.low < 0.05 * theory


def test_affine_step_time_is_state_dependent_processor_sharing(fleet_builder: Any) -> None:
    """tau(n) = a + b n: the mean response is x (a + b) / (1 - lambda E[L] b), insensitive to the distribution."""
    generator = np.random.default_rng(17)
    count, base_s, per_sequence_s = 200_000, 0.008, 0.0002
    output = np.ceil(generator.lognormal(np.log(400), 0.9, count)).astype(np.int64)
    rate = 0.7 / (per_sequence_s * output.mean())
    arrivals = np.cumsum(generator.exponential(1 / rate, count))
    requests = simulate(
        fleet_builder(arrivals, output=output, base_s=base_s, sequence_s=per_sequence_s, max_sequences=4096)
    )
    late = arrivals > arrivals[-1] * 0.1
    sojourn = (requests["finished_ns"] - requests["arrival_ns"]) * 1e-9
    estimate = batch_means_interval(arrivals[late], sojourn[late], batches=20, confidence=0.99)
    step_s = affine_mean_response(rate, output.mean(), base_s, per_sequence_s, 1.0)
    theory = affine_mean_response(rate, output.mean(), base_s, per_sequence_s, output.mean())
    assert estimate.low - step_s <= theory <= estimate.high
    assert estimate.high - estimate.low < 0.08 * theory


def test_batch_limit_is_capped_processor_sharing(fleet_builder: Any) -> None:
    """With a limit on sequences and exponential lengths, waiting follows the capped birth-death chain."""
    generator = np.random.default_rng(23)
    count, base_s, per_sequence_s, cap = 600_000, 0.004, 0.001, 8
    output = np.ceil(generator.exponential(300, count)).astype(np.int64)
    times = base_s + per_sequence_s * np.arange(1, cap + 1)
    rate = 0.8 * cap / (times[-1] * output.mean())
    arrivals = np.cumsum(generator.exponential(1 / rate, count))
    requests = simulate(
        fleet_builder(arrivals, output=output, base_s=base_s, sequence_s=per_sequence_s, max_sequences=cap)
    )
    waits = (requests["admitted_ns"] - requests["arrival_ns"]) * 1e-9
    estimate = batch_means_interval(arrivals, waits, batches=20, confidence=0.99)
    theory = capped_processor_sharing(rate, float(output.mean()), times)
    assert estimate.low - times[-1] <= theory.mean_wait_s <= estimate.high
    assert estimate.high - estimate.low < 0.2 * theory.mean_wait_s
