"""Sessions of a workload from recorded ones: calls, contexts, gaps and compactions, by kinds of sessions where needed.

The simplest description comes first: one kind of session, new tokens by the number of the call. Where its contexts are
too far from the recorded ones, new tokens go by the context that they are added to, and sessions are told apart by the
context with which they begin, as those that resume an old one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from sim.demand.quantile_tables import DERIVED, MEASURED, OURS, quantile_table
from sim.demand.session_tables import session_tables
from sim.demand.sessions import draw_sessions
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.workload import WorkloadSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SLACK_TOKENS = 64
CLOSE_ENOUGH = 0.04
"""KS distance of the contexts at which a description is not refined any more."""

_CORRELATED = 0.1
_DROP = 0.1
_COMPACTABLE_TOKENS = 20_000.0
_CALL_BANDS = np.array([2, 3, 9, 33])
_LEAST_STEPS = 100
_LEAST_SECOND = 20
_LEAST_SESSIONS = 15
_MOST_KINDS = 4
_CONTEXT_BANDS = 6
_SESSIONS_DRAWN = 4000


class SessionSteps(NamedTuple):
    """Requests of sessions, each with the one before it in its session."""

    first: npt.NDArray[np.intp]
    """Rows of the first requests."""

    earlier: npt.NDArray[np.intp]
    """Rows that are followed."""

    later: npt.NDArray[np.intp]
    """Rows that follow them, in the same order."""

    gap_s: FloatArray
    """Time between the two: after the end where the trace is a closed loop, else from start to start [s]."""


def session_steps(trace: Trace) -> SessionSteps:
    """Return how the requests of each session come one after the other; all are first where sessions are unknown."""
    if trace.session is None:
        nothing = np.empty(0, np.intp)
        return SessionSteps(np.arange(trace.requests), nothing, nothing, np.empty(0))
    if trace.follows is not None and trace.gap_ns is not None:
        later = np.flatnonzero(trace.follows >= 0)
        gap_s = trace.gap_ns[later] / NANOSECONDS
        return SessionSteps(np.flatnonzero(trace.follows < 0), trace.follows[later], later, gap_s)
    session = trace.session_groups()
    order = np.argsort(session, kind="stable")
    joined = np.diff(session[order]) == 0
    earlier, later = order[:-1][joined], order[1:][joined]
    first = np.sort(order[np.concatenate(([True], ~joined))])
    return SessionSteps(first, earlier, later, (trace.arrival_ns[later] - trace.arrival_ns[earlier]) / NANOSECONDS)


def contexts_accumulate(trace: Trace, steps: SessionSteps) -> bool:
    """Return whether at least 80% of the follow-ups hold all of the context before them, or a compacted one.

    Where they do not, as in retrieval with new passages in every turn, sessions are no growing contexts.
    """
    if not steps.later.size:
        return False
    kept = trace.prompt_tokens[steps.earlier] + trace.output_tokens[steps.earlier]
    grown = trace.prompt_tokens[steps.later] - kept
    holds = (grown >= -SLACK_TOKENS - 0.01 * kept) | ((grown < -0.3 * kept) & (kept >= 40_000.0))
    return bool(holds.mean() >= 0.8)


def with_sessions(document: dict[str, Any], trace: Trace, steps: SessionSteps) -> dict[str, Any]:
    """Return a workload with the sessions of a trace: the simplest description that is close, else the closest.

    Parameters
    ----------
    document : dict
        The workload without sessions, as YAML holds it.
    trace : Trace
        Recorded requests whose contexts accumulate.
    steps : SessionSteps
        Its steps.

    """
    grown = trace.prompt_tokens[steps.later] - (trace.prompt_tokens + trace.output_tokens)[steps.earlier]
    rows = steps.later[grown > 0]
    correlation = (
        float(stats.spearmanr(grown[grown > 0], trace.output_tokens[rows]).statistic) if rows.size > 2 else 0.0
    )
    if abs(correlation) > _CORRELATED:
        value = round(float(np.clip(correlation, -0.99, 0.99)), 3)
        document = document | {"rank_correlation": {"value": value} | MEASURED}
    closest: tuple[float, dict[str, Any]] | None = None
    for changes in _descriptions(trace, steps):
        described = document | changes
        distance = _distance(described, trace)
        if closest is None or distance < closest[0]:
            closest = distance, described
        if distance <= CLOSE_ENOUGH:
            break
    assert closest is not None, "there is at least one description"
    return closest[1]


def _descriptions(trace: Trace, steps: SessionSteps) -> Iterator[dict[str, Any]]:
    groups = trace.session_groups()
    begin = np.zeros(int(groups.max(initial=-1)) + 1, np.int64)
    begin[groups[steps.first[::-1]]] = trace.prompt_tokens[steps.first[::-1]]
    everything = np.zeros(begin.size, np.int64)
    yield _described(trace, steps, groups, everything, by_context=False)
    yield _described(trace, steps, groups, everything, by_context=True)
    for kinds in range(2, _MOST_KINDS + 1):
        edges = kind_edges(begin[groups], trace.prompt_tokens, groups, kinds)
        if len(edges) == kinds - 1:
            yield _described(trace, steps, groups, np.searchsorted(edges, begin, side="right"), by_context=True)


def kind_edges(begin: IntArray, context: IntArray, groups: IntArray, kinds: int) -> FloatArray:
    """Return the first contexts at which sessions are best told apart: a regression tree of the logarithm of contexts.

    Each split takes away most of the variance of the contexts within kinds (Breiman and others, Classification and
    regression trees, 1984, section 8.3); no kind has fewer than 15 sessions or 3% of them.

    Parameters
    ----------
    begin, context, groups : ndarray of int, shape (requests,)
        Context with which the session of a request begins, its own context, and its session.
    kinds : int
        Number of kinds.

    """
    _, first = np.unique(groups, return_index=True)
    count = np.bincount(groups).astype(np.float64)
    logs = np.log(np.maximum(context, 1))
    total, square = (np.bincount(groups, weights=weights) for weights in (logs, logs**2))
    starts = begin[first]
    order = np.argsort(starts, kind="stable")
    sorted_starts, fewest = starts[order], max(_LEAST_SESSIONS, int(0.03 * starts.size))
    sums = [np.concatenate(([0.0], np.cumsum(each[order]))) for each in (count, total, square)]

    def spread(low: int, high: int) -> float:
        calls, mean, squares = (each[high] - each[low] for each in sums)
        return float(squares - mean**2 / calls)

    bounds = [0, starts.size]
    while len(bounds) < kinds + 1:
        best: tuple[float, int] | None = None
        for low, high in itertools.pairwise(bounds):
            for place in range(low + fewest, high - fewest + 1):
                if sorted_starts[place - 1] == sorted_starts[place]:
                    continue
                gain = spread(low, high) - spread(low, place) - spread(place, high)
                if best is None or gain > best[0]:
                    best = gain, place
        if best is None:
            break
        bounds = sorted([*bounds, best[1]])
    return np.array([sorted_starts[place] for place in bounds[1:-1]], dtype=np.float64)


def _described(trace: Trace, steps: SessionSteps, groups: IntArray, kind: IntArray, by_context: bool) -> dict[str, Any]:
    """Return first prompts and sessions, of kinds by session; the most frequent kind is described first."""
    sizes = np.bincount(kind)
    ranked = np.argsort(-sizes, kind="stable")
    parts = [_kind(trace, steps, kind[groups] == number, by_context) for number in ranked]
    first, found = parts[0]
    followed = found.pop("follow_ups")
    sessions: dict[str, Any] = {
        "calls": found["calls"],
        "instructions_cached": False,
        "follow_ups": followed,
        "call_time": {"value": "5 s"} | OURS,
        "lead_in": {"value": f"{_usual_length_s(groups, steps):.4g} s"} | DERIVED,
    }
    if "compaction" in found:
        sessions["compaction"] = found["compaction"]
    if len(parts) > 1:
        sessions["other_kinds"] = {
            f"beginning-{place}": {
                "share": {"value": round(float(sizes[number] / sizes.sum()), 6)} | MEASURED,
                "prompt_tokens": prompt,
            }
            | other
            for place, (number, (prompt, other)) in enumerate(zip(ranked[1:], parts[1:], strict=True), start=2)
        }
    return {"prompt_tokens": first, "sessions": sessions}


def _kind(
    trace: Trace, steps: SessionSteps, member: npt.NDArray[np.bool_], by_context: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return first prompts, and calls, follow-ups and compaction of some sessions."""
    groups = trace.session_groups()
    counts = np.unique(groups[member], return_counts=True)[1]
    numbers, frequencies = np.unique(counts, return_counts=True)
    shares = {
        int(number): round(float(each / counts.size), 6) for number, each in zip(numbers, frequencies, strict=True)
    }
    mine = member[steps.later]
    earlier, later, gap_s = steps.earlier[mine], steps.later[mine], steps.gap_s[mine]
    kept = trace.prompt_tokens[earlier] + trace.output_tokens[earlier]
    grown = trace.prompt_tokens[later] - kept
    dropped = (grown < -_DROP * kept) & (kept >= _COMPACTABLE_TOKENS)
    normal = ~dropped
    positive = normal & (grown > 0)
    empty = round(float((grown[normal] <= 0).mean()), 5) if normal.any() else 0.0
    way: dict[str, Any] = {
        "share": {"value": 1.0} | MEASURED,
        "gap": quantile_table(np.maximum(gap_s, 0.001) if gap_s.size else np.ones(1), "s"),
        "new_tokens": quantile_table(grown[positive] if positive.any() else np.ones(1), "tokens"),
        "without_new_tokens": {"value": empty} | MEASURED,
    }
    numbers = _call_numbers(groups)[later]
    by_call = _by_call(numbers[positive], grown[positive])
    if by_context:
        # the second call brings what a task begins with, whatever the context
        second = positive & (numbers == 2)
        if second.sum() >= _LEAST_SECOND:
            table = quantile_table(grown[second], "tokens")
            way["new_tokens_from_call"] = {2: table, 3: way["new_tokens"]}
            normal = normal & (numbers > 2)
        way["new_tokens_from_context"] = _by_context(kept[normal], grown[normal])
    elif by_call:
        way["new_tokens_from_call"] = by_call
    found: dict[str, Any] = {
        "calls": {"distribution": "shares", "shares": shares} | MEASURED,
        "follow_ups": {"next": way},
    }
    if dropped.sum() >= 10:
        found["compaction"] = _compaction(kept, dropped, trace.prompt_tokens[later][dropped])
    return quantile_table(trace.prompt_tokens[steps.first[member[steps.first]]], "tokens"), found


