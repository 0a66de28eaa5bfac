"""Tasks, work, deadlines, users and their cost, by hand and in closed form."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from sim.results.class_work import DAYS_PER_MONTH, ClassWork
from sim.results.metrics import PoolCost, Window
from sim.results.summary import summarise
from sim.specs.work import UsersSpec, WorkSpec

OURS = {"source": ["assumption"], "confidence": "assumption"}


def sourced(value):
    return {"value": value} | OURS


def found(summary, metric, class_name="chat", quantile=None):
    rows = summary[(summary["metric"] == metric) & (summary["class"] == class_name)]
    rows = rows[rows["quantile"].isna()] if quantile is None else rows[np.isclose(rows["quantile"], quantile)]
    (row,) = rows.to_dict(orient="records")
    return row


def summarised(table, timeline, pools=(), work=None, window=None, **options):
    classes = {} if work is None else {"chat": work}
    return summarise(table, timeline, list(pools), [], window or Window(0.0, 100.0), work=classes, **options)


@pytest.fixture
def clock(timeline_of):
    return timeline_of(np.linspace(0.0, 100.0, 11))


def sessions(requests_of, calls, starts, took, between):
    """Return sessions of some calls each, one after the other; what would begin after 100 s is not sent."""
    rows = []
    for number, (start, count) in enumerate(zip(starts, calls, strict=True)):
        at = start
        for call in range(1, count + 1):
            if at < 100.0:
                rows.append((at, number, call, count))
            at += took + between
    arrivals, session, call, count = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return requests_of(arrivals, ttft_s=took / 2, e2e_s=took, session=session, session_call=call, session_calls=count)


def test_tasks_are_counted_and_timed_by_hand(requests_of, clock):
    table = sessions(requests_of, [1, 3, 2, 4], [5.0, 10.0, 20.0, 90.0], 2.0, 3.0)
    summary = summarised(table, clock)
    counts = [found(summary, f"tasks_{name}")["value"] for name in ("offered", "finished", "failed", "unfinished")]
    assert counts == [4, 3, 0, 1]
    # times 2, 12 and 7 s, and one that was seen for 10 s: it leaves the risk set before 12 s
    assert [found(summary, "task_time_s", quantile=quantile)["value"] for quantile in (0.5, 0.9)] == [7.0, 12.0]
    assert found(summary, "tasks_completed_per_s")["value"] == pytest.approx(3 / 100.0)
    done = (table["finished_s"] < 100.0).sum()
    assert found(summary, "calls_per_task")["value"] == pytest.approx(done / 3)
    assert found(summary, "input_tokens_per_task")["value"] == pytest.approx(100 * done / 3)


def test_a_rejected_call_fails_its_task_which_then_takes_for_ever(requests_of, clock):
    table = sessions(requests_of, [2, 2, 2], [5.0, 10.0, 20.0], 2.0, 3.0)
    lost = (table["session"] == 1) & (table["session_call"] == 2)
    table.loc[lost, ["first_token_s", "finished_s"]] = math.nan
    table.loc[lost, "outcome"] = "rejected"
    summary = summarised(table, clock)
    assert found(summary, "tasks_failed")["value"] == 1
    assert found(summary, "task_time_s", quantile=0.5)["value"] == 7.0
    worst = found(summary, "task_time_s", quantile=0.9)
    assert worst["value"] == math.inf
    assert worst["note"].startswith("1 of 3 tasks failed; 0 of 3")


def test_tasks_that_the_end_cuts_off_do_not_bias_the_times(requests_of, timeline_of):
    """Exponential task times, of which the window cuts off a third: the quantiles are those of the law."""
    rng = np.random.default_rng(5)
    window = Window(0.0, 3000.0)
    starts = np.sort(rng.uniform(0.0, 3000.0, 4000))
    lasts = rng.exponential(1000.0, 4000)
    table = requests_of(starts, ttft_s=1.0, e2e_s=lasts, session=np.arange(4000))
    summary = summarised(table, timeline_of([0.0, 3000.0, 30_000.0]), window=window)
    assert 0.25 < (starts + lasts > 3000.0).mean() < 0.4
    for quantile in (0.5, 0.9):
        row = found(summary, "task_time_s", quantile=quantile)
        expected = -1000.0 * math.log(1.0 - quantile)
        # standard error of the product limit at survival S is about sqrt((1 - S) / (S n)) x scale
        error = 1000.0 * math.sqrt(quantile / (1.0 - quantile) / 4000.0) * 1.3
        assert row["value"] == pytest.approx(expected, abs=4.0 * error)
        assert error < 0.07 * expected
    assert found(summary, "task_time_s", quantile=0.99)["value"] > 2500.0


def test_tasks_that_began_before_the_window_are_not_timed_but_end_in_it(requests_of, clock):
    table = sessions(requests_of, [3, 2], [5.0, 40.0], 2.0, 3.0)
    summary = summarised(table[table["session_call"] + 10 * table["session"] > 1], clock)
    assert found(summary, "tasks_offered")["value"] == 1
    assert found(summary, "tasks_completed_per_s")["value"] == pytest.approx(2 / 100.0)


def test_classes_share_the_cost_of_a_pool_and_nothing_is_left_over(requests_of, clock):
    rng = np.random.default_rng(1)
    names = rng.choice(["chat", "agent"], 400)
    table = requests_of(
        np.sort(rng.uniform(0.0, 90.0, 400)), prompt_tokens=rng.integers(10, 900, 400), cached_tokens=5,
        output_tokens=rng.integers(1, 90, 400), **{"class": names},
    )  # fmt: skip
    cost = 8 * 9.0 * 100.0 / 3600.0
    for share in (0.0, 0.4, 1.0):
        summary = summarised(table, clock, [PoolCost("main", 8, 9.0, "rent", share)])
        each = {name: found(summary, "usd_per_request", name)["value"] * (names == name).sum() for name in set(names)}
        assert sum(each.values()) == pytest.approx(cost)
        computed, answered = table["prompt_tokens"] - 5, table["output_tokens"]
        mine = names == "chat"
        part = share * computed[mine].sum() / computed.sum() + (1 - share) * answered[mine].sum() / answered.sum()
        assert each["chat"] == pytest.approx(part * cost)
    row = found(summary, "usd_per_request")
    assert (row["unit"], row["price_basis"]) == ("USD/request", "rent")
    unpriced = found(summarised(table, clock, [PoolCost("main", 8, None, "none")]), "usd_per_request")
    assert math.isnan(unpriced["value"])
    assert unpriced["note"] == "no price for pool main"


def test_units_deadlines_and_backlog_by_hand(requests_of, clock):
    work = WorkSpec.model_validate(
        {
            "units": {"document": {"per_request": 1.0} | OURS, "page": {"prompt_tokens_each": "50 tokens"} | OURS},
            "within": sourced("30 s"),
        }
    )
    # two a second from the start: the first half takes 10 s, the other half 60 s
    arrivals = np.arange(0.0, 100.0, 0.5)
    table = requests_of(arrivals, e2e_s=np.where(arrivals < 50.0, 10.0, 60.0))
    summary = summarised(table, clock, [PoolCost("main", 1, 36.0, "rent", 0.5)], ClassWork(work))
    assert found(summary, "backlog_requests")["value"] == 100
    assert found(summary, "backlog_page")["value"] == 200
    assert found(summary, "page_completed_per_s")["value"] == pytest.approx(2.0)
    assert found(summary, "backlog_page_clears_s")["value"] == pytest.approx(100.0)
    assert found(summary, "usd_per_document")["value"] == pytest.approx(1.0 / 100)
    assert found(summary, "usd_per_page")["value"] == pytest.approx(0.5 / 100)
    fraction = found(summary, "document_by_deadline_fraction")
    # those that came after 70 s are due after the run has ended
    assert fraction["value"] == pytest.approx(100 / 141)
    assert fraction["note"] == "59 of 200 requests are due only after the run ends"
    assert found(summary, "page_by_deadline")["value"] == 200


def test_an_archive_is_done_by_an_instant_or_says_when_it_would_be(requests_of, timeline_of, clock):
    table = requests_of(np.zeros(100), e2e_s=np.arange(1.0, 101.0))
    for by, expected in (("40 s", 0.4), ("100 s", 1.0)):
        work = WorkSpec.model_validate({"finish_by": sourced(by)})
        summary = summarised(table, clock, work=ClassWork(work))
        assert found(summary, "requests_by_deadline_fraction")["value"] == pytest.approx(expected)
    work = WorkSpec.model_validate({"units": {"page": {"per_request": 2.0} | OURS}, "finish_by": sourced("2 h")})
    summary = summarised(table[:60], timeline_of(np.linspace(0.0, 50.0, 6)), work=ClassWork(work),
                         window=Window(0.0, 50.0))  # fmt: skip
    fraction = found(summary, "page_by_deadline_fraction")
    assert math.isnan(fraction["value"])
    assert "60 of 60 requests are due only after the run ends" in fraction["note"]
    # 49 are done before 50 s, and 11 wait
    assert found(summary, "backlog_page_clears_s")["value"] == pytest.approx(11 / 49 * 50.0)


def test_a_month_of_a_user_is_so_many_tasks_or_requests(requests_of, clock):
    users = UsersSpec.model_validate({"per_day": sourced(4.0), "days_per_month": sourced(20.0)})
    pools = [PoolCost("main", 1, 36.0, "rent", 0.5)]
    plain = requests_of(np.arange(0.0, 90.0))
    summary = summarised(plain, clock, pools, ClassWork(users=users))
    assert found(summary, "usd_per_user_month")["value"] == pytest.approx(80 * 1.0 / 90)
    assert found(summary, "tokens_per_user_month")["value"] == pytest.approx(80 * 111)
    assert found(summary, "users_served")["value"] == pytest.approx(0.9 * DAYS_PER_MONTH * 86_400 / 80)
    tasks = sessions(requests_of, [2] * 30, np.arange(30.0), 2.0, 3.0)
    summary = summarised(tasks, clock, pools, ClassWork(users=users))
    assert found(summary, "usd_per_task")["value"] == pytest.approx(1.0 / 30)
    assert found(summary, "usd_per_user_month")["value"] == pytest.approx(80 * 1.0 / 30)


def test_replications_give_intervals_and_mean_counts(requests_of, timeline_of):
    parts = [
        sessions(requests_of, [2] * 40, np.linspace(0.0, 80.0, 40) + shift, 2.0 + shift, 3.0).assign(replication=number)
        for number, shift in enumerate((0.0, 0.1, 0.2))
    ]
    clocks = [timeline_of([0.0, 100.0]).assign(replication=number) for number in range(3)]
    work = WorkSpec.model_validate({"units": {"page": {"per_request": 1.0} | OURS}})
    summary = summarised(pd.concat(parts), pd.concat(clocks), work=ClassWork(work))
    row = found(summary, "task_time_s", quantile=0.5)
    assert row["low"] < row["value"] < row["high"]
    assert found(summary, "backlog_page")["value"] == pytest.approx(0.0)
    assert found(summary, "tasks_offered")["value"] == 120


def test_a_change_of_accuracy_is_told_as_published(requests_of, clock):
    summary = summarised(requests_of(np.arange(50.0)), clock, work=ClassWork(accuracy_change=-0.03))
    row = found(summary, "accuracy_change")
    assert (row["value"], row["method"], row["unit"]) == (-0.03, "published", "1")
    assert "accuracy_change" not in set(summarised(requests_of(np.arange(50.0)), clock)["metric"])
