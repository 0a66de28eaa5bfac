"""Whose cost the headroom is: paid accelerator time split by class into used, idle, spare, starting and failed.

A fleet is sized for its peak. What it does not use otherwise is there for the classes that make the peak, so headroom
follows their share of it, as capacity follows the coincident peak in tariffs of electricity: a class that makes 60% of
the peak is allotted 60% of the pool, and what it does not use of that is its headroom. A class that fills the valleys
uses all that is allotted to it, and bears none.

Used is the time that the work of a class takes in full batches, and never more than the time with a step in progress.
A replica that decodes one sequence is busy all the time and almost idle all the same: its time is not used up.

All times are whole nanoseconds and are split by largest remainders, so parts add up to their total exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

USED, IDLE, SPARE, STARTING, FAILED = 0, 1, 2, 3, 4
"""Columns of a split."""

PARTS = ("used", "idle", "spare", "starting", "failed")
"""Their names."""

_NANO_USD_PER_USD = 1e9
_NANOSECONDS_PER_HOUR = 3.6e12
_WEIGHT_BITS = 53


@dataclass(frozen=True)
class PaidTime:
    """Time for which the replicas of a pool are paid, by what they did."""

    accelerators: int
    """Accelerators of one replica."""

    used_ns: int
    """Replica time that the work takes in full batches, at most that with a step in progress [ns]."""

    idle_ns: int
    """The rest of the time in which replicas serve: no step, or one with room for more [ns]."""

    spare_ns: int = 0
    """Replica time as a warm spare [ns]."""

    starting_ns: int = 0
    """Replica time on the way from off to ready [ns]."""

    failed_ns: int = 0
    """Replica time away by failure, maintenance or roll-out [ns]."""

    @property
    def parts_ns(self) -> tuple[int, ...]:
        """Return the accelerator time of each part, in the order of `PARTS` [ns]."""
        replica_ns = (self.used_ns, self.idle_ns, self.spare_ns, self.starting_ns, self.failed_ns)
        return tuple(self.accelerators * int(each) for each in replica_ns)


def largest_remainder(total: int, weights: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Split a whole number in proportion to weights, exactly.

    Each part gets its quota rounded down, and the largest remainders get one more, the first ones where they tie.

    Parameters
    ----------
    total : int
        What is split, not negative.
    weights : sequence of float
        Not negative; all equal where their sum is zero.

    Returns
    -------
    list of int
        Parts that sum to the total.

    Raises
    ------
    ValueError
        There is nobody to bear anything, or a weight or the total is negative or not finite.

    """
    given = [float(each) for each in weights]
    if not given or total < 0 or not all(math.isfinite(each) and each >= 0.0 for each in given):
        raise ValueError(f"cannot split {total} by the weights {given}")
    greatest = max(given)
    scaled = [math.ldexp(each / greatest, _WEIGHT_BITS) if greatest > 0.0 else 1.0 for each in given]
    whole = [int(each) for each in scaled]
    amount = sum(whole)
    parts = [total * each // amount for each in whole]
    remainders = [total * each % amount for each in whole]
    order = sorted(range(len(parts)), key=lambda index: (-remainders[index], index))
    for index in order[: total - sum(parts)]:
        parts[index] += 1
    return parts


def spread(
    start_s: NDArray[np.float64], end_s: NDArray[np.float64], weight: NDArray[np.float64], edges_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return weights by interval, each spread evenly from its start to its end.

    Parameters
    ----------
    start_s, end_s : ndarray of float, shape (n,)
        Times between which a weight is spread; one of no length falls where it starts [s].
    weight : ndarray of float, shape (n,)
        Weights [any unit].
    edges_s : ndarray of float, shape (intervals + 1,)
        Edges of the intervals, rising; what lies outside is left out [s].

    """
    length = end_s - start_s
    lasting = length > 0.0
    rate = np.zeros_like(weight)
    rate[lasting] = weight[lasting] / length[lasting]
    cumulated = _ramps(start_s, rate, edges_s) - _ramps(end_s, rate, edges_s)
    at_once, _ = np.histogram(start_s[~lasting], edges_s, weights=weight[~lasting])
    result: NDArray[np.float64] = np.maximum(np.diff(cumulated) + at_once, 0.0)
    return result


def _ramps(
    since_s: NDArray[np.float64], rate: NDArray[np.float64], edges_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return `sum(rate max(0, edge - since))` at each edge, in one pass over all."""
    place = np.searchsorted(edges_s, since_s)
    rates = np.cumsum(np.bincount(place, rate, len(edges_s) + 1))[:-1]
    moments = np.cumsum(np.bincount(place, rate * since_s, len(edges_s) + 1))[:-1]
    return np.asarray(rates * edges_s - moments, dtype=np.float64)


def busy_by_class(busy_ns: NDArray[np.int64], work: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the used time of each interval by class.

    Parameters
    ----------
    busy_ns : ndarray of int, shape (intervals,)
        Replica time that was used [ns].
    work : ndarray of float, shape (intervals, classes)
        What the classes had done in that time, as by `spread` [any unit]; equal where nobody had anything done.

    Returns
    -------
    ndarray of int, shape (intervals, classes)
        Rows that sum to `busy_ns` [ns].

    """
    rows = [largest_remainder(int(total), weights) for total, weights in zip(busy_ns, work, strict=True)]
    return np.array(rows, np.int64).reshape(work.shape)


def headroom_weights(busy_ns: NDArray[np.int64], paid_ns: int, peak_share: float) -> NDArray[np.float64]:
    """Return in what proportion classes bear what is paid and not used.

    Parameters
    ----------
    busy_ns : ndarray of int, shape (intervals, classes)
        Replica time that each class used [ns].
    paid_ns : int
        Replica time that is paid in all [ns].
    peak_share : float
        Share of the intervals that are the peak: the busiest ones, one at least [1].

    Returns
    -------
    ndarray of float, shape (classes,)
        `max(0, share of the peak * paid - used)`; the share of the peak where nothing is left, all equal where
        nothing was used.

    """
    totals = busy_ns.sum(axis=1)
    count = max(1, round(peak_share * len(totals)))
    busiest = np.argsort(-totals, kind="stable")[:count]
    peak = busy_ns[busiest].sum(axis=0).astype(np.float64)
    if peak.sum() <= 0.0:
        return np.ones(busy_ns.shape[1])
    share = peak / peak.sum()
    unused: NDArray[np.float64] = np.maximum(share * paid_ns - busy_ns.sum(axis=0), 0.0)
    return unused if unused.sum() > 0.0 else np.asarray(share, dtype=np.float64)


def split_by_class(paid: PaidTime, busy_ns: NDArray[np.int64], peak_share: float) -> NDArray[np.int64]:
    """Return the paid accelerator time of a pool by class and part.

    Parameters
    ----------
    paid : PaidTime
        What the replicas of the pool did.
    busy_ns : ndarray of int, shape (intervals, classes)
        Replica time that each class used in each interval [ns].
    peak_share : float
        See `headroom_weights` [1].

    Returns
    -------
    ndarray of int, shape (classes, len(PARTS))
        Accelerator time [ns]; columns sum to `paid.parts_ns`, each to the last nanosecond.

    """
    parts = paid.parts_ns
    weights = headroom_weights(busy_ns, sum(parts) // paid.accelerators, peak_share)
    used = busy_ns.sum(axis=0).astype(np.float64)
    columns = [largest_remainder(parts[USED], used)]
    columns += [largest_remainder(part, weights) for part in parts[IDLE:]]
    return np.array(columns, np.int64).T


def cost_nano_usd(split_ns: NDArray[np.int64], usd_per_hour: float) -> NDArray[np.int64]:
    """Return what a split costs, in whole billionths of a USD that add up to the cost of its total.

    Parameters
    ----------
    split_ns : ndarray of int, shape (classes, parts)
        Accelerator time [ns].
    usd_per_hour : float
        Price [USD per accelerator-hour].

    Returns
    -------
    ndarray of int, shape (classes, parts)
        Cost [1e-9 USD]; its sum is `total time x price`, rounded once.

    """
    total = round(int(split_ns.sum()) * usd_per_hour * (_NANO_USD_PER_USD / _NANOSECONDS_PER_HOUR))
    return np.array(largest_remainder(total, split_ns.ravel().astype(np.float64)), np.int64).reshape(split_ns.shape)
