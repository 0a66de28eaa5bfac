"""The trace: a table of requests, the seam between demand and simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]
ClassArray = npt.NDArray[np.int16]
NarrowArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

NANOSECONDS = 1_000_000_000
MOST_TOKENS = 2**31 - 1
MOST_CLASSES = 2**15 - 1


class OptionalColumn(NamedTuple):
    """How a column that a trace may lack is kept, and what stands for requests without it."""

    dtype: type[np.signedinteger[Any]]
    absent: int


NEEDED_COLUMNS: dict[str, type[np.signedinteger[Any]]] = {
    "arrival_ns": np.int64,
    "class_index": np.int16,
    "prompt_tokens": np.int64,
    "cached_tokens": np.int64,
    "output_tokens": np.int64,
}
"""Columns of every trace."""

OPTIONAL_COLUMNS: dict[str, OptionalColumn] = {
    "follows": OptionalColumn(np.int64, -1),
    "gap_ns": OptionalColumn(np.int64, 0),
    "session": OptionalColumn(np.int32, -1),
    "session_call": OptionalColumn(np.int32, 1),
    "session_calls": OptionalColumn(np.int32, 1),
    "prefix_group": OptionalColumn(np.int32, -1),
    "prefix_tokens": OptionalColumn(np.int32, 0),
    "patience_ns": OptionalColumn(np.int64, -1),
}
"""Columns that a trace may lack."""

_TOGETHER = (("follows", "gap_ns"), ("session_call", "session_calls"), ("prefix_group", "prefix_tokens"))


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests in order of arrival; ties keep the order of classes, then the order in which they were given.

    The columns are read-only: every fleet that is compared on a trace meets the same requests. In sessions a request
    may follow another one: its lengths and its gap are drawn beforehand, and the engine places its arrival.
    """

    classes: tuple[str, ...]
    """Names of the traffic classes."""

    arrival_ns: IntArray
    """Arrival, whole nanoseconds after the start, sorted; for a follow-up the arrival of its session's first request,
    which is the earliest that it could come [ns]."""

    class_index: ClassArray
    """Position in `classes`."""

    prompt_tokens: IntArray
    """Prompt, cached tokens included [tokens]."""

    cached_tokens: IntArray
    """Leading part of the prompt that a prefix cache without bound holds, less than the prompt [tokens]."""

    output_tokens: IntArray
    """Tokens to generate, at least 1 [tokens]."""

    follows: IntArray | None = None
    """Row of the request whose completion this one waits for, -1 for an arrival of its own; none means all are."""

    gap_ns: IntArray | None = None
    """Time between that completion and this arrival, such as a tool's or a reader's time [ns]."""

    session: NarrowArray | None = None
    """Number of the session that a request belongs to, -1 for a request of its own; none where all are."""

    session_call: NarrowArray | None = None
    """Number of the request in its session, from 1, calls before the run included; none means by order of rows."""

    session_calls: NarrowArray | None = None
    """Calls of the whole session, those before and after the run included; none means those that are here."""

    prefix_group: NarrowArray | None = None
    """Number of what the prompt begins with and shares with other requests, such as a system prompt or a document;
    -1 where it shares nothing; none means that nobody does."""

    prefix_tokens: NarrowArray | None = None
    """Length of that beginning, less than the prompt; 0 without a group [tokens]."""

    patience_ns: IntArray | None = None
    """Longest wait for the first token, after which the request and all that follows it are given up; -1 for no end
    of it; none means that nobody gives up [ns]."""

    def __post_init__(self) -> None:
        """Freeze the columns; raises ValueError when they differ in length, or follow-ups are not in order."""
        count = self.arrival_ns.shape
        for first, second in _TOGETHER:
            if (getattr(self, first) is None) != (getattr(self, second) is None):
                raise ValueError(f"{first} and {second} come together")
        kept = {name: kind.dtype for name, kind in OPTIONAL_COLUMNS.items() if getattr(self, name) is not None}
        for name, dtype in (NEEDED_COLUMNS | kept).items():
            column = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            if column.ndim != 1 or column.shape != count:
                raise ValueError(f"column {name} has shape {column.shape}, arrival_ns has {count}")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
        if self.follows is not None and (self.follows >= np.arange(self.requests)).any():
            raise ValueError("a request can only follow an earlier row")

    @property
    def requests(self) -> int:
        """Return the number of requests."""
        return self.arrival_ns.size

    def to_frame(self) -> pd.DataFrame:
        """Return the trace as a table with the columns that `read_trace` reads."""
        import pandas as pd  # slow to import, and a simulation needs it only when it is over

        frame = pd.DataFrame(
            {
                "arrival_s": self.arrival_ns / NANOSECONDS,
                "class": pd.Categorical.from_codes(self.class_index.astype(np.int64), pd.Index(list(self.classes))),
                "prompt_tokens": self.prompt_tokens,
                "cached_tokens": self.cached_tokens,
                "output_tokens": self.output_tokens,
            }
        )
        for name, kind in OPTIONAL_COLUMNS.items():
            column = getattr(self, name)
            if column is not None:
                timed = name.endswith("_ns")
                # what is absent stays -1, in seconds too
                seconds = np.where(column == kind.absent, float(kind.absent), column / NANOSECONDS) if timed else column
                frame[name.replace("_ns", "_s")] = seconds
        return frame

    def session_groups(self) -> IntArray:
        """Return a number from 0 for each session; requests of no session have numbers of their own, after them."""
        if self.session is None:
            return np.arange(self.requests)
        known = self.session != -1
        names, place = np.unique(self.session[known], return_inverse=True)
        groups = np.empty(self.requests, np.int64)
        groups[known] = place
        groups[~known] = names.size + np.arange(int((~known).sum()))
        return groups

    def session_places(self) -> tuple[NarrowArray, NarrowArray]:
        """Return the number of each request in its session, from 1, and the calls of the whole session."""
        if self.session_call is not None and self.session_calls is not None:
            return self.session_call, self.session_calls
        groups = self.session_groups()
        order = np.argsort(groups, kind="stable")
        sizes = np.bincount(groups)
        number = np.empty(self.requests, np.int32)
        number[order] = np.arange(self.requests) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
        return number, sizes[groups].astype(np.int32)

    def scaled(self, time_factor: float) -> Self:
        """Return the trace with every arrival at `time_factor` times its instant; 0.5 doubles the load.

        Raises
        ------
        ValueError
            The factor is not finite and above 0.

        """
        if not (math.isfinite(time_factor) and time_factor > 0.0):
            raise ValueError(f"time_factor must be finite and above 0, got {time_factor}")
        arrival_ns = np.rint(self.arrival_ns * time_factor).astype(np.int64)  # gaps are people's and tools' own time
        return self._with(arrival_ns, np.arange(self.requests))

    def window(self, start_s: float, end_s: float) -> Self:
        """Return the requests that arrive in [start_s, end_s), with instants counted from start_s."""
        start, end = (round(instant * NANOSECONDS) for instant in (start_s, end_s))
        first, last = np.searchsorted(self.arrival_ns, [start, max(start, end)], side="left")
        return self._with(self.arrival_ns - start, np.arange(first, last))

    def rows(self, rows: npt.NDArray[np.intp]) -> Self:
        """Return some requests in a new order, sorted by arrival; a follow-up without its parent arrives on its own."""
        return self._with(self.arrival_ns, rows)

    def _with(self, arrival_ns: IntArray, rows: npt.NDArray[np.intp]) -> Self:
        optional: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows] for name in OPTIONAL_COLUMNS
        }
        optional["follows"] = _pointing(self.follows, rows)
        return type(self)(
            self.classes,
            arrival_ns[rows],
            self.class_index[rows],
            self.prompt_tokens[rows],
            self.cached_tokens[rows],
            self.output_tokens[rows],
            **optional,
        )


