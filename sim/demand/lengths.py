"""Lengths in whole tokens: every distribution is its cdf over whole tokens, and all else follows from it.

A length is N = ceil(X) for the continuous X of the spec, so P(N <= n) = P(X <= n) for every whole n and the
quantiles of a fit are kept. Truncation is conditional: N given minimum <= N <= maximum, that is X given
minimum - 1 < X <= maximum; nothing piles up at the bounds.
Between the knots of a quantile table the logarithm of X is linear in the probability. Measured lengths are
skewed to the right, and on 16 measured tables this reproduces the stated mean better (median error 1%) than a
straight line in tokens (3.5%).
Sampling inverts the cdf, one uniform number a request: a changed distribution keeps every request's rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from sim.specs.distributions import (
    FixedLengths,
    GammaLengths,
    LengthDistribution,
    LognormalMixtureLengths,
    QuantileTableLengths,
    TypeMixtureLengths,
)
from sim.specs.errors import InputError, Problem

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 16


class LengthTable(NamedTuple):
    """A distribution of lengths as its cdf over whole tokens."""

    minimum: int
    """Shortest length [tokens]."""

    cumulative: FloatArray
    """P(N <= minimum + i) for i = 0, 1, ...; ends with exactly 1."""


def length_table(spec: LengthDistribution) -> LengthTable:
    """Return the exact distribution that the other functions of this file use.

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.

    Returns
    -------
    LengthTable
        Shortest length [tokens] and cdf over whole tokens.

    Raises
    ------
    InputError
        The truncation leaves no probability.

    """
    if isinstance(spec, FixedLengths):
        return LengthTable(spec.tokens, np.ones(1))
    if isinstance(spec, QuantileTableLengths):
        return _quantile_table(spec)
    if isinstance(spec, TypeMixtureLengths):
        return _types_together(spec)
    below = 0.0 if spec.minimum == 1 else float(_continuous_cdf(spec, np.array([spec.minimum - 1.0]))[0])
    reached = _continuous_cdf(spec, np.arange(spec.minimum, spec.maximum + 1, dtype=np.float64))
    inside = float(reached[-1]) - below
    if not inside > 1e-9:
        raise InputError(
            [
                Problem(
                    f"a {spec.distribution} distribution has no probability between its bounds",
                    value=f"{spec.minimum} to {spec.maximum} tokens",
                    remedy="Widen minimum and maximum, or correct the parameters.",
                )
            ]
        )
    cumulative = (reached - below) / inside
    cumulative[-1] = 1.0
    return LengthTable(spec.minimum, cumulative)


def sample_lengths(spec: LengthDistribution, count: int, generator: np.random.Generator) -> IntArray:
    """Return independent lengths, one uniform number each (inverse transform).

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.
    count : int
        Number of lengths.
    generator : numpy.random.Generator
        Stream to draw from; a prefix of the stream gives a prefix of the lengths.

    Returns
    -------
    ndarray of int64, shape (count,)
        Lengths [tokens], at least 1.

    """
    return invert(length_table(spec), generator.random(count))


def invert(table: LengthTable, uniform: FloatArray) -> IntArray:
    """Return the lengths of uniform numbers (inverse transform).

    The search for a number starts from its place in a grid of even probabilities (guide table; Devroye, Non-Uniform
    Random Variate Generation, 1986, section III.2.4), for a binary search through a long table misses the cache.

    Parameters
    ----------
    table : LengthTable
        Distribution.
    uniform : ndarray, shape (count,)
        Numbers in [0, 1).

    Returns
    -------
    ndarray of int64, shape (count,)
        Smallest lengths whose cdf exceeds the numbers [tokens].

    """
    cells = 1 << max(int(np.ceil(np.log2(table.cumulative.size))), 10)
    if uniform.size < cells:
        return np.asarray(table.minimum + np.searchsorted(table.cumulative, uniform, side="right"), dtype=np.int64)
    guide = np.searchsorted(table.cumulative, np.arange(cells + 1) / cells, side="right").astype(np.int32)
    result = np.empty(uniform.size, np.int64)
    for start in range(0, uniform.size, _BLOCK):
        part = uniform[start : start + _BLOCK]
        cell = (part * cells).astype(np.int32)
        low, high = guide[cell], guide[cell + 1]
        rows = np.flatnonzero(low < high)
        while rows.size:
            middle = (low[rows] + high[rows]) >> 1
            beyond = table.cumulative[middle] <= part[rows]
            low[rows] = np.where(beyond, middle + 1, low[rows])
            high[rows] = np.where(beyond, high[rows], middle)
            rows = rows[low[rows] < high[rows]]
        result[start : start + _BLOCK] = low
    result += table.minimum
    return result


def correlated(first: FloatArray, second: FloatArray, rank_correlation: float) -> FloatArray:
    """Return uniform numbers like the second, correlated with the first by ranks.

    A rank correlation r is that of a Gaussian copula with 2 sin(pi r / 6) (Kruskal, Ordinal measures of association,
    JASA 53, 1958, section 4).

    Parameters
    ----------
    first, second : ndarray, shape (count,)
        Independent uniform numbers.
    rank_correlation : float
        Spearman correlation [1].

    """
    linear = 2.0 * np.sin(np.pi * rank_correlation / 6.0)
    score = linear * special.ndtri(first) + np.sqrt(1.0 - linear**2) * special.ndtri(second)
    return np.asarray(np.minimum(special.ndtr(score), np.nextafter(1.0, 0.0)), dtype=np.float64)


def mean_length(spec: LengthDistribution) -> float:
    """Return the exact mean of the sampled lengths, truncation and rounding included.

    E[N] = sum over n >= 0 of P(N > n).

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.

    Returns
    -------
    float
        Mean [tokens].

    """
    table = length_table(spec)
    return table.minimum + float(np.sum(1.0 - table.cumulative[:-1]))


def length_cdf(spec: LengthDistribution, tokens: npt.ArrayLike) -> FloatArray:
    """Return P(N <= tokens).

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.
    tokens : array_like
        Lengths [tokens]; a broken length counts as the whole one below it.

    Returns
    -------
    ndarray, shape of tokens
        Probabilities [1].

    """
    table = length_table(spec)
    index = np.floor(np.asarray(tokens, dtype=np.float64)) - table.minimum
    inside = np.clip(index, 0, table.cumulative.size - 1).astype(np.int64)
    return np.where(index < 0, 0.0, table.cumulative[inside])


def length_quantile(spec: LengthDistribution, probability: npt.ArrayLike) -> IntArray:
    """Return the smallest length whose cdf reaches a probability.

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.
    probability : array_like
        Probabilities in [0, 1] [1].

    Returns
    -------
    ndarray of int64, shape of probability
        Lengths [tokens].

    Raises
    ------
    ValueError
        A probability lies outside [0, 1].

    """
    asked = np.asarray(probability, dtype=np.float64)
    if not np.all((asked >= 0.0) & (asked <= 1.0)):
        raise ValueError("probabilities lie in [0, 1]")
    table = length_table(spec)
    return np.asarray(table.minimum + np.searchsorted(table.cumulative, asked, side="left"), dtype=np.int64)


def length_survival(spec: LengthDistribution, count: int) -> FloatArray:
    """Return P(N > n) for n = 0, 1, ... count - 1.

    Parameters
    ----------
    spec : LengthDistribution
        Described distribution.
    count : int
        Number of values.

    Returns
    -------
    ndarray, shape (count,)
        Probabilities [1].

    """
    table = length_table(spec)
    survival = np.zeros(max(count, table.minimum + table.cumulative.size))
    survival[: table.minimum] = 1.0
    survival[table.minimum : table.minimum + table.cumulative.size] = 1.0 - table.cumulative
    return survival[:count]


def _continuous_cdf(spec: LognormalMixtureLengths | GammaLengths, tokens: FloatArray) -> FloatArray:
    """Return P(X <= tokens) before truncation, for tokens above 0."""
    if isinstance(spec, GammaLengths):
        return np.asarray(special.gammainc(spec.shape, tokens / spec.scale), dtype=np.float64)
    log_tokens = np.log(tokens)
    total = sum(component.weight for component in spec.components)
    reached = np.zeros_like(tokens)
    for component in spec.components:
        standard = (log_tokens - component.mu) / component.sigma
        reached += component.weight / total * np.asarray(special.ndtr(standard), dtype=np.float64)
    return reached


def type_shares(spec: TypeMixtureLengths) -> FloatArray:
    """Return the share of each type in the order of the spec, summing to one [1]."""
    shares = np.array([part.share for part in spec.types.values()])
    return np.asarray(shares / shares.sum(), dtype=np.float64)


def _types_together(spec: TypeMixtureLengths) -> LengthTable:
    parts = [length_table(part.lengths) for part in spec.types.values()]
    first = min(part.minimum for part in parts)
    longest = max(part.minimum + part.cumulative.size for part in parts)
    reached = np.zeros(longest - first)
    for share, part in zip(type_shares(spec), parts, strict=True):
        start = part.minimum - first
        reached[start : start + part.cumulative.size] += share * part.cumulative
        reached[start + part.cumulative.size :] += share
    reached[-1] = 1.0
    return LengthTable(first, np.minimum(reached, 1.0))


def _quantile_table(spec: QuantileTableLengths) -> LengthTable:
    """Return the table of a quantile table; a length that several knots share is an atom."""
    probability, tokens = (np.array(column) for column in zip(*spec.knots, strict=True))
    knots, first, repeats = np.unique(tokens, return_index=True, return_counts=True)
    lower, upper = probability[first], probability[first + repeats - 1]
    lengths = np.arange(int(np.ceil(knots[0])), int(np.ceil(knots[-1])) + 1)
    left = np.clip(np.searchsorted(knots, lengths, side="right") - 1, 0, max(knots.size - 2, 0))
    right = np.minimum(left + 1, knots.size - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.log(lengths / knots[left]) / np.log(knots[right] / knots[left])
    cumulative = np.where(share < 1.0, upper[left] + share * (lower[right] - upper[left]), upper[right])
    cumulative[-1] = 1.0
    return LengthTable(int(lengths[0]), cumulative)
