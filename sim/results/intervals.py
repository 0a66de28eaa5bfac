"""How sure we are: confidence intervals as pure functions of numbers.

Infinity is a legal observation: a request that was never served has an infinite latency. A quantile that
falls into the infinite mass is infinite, and so is the upper end of its interval. NaN is refused.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

FEWEST_EXCEEDANCES_PER_SECTION = 2.0
"""Values beyond the quantile that a section should expect; with fewer, its quantile is just its maximum."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval: value, low and high in the unit of the input; NaN where there is none.

    `samples` counts the observations behind the value, `method` names the interval, `note` says what is
    doubtful.
    """

    value: float
    low: float
    high: float
    samples: int
    method: str
    note: str = ""

    def within(self, lowest: float, highest: float) -> "Estimate":
        """The same estimate with its interval cut to what is possible, as 0 to 1 for a fraction."""
        low, high = np.clip([self.low, self.high], lowest, highest)
        return replace(self, low=float(low), high=float(high))


def quantile_of(values: npt.ArrayLike, quantile: float) -> float:
    """Smallest observation x with F(x) >= quantile (the inverted empirical distribution), infinity allowed.

    Parameters: `values` of shape (n,) in any order; `quantile` in (0, 1). Raises ValueError for NaN or no
    values. Source: Hyndman & Fan (1996), Sample quantiles in statistical packages, definition 1.
    """
    observed = _observations(values)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must be between 0 and 1, not {quantile}")
    if not observed.size:
        raise ValueError("no values: a quantile needs at least one")
    # the factor forgives rounding: 0.07 * 100 is a little more than 7
    rank = max(math.ceil(quantile * observed.size * (1 - 1e-12)), 1)
    return float(np.partition(observed, rank - 1)[rank - 1])


def mean_interval(values: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of independent replications with Student's t interval: m +- t_{n-1} s / sqrt(n).

    Parameters: `values` of shape (replications,), one value each; `confidence` in (0, 1). Assumes independent
    replications. If one is infinite, so are the mean and the upper end, and the lower end is that of the
    replications' median by order statistics. Source: Law (2015), Simulation Modeling and Analysis, 5th ed.,
    section 9.4.1.
    """
    observed = _observations(values)
    value = float(np.mean(observed)) if observed.size else math.nan
    return _around(value, observed, confidence, int(observed.size), "replications")


def batch_means_interval(
    times: npt.ArrayLike, values: npt.ArrayLike, batches: int, confidence: float = 0.95
) -> Estimate:
    """Mean of one correlated series, with an interval from the means of consecutive batches.

    The series is put in the order of its times and cut into `batches` runs of equal count (to one); the value
    is the mean of all, the interval value +- t_{b-1} sqrt(sum (m_i - value)^2 / (b - 1) / b).

    Parameters: `times` of shape (n,) [s]; `values` of shape (n,); `batches` at least 2; `confidence` in (0,
    1). Assumes batches long enough to be nearly independent. Raises ValueError for shapes that differ.
    Source: Law (2015), section 9.5.3; Schmeiser (1982), Batch size effects, for 10 to 30 batches.
    """
    instants, observed = _observations(times), _observations(values)
    if instants.shape != observed.shape:
        raise ValueError(f"{instants.size} times but {observed.size} values")
    sections = _sections(observed[np.argsort(instants, kind="stable")], batches)
    value = float(np.mean(observed)) if observed.size else math.nan
    means = np.array([np.mean(section) for section in sections])
    return _around(value, means, confidence, int(observed.size), "batch means")


