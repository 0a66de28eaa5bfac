"""From a probability to a number: quantile functions of what a low, a value and a high are read as."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from sim.specs.uncertainty import ShapeName

FloatArray = npt.NDArray[np.float64]


def quantile(
    shape: ShapeName, probability: npt.ArrayLike, low: float, value: float, high: float, interval: float, tails: float
) -> FloatArray:
    """Return the quantile of a distribution that is stated by three numbers.

        two-piece normal      value + (value - low) z / c  where z < 0,  value + (high - value) z / c  where z >= 0
        two-piece log-normal  exp of the same on logarithms
        PERT                  low + (high - low) B,  B a beta of 1 + 4 (value - low) / (high - low) and 6 less that
        triangular, uniform   as usual, low and high being the ends

    with z the standard normal quantile, cut at `tails` and 1 - `tails`, and c that of (1 + interval) / 2. The value is
    the median of a two-piece form, and low and high are the ends of its middle `interval`; where one of them is the
    value itself, half of the probability lies on it. The value is the mode of a PERT and of a triangle.

    Parameters
    ----------
    shape : str
        Form.
    probability : array_like
        Between 0 and 1.
    low, value, high : float
        In this order [any unit]; more than 0 for a log-normal.
    interval : float
        Probability between low and high of a two-piece form [1].
    tails : float
        Probability of each tail that is cut off a two-piece form [1].

    Raises
    ------
    ValueError
        Numbers out of order, or a log-normal of numbers that are not positive.

    Sources: two-piece normal, Wallis, Statistical Science 29 (2014); PERT, Vose, Risk Analysis, 3rd ed. (2008).

    """
    if not low <= value <= high:
        raise ValueError(f"low, value and high must be in this order, got {low}, {value}, {high}")
    given = np.asarray(probability, np.float64)
    if shape == "two_piece_lognormal":
        if not low > 0.0:
            raise ValueError(f"a log-normal holds for numbers above 0, got {low}")
        ends = math.log(low), math.log(value), math.log(high)
        return np.exp(quantile("two_piece_normal", given, *ends, interval, tails))
    if shape == "two_piece_normal":
        score = special.ndtri(np.clip(given, tails, 1.0 - tails)) / special.ndtri(0.5 * (1.0 + interval))
        return np.asarray(value + score * np.where(score < 0.0, value - low, high - value))
    if high == low:
        return np.full(given.shape, value)
    if shape == "uniform":
        return low + (high - low) * given
    if shape == "triangular":
        mode = (value - low) / (high - low)
        below = np.sqrt(given * mode)
        above = 1.0 - np.sqrt((1.0 - given) * (1.0 - mode))
        return low + (high - low) * np.where(given < mode, below, above)
    first = 1.0 + 4.0 * (value - low) / (high - low)
    return np.asarray(low + (high - low) * stats.beta.ppf(given, first, 6.0 - first))
