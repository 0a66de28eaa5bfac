import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.results.intervals import (
    batch_means_interval,
    mean_interval,
    paired_difference_interval,
    quantile_of,
    quantile_order_interval,
    quantile_sectioning_interval,
    ratio_interval,
    sectioned_quantile_interval,
)

SEEDS = 300
finite = st.floats(-1e6, 1e6)
latencies = st.lists(st.one_of(st.floats(0, 1e6), st.just(math.inf)), min_size=1, max_size=60)


def covers(estimate, truth):
    return estimate.low <= truth <= estimate.high


def assert_coverage(hits, confidence=0.95):
    """The number of intervals that cover must itself be within its 99.9 % binomial range."""
    low, high = stats.binom.interval(0.999, len(hits), confidence)
    assert low <= sum(hits) <= high, f"{sum(hits)} of {len(hits)} cover, expected {low:.0f} to {high:.0f}"


@given(latencies, st.floats(0.01, 0.99))
def test_quantile_is_the_smallest_observation_that_reaches_it(values, quantile):
    x = quantile_of(values, quantile)
    at_most = sum(value <= x for value in values) / len(values)
    below = sum(value < x for value in values) / len(values)
    assert x in values
    assert at_most >= quantile - 1e-9
    assert below < quantile


def test_quantile_forgives_rounding_and_knows_infinity():
    assert 0.07 * 100 > 7
    assert quantile_of(np.arange(1, 101), 0.07) == 7
    assert quantile_of([1.0] * 98 + [math.inf] * 2, 0.98) == 1.0
    assert quantile_of([1.0] * 98 + [math.inf] * 2, 0.99) == math.inf


def test_mean_interval_is_students():
    values = np.array([3.1, 2.7, 3.3, 2.9, 3.6])
    expected = stats.t.interval(0.9, 4, loc=values.mean(), scale=stats.sem(values))
    estimate = mean_interval(values, 0.9)
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert (estimate.value, estimate.samples) == (pytest.approx(values.mean()), 5)


def test_mean_of_one_or_no_replication_has_no_interval():
    one, none = mean_interval([2.0]), mean_interval([])
    assert one.value == 2.0
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    assert "too few" in one.note
    assert math.isnan(none.value)
    assert "no observations" in none.note


def test_intervals_of_independent_normals_cover_as_often_as_they_say():
    hits, widths = [], []
    for seed in range(SEEDS):
        values = np.random.default_rng(seed).normal(10.0, 2.0, 20)
        estimate = mean_interval(values)
        hits.append(covers(estimate, 10.0))
        widths.append(estimate.high - estimate.low)
    assert_coverage(hits)
    # the mean width of a t interval: 2 t s / sqrt(n), with s about 2
    assert np.mean(widths) == pytest.approx(2 * stats.t.ppf(0.975, 19) * 2.0 / math.sqrt(20), rel=0.05)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_quantile_intervals_of_independent_exponentials_cover_as_often_as_they_say(quantile):
    truth, sections, ranks, widths = -math.log(1 - quantile), [], [], []
    for seed in range(SEEDS):
        values = np.random.default_rng(seed).exponential(1.0, 3000)
        sectioned = quantile_sectioning_interval(values, quantile, 10)
        ordered = quantile_order_interval(values, quantile)
        sections.append(covers(sectioned, truth))
        ranks.append(covers(ordered, truth))
        widths.append([sectioned.high - sectioned.low, ordered.high - ordered.low])
    assert_coverage(sections)
    # ranks are whole numbers, so the interval covers a little more often than it must
    assert np.mean(ranks) >= 0.95 - 0.02
    theory = 2 * 1.96 * math.sqrt(quantile * (1 - quantile) / 3000) / (1 - quantile)
    assert np.mean(widths, axis=0) == pytest.approx([1.15 * theory, theory], rel=0.15)


def test_ratio_intervals_cover_as_often_as_they_say():
    hits = []
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        seconds = rng.uniform(5.0, 15.0, 20)
        tokens = rng.poisson(7.0 * seconds)
        estimate = ratio_interval(tokens, seconds)
        hits.append(covers(estimate, 7.0) and estimate.high - estimate.low < 1.5)
    assert_coverage(hits)