def quantile_sectioning_interval(
    values_in_time_order: npt.ArrayLike, quantile: float, batches: int, confidence: float = 0.95
) -> Estimate:
    """Quantile of one correlated series, with an interval from the quantiles of consecutive sections.

    Centre is the quantile q of the whole series, half width t_{b-1} sqrt(sum (q_i - q)^2 / (b - 1) / b) with
    q_i the quantile of section i: centring on q, not on the mean of q_i, avoids most of the bias of short
    sections.

    Parameters: `values_in_time_order` of shape (n,), infinity for unserved; `quantile` in (0, 1); `batches`
    at least 2; `confidence` in (0, 1). Assumes sections long enough to be nearly independent; the note says
    when they are too short for the quantile. With fewer than two values a section there is no interval.
    Source: Asmussen & Glynn (2007), Stochastic Simulation, section III.5a.
    """
    observed = _observations(values_in_time_order)
    sections = _sections(observed, batches) or [observed]
    return sectioned_quantile_interval(sections, quantile, confidence, "sectioning")


def sectioned_quantile_interval(
    sections: Sequence[npt.ArrayLike], quantile: float, confidence: float = 0.95, method: str = "replications"
) -> Estimate:
    """Quantile of all sections together, with the interval of `quantile_sectioning_interval`.

    Parameters: `sections` are independent samples, each of shape (n_i,), as one per replication; empty ones
    are left out and noted. `method` is the label of the estimate.
    """
    filled = [section for section in map(_observations, sections) if section.size]
    if not filled:
        return Estimate(math.nan, math.nan, math.nan, 0, method, "no observations")
    samples = sum(section.size for section in filled)
    shortest = min(section.size for section in filled)
    value = quantile_of(np.concatenate(filled), quantile)
    each = np.array([quantile_of(section, quantile) for section in filled])
    estimate = _around(value, each, confidence, samples, method)
    notes = [estimate.note] if estimate.note else []
    if len(filled) < len(sections):
        notes.append(f"{len(sections) - len(filled)} of {len(sections)} {method} had no observations")
    exceedances = shortest * min(quantile, 1 - quantile)
    if not estimate.note and exceedances < FEWEST_EXCEEDANCES_PER_SECTION * (1 - 1e-9):
        notes.append(
            f"interval doubtful: the smallest of {len(filled)} parts has {shortest} values, "
            f"{exceedances:.2g} of them beyond the {quantile:g} quantile; run longer"
        )
    return replace(estimate, note="; ".join(notes))


def quantile_order_interval(values: npt.ArrayLike, quantile: float, confidence: float = 0.95) -> Estimate:
    """Quantile of independent observations with the distribution-free interval between two order statistics.

    With B ~ Binomial(n, q), low is the observation of rank l and high of rank u such that P(B < l) and P(B >=
    u) are each at most (1 - confidence) / 2. An end without such a rank is infinite.

    Parameters: `values` of shape (n,), independent and identically distributed; `quantile`, `confidence` in
    (0, 1). Source: David & Nagaraja (2003), Order Statistics, 3rd ed., section 7.1.
    """
    observed = np.sort(_observations(values))
    if not observed.size:
        return Estimate(math.nan, math.nan, math.nan, 0, "order statistics", "no observations")
    tail = _tail(confidence)
    at_most = special.bdtr(np.arange(observed.size + 1.0), observed.size, quantile)
    lower_rank = int(np.searchsorted(at_most, tail))
    upper_rank = int(np.searchsorted(at_most, 1 - tail)) + 1
    low = float(observed[lower_rank - 1]) if lower_rank >= 1 else -math.inf
    high = float(observed[upper_rank - 1]) if upper_rank <= observed.size else math.inf
    value = quantile_of(observed, quantile)
    return Estimate(value, low, high, int(observed.size), "order statistics")


