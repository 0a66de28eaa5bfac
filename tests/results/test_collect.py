"""From a finished run to its tables: nothing lost, nothing twice, and integrals that agree with the requests."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.demand.trace import Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.engine.run import RunOutcome, RunPlan, run
from sim.results.collect import requests_table, timeline_table
from sim.results.tables import REQUESTS, TIMELINE, frame
from sim.serving.deployment import Deployment, deploy
from sim.specs.resolved import load_scenario
from sim.theory.little import mean_number_in_system

SECOND = 10**9


@cache
def pools() -> list[Deployment]:
    """Return three pools: two replicas of one model, one of another, and one that serves nobody; no host overhead."""
    fleet = {
        "main": {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 2},
        "side": {"hardware": "tpu-v6e", "model": "qwen3-8b", "replicas": 3},
        "idle": {"hardware": "b200-hgx", "model": "qwen3-8b", "replicas": 1, "parallelism": {"tensor": 2}},
    }
    traffic = {"chat": {"workload": "realtime-chat"}}
    deployed = deploy(load_scenario("quickstart", {"alternatives": {}, "traffic": traffic, "fleet": fleet}))
    return [dataclasses.replace(each, request_overhead_s=0.0) for each in deployed]


def trace_of(count: int = 400) -> Trace:
    generator = np.random.default_rng(9)
    prompt = generator.integers(10, 4000, count)
    output = generator.integers(1, 300, count)
    class_index = generator.integers(0, 2, count)
    # One request of the second class that no replica could hold.
    prompt[5], class_index[5] = 10**6, 1
    return trace_from_arrays(
        np.cumsum(generator.exponential(SECOND / 40, count)).astype(np.int64),
        prompt,
        output,
        prompt // 3,
        classes=("chat", "voice"),
        class_index=class_index,
    )


@cache
def finished(drain_s: int = 600, interval_ns: int = 700_000_000) -> tuple[RunPlan, RunOutcome]:
    trace = trace_of()
    plan = RunPlan(
        trace=trace,
        deployments=pools(),
        pools_of_class=[[0], [1]],
        router="round_robin",
        draws=np.zeros((0, 2)),
        arrivals_end_ns=int(trace.arrival_ns[-1]) + 1,
        drain_ns=drain_s * SECOND,
        interval_ns=interval_ns,
    )
    return plan, run(plan)


def requests_of(plan: RunPlan, outcome: RunOutcome) -> pd.DataFrame:
    return frame("requests", requests_table(plan, outcome, "test/a", 3))


def timeline_of(plan: RunPlan, outcome: RunOutcome) -> pd.DataFrame:
    table = frame("timeline", timeline_table(plan, outcome, "test/a", 3))
    table["length_s"] = table["interval_end_s"] - table["interval_start_s"]
    return table


def test_tables_have_the_columns_of_the_one_list() -> None:
    plan, outcome = finished()
    assert list(requests_of(plan, outcome).columns) == [column.name for column in REQUESTS]
    names = [column.name for column in TIMELINE]
    assert timeline_table(plan, outcome, "test/a", 3).column_names == names


def test_every_request_of_the_trace_is_a_row_as_it_was_sent() -> None:
    plan, outcome = finished()
    table, trace = requests_of(plan, outcome), plan.trace
    assert table["request_id"].tolist() == list(range(trace.requests))
    assert (table["arrival_s"].to_numpy() == trace.arrival_ns / SECOND).all()
    for column in ("prompt_tokens", "cached_tokens", "output_tokens"):
        assert (table[column].to_numpy() == getattr(trace, column)).all()
    assert (table["class"].to_numpy() == np.array(trace.classes)[trace.class_index]).all()
    assert set(table["scenario_id"]) == {"test/a"}
    assert set(table["replication"]) == {3}
    assert table["outcome"].value_counts().to_dict() == {"finished": trace.requests - 1, "rejected": 1}


def test_rows_carry_the_session_of_the_trace_and_minus_one_without() -> None:
    plan, outcome = finished()
    assert set(requests_of(plan, outcome)["session"]) == {-1}
    session = np.arange(plan.trace.requests, dtype=np.int32) // 3
    session[7] = -1
    with_sessions = dataclasses.replace(plan, trace=dataclasses.replace(plan.trace, session=session))
    table = requests_of(with_sessions, outcome)
    assert table["session"].tolist() == session.tolist()
    assert table["session_call"].tolist()[:9] == [1, 2, 3, 1, 2, 3, 1, 1, 2]
    assert table["session_calls"].tolist()[:9] == [3, 3, 3, 3, 3, 3, 2, 1, 2]


def test_replicas_are_numbered_within_their_pool() -> None:
    plan, outcome = finished()
    table = requests_of(plan, outcome).drop(index=5)
    by_class = {"chat": ("main", "llama-3.1-8b", 2), "voice": ("side", "qwen3-8b", 3)}
    for name, (pool, model, replicas) in by_class.items():
        mine = table[table["class"] == name]
        assert set(mine["pool"]) == {pool}
        assert set(mine["model"]) == {model}
        assert mine["replica"].tolist() == [turn % replicas for turn in range(len(mine))]


def test_a_rejected_request_has_no_pool_and_no_instants_but_the_model_it_asked_for() -> None:
    plan, outcome = finished()
    row = requests_of(plan, outcome).loc[5]
    assert row["outcome"] == "rejected"
    assert row[["pool", "replica", "admitted_s", "first_token_s", "finished_s"]].isna().all()
    assert (row["class"], row["model"]) == ("voice", "qwen3-8b")


def test_instants_are_null_where_they_never_came() -> None:
    plan, outcome = finished(drain_s=0)
    table = requests_of(plan, outcome)
    records = outcome.requests
    for column, instant in (
        ("admitted_s", "admitted_ns"), ("first_token_s", "first_token_ns"), ("finished_s", "finished_ns"),
    ):  # fmt: skip
        never = records[instant] < 0
        assert 0 < never.sum() < len(records)
        assert (table[column].isna() == never).all()
        assert (table[column][~never] == records[instant][~never] / SECOND).all()
    unfinished = table["outcome"] == "unfinished"
    assert unfinished.any()
    assert table.loc[unfinished, ["pool", "replica"]].notna().all(axis=None)


def test_intervals_tile_the_run_and_the_last_one_is_cut() -> None:
    plan, outcome = finished()
    table = timeline_of(plan, outcome)
    for _, rows in table.groupby("pool", observed=True):
        assert rows["interval_start_s"].iloc[0] == 0.0
        assert rows["interval_start_s"].to_numpy()[1:] == pytest.approx(rows["interval_end_s"].to_numpy()[:-1])
        assert rows["interval_end_s"].iloc[-1] == outcome.ended_ns / SECOND
        assert rows["length_s"].to_numpy()[:-1] == pytest.approx(0.7)
        assert 0.0 < rows["length_s"].iloc[-1] <= 0.7
    assert table["pool"].unique().tolist() == ["main", "side", "idle"]


@pytest.mark.parametrize("drain_s", [0, 600])
def test_littles_law_between_the_tables(drain_s: int) -> None:
    """Requests in the system, integrated over the timeline, are the times that requests spent in it."""
    plan, outcome = finished(drain_s)
    requests, timeline = requests_of(plan, outcome), timeline_of(plan, outcome)
    end_s = outcome.ended_ns / SECOND
    served = requests[requests["pool"].notna()]
    spent = (served["finished_s"].fillna(end_s) - served["arrival_s"]).groupby(served["pool"], observed=True).sum()
    in_system = (timeline["waiting"] + timeline["running"]) * timeline["length_s"]
    integral = in_system.groupby(timeline["pool"], observed=True).sum()
    for pool in ("main", "side"):
        assert integral[pool] == pytest.approx(spent[pool], rel=1e-9)
    main = timeline[timeline["pool"] == "main"]
    mine = served[served["pool"] == "main"]
    edges = np.append(main["interval_start_s"], end_s)
    theory = mean_number_in_system(mine["arrival_s"].to_numpy(), mine["finished_s"].fillna(2 * end_s).to_numpy(), edges)
    assert (main["waiting"] + main["running"]).to_numpy() == pytest.approx(theory, abs=1e-6)


def test_tokens_and_arrivals_add_up_to_what_was_served() -> None:
    plan, outcome = finished()
    requests, timeline = requests_of(plan, outcome), timeline_of(plan, outcome)
    assert requests["preemptions"].sum() == 0
    for pool, mine in requests.groupby("pool", observed=True):
        rows = timeline[timeline["pool"] == pool]
        assert rows["arrivals"].sum() == len(mine)
        assert rows["prefill_tokens"].sum() == (mine["prompt_tokens"] - mine["cached_tokens"]).sum()
        # The first token of an answer comes with its prefill.
        assert rows["decode_tokens"].sum() == (mine["output_tokens"] - 1).sum()
        counted = np.histogram(mine["arrival_s"], np.append(rows["interval_start_s"], np.inf))[0]
        assert rows["arrivals"].tolist() == counted.tolist()


def test_the_length_of_the_intervals_changes_no_total() -> None:
    """Ten times finer rows are the same integrals, cut elsewhere."""
    totals = []
    for interval_ns in (7_000_000_000, 700_000_000):
        table = timeline_of(*finished(interval_ns=interval_ns))
        integrals = table[["waiting", "running", "kv_used_fraction", "busy_fraction"]].mul(table["length_s"], axis=0)
        counts = table[["prefill_tokens", "decode_tokens", "arrivals"]]
        totals.append(pd.concat([integrals, counts], axis=1).groupby(table["pool"], observed=True).sum())
    pd.testing.assert_frame_equal(totals[0], totals[1], rtol=1e-6)


def test_fractions_are_fractions_and_an_idle_pool_is_idle() -> None:
    plan, outcome = finished()
    table = timeline_of(plan, outcome)
    for column in ("busy_fraction", "kv_used_fraction"):
        assert table[column].between(0.0, 1.0).all()
    length_ns = np.diff(np.append(np.arange(0, outcome.ended_ns, plan.interval_ns), outcome.ended_ns))
    for index, deployment in enumerate(pools()):
        busy_ns = outcome.fleet.timeline["busy_ns"][index, : len(length_ns)]
        assert (busy_ns <= deployment.replicas * length_ns).all()
    busy = table[table["pool"] == "main"]["busy_fraction"]
    assert 0.05 < busy.mean() <= 1.0
    idle = table[table["pool"] == "idle"]
    columns = ["waiting", "running", "kv_used_fraction", "busy_fraction", "prefill_tokens", "decode_tokens", "arrivals"]
    assert (idle[columns] == 0).all(axis=None)
    assert table.groupby("pool", observed=True)["replicas"].first().to_dict() == {"main": 2, "side": 3, "idle": 1}


def test_kv_in_use_is_that_of_the_requests_in_a_batch() -> None:
    """From admission to its end a request holds at least its prompt, at most prompt, answer and its charge."""
    plan, outcome = finished()
    requests, timeline = requests_of(plan, outcome), timeline_of(plan, outcome)
    for pool, deployment in zip(("main", "side"), pools(), strict=False):
        mine = requests[requests["pool"] == pool]
        rows = timeline[timeline["pool"] == pool]
        capacity = deployment.kv.tokens * deployment.replicas
        held = float((rows["kv_used_fraction"] * rows["length_s"]).sum()) * capacity
        seconds = mine["finished_s"] - mine["admitted_s"]
        least = (seconds * mine["prompt_tokens"]).sum()
        most = (seconds * (mine["prompt_tokens"] + mine["output_tokens"] + deployment.kv.sequence_charge)).sum()
        assert least < held < most


def test_power_lies_between_idle_and_busy_and_is_null_where_none_is_known() -> None:
    plan, outcome = finished()
    table = timeline_of(plan, outcome)
    assert table[table["pool"] == "side"]["power_w"].isna().all()
    main, idle = (table[table["pool"] == pool] for pool in ("main", "idle"))
    # H100: 700 W, an assumed fifth of it when idle; two replicas of one accelerator.
    expected = 2 * (140.0 + (700.0 - 140.0) * main["busy_fraction"])
    assert main["power_w"].to_numpy() == pytest.approx(expected.to_numpy())
    deployment = pools()[2]
    assert deployment.idle_w is not None
    assert idle["power_w"].to_numpy() == pytest.approx(2 * deployment.idle_w)


def test_follow_ups_that_were_never_sent_are_no_rows() -> None:
    trace = Trace(
        ("chat",),
        arrival_ns=np.array([0, 0, SECOND]),
        class_index=np.zeros(3, np.int16),
        prompt_tokens=np.full(3, 100),
        cached_tokens=np.zeros(3, np.int64),
        output_tokens=np.full(3, 20),
        follows=np.array([-1, 0, -1]),
        gap_ns=np.array([0, 3600 * SECOND, 0]),
    )
    plan = dataclasses.replace(
        finished()[0], trace=trace, pools_of_class=[[0]], arrivals_end_ns=10 * SECOND, drain_ns=SECOND
    )
    table = requests_of(plan, run(plan))
    assert table["request_id"].tolist() == [0, 2]
    assert table["outcome"].tolist() == ["finished", "finished"]


def test_equal_runs_give_equal_tables() -> None:
    plan, outcome = finished()
    again: Any = run(plan)
    assert requests_table(plan, outcome, "a", 0).equals(requests_table(plan, again, "a", 0))
    assert timeline_table(plan, outcome, "a", 0).equals(timeline_table(plan, again, "a", 0))


def test_host_time_is_added_to_what_the_client_sees_and_occupies_nothing() -> None:
    plan, outcome = finished()
    slow = [
        dataclasses.replace(each, request_overhead_s=seconds)
        for each, seconds in zip(pools(), (0.5, 0.0, 0.0), strict=True)
    ]
    before = requests_of(plan, outcome)
    after = requests_of(dataclasses.replace(plan, deployments=slow), outcome)
    main = (before["pool"] == "main").to_numpy()
    for column in ("first_token_s", "finished_s"):
        assert (after[column] - before[column])[main].dropna().to_numpy() == pytest.approx(0.5)
        assert (after[column][~main].dropna() == before[column][~main].dropna()).all()
    assert (after["admitted_s"].dropna() == before["admitted_s"].dropna()).all()
