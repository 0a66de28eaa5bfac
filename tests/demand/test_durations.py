"""Durations and counts: quantiles, means and length-biased tables against closed forms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from scipy import stats

from sim.demand.durations import DurationTable, count_table, duration_table
from sim.demand.lengths import invert
from sim.specs.distributions import CountDistribution, DurationDistribution

OURS = {"source": ["assumption"], "confidence": "assumption"}


def durations(**raw: Any) -> DurationTable:
    adapter: TypeAdapter[DurationDistribution] = TypeAdapter(DurationDistribution)
    return duration_table(adapter.validate_python(raw | OURS))


def counts(**raw: Any) -> CountDistribution:
    adapter: TypeAdapter[CountDistribution] = TypeAdapter(CountDistribution)
    return adapter.validate_python(raw | OURS)


def lognormal(sigma: float = 1.2) -> DurationTable:
    return durations(
        distribution="lognormal_mixture", components=[{"weight": 1.0, "mu": 3.0, "sigma": sigma}],
        minimum="1 us", maximum="365 d",
    )  # fmt: skip


def test_a_lognormal_has_its_quantiles_and_its_mean() -> None:
    table = lognormal()
    for probability in (0.01, 0.5, 0.99):
        expected = math.exp(3.0 + 1.2 * stats.norm.ppf(probability))
        assert table.at(np.array([probability]))[0] == pytest.approx(expected, rel=1e-3)
    assert table.mean_s() == pytest.approx(math.exp(3.0 + 0.5 * 1.2**2), rel=1e-3)


def test_the_length_biased_lognormal_is_the_one_shifted_by_its_variance() -> None:
    biased = lognormal(0.8).length_biased()
    assert biased.at(np.array([0.5]))[0] == pytest.approx(math.exp(3.0 + 0.8**2), rel=2e-3)
    assert biased.mean_s() == pytest.approx(math.exp(3.0 + 1.5 * 0.8**2), rel=5e-3)


def test_truncation_is_conditional_and_nothing_piles_up() -> None:
    table = durations(
        distribution="lognormal_mixture", components=[{"weight": 1.0, "mu": 0.0, "sigma": 1.0}],
        minimum="1 s", maximum="2 s",
    )  # fmt: skip
    values = table.at(np.linspace(0.0, 1.0, 10_001))
    assert values[0] == pytest.approx(1.0)
    assert values[-1] == pytest.approx(2.0)
    middle = math.exp(stats.norm.ppf(0.5 * (0.5 + stats.norm.cdf(math.log(2.0)))))
    assert values[5000] == pytest.approx(middle, rel=1e-3)


def test_a_quantile_table_gives_its_knots_and_the_mean_of_its_lines() -> None:
    table = durations(distribution="quantile_table", quantiles={0: "1 s", 0.5: "10 s", 1: "1000 s"})
    assert table.at(np.array([0.0, 0.5, 1.0])) == pytest.approx([1.0, 10.0, 1000.0])
    assert table.mean_s() == pytest.approx(0.5 * 9.0 / math.log(10.0) + 0.5 * 990.0 / math.log(100.0))


def test_a_fixed_duration_is_itself() -> None:
    table = durations(distribution="fixed", duration="7 s")
    assert table.at(np.array([0.0, 0.3, 0.999])) == pytest.approx([7.0] * 3)
    assert table.mean_s() == pytest.approx(7.0)
    assert table.length_biased().mean_s() == pytest.approx(7.0)


def test_weibull_counts_round_up() -> None:
    table = count_table(counts(distribution="weibull", shape=1.0, scale=2.0, maximum=1000))
    expected = 1.0 - np.exp(-np.arange(1, 6) / 2.0)
    assert table.minimum == 1
    assert table.cumulative[:5] == pytest.approx(expected)


def test_counts_from_shares_have_their_shares_and_no_others() -> None:
    table = count_table(counts(distribution="shares", shares={2: 0.25, 5: 0.75}))
    drawn = invert(table, (np.arange(10_000) + 0.5) / 10_000)
    assert np.unique(drawn).tolist() == [2, 5]
    assert (drawn == 2).mean() == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"distribution": "shares", "shares": {1: 0.5, 2: 0.3}}, "sum to 1"),
        ({"distribution": "shares", "shares": {0: 1.0}}, "greater than or equal to 1"),
        ({"distribution": "weibull", "shape": 1.0, "scale": 2.0, "minimum": 9, "maximum": 8}, "cannot exceed"),
    ],
)
def test_counts_that_are_none(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        counts(**raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"distribution": "quantile_table", "quantiles": {0: "1 s"}}, "entries 0"),
        ({"distribution": "quantile_table", "quantiles": {0: "0 s", 1: "1 s"}}, "exceed 0 s"),
        ({"distribution": "quantile_table", "quantiles": {0: "2 s", 1: "1 s"}}, "must not fall"),
        (
            {"distribution": "lognormal_mixture", "components": [{"weight": 1.0, "mu": 0.0, "sigma": 1.0}],
             "minimum": "0 s", "maximum": "1 s"},
            "minimum must exceed",
        ),
    ],
)  # fmt: skip
def test_durations_that_are_none(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        durations(**raw)
