"""One run: which engine, what takes part, when it ends, and what was stopped in the middle."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest

from sim.demand.trace import Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.engine.fleet_setup import request_records
from sim.engine.run import RunOutcome, RunPlan, choose_engine, longest_requests, run
from sim.serving.deployment import Deployment, deploy
from sim.serving.state import FINISHED, REJECTED, UNFINISHED
from sim.specs.resolved import load_scenario

SECOND = 10**9
INSTANTS = ("admitted_ns", "first_token_ns", "finished_ns", "replica", "preemptions")
Engine = Literal["compiled", "simpy"]
ENGINES: tuple[Engine, ...] = ("compiled", "simpy")


@cache
def pools() -> tuple[Deployment, Deployment]:
    """Return a pool of two replicas with long contexts and one replica whose memory is small."""
    fleet = {
        "large": {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 2},
        "small": {"hardware": "tpu-v5e", "model": "llama-3.1-8b", "replicas": 1, "parallelism": {"tensor": 2}},
    }
    traffic = {"chat": {"workload": "realtime-chat"}}
    large, small = deploy(load_scenario("quickstart", {"alternatives": {}, "traffic": traffic, "fleet": fleet}))
    return large, small


def chat(count: int = 300, rate_per_s: float = 30.0, seed: int = 5) -> Trace:
    generator = np.random.default_rng(seed)
    return trace_from_arrays(
        np.cumsum(generator.exponential(SECOND / rate_per_s, count)).astype(np.int64),
        generator.integers(10, 4000, count),
        generator.integers(1, 300, count),
        classes=("first", "second"),
        class_index=generator.integers(0, 2, count),
    )


def plan_of(trace: Trace, **changes: Any) -> RunPlan:
    plan = RunPlan(
        trace=trace,
        deployments=list(pools()),
        pools_of_class=[[0], [0, 1]],
        router="least_outstanding",
        draws=np.random.default_rng(0).random((trace.requests, 2)),
        arrivals_end_ns=int(trace.arrival_ns[-1]) + 1,
        drain_ns=600 * SECOND,
        interval_ns=SECOND,
    )
    return dataclasses.replace(plan, **changes)


def oversized(trace: Trace, rows: list[int], tokens: int) -> Trace:
    """Return a trace in which some prompts have so many tokens."""
    prompt = trace.prompt_tokens.copy()
    prompt[rows] = tokens
    return dataclasses.replace(trace, prompt_tokens=prompt)


# Which engine


def test_the_engine_follows_the_router() -> None:
    def router(request: object, replicas: object) -> int:
        return 0

    assert choose_engine("auto", None) == ("compiled", "router and policies are built in")
    assert choose_engine("auto", router) == ("simpy", "the router is the user's own Python")
    assert choose_engine("simpy", router) == ("simpy", "asked for")
    assert choose_engine("compiled", None) == ("compiled", "asked for")
    with pytest.raises(ValueError, match="built-in routers only"):
        choose_engine("compiled", router)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_engines_give_the_same_outcome(router: str) -> None:
    outcomes = [run(plan_of(chat(), router=router), engine) for engine in ENGINES]
    assert (outcomes[0].requests == outcomes[1].requests).all()
    assert (outcomes[0].fleet.timeline == outcomes[1].fleet.timeline).all()
    assert outcomes[0].events == outcomes[1].events
    assert outcomes[0].ended_ns == outcomes[1].ended_ns
    assert [outcome.engine for outcome in outcomes] == list(ENGINES)


def test_a_run_leaves_its_trace_alone() -> None:
    """The same plan can be run again: nothing of a run is kept in it."""
    plan = plan_of(chat())
    first, second = run(plan), run(plan)
    assert (first.requests == second.requests).all()
    assert (first.requests["outcome"] == FINISHED).all()


# What takes part


def test_a_class_is_limited_by_the_smallest_of_its_pools() -> None:
    large, small = pools()
    assert small.longest_request() < large.longest_request() == 131_072
    assert longest_requests(plan_of(chat())).tolist() == [131_072, small.longest_request()]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_longest_request_that_a_pool_takes_is_served_and_one_token_more_is_not(engine: Engine) -> None:
    """Memory is used to the last entry: a request that fits alone is served, whatever its split of the tokens."""
    _, small = pools()
    limit = small.longest_request()
    assert limit < small.context_length
    prompt = np.array([limit - 1, limit - 500, 1000, limit, limit - 500, 1001])
    output = np.array([1, 500, limit - 1000, 1, 501, limit - 1000])
    trace = trace_from_arrays(np.arange(6) * 1000 * SECOND, prompt, output)
    plan = plan_of(trace, pools_of_class=[[0]], deployments=[small], interval_ns=1000 * SECOND)
    requests = run(plan, engine).requests
    assert requests["outcome"].tolist() == [FINISHED] * 3 + [REJECTED] * 3
    assert requests["preemptions"].sum() == 0
    assert small.kv.sequence_charge + limit - 1 == small.kv.tokens


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_rejected_requests_take_part_in_nothing(engine: Engine, router: str) -> None:
    """Without them, everybody else meets the same fate, whatever they would have done to turns and queues."""
    whole, rows = chat(), [0, 7, 150, 299]
    trace = oversized(whole, rows, 200_000)
    with_them = run(plan_of(trace, router=router), engine)
    kept = np.setdiff1d(np.arange(trace.requests), rows)
    plan = plan_of(trace, router=router)
    alone = dataclasses.replace(
        trace,
        arrival_ns=trace.arrival_ns[kept],
        class_index=trace.class_index[kept],
        prompt_tokens=trace.prompt_tokens[kept],
        cached_tokens=trace.cached_tokens[kept],
        output_tokens=trace.output_tokens[kept],
    )
    without = run(dataclasses.replace(plan, trace=alone, draws=plan.draws[kept]), engine)
    assert with_them.requests["outcome"][rows].tolist() == [REJECTED] * 4
    for column in INSTANTS:
        assert (with_them.requests[column][kept] == without.requests[column]).all()
        if column != "preemptions":
            assert (with_them.requests[column][rows] == -1).all()
    assert with_them.events == without.events
    assert with_them.fleet.timeline["arrivals"].sum() == len(kept)
    assert (with_them.fleet.timeline["busy_ns"] == without.fleet.timeline["busy_ns"]).all()


def test_a_run_of_nothing_but_rejections_ends_with_the_arrivals() -> None:
    trace = oversized(chat(5), list(range(5)), 200_000)
    plan = plan_of(trace)
    outcome = run(plan)
    assert (outcome.requests["outcome"] == REJECTED).all()
    assert outcome.ended_ns == plan.arrivals_end_ns
    assert outcome.events == 0


def test_classes_go_to_their_own_pools() -> None:
    outcome = run(plan_of(chat(), pools_of_class=[[0], [1]]))
    assert outcome.replica_pool.tolist() == [0, 0, 1]
    pool = outcome.replica_pool[outcome.requests["replica"]]
    assert (pool == outcome.requests["class_index"]).all()


def test_follow_ups_come_after_completion_and_those_of_a_rejection_never() -> None:
    """A chain of three turns, one whose middle turn is too long, and one whose last would come after the end."""
    trace = Trace(
        ("chat",),
        arrival_ns=np.array([0] * 3 + [SECOND] * 3 + [2 * SECOND] * 2),
        class_index=np.zeros(8, np.int16),
        prompt_tokens=np.array([100, 200, 300, 100, 200_000, 300, 100, 100]),
        cached_tokens=np.zeros(8, np.int64),
        output_tokens=np.full(8, 50),
        follows=np.array([-1, 0, 1, -1, 3, 4, -1, 6]),
        gap_ns=np.array([0, 5, 7, 0, 5, 5, 0, 100]) * SECOND,
    )
    plan = plan_of(trace, pools_of_class=[[0]], arrivals_end_ns=60 * SECOND)
    for engine in ENGINES:
        requests = run(plan, engine).requests
        assert requests["outcome"].tolist() == [FINISHED] * 4 + [REJECTED, UNFINISHED, FINISHED, UNFINISHED]
        assert requests["arrival_ns"][5] == requests["arrival_ns"][7] == -1
        for child, parent, gap in ((1, 0, 5), (2, 1, 7)):
            assert requests["arrival_ns"][child] == requests["finished_ns"][parent] + gap * SECOND


def test_request_records_link_the_children_of_a_request_in_order() -> None:
    trace = Trace(
        ("chat",),
        arrival_ns=np.zeros(6, np.int64),
        class_index=np.zeros(6, np.int16),
        prompt_tokens=np.ones(6, np.int64),
        cached_tokens=np.zeros(6, np.int64),
        output_tokens=np.ones(6, np.int64),
        follows=np.array([-1, 0, -1, 0, 2, 0]),
        gap_ns=np.array([0, 3, 0, 1, 4, 2]),
    )
    records = request_records(trace)
    assert records["arrival_ns"].tolist() == [0, -1, 0, -1, -1, -1]
    assert records["first_child"].tolist() == [1, -1, 4, -1, -1, -1]
    assert records["next_sibling"].tolist() == [-1, 3, -1, 5, -1, -1]
    assert records["gap_ns"].tolist() == [0, 3, 0, 1, 4, 2]


# When it ends


def finished_before(outcome: RunOutcome, instant_ns: int) -> np.ndarray[Any, Any]:
    return np.asarray(outcome.requests["finished_ns"] < instant_ns)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_stopped_is_the_beginning_of_one_that_is_not(engine: Engine) -> None:
    """What happens before the end of the drain does not know that there is one."""
    trace = chat()
    whole = run(plan_of(trace), engine)
    drain_ns = SECOND // 2
    stopped = run(plan_of(trace, drain_ns=drain_ns), engine)
    stop_ns = int(trace.arrival_ns[-1]) + 1 + drain_ns
    done = finished_before(whole, stop_ns)
    assert 0 < (~done).sum() < trace.requests
    assert (stopped.requests["outcome"] == np.where(done, FINISHED, UNFINISHED)).all()
    assert (stopped.requests["finished_ns"] == np.where(done, whole.requests["finished_ns"], -1)).all()
    assert stopped.ended_ns == stop_ns
    assert whole.ended_ns == whole.requests["finished_ns"].max()
    full = stop_ns // SECOND
    for column in ("waiting_ns", "running_ns", "busy_ns", "prefill_tokens", "decode_tokens", "arrivals"):
        assert (stopped.fleet.timeline[column][:, :full] == whole.fleet.timeline[column][:, :full]).all(), column


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_running_when_a_run_is_stopped_is_accounted_for(engine: Engine) -> None:
    """The timeline's integral of requests in the system is the sum of their times in it, cut at the end."""
    outcome = run(plan_of(chat(), drain_ns=0), engine)
    requests = outcome.requests
    left_ns = np.where(requests["outcome"] == FINISHED, requests["finished_ns"], outcome.ended_ns)
    assert (requests["outcome"] == UNFINISHED).any()
    total = outcome.fleet.timeline["waiting_ns"].sum() + outcome.fleet.timeline["running_ns"].sum()
    assert total == (left_ns - requests["arrival_ns"]).sum()


def test_progress_is_told_in_equal_steps_of_simulated_time() -> None:
    told: list[float] = []
    run(plan_of(chat(20)), progress=told.append)
    assert told == pytest.approx(np.arange(1, 51) / 50)


def test_events_are_arrivals_and_boundaries() -> None:
    """Step by step, an event is an arrival, a wake-up of an idle replica, or the end of a step."""
    plan = plan_of(chat(), max_span=1)
    outcome = run(plan)
    steps = int(outcome.fleet.replicas["steps"].sum())
    wake_ups = outcome.events - plan.trace.requests - steps
    assert 0 < wake_ups <= plan.trace.requests
    assert run(dataclasses.replace(plan, max_span=1 << 40)).events < outcome.events


@pytest.mark.parametrize("engine", ["compliled", "SimPy", ""])
def test_an_engine_that_does_not_exist_is_refused(engine: str) -> None:
    with pytest.raises(ValueError, match="there is no engine"):
        choose_engine(engine, None)  # type: ignore[arg-type]
