"""A workload fitted to a recorded trace, and how well it fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml
from scipy import optimize, stats

from sim.demand.dispersion import allan_dispersion, wandering_dispersion
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.arrivals import HOURS_PER_DAY, HOURS_PER_WEEK
from sim.specs.errors import InputError, Problem

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

WINDOWS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Windows at which the dispersion of the counts is fitted [s]."""

_TIME_CONSTANTS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 7200.0)
_LEAST_WINDOWS = 5
_LEAST_REQUESTS = 100
_ATOM = 0.002
_DROP = 0.3
_SLACK_TOKENS = 64
_BANDS = np.array([2, 3, 9, 33])
_LEAST_STEPS = 100
_COMPACTABLE_TOKENS = 40_000.0
_SOURCE = {"source": ["TRACE"], "confidence": "measured"}
_DERIVED = {"source": ["TRACE"], "confidence": "derived"}
_OURS = {"source": ["assumption"], "confidence": "assumption"}


class SessionSteps(NamedTuple):
    """Requests of sessions, each with the one before it in its session."""

    first: npt.NDArray[np.intp]
    """Rows of the first requests."""

    earlier: npt.NDArray[np.intp]
    """Rows that are followed."""

    later: npt.NDArray[np.intp]
    """Rows that follow them, in the same order."""

    gap_s: FloatArray
    """Time between the two: after the end where the trace is a closed loop, else from start to start [s]."""


def session_steps(trace: Trace) -> SessionSteps:
    """Return how the requests of each session come one after the other; all are first where sessions are unknown."""
    if trace.session is None:
        nothing = np.empty(0, np.intp)
        return SessionSteps(np.arange(trace.requests), nothing, nothing, np.empty(0))
    if trace.follows is not None and trace.gap_ns is not None:
        later = np.flatnonzero(trace.follows >= 0)
        gap_s = trace.gap_ns[later] / NANOSECONDS
        return SessionSteps(np.flatnonzero(trace.follows < 0), trace.follows[later], later, gap_s)
    session = trace.session_groups()
    order = np.argsort(session, kind="stable")
    joined = np.diff(session[order]) == 0
    earlier, later = order[:-1][joined], order[1:][joined]
    first = np.sort(order[np.concatenate(([True], ~joined))])
    return SessionSteps(first, earlier, later, (trace.arrival_ns[later] - trace.arrival_ns[earlier]) / NANOSECONDS)


def contexts_accumulate(trace: Trace, steps: SessionSteps) -> bool:
    """Return whether at least 80% of the follow-ups hold all of the context before them, or a compacted one.

    Where they do not, as in retrieval with new passages in every turn, sessions are no growing contexts.
    """
    if not steps.later.size:
        return False
    kept = trace.prompt_tokens[steps.earlier] + trace.output_tokens[steps.earlier]
    grown = trace.prompt_tokens[steps.later] - kept
    holds = (grown >= -_SLACK_TOKENS - 0.01 * kept) | ((grown < -_DROP * kept) & (kept >= _COMPACTABLE_TOKENS))
    return bool(holds.mean() >= 0.8)


def fit_workload(trace: Trace, name: str, title: str, traffic_class: str, start_hour: float = 0.0) -> dict[str, Any]:
    """Return the document of a workload that makes traffic like a trace.

    Parameters
    ----------
    trace : Trace
        Recorded requests; where contexts accumulate in sessions, the workload has sessions.
    name, title, traffic_class : str
        What the workload is called.
    start_hour : float
        Hour of the week, from Monday, at which the trace begins [h].

    Returns
    -------
    dict
        As YAML holds it. A profile is fitted from a day on, a weekly one from two weeks on; the noise of the rate to
        the Allan dispersion at WINDOWS_S, with the smallest largest relative error over fixed time constants.

    Raises
    ------
    InputError
        Fewer than 100 requests, or all at one instant.

    """
    duration_s = float(trace.arrival_ns[-1]) / NANOSECONDS if trace.requests else 0.0
    if trace.requests < _LEAST_REQUESTS or duration_s <= 0.0:
        remedy = f"A fit needs at least {_LEAST_REQUESTS} requests at different times."
        raise InputError([Problem(f"the trace has {trace.requests} requests in {duration_s:g} s", remedy=remedy)])
    steps = session_steps(trace)
    if not contexts_accumulate(trace, steps):
        steps = session_steps(replace(trace, session=None))
    document: dict[str, Any] = {
        "kind": "workload",
        "name": name,
        "title": title,
        "traffic_class": traffic_class,
        "rate": {"value": f"{trace.requests / duration_s:.6g} requests/s"} | _SOURCE,
        "arrivals": fitted_arrivals(trace.arrival_ns[steps.first] / NANOSECONDS, duration_s, start_hour),
        "prompt_tokens": quantile_table(trace.prompt_tokens[steps.first], "tokens"),
        "output_tokens": quantile_table(trace.output_tokens, "tokens"),
    }
    if steps.later.size:
        document["sessions"] = _sessions(trace, steps)
    else:
        _open_loop(document, trace)
    note = f"Recorded trace of {trace.requests} requests in {duration_s / 3600.0:.3g} h"
    document["sources"] = {"TRACE": note}
    return document


