import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.results.metrics import (
    PoolCost,
    Window,
    check_service_levels,
    e2e_s,
    meets_service_levels,
    outcome_counts,
    pool_cost_usd,
    tpot_s,
    ttft_s,
)
from sim.results.tables import OUTCOMES, arrow_table


def test_latencies_are_differences_of_the_stored_times(requests_of):
    table = requests_of([10.0, 20.0], ttft_s=[0.5, 2.0], e2e_s=[1.5, 6.0], output_tokens=[11, 5])
    for source in (table, arrow_table("requests", table)):
        assert ttft_s(source).tolist() == [0.5, 2.0]
        assert e2e_s(source).tolist() == [1.5, 6.0]
        assert tpot_s(source).tolist() == [0.1, 1.0]


def test_what_never_happened_is_infinite_and_what_cannot_be_is_undefined(requests_of):
    nan = math.nan
    # rejected at once, cut off after its first token, one token long, one token long and rejected
    table = requests_of([0.0] * 4, ttft_s=[nan, 1.0, 1.0, nan], e2e_s=[nan, nan, 1.0, nan], output_tokens=[9, 9, 1, 1])
    assert ttft_s(table).tolist() == [math.inf, 1.0, 1.0, math.inf]
    assert e2e_s(table).tolist() == [math.inf, math.inf, 1.0, math.inf]
    np.testing.assert_array_equal(tpot_s(table), [math.inf, math.inf, nan, nan])


@given(outcomes=st.lists(st.sampled_from(OUTCOMES), max_size=30))
def test_outcomes_add_up_to_the_requests(requests_of, outcomes):
    counts = outcome_counts(requests_of(np.zeros(len(outcomes)), outcome=np.array(outcomes, dtype=object)))
    assert sum(counts.values()) == len(outcomes)
    assert counts == {outcome: outcomes.count(outcome) for outcome in OUTCOMES}


def test_an_outcome_that_is_not_known_is_refused(requests_of):
    with pytest.raises(ValueError, match="unknown outcome 'lost', null; known outcomes: finished, rejected"):
        outcome_counts(requests_of([0.0, 1.0, 2.0], outcome=["finished", "lost", None]))


def test_a_good_request_keeps_every_limit_of_its_class(requests_of):
    table = requests_of(
        np.zeros(6),
        ttft_s=[1.0, 1.1, 1.0, 1.0, 9.0, math.nan],
        e2e_s=[2.0, 2.0, 5.0, 1.0, 9.5, math.nan],
        output_tokens=[11, 11, 11, 1, 11, 11],
        **{"class": ["chat", "chat", "chat", "chat", "batch", "batch"]},
    )
    levels = [("chat", "ttft_s", 0.99, 1.0), ("chat", "tpot_s", 0.5, 0.1), ("voice", "ttft_s", 0.9, 0.1)]
    # on the limit is within it; one token has no TPOT; batch has no limit but must finish
    assert meets_service_levels(table, levels).tolist() == [True, False, False, True, True, False]
    everyone = [*levels, ("all", "e2e_s", 0.5, 5.0), ("all", "tpot_s", 0.5, 9.0)]
    assert meets_service_levels(table, everyone).tolist() == [True, False, False, True, False, False]


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (("chat", "ttft", 0.99, 1.0), "class 'chat': unknown metric 'ttft'; known metrics: ttft_s, tpot_s, e2e_s"),
        (("chat", "ttft_s", 99, 1.0), "quantile of ttft_s must be between 0 and 1, not 99"),
        (("chat", "ttft_s", 0.99, 0.0), "limit of ttft_s must be positive, not 0.0 s"),
        (("chat", "ttft_s", 0.99, math.nan), "limit of ttft_s must be positive"),
    ],
)
def test_service_levels_are_checked(level, message):
    with pytest.raises(ValueError, match=message):
        check_service_levels([level])


def test_a_pool_costs_its_accelerator_hours():
    # 8 accelerators x 3 USD an hour x 30 min
    cost_usd = pool_cost_usd(PoolCost("main", 8, 3.0, "rent"), 1800.0)
    assert cost_usd == pytest.approx(12.0)
    assert math.isnan(pool_cost_usd(PoolCost("main", 8, None, "unknown"), 1800.0))


def test_the_window_is_half_open_and_cuts_intervals():
    window = Window(10.0, 20.0)
    assert window.duration_s == 10.0
    assert window.holds(np.array([9.9, 10.0, 19.9, 20.0, math.nan])).tolist() == [False, True, True, False, False]
    starts, ends = np.array([0.0, 5.0, 12.0, 18.0, 30.0]), np.array([5.0, 12.0, 18.0, 30.0, 40.0])
    assert window.overlap_s(starts, ends).tolist() == [0.0, 2.0, 6.0, 2.0, 0.0]


@pytest.mark.parametrize(("warm_up_s", "end_s"), [(10.0, 10.0), (-1.0, 5.0), (0.0, math.inf), (math.nan, 5.0)])
def test_a_window_without_a_length_is_refused(warm_up_s, end_s):
    with pytest.raises(ValueError, match="shorten the warm-up or lengthen the run"):
        Window(warm_up_s, end_s)
