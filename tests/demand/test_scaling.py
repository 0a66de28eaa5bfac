"""Scaling: sessions stay whole, growth multiplies them, and bursts stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.demand.dispersion import allan_dispersion
from sim.demand.generate import generate_class
from sim.demand.scaling import grown, thinned
from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.specs.library import Library

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def sessions() -> Trace:
    return generate_class(Library((ROOT,)).workload("voice-calls").spec, 5.0, 3600.0, 0.0, 1, "voice")


def bursty() -> Trace:
    instants = np.cumsum(stream(1, "bursty").gamma(0.05, 20.0, 60_000))
    return trace_from_arrays((instants * 1e9).astype(np.int64), np.ones(60_000), np.ones(60_000))


def content(trace: Trace) -> set[tuple[int, ...]]:
    return set(
        zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), trace.cached_tokens.tolist(), strict=True)
    )


def test_whole_sessions_stay_or_go(sessions: Trace) -> None:
    half = thinned(sessions, 0.5, 1)
    assert sessions.session is not None
    assert half.session is not None
    kept, counts = np.unique(half.session, return_counts=True)
    all_sessions, all_counts = np.unique(sessions.session, return_counts=True)
    assert kept.size == pytest.approx(0.5 * all_sessions.size, abs=4 * np.sqrt(all_sessions.size) / 2)
    assert (counts == all_counts[np.isin(all_sessions, kept)]).all()
    assert half.follows is not None
    assert sessions.follows is not None
    assert (half.follows < 0).sum() == (sessions.follows < 0)[np.isin(sessions.session, kept)].sum()


def test_a_smaller_share_keeps_a_part_of_the_same(sessions: Trace) -> None:
    some, more = (np.unique(np.asarray(thinned(sessions, share, 1).session)) for share in (0.2, 0.6))
    assert np.isin(some, more).all()
    assert thinned(sessions, 1.0, 1).requests == sessions.requests
    assert thinned(sessions, 0.0, 1).requests == 0


def test_chains_stay_together_without_session_numbers(sessions: Trace) -> None:
    assert sessions.follows is not None
    bare = Trace(
        sessions.classes, sessions.arrival_ns, sessions.class_index, sessions.prompt_tokens, sessions.cached_tokens,
        sessions.output_tokens, sessions.follows, sessions.gap_ns,
    )  # fmt: skip
    half = thinned(bare, 0.5, 1)
    assert half.follows is not None
    sizes = np.bincount(np.cumsum(np.ones(half.requests, int)) * 0 + (half.follows < 0))
    assert sizes[1] < (sessions.follows < 0).sum()
    assert half.requests - sizes[1] == (half.follows >= 0).sum()


@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 2.5])
def test_growth_multiplies_the_sessions(sessions: Trace, factor: float) -> None:
    more = grown(sessions, factor, 1)
    assert sessions.session is not None
    count = np.unique(sessions.session).size
    told = 0 if more.session is None else np.unique(more.session).size
    assert told == pytest.approx(factor * count, abs=4 * np.sqrt(count) / 2 * (factor % 1 > 0))
    assert content(more) <= content(sessions)
    assert (np.diff(more.arrival_ns) >= 0).all()
    if more.follows is not None and more.session is not None:
        child = np.flatnonzero(more.follows >= 0)
        assert (more.session[child] == more.session[more.follows[child]]).all()


def test_growth_by_copies_keeps_the_burstiness_that_compressed_time_loses() -> None:
    trace = bursty()
    duration = trace.arrival_ns[-1] / 1e9
    before = allan_dispersion(trace.arrival_ns / 1e9, 2.0, duration)
    doubled, squeezed = grown(trace, 2.0, 1), trace.scaled(0.5)
    assert doubled.requests == 2 * trace.requests
    assert before > 3.0
    assert allan_dispersion(doubled.arrival_ns / 1e9, 2.0, duration) == pytest.approx(before, rel=0.03)
    assert allan_dispersion(squeezed.arrival_ns / 1e9, 2.0, duration / 2) > 1.1 * before


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_and_factors_that_are_none(sessions: Trace, share: float) -> None:
    with pytest.raises(ValueError, match="share"):
        thinned(sessions, share, 1)
    with pytest.raises(ValueError, match="factor"):
        grown(sessions, -1.0 if share > 0 else float("nan"), 1)
