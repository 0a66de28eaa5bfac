"""Breakdowns: closed form, matrix-geometric and truncated numerics, and exact sample paths agree."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.theory.breakdowns import (
    fifo_with_outages,
    mm1_breakdowns_mean_in_system,
    mm1_repeat_mean_wait,
    mmc_breakdowns_mean_in_system,
    repeated_completion_moments,
)
from sim.theory.queues import lindley_waits, mmc_mean_wait, multi_server_fifo

failures = st.floats(0.01, 2.0)
repairs = st.floats(0.2, 5.0)


def truncated(arrival: float, servers: int, failure: float, repair: float, together: bool, most: int) -> float:
    """Return the mean number of customers from a chain of states written out and cut at `most` customers."""
    up_states = [0, servers] if together else list(range(servers + 1))
    index = {(n, up): place for place, (n, up) in enumerate((n, up) for n in range(most + 1) for up in up_states)}
    generator = np.zeros((len(index), len(index)))
    for (n, up), place in index.items():
        moves = {(n + 1, up): arrival, (n - 1, up): float(min(n, up))}
        if together:
            moves |= {(n, 0): failure if up else 0.0, (n, servers): repair if not up else 0.0}
        else:
            moves |= {(n, up - 1): up * failure, (n, up + 1): (servers - up) * repair}
        for state, rate in moves.items():
            if state in index and state != (n, up):
                generator[place, index[state]] += rate
                generator[place, place] -= rate
    system = np.vstack([generator.T, np.ones(len(index))])
    target = np.zeros(len(index) + 1)
    target[-1] = 1.0
    state = np.linalg.lstsq(system, target, rcond=None)[0]
    return float(sum(probability * n for (n, _), probability in zip(index, state, strict=True)))


@given(load=st.floats(0.05, 0.95), failure=failures, repair=repairs)
def test_one_server_is_its_closed_form(load: float, failure: float, repair: float) -> None:
    arrival = load * repair / (failure + repair)
    closed = mm1_breakdowns_mean_in_system(arrival, 1.0, failure, repair)
    for together in (False, True):
        assert mmc_breakdowns_mean_in_system(arrival, 1.0, 1, failure, repair, together) == pytest.approx(
            closed, rel=1e-6
        )


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 0.6), (3, 0.7), (5, 0.5)])
def test_many_servers_against_a_chain_written_out(servers: int, load: float, together: bool) -> None:
    failure, repair = 0.2, 1.0
    arrival = load * servers * repair / (failure + repair)
    expected = truncated(arrival, servers, failure, repair, together, 90)
    found = mmc_breakdowns_mean_in_system(arrival, 1.0, servers, failure, repair, together)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("servers", [1, 3, 8])
def test_servers_that_hardly_fail_are_erlangs(servers: int) -> None:
    arrival = 0.8 * servers
    expected = arrival * mmc_mean_wait(arrival, 1.0, servers) + arrival
    for together in (False, True):
        found = mmc_breakdowns_mean_in_system(arrival, 1.0, servers, 1e-9, 1.0, together)
        assert found == pytest.approx(expected, rel=1e-5)


def test_failing_together_is_worse_than_failing_alone() -> None:
    arguments = (3.0, 1.0, 5, 0.1, 1.0)
    alone, together = (mmc_breakdowns_mean_in_system(*arguments, each) for each in (False, True))
    assert together > alone * 1.05


def test_moments_of_a_completion_against_draws() -> None:
    random = np.random.default_rng(3)
    mu, xi, eta = 1.0, 0.1, 0.5
    totals = []
    for length in random.exponential(1 / mu, 40_000):
        total = 0.0
        while (failure := random.exponential(1 / xi)) < length:
            total += failure + random.exponential(1 / eta)
        totals.append(total + length)
    found = np.array(totals)
    for power, expected in enumerate(repeated_completion_moments(mu, xi, eta), start=1):
        half = 2.6 * (found**power).std() / math.sqrt(len(found))
        assert abs((found**power).mean() - expected) < half < 0.12 * expected


def outages(
    random: np.random.Generator, servers: int, failure: float, repair: float, until: float
) -> list[list[tuple[float, float]]]:
    result = []
    for _ in range(servers):
        times, now = [], random.exponential(1 / failure)
        while now < until:
            end = now + random.exponential(1 / repair)
            times.append((now, end))
            now = end + random.exponential(1 / failure)
        result.append(times)
    return result


def path(seed: int, arrival: float, servers: int, failure: float, repair: float, repeat: bool) -> tuple[float, float]:
    """Return the mean number in the system and the mean sojourn of one path."""
    random = np.random.default_rng(seed)
    size = 8000
    at = np.cumsum(random.exponential(1 / arrival, size))
    services = random.exponential(1.0, size)
    done, _ = fifo_with_outages(at, services, outages(random, servers, failure, repair, float(at[-1]) * 2), repeat)
    sojourn = done - at
    return float(sojourn.sum() / done.max()), float(sojourn.mean())


@pytest.mark.parametrize("servers", [1, 3])
def test_resumed_services_against_sample_paths(servers: int) -> None:
    arrival, failure, repair = 0.5 * servers, 0.1, 0.6
    paths = np.array([path(seed, arrival, servers, failure, repair, False)[1] for seed in range(12)])
    expected = mmc_breakdowns_mean_in_system(arrival, 1.0, servers, failure, repair) / arrival
    half = 3.1 * paths.std(ddof=1) / math.sqrt(len(paths))
    assert abs(paths.mean() - expected) < half < 0.15 * expected


def test_repeated_services_against_sample_paths() -> None:
    arrival, failure, repair = 0.4, 0.1, 0.6
    paths = np.array([path(seed, arrival, 1, failure, repair, True)[1] for seed in range(16)])
    mean, _ = repeated_completion_moments(1.0, failure, repair)
    expected = mm1_repeat_mean_wait(arrival, 1.0, failure, repair) + mean
    half = 3.0 * paths.std(ddof=1) / math.sqrt(len(paths))
    assert abs(paths.mean() - expected) < half < 0.15 * expected


def test_an_outage_by_hand() -> None:
    arrivals, services = [0.0, 1.0, 2.0, 10.0], [4.0, 5.0, 1.0, 1.0]
    away = [[(3.0, 20.0)], [(30.0, 40.0)]]
    done, lost = fifo_with_outages(arrivals, services, away, repeat=True)
    # The first begins anew at 6 on the other server, before the third, who came later.
    assert done.tolist() == [10.0, 6.0, 11.0, 12.0]
    assert lost.tolist() == [1, 0, 0, 0]
    done, lost = fifo_with_outages(arrivals, services, away, repeat=False)
    assert done.tolist() == [7.0, 6.0, 8.0, 11.0]
    one, _ = fifo_with_outages([0.0, 0.0], [2.0, 1.0], [[(2.0, 5.0)]], repeat=True)
    assert one.tolist() == [2.0, 6.0]


@given(
    gaps=st.lists(st.floats(0.0, 3.0), min_size=1, max_size=30),
    lengths=st.lists(st.floats(0.01, 5.0), min_size=30, max_size=30),
    servers=st.integers(1, 4),
)
def test_without_outages_it_is_the_plain_queue(gaps: list[float], lengths: list[float], servers: int) -> None:
    at = np.cumsum(gaps)
    services: NDArray[np.float64] = np.array(lengths[: len(gaps)])
    done, lost = fifo_with_outages(at, services, [[] for _ in range(servers)], repeat=True)
    assert done == pytest.approx(multi_server_fifo(at, services, servers) + services)
    if servers == 1:
        assert done - services - at == pytest.approx(lindley_waits(np.diff(at), services), abs=1e-9)
    assert not lost.any()


def test_outside_the_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="no steady state"):
        mmc_breakdowns_mean_in_system(2.0, 1.0, 2, 1.0, 1.0)
    with pytest.raises(ValueError, match="no steady state"):
        mm1_breakdowns_mean_in_system(0.5, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="2 xi must be below mu"):
        repeated_completion_moments(1.0, 0.5, 1.0)
    with pytest.raises(ValueError, match="at least one server"):
        fifo_with_outages([0.0], [1.0], [], repeat=True)
