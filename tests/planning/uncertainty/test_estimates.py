import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sim.planning.uncertainty.design import probabilities
from sim.planning.uncertainty.distributions import quantile
from sim.planning.uncertainty.estimates import QUANTILES, fan


def test_quantiles_of_a_linear_model_are_those_of_the_closed_form() -> None:
    weights = np.array([3.0, -2.0, 1.0, 0.5])
    points = probabilities(2048, 4, 5, "samples", "sobol")
    scores = np.column_stack([
        quantile("two_piece_normal", points[:, each], -1.0, 0.0, 1.0, 0.8, 1e-9) for each in range(4)
    ])  # fmt: skip
    found = fan(10.0 + scores @ weights)
    deviation = np.linalg.norm(weights) / stats.norm.ppf(0.9)
    for place, probability in enumerate(QUANTILES):
        expected = 10.0 + stats.norm.ppf(probability) * deviation
        assert found.lows[place] <= expected <= found.highs[place]
        assert found.values[place] == pytest.approx(expected, abs=0.03 * deviation)
        assert found.highs[place] - found.lows[place] < 0.2 * deviation
    assert found.enough(0.1)


def test_intervals_of_quantiles_cover_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    hits = np.zeros(len(QUANTILES))
    for _ in range(600):
        found = fan(generator.random(120))
        hits += [low <= each <= high for low, each, high in zip(found.lows, QUANTILES, found.highs, strict=True)]
    assert (hits / 600 >= 0.935).all()
    assert (hits / 600 <= 0.985).all()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60))
def test_quantiles_never_fall_and_lie_in_their_intervals(values: list[float]) -> None:
    found = fan(values)
    known = [each for each in values if not math.isnan(each)]
    assert found.samples == len(known)
    if not known:
        assert all(math.isnan(each) for each in found.values)
        return
    assert list(found.values) == sorted(found.values)
    for low, value, high in zip(found.lows, found.values, found.highs, strict=True):
        assert not low > value
        assert not high < value


def test_few_worlds_are_not_enough_and_many_are() -> None:
    scores = stats.norm.ppf((np.arange(4096) + 0.5) / 4096)
    generator = np.random.default_rng(2)
    assert fan(scores).enough(0.1)
    assert not fan(generator.choice(scores, 30)).enough(0.2)
    assert not fan(scores[:10]).enough(10.0)


def test_the_spread_of_positive_numbers_is_a_factor() -> None:
    scores = np.random.default_rng(4).standard_normal(1500)
    assert fan(scores).enough(0.2) == fan(np.exp(3.0 * scores)).enough(0.2) == fan(np.exp(scores) * 1e6).enough(0.2)
    assert not fan(np.exp(3.0 * scores) - 1.0).enough(0.2)


def test_what_never_happens_and_what_is_always_alike_need_no_narrow_interval() -> None:
    assert fan([math.inf] * 100).enough(0.01)
    assert fan([7.0] * 100).enough(0.01)
