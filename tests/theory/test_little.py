"""Little's law as an identity of sample paths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.theory.little import mean_number_in_system

stays = st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1e3)), min_size=1, max_size=100)


def test_by_hand() -> None:
    # Present: 1 over [0, 1), 2 over [1, 3), 1 over [3, 4), 0 after.
    averages = mean_number_in_system([0.0, 1.0], [3.0, 4.0], [0.0, 2.0, 4.0, 8.0])
    assert averages.tolist() == [1.5, 1.5, 0.0]


def test_windows_may_cut_a_stay_and_begin_before_anyone_arrives() -> None:
    assert mean_number_in_system([0.0], [10.0], [-5.0, 5.0]).tolist() == [0.5]
    assert mean_number_in_system([0.0], [10.0], [2.0, 3.0, 7.0]).tolist() == [1.0, 1.0]
    assert mean_number_in_system([], [], [0.0, 1.0]).tolist() == [0.0]


@given(stays)
def test_area_under_the_number_present_is_the_sum_of_the_sojourns(path: list[tuple[float, float]]) -> None:
    arrivals_s, sojourns_s = np.array(path).T
    end_s = float((arrivals_s + sojourns_s).max()) + 1.0
    area = mean_number_in_system(arrivals_s, arrivals_s + sojourns_s, [-1.0, end_s])[0] * (end_s + 1.0)
    assert area == pytest.approx(float(sojourns_s.sum()), rel=1e-9, abs=1e-7)


@given(stays, st.lists(st.integers(0, 11_000), min_size=2, max_size=20, unique=True))
def test_every_interval_holds_the_overlaps_of_the_stays(path: list[tuple[float, float]], instants: list[int]) -> None:
    arrivals_s, sojourns_s = np.array(path).T
    departures_s = arrivals_s + sojourns_s
    edges_s = np.sort(np.array(instants, dtype=np.float64))
    overlaps = np.minimum(departures_s[:, None], edges_s[1:]) - np.maximum(arrivals_s[:, None], edges_s[:-1])
    expected = np.maximum(overlaps, 0.0).sum(axis=0) / np.diff(edges_s)
    averages = mean_number_in_system(arrivals_s, departures_s, edges_s)
    np.testing.assert_allclose(averages, expected, rtol=1e-9, atol=1e-7)


def test_outside_its_domain_it_says_why() -> None:
    with pytest.raises(ValueError, match=r"customer 1 departs at 1\.0 s, before arriving at 2\.0 s"):
        mean_number_in_system([0.0, 2.0], [1.0, 1.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="strictly increasing"):
        mean_number_in_system([0.0], [1.0], [0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"\(1,\) and \(2,\)"):
        mean_number_in_system([0.0], [1.0, 2.0], [0.0, 1.0])
    with pytest.raises(ValueError, match="departure_s must be finite, got inf"):
        mean_number_in_system([0.0], [np.inf], [0.0, 1.0])
