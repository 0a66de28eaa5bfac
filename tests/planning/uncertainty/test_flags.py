import math
from typing import Any

import pytest

from sim.planning.uncertainty.estimates import fan
from sim.planning.uncertainty.flags import Shares, few_pairs, few_samples, fractions_matter, response_off
from sim.planning.uncertainty.outcomes import Asked
from sim.planning.uncertainty.sensitivity import Index
from sim.planning.uncertainty.study import Settings

ASKED = [Asked("cost_usd", "best", "all", "2027-12"), Asked("usd_per_unit", "world", "agents", "2027-12")]


def test_numbers_that_more_worlds_would_move_are_named(ranges: Any) -> None:
    fans = [fan(range(1, 2000)), fan([math.nan] * 9)]
    assert list(few_samples(ASKED, fans, [False, False], [0, 1], ranges, Settings())) == [
        "few_samples: 1000 worlds leave 1 of 2 headline numbers with quantiles whose intervals exceed 20% of the "
        "distance from P10 to P90: cost_usd best"
    ]
    assert not list(few_samples(ASKED, fans, [True, True], [0, 1], ranges, Settings()))


@pytest.mark.parametrize(("half", "flagged"), [(0.09, False), (0.11, True), (math.nan, False)])
def test_indices_that_more_pairs_would_move_are_named(ranges: Any, half: float, flagged: bool) -> None:
    shares = [Shares(1, "log", 1.0, (Index("demand", 0.5, half, 0.6, 0.01),))]
    found = list(few_pairs(ASKED, [0, 1], shares, ranges, Settings(pairs=8)))
    assert [each.endswith("usd_per_unit world agents") for each in found] == [True] * flagged


def test_fractions_and_a_response_that_is_off_are_said() -> None:
    assert "cost 20% more" in next(fractions_matter(120.0, 100.0))
    assert not list(fractions_matter(109.0, 100.0))
    assert "is 25%" in next(response_off(0.25))
    assert not list(response_off(0.19))
    assert not list(response_off(None))
