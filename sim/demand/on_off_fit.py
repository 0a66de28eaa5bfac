"""Arrivals of jobs that run and pause, fitted to recorded instants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.demand.quantile_tables import DERIVED, quantile_table

FloatArray = npt.NDArray[np.float64]

_PER_WINDOW = 5.0
_RUNNING = 0.5
_LEAST_PERIODS = 20
_LEAST_GAPS = 8


def fitted_on_off(instants_s: FloatArray, duration_s: float) -> dict[str, Any] | None:
    """Return an on-off process like some instants; None where fewer than 20 periods of either kind are seen.

    The job runs in windows with more than half of the mean count, of five arrivals on average; its periods are those of
    such windows together. While it runs, the CV of its gaps is their mean over the periods, weighted by gaps.

    Parameters
    ----------
    instants_s : ndarray, shape (requests,)
        Sorted arrivals [s].
    duration_s : float
        Length of the record [s].

    """
    width = _PER_WINDOW * duration_s / instants_s.size
    windows = int(duration_s // width)
    if windows < 2 * _LEAST_PERIODS:
        return None
    counts = np.bincount((instants_s / width).astype(np.int64), minlength=windows)[:windows]
    running = counts > _RUNNING * counts.mean()
    edges = np.concatenate(([0], np.flatnonzero(np.diff(running.astype(np.int8))) + 1, [windows]))
    lasted, is_on = np.diff(edges) * width, running[edges[:-1]]
    if min(is_on.sum(), (~is_on).sum()) < _LEAST_PERIODS:
        return None
    spreads, weights = [], []
    for start, end in zip(edges[:-1][is_on] * width, edges[1:][is_on] * width, strict=True):
        low, high = np.searchsorted(instants_s, [start, end])
        gaps = np.diff(instants_s[low:high])
        if gaps.size >= _LEAST_GAPS and gaps.mean() > 0.0:
            spreads.append(float(gaps.std() / gaps.mean()))
            weights.append(gaps.size)
    if not spreads:
        return None
    cv = max(float(np.average(spreads, weights=weights)), 0.05)
    return {
        "process": "on_off",
        "jobs": 1,
        "running": quantile_table(lasted[is_on], "s"),
        "pausing": quantile_table(lasted[~is_on], "s"),
        "cv": {"value": round(cv, 4)} | DERIVED,
    }
