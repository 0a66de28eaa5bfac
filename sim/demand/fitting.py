"""A workload fitted to a recorded trace, and how well it fits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import TypeAdapter
from scipy import optimize, stats

from sim.demand.dispersion import allan_dispersion, wandering_dispersion
from sim.demand.on_off_fit import fitted_on_off
from sim.demand.processes import arrival_instants
from sim.demand.quantile_tables import DERIVED, MEASURED, OURS, quantile_table
from sim.demand.session_fit import contexts_accumulate, session_steps, with_sessions
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.arrivals import HOURS_PER_DAY, HOURS_PER_WEEK, Arrivals
from sim.specs.errors import InputError, Problem

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

WINDOWS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Windows at which the dispersion of the counts is fitted [s]."""

_TIME_CONSTANTS_S = (10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 7200.0)
_LEAST_WINDOWS = 5
_LEAST_REQUESTS = 100
_LEAST_COUNT = 0.1
_RUNS = 8
_JOBS = 3.0


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
        "rate": {"value": f"{trace.requests / duration_s:.6g} requests/s"} | MEASURED,
        "arrivals": fitted_arrivals(trace.arrival_ns[steps.first] / NANOSECONDS, duration_s, start_hour),
        "prompt_tokens": quantile_table(trace.prompt_tokens[steps.first], "tokens"),
        "output_tokens": quantile_table(trace.output_tokens, "tokens"),
    }
    note = f"Recorded trace of {trace.requests} requests in {duration_s / 3600.0:.3g} h"
    document["sources"] = {"TRACE": note}
    if steps.later.size:
        return with_sessions(document, trace, steps)
    _open_loop(document, trace)
    return document


def fitted_arrivals(instants_s: FloatArray, duration_s: float, start_hour: float) -> dict[str, Any]:
    """Return the arrivals of a workload like some instants: profile, noise of the rate, and burstiness of the gaps.

    Gaps that look bursty may be so of themselves, because the rate wanders, or because a job runs and pauses: a renewal
    process, a Poisson process and an on-off process are fitted, and the one whose dispersions are closest to those of
    the trace is kept.
    """
    rate = instants_s.size / duration_s
    # a window of about five arrivals shows the gaps and not the rate
    burstiness = allan_dispersion(instants_s, 5.0 / rate, duration_s)
    profile = _profile(instants_s, duration_s, start_hour) if duration_s >= HOURS_PER_DAY * 3600.0 else None
    candidates = [_arrivals(instants_s, duration_s, 1.0, profile)]
    if not 0.6 <= burstiness <= 1.6:
        candidates.insert(0, _arrivals(instants_s, duration_s, burstiness, profile))
    if not allan_dispersion(instants_s, 50.0 / rate, duration_s) < _JOBS:
        jobs = fitted_on_off(instants_s, duration_s)
        if jobs is not None:
            candidates.append(jobs if profile is None else jobs | {"profile": profile})
    if len(candidates) == 1:
        return candidates[0]
    errors = [_dispersion_error(each, instants_s, duration_s, start_hour) for each in candidates]
    return candidates[int(np.argmin(errors))]


def _arrivals(
    instants_s: FloatArray, duration_s: float, burstiness: float, profile: dict[str, Any] | None
) -> dict[str, Any]:
    arrivals: dict[str, Any] = {"process": "poisson"}
    if burstiness != 1.0:
        arrivals = {"process": "gamma_renewal", "cv": {"value": round(math.sqrt(max(burstiness, 0.01)), 4)} | DERIVED}
    if profile is not None:
        arrivals["profile"] = profile
    multipliers = np.ones(1) if profile is None else np.array(profile["multipliers"])
    noise = fitted_noise(instants_s, duration_s, burstiness, float((multipliers**2).mean() / multipliers.mean() ** 2))
    if noise:
        arrivals["rate_noise"] = {
            f"tau-{seconds:g}s": {
                "sigma": {"value": round(sigma, 5)} | DERIVED,
                "time_constant": {"value": f"{seconds:g} s"} | OURS,
            }
            for sigma, seconds in noise
        }
    return arrivals


def _dispersion_error(document: dict[str, Any], instants_s: FloatArray, duration_s: float, start_hour: float) -> float:
    """Return the largest error of the logarithms of the dispersions of described arrivals, means of some runs.

    Each counts by how well it is known: a dispersion of n windows has a relative error of about sqrt(3 / n).
    """
    arrivals: Arrivals = TypeAdapter(Arrivals).validate_python(document)
    rate = instants_s.size / duration_s
    windows = [window for window in (2.0 / rate, 5.0 / rate, *WINDOWS_S) if duration_s / window >= _LEAST_WINDOWS]
    made = [
        arrival_instants(arrivals, rate, duration_s, start_hour, lambda *names, run=run: stream(1, "fit", run, *names))
        for run in range(_RUNS)
    ]
    worst = 0.0
    for window in windows:
        measured = allan_dispersion(instants_s, window, duration_s)
        expected = float(np.mean([allan_dispersion(each, window, duration_s) for each in made]))
        if measured > 0.0:
            error = abs(math.log(expected / measured)) / (0.1 + math.sqrt(3.0 * window / duration_s))
            worst = max(worst, error)
    return worst


def fitted_noise(
    instants_s: FloatArray, duration_s: float, burstiness: float = 1.0, unevenness: float = 1.0
) -> list[tuple[float, float]]:
    """Return standard deviation [1] and time constant [s] of the parts of the noise that the dispersions ask for.

    Noise of a rate adds to the variance of the counts as the square of the rate, so that it counts by `unevenness`, the
    mean square of the profile over the square of its mean.
    """
    rate = instants_s.size / duration_s
    windows = [
        window for window in WINDOWS_S if duration_s / window >= _LEAST_WINDOWS and rate * window >= _LEAST_COUNT
    ]
    measured = np.array([allan_dispersion(instants_s, window, duration_s) for window in windows])
    if not windows or not (measured > burstiness).any():
        return []
    unit = math.sqrt(math.log(2.0))  # a sigma with exp(sigma^2) - 1 = 1, so that the design is per unit of variance
    # what is faster than the windows cannot be told from the gaps
    constants = [tau for tau in _TIME_CONSTANTS_S if tau >= 0.5 * windows[0]]
    design = np.array(
        [
            [wandering_dispersion(rate * unevenness, window, [(unit, tau)]) - 1.0 for tau in constants]
            for window in windows
        ]
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
    return {"multipliers": [round(float(rate), 3) for rate in rates / rates.mean()]} | MEASURED


def _open_loop(document: dict[str, Any], trace: Trace) -> None:
    varied = all(np.ptp(column) > 0 for column in (trace.prompt_tokens, trace.output_tokens))
    correlation = float(stats.spearmanr(trace.prompt_tokens, trace.output_tokens).statistic) if varied else 0.0
    if abs(correlation) > 0.1:
        document["rank_correlation"] = {"value": round(float(np.clip(correlation, -0.99, 0.99)), 3)} | MEASURED
    if trace.cached_tokens.any():
        new = quantile_table(trace.prompt_tokens - trace.cached_tokens, "tokens")
        document["prefix"] = {"kind": "uncached_lengths", "uncached_tokens": new}


def workload_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML."""
    return yaml.dump(document, Dumper=_Plain, sort_keys=False, width=118, allow_unicode=True)


class _Plain(yaml.SafeDumper):
    """Writes repeated values out instead of pointing to the first one."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that nothing is pointed to."""
        return True
