"""What a service level came to, and in words why one cannot be met."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from sim.results.intervals import Estimate, sectioned_quantile_interval
from sim.serving.deployment import NANOSECONDS
from sim.serving.validity import Validity
from sim.specs.serving_stack import BandMetric
from sim.specs.workload import ServiceLevelSpec

FloatArray = npt.NDArray[np.float64]

SECTIONS = 10
"""Sections of a run, as in the summary of a simulation."""


@dataclass(frozen=True)
class LevelReached:
    """A service level and the latency that was reached."""

    class_name: str
    """Traffic class."""

    metric: str
    """`ttft`, `tpot` or `e2e`."""

    quantile: float
    """Share of the requests that must keep the limit [1]."""

    limit_s: float
    """Limit [s]."""

    value_s: float
    """Quantile that was reached [s]; infinite where too many requests were never served."""

    low_s: float
    """Lower end of its interval [s]; not a number where there are too few requests."""

    high_s: float
    """Upper end of its interval [s]."""

    samples: int
    """Requests behind it."""

    unserved: int
    """Of these, requests that were never served to the end."""

    model_low_s: float = math.nan
    """Lower end of the 80% band that errors of the step-time model leave [s]; not a number where none is known."""

    model_high_s: float = math.nan
    """Upper end of that band [s]."""

    past_the_knee: bool = False
    """Whether the pools that serve it are beyond their capacity, so that the latency hangs on how long a run lasts."""

    @classmethod
    def of(cls, class_name: str, level: ServiceLevelSpec, estimate: Estimate, unserved: int) -> Self:
        """Return the level with its estimate."""
        return cls(
            class_name,
            level.metric,
            level.quantile,
            level.limit,
            estimate.value,
            estimate.low,
            estimate.high,
            estimate.samples,
            unserved,
        )

    def faster(self, pace: float) -> Self:
        """Return the level of a fleet all of whose steps, requests and limits go `pace` times faster (time scaling)."""
        times = ("limit_s", "value_s", "low_s", "high_s", "model_low_s", "model_high_s")
        return dataclasses.replace(self, **{name: getattr(self, name) / pace for name in times})

    @property
    def met(self) -> bool:
        """Return whether the quantile keeps the limit; nothing is met that was not measured."""
        return self.value_s <= self.limit_s

    @property
    def surely_met(self) -> bool:
        """Return whether all of the interval keeps the limit."""
        return self.high_s <= self.limit_s

    @property
    def met_in_any_case(self) -> bool | None:
        """Return whether the level is kept, or missed, all over the model's band: none where its ends disagree."""
        if math.isnan(self.model_high_s) or (self.model_low_s <= self.limit_s < self.model_high_s):
            return None
        return self.model_high_s <= self.limit_s

    @property
    def surely_missed(self) -> bool:
        """Return whether none of the interval keeps the limit."""
        return self.low_s > self.limit_s

    @property
    def tightness(self) -> float:
        """Return the latency over its limit [1]; infinite where nothing was measured."""
        return math.inf if self.samples == 0 else self.value_s / self.limit_s

    @property
    def label(self) -> str:
        """Return class, metric and quantile, as in `chat TTFT p99`."""
        return f"{self.class_name} {self.metric.upper()} p{100 * self.quantile:g}"

    def in_words(self) -> str:
        """Return what was reached and what is allowed."""
        if self.samples == 0:
            return f"{self.label}: no such request was measured; lengthen the run or raise its rate"
        if self.value_s == math.inf:
            return (
                f"{self.label}: {self.unserved} of {self.samples} requests are never served, "
                f"more than the {1 - self.quantile:.2g} that the level leaves out"
            )
        return f"{self.label} is {seconds(self.value_s)}, above the limit of {seconds(self.limit_s)}"