def paired_difference_interval(a: npt.ArrayLike, b: npt.ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of a - b over replications that met the same customers (common random numbers), with a t interval.

    Parameters: `a`, `b` of shape (replications,), the same metric of two fleets; `confidence` in (0, 1).
    Where one fleet is infinite the difference is infinite with its sign; where both are, or where signs
    disagree, there is no difference and the value is NaN with a note. Raises ValueError for shapes that
    differ. Source: Law (2015), section 10.2.1 (paired t) and 11.2 (common random numbers).
    """
    first, second = _observations(a), _observations(b)
    if first.shape != second.shape:
        raise ValueError(f"paired values differ in number: {first.size} and {second.size}")
    upward, downward = first == math.inf, second == math.inf
    if (upward & downward).any() or (upward.any() and downward.any()):
        note = "no difference: infinite on both sides"
        return Estimate(math.nan, math.nan, math.nan, int(first.size), "paired replications", note)
    if downward.any():
        turned = mean_interval(second - first, confidence)
        low, high = -turned.high, -turned.low
        return Estimate(-turned.value, low, high, turned.samples, "paired replications", turned.note)
    return replace(mean_interval(first - second, confidence), method="paired replications")


def ratio_interval(
    numerators: npt.ArrayLike,
    denominators: npt.ArrayLike,
    confidence: float = 0.95,
    method: str = "replications",
) -> Estimate:
    """Ratio of two sums over independent batches or replications: r = sum N / sum D.

    Half width t_{n-1} sqrt(sum (N_i - r D_i)^2 / (n - 1) / n) / mean(D); with equal D this is the t interval
    of N_i / D_i. Serves tokens by seconds, USD by tokens, and means over a random number of requests.

    Parameters: `numerators`, `denominators` of shape (n,), denominators not negative; `confidence` in (0, 1);
    `method` is the label. A positive sum over nothing is infinite, nothing over nothing NaN, each with a
    note. `samples` is n. Raises ValueError for shapes that differ or negative denominators. Source: Asmussen
    & Glynn (2007), section III.4 (delta method); Cochran (1977), section 6.3.
    """
    above, below = _observations(numerators), _observations(denominators)
    if above.shape != below.shape:
        raise ValueError(f"{above.size} numerators but {below.size} denominators")
    if (below < 0).any():
        raise ValueError(f"denominators must not be negative: {below.min()}")
    samples, total = int(below.size), float(below.sum())
    if total == 0:
        if above.sum() > 0:
            return Estimate(math.inf, math.nan, math.inf, samples, method, "the denominator is zero")
        return Estimate(math.nan, math.nan, math.nan, samples, method, "no observations")
    value = float(above.sum()) / total
    if math.isinf(value):
        return _around(value, above[below > 0] / below[below > 0], confidence, samples, method)
    residuals = (above - value * below) / float(np.mean(below))
    return _around(value, value + residuals, confidence, samples, method)


def _around(value: float, each: Array, confidence: float, samples: int, method: str) -> Estimate:
    """Interval around `value` from the independent estimates `each`, one a batch, section or replication."""
    tail = _tail(confidence)
    if each.size < 2:
        note = "no observations" if math.isnan(value) else f"no interval: too few observations ({samples})"
        return Estimate(value, math.nan, math.nan, samples, method, note)
    if math.isinf(value) or np.isinf(each).any():
        low = quantile_order_interval(each, 0.5, confidence).low
        return Estimate(value, min(low, value), math.inf, samples, method)
    variance = float(np.sum((each - value) ** 2)) / (each.size - 1)
    half_width = float(special.stdtrit(each.size - 1, 1 - tail)) * math.sqrt(variance / each.size)
    return Estimate(value, value - half_width, value + half_width, samples, method)


def _sections(values: Array, batches: int) -> list[Array]:
    """Consecutive runs of equal count (to one); none if that leaves fewer than two values a run."""
    if batches < 2:
        raise ValueError(f"at least 2 batches are needed, not {batches}")
    return list(np.array_split(values, batches)) if values.size >= 2 * batches else []


def _observations(values: npt.ArrayLike) -> Array:
    """Values as a float array of shape (n,), refused if one is NaN."""
    observed = np.asarray(values, dtype=np.float64)
    if observed.ndim != 1:
        raise ValueError(f"values must be one-dimensional, not of shape {observed.shape}")
    if np.isnan(observed).any():
        raise ValueError(f"{int(np.isnan(observed).sum())} of {observed.size} values are NaN; unserved is infinity")
    return observed


def _tail(confidence: float) -> float:
    """Probability outside each end of the interval."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
    return (1 - confidence) / 2
