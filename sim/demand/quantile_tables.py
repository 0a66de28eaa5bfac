"""Measured values as the quantile tables that YAML holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

MEASURED: dict[str, Any] = {"source": ["TRACE"], "confidence": "measured"}
DERIVED: dict[str, Any] = {"source": ["TRACE"], "confidence": "derived"}
OURS: dict[str, Any] = {"source": ["assumption"], "confidence": "assumption"}

_ATOM = 0.002


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
    return {"distribution": "quantile_table", "quantiles": written} | MEASURED
