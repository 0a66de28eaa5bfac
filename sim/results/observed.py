"""A run cut into its independent parts: what can be counted in each replication or time batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.results.intervals import Estimate, ratio_interval
from sim.results.metrics import (
    LATENCIES,
    TOKENS_PER_MILLION,
    Array,
    Mask,
    ServiceLevel,
    TokenPrices,
    Window,
    meets_service_levels,
    outcome_codes,
)
from sim.results.tables import ALL, OUTCOMES, Table, labels, numbers

Codes = npt.NDArray[np.intp]
Whole = npt.NDArray[np.int32]

_SESSION_COLUMNS = {"sessions": "session", "session_call": "session_call", "session_calls": "session_calls"}


@dataclass(frozen=True)
class Blocks:
    """The independent parts of a run: its replications, or time batches of the only one."""

    window: Window
    count: int
    replicated: bool
    confidence: float

    @property
    def duration_s(self) -> float:
        """Measured time of one block [s]."""
        return self.window.duration_s if self.replicated else self.window.duration_s / self.count

    @property
    def method(self) -> str:
        """Label of the intervals of means, rates and ratios."""
        return "replications" if self.replicated else "batch means"

    def of(self, replications: Codes, times_s: Array) -> Codes:
        """Block of each observation, shape (rows,); arbitrary outside the window, where nothing counts."""
        if self.replicated:
            return replications
        place = np.nan_to_num((times_s - self.window.warm_up_s) / self.duration_s, posinf=0.0, neginf=0.0)
        return np.clip(place, 0, self.count - 1).astype(np.intp)

    def total(self, blocks: Codes, counted: Mask, weights: Array | None = None) -> Array:
        """Sum of weights, or count, of the counted observations in each block, shape (count,)."""
        chosen = None if weights is None else weights[counted]
        return np.bincount(blocks[counted], weights=chosen, minlength=self.count).astype(np.float64)

    def rate(self, totals: Array) -> Estimate:
        """Totals per block as a rate [1/s]."""
        return self.ratio(totals, np.full(self.count, self.duration_s))

    def ratio(self, numerators: Array, denominators: Array) -> Estimate:
        """Ratio of block totals that are never negative."""
        estimate = ratio_interval(numerators, denominators, self.confidence, self.method)
        return estimate.within(0.0, math.inf)

    def sections(self, replications: Codes, values: Array) -> list[Array]:
        """Values in order of arrival, cut by replication or into equal runs; whole if there are too few."""
        if self.replicated:
            return [values[replications == block] for block in range(self.count)]
        return list(np.array_split(values, self.count)) if values.size >= 2 * self.count else [values]


@dataclass(frozen=True)
class ObservedRequests:
    """Columns of the requests in order of arrival, each of shape (rows,), with what is measured of them."""

    classes: Codes
    class_names: list[str]
    pools: Codes
    pool_names: list[str]
    outcomes: Codes
    replications: Codes
    arrival_blocks: Codes
    finish_blocks: Codes
    offered: Mask
    completed: Mask
    good: Mask
    arrivals_s: Array
    finishes_s: Array
    ended_s: float
    sessions: Whole
    session_call: Whole
    session_calls: Whole
    prompt_tokens: Array
    cached_tokens: Array
    output_tokens: Array
    latencies: dict[str, Array]

    def members(self, class_name: str) -> Mask:
        """Requests of a class; of all classes for "all"."""
        if class_name == ALL:
            return np.ones(self.classes.size, dtype=np.bool_)
        if class_name not in self.class_names:
            return np.zeros(self.classes.size, dtype=np.bool_)
        return np.asarray(self.classes == self.class_names.index(class_name))


def token_costs_usd(observed: ObservedRequests, prices: TokenPrices) -> Array:
    """What each request would cost at list prices [USD], shape (rows,)."""
    computed = observed.prompt_tokens - observed.cached_tokens
    usd = computed * prices.input + observed.cached_tokens * prices.cached_input
    return np.asarray((usd + observed.output_tokens * prices.output) / TOKENS_PER_MILLION)


def observe(
    requests: Table,
    replications: Codes,
    service_levels: Sequence[ServiceLevel],
    blocks: Blocks,
    ended_s: float | None = None,
) -> ObservedRequests:
    """Columns of the requests in order of arrival.

    Parameters: `replications` of shape (rows,) count from 0; `ended_s` [s] is when the run ended, none for
    the end of the window. Raises ValueError if a class or pool is named
    "all", an outcome is unknown, or an outcome and its time contradict each other.
    """
    arrivals = numbers(requests, "arrival_s")
    order = np.argsort(arrivals, kind="stable")
    arrivals, finishes = arrivals[order], numbers(requests, "finished_s")[order]
    outcomes = outcome_codes(requests)[order]
    contradictory = np.isfinite(finishes) != (outcomes == OUTCOMES.index("finished"))
    if contradictory.any():
        raise ValueError(
            f"{int(contradictory.sum())} requests contradict themselves: finished_s belongs to the outcome "
            "finished and to no other"
        )
    latencies = {metric: latency(requests) for metric, latency in LATENCIES.items()}
    classes, class_names = labels(requests, "class")
    pools, pool_names = labels(requests, "pool")
    for kind, names in (("class", class_names), ("pool", pool_names)):
        if ALL in names:
            raise ValueError(f"a {kind} is named {ALL!r}, which stands for everything: rename it")
    return ObservedRequests(
        classes=classes[order],
        class_names=class_names,
        pools=pools[order],
        pool_names=pool_names,
        outcomes=outcomes,
        replications=replications[order],
        arrival_blocks=blocks.of(replications[order], arrivals),
        finish_blocks=blocks.of(replications[order], finishes),
        offered=blocks.window.holds(arrivals),
        completed=blocks.window.holds(finishes),
        good=meets_service_levels(requests, service_levels, latencies)[order],
        arrivals_s=arrivals,
        finishes_s=finishes,
        ended_s=blocks.window.end_s if ended_s is None else ended_s,
        **{name: numbers(requests, column).astype(np.int32)[order] for name, column in _SESSION_COLUMNS.items()},
        prompt_tokens=numbers(requests, "prompt_tokens")[order],
        cached_tokens=numbers(requests, "cached_tokens")[order],
        output_tokens=numbers(requests, "output_tokens")[order],
        latencies={metric: values[order] for metric, values in latencies.items()},
    )


def scenario_of(requests: Table) -> str:
    """The only scenario of the requests; raises ValueError if there is none or more than one."""
    _, names = labels(requests, "scenario_id")
    if len(names) != 1:
        listed = f": {', '.join(names)}" if names else ""
        raise ValueError(f"requests of exactly one scenario are needed, not of {len(names)}{listed}")
    return names[0]
