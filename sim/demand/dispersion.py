"""How bursty arrivals are: dispersion of counts by window, measured and in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def dispersion(instants_s: npt.ArrayLike, window_s: float, duration_s: float) -> float:
    """Return the index of dispersion of the counts of whole windows, variance / mean; NaN below two windows.

    Parameters
    ----------
    instants_s : array_like, shape (requests,)
        Sorted arrivals [s].
    window_s : float
        Length of a window [s].
    duration_s : float
        Length of the record [s]; what does not fill a window is left out.

    """
    counts = _counts(instants_s, window_s, duration_s)
    if counts.size < 2 or counts.sum() == 0:
        return math.nan
    return float(counts.var(ddof=1) / counts.mean())


def allan_dispersion(instants_s: npt.ArrayLike, window_s: float, duration_s: float) -> float:
    """Return half the mean squared difference of adjacent counts over their mean; slow trends drop out.

    Allan, Statistics of atomic frequency standards, Proc. IEEE 54 (1966). Parameters as in `dispersion`; NaN below two
    windows.
    """
    counts = _counts(instants_s, window_s, duration_s)
    if counts.size < 2 or counts.sum() == 0:
        return math.nan
    return float(0.5 * np.mean(np.diff(counts) ** 2) / counts.mean())


def wandering_dispersion(rate_per_s: float, window_s: float, parts: Sequence[tuple[float, float]]) -> float:
    """Return the expected Allan dispersion of a Poisson process whose rate wanders.

    The rate is r exp(X - Var/2), X a sum of Ornstein-Uhlenbeck processes; to first order in the variances s**2 each
    part adds r T s**2 (V(T) - C(T)), where a = tau / T, V = 2 a (1 - a (1 - exp(-1/a))) is the variance of its mean
    over a window and C = a**2 (1 - exp(-1/a))**2 the covariance of two adjacent windows (Cox and Lewis, The
    Statistical Analysis of Series of Events, 1966, section 7.2).

    Parameters
    ----------
    rate_per_s : float
        Mean rate [1/s].
    window_s : float
        Length of a window [s].
    parts : sequence of (float, float)
        Standard deviation of the logarithm [1] and time constant [s] of each part.

    """
    excess = 0.0
    for sigma, time_constant_s in parts:
        ratio = time_constant_s / window_s
        faded = -math.expm1(-1.0 / ratio)
        # the second moment of a log-normal: exp(s^2) - 1 instead of s^2
        excess += math.expm1(sigma**2) * (2.0 * ratio * (1.0 - ratio * faded) - (ratio * faded) ** 2)
    return 1.0 + rate_per_s * window_s * excess


def _counts(instants_s: npt.ArrayLike, window_s: float, duration_s: float) -> npt.NDArray[np.float64]:
    windows = int(duration_s / window_s + 1e-9)
    instants = np.asarray(instants_s, dtype=np.float64)
    index = (instants[(instants >= 0.0) & (instants < windows * window_s)] / window_s).astype(np.int64)
    return np.bincount(np.minimum(index, windows - 1), minlength=windows).astype(np.float64)