def _compaction(kept: IntArray, dropped: npt.NDArray[np.bool_], after: IntArray) -> dict[str, Any]:
    share = np.linspace(0.05, 0.95, int(np.clip(dropped.sum() // 12, 3, 12)))
    edges = np.unique(np.concatenate(([_COMPACTABLE_TOKENS], np.quantile(kept[dropped], share).round())))
    bins = np.searchsorted(edges, kept, side="right")
    hazards = [
        {"from_tokens": f"{edge:.0f} tokens", "hazard": round(float(dropped[bins == place + 1].mean()), 5)}
        for place, edge in enumerate(edges)
    ]
    return {"hazards": hazards, "context_tokens": quantile_table(after, "tokens")} | DERIVED


def _by_context(kept: IntArray, grown: IntArray) -> list[dict[str, Any]]:
    """Return tables of new tokens by bands of contexts with equally many steps."""
    bands = int(np.clip(kept.size // _LEAST_STEPS, 1, _CONTEXT_BANDS))
    edges = np.unique(np.quantile(kept, np.arange(bands) / bands).round())
    edges[0] = 1.0
    band = np.searchsorted(edges, kept, side="right") - 1
    found = []
    for place, edge in enumerate(edges):
        inside = grown[band == place]
        if (inside > 0).any():
            empty = round(float((inside <= 0).mean()), 5)
            new = quantile_table(inside[inside > 0], "tokens")
            found.append({"from_tokens": f"{edge:.0f} tokens", "new_tokens": new, "without_new_tokens": empty})
    return found


def _by_call(numbers: IntArray, new: IntArray) -> dict[int, Any]:
    """Return tables of new tokens by bands of calls; of bands with enough steps, and where there is more than one."""
    bands = np.searchsorted(_CALL_BANDS, numbers, side="right") - 1
    sizes = np.bincount(bands, minlength=len(_CALL_BANDS))
    told = [band for band in range(len(_CALL_BANDS)) if sizes[band] >= _LEAST_STEPS]
    if len(told) < 2:
        return {}
    return {int(_CALL_BANDS[band]): quantile_table(new[bands == band], "tokens") for band in told}


def _call_numbers(groups: IntArray) -> IntArray:
    """Return the number of each request in its session, from 1."""
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    numbers = np.empty(groups.size, np.int64)
    numbers[order] = np.arange(groups.size) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    return numbers


def _usual_length_s(groups: IntArray, steps: SessionSteps) -> float:
    """Return the 95% quantile of the gaps of a session together [s], at least a minute."""
    return max(float(np.quantile(np.bincount(groups[steps.later], steps.gap_s), 0.95)), 60.0)


def _distance(document: dict[str, Any], trace: Trace) -> float:
    """Return the KS distance of the contexts of a described workload to those of a trace."""
    tables = session_tables(WorkloadSpec.model_validate(document))
    calls = draw_sessions(tables, _SESSIONS_DRAWN, lambda *names: stream(1, "fit", *names))
    return float(stats.ks_2samp(trace.prompt_tokens, calls.prompt).statistic)
