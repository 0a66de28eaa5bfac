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
from sim.serving.validity import Validity
from sim.specs.serving_stack import BandClass

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

NEAR_THE_KNEE = 0.9
"""Load over capacity from which a pool without an error band counts as near its knee: waiting times are then ten times
those of an idle server, and twice that at 0.95."""

BEYOND_LENGTH_QUANTILE = 0.95
"""Quantile of prompt and answer that must be within the measured lengths."""

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
    validity: Mapping[str, Validity] | None = None,
) -> list[Flag]:
    """All flags of a run, worst first: see `saturated`, `near_knee`, `not_converged` and so on in this file."""
    codes, names = labels(requests, "class")
    offered = window.holds(numbers(requests, "arrival_s"))
    counts = np.bincount(codes[offered & (codes >= 0)], minlength=len(names))
    samples = {name: int(count) for name, count in zip(names, counts, strict=True)}
    beyond = saturated(load_factors, timeline, window)
    known = validity or {}
    return [
        *beyond,
        *near_knee(load_factors, known, [flag.scope for flag in beyond]),
        *not_converged(timeline, window),
        *outside_calibration(requests, timeline, window, known),
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
                f"offered load is {load_factor:.4g} times the capacity, {load_factor - 1:.0%} past the knee: "
                f"latencies grow with the run; take at least {load_factor:.4g} times the replicas, or reduce the load"
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


def near_knee(
    load_factors: Mapping[str, float], validity: Mapping[str, Validity], beyond: Sequence[str] = ()
) -> list[Flag]:
    """Flag each pool that may be past its knee within the error of its capacity, with the distance to the knee.

    The capacity of a pool lies, in four of five measured cases, between `low` and `high` times the predicted one:
    where the load exceeds `low` times the capacity, a real fleet may not keep up although the simulated one does.

    Parameters: `load_factors` [1] gives offered load / capacity by pool; `validity` the bands by pool; `beyond` names
    scopes that are saturated already and flagged as such.
    """
    flags = []
    for pool, load_factor in load_factors.items():
        judged = validity.get(pool)
        band = None if judged is None else judged.bands.get("throughput")
        threshold = NEAR_THE_KNEE if band is None else min(band.low, NEAR_THE_KNEE)
        if load_factor <= threshold or f"pool {pool}" in beyond or load_factor > SATURATING_LOAD_FACTOR:
            continue
        room = 1 / load_factor - 1
        message = f"offered load is {load_factor:.3g} of the capacity, which leaves {room:.0%} more to the knee"
        if band is not None:
            message += (
                f"; measured capacities were {band.low:.3g} to {band.high:.3g} of predicted ones in four of five cases"
            )
            if load_factor > band.low:
                needed = load_factor / band.low
                message += f", so it may be past it: {needed:.3g} times the replicas would be safe from that"
        flags.append(Flag("near_knee", f"pool {pool}", message))
    return flags


def outside_calibration(
    requests: Table, timeline: Table, window: Window, validity: Mapping[str, Validity]
) -> list[Flag]:
    """Flag each pool that no measured point is like: accelerator, kind of model, format, batch or length.

    Parameters: `requests` and `timeline` as in `honesty_flags`; `window` [s]; `validity` by pool.
    """
    pools, names = labels(requests, "pool")
    tokens = numbers(requests, "prompt_tokens") + numbers(requests, "output_tokens")
    flags = []
    for pool, judged in validity.items():
        reasons = list(judged.outside)
        running = _most_in_window(timeline, window, pool, "running", per_replica=True)
        if judged.most_sequences is not None and running > judged.most_sequences:
            reasons.append(
                f"{running:.0f} sequences on a replica at a time, measured were at most {judged.most_sequences:.0f}"
            )
        held = _most_in_window(timeline, window, pool, "kv_used_fraction", per_replica=False)
        if judged.most_kv_fraction is not None and held > judged.most_kv_fraction:
            reasons.append(
                f"{held:.0%} of KV memory in use, measured steps had at most {judged.most_kv_fraction:.0%} of it"
            )
        mine = tokens[pools == names.index(pool)] if pool in names else tokens[:0]
        if judged.most_tokens is not None and mine.size:
            longest = float(np.quantile(mine, BEYOND_LENGTH_QUANTILE))
            if longest > judged.most_tokens:
                reasons.append(
                    f"one of {1 / (1 - BEYOND_LENGTH_QUANTILE):.0f} requests has {longest:,.0f} tokens or more, "
                    f"measured were at most {judged.most_tokens:,.0f}"
                )
        if reasons:
            bands = "its error is not known" if judged.source else _KNOWN[judged.known]
            flags.append(Flag("outside_calibration", f"pool {pool}", "; ".join(reasons) + f" ({bands})"))
    return flags


_KNOWN: Mapping[BandClass, str] = {
    "calibrated": "its error bands are those of points inside",
    "transferred": "its error bands are those of accelerators left out of the fit",
    "specification": "its error bands are twice, in logarithms, those of accelerators left out of the fit",
}


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

    The series is the sum of `columns`, averaged over the replications; where the replicas that serve change, it is what
    there would be at their mean, for more replicas hold more requests. It grows if the mean of the last third
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
        size = float(np.mean(replicas[rows])) if rows.any() else 1.0
        alike = np.where(replicas > 0.0, size / np.maximum(replicas, 1e-9), 1.0)
        instants, place = np.unique(starts[rows], return_inverse=True)
        counts = np.maximum(np.bincount(place, minlength=instants.size), 1)
        series = np.bincount(place, weights=(values * alike)[rows], minlength=instants.size) / counts
        middles = np.bincount(place, weights=(starts + ends)[rows] / 2, minlength=instants.size) / counts
        middle = series[(middles >= window.end_s / 3) & (middles < 2 * window.end_s / 3)]
        last = series[middles >= 2 * window.end_s / 3]
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


def _most_in_window(timeline: Table, window: Window, pool: str, column: str, per_replica: bool) -> float:
    """Largest mean over an interval of the window of a column of a pool; 0 if there is none."""
    codes, pool_names = labels(timeline, "pool")
    if pool not in pool_names:
        return 0.0
    rows = codes == pool_names.index(pool)
    starts, ends = numbers(timeline, "interval_start_s")[rows], numbers(timeline, "interval_end_s")[rows]
    inside = window.overlap_s(starts, ends) > 0
    replicas = np.maximum(numbers(timeline, "replicas")[rows][inside], 1e-9) if per_replica else 1.0
    return float((numbers(timeline, column)[rows][inside] / replicas).max(initial=0.0))


def _needed(quantile: float) -> int:
    """Fewest observations with enough of them beyond the quantile."""
    return math.ceil(FEWEST_EXCEEDANCES / min(quantile, 1 - quantile) * (1 - 1e-9))