def quantile_table(values: npt.ArrayLike, unit: str) -> dict[str, Any]:
    """Return a quantile table through the empirical cdf at 47 probabilities, with an atom where a value is frequent.

    Parameters
    ----------
    values : array_like
        Lengths or durations, above 0.
    unit : str
        Unit that YAML writes.

    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    even = np.arange(1, 40) / 40.0
    chosen = ordered[
        np.ceil(np.concatenate((even, [0.005, 0.01, 0.985, 0.99, 0.995, 0.999])) * ordered.size).astype(int) - 1
    ]
    knots = {0.0: float(ordered[0]), 1.0: float(ordered[-1])}
    common, counts = np.unique(ordered, return_counts=True)
    atoms = common[counts > _ATOM * ordered.size * 5]
    for value in np.unique(np.concatenate((chosen, atoms))):
        below = np.searchsorted(ordered, value, side="left") / ordered.size
        reached = np.searchsorted(ordered, value, side="right") / ordered.size
        if reached - below > _ATOM:
            knots.setdefault(round(float(below), 6), float(value))
        knots[round(float(reached), 6)] = float(value)
    knots[0.0], knots[1.0] = float(ordered[0]), float(ordered[-1])
    written = {probability: f"{value:.6g} {unit}" for probability, value in sorted(knots.items())}
    return {"distribution": "quantile_table", "quantiles": written} | _SOURCE


def fitted_arrivals(instants_s: FloatArray, duration_s: float, start_hour: float) -> dict[str, Any]:
    """Return the arrivals of a workload like some instants: profile, noise of the rate, and burstiness of the gaps."""
    arrivals: dict[str, Any] = {"process": "poisson"}
    rate = instants_s.size / duration_s
    # a window of about five arrivals shows the gaps and not the rate
    burstiness = allan_dispersion(instants_s, 5.0 / rate, duration_s)
    if not 0.6 <= burstiness <= 1.6:
        arrivals = {"process": "gamma_renewal", "cv": {"value": round(math.sqrt(max(burstiness, 0.01)), 4)} | _DERIVED}
    else:
        burstiness = 1.0
    if duration_s >= HOURS_PER_DAY * 3600.0:
        arrivals["profile"] = _profile(instants_s, duration_s, start_hour)
    noise = fitted_noise(instants_s, duration_s, burstiness)
    if noise:
        arrivals["rate_noise"] = {
            f"tau-{seconds:g}s": {
                "sigma": {"value": round(sigma, 5)} | _DERIVED,
                "time_constant": {"value": f"{seconds:g} s"} | _OURS,
            }
            for sigma, seconds in noise
        }
    return arrivals


def fitted_noise(instants_s: FloatArray, duration_s: float, burstiness: float = 1.0) -> list[tuple[float, float]]:
    """Return standard deviation [1] and time constant [s] of the parts of the noise that the dispersions ask for."""
    rate = instants_s.size / duration_s
    windows = [window for window in WINDOWS_S if duration_s / window >= _LEAST_WINDOWS and rate * window >= 1.0]
    measured = np.array([allan_dispersion(instants_s, window, duration_s) for window in windows])
    if not windows or not (measured > burstiness).any():
        return []
    unit = math.sqrt(math.log(2.0))  # a sigma with exp(sigma^2) - 1 = 1, so that the design is per unit of variance
    # what is faster than the windows cannot be told from the gaps
    constants = [tau for tau in _TIME_CONSTANTS_S if tau >= 0.5 * windows[0]]
    design = np.array(
        [[wandering_dispersion(rate, window, [(unit, tau)]) - 1.0 for tau in constants] for window in windows]
    )
    scaled, wanted = design / measured[:, None], (measured - burstiness) / measured
    # the smallest largest relative error; the last variable is that error
    above = np.hstack((scaled, -np.ones((len(windows), 1))))
    below = np.hstack((-scaled, -np.ones((len(windows), 1))))
    cost = np.append(np.full(len(constants), 1e-6), 1.0)
    found = optimize.linprog(cost, np.vstack((above, below)), np.concatenate((wanted, -wanted)))
    if found.x is None:
        return []
    variances = found.x[:-1]
    return [
        (_sigma(variance, tau, duration_s), tau)
        for variance, tau in zip(variances.tolist(), constants, strict=True)
        if variance > 1e-6
    ]


def _sigma(variance: float, time_constant_s: float, duration_s: float) -> float:
    """Return the sigma of a log-normal rate of a relative variance.

    A part that is slower than the record moves its mean along, so that its logarithm has the variance that is seen.
    """
    slow = time_constant_s > 0.25 * duration_s
    return math.sqrt(variance if slow else math.log1p(variance))


def _profile(instants_s: FloatArray, duration_s: float, start_hour: float) -> dict[str, Any]:
    hours = HOURS_PER_WEEK if duration_s >= 2 * HOURS_PER_WEEK * 3600.0 else HOURS_PER_DAY
    counts = np.bincount(((instants_s / 3600.0 + start_hour) % hours).astype(np.int64), minlength=hours)[:hours]
    # seconds of the trace in each hour of the profile, on a grid of minutes
    minutes = (np.arange(math.ceil(duration_s / 60.0)) + 0.5) / 60.0 + start_hour
    covered = np.bincount((minutes % hours).astype(np.int64), minlength=hours)[:hours] * 60.0
    rates = counts / np.maximum(covered, 1.0)
    return {"multipliers": [round(float(rate), 3) for rate in rates / rates.mean()]} | _SOURCE


def _open_loop(document: dict[str, Any], trace: Trace) -> None:
    varied = all(np.ptp(column) > 0 for column in (trace.prompt_tokens, trace.output_tokens))
    correlation = float(stats.spearmanr(trace.prompt_tokens, trace.output_tokens).statistic) if varied else 0.0
    if abs(correlation) > 0.1:
        document["rank_correlation"] = {"value": round(float(np.clip(correlation, -0.99, 0.99)), 3)} | _SOURCE
    if trace.cached_tokens.any():
        new = quantile_table(trace.prompt_tokens - trace.cached_tokens, "tokens")
        document["prefix"] = {"kind": "uncached_lengths", "uncached_tokens": new}


def _sessions(trace: Trace, steps: SessionSteps) -> dict[str, Any]:
    session = trace.session_groups()
    numbers, sizes = np.unique(np.unique(session, return_counts=True)[1], return_counts=True)
    shares = {int(number): round(float(size / sizes.sum()), 6) for number, size in zip(numbers, sizes, strict=True)}
    kept = trace.prompt_tokens[steps.earlier] + trace.output_tokens[steps.earlier]
    grown = trace.prompt_tokens[steps.later] - kept
    dropped = (grown < -_DROP * kept) & (kept >= _COMPACTABLE_TOKENS)
    normal = ~dropped
    positive = normal & (grown > 0)
    new: IntArray = grown[positive] if positive.any() else np.ones(1, np.int64)
    way: dict[str, Any] = {
        "share": {"value": 1.0} | _SOURCE,
        "gap": quantile_table(np.maximum(steps.gap_s, 0.001), "s"),
        "new_tokens": quantile_table(new, "tokens"),
        "without_new_tokens": {"value": round(float((grown[normal] <= 0).mean()), 5)} | _SOURCE,
    }
    by_call = _by_call(_call_numbers(session)[steps.later][positive], grown[positive])
    if by_call:
        way["new_tokens_from_call"] = by_call
    found: dict[str, Any] = {
        "calls": {"distribution": "shares", "shares": shares} | _SOURCE,
        "instructions_cached": False,
        "follow_ups": {"next": way},
        "call_time": {"value": "5 s"} | _OURS,
        "lead_in": {"value": f"{_usual_length_s(trace, steps):.4g} s"} | _DERIVED,
    }
    if dropped.sum() >= 10:
        share = np.linspace(0.05, 0.95, int(np.clip(dropped.sum() // 12, 3, 12)))
        edges = np.unique(np.concatenate(([_COMPACTABLE_TOKENS], np.quantile(kept[dropped], share).round())))
        bins = np.searchsorted(edges, kept, side="right")
        hazards = [
            {"from_tokens": f"{edge:.0f} tokens", "hazard": round(float(dropped[bins == place + 1].mean()), 5)}
            for place, edge in enumerate(edges)
        ]
        context = quantile_table(trace.prompt_tokens[steps.later][dropped], "tokens")
        found["compaction"] = {"hazards": hazards, "context_tokens": context} | _DERIVED
    return found


def _call_numbers(session: IntArray) -> IntArray:
    """Return the number of each request in its session, from 1."""
    order = np.argsort(session, kind="stable")
    starts = np.flatnonzero(np.concatenate(([True], np.diff(session[order]) != 0)))
    numbers = np.empty(session.size, np.int64)
    numbers[order] = np.arange(session.size) - np.repeat(starts, np.diff(np.append(starts, session.size))) + 1
    return numbers


def _by_call(numbers: IntArray, new: IntArray) -> dict[int, Any]:
    """Return tables of new tokens by bands of calls; of bands with enough steps, and where there is more than one."""
    bands = np.searchsorted(_BANDS, numbers, side="right") - 1
    sizes = np.bincount(bands, minlength=len(_BANDS))
    told = [band for band in range(len(_BANDS)) if sizes[band] >= _LEAST_STEPS]
    if len(told) < 2:
        return {}
    return {int(_BANDS[band]): quantile_table(new[bands == band], "tokens") for band in told}


def _usual_length_s(trace: Trace, steps: SessionSteps) -> float:
    """Return the 95% quantile of the gaps of a session together [s], at least a minute."""
    place = trace.session_groups()
    return max(float(np.quantile(np.bincount(place[steps.later], steps.gap_s), 0.95)), 60.0)


def workload_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=118, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes repeated values out instead of pointing to the first one."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that nothing is pointed to."""
        return True
