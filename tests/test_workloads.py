"""The shipped workloads: complete, sourced, sampled as described, and equal to what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from sim.demand.generate import generate_class
from sim.demand.lengths import length_quantile, mean_length, sample_lengths
from sim.demand.prefix import mean_cached
from sim.demand.processes import arrival_instants
from sim.demand.session_tables import session_tables
from sim.demand.sessions import draw_sessions
from sim.demand.streams import stream
from sim.specs.distributions import LengthDistribution, QuantileTableLengths
from sim.specs.library import Library
from sim.specs.prefixes import UncachedLengthsPrefix
from sim.specs.spec import ASSUMPTION_SOURCE, Provenance
from sim.specs.workload import WorkloadSpec

ROOT = Path(__file__).parents[1]
NAMES = (
    "agent", "agent-200k", "agent-sessions", "agent-sessions-200k", "archive-indexing", "batch-jobs", "chat-sessions",
    "chat-sessions-small", "code-completion", "continuous", "document-questions", "realtime-chat", "realtime-voice",
    "reasoning-chat", "voice-calls",
)  # fmt: skip
SESSIONS = ("agent-sessions", "chat-sessions", "voice-calls")
each = pytest.mark.parametrize("name", NAMES)


@cache
def shipped(name: str) -> WorkloadSpec:
    return Library((ROOT,)).workload(name).spec


def provenances(part: object) -> Iterator[Provenance]:
    if isinstance(part, Provenance):
        yield part
    if isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from provenances(getattr(part, name))
    elif isinstance(part, tuple | dict):
        for element in part.values() if isinstance(part, dict) else part:
            yield from provenances(element)


def lengths(spec: WorkloadSpec) -> dict[str, LengthDistribution]:
    found = {"prompt": spec.prompt_tokens, "output": spec.output_tokens}
    if isinstance(spec.prefix, UncachedLengthsPrefix):
        found["uncached"] = spec.prefix.uncached_tokens
    return found


def test_these_are_all_workloads() -> None:
    assert tuple(sorted(Library((ROOT,)).names("workload"))) == NAMES


@each
def test_every_source_is_cited_and_every_citation_is_used(name: str) -> None:
    spec = shipped(name)
    used = {key for provenance in provenances(spec) for key in provenance.source}
    assert used - {ASSUMPTION_SOURCE} == set(spec.sources)
    assert all(len(citation) > 20 for citation in spec.sources.values())


@each
def test_every_workload_has_a_class_and_service_levels_with_reasons(name: str) -> None:
    spec = shipped(name)
    assert spec.traffic_class in ("continuous", "agent", "realtime")
    assert spec.service_levels
    assert all(level.note for level in spec.service_levels)
    assert all(provenance.note for provenance in provenances(spec))


@each
def test_the_exact_means_are_those_of_the_samples(name: str) -> None:
    for part, distribution in lengths(shipped(name)).items():
        sampled = sample_lengths(distribution, 300_000, stream(1, name, part))
        half_width = 4.0 * sampled.std() / np.sqrt(sampled.size)
        assert half_width < 0.05 * sampled.mean(), part
        assert mean_length(distribution) == pytest.approx(sampled.mean(), abs=half_width), part


@each
def test_the_means_stated_in_the_notes_are_those_of_the_distribution(name: str) -> None:
    for part, distribution in lengths(shipped(name)).items():
        stated = re.search(r"\bMean (?:of this table )?([\d,.]*\d)", distribution.note)
        if stated is not None:
            text = stated.group(1).replace(",", "")
            digits = len(text.partition(".")[2])
            assert mean_length(distribution) == pytest.approx(float(text), abs=0.5 * 10.0**-digits + 1e-9), part


@pytest.mark.parametrize(
    ("name", "part", "measured_mean", "tolerance"),
    [
        ("continuous", "prompt", 16_098, 0.01),
        ("continuous", "output", 1_336, 0.04),
        ("agent", "prompt", 123_450, 0.02),
        ("agent", "output", 439.4, 0.015),
        ("agent-200k", "prompt", 93_827, 0.02),
        ("realtime-chat", "prompt", 1_632, 0.02),
        ("realtime-chat", "output", 106, 0.015),
        ("realtime-voice", "output", 27.8 * 1.33, 0.07),
        ("realtime-voice", "uncached", 18.2 * 1.33, 0.02),
        ("code-completion", "prompt", 2_511, 0.005),
        ("code-completion", "output", 23, 0.03),
        ("reasoning-chat", "prompt", 1_268, 0.03),
        ("reasoning-chat", "output", 1_527, 0.005),
    ],
)
def test_means_are_close_to_the_measured_ones(name: str, part: str, measured_mean: float, tolerance: float) -> None:
    assert mean_length(lengths(shipped(name))[part]) == pytest.approx(measured_mean, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "part", "quantiles"),
    [
        ("realtime-chat", "prompt", {0.5: 928, 0.9: 3830, 0.99: 6683}),
        ("realtime-chat", "output", {0.5: 41, 0.9: 342, 0.95: 455, 0.99: 694}),
        ("code-completion", "prompt", {0.5: 1930, 0.9: 6251, 0.99: 7685}),
        ("code-completion", "output", {0.5: 8, 0.9: 43, 0.95: 79, 0.99: 271}),
        ("agent", "output", {0.1: 105, 0.5: 216, 0.9: 899, 0.95: 1543, 0.99: 3663}),
        ("reasoning-chat", "output", {0.1: 287, 0.5: 792, 0.9: 3432, 0.95: 5701, 0.99: 12607}),
        ("realtime-voice", "output", {0.5: 23, 0.9: 71, 0.99: 171}),
    ],
)
def test_fits_meet_the_measured_quantiles(name: str, part: str, quantiles: dict[float, float]) -> None:
    fitted = length_quantile(lengths(shipped(name))[part], list(quantiles))
    # one token of rounding matters where a median is eight tokens
    assert np.all(np.abs(fitted - np.array(list(quantiles.values()))) <= np.maximum(1.0, 0.06 * fitted))


@pytest.mark.parametrize(
    ("name", "part", "row", "table"),
    [
        ("agent", "prompt", "Claude Code (WEKA)", "### 3.1 Input tokens"),
        ("reasoning-chat", "prompt", "ServeGen deepseek-r1", "### 3.1 Input tokens"),
    ],
)
def test_quantile_tables_are_those_of_the_facts(shared: Path, name: str, part: str, row: str, table: str) -> None:
    facts = (shared / "facts" / "workloads.md").read_text().partition(table)[2]
    cells = next(line for line in facts.splitlines() if line.startswith(f"| {row} |")).split("|")[2:]
    names = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)
    distribution = lengths(shipped(name))[part]
    assert isinstance(distribution, QuantileTableLengths)
    for probability, cell in zip(names, cells, strict=False):
        assert distribution.quantiles[probability] == float(cell)


@pytest.mark.parametrize(
    ("name", "hit", "tolerance"),
    [
        ("agent", 0.964, 0.01),
        ("agent-200k", 0.965, 0.01),
        ("realtime-chat", 0.62, 0.001),
        ("continuous", 0.54, 0.001),
        ("realtime-voice", 0.99, 0.005),
    ],
)
def test_the_share_of_cached_tokens_is_the_measured_one(name: str, hit: float, tolerance: float) -> None:
    spec = shipped(name)
    assert mean_cached(spec.prefix, spec.prompt_tokens) / mean_length(spec.prompt_tokens) == pytest.approx(
        hit, abs=tolerance
    )


def test_the_bias_of_independent_new_tokens_is_the_one_stated() -> None:
    spec = shipped("agent")
    new = mean_length(spec.prompt_tokens) - mean_cached(spec.prefix, spec.prompt_tokens)
    assert new == pytest.approx(3805, abs=1)


@pytest.mark.parametrize(("name", "low", "high"), [("code-completion", 8.6, 11.3), ("realtime-chat", 1.8, 2.2)])
def test_profiles_have_the_published_peak_to_trough(name: str, low: float, high: float) -> None:
    profile = shipped(name).arrivals.profile
    assert profile is not None
    assert low <= max(profile.multipliers) / min(profile.multipliers) <= high


def test_code_and_agents_share_a_profile_and_so_do_chat_and_voice() -> None:
    profiles = {name: shipped(name).arrivals.profile for name in NAMES}
    values = {name: profile.multipliers for name, profile in profiles.items() if profile is not None}
    assert values["agent"] == values["code-completion"]
    assert values["realtime-chat"] == values["realtime-voice"]


@pytest.mark.parametrize(("weekly", "daily"), [("agent-sessions", "agent"), ("chat-sessions", "realtime-chat")])
def test_the_weekdays_of_a_weekly_profile_are_those_of_the_daily_one(weekly: str, daily: str) -> None:
    week, day = shipped(weekly).arrivals.profile, shipped(daily).arrivals.profile
    assert week is not None
    assert day is not None
    hours = np.array(week.multipliers).reshape(7, 24)
    assert hours[:5].mean(axis=0) == pytest.approx(np.array(day.multipliers), abs=0.015)
    assert hours[5:].mean() < 0.7 * hours[:5].mean()


@pytest.mark.parametrize(("name", "service"), [("agent-sessions", "code"), ("chat-sessions", "conv")])
def test_weekly_profiles_are_the_digitised_weeks_from_monday(shared: Path, name: str, service: str) -> None:
    week = json.loads((shared / "traces/azure2024/azure2024_digitized.json").read_text())[service]
    profile = shipped(name).arrivals.profile
    assert profile is not None
    first = 24 * week["start_dow_monday0"]
    hours = np.roll(np.array(week["hourly"]), first)
    assert np.array(profile.multipliers) == pytest.approx(hours / hours.mean(), abs=0.006)
    arrivals = arrival_instants(shipped(name).arrivals, 2.0, 7 * 86_400.0, 0.0, lambda *parts: stream(1, *parts))
    counts = np.bincount((arrivals // 3600.0).astype(int), minlength=168)
    assert np.corrcoef(counts, hours)[0, 1] > 0.95


def test_compaction_keeps_agents_within_their_context() -> None:
    tables = session_tables(shipped("agent-sessions-200k"))
    calls = draw_sessions(tables, 4000, lambda *parts: stream(1, *parts))
    assert (calls.prompt + calls.output).max() <= 200_000
    assert (calls.prompt > 150_000).mean() > 0.02


def test_sessions_have_the_measured_shape() -> None:
    """Calls, contexts and hits of the three kinds of sessions against the facts, with the misses that are stated."""
    drawn = {}
    for name in SESSIONS:
        tables = session_tables(shipped(name))
        drawn[name] = draw_sessions(tables, 4000, lambda *parts, name=name: stream(1, name, *parts))
    agent, chat, voice = (drawn[name] for name in SESSIONS)
    calls = {name: np.bincount(each.session) for name, each in drawn.items()}
    assert np.quantile(calls["agent-sessions"], 0.5) == pytest.approx(68, rel=0.15)
    assert calls["chat-sessions"].mean() == pytest.approx(1.78, abs=0.05)
    assert calls["voice-calls"].mean() == pytest.approx(32.0, rel=0.03)
    hits = {name: each.cached.sum() / each.prompt.sum() for name, each in drawn.items()}
    assert hits["agent-sessions"] == pytest.approx(0.967, abs=0.03)
    assert 0.374 <= hits["chat-sessions"] <= 0.62
    assert hits["voice-calls"] > 0.97
    # measured on other fresh sessions; the tail is the miss that the description states
    quantiles = np.quantile(agent.prompt, [0.1, 0.5, 0.9])
    assert quantiles == pytest.approx([36_410, 87_438, 143_334], rel=0.15)
    assert np.quantile(agent.prompt, 0.99) == pytest.approx(251_914, rel=0.45)
    assert chat.prompt.mean() == pytest.approx(1632, rel=0.15)
    follow_up = voice.parent >= 0
    assert voice.gap_s[follow_up].mean() == pytest.approx(16.5, rel=0.1)
    lasts = np.bincount(voice.session, voice.gap_s)
    assert np.quantile(lasts, 0.5) == pytest.approx(556, rel=0.1)


@each
def test_every_workload_makes_requests(name: str) -> None:
    spec = shipped(name)
    trace = generate_class(spec, 2.0, 1800.0, 14.0, 1, "class")
    assert trace.requests > (500 if name != "batch-jobs" else 0)
    assert trace.prompt_tokens.min() >= 1
    assert trace.output_tokens.min() >= 1
    assert np.all(trace.cached_tokens < trace.prompt_tokens)
