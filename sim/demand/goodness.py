"""How a workload compares with a recorded trace: rates, bursts, lengths and sessions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from sim.demand.arrivals import cumulative_rate, profile_rates
from sim.demand.dispersion import allan_dispersion
from sim.demand.generate import generate_class
from sim.demand.lengths import length_cdf
from sim.demand.processes import arrival_instants
from sim.demand.session_fit import session_steps
from sim.demand.session_tables import mean_calls, session_tables
from sim.demand.sessions import draw_sessions
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.distributions import LengthDistribution
from sim.specs.prefixes import SharedPrefix
from sim.specs.workload import WorkloadSpec

IntArray = npt.NDArray[np.int64]

DISPERSION_WINDOWS_S = (1.0, 10.0, 60.0, 600.0)
"""Windows at which dispersions are compared [s]."""

QUANTILES = (0.1, 0.5, 0.9, 0.99)
"""Probabilities at which lengths are compared [1]."""

_SESSIONS = 4000
_ENOUGH_ARRIVALS = 3_000_000


def goodness_of_fit(
    trace: Trace, workload: WorkloadSpec, start_hour: float = 0.0, seed: int = 1
) -> list[dict[str, Any]]:
    """Return comparisons of a trace and the traffic of a workload, one row each.

    Parameters
    ----------
    trace : Trace
        Recorded requests.
    workload : WorkloadSpec
        The workload.
    start_hour : float
        Hour of the week at which the trace begins [h].
    seed : int
        Seed of the generated traffic.

    Returns
    -------
    list of dict
        `check`, `trace`, `workload` and `difference`: relative for dispersions and quantiles, absolute for shares, and
        the Kolmogorov-Smirnov distance for lengths. Dispersions of the workload are means over several runs.

    """
    duration_s = float(trace.arrival_ns[-1]) / NANOSECONDS
    steps = session_steps(trace if workload.sessions is not None else replace(trace, session=None))
    instants_s = trace.arrival_ns[steps.first] / NANOSECONDS
    checks = _dispersions(instants_s, duration_s, workload, start_hour, seed)
    checks += _hours(instants_s, duration_s, workload, start_hour)
    if workload.sessions is None:
        made = generate_class(
            workload, workload.rate.value, min(duration_s, 1e6 / workload.rate.value), start_hour, seed, "fit"
        )
        for name, recorded, drawn in (
            ("prompt", trace.prompt_tokens, made.prompt_tokens),
            ("output", trace.output_tokens, made.output_tokens),
        ):
            spec = workload.prompt_tokens if name == "prompt" else workload.output_tokens
            shared = isinstance(workload.prefix, SharedPrefix) and name == "prompt"
            checks += [_drawn_distance(name, recorded, drawn)] if shared else _lengths(name, recorded, spec)
            checks += [_quantile(name, quantile, recorded, drawn) for quantile in QUANTILES]
        checks.append(_hit(trace.cached_tokens, trace.prompt_tokens, made.cached_tokens, made.prompt_tokens))
        return checks
    calls = draw_sessions(session_tables(workload), _SESSIONS, lambda *names: stream(seed, "fit", *names))
    for name, recorded, drawn in (
        ("prompt", trace.prompt_tokens, calls.prompt),
        ("output", trace.output_tokens, calls.output),
    ):
        checks.append(_drawn_distance(name, recorded, drawn))
        checks += [_quantile(name, quantile, recorded, drawn) for quantile in QUANTILES]
    sizes = np.bincount(trace.session_groups())
    expected = mean_calls(workload.sessions)
    checks.append(_row("calls per session", sizes.mean(), expected, expected / sizes.mean() - 1.0))
    checks += _growth(trace, calls.session, calls.prompt)
    checks.append(_hit(trace.cached_tokens, trace.prompt_tokens, calls.cached, calls.prompt))
    return checks


def _dispersions(
    instants_s: npt.NDArray[np.float64], duration_s: float, workload: WorkloadSpec, start_hour: float, seed: int
) -> list[dict[str, Any]]:
    if np.unique(instants_s).size < 0.1 * instants_s.size:
        return []  # sessions that are recorded from their own start each
    rate = instants_s.size / duration_s
    runs = int(np.clip(_ENOUGH_ARRIVALS / max(instants_s.size, 1), 2, 200))
    made = [
        arrival_instants(
            workload.arrivals, rate, duration_s, start_hour, lambda *names, run=run: stream(seed, "fit", run, *names)
        )
        for run in range(runs)
    ]
    checks = []
    for window in DISPERSION_WINDOWS_S:
        if duration_s / window < 4:
            continue
        measured = allan_dispersion(instants_s, window, duration_s)
        expected = float(np.mean([allan_dispersion(each, window, duration_s) for each in made]))
        checks.append(_row(f"dispersion at {window:g} s", measured, expected, expected / measured - 1.0))
    return checks


def _lengths(name: str, recorded: IntArray, spec: LengthDistribution) -> list[dict[str, Any]]:
    values, counts = np.unique(recorded, return_counts=True)
    reached = np.cumsum(counts) / recorded.size
    described = length_cdf(spec, values)
    before = length_cdf(spec, values - 1)
    distance = max(np.abs(reached - described).max(), np.abs(np.append(0.0, reached[:-1]) - before).max())
    return [_row(f"KS of {name} tokens", "", "", float(distance))]


def _hours(
    instants_s: npt.NDArray[np.float64], duration_s: float, workload: WorkloadSpec, start_hour: float
) -> list[dict[str, Any]]:
    """Return the busiest hour of the day over the mean, and the distance of the days' shapes, from a day on."""
    days = int(duration_s // 86_400.0)
    if days < 1 or workload.arrivals.profile is None:
        return []
    whole = instants_s[instants_s < days * 86_400.0]
    counts = np.bincount((whole / 3600.0 + start_hour).astype(np.int64) % 24, minlength=24)
    edges, rates = profile_rates(
        1.0, workload.arrivals.profile.multipliers, start_hour + workload.arrivals.profile.offset_hours,
        days * 86_400.0,
    )  # fmt: skip
    reached = cumulative_rate(edges, rates)
    hours = np.diff(np.interp(np.arange(days * 24 + 1) * 3600.0, edges, reached))
    place = (np.arange(days * 24) + math.floor(start_hour)) % 24
    described = np.bincount(place, hours, 24)
    shapes = counts / counts.mean(), described / described.mean()
    # half the sum of the differences of the shares: the part of the day's requests that come at another hour
    moved = float(np.abs(shapes[0] - shapes[1]).sum() / 48.0)
    peak = shapes[0].max(), shapes[1].max()
    return [
        _row("busiest hour over mean", *peak, peak[1] / peak[0] - 1.0),
        _row("share of requests at another hour", "", "", moved),
    ]


def _drawn_distance(name: str, recorded: IntArray, drawn: IntArray) -> dict[str, Any]:
    return _row(f"KS of {name} tokens", "", "", float(stats.ks_2samp(recorded, drawn).statistic))


def _quantile(name: str, probability: float, recorded: IntArray, drawn: IntArray) -> dict[str, Any]:
    measured, made = (float(np.quantile(values, probability)) for values in (recorded, drawn))
    return _row(f"{name} tokens p{100 * probability:g}", measured, made, made / measured - 1.0)


def _growth(trace: Trace, session: IntArray, prompt: IntArray) -> list[dict[str, Any]]:
    """Return the median context at some calls of those sessions that have so many."""
    session_of = trace.session_groups()
    order = np.argsort(session_of, kind="stable")
    checks = []
    for call in (2, 10, 30, 80):
        measured = _context_at(session_of[order], trace.prompt_tokens[order], call)
        made = _context_at(session, prompt, call)
        if min(measured.size, made.size) >= 30:
            values = float(np.median(measured)), float(np.median(made))
            checks.append(_row(f"context at call {call}, p50", *values, values[1] / values[0] - 1.0))
    return checks


def _context_at(session: npt.NDArray[np.integer[Any]], prompt: IntArray, call: int) -> IntArray:
    starts = np.flatnonzero(np.concatenate(([True], np.diff(session) != 0)))
    sizes = np.diff(np.append(starts, session.size))
    return prompt[starts[sizes >= call] + call - 1]


def _hit(recorded_cached: IntArray, recorded: IntArray, drawn_cached: IntArray, drawn: IntArray) -> dict[str, Any]:
    measured, made = recorded_cached.sum() / recorded.sum(), drawn_cached.sum() / drawn.sum()
    return _row("cached share of prompt tokens", measured, made, made - measured)


def _row(check: str, trace: Any, workload: Any, difference: float) -> dict[str, Any]:
    def told(value: Any) -> Any:
        return value if value == "" else (None if math.isnan(value) else float(f"{value:.4g}"))

    return {"check": check, "trace": told(trace), "workload": told(workload), "difference": round(float(difference), 4)}
