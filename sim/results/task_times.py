"""How long tasks take, those that the end of the run cuts off included: a product-limit estimate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.results.intervals import Estimate, mean_interval
from sim.results.metrics import Array, Mask
from sim.results.observed import Blocks, Codes, ObservedRequests
from sim.results.tables import OUTCOMES

_FEWEST = 20


@dataclass(frozen=True)
class TaskTimes:
    """Tasks that began in the window, each of shape (tasks,)."""

    observed_s: Array
    """From the arrival of the first call to the end of the last one, or to the end of the window [s]."""

    ended: Mask
    """Tasks whose last call finished in the window; after it no call is sent, so of others the time is not known."""

    finished: Mask
    """Tasks whose calls all finished, after the window as well."""

    failed: Mask
    """Tasks of which a call was rejected or given up: they take infinitely long."""

    blocks: Codes
    """Block of the run in which the task began."""

    def counts(self) -> dict[str, float]:
        """Return tasks by what became of them; they add up to those offered."""
        finished, failed = int(self.finished.sum()), int(self.failed.sum())
        size = self.observed_s.size
        return {"offered": size, "finished": finished, "failed": failed, "unfinished": size - finished - failed}

    def quantile(self, quantile: float, blocks: Blocks) -> Estimate:
        """Return a quantile of the task time, with an interval from those of the blocks.

        Tasks that are still going on when the arrivals end count as longer than they were seen to be: the smallest time
        at which the product-limit estimate of the survival falls to 1 - quantile, infinite where it never does (Kaplan
        and Meier, Nonparametric estimation from incomplete observations, JASA 53, 1958).
        """
        size = self.observed_s.size
        if size == 0:
            return Estimate(math.nan, math.nan, math.nan, 0, blocks.method, "no task began in the window")
        value = self._at(quantile, np.ones(size, np.bool_))
        note = ""
        counts = self.counts()
        if math.isinf(value):
            going_on = int((~self.ended & ~self.failed).sum())
            still = f"{going_on} of {size} tasks had not ended when the arrivals did"
            note = f"{counts['failed']:.0f} of {size} tasks failed; {still}" if counts["failed"] else still
        sizes = np.bincount(self.blocks, minlength=blocks.count)
        low, high = math.nan, math.nan
        if (sizes >= _FEWEST).all() and blocks.count > 1 and math.isfinite(value):
            parts = np.array([self._at(quantile, self.blocks == block) for block in range(blocks.count)])
            if np.isfinite(parts).all():
                around = mean_interval(parts, blocks.confidence)
                half = around.high - around.value
                low, high = max(value - half, 0.0), value + half
        return Estimate(value, low, high, size, "product limit", note)

    def _at(self, quantile: float, chosen: Mask) -> float:
        times = np.where(self.failed, np.inf, self.observed_s)[chosen]
        ended = (self.ended | self.failed)[chosen]
        # of ties, ends come before tasks that are cut off
        order = np.lexsort((~ended, times))
        times, ended = times[order], ended[order]
        at_risk = times.size - np.arange(times.size)
        survival = np.cumprod(np.where(ended, 1.0 - 1.0 / at_risk, 1.0))
        reached = np.flatnonzero(survival <= 1.0 - quantile + 1e-12)
        return float(times[reached[0]]) if reached.size else math.inf


def task_times(observed: ObservedRequests, members: Mask, end_s: float) -> TaskTimes:
    """Return the times of the tasks of a class whose first call arrives in the window, which ends at `end_s` [s]."""
    rows = np.flatnonzero(members & (observed.sessions >= 0))
    replication, session = observed.replications[rows], observed.sessions[rows].astype(np.int64)
    key = replication * (int(session.max(initial=0)) + 1) + session
    first = (observed.session_call[rows] == 1) & observed.offered[rows]
    begun = np.unique(key[first])
    kept = np.isin(key, begun)
    rows, place = rows[kept], np.searchsorted(begun, key[kept])
    begins = np.full(begun.size, np.inf)
    np.minimum.at(begins, place, observed.arrivals_s[rows])
    finishes = observed.finishes_s[rows]
    done = np.isfinite(finishes)
    ends = np.full(begun.size, -np.inf)
    np.maximum.at(ends, place[done], finishes[done])
    finished_calls = np.bincount(place[done], minlength=begun.size)
    calls = np.zeros(begun.size, np.int64)
    calls[place] = observed.session_calls[rows]
    lost = np.isin(observed.outcomes[rows], [OUTCOMES.index(name) for name in ("rejected", "timed_out")])
    failed: npt.NDArray[np.bool_] = np.bincount(place[lost], minlength=begun.size) > 0
    finished = ~failed & (finished_calls == calls)
    blocks = np.zeros(begun.size, np.intp)
    starts = observed.session_call[rows] == 1
    blocks[place[starts]] = observed.arrival_blocks[rows[starts]]
    ended = finished & (ends < end_s)
    seen = np.where(ended, ends, end_s) - begins
    return TaskTimes(seen, ended, finished, failed, blocks)
