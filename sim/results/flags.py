"""When not to trust a run: flags for fleets that cannot keep up and runs that are too short.

A flag is a warning with its number and its remedy, never an error: the tables are written all the same. The
thresholds below are rules of thumb about runs, not facts about hardware, and each says why it has its value.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.results.metrics import Array, Window
from sim.results.tables import Table, labels, numbers

SATURATING_LOAD_FACTOR = 1.0
"""Offered load over capacity beyond which a queue grows without bound, whatever the arrivals."""

FULLY_BUSY_FRACTION = 0.98
"""Busy fraction that counts as always busy. Alone it means little: one request keeps a replica busy."""

GROWTH_FACTOR = 1.3
"""Last third over middle third of the arrivals: a queue growing steadily from empty gives 5/3."""

GROWTH_PER_REPLICA = 1.0
"""Requests per replica by which the last third must exceed the middle third: less is no queue to warn of."""

GROWTH_SIGNIFICANCE = 0.01
"""Level of the rank test that the last third lies above the middle third, block by block."""

BLOCKS_PER_THIRD = 8
"""Blocks of the rank test: long enough that neighbours hardly depend on each other."""

FEWEST_BLOCKS = 5
"""With fewer blocks a third the rank test could never reach its level: 1 / C(8, 4) > 0.01."""

FEWEST_EXCEEDANCES = 10
"""Observations beyond a quantile needed to estimate it: their count then has a spread of about a third."""

LARGEST_WARM_UP_FRACTION = 0.5
"""Part of the run that the warm-up may take: beyond it, more is thrown away than measured."""


@dataclass(frozen=True)
class Flag:
    """A warning: name, what it is about ("run", "pool NAME" or "class NAME"), and the number and remedy."""

    name: str
    scope: str
    message: str


@dataclass(frozen=True)
class Growth:
    """Mean number of requests in the middle and in the last third of the arrivals, and whether it grows."""

    middle: float
    last: float
    grows: bool

    def __str__(self) -> str:
        """The two numbers in words."""
        return f"from {self.middle:.4g} to {self.last:.4g} between the middle and the last third of the arrivals"


def honesty_flags(
    requests: Table,
    timeline: Table,
    window: Window,
    load_factors: Mapping[str, float],
    quantiles: Sequence[float] = (0.5, 0.9, 0.95, 0.99),
) -> list[Flag]:
    """All flags of a run, worst first: see `saturated`, `not_converged` and `few_samples`."""
    codes, names = labels(requests, "class")
    offered = window.holds(numbers(requests, "arrival_s"))
    counts = np.bincount(codes[offered & (codes >= 0)], minlength=len(names))
    samples = {name: int(count) for name, count in zip(names, counts, strict=True)}
    return [
        *saturated(load_factors, timeline, window),
        *not_converged(timeline, window),
        *few_samples(samples, quantiles, window),
    ]


def saturated(load_factors: Mapping[str, float], timeline: Table, window: Window) -> list[Flag]:
    """Flag each pool that cannot keep up: offered load above capacity, or always busy with a growing queue.

    Parameters: `load_factors` [1] gives offered load / capacity by pool, where known; `timeline` holds the
    columns of `TIMELINE`; `window` [s]. A pool without load factor is judged by its timeline alone.
    """
    growths = queue_growth(timeline, window, "waiting")
    flags = []
    for pool in sorted({*load_factors, *growths}):
        load_factor = load_factors.get(pool, math.nan)
        busy = _busy_fraction(timeline, window, pool)
        growth = growths.get(pool)
        if load_factor > SATURATING_LOAD_FACTOR:
            message = (
                f"offered load is {load_factor:.4g} times the capacity: latencies grow with the run; "
                f"take at least {load_factor:.4g} times the replicas, or reduce the load"
            )
        elif busy >= FULLY_BUSY_FRACTION and growth is not None and growth.grows:
            message = (
                f"busy {busy:.1%} of the time while the requests waiting grew {growth}; "
                "add replicas, or reduce the load"
            )
        else:
            continue
        flags.append(Flag("saturated", f"pool {pool}", message))
    return flags


def not_converged(timeline: Table, window: Window) -> list[Flag]:
    """Flag each pool whose queue, or number of requests in the system, still grows when the arrivals end.

    Parameters: as `saturated`. The rule is that of `queue_growth`, first for the waiting requests, then for
    waiting and running ones together, which also shows a fleet that is still filling up. Traffic whose rate
    rises towards the end of the run is flagged as well: its latencies are not those of a steady state either.
    """
    waiting = queue_growth(timeline, window, "waiting")
    in_system = queue_growth(timeline, window, "waiting", "running")
    flags = []
    for pool, total in in_system.items():
        growth, what = (waiting[pool], "waiting") if waiting[pool].grows else (total, "in the system")
        if growth.grows:
            message = f"requests {what} grew {growth}: no steady state; run longer, or add replicas"
            flags.append(Flag("not_converged", f"pool {pool}", message))
    return flags


def few_samples(samples: Mapping[str, int], quantiles: Sequence[float], window: Window) -> list[Flag]:
    """Flag a warm-up that takes half of the run, and each class with too few requests for its quantiles.

    Parameters: `samples` counts the measured requests by class, over all replications; `quantiles` in (0, 1);
    `window` [s]. A quantile q needs n min(q, 1 - q) >= 10 requests beyond it.
    """
    flags = []
    fraction = window.warm_up_s / window.end_s
    if fraction >= LARGEST_WARM_UP_FRACTION:
        message = (
            f"the warm-up of {window.warm_up_s:g} s takes {fraction:.0%} of the {window.end_s:g} s run; "
            f"run for at least {2 * window.warm_up_s:g} s, or shorten the warm-up"
        )
        flags.append(Flag("few_samples", "run", message))
    for class_name, count in samples.items():
        needs = {quantile: _needed(quantile) for quantile in sorted(quantiles)}
        lacking = [quantile for quantile, needed in needs.items() if count < needed]
        if lacking:
            needed = max(needs[quantile] for quantile in lacking)
            listed = ", ".join(f"p{100 * quantile:g}" for quantile in lacking)
            remedy = f"lengthen the run {needed / count:.1f} times" if count else "lengthen the run"
            message = f"{count} requests measured, {needed} needed for {listed}; {remedy}, or add replications"
            flags.append(Flag("few_samples", f"class {class_name}", message))
    return flags


def queue_growth(timeline: Table, window: Window, *columns: str) -> dict[str, Growth]:
    """Growth of a number of requests from the middle to the last third of the arrivals [0, end_s], by pool.

    The series is the sum of `columns`, averaged over the replications. It grows if the mean of the last third
    exceeds that of the middle third both by the factor `GROWTH_FACTOR` and by `GROWTH_PER_REPLICA`, and the
    means of its blocks lie above those of the middle third by a one-sided Mann-Whitney rank test, which no
    single spike passes. With fewer than `FEWEST_BLOCKS` intervals a third there is no rank test. The warm-up
    belongs to the series: without it a queue that grew through a long warm-up would seem level.
    """
    codes, pool_names = labels(timeline, "pool")
    starts, ends = numbers(timeline, "interval_start_s"), numbers(timeline, "interval_end_s")
    inside = ends <= window.end_s * (1 + 1e-9)
    values = np.sum([numbers(timeline, column) for column in columns], axis=0)
    replicas = numbers(timeline, "replicas")
    growths = {}
    for code, pool in enumerate(pool_names):
        rows = inside & (codes == code)
        instants, place = np.unique(starts[rows], return_inverse=True)
        counts = np.maximum(np.bincount(place, minlength=instants.size), 1)
        series = np.bincount(place, weights=values[rows], minlength=instants.size) / counts
        middles = np.bincount(place, weights=(starts + ends)[rows] / 2, minlength=instants.size) / counts
        middle = series[(middles >= window.end_s / 3) & (middles < 2 * window.end_s / 3)]
        last = series[middles >= 2 * window.end_s / 3]
        size = float(np.mean(replicas[rows])) if rows.any() else 1.0
        growths[pool] = _growth(middle, last, size)
    return growths


def _growth(middle: Array, last: Array, replicas: float) -> Growth:
    """Growth from the series of the middle and the last third."""
    if not middle.size or not last.size:
        return Growth(math.nan, math.nan, False)
    before, after = float(np.mean(middle)), float(np.mean(last))
    grows = after > GROWTH_FACTOR * before and after - before > GROWTH_PER_REPLICA * max(replicas, 1.0)
    blocks = min(BLOCKS_PER_THIRD, middle.size, last.size)
    if grows and blocks >= FEWEST_BLOCKS:
        late, early = (np.array([part.mean() for part in np.array_split(third, blocks)]) for third in (last, middle))
        from scipy import stats  # slow to import, and needed only when a run is over

        grows = bool(stats.mannwhitneyu(late, early, alternative="greater").pvalue < GROWTH_SIGNIFICANCE)
    return Growth(before, after, grows)


def _busy_fraction(timeline: Table, window: Window, pool: str) -> float:
    """Mean busy fraction of a pool in the window, NaN if the timeline does not have it."""
    codes, pool_names = labels(timeline, "pool")
    if pool not in pool_names:
        return math.nan
    rows = codes == pool_names.index(pool)
    starts, ends = numbers(timeline, "interval_start_s")[rows], numbers(timeline, "interval_end_s")[rows]
    weights = window.overlap_s(starts, ends)
    return float(np.average(numbers(timeline, "busy_fraction")[rows], weights=weights)) if weights.sum() else math.nan


def _needed(quantile: float) -> int:
    """Fewest observations with enough of them beyond the quantile."""
    return math.ceil(FEWEST_EXCEEDANCES / min(quantile, 1 - quantile) * (1 - 1e-9))