def _pointing(follows: IntArray | None, rows: npt.NDArray[np.intp]) -> IntArray | None:
    """Return `follows` of some rows in a new order, pointing into that order."""
    if follows is None:
        return None
    place = np.full(follows.size, -1, np.int64)
    place[rows] = np.arange(rows.size)
    parents = follows[rows]
    return np.where(parents < 0, -1, place[np.maximum(parents, 0)])


def merge_traces(traces: Sequence[Trace], common_prefixes: bool = False) -> Trace:
    """Return all requests of several traces in one; classes of the same name become one class.

    Parameters
    ----------
    traces : sequence of Trace
        Traces with a common start, at least one.
    common_prefixes : bool
        Whether a prefix group of one trace is that of the same number in another; else all are different.

    Returns
    -------
    Trace
        Requests sorted by arrival, then class in order of first appearance, then the order given.

    Raises
    ------
    ValueError
        There is no trace.

    """
    if not traces:
        raise ValueError("there is nothing to merge")
    classes = tuple(dict.fromkeys(name for trace in traces for name in trace.classes))
    class_index = np.concatenate(
        [
            np.array([classes.index(name) for name in trace.classes], dtype=np.int16)[trace.class_index]
            for trace in traces
        ]
    )
    arrival_ns = np.concatenate([trace.arrival_ns for trace in traces])
    order = np.lexsort((class_index, arrival_ns))
    optional: dict[str, Any] = {}
    for name in OPTIONAL_COLUMNS:
        columns = _columns(traces, name)
        if columns is None:
            continue
        if name == "follows":
            columns = _shifted(columns, np.cumsum([0, *(trace.requests for trace in traces)]))
            optional[name] = _pointing(np.concatenate(columns), order)
            continue
        if name == "session" or (name == "prefix_group" and not common_prefixes):
            columns = _numbered_on(columns)
        optional[name] = np.concatenate(columns)[order]
    return Trace(
        classes,
        arrival_ns[order],
        class_index[order],
        np.concatenate([trace.prompt_tokens for trace in traces])[order],
        np.concatenate([trace.cached_tokens for trace in traces])[order],
        np.concatenate([trace.output_tokens for trace in traces])[order],
        **optional,
    )


def _columns(traces: Sequence[Trace], name: str) -> list[npt.NDArray[Any]] | None:
    """Return a column of all traces, filled in where one lacks it; None when all do."""
    columns = [getattr(trace, name) for trace in traces]
    if all(column is None for column in columns):
        return None
    if name in ("session_call", "session_calls"):
        return [trace.session_places()[name == "session_calls"] for trace in traces]
    kind = OPTIONAL_COLUMNS[name]
    return [
        np.full(trace.requests, kind.absent, kind.dtype) if column is None else column
        for trace, column in zip(traces, columns, strict=True)
    ]


def _shifted(columns: list[npt.NDArray[Any]], offsets: IntArray) -> list[npt.NDArray[Any]]:
    """Return rows that count on from trace to trace; -1 stays."""
    return [np.where(column < 0, column, column + offset) for column, offset in zip(columns, offsets[:-1], strict=True)]


def _numbered_on(columns: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Return names that are different in every trace, numbered on from 0; -1 stays."""
    numbered, first = [], 0
    for column in columns:
        known = column != -1
        if known.any():
            lowest, highest = int(column[known].min()), int(column[known].max())
            numbered.append(np.where(known, column + np.int32(first - lowest), np.int32(-1)))
            first += highest - lowest + 1
        else:
            numbered.append(column)
    return numbered