def test_sectioning_covers_the_sojourn_quantiles_of_a_queue_and_is_narrow(lindley):
    # M/M/1: the time in the system is exponential with mean 1 / (1 - rho)
    rho = 0.7
    _, waits, services = lindley(rho, 400_000, np.random.default_rng(11))
    sojourns = (waits + services)[2000:]
    for quantile in (0.5, 0.9, 0.99):
        truth = -math.log(1 - quantile) / (1 - rho)
        estimate = quantile_sectioning_interval(sojourns, quantile, 10)
        assert covers(estimate, truth), (quantile, estimate)
        assert estimate.high - estimate.low < 0.15 * truth


def test_batch_means_cover_the_mean_wait_of_a_queue_where_independence_would_not(lindley):
    rho, hits, naive = 0.7, [], []
    for seed in range(60):
        arrivals, waits, _ = lindley(rho, 60_000, np.random.default_rng(seed))
        estimate = batch_means_interval(arrivals[1000:], waits[1000:], 10)
        hits.append(covers(estimate, rho / (1 - rho)))
        naive.append(covers(mean_interval(waits[1000:]), rho / (1 - rho)))
        assert estimate.high - estimate.low < 0.35 * rho / (1 - rho)
    assert_coverage(hits)
    assert sum(naive) < 0.6 * len(naive)


def test_batch_means_follow_the_times_not_the_rows():
    times, values = np.arange(40.0), np.repeat([1.0, 2.0], 20)
    shuffled = np.random.default_rng(1).permutation(40)
    expected = batch_means_interval(times, values, 4)
    assert batch_means_interval(times[shuffled], values[shuffled], 4) == expected
    # batch means 1, 1, 2, 2 around 1.5
    half_width = stats.t.ppf(0.975, 3) * math.sqrt(1 / 3 / 4)
    assert expected.high - expected.value == pytest.approx(half_width)


def test_sectioning_centres_on_the_quantile_of_the_whole_series():
    values = np.array([1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0])
    estimate = quantile_sectioning_interval(values, 0.5, 2)
    half_width = stats.t.ppf(0.975, 1) * math.sqrt(((2 - 4) ** 2 + (20 - 4) ** 2) / 1 / 2)
    assert estimate.value == 4.0
    assert (estimate.low, estimate.high) == pytest.approx((4 - half_width, 4 + half_width))


def test_sections_too_short_for_the_quantile_are_noted():
    values = np.random.default_rng(3).exponential(1.0, 2000)
    assert quantile_sectioning_interval(values, 0.99, 10).note == ""
    assert "200 values" not in quantile_sectioning_interval(values, 0.95, 10).note
    assert "199 values, 2 of them beyond" in quantile_sectioning_interval(values[:1990], 0.99, 10).note
    short = quantile_sectioning_interval(values[:19], 0.5, 10)
    assert math.isnan(short.high)
    assert "too few" in short.note


def test_empty_sections_are_left_out_and_noted():
    estimate = sectioned_quantile_interval([[1.0, 2.0, 3.0, 4.0]] * 3 + [[]], 0.5)
    assert (estimate.value, estimate.samples) == (2.0, 12)
    assert "1 of 4 replications had no observations" in estimate.note


def test_unserved_requests_make_the_quantile_infinite_only_where_they_reach_it():
    values = np.tile(np.append(np.arange(98.0), [math.inf, math.inf]), 20)
    within = quantile_sectioning_interval(values, 0.9, 10)
    beyond = quantile_sectioning_interval(values, 0.99, 10)
    assert (within.value, within.high) == (89.0, 89.0)
    assert (beyond.value, beyond.high) == (math.inf, math.inf)
    assert quantile_order_interval(values, 0.99).high == math.inf
    assert mean_interval([1.0, math.inf]).value == math.inf
    assert mean_interval([1.0, math.inf]).high == math.inf


def test_a_section_with_infinite_quantile_leaves_a_lower_bound_by_ranks():
    sections = [[float(value)] * 100 for value in range(9)] + [[math.inf] * 100]
    estimate = sectioned_quantile_interval(sections, 0.5)
    assert estimate.value == 4.0
    # P(at most 1 of 10 below the median) = 0.011, of at most 2 0.055: the second smallest bounds it
    assert (estimate.low, estimate.high) == (1.0, math.inf)


def test_order_interval_ranks_have_the_coverage_of_the_binomial():
    values = np.arange(1.0, 101.0)
    estimate = quantile_order_interval(values, 0.5)
    assert (estimate.value, estimate.low, estimate.high) == (50.0, 40.0, 61.0)
    assert stats.binom.cdf(60, 100, 0.5) - stats.binom.cdf(39, 100, 0.5) >= 0.95
    assert quantile_order_interval(values, 0.99).high == math.inf


