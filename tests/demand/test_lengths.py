"""Lengths: the exact distribution, and that sampling, mean and quantiles are those of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy import stats

from sim.demand.lengths import (
    length_cdf,
    length_quantile,
    length_survival,
    length_table,
    mean_length,
    sample_lengths,
)
from sim.demand.streams import stream
from sim.specs.distributions import LengthDistribution
from sim.specs.errors import InputError


def described(distribution: str, **fields: Any) -> LengthDistribution:
    raw = {"distribution": distribution, "source": ["assumption"], "confidence": "assumption"} | fields
    spec: LengthDistribution = TypeAdapter(LengthDistribution).validate_python(raw)
    return spec


def table(quantiles: dict[float, float]) -> LengthDistribution:
    return described("quantile_table", quantiles={name: f"{tokens} tokens" for name, tokens in quantiles.items()})


def mixture(components: list[tuple[float, float, float]], minimum: int, maximum: int) -> LengthDistribution:
    parts = [{"weight": weight, "mu": mu, "sigma": sigma} for weight, mu, sigma in components]
    return described("lognormal_mixture", components=parts, minimum=f"{minimum} tokens", maximum=f"{maximum} tokens")


def gamma(shape: float, scale: float, minimum: int, maximum: int) -> LengthDistribution:
    bounds = {"minimum": f"{minimum} tokens", "maximum": f"{maximum} tokens"}
    return described("gamma", shape=shape, scale=f"{scale} tokens", **bounds)


SPECS = {
    "table": table({0: 16, 0.01: 29, 0.05: 181, 0.5: 1020, 0.9: 2734.4, 0.99: 4142, 1: 14050}),
    "table with atoms": table({0: 6, 0.3: 6, 0.5: 13, 0.8: 55, 1: 55}),
    "table of one length": table({0: 9, 1: 9}),
    "table of broken lengths": table({0: 1.5, 0.5: 1.7, 1: 2.2}),
    "mixture": mixture([(0.811, 3.518, 0.694), (0.189, 5.859, 0.409)], 1, 1500),
    "mixture cut on both sides": mixture([(1.0, 6.926, 1.027)], 500, 2000),
    "gamma": gamma(1.18, 2179.0, 1, 7743),
    "gamma cut on both sides": gamma(2.0, 100.0, 150, 400),
    "fixed": described("fixed", tokens="128 tokens"),
}
each = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


@each
def test_the_exact_mean_is_the_mean_of_the_samples(spec: LengthDistribution) -> None:
    lengths = sample_lengths(spec, 400_000, stream(1, "mean"))
    half_width = 4.0 * lengths.std() / np.sqrt(lengths.size)
    assert half_width < 0.01 * lengths.mean()
    assert lengths.dtype == np.int64
    assert mean_length(spec) == pytest.approx(lengths.mean(), abs=half_width + 1e-9)


@each
def test_samples_follow_the_cdf(spec: LengthDistribution) -> None:
    lengths = np.sort(sample_lengths(spec, 100_000, stream(2, "cdf")))
    values, counts = np.unique(lengths, return_counts=True)
    empirical = np.cumsum(counts) / lengths.size
    assert np.max(np.abs(empirical - length_cdf(spec, values))) < 1.95 / np.sqrt(lengths.size)


@each
def test_the_cdf_is_one(spec: LengthDistribution) -> None:
    minimum, cumulative = length_table(spec)
    assert minimum >= 1
    assert np.all(np.diff(cumulative, prepend=0.0) >= 0.0)
    assert cumulative[-1] == 1.0
    assert length_cdf(spec, [minimum - 1, -5.0, minimum + cumulative.size + 10.0]).tolist() == [0.0, 0.0, 1.0]


@each
def test_survival_and_cdf_are_complements(spec: LengthDistribution) -> None:
    top = length_table(spec).minimum + length_table(spec).cumulative.size
    for count in (0, 1, top - 1, top + 5):
        assert length_survival(spec, count) == pytest.approx(1.0 - length_cdf(spec, np.arange(count)))
    assert length_survival(spec, top + 5).sum() == pytest.approx(mean_length(spec))


@given(name=st.sampled_from(sorted(SPECS)), probability=st.floats(0.0, 1.0))
def test_the_quantile_inverts_the_cdf(name: str, probability: float) -> None:
    spec = SPECS[name]
    length = int(length_quantile(spec, probability))
    assert length_cdf(spec, length) >= probability
    assert length == length_table(spec).minimum or length_cdf(spec, length - 1) < probability


@given(name=st.sampled_from(sorted(SPECS)), count=st.integers(0, 50), more=st.integers(0, 50))
def test_more_requests_keep_the_earlier_lengths(name: str, count: int, more: int) -> None:
    fewer = sample_lengths(SPECS[name], count, stream(3, name))
    assert np.array_equal(fewer, sample_lengths(SPECS[name], count + more, stream(3, name))[:count])


def test_a_longer_distribution_lengthens_every_request() -> None:
    # inverse transform: common random numbers keep the rank of each request
    shorter = sample_lengths(mixture([(1.0, 5.0, 1.0)], 1, 10_000), 10_000, stream(4))
    longer = sample_lengths(mixture([(1.0, 5.5, 1.0)], 1, 10_000), 10_000, stream(4))
    assert np.all(longer >= shorter)
    assert np.any(longer > shorter)


def test_knots_of_a_table_keep_their_probability() -> None:
    quantiles: dict[float, float] = {0.0: 16, 0.05: 181, 0.5: 1020, 0.9: 2734, 0.99: 4142, 1.0: 14050}
    spec = table(quantiles)
    for probability, tokens in quantiles.items():
        assert float(length_cdf(spec, tokens)) == pytest.approx(probability, abs=1e-12)
    assert length_quantile(spec, [0.05, 0.5, 0.9]).tolist() == [181, 1020, 2734]


def test_between_knots_the_logarithm_is_linear() -> None:
    spec = table({0: 1, 1: 4})
    assert length_cdf(spec, [1, 2, 3, 4]) == pytest.approx([0.0, 0.5, math.log(3) / math.log(4), 1.0])
    assert mean_length(spec) == pytest.approx(1.0 + 1.0 + 0.5 + 1.0 - math.log(3) / math.log(4))


def test_a_repeated_length_is_an_atom() -> None:
    spec = SPECS["table with atoms"]
    assert float(length_cdf(spec, 6)) == pytest.approx(0.3)
    assert float(length_cdf(spec, 5)) == 0.0
    assert float(length_cdf(spec, 54)) < 0.8
    assert float(length_cdf(spec, 13)) == pytest.approx(0.5)


def test_a_broken_length_is_rounded_up() -> None:
    spec = SPECS["table of broken lengths"]
    at_two = 0.5 + 0.5 * math.log(2.0 / 1.7) / math.log(2.2 / 1.7)
    assert length_cdf(spec, [1, 2, 3]) == pytest.approx([0.0, at_two, 1.0])


def test_an_exponential_rounds_up_to_a_geometric() -> None:
    # ceil of an exponential of mean m is geometric with success probability 1 - exp(-1/m)
    spec = gamma(1.0, 20.0, 1, 5000)
    success = -math.expm1(-1.0 / 20.0)
    assert mean_length(spec) == pytest.approx(1.0 / success, rel=1e-12)
    lengths = np.arange(1, 50)
    assert length_cdf(spec, lengths) == pytest.approx(stats.geom.cdf(lengths, success), rel=1e-12)


@pytest.mark.parametrize(
    ("spec", "whole", "minimum", "maximum"),
    [
        (SPECS["mixture cut on both sides"], stats.lognorm(1.027, scale=math.exp(6.926)), 500, 2000),
        (SPECS["gamma cut on both sides"], stats.gamma(2.0, scale=100.0), 150, 400),
        (SPECS["gamma"], stats.gamma(1.18, scale=2179.0), 1, 7743),
    ],
)
def test_truncation_is_conditional(spec: LengthDistribution, whole: Any, minimum: int, maximum: int) -> None:
    lengths = np.arange(minimum, maximum + 1)
    share = whole.cdf(lengths) - whole.cdf(lengths - 1)
    assert np.diff(length_cdf(spec, lengths), prepend=0.0) == pytest.approx(share / share.sum(), abs=1e-12)
    assert mean_length(spec) == pytest.approx(float(lengths @ share) / share.sum(), rel=1e-9)
    sampled = sample_lengths(spec, 200_000, stream(5, "truncation"))
    assert sampled.min() >= minimum
    assert sampled.max() <= maximum
    assert length_quantile(spec, [0.0, 1.0]).tolist() == [minimum, maximum]


def test_a_wide_lognormal_has_its_textbook_mean() -> None:
    spec = mixture([(1.0, 8.0, 0.5)], 1, 1_000_000)
    # rounding up adds half a token where the density is smooth
    assert mean_length(spec) == pytest.approx(math.exp(8.0 + 0.125) + 0.5, rel=1e-6)


def test_rounded_weights_are_normalised() -> None:
    parts = [(1.0, 4.0, 0.5), (1.0, 6.0, 0.5)]
    halves = mixture([(0.5, *parts[0][1:]), (0.5, *parts[1][1:])], 1, 100_000)
    rounded = mixture([(0.497, *parts[0][1:]), (0.497, *parts[1][1:])], 1, 100_000)
    assert mean_length(rounded) == pytest.approx(mean_length(halves))
    single = [mean_length(mixture([part], 1, 100_000)) for part in parts]
    assert mean_length(halves) == pytest.approx(sum(single) / 2.0, rel=1e-3)


def test_bounds_without_probability_are_refused() -> None:
    with pytest.raises(InputError, match=r"no probability between its bounds .*5000 to 6000.*Widen"):
        mean_length(mixture([(1.0, 1.0, 0.1)], 5000, 6000))


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_probabilities_outside_zero_to_one_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        length_quantile(SPECS["gamma"], bad)
