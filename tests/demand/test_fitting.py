"""Fitting: a workload fitted to generated traffic is that workload, and fits of the published traces are good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy import stats

from sim.demand.dispersion import allan_dispersion, dispersion, wandering_dispersion
from sim.demand.durations import duration_table
from sim.demand.fitting import fit_workload, fitted_arrivals, fitted_noise, workload_yaml
from sim.demand.generate import generate_class
from sim.demand.goodness import goodness_of_fit
from sim.demand.importing import ImportOptions, import_trace
from sim.demand.on_off_fit import fitted_on_off
from sim.demand.processes import arrival_instants
from sim.demand.quantile_tables import quantile_table
from sim.demand.session_fit import contexts_accumulate, kind_edges, session_steps
from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.specs.arrivals import Arrivals
from sim.specs.distributions import DurationDistribution
from sim.specs.errors import InputError
from sim.specs.library import Library
from sim.specs.reading import RawDocument, read_yaml, validate
from sim.specs.workload import WorkloadSpec

ROOT = Path(__file__).parents[2]


def shipped(name: str) -> WorkloadSpec:
    return Library((ROOT,)).workload(name).spec


def fitted(trace: Trace, start_hour: float = 0.0) -> tuple[dict[str, Any], WorkloadSpec]:
    document = fit_workload(trace, "mine", "Mine", "realtime", start_hour)
    return document, validate(RawDocument("mine.yaml", document), WorkloadSpec)


def differences(trace: Trace, workload: WorkloadSpec) -> dict[str, float]:
    return {row["check"]: row["difference"] for row in goodness_of_fit(trace, workload)}


def test_the_yaml_of_a_fit_is_a_workload_of_the_library(tmp_path: Path) -> None:
    trace = generate_class(shipped("realtime-chat"), 5.0, 1800.0, 0.0, 1, "chat")
    document, spec = fitted(trace)
    path = tmp_path / "mine.yaml"
    path.write_text(workload_yaml(document))
    assert "&" not in path.read_text()
    assert validate(read_yaml(path), WorkloadSpec) == spec


def test_lengths_of_a_fit_are_those_of_the_trace() -> None:
    trace = generate_class(shipped("code-completion"), 20.0, 2000.0, 0.0, 1, "code")
    _, spec = fitted(trace)
    found = differences(trace, spec)
    assert found["KS of prompt tokens"] < 0.02
    assert found["KS of output tokens"] < 0.02
    assert abs(found["cached share of prompt tokens"]) < 0.02


def test_atoms_stay_atoms() -> None:
    values = np.concatenate((np.full(300, 7), np.arange(8, 708)))
    table = quantile_table(values, "tokens")["quantiles"]
    assert table[0.0] == "7 tokens"
    assert table[0.3] == "7 tokens"
    assert table[1.0] == "707 tokens"


@pytest.mark.parametrize("tau_s", [60.0, 900.0])
def test_the_noise_of_a_fit_has_the_dispersion_that_was_put_in(tau_s: float) -> None:
    parts = [(0.25, tau_s)]
    ours = {"source": ["assumption"], "confidence": "assumption"}
    noise = {"one": {"sigma": {"value": 0.25} | ours, "time_constant": {"value": f"{tau_s} s"} | ours}}
    document, _ = fitted(generate_class(shipped("realtime-chat"), 5.0, 1800.0, 0.0, 1, "chat"))
    arrivals = validate(
        RawDocument("x", document | {"arrivals": {"process": "poisson", "rate_noise": noise}}), WorkloadSpec
    ).arrivals
    instants = arrival_instants(arrivals, 20.0, 200_000.0, 0.0, lambda *names: stream(3, *names))
    found = fitted_noise(instants, 200_000.0)
    for window_s in (30.0, 120.0, 600.0):
        put_in, told = (wandering_dispersion(20.0, window_s, each) for each in (parts, found))
        assert told == pytest.approx(put_in, rel=0.2)


def test_poisson_traffic_needs_no_noise_and_bursts_are_renewals() -> None:
    generator = np.random.default_rng(1)
    plain = fitted_arrivals(np.cumsum(generator.exponential(0.1, 20_000)), 2000.0, 0.0)
    assert plain["process"] == "poisson"
    sigmas = [part["sigma"]["value"] for part in plain.get("rate_noise", {}).values()]
    assert all(sigma < 0.06 for sigma in sigmas)
    bursty = fitted_arrivals(np.cumsum(generator.gamma(0.11, 0.9, 20_000)), 2000.0, 0.0)
    assert bursty["process"] == "gamma_renewal"
    assert bursty["cv"]["value"] == pytest.approx(3.0, rel=0.4)


def test_the_profile_of_a_fit_is_in_the_hours_of_the_week() -> None:
    trace = generate_class(shipped("realtime-chat"), 2.0, 3 * 86_400.0, 6.0, 1, "chat")
    document, _ = fitted(trace, start_hour=6.0)
    found = np.array(document["arrivals"]["profile"]["multipliers"])
    profile = shipped("realtime-chat").arrivals.profile
    assert profile is not None
    given = np.array(profile.multipliers)
    assert found / found.mean() == pytest.approx(given / given.mean(), abs=0.06)
    weekly, _ = fitted(generate_class(shipped("chat-sessions"), 0.5, 15 * 86_400.0, 0.0, 1, "chat"))
    assert len(weekly["arrivals"]["profile"]["multipliers"]) == 168


def test_a_correlation_is_fitted_and_made() -> None:
    trace = generate_class(shipped("realtime-chat"), 20.0, 1000.0, 0.0, 1, "chat")
    ranks = np.argsort(np.argsort(trace.prompt_tokens + np.random.default_rng(1).normal(0, 900, trace.requests)))
    paired = np.sort(trace.output_tokens)[ranks]
    tied = trace_from_arrays(trace.arrival_ns, trace.prompt_tokens, paired)
    document, spec = fitted(tied)
    made = generate_class(spec, 20.0, 1000.0, 0.0, 2, "chat")
    given, told = (
        float(stats.spearmanr(each.prompt_tokens, each.output_tokens).statistic) for each in (tied, made)
    )  # fmt: skip
    assert document["rank_correlation"]["value"] == pytest.approx(given, abs=0.01)
    assert told == pytest.approx(given, abs=0.03)


def test_sessions_of_a_fit_have_the_shape_of_the_sessions() -> None:
    # without the past, whose sessions are met in their middle, and long enough for nearly all to end
    trace = generate_class(shipped("voice-calls"), 1.0, 40_000.0, 0.0, 1, "voice")
    assert trace.session is not None
    _, spec = fitted(trace)
    assert spec.sessions is not None
    found = differences(trace, spec)
    assert abs(found["calls per session"]) < 0.01
    assert found["KS of output tokens"] < 0.02
    assert found["KS of prompt tokens"] < 0.05
    assert abs(found["cached share of prompt tokens"]) < 0.03


def test_prompts_that_do_not_hold_their_past_are_no_sessions() -> None:
    generator = np.random.default_rng(1)
    prompt = generator.integers(1000, 3000, 400)
    trace = trace_from_arrays(np.arange(400) * 10**9, prompt, np.full(400, 50))
    tied = dataclasses.replace(trace, session=np.arange(400, dtype=np.int32) // 4)
    assert session_steps(tied).later.size == 300
    assert not contexts_accumulate(tied, session_steps(tied))
    _, spec = fitted(tied)
    assert spec.sessions is None


def test_too_little_is_no_fit() -> None:
    with pytest.raises(InputError, match="at least 100"):
        fit_workload(trace_from_arrays([0, 1], [1, 1], [1, 1]), "x", "x", "x")


def test_dispersions_are_those_of_the_counts() -> None:
    instants = [0.5, 1.5, 1.6, 3.1, 3.2, 3.3, 3.4]
    assert dispersion(instants, 1.0, 4.0) == pytest.approx(np.var([1, 2, 0, 4], ddof=1) / 1.75)
    assert allan_dispersion(instants, 1.0, 4.0) == pytest.approx(0.5 * (1 + 4 + 16) / 3 / 1.75)
    assert np.isnan(allan_dispersion(instants, 3.0, 4.0))


@pytest.mark.parametrize("name", ["conv", "code"])
def test_fits_of_the_azure_hours_meet_the_lengths(shared: Path, name: str) -> None:
    file = shared / f"traces/azure2023/AzureLLMInferenceTrace_{name}.csv"
    trace = import_trace(file, "azure").trace
    _, spec = fitted(trace, 18.25)
    found = differences(trace, spec)
    assert found["KS of prompt tokens"] < 0.05
    assert found["KS of output tokens"] < 0.05
    if name == "conv":
        assert all(abs(found[f"dispersion at {window} s"]) < 0.25 for window in (10, 60, 600))


def test_the_fit_of_recorded_agents_meets_lengths_and_hits(shared: Path) -> None:
    columns = {
        "arrival": "t_s", "duration": "api_time_s", "prompt_tokens": "in_tokens", "output_tokens": "out_tokens",
        "cached_tokens": "cached_prefix_tokens_ideal", "session": "session",
    }  # fmt: skip
    file = shared / "traces/claude_code/sessions_fit.csv.gz"
    trace = import_trace(file, "csv", ImportOptions(columns=columns, closed_loop=True)).trace
    _, spec = fitted(_fresh(trace))
    found = differences(_fresh(trace), spec)
    assert found["KS of prompt tokens"] <= 0.05
    assert found["KS of output tokens"] < 0.05
    assert abs(found["cached share of prompt tokens"]) < 0.03
    assert abs(found["calls per session"]) < 0.01


def test_sessions_that_resume_old_contexts_are_kinds_of_their_own(shared: Path) -> None:
    columns = {
        "arrival": "t_s", "duration": "api_time_s", "prompt_tokens": "in_tokens", "output_tokens": "out_tokens",
        "cached_tokens": "cached_prefix_tokens_ideal", "session": "session",
    }  # fmt: skip
    file = shared / "traces/claude_code/sessions_fit.csv.gz"
    trace = import_trace(file, "csv", ImportOptions(columns=columns, closed_loop=True)).trace
    _, spec = fitted(trace)
    assert spec.sessions is not None
    assert spec.sessions.other_kinds
    assert spec.rank_correlation is not None
    # over all 710 sessions 0.29
    assert spec.rank_correlation.value == pytest.approx(0.29, abs=0.05)
    found = differences(trace, spec)
    assert found["KS of prompt tokens"] <= 0.05
    assert found["KS of output tokens"] <= 0.05
    assert abs(found["cached share of prompt tokens"]) < 0.03
    assert abs(found["calls per session"]) < 0.01


def test_a_job_that_runs_and_pauses_is_fitted_as_one() -> None:
    durations = {"distribution": "fixed", "duration": "40 s", "source": ["assumption"], "confidence": "assumption"}
    given: Arrivals = TypeAdapter(Arrivals).validate_python(
        {
            "process": "on_off", "jobs": 1, "running": durations, "pausing": durations | {"duration": "120 s"},
            "cv": {"value": 1.0, "source": ["assumption"], "confidence": "assumption"},
        }
    )  # fmt: skip
    instants = arrival_instants(given, 5.0, 20_000.0, 0.0, lambda *names: stream(1, *names))
    found = fitted_arrivals(instants, 20_000.0, 0.0)
    assert found["process"] == "on_off"
    assert found["cv"]["value"] == pytest.approx(1.0, abs=0.05)
    for part, seconds in (("running", 40.0), ("pausing", 120.0)):
        spec: DurationDistribution = TypeAdapter(DurationDistribution).validate_python(found[part])
        assert float(duration_table(spec).at(np.array([0.5]))[0]) == pytest.approx(seconds, abs=2.0)
    assert fitted_on_off(np.arange(100.0), 100.0) is None


def test_kinds_are_told_apart_where_contexts_differ_most() -> None:
    begin = np.repeat([1000, 1100, 1200, 50_000, 52_000, 900_000], 20)
    groups = np.arange(begin.size)
    assert kind_edges(begin, begin, groups, 3).tolist() == [50_000, 900_000]
    assert kind_edges(begin, begin, groups, 2).tolist() == [50_000]
    assert kind_edges(begin[:16], begin[:16], groups[:16], 2).size == 0


def _fresh(trace: Trace) -> Trace:
    """Return the sessions that begin with less than 31,000 tokens: tools, instructions and one message."""
    assert trace.follows is not None
    assert trace.session is not None
    begins = trace.follows < 0
    fresh = np.isin(trace.session, trace.session[begins & (trace.prompt_tokens < 31_000)])
    mixed = np.isin(trace.session, trace.session[begins & (trace.prompt_tokens >= 31_000)])
    return trace.rows(np.flatnonzero(fresh & ~mixed))
