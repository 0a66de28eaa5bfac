"""Durations and counts as tables of their cdf, sampled like lengths: by inversion, one uniform number each."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from sim.demand.lengths import LengthTable
from sim.specs.distributions import (
    CountDistribution,
    DurationDistribution,
    FixedDuration,
    LognormalMixtureDurations,
    ShareCounts,
)

FloatArray = npt.NDArray[np.float64]

_POINTS = 4001


class DurationTable(NamedTuple):
    """A distribution of durations as its cdf, a straight line in the logarithm of seconds between the points."""

    log_seconds: FloatArray
    """Logarithm of the durations at the points, shape (points,)."""

    cumulative: FloatArray
    """P(duration <= point), from 0 to 1."""

    def at(self, probability: FloatArray) -> FloatArray:
        """Return the durations of probabilities [s]."""
        return np.exp(np.interp(probability, self.cumulative, self.log_seconds))

    def mean_s(self) -> float:
        """Return the mean of what `at` gives for uniform probabilities [s].

        Between two points the mean of exp is (b - a) / log(b / a), by integration of a straight line in the logarithm.
        """
        return float(np.diff(self.cumulative) @ self._means())

    def length_biased(self) -> DurationTable:
        """Return the distribution of the duration that covers a given instant (Cox, Renewal Theory, 1962, 5.3)."""
        weight = np.concatenate(([0.0], np.cumsum(np.diff(self.cumulative) * self._means())))
        return DurationTable(self.log_seconds, weight / weight[-1])

    def _means(self) -> FloatArray:
        steps = np.diff(self.log_seconds)
        low, high = np.exp(self.log_seconds[:-1]), np.exp(self.log_seconds[1:])
        return np.where(steps > 1e-12, (high - low) / np.maximum(steps, 1e-12), low)


def duration_table(spec: DurationDistribution) -> DurationTable:
    """Return a described distribution of durations as a table.

    A mixture of log-normals is tabulated at 4001 points that are even in the logarithm, conditional on its bounds.
    """
    if isinstance(spec, FixedDuration):
        return DurationTable(np.full(2, math.log(max(spec.duration, 1e-9))), np.array([0.0, 1.0]))
    if isinstance(spec, LognormalMixtureDurations):
        points = np.linspace(math.log(spec.minimum), math.log(spec.maximum), _POINTS)
        reached = np.zeros(_POINTS)
        for component in spec.components:
            reached += component.weight * special.ndtr((points - component.mu) / component.sigma)
        return DurationTable(points, (reached - reached[0]) / (reached[-1] - reached[0]))
    probability, seconds = (np.array(column) for column in zip(*spec.knots, strict=True))
    return DurationTable(np.log(seconds), probability)


def count_table(spec: CountDistribution) -> LengthTable:
    """Return a described distribution of counts as its cdf over whole numbers; a Weibull X counts as ceil(X)."""
    if isinstance(spec, ShareCounts):
        smallest, largest = min(spec.shares), max(spec.shares)
        shares = np.array([spec.shares.get(number, 0.0) for number in range(smallest, largest + 1)])
        cumulative = np.cumsum(shares) / shares.sum()
        cumulative[-1] = 1.0
        return LengthTable(smallest, cumulative)
    numbers = np.arange(spec.minimum - 1, spec.maximum + 1, dtype=np.float64)
    reached = -np.expm1(-((numbers / spec.scale) ** spec.shape))
    cumulative = (reached[1:] - reached[0]) / (reached[-1] - reached[0])
    cumulative[-1] = 1.0
    return LengthTable(spec.minimum, cumulative)
