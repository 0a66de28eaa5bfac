"""Sessions: contexts grow by what is said, caches hold what was there, and sessions are the same for every fleet."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import stats

from sim.demand.generate import generate_class
from sim.demand.lengths import mean_length
from sim.demand.session_tables import mean_calls, session_tables
from sim.demand.sessions import Calls, draw_sessions, nominal_times
from sim.demand.streams import stream
from sim.demand.trace import Trace, merge_traces
from sim.specs.workload import WorkloadSpec

OURS = {"source": ["assumption"], "confidence": "assumption"}


def fixed(tokens: int) -> dict[str, Any]:
    return {"distribution": "fixed", "tokens": f"{tokens} tokens"} | OURS


def sourced(value: object) -> dict[str, Any]:
    return {"value": value} | OURS


def between(low: int, high: int) -> dict[str, Any]:
    return {"distribution": "quantile_table", "quantiles": {0: f"{low} tokens", 1: f"{high} tokens"}} | OURS


TOOL: dict[str, Any] = {
    "share": sourced(0.7),
    "gap": {"distribution": "quantile_table", "quantiles": {0: "1 s", 1: "20 s"}} | OURS,
    "new_tokens": between(5, 400),
    "without_new_tokens": sourced(0.25),
}
HUMAN: dict[str, Any] = {
    "share": sourced(0.3),
    "gap": {"distribution": "fixed", "duration": "100 s"} | OURS,
    "new_tokens": fixed(50),
}
COMPACTION: dict[str, Any] = {
    "hazards": [{"from_tokens": "2 ktokens", "hazard": 0.2}, {"from_tokens": "4 ktokens", "hazard": 1.0}],
    "context_tokens": between(100, 1500),
} | OURS
SUB_AGENTS: dict[str, Any] = {
    "share_of_sessions": 0.5,
    "at_once": {"distribution": "shares", "shares": {2: 0.5, 3: 0.5}} | OURS,
    "calls": {"distribution": "shares", "shares": {1: 0.3, 4: 0.7}} | OURS,
    "task_tokens": fixed(30),
} | OURS
SESSIONS: dict[str, Any] = {
    "calls": {"distribution": "shares", "shares": {1: 0.2, 3: 0.4, 20: 0.4}} | OURS,
    "instructions_tokens": between(200, 600),
    "instructions_cached": False,
    "follow_ups": {"tool": TOOL, "human": HUMAN},
    "call_time": sourced("5 s"),
    "lead_in": sourced("1 h"),
}


def workload(changes: dict[str, Any] | None = None, **top: Any) -> WorkloadSpec:
    raw: dict[str, Any] = {
        "kind": "workload", "name": "test", "title": "test", "traffic_class": "agent",
        "rate": sourced("1 requests/s"), "arrivals": {"process": "poisson"},
        "prompt_tokens": between(10, 90), "output_tokens": between(3, 300),
        "sessions": SESSIONS | (changes or {}),
    }  # fmt: skip
    return WorkloadSpec.model_validate(raw | top)


SPOKEN: dict[str, Any] = {
    "distribution": "spoken", "answer_tokens_per_s": 3.0, "message_tokens_per_s": 3.0, "pause": "1 s",
} | OURS  # fmt: skip
FULL = {"compaction": COMPACTION, "sub_agents": SUB_AGENTS}


def drawn(spec: WorkloadSpec, count: int, seed: int = 1) -> Calls:
    return draw_sessions(session_tables(spec), count, lambda *names: stream(seed, *names))


def generated(spec: WorkloadSpec, rate: float = 2.0, duration_s: float = 3600.0, seed: int = 1) -> Trace:
    return generate_class(spec, rate, duration_s, 0.0, seed, "agents")


@pytest.mark.parametrize("changes", [{}, FULL])
def test_every_call_follows_an_earlier_one_of_its_session(changes: dict[str, Any]) -> None:
    calls = drawn(workload(changes), 500)
    follow_up = calls.parent >= 0
    assert (calls.parent < np.arange(calls.parent.size)).all()
    assert (calls.session[follow_up] == calls.session[calls.parent[follow_up]]).all()
    assert np.bincount(calls.session[~follow_up], minlength=500).tolist() == [1] * 500
    assert (calls.gap_s[~follow_up] == 0.0).all()
    started = calls.way < 0  # first calls of sub-agents follow at once
    assert (calls.gap_s[follow_up & ~started] >= 1.0 - 1e-9).all()
    assert (calls.gap_s[started] == 0.0).all()


def test_contexts_grow_by_the_answer_and_what_is_new() -> None:
    calls = drawn(workload(), 2000)
    child = np.flatnonzero(calls.parent >= 0)
    parent = calls.parent[child]
    grown = calls.prompt[child] - calls.prompt[parent] - calls.output[parent]
    human = calls.way[child] == 1
    assert set(grown[human].tolist()) == {50}
    nothing = (grown[~human] == 0).mean()
    assert nothing == pytest.approx(0.25, abs=4.0 * np.sqrt(0.25 * 0.75 / (~human).sum()))
    assert grown[~human][grown[~human] > 0].min() >= 5
    assert grown.max() <= 400
    assert human.mean() == pytest.approx(0.3, abs=4.0 * np.sqrt(0.21 / child.size))
    assert calls.gap_s[child][human] == pytest.approx(100.0)


def test_a_follow_up_finds_all_that_its_parent_left_but_the_last_token() -> None:
    for changes in ({}, {"compaction": COMPACTION | {"hazards": [{"from_tokens": "1 Mtokens", "hazard": 1.0}]}}):
        calls = drawn(workload(changes), 500)
        child = np.flatnonzero(calls.parent >= 0)
        parent = calls.parent[child]
        assert (calls.cached[child] == calls.prompt[parent] + calls.output[parent] - 1).all()
        assert (calls.cached[calls.parent < 0] == 0).all()


def test_both_ways_of_growing_agree_where_nothing_is_compacted() -> None:
    never = {"compaction": COMPACTION | {"hazards": [{"from_tokens": "1 Mtokens", "hazard": 1.0}]}}
    with_loop, plain = drawn(workload(never), 300), drawn(workload(), 300)
    for column in Calls._fields:
        assert np.array_equal(getattr(with_loop, column), getattr(plain, column)), column


def test_instructions_that_others_left_are_found_by_the_first_call() -> None:
    calls = drawn(workload({"instructions_cached": True, "instructions_tokens": fixed(333)}), 50)
    assert set(calls.cached[calls.parent < 0].tolist()) == {333}


def test_compaction_keeps_contexts_below_a_certain_hazard_and_above_the_instructions() -> None:
    calls = drawn(workload({"compaction": COMPACTION}), 3000)
    child = np.flatnonzero(calls.parent >= 0)
    kept = calls.prompt[calls.parent[child]] + calls.output[calls.parent[child]]
    cut = calls.prompt[child] < kept
    assert cut.sum() > 300
    assert calls.prompt.max() < 4000
    # what is found after a compaction is the instructions, which stay the same through a session
    first = np.zeros(3000, np.int64)
    first[calls.session[child][cut]] = calls.cached[child][cut]
    assert (calls.cached[child][cut] == first[calls.session[child][cut]]).all()
    assert ((calls.cached[child][cut] >= 200) & (calls.cached[child][cut] <= 600)).all()
    assert (calls.cached < calls.prompt).all()
    mild = (kept >= 2000) & (kept < 3000)
    assert cut[mild].mean() == pytest.approx(0.2, abs=4.0 * np.sqrt(0.16 / mild.sum()))


def test_a_session_waits_for_the_sub_agent_that_takes_longest() -> None:
    of_four = SUB_AGENTS | {"calls": {"distribution": "shares", "shares": {4: 1.0}} | OURS}
    calls = drawn(workload({"sub_agents": of_four}), 400)
    children = np.bincount(calls.parent[calls.parent >= 0], minlength=calls.parent.size)
    forks = np.flatnonzero(children > 1)
    share = np.unique(calls.session[forks]).size / 400
    assert share == pytest.approx(0.5 * 0.8, abs=0.1)
    assert set(children[forks].tolist()) == {2, 3}
    times = nominal_times(calls, 5.0)
    for fork in forks:
        begun = np.flatnonzero(calls.parent == fork)
        assert (calls.cached[begun] == calls.prompt[begun] - 30).all()
        left = calls.prompt[fork] + calls.output[fork] - 1
        ends = begun + 3
        (joined,) = np.flatnonzero(np.isin(calls.parent, ends))
        assert calls.cached[joined] == left
        assert times[calls.parent[joined]] == times[ends].max()


def test_the_mean_of_the_calls_counts_sub_agents() -> None:
    for changes in ({}, FULL):
        spec = workload(changes)
        assert spec.sessions is not None
        sizes = np.bincount(drawn(spec, 16_000).session)
        half_width = 4.0 * sizes.std() / np.sqrt(sizes.size)
        assert half_width < 0.05 * sizes.mean()
        assert mean_calls(spec.sessions) == pytest.approx(sizes.mean(), abs=half_width)


def test_speech_takes_the_time_of_its_tokens() -> None:
    spoken = {
        "distribution": "spoken",
        "answer_tokens_per_s": 4.0,
        "message_tokens_per_s": 2.0,
        "pause": "0.5 s",
    } | OURS
    calls = drawn(workload({"follow_ups": {"caller": HUMAN | {"share": sourced(1.0), "gap": spoken}}}), 100)
    child = np.flatnonzero(calls.parent >= 0)
    assert calls.gap_s[child] == pytest.approx(0.5 + calls.output[calls.parent[child]] / 4.0 + 50 / 2.0)


@pytest.mark.parametrize("changes", [{}, FULL])
def test_nominal_times_are_completion_plus_gap(changes: dict[str, Any]) -> None:
    calls = drawn(workload(changes), 200)
    times = nominal_times(calls, 7.0)
    child = np.flatnonzero(calls.parent >= 0)
    assert times[child] == pytest.approx(times[calls.parent[child]] + 7.0 + calls.gap_s[child])
    assert (times[calls.parent < 0] == 0.0).all()


@pytest.mark.parametrize("changes", [{}, FULL])
def test_the_nth_session_is_the_same_whatever_rate_and_duration(changes: dict[str, Any]) -> None:
    spec = workload(changes)
    few = generated(spec, 1.0, 4000.0)
    assert few.session is not None
    for other in (generated(spec, 3.0, 4000.0), generated(spec, 1.0, 9000.0)):
        assert other.session is not None
        for number in (-5, -1, 0, 1, 7):
            mine, theirs = (np.asarray(trace.session) == number for trace in (few, other))
            count = min(int(mine.sum()), int(theirs.sum()))
            if number < 0:  # a session of the past is met at another call when it began at another time
                assert set(few.prompt_tokens[mine][-1:]) <= set(other.prompt_tokens[theirs]) or count == 0
                continue
            assert count > 0
            for column in ("prompt_tokens", "cached_tokens", "output_tokens", "gap_ns"):
                assert np.array_equal(getattr(few, column)[mine][:count], getattr(other, column)[theirs][:count])


def test_calls_come_at_the_rate_from_the_start_if_they_take_their_typical_time() -> None:
    spec = workload({"lead_in": sourced("2 h")})
    trace = generated(spec, 20.0, 20_000.0)
    assert trace.follows is not None
    assert trace.gap_ns is not None
    arrival = trace.arrival_ns / 1e9
    for row in np.flatnonzero(trace.follows >= 0):
        arrival[row] = arrival[trace.follows[row]] + 5.0 + trace.gap_ns[row] / 1e9
    counts = np.histogram(arrival, np.linspace(0.0, 20_000.0, 11))[0]
    # sessions of at most 20 calls: the variance of a count is at most 20 times Poisson
    assert np.abs(counts / 40_000.0 - 1.0).max() < 4.0 * np.sqrt(20.0 / 40_000.0)


def test_what_cannot_come_in_the_run_is_left_out_and_nothing_else() -> None:
    spec = workload({"lead_in": sourced("1 s")})
    trace = generated(spec, 5.0, 300.0)
    longer = generated(spec, 5.0, 3000.0)
    assert trace.follows is not None
    assert trace.gap_ns is not None
    earliest = trace.arrival_ns.copy()
    for row in np.flatnonzero(trace.follows >= 0):
        earliest[row] = earliest[trace.follows[row]] + trace.gap_ns[row]
    assert earliest.max() < 300 * 10**9
    assert trace.session is not None
    assert longer.session is not None
    assert longer.follows is not None
    assert longer.gap_ns is not None
    possible = longer.arrival_ns.copy()
    for row in np.flatnonzero(longer.follows >= 0):
        possible[row] = possible[longer.follows[row]] + longer.gap_ns[row]
    assert (possible < 300 * 10**9).sum() == trace.requests


def test_sessions_survive_merging_and_windows() -> None:
    first, second = generated(workload(FULL)), generated(workload(), 1.0, seed=2)
    merged = merge_traces([first, second])
    assert merged.follows is not None
    assert merged.session is not None
    follow_up = np.flatnonzero(merged.follows >= 0)
    assert (merged.session[follow_up] == merged.session[merged.follows[follow_up]]).all()
    assert first.session is not None
    assert second.session is not None
    assert np.unique(merged.session).size == np.unique(first.session).size + np.unique(second.session).size


def test_an_empty_run_has_no_requests() -> None:
    assert generated(workload(), 0.0).requests == 0


def test_means_of_the_lengths_are_those_of_the_spec() -> None:
    spec = workload()
    calls = drawn(spec, 8000)
    half_width = 4.0 * calls.output.std() / np.sqrt(calls.output.size)
    assert half_width < 0.02 * calls.output.mean()
    assert calls.output.mean() == pytest.approx(mean_length(spec.output_tokens), abs=half_width)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"follow_ups": {"tool": TOOL}}, "must sum to 1"),
        ({"follow_ups": {}}, "at least 1"),
        ({"compaction": COMPACTION | {"hazards": []}}, "at least 1"),
        ({"compaction": COMPACTION | {"hazards": COMPACTION["hazards"][::-1]}}, "must rise"),
        ({"sub_agents": SUB_AGENTS | {"share_of_sessions": 1.5}}, "less than or equal"),
    ],
)
def test_sessions_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        workload(changes)


def test_sessions_bring_their_own_context() -> None:
    prefix = {"kind": "hit_fraction", "fraction": sourced(0.5)}
    with pytest.raises(ValidationError, match="leave out prefix"):
        workload(prefix=prefix)


def test_new_tokens_and_answers_of_follow_ups_correlate_as_stated() -> None:
    spec = workload({"follow_ups": {"tool": TOOL | {"share": sourced(1.0), "without_new_tokens": sourced(0.0)}}},
                    rank_correlation=sourced(0.4))  # fmt: skip
    calls = drawn(spec, 4000)
    later = np.flatnonzero(calls.parent >= 0)
    new = calls.prompt[later] - calls.prompt[calls.parent[later]] - calls.output[calls.parent[later]]
    found = float(stats.spearmanr(new, calls.output[later]).statistic)
    assert found == pytest.approx(0.4, abs=4.0 / np.sqrt(later.size))
    plain = drawn(workload(), 4000)
    assert (plain.output == calls.output).all()


def test_calls_are_numbered_in_their_whole_session_also_where_the_run_cuts_it() -> None:
    spec = workload(FULL)
    trace = generated(spec)
    session, call, calls = (np.asarray(getattr(trace, name)) for name in ("session", "session_call", "session_calls"))
    assert (call >= 1).all()
    assert (call <= calls).all()
    for number in np.unique(session):
        mine = session == number
        assert np.unique(calls[mine]).size == 1
        assert np.unique(call[mine]).size == mine.sum()
        if number >= 0:
            assert call[mine].min() == 1
    under_way = session < -1
    assert (np.array([call[session == number].min() for number in np.unique(session[under_way])]) > 1).any()
    assert any(mine.sum() < calls[mine][0] for mine in (session == number for number in np.unique(session)))


def test_instructions_that_are_shared_have_a_group_and_begin_every_prompt() -> None:
    cached = {"instructions_cached": True} | FULL
    for changes in (cached, cached | {"instructions_popularity": {"groups": 5, "exponent": 1.0} | OURS}):
        trace = generated(workload(changes))
        group, length = np.asarray(trace.prefix_group), np.asarray(trace.prefix_tokens)
        assert (group >= 0).all()
        assert (length < trace.prompt_tokens).all()
        assert (trace.cached_tokens >= length).all()
        assert np.unique(np.stack((group, length)), axis=1).shape[1] == np.unique(group).size
        for number in np.unique(np.asarray(trace.session)):
            assert np.unique(group[trace.session == number]).size == 1
    assert np.unique(group).tolist() == [0, 1, 2, 3, 4]
    alone = generated(workload(FULL))
    assert np.unique(np.asarray(alone.prefix_group)).tolist() == [-1]
    assert np.unique(np.asarray(alone.prefix_tokens)).tolist() == [0]
    popular = {"instructions_popularity": {"groups": 5, "exponent": 1.0} | OURS, "instructions_tokens": None}
    with pytest.raises(ValidationError, match="instructions_popularity needs instructions_tokens"):
        workload(popular)


def test_patience_is_that_of_a_session_and_changes_nothing_else() -> None:
    patience = {"distribution": "quantile_table", "quantiles": {0: "1 s", 1: "60 s"}} | OURS
    plain, patient = generated(workload(FULL)), generated(workload(FULL, patience=patience))
    assert plain.patience_ns is None
    waits = np.asarray(patient.patience_ns)
    assert ((waits >= 10**9) & (waits <= 60 * 10**9)).all()
    session = np.asarray(patient.session)
    assert all(np.unique(waits[session == number]).size == 1 for number in np.unique(session))
    assert np.unique(waits).size == np.unique(session).size
    for column in ("prompt_tokens", "output_tokens", "gap_ns", "arrival_ns", "session"):
        assert (getattr(plain, column) == getattr(patient, column)).all()


RESUMED: dict[str, Any] = {
    "share": sourced(0.3),
    "prompt_tokens": between(50_000, 90_000),
    "calls": {"distribution": "shares", "shares": {2: 1.0}} | OURS,
}


def test_kinds_of_sessions_are_mixed_at_their_shares_and_stay_the_same() -> None:
    spec = workload({"other_kinds": {"resumed": RESUMED}})
    calls = drawn(spec, 6000)
    first = np.flatnonzero(calls.parent < 0)
    assert (calls.session[first] == np.arange(6000)).all()
    resumed = calls.prompt[first] >= 50_000
    assert resumed.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 6000))
    sizes = np.bincount(calls.session)
    assert (sizes[resumed] == 2).all()
    assert set(sizes[~resumed].tolist()) == {1, 3, 20}
    follow_up = np.flatnonzero(calls.parent >= 0)
    assert (calls.session[follow_up] == calls.session[calls.parent[follow_up]]).all()
    assert (calls.parent[follow_up] < follow_up).all()
    few = drawn(spec, 600)
    mine = calls.session < 600
    for column in ("prompt", "output", "gap_s", "parent"):
        assert (getattr(few, column) == getattr(calls, column)[mine]).all()
    assert spec.sessions is not None
    assert mean_calls(spec.sessions) == pytest.approx(0.7 * (0.2 + 1.2 + 8.0) + 0.3 * 2.0)
    with pytest.raises(ValidationError, match="must leave some sessions"):
        workload({"other_kinds": {"all": RESUMED | {"share": sourced(1.0)}}})


def test_new_tokens_go_by_the_context_that_they_are_added_to() -> None:
    bands = [
        {"from_tokens": "1 tokens", "new_tokens": fixed(100)},
        {"from_tokens": "3000 tokens", "new_tokens": fixed(7), "without_new_tokens": 0.5},
    ]
    way = {"tool": TOOL | {"share": sourced(1.0), "new_tokens_from_context": bands}}
    calls = drawn(workload({"follow_ups": way}), 400)
    later = np.flatnonzero(calls.parent >= 0)
    before = calls.prompt[calls.parent[later]] + calls.output[calls.parent[later]]
    new = calls.prompt[later] - before
    assert (new[before < 3000] == 100).all()
    assert set(new[before >= 3000].tolist()) == {0, 7}
    assert (new[before >= 3000] == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (calls.cached[later] == before - 1).all()
    reads = {"tool": way["tool"] | {"new_tokens_from_call": {2: fixed(900), 3: fixed(1)}}}
    calls = drawn(workload({"follow_ups": reads | {}, "compaction": COMPACTION}), 400)
    second = np.flatnonzero((calls.parent >= 0) & (calls.prompt < 2000))
    second = second[calls.parent[calls.parent[second]] < 0]
    grown = calls.prompt[second] - calls.prompt[calls.parent[second]] - calls.output[calls.parent[second]]
    assert set(grown.tolist()) <= {0, 900}
    with pytest.raises(ValidationError, match="spoken gap"):
        workload({"follow_ups": {"tool": way["tool"] | {"gap": SPOKEN}}})
    with pytest.raises(ValidationError, match="must rise"):
        workload({"follow_ups": {"tool": TOOL | {"share": sourced(1.0), "new_tokens_from_context": bands[::-1]}}})
