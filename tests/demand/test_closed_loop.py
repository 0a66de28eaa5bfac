"""Sessions in the engines: both agree, nothing is lost, and Little's law holds for what the sessions really sent."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.demand.generate import generate_class
from sim.demand.trace import Trace
from sim.engine.compiled_engine import CompiledEngine
from sim.engine.simpy_engine import SimpyEngine
from sim.serving.state import FleetState
from sim.specs.library import Library
from sim.theory.little import mean_number_in_system

FOREVER = 1 << 62
DURATION_S = 900.0
ROOT = Path(__file__).parents[2]


@cache
def sessions(name: str) -> Trace:
    workload = Library((ROOT,)).workload(name).spec
    return generate_class(workload, 2.0, DURATION_S, 16.0, 4, name)


def served(fleet_builder: Any, trace: Trace, engine: Any, slow: float = 1.0) -> FleetState:
    assert trace.gap_ns is not None
    builder = fleet_builder(
        trace.arrival_ns / 1e9, prompt=trace.prompt_tokens, output=trace.output_tokens, cached=trace.cached_tokens,
        replicas=2, max_sequences=40, step_token_budget=8192, kv_capacity=40_000_000, base_s=0.01 * slow,
        token_s=2e-5 * slow, context_s=1e-9, follows=trace.follows, gaps_s=trace.gap_ns / 1e9, end_s=DURATION_S,
    )  # fmt: skip
    fleet, routing, arrivals = builder.build()
    engine(fleet, routing, arrivals).advance(FOREVER)
    finished: FleetState = fleet
    return finished


@pytest.mark.parametrize("name", ["agent-sessions", "voice-calls"])
def test_both_engines_agree_on_sessions(fleet_builder: Any, name: str) -> None:
    trace = sessions(name)
    assert trace.requests > 500
    first, second = (served(fleet_builder, trace, engine) for engine in (CompiledEngine, SimpyEngine))
    assert (first.requests == second.requests).all()
    assert (first.timeline == second.timeline).all()


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
@pytest.mark.parametrize("name", ["agent-sessions", "chat-sessions-small", "voice-calls"])
def test_sessions_conserve_requests_tokens_and_follow_littles_law(fleet_builder: Any, engine: Any, name: str) -> None:
    trace = sessions(name)
    fleet = served(fleet_builder, trace, engine)
    requests = fleet.requests
    sent = requests["arrival_ns"] >= 0
    assert 0.5 < sent.mean() <= 1.0
    assert (requests["outcome"][sent] == 1).all()
    assert fleet.timeline["arrivals"].sum() == sent.sum()
    computed = (trace.prompt_tokens - trace.cached_tokens)[sent].sum()
    # a preempted request prefills its answer too; here nothing is preempted
    assert requests["preemptions"].sum() == 0
    assert fleet.timeline["prefill_tokens"].sum() == computed
    assert fleet.timeline["decode_tokens"].sum() == (trace.output_tokens - 1)[sent].sum()
    sojourn = (requests["finished_ns"] - requests["arrival_ns"])[sent]
    in_system = fleet.timeline["waiting_ns"].sum() + fleet.timeline["running_ns"].sum()
    assert in_system == sojourn.sum()
    end_ns = float(requests["finished_ns"][sent].max())
    mean_number = mean_number_in_system(
        requests["arrival_ns"][sent].astype(float), requests["finished_ns"][sent].astype(float),
        np.array([0.0, end_ns]),
    )  # fmt: skip
    assert in_system / end_ns == pytest.approx(float(mean_number[0]), rel=1e-9)


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_tasks_follow_littles_law_and_last_as_long_as_their_calls_and_gaps(fleet_builder: Any, engine: Any) -> None:
    """A task is in a call or in a gap: the number of tasks in progress is that of calls in service and of gaps."""
    trace = sessions("voice-calls")
    fleet = served(fleet_builder, trace, engine)
    requests, gaps = fleet.requests, np.asarray(trace.gap_ns)
    groups = trace.session_groups()
    unsent = np.bincount(groups, requests["arrival_ns"] < 0)
    whole = (unsent == 0)[groups]
    assert np.unique(groups[whole]).size > 80
    began = np.full(unsent.size, np.iinfo(np.int64).max)
    np.minimum.at(began, groups[whole], requests["arrival_ns"][whole])
    ended = np.zeros(unsent.size, np.int64)
    np.maximum.at(ended, groups[whole], requests["finished_ns"][whole])
    lasted = (ended - began)[unsent == 0]
    sojourn = (requests["finished_ns"] - requests["arrival_ns"])[whole]
    assert lasted.sum() == sojourn.sum() + gaps[whole].sum()
    end_ns = float(ended.max())
    in_progress = mean_number_in_system(
        began[unsent == 0].astype(float), ended[unsent == 0].astype(float), np.array([0.0, end_ns])
    )
    assert lasted.sum() / end_ns == pytest.approx(float(in_progress[0]), rel=1e-9)


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_sessions_are_conserved_when_memory_runs_out(fleet_builder: Any, engine: Any) -> None:
    trace = sessions("agent-sessions")
    assert trace.gap_ns is not None
    builder = fleet_builder(
        trace.arrival_ns / 1e9, prompt=trace.prompt_tokens, output=trace.output_tokens, cached=trace.cached_tokens,
        replicas=2, max_sequences=40, step_token_budget=8192, kv_capacity=1_000_000, base_s=0.05, token_s=2e-5,
        context_s=1e-8, follows=trace.follows, gaps_s=trace.gap_ns / 1e9, end_s=DURATION_S,
    )  # fmt: skip
    fleet, routing, arrivals = builder.build()
    engine(fleet, routing, arrivals).advance(FOREVER)
    requests = fleet.requests
    sent = requests["arrival_ns"] >= 0
    assert requests["preemptions"].sum() + (fleet.timeline["waiting_ns"].sum() > 0) > 0
    assert (requests["outcome"][sent] == 1).all()
    assert fleet.timeline["arrivals"].sum() == sent.sum()
    assert fleet.timeline["prefill_tokens"].sum() >= (trace.prompt_tokens - trace.cached_tokens)[sent].sum()
    sojourn = (requests["finished_ns"] - requests["arrival_ns"])[sent]
    assert fleet.timeline["waiting_ns"].sum() + fleet.timeline["running_ns"].sum() == sojourn.sum()
    assert (fleet.replicas["kv_used"] == 0).all()


def test_follow_ups_come_their_gap_after_the_completion_and_none_after_the_end(fleet_builder: Any) -> None:
    trace = sessions("agent-sessions")
    assert trace.follows is not None
    assert trace.gap_ns is not None
    requests = served(fleet_builder, trace, CompiledEngine).requests
    child = np.flatnonzero(trace.follows >= 0)
    due = requests["finished_ns"][trace.follows[child]] + trace.gap_ns[child]
    parent_sent = requests["arrival_ns"][trace.follows[child]] >= 0
    in_time = parent_sent & (due < DURATION_S * 1e9)
    assert (requests["arrival_ns"][child][in_time] == due[in_time]).all()
    assert (requests["arrival_ns"][child][~in_time] == -1).all()
    assert (~in_time).sum() > 0


def test_a_slower_fleet_meets_the_same_sessions_and_hears_less_of_them(fleet_builder: Any) -> None:
    trace = sessions("agent-sessions")
    fast, slow = (served(fleet_builder, trace, CompiledEngine, factor).requests for factor in (1.0, 8.0))
    assert (fast["prompt_tokens"] == slow["prompt_tokens"]).all()
    sent = [(requests["arrival_ns"] >= 0).sum() for requests in (fast, slow)]
    assert sent[1] < 0.9 * sent[0]
