"""Traffic of sessions: when they begin, which are under way at the start of the run, and their rows in a trace."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.durations import duration_table
from sim.demand.processes import Streams, arrival_instants, past_instants
from sim.demand.session_tables import SessionTables, mean_calls, session_tables
from sim.demand.sessions import (
    SESSIONS_PER_BLOCK,
    draw_sessions,
    nominal_times,
)
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.distributions import DurationDistribution
from sim.specs.workload import WorkloadSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


NarrowArray = npt.NDArray[np.int32]


class _Rows(NamedTuple):
    """Rows of a trace; `follows` counts within them."""

    arrival_ns: IntArray
    prompt: NarrowArray
    cached: NarrowArray
    output: NarrowArray
    follows: IntArray
    gap_ns: IntArray
    session: NarrowArray
    session_call: NarrowArray
    session_calls: NarrowArray
    prefix_group: NarrowArray
    prefix_tokens: NarrowArray
    patience_ns: IntArray


def draw_patience(patience: DurationDistribution, count: int, streams: Streams) -> IntArray:
    """Return longest waits [ns], shape (count,); the stream is `patience`."""
    waits_s = duration_table(patience).at(streams("patience").random(count))
    return np.rint(waits_s * NANOSECONDS).astype(np.int64)


def generate_sessions(
    workload: WorkloadSpec, rate_per_s: float, duration_s: float, start_hour: float, name: str, streams: Streams
) -> Trace:
    """Return the calls of sessions that begin in a run, and of those that are under way at its start.

    Sessions begin at rate / E[calls], so that calls come at the rate. Those of the time before the run are played with
    calls of the typical time; the first call of such a session that is not over arrives on its own, with its context
    in the cache, and all later ones follow. Left out are calls that could not come before the end of the run.

    Parameters
    ----------
    workload : WorkloadSpec
        A workload with sessions.
    rate_per_s : float
        Mean rate of calls over the profile [requests/s].
    duration_s : float
        Length of the run [s].
    start_hour : float
        Hour of the day or week at which the run starts [h].
    name : str
        Name of the traffic class.
    streams : callable
        Gives a random stream for a name.

    Returns
    -------
    Trace
        With follow-ups and sessions, 0, 1, ... for those that begin in the run and -2, -3, ... for those before it,
        from the last one backwards; it may be empty.

    """
    spec = workload.sessions
    assert spec is not None, "only for workloads with sessions"
    tables = session_tables(workload)
    rate = rate_per_s / mean_calls(spec)
    starts = arrival_instants(workload.arrivals, rate, duration_s, start_hour, streams)
    past = past_instants(workload.arrivals, rate, spec.lead_in.value, start_hour, streams)
    parts = []
    for group, instants in (("past", past), ("new", starts)):
        for block in range(-(-instants.size // SESSIONS_PER_BLOCK)):
            within = slice(block * SESSIONS_PER_BLOCK, (block + 1) * SESSIONS_PER_BLOCK)

            def named(*names: str | int, _path: tuple[str | int, ...] = (group, block)) -> np.random.Generator:
                return streams(*_path, *names)

            started = _Started(instants[within], within.start, group == "past")
            parts.append(_rows(tables, started, duration_s, workload.patience, named))
    return _trace(parts, name, tables.instructions is not None, workload.patience is not None)


class _Started(NamedTuple):
    """A block of sessions: when they began, the number of the first one, and whether that was before the run."""

    starts_s: FloatArray
    number: int
    past: bool


def _rows(
    tables: SessionTables,
    started: _Started,
    duration_s: float,
    patience: DurationDistribution | None,
    streams: Streams,
) -> _Rows:
    calls = draw_sessions(tables, started.starts_s.size, streams)
    sizes = np.bincount(calls.session, minlength=started.starts_s.size)
    call = np.arange(calls.session.size) - (np.cumsum(sizes) - sizes)[calls.session] + 1
    root = np.flatnonzero(calls.parent < 0)[calls.session]
    begins_s = started.starts_s[calls.session]
    if started.past:
        nominal = begins_s + nominal_times(calls, tables.spec.call_time.value)
        running = nominal >= 0.0
        inherits = running & (calls.parent >= 0)
        inherits[inherits] = running[calls.parent[inherits]]
        parent = np.where(inherits, calls.parent, -1)
        root = _roots(parent)
        begins_s = nominal[root]
        calls = calls._replace(parent=parent)
        kept = running & (begins_s < duration_s)
    else:
        kept = np.ones(calls.parent.size, np.bool_)
    fastest = nominal_times(calls, 0.0)  # what cannot come before the end stays out
    kept &= begins_s + fastest < duration_s
    place = np.cumsum(kept) - 1
    parent = calls.parent[kept]
    session = calls.session[kept]
    waits_ns = np.empty(0, np.int64) if patience is None else draw_patience(patience, sizes.size, streams)[session]
    return _Rows(
        arrival_ns=(begins_s[kept] * NANOSECONDS).astype(np.int64),
        prompt=calls.prompt[kept].astype(np.int32),
        cached=calls.cached[kept].astype(np.int32),
        output=calls.output[kept].astype(np.int32),
        follows=np.where(parent < 0, -1, place[parent]),
        gap_ns=np.where(parent < 0, 0, np.rint(calls.gap_s[kept] * NANOSECONDS)).astype(np.int64),
        session=(-2 - started.number - session if started.past else started.number + session).astype(np.int32),
        session_call=call[kept].astype(np.int32),
        session_calls=sizes[session].astype(np.int32),
        prefix_group=calls.prefix_group[kept],
        prefix_tokens=calls.prefix_tokens[kept],
        patience_ns=waits_ns,
    )


def _roots(parent: IntArray) -> IntArray:
    """Return the row at which the chain of each row begins (pointer doubling)."""
    root = np.where(parent < 0, np.arange(parent.size), parent)
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def _trace(parts: list[_Rows], name: str, prefixes: bool, patience: bool) -> Trace:
    if not parts:
        empty = np.empty(0, np.int64)
        parts = [_Rows(*(empty for _ in _Rows._fields))]  # type: ignore[arg-type]  # columns of one tuple type, made from a sequence
    before = np.cumsum([0, *(part.arrival_ns.size for part in parts)])
    arrival_ns = np.concatenate([part.arrival_ns for part in parts])
    # new sessions are in order already; those of the past are not
    order = np.argsort(arrival_ns, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    follows = np.concatenate(
        [np.where(part.follows < 0, -1, part.follows + start) for part, start in zip(parts, before, strict=False)]
    )[order]
    np.copyto(follows, place[follows], where=follows >= 0)
    del place

    def joined(column: str) -> npt.NDArray[Any]:
        values: npt.NDArray[Any] = np.concatenate([getattr(part, column) for part in parts])[order]
        return values

    optional = ["session", "session_call", "session_calls", "gap_ns"]
    optional += ["prefix_group", "prefix_tokens"] * prefixes + ["patience_ns"] * patience
    return Trace(
        (name,),
        arrival_ns[order],
        np.zeros(order.size, np.int16),
        joined("prompt"),
        joined("cached"),
        joined("output"),
        follows,
        **{column: joined(column) for column in optional},
    )
