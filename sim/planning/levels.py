"""What a service level came to, and in words why one cannot be met."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from sim.results.intervals import Estimate
from sim.specs.workload import ServiceLevelSpec


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

    @property
    def met(self) -> bool:
        """Return whether the quantile keeps the limit; nothing is met that was not measured."""
        return self.value_s <= self.limit_s

    @property
    def surely_met(self) -> bool:
        """Return whether all of the interval keeps the limit."""
        return self.high_s <= self.limit_s

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


def worst(levels: Sequence[LevelReached]) -> LevelReached:
    """Return the level whose latency is largest relative to its limit."""
    return max(levels, key=lambda level: level.tightness)


def seconds(value_s: float) -> str:
    """Return a time in words: ms below one second."""
    return f"{1000 * value_s:.3g} ms" if value_s < 1.0 else f"{value_s:.4g} s"
