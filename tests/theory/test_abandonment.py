"""Impatient customers: fixed, exponential and general patience against each other and against sample paths."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.theory.abandonment import mmc_exponential_patience, mmc_fixed_patience, mmc_patience
from sim.theory.queues import erlang_b, erlang_c, mmc_mean_wait

rates = st.floats(0.2, 30.0)
servers = st.integers(1, 12)


@given(arrival=rates, count=servers, patience=st.floats(0.05, 3.0))
def test_the_general_formula_has_both_as_special_cases(arrival: float, count: int, patience: float) -> None:
    fixed = mmc_fixed_patience(arrival, 1.0, count, patience)
    general = mmc_patience(arrival, 1.0, count, lambda _: 1.0, patience)
    for one, other in ((fixed.waits, general.waits), (fixed.mean_wait_s, general.mean_wait_s)):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-7)
    assert fixed.abandons == pytest.approx(general.abandons, rel=1e-3, abs=1e-6)


def test_erlang_a_is_the_general_formula_with_exponential_patience() -> None:
    chain = mmc_exponential_patience(5.0, 1.0, 4, 0.5)
    general = mmc_patience(5.0, 1.0, 4, lambda time: math.exp(-time / 0.5), 12.0)
    assert (chain.waits, chain.abandons) == pytest.approx((general.waits, general.abandons), rel=1e-5)
    assert chain.mean_wait_s == pytest.approx(general.mean_wait_s, rel=1e-5)


def test_endless_patience_is_erlang_c_and_none_is_erlang_b() -> None:
    for patient in (mmc_fixed_patience(3.0, 1.0, 4, 200.0), mmc_exponential_patience(3.0, 1.0, 4, 1e9)):
        assert patient.waits == pytest.approx(erlang_c(4, 3.0), rel=1e-6)
        assert patient.mean_wait_s == pytest.approx(mmc_mean_wait(3.0, 1.0, 4), rel=1e-6)
        assert patient.abandons < 1e-6
    for hasty in (mmc_fixed_patience(3.0, 1.0, 4, 1e-7), mmc_exponential_patience(3.0, 1.0, 4, 1e-7)):
        assert hasty.abandons == pytest.approx(erlang_b(4, 3.0), rel=1e-5)


@given(arrival=rates, count=servers, patience=st.floats(0.05, 3.0))
def test_who_is_served_is_what_the_servers_do(arrival: float, count: int, patience: float) -> None:
    """Throughput lambda (1 - P(abandon)) is at most c mu, and nearly that where there is far too much."""
    for result in (
        mmc_fixed_patience(arrival, 1.0, count, patience),
        mmc_exponential_patience(arrival, 1.0, count, patience),
    ):
        assert 0.0 <= result.abandons <= result.waits <= 1.0
        assert arrival * (1.0 - result.abandons) <= min(arrival, count) * (1 + 1e-9)
        assert result.mean_wait_s >= 0.0
    assert mmc_fixed_patience(arrival, 1.0, count, patience).mean_wait_s <= patience


def simulated(
    seed: int, arrival: float, count: int, patience: float | None, mean_patience: float
) -> tuple[float, float]:
    """Return the shares that give up and that wait on one long path of M/M/c with patience."""
    random = np.random.default_rng(seed)
    size = 20_000
    at = np.cumsum(random.exponential(1 / arrival, size)).tolist()
    services = random.exponential(1.0, size).tolist()
    limits = [patience] * size if patience is not None else random.exponential(mean_patience, size).tolist()
    free_at = [0.0] * count
    gone = waited = 0
    for now, service, limit in zip(at, services, limits, strict=True):
        server = min(range(count), key=free_at.__getitem__)
        wait = max(0.0, free_at[server] - now)
        waited += wait > 0.0
        if wait > limit:
            gone += 1
        else:
            free_at[server] = now + wait + service
    return gone / size, waited / size


@pytest.mark.parametrize("patience", [0.7, None])
def test_against_sample_paths(patience: float | None) -> None:
    paths = np.array([simulated(seed, 4.5, 4, patience, 0.7) for seed in range(10)])
    result = (
        mmc_exponential_patience(4.5, 1.0, 4, 0.7) if patience is None else mmc_fixed_patience(4.5, 1.0, 4, patience)
    )
    half = 3.25 * paths.std(axis=0, ddof=1) / math.sqrt(len(paths))
    assert (np.abs(paths.mean(axis=0) - [result.abandons, result.waits]) < half).all()
    assert (half < 0.015).all()


def test_outside_the_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="patience_s"):
        mmc_fixed_patience(1.0, 1.0, 1, 0.0)
    with pytest.raises(ValueError, match="servers"):
        mmc_exponential_patience(1.0, 1.0, 0, 1.0)
    with pytest.raises(ValueError, match="longest_s"):
        mmc_patience(1.0, 1.0, 1, lambda _: 1.0, -1.0)