def with_model_error(level: LevelReached, pools: Iterable[Validity], load_factor: float = math.nan) -> LevelReached:
    """Return a level with the widest band of the pools that serve it; past the knee none.

    Parameters
    ----------
    level : LevelReached
        What was reached.
    pools : iterable of Validity
        Validity of every pool that serves it.
    load_factor : float
        Offered load over their capacity [1]; not a number where it is not known.

    """
    if load_factor > 1.0:
        return dataclasses.replace(level, past_the_knee=True, model_low_s=math.nan, model_high_s=math.nan)
    bands = [each.bands.get(METRICS[level.metric]) for each in pools]
    known = [each for each in bands if each is not None]
    if not known or len(known) < len(bands):
        return level
    low, high = min(each.low for each in known), max(each.high for each in known)
    return dataclasses.replace(level, model_low_s=level.value_s * low, model_high_s=level.value_s * high)


METRICS: Mapping[str, BandMetric] = {"ttft": "ttft", "tpot": "tpot", "e2e": "e2e"}
"""Metric of a level -> its error band."""


def worst(levels: Sequence[LevelReached]) -> LevelReached:
    """Return the level whose latency is largest relative to its limit."""
    return max(levels, key=lambda level: level.tightness)


def seconds(value_s: float) -> str:
    """Return a time in words: ms below one second."""
    return f"{1000 * value_s:.3g} ms" if value_s < 1.0 else f"{value_s:.4g} s"


def reached_levels(
    requests: npt.NDArray[np.void],
    class_name: str,
    levels: Sequence[ServiceLevelSpec],
    overhead_s: float = 0.0,
    rows: npt.NDArray[np.intp] | None = None,
) -> tuple[LevelReached, ...]:
    """Return what the service levels of a class come to over its requests, with intervals by sections.

    Parameters
    ----------
    requests : ndarray of dtype REQUEST, shape (n,)
        Requests as the engine leaves them.
    class_name : str
        Traffic class.
    levels : sequence of ServiceLevelSpec
        Its service levels.
    overhead_s : float
        Host time of a request outside the engine's steps [s].
    rows : ndarray of int, optional
        Those of the class that count; none means all.

    """
    rows = np.arange(len(requests)) if rows is None else rows
    arrival_ns = requests["arrival_ns"][rows]
    if (arrival_ns[1:] < arrival_ns[:-1]).any():
        rows = rows[np.argsort(arrival_ns, kind="stable")]
    found = []
    for level in levels:
        values = latencies(requests, level.metric, overhead_s, rows)
        sections = np.array_split(values, SECTIONS) if values.size >= 2 * SECTIONS else [values]
        estimate = sectioned_quantile_interval(sections, level.quantile, method="sectioning")
        found.append(LevelReached.of(class_name, level, estimate, int(np.isinf(values).sum())))
    return tuple(found)


def latencies(
    requests: npt.NDArray[np.void], metric: str, overhead_s: float = 0.0, rows: npt.NDArray[np.intp] | None = None
) -> FloatArray:
    """Return a latency of some requests of a run [s]; infinite where it never came, without answers of one token.

    Parameters
    ----------
    requests : ndarray of dtype REQUEST, shape (n,)
        Requests as the engine leaves them.
    metric : str
        `ttft`, `tpot` or `e2e`, as `sim.results.metrics` defines them.
    overhead_s : float
        Host time of a request outside the engine's steps [s].
    rows : ndarray of int, optional
        Those that count; none means all.

    """
    chosen = slice(None) if rows is None else rows
    if metric == "tpot":
        output = requests["output_tokens"][chosen]
        first, finished = requests["first_token_ns"][chosen], requests["finished_ns"][chosen]
        more = output > 1
        spacing = (finished[more] - first[more]) / NANOSECONDS / (output[more] - 1)
        return np.where(finished[more] >= 0, spacing, np.inf)
    end = requests["first_token_ns" if metric == "ttft" else "finished_ns"][chosen]
    return np.where(end >= 0, (end - requests["arrival_ns"][chosen]) / NANOSECONDS + overhead_s, np.inf)
