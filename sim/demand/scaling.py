"""More or less of a recorded trace without making its bursts longer, shorter or smoother than they were.

Compressing time (`Trace.scaled`) makes bursts shorter, and a coin for every request makes them Poisson. Here whole
sessions are left out, and growth adds the trace once more at another time of its record: independent users who behave
alike. The dispersion of the counts stays what it was where the copies do not overlap in their bursts.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sim.demand.streams import stream
from sim.demand.trace import Trace, merge_traces


def thinned(trace: Trace, share: float, seed: int) -> Trace:
    """Return a trace in which each session stays whole with a probability; a smaller share keeps a part of the same.

    Parameters
    ----------
    trace : Trace
        Requests; those without a session are sessions of their own, but follow-ups go with what they follow.
    share : float
        Probability to stay, in [0, 1].
    seed : int
        Seed of the choice.

    Raises
    ------
    ValueError
        The share lies outside [0, 1].

    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share lies in [0, 1], got {share}")
    groups = _groups(trace)
    drawn = stream(seed, "thinned").random(int(groups.max(initial=-1)) + 1)
    rows = np.flatnonzero(drawn[groups] < share)
    return trace.rows(rows)


def grown(trace: Trace, factor: float, seed: int) -> Trace:
    """Return a trace of so many times the sessions: copies moved around the record at random, the last one thinned.

    Parameters
    ----------
    trace : Trace
        Requests.
    factor : float
        Growth, not negative; below 1 the trace is only thinned [1].
    seed : int
        Seed of the moves and of the choice.

    Raises
    ------
    ValueError
        The factor is negative or not finite.

    """
    if not (math.isfinite(factor) and factor >= 0.0):
        raise ValueError(f"factor must be finite and not negative, got {factor}")
    whole = int(factor)
    copies = [trace if number == 0 else _moved(trace, seed, number) for number in range(whole)]
    rest = factor - whole
    if rest > 0.0 or not copies:
        source = trace if whole == 0 else _moved(trace, seed, whole)
        copies.append(thinned(source, rest, seed))
    return merge_traces(copies, common_prefixes=True)


def _moved(trace: Trace, seed: int, number: int) -> Trace:
    """Return the trace begun at another instant of its record, what comes before it put at the end."""
    if not trace.requests:
        return trace
    length = int(trace.arrival_ns[-1]) + 1
    start = int(stream(seed, "moved", number).integers(length))
    arrival_ns = (trace.arrival_ns - start) % length
    # follow-ups have the arrival of their session's first request, so they move with it
    return replace(trace, arrival_ns=arrival_ns).rows(np.argsort(arrival_ns, kind="stable"))


def _groups(trace: Trace) -> npt.NDArray[np.int64]:
    """Return a number from 0 for what stays together: sessions, else chains of follow-ups, else single requests."""
    if trace.session is not None:
        return trace.session_groups()
    root = np.arange(trace.requests)
    if trace.follows is None:
        return root
    root = np.where(trace.follows < 0, root, trace.follows)
    while not np.array_equal(root[root], root):
        root = root[root]
    return np.unique(root, return_inverse=True)[1].astype(np.int64)
