"""Arrivals: counts and gaps of the processes, the stationary start, and the daily profile."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.demand.arrivals import (
    _accumulate,
    cumulative_rate,
    gamma_renewal_arrivals,
    poisson_arrivals,
    profile_rates,
    rescale_to_profile,
)
from sim.demand.streams import stream

DAY_S = 86_400.0
WORKDAY = (0.0,) * 8 + (2.0, 3.0, 5.0, 4.0, 1.0, 3.0, 4.0, 3.0, 2.0, 1.0) + (0.0,) * 5 + (0.5,)


def test_poisson_counts_have_dispersion_one() -> None:
    windows = 20_000
    times = poisson_arrivals(10.0, windows * 1.0, stream(1, "dispersion"))
    counts = np.bincount(times.astype(np.int64), minlength=windows)
    # the dispersion of n Poisson counts has standard deviation sqrt(2 / (n - 1))
    half_width = 4.0 * np.sqrt(2.0 / (windows - 1))
    assert half_width < 0.05
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(1.0, abs=half_width)
    assert counts.mean() == pytest.approx(10.0, abs=4.0 * np.sqrt(10.0 / windows))


def test_poisson_gaps_are_exponential_from_the_first_one() -> None:
    times = poisson_arrivals(5.0, 20_000.0, stream(2, "gaps"))
    gaps = np.diff(times, prepend=0.0)
    assert times.size > 90_000
    assert stats.kstest(gaps, "expon", args=(0.0, 0.2)).statistic < 1.95 / np.sqrt(gaps.size)
    first = [poisson_arrivals(1.0, 50.0, generator)[0] for generator in [stream(3, "first")] for _ in range(4000)]
    assert stats.kstest(first, "expon").statistic < 1.95 / np.sqrt(len(first))


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
def test_gamma_gaps_have_the_asked_distribution(cv: float) -> None:
    gaps = np.diff(gamma_renewal_arrivals(4.0, cv, 50_000.0, stream(4, "gamma gaps")))
    assert gaps.size > 150_000
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)
    # gaps below a microsecond drown in the resolution of the sum; their number is still compared
    marks = np.geomspace(1e-6, 100.0, 2000)
    empirical = np.searchsorted(np.sort(gaps), marks, side="right") / gaps.size
    distance = np.abs(empirical - stats.gamma.cdf(marks, cv**-2, scale=0.25 * cv**2)).max()
    assert distance < 1.95 / np.sqrt(gaps.size)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("duration_s", [0.5, 2.0])
def test_gamma_renewal_is_stationary_from_the_start(cv: float, duration_s: float) -> None:
    # a start with a full gap would miss the expected count by (cv**2 - 1) / 2 requests
    generator = stream(5, "start")
    counts = np.array([gamma_renewal_arrivals(1.0, cv, duration_s, generator).size for _ in range(20_000)])
    half_width = 4.0 * counts.std() / np.sqrt(counts.size)
    assert half_width < 0.1 * duration_s
    assert counts.mean() == pytest.approx(duration_s, abs=half_width)


def test_gamma_counts_disperse_as_the_gaps_squared() -> None:
    # over long windows the index of dispersion of a renewal process is cv**2
    generator = stream(6, "long windows")
    counts = np.array([gamma_renewal_arrivals(1.0, 2.0, 400.0, generator).size for _ in range(4000)])
    assert counts.var(ddof=1) / counts.mean() == pytest.approx(4.0, rel=0.12)


@given(
    cv=st.sampled_from([None, 0.1, 1.0, 8.0]),
    short=st.floats(0.0, 300.0),
    extra=st.floats(0.0, 3000.0),
    seed=st.integers(0, 2**40),
)
def test_a_longer_run_keeps_the_earlier_arrivals(cv: float | None, short: float, extra: float, seed: int) -> None:
    def draw(duration_s: float) -> np.ndarray:
        if cv is None:
            return poisson_arrivals(1.3, duration_s, stream(seed))
        return gamma_renewal_arrivals(1.3, cv, duration_s, stream(seed))

    earlier, all_of_them = draw(short), draw(short + extra)
    assert np.array_equal(earlier, all_of_them[: earlier.size])
    assert np.all(all_of_them[earlier.size :] >= short)
    assert np.all(np.diff(all_of_them) >= 0.0)
    assert np.all((earlier >= 0.0) & (earlier < short))


def test_blocks_of_gaps_do_not_show() -> None:
    # gaps far below one need many blocks; the sum must be that of one long row to the last bit
    generator = stream(7, "blocks")
    times = _accumulate(lambda count: generator.standard_exponential(count) * 0.01, 0.25, 50.0, 1.0)
    gaps = np.concatenate(([0.25], stream(7, "blocks").standard_exponential(times.size) * 0.01))
    assert times.size > 4000
    assert np.array_equal(times, np.cumsum(gaps)[:-1])
    assert np.cumsum(gaps)[-1] >= 50.0


def test_a_power_of_two_in_the_rate_only_compresses() -> None:
    slow = gamma_renewal_arrivals(1.0, 1.7, 512.0, stream(8))
    assert np.array_equal(gamma_renewal_arrivals(8.0, 1.7, 64.0, stream(8)), slow / 8.0)
    assert np.array_equal(poisson_arrivals(8.0, 64.0, stream(8)), poisson_arrivals(1.0, 512.0, stream(8)) / 8.0)


@pytest.mark.parametrize(("rate", "duration_s"), [(0.0, 100.0), (5.0, 0.0)])
def test_no_rate_or_no_time_means_no_requests(rate: float, duration_s: float) -> None:
    assert poisson_arrivals(rate, duration_s, stream(9)).size == 0
    assert gamma_renewal_arrivals(rate, 2.0, duration_s, stream(9)).size == 0


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_senseless_parameters_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        poisson_arrivals(bad, 1.0, stream(1))
    with pytest.raises(ValueError, match="duration"):
        gamma_renewal_arrivals(1.0, 1.0, bad, stream(1))
    with pytest.raises(ValueError, match="cv"):
        gamma_renewal_arrivals(1.0, bad, 1.0, stream(1))
    with pytest.raises(ValueError, match="duration"):
        profile_rates(1.0, WORKDAY, 0.0, bad)


def test_cv_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="cv"):
        gamma_renewal_arrivals(1.0, 0.0, 1.0, stream(1))


@pytest.mark.parametrize("start_hour", [0.0, 13.25, 23.999])
def test_a_profile_keeps_the_mean_rate_of_a_day(start_hour: float) -> None:
    edges_s, rates_per_s = profile_rates(7.0, WORKDAY, start_hour, 3 * DAY_S)
    assert edges_s[0] == 0.0
    assert edges_s[-1] == 3 * DAY_S
    assert np.all(np.diff(edges_s) > 0.0)
    assert cumulative_rate(edges_s, rates_per_s)[-1] == pytest.approx(7.0 * 3 * DAY_S, rel=1e-12)


def test_a_run_meets_the_hours_from_its_start_hour_on() -> None:
    edges_s, rates_per_s = profile_rates(1.0, WORKDAY, 22.5, 2.75 * 3600.0)
    assert edges_s.tolist() == [0.0, 1800.0, 5400.0, 9000.0, 9900.0]
    mean = sum(WORKDAY) / 24.0
    assert rates_per_s == pytest.approx([WORKDAY[22] / mean, WORKDAY[23] / mean, WORKDAY[0] / mean, WORKDAY[1] / mean])
    within, _ = profile_rates(1.0, WORKDAY, 9.5, 60.0)
    assert within.tolist() == [0.0, 60.0]


def test_every_hour_gets_its_share() -> None:
    # evenly spaced operational time: an hour gets its cumulative rate to within one request
    edges_s, rates_per_s = profile_rates(0.8, WORKDAY, 0.0, DAY_S)
    total = cumulative_rate(edges_s, rates_per_s)[-1]
    times = rescale_to_profile(np.arange(0.5, total - 1e-6), edges_s, rates_per_s)
    counts = np.bincount((times // 3600.0).astype(np.int64), minlength=24)
    expected = 0.8 * 3600.0 * np.array(WORKDAY) / (sum(WORKDAY) / 24.0)
    assert np.all(np.abs(counts - expected) <= 1.0)
    assert np.all(counts[expected == 0.0] == 0)


@given(
    multipliers=st.lists(st.sampled_from([0.0, 0.1, 1.0, 6.0]), min_size=24, max_size=24).filter(any),
    start_hour=st.floats(0.0, 23.9),
    hours=st.floats(0.1, 60.0),
    shares=st.lists(st.floats(0.0, 0.999999), max_size=20),
)
def test_the_time_change_inverts_the_cumulative_rate(
    multipliers: list[float], start_hour: float, hours: float, shares: list[float]
) -> None:
    edges_s, rates_per_s = profile_rates(2.0, multipliers, start_hour, hours * 3600.0)
    cumulative = cumulative_rate(edges_s, rates_per_s)
    unit = np.sort(np.array(shares)) * cumulative[-1]
    if cumulative[-1] == 0.0:
        unit = unit[:0]
    times = rescale_to_profile(unit, edges_s, rates_per_s)
    assert np.interp(times, edges_s, cumulative) == pytest.approx(unit, abs=1e-6)
    assert np.all(np.diff(times) >= 0.0)
    assert np.all((times >= 0.0) & (times < hours * 3600.0))


def test_a_flat_profile_changes_nothing() -> None:
    edges_s, rates_per_s = profile_rates(2.0, (3.0,) * 24, 5.5, 7200.0)
    unit = poisson_arrivals(1.0, 14_400.0, stream(10))
    assert rescale_to_profile(unit, edges_s, rates_per_s) == pytest.approx(unit / 2.0)


def test_profile_errors() -> None:
    with pytest.raises(ValueError, match="24 or 168 multipliers"):
        profile_rates(1.0, (1.0,) * 23, 0.0, 10.0)
    with pytest.raises(ValueError, match="24 or 168 multipliers"):
        profile_rates(1.0, (1.0,) * 23 + (-1.0,), 0.0, 10.0)
    with pytest.raises(ValueError, match="above 0"):
        profile_rates(1.0, (0.0,) * 24, 0.0, 10.0)
    with pytest.raises(ValueError, match="start_hour"):
        profile_rates(1.0, WORKDAY, math.inf, 10.0)
    for outside in ([-0.1], [10.0]):
        with pytest.raises(ValueError, match="unit-rate"):
            rescale_to_profile(np.array(outside), np.array([0.0, 10.0]), np.array([1.0]))
