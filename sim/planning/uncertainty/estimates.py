"""Quantiles of what worlds come to, with their intervals, and whether there were enough worlds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from sim.planning.uncertainty.distributions import FloatArray
from sim.results.intervals import quantile_of

QUANTILES = (0.1, 0.5, 0.9)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Fan:
    """P10, P50 and P90 of one number over worlds."""

    values: tuple[float, ...]
    """Quantiles in rising order; infinite where the number is so in that many worlds."""

    lows: tuple[float, ...]
    """Lower ends of their intervals; NaN where there are too few worlds for one."""

    highs: tuple[float, ...]
    """Upper ends."""

    samples: int
    """Worlds in which there is a number."""

    def enough(self, tolerance: float) -> bool:
        """Return whether every interval is there, and narrow against the distance from P10 to P90.

        Both are on the logarithm of numbers that exceed 0, whose spread is a factor. Quantiles that are infinite, or
        all alike, need nothing more than an interval.
        """
        ends = np.array([*self.values, *self.lows, *self.highs])
        if np.isnan(ends).any():
            return False
        values, lows, highs = (np.log(ends) if (ends > 0.0).all() else ends).reshape(3, -1)
        spread = float(values[-1] - values[0]) if np.isfinite(values[[0, -1]]).all() else 0.0
        known = np.isfinite(values)
        return spread <= 0.0 or bool((highs[known] - lows[known] <= tolerance * spread).all())


def fan(values: npt.ArrayLike) -> Fan:
    """Return the quantiles of one number over worlds, with distribution-free intervals.

    The interval of a quantile is between two order statistics whose ranks are binomial quantiles: exact for independent
    worlds, and wide enough for Sobol points and Latin hypercubes, which fill the space more evenly.

    Parameters
    ----------
    values : array_like, shape (n,)
        The number in every world; NaN where there is none, infinite where it never happens.

    Source: David and Nagaraja, Order Statistics, 3rd ed., section 7.1.

    """
    known = np.asarray(values, np.float64)
    known = np.sort(known[~np.isnan(known)])
    if not known.size:
        nothing = (math.nan,) * len(QUANTILES)
        return Fan(nothing, nothing, nothing, 0)
    pairs = [_interval(known, quantile) for quantile in QUANTILES]
    return Fan(
        tuple(quantile_of(known, quantile) for quantile in QUANTILES),
        tuple(low for low, _ in pairs),
        tuple(high for _, high in pairs),
        int(known.size),
    )


def _interval(known: FloatArray, quantile: float) -> tuple[float, float]:
    """Return order statistics around a quantile; NaN for an end beyond the smallest or largest value."""
    count = known.size
    outside = 0.5 * (1.0 - CONFIDENCE)
    lower = int(stats.binom.ppf(outside, count, quantile))
    upper = int(stats.binom.ppf(1.0 - outside, count, quantile)) + 1
    low = float(known[lower - 1]) if lower >= 1 else math.nan
    high = float(known[upper - 1]) if upper <= count else math.nan
    return low, high
