import numpy as np
import pytest
from scipy import stats

from sim.planning.uncertainty.distributions import quantile
from sim.specs.uncertainty import ShapeName

MIDDLES = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize("shape", ["two_piece_normal", "two_piece_lognormal"])
@pytest.mark.parametrize("interval", [0.8, 0.9])
def test_a_two_piece_form_has_its_value_as_median_and_its_ends_at_the_interval(
    shape: ShapeName, interval: float
) -> None:
    ends = [0.5 - interval / 2, 0.5, 0.5 + interval / 2]
    found = quantile(shape, ends, 2.0, 3.0, 10.0, interval, 0.001)
    assert found == pytest.approx([2.0, 3.0, 10.0], rel=1e-12)


def test_a_symmetric_two_piece_normal_is_a_normal() -> None:
    found = quantile("two_piece_normal", MIDDLES, -1.0, 0.0, 1.0, 0.8, 1e-9)
    assert found == pytest.approx(stats.norm.ppf(MIDDLES) / stats.norm.ppf(0.9), abs=1e-12)


def test_a_log_normal_is_the_normal_of_logarithms_and_stays_positive() -> None:
    found = quantile("two_piece_lognormal", MIDDLES, 0.1, 1.0, 10.0, 0.8, 0.01)
    assert (found > 0.0).all()
    assert np.log10(found) == pytest.approx(quantile("two_piece_normal", MIDDLES, -1.0, 0.0, 1.0, 0.8, 0.01))


def test_tails_are_cut_where_they_are_said_to_be() -> None:
    found = quantile("two_piece_normal", [1e-9, 0.02, 1.0 - 1e-9], -1.0, 0.0, 1.0, 0.8, 0.02)
    assert found[0] == found[1]
    assert found[[1, 2]] == pytest.approx(np.array([-1.0, 1.0]) * stats.norm.ppf(0.98) / stats.norm.ppf(0.9))


def test_half_of_the_probability_lies_on_a_value_that_is_an_end() -> None:
    found = quantile("two_piece_lognormal", MIDDLES, 8.0, 8.0, 15.0, 0.8, 0.01)
    assert np.mean(np.isclose(found, 8.0)) == pytest.approx(0.5, abs=0.01)
    assert (found >= 8.0 * (1.0 - 1e-12)).all()


@pytest.mark.parametrize(("low", "value", "high"), [(0.0, 1.0, 4.0), (1.0, 1.0, 2.0), (-3.0, 2.0, 2.0)])
def test_pert_and_triangle_have_their_known_means(low: float, value: float, high: float) -> None:
    pert = quantile("pert", MIDDLES, low, value, high, 1.0, 0.01)
    triangle = quantile("triangular", MIDDLES, low, value, high, 1.0, 0.01)
    assert pert.mean() == pytest.approx((low + 4.0 * value + high) / 6.0, abs=1e-3)
    assert triangle.mean() == pytest.approx((low + value + high) / 3.0, abs=1e-3)
    expected = stats.triang.ppf(MIDDLES, (value - low) / (high - low), loc=low, scale=high - low)
    assert triangle == pytest.approx(expected, abs=1e-9)


def test_a_uniform_form_ends_at_low_and_high() -> None:
    assert quantile("uniform", [0.0, 0.25, 1.0], 2.0, 3.0, 6.0, 1.0, 0.01) == pytest.approx([2.0, 3.0, 6.0])


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="in this order"):
        quantile("pert", [0.5], 2.0, 1.0, 3.0, 1.0, 0.01)
    with pytest.raises(ValueError, match="above 0"):
        quantile("two_piece_lognormal", [0.5], 0.0, 1.0, 3.0, 0.8, 0.01)