def test_common_customers_narrow_the_difference():
    rng = np.random.default_rng(5)
    traffic = rng.normal(100.0, 10.0, 10)
    slow, fast = traffic + rng.normal(1.0, 0.1, 10), traffic + rng.normal(0.0, 0.1, 10)
    estimate = paired_difference_interval(slow, fast)
    assert covers(estimate, 1.0)
    assert estimate.high - estimate.low < 0.4
    same = paired_difference_interval(slow, slow)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_differences_with_infinity():
    up = paired_difference_interval([1.0, math.inf], [1.0, 1.0])
    down = paired_difference_interval([1.0, 1.0], [1.0, math.inf])
    assert (up.value, up.high) == (math.inf, math.inf)
    assert (down.value, down.low) == (-math.inf, -math.inf)
    for a, b in (([math.inf, 1.0], [math.inf, 1.0]), ([math.inf, 1.0], [1.0, math.inf])):
        undefined = paired_difference_interval(a, b)
        assert math.isnan(undefined.value)
        assert "infinite on both sides" in undefined.note


def test_ratio_over_equal_denominators_is_the_mean_interval():
    totals = np.array([10.0, 14.0, 9.0, 12.0])
    ratio, mean = ratio_interval(totals, np.full(4, 2.0)), mean_interval(totals / 2)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((mean.value, mean.low, mean.high))


def test_ratio_over_nothing():
    assert ratio_interval([1.0, 1.0], [0.0, 0.0]).value == math.inf
    assert math.isnan(ratio_interval([0.0, 0.0], [0.0, 0.0]).value)
    infinite = ratio_interval([1.0, math.inf], [1.0, 1.0])
    assert (infinite.value, infinite.high) == (math.inf, math.inf)


@given(st.lists(st.floats(0.001, 1e3), min_size=20, max_size=50), st.sampled_from([0.25, 2.0, 1024.0]))
def test_intervals_scale_with_their_unit(values, factor):
    observed = np.array(values)
    for method in (
        lambda x: mean_interval(x),
        lambda x: batch_means_interval(np.arange(x.size), x, 5),
        lambda x: quantile_sectioning_interval(x, 0.8, 5),
        lambda x: quantile_order_interval(x, 0.5),
        lambda x: ratio_interval(x, np.ones(x.size)),
        lambda x: paired_difference_interval(x, x[::-1]),
    ):
        once, scaled = method(observed), method(factor * observed)
        for end in ("value", "low", "high"):
            expected = factor * getattr(once, end)
            assert getattr(scaled, end) == pytest.approx(expected, rel=1e-9, abs=1e-9 * factor)


@given(latencies, st.floats(0.05, 0.95))
def test_quantile_intervals_contain_their_value(values, quantile):
    for estimate in (
        quantile_order_interval(values, quantile),
        quantile_sectioning_interval(values, quantile, 3),
        sectioned_quantile_interval([values, values[::2]], quantile),
    ):
        if not math.isnan(estimate.low):
            assert estimate.low <= estimate.value <= estimate.high


def test_an_estimate_is_cut_to_what_is_possible_without_inventing_an_interval():
    wide = mean_interval([0.0, 0.0, 1.0]).within(0.0, 1.0)
    assert (wide.low, wide.high) == (0.0, 1.0)
    assert math.isnan(mean_interval([0.5]).within(0.0, 1.0).low)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval([1.0, math.nan]), "1 of 2 values are NaN"),
        (lambda: mean_interval([1.0, 2.0], 95), "confidence must be between 0 and 1"),
        (lambda: mean_interval([[1.0]]), "one-dimensional"),
        (lambda: quantile_of([], 0.5), "at least one"),
        (lambda: quantile_of([1.0], 99), "quantile must be between 0 and 1"),
        (lambda: quantile_sectioning_interval([1.0, 2.0], 0.5, 1), "at least 2 batches"),
        (lambda: batch_means_interval([1.0], [1.0, 2.0], 2), "1 times but 2 values"),
        (lambda: paired_difference_interval([1.0], [1.0, 2.0]), "differ in number"),
        (lambda: ratio_interval([1.0], [1.0, 2.0]), "1 numerators but 2 denominators"),
        (lambda: ratio_interval([1.0], [-1.0]), "must not be negative"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
