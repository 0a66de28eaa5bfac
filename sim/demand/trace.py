"""The trace: a table of requests, the seam between demand and simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sim.demand.row_problems import RowProblems
from sim.specs.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]
ClassArray = npt.NDArray[np.int16]
SessionArray = npt.NDArray[np.int32]
BoolArray = npt.NDArray[np.bool_]

NANOSECONDS = 1_000_000_000
MOST_TOKENS = 2**31 - 1
MOST_CLASSES = 2**15 - 1
_NARROW: dict[str, type[np.signedinteger[Any]]] = {"class_index": np.int16, "session": np.int32}


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
    """Part of the prompt that is found in a prefix cache, less than the prompt [tokens]."""

    output_tokens: IntArray
    """Tokens to generate, at least 1 [tokens]."""

    follows: IntArray | None = None
    """Row of the request whose completion this one waits for, -1 for an arrival of its own; none means all are."""

    gap_ns: IntArray | None = None
    """Time between that completion and this arrival, such as a tool's or a reader's time [ns]."""

    session: SessionArray | None = None
    """Number of the session that a request belongs to, -1 for a request of its own; none where all are."""

    def __post_init__(self) -> None:
        """Freeze the columns; raises ValueError when they differ in length, or follow-ups are not in order."""
        count = self.arrival_ns.shape
        names = ["arrival_ns", "class_index", "prompt_tokens", "cached_tokens", "output_tokens"]
        if (self.follows is None) != (self.gap_ns is None):
            raise ValueError("follows and gap_ns come together")
        if self.follows is not None:
            names += ["follows", "gap_ns"]
        if self.session is not None:
            names += ["session"]
        for name in names:
            dtype = _NARROW.get(name, np.int64)
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
        if self.follows is not None and self.gap_ns is not None:
            frame["follows"], frame["gap_s"] = self.follows, self.gap_ns / NANOSECONDS
        if self.session is not None:
            frame["session"] = self.session
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
        return type(self)(
            self.classes,
            arrival_ns[rows],
            self.class_index[rows],
            self.prompt_tokens[rows],
            self.cached_tokens[rows],
            self.output_tokens[rows],
            *_reordered(self.follows, self.gap_ns, rows),
            None if self.session is None else self.session[rows],
        )


def _reordered(
    follows: IntArray | None, gap_ns: IntArray | None, rows: npt.NDArray[np.intp]
) -> tuple[IntArray | None, IntArray | None]:
    """Return the follow-up columns of some rows in a new order; `follows` points into that order."""
    if follows is None or gap_ns is None:
        return None, None
    place = np.full(follows.size, -1, np.int64)
    place[rows] = np.arange(rows.size)
    parents = follows[rows]
    return np.where(parents < 0, -1, place[np.maximum(parents, 0)]), gap_ns[rows]


class Column(NamedTuple):
    """A column as read: rows that could not be read hold any value and are not valid."""

    values: IntArray
    """Whole numbers."""

    valid: BoolArray
    """Rows whose value could be read."""


def trace_from_arrays(
    arrival_ns: npt.ArrayLike,
    prompt_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
    cached_tokens: npt.ArrayLike | None = None,
    *,
    classes: tuple[str, ...] = ("requests",),
    class_index: npt.ArrayLike | None = None,
    file: str = "",
) -> Trace:
    """Return a trace of columns that come from outside, after checking every row.

    Parameters
    ----------
    arrival_ns : array_like, shape (requests,)
        Arrival after the start, sorted [ns].
    prompt_tokens, output_tokens : array_like, shape (requests,)
        Lengths, at least 1 [tokens].
    cached_tokens : array_like, shape (requests,), optional
        Cached part of the prompt, less than the prompt [tokens]; none means 0.
    classes : tuple of str
        Names of the traffic classes.
    class_index : array_like, shape (requests,), optional
        Position in `classes`; none means the first.
    file : str
        Where the columns come from, for errors.

    Returns
    -------
    Trace
        The requests, in the order given.

    Raises
    ------
    InputError
        Columns of different length, no rows, or rows that are unsorted, negative, NaN, broken numbers, of zero
        tokens, or cached beyond the prompt; all problems, by row counted from 0.

    """
    given = {"arrival_ns": arrival_ns, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    arrays = {name: np.asarray(values) for name, values in given.items()}
    count = arrays["arrival_ns"].size
    arrays["cached_tokens"] = np.zeros(count, np.int64) if cached_tokens is None else np.asarray(cached_tokens)
    arrays["class"] = np.zeros(count, np.int64) if class_index is None else np.asarray(class_index)
    wrong = [
        Problem("is not one column of numbers as long as arrival_ns", file, name, array.shape)
        for name, array in arrays.items()
        if array.shape != (count,) or array.dtype.kind not in "iuf"
    ]
    if wrong:
        raise InputError(wrong)
    problems = RowProblems(file)
    columns = {name: whole_numbers(array, name, problems) for name, array in arrays.items()}
    problems.add_where(
        columns["class"].valid & ((columns["class"].values < 0) | (columns["class"].values >= len(classes))),
        "class",
        f"class_index lies in 0 to {len(classes) - 1}",
        columns["class"].values,
    )
    return trace_from_columns(columns, classes, problems)


def whole_numbers(array: npt.NDArray[np.generic], name: str, problems: RowProblems) -> Column:
    """Return numbers as whole ones; NaN, infinite and broken numbers are problems of their rows."""
    if array.dtype.kind in "iu":
        return Column(array.astype(np.int64), np.ones(array.size, np.bool_))
    numbers = array.astype(np.float64)
    valid = np.isfinite(numbers) & (np.abs(numbers) < 2.0**63)
    valid[valid] = numbers[valid] == np.rint(numbers[valid])
    problems.add_where(~valid, name, "is not a whole number", numbers)
    return Column(np.where(valid, numbers, 0.0).astype(np.int64), valid)


def trace_from_columns(
    columns: dict[str, Column],
    classes: tuple[str, ...],
    problems: RowProblems,
    lines: Sequence[int] | None = None,
    names: dict[str, str] | None = None,
) -> Trace:
    """Return a trace of columns as read, after checking what they say.

    Parameters
    ----------
    columns : dict
        `arrival_ns`, `prompt_tokens`, `cached_tokens`, `output_tokens` and `class` (positions in `classes`); `follows`
        (rows) with `gap_ns`, and `session` (any numbers), where they are known.
    classes : tuple of str
        Names of the traffic classes.
    problems : RowProblems
        What reading has found already.
    lines : sequence of int, optional
        Line of the file in which each row stands.
    names : dict, optional
        Column -> its name in the file, for errors.

    Raises
    ------
    InputError
        All problems, those of reading included.

    """
    arrival, prompt = columns["arrival_ns"], columns["prompt_tokens"]
    cached, output = columns["cached_tokens"], columns["output_tokens"]
    if arrival.values.size == 0:
        raise InputError([Problem("holds no requests", problems.file, remedy="Give at least one row.")])
    if len(classes) > MOST_CLASSES:
        raise InputError(
            [Problem(f"names {len(classes)} classes, {MOST_CLASSES} are possible", problems.file, "class")]
        )
    named = {name: name for name in columns} | (names or {})
    arrival_s = arrival.values / NANOSECONDS
    problems.add_where(
        arrival.valid & (arrival.values < 0), named["arrival_ns"], "is before the start, in seconds", arrival_s
    )
    problems.add_where(
        _late(arrival),
        named["arrival_ns"],
        "is earlier than the row above it, in seconds after the start",
        arrival_s,
        "Sort the rows by arrival.",
    )
    for name, column, fewest in (
        ("prompt_tokens", prompt, 1),
        ("cached_tokens", cached, 0),
        ("output_tokens", output, 1),
    ):
        outside = column.valid & ((column.values < fewest) | (column.values > MOST_TOKENS))
        problems.add_where(outside, named[name], f"tokens run from {fewest} to {MOST_TOKENS}", column.values)
    beyond = cached.valid & prompt.valid & (prompt.values >= 1) & (cached.values >= prompt.values)
    problems.add_where(
        beyond,
        named["cached_tokens"],
        "cached tokens must be fewer than prompt tokens",
        cached.values,
        "The last token of a prompt is always computed.",
    )
    follows, gap = columns.get("follows"), columns.get("gap_ns")
    if follows is not None and gap is not None:
        rows = np.arange(follows.values.size)
        problems.add_where(
            follows.valid & ((follows.values >= rows) | (follows.values < -1)),
            named["follows"],
            "is not an earlier row, counted from 0, or -1",
            follows.values,
        )
        problems.add_where(
            gap.valid & (gap.values < 0), named["gap_ns"], "is negative, in seconds", gap.values / NANOSECONDS
        )
    session = columns.get("session")
    problems.raise_if_any(lines)
    return Trace(
        classes,
        arrival.values,
        columns["class"].values.astype(np.int16),
        prompt.values,
        cached.values,
        output.values,
        None if follows is None else follows.values,
        None if gap is None else gap.values,
        None if session is None else _session_numbers(session.values),
    )


def _session_numbers(names: IntArray) -> SessionArray:
    """Return sessions numbered from 0 in the order of their names; -1 stays what has none."""
    known = names != -1
    numbers = np.full(names.size, -1, np.int32)
    numbers[known] = np.unique(names[known], return_inverse=True)[1]
    return numbers


def merge_traces(traces: Sequence[Trace]) -> Trace:
    """Return all requests of several traces in one; classes of the same name become one class.

    Parameters
    ----------
    traces : sequence of Trace
        Traces with a common start, at least one.

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
    return Trace(
        classes,
        arrival_ns[order],
        class_index[order],
        np.concatenate([trace.prompt_tokens for trace in traces])[order],
        np.concatenate([trace.cached_tokens for trace in traces])[order],
        np.concatenate([trace.output_tokens for trace in traces])[order],
        *_reordered(*_merged_follow_ups(traces), order),
        _merged_sessions(traces, order),
    )


def _merged_follow_ups(traces: Sequence[Trace]) -> tuple[IntArray | None, IntArray | None]:
    if all(trace.follows is None for trace in traces):
        return None, None
    follows, gaps, offset = [], [], 0
    for trace in traces:
        own = np.full(trace.requests, -1, np.int64) if trace.follows is None else trace.follows
        follows.append(np.where(own < 0, -1, own + offset))
        gaps.append(np.zeros(trace.requests, np.int64) if trace.gap_ns is None else trace.gap_ns)
        offset += trace.requests
    return np.concatenate(follows), np.concatenate(gaps)


def _merged_sessions(traces: Sequence[Trace], order: npt.NDArray[np.intp]) -> SessionArray | None:
    """Return the sessions of all traces, numbered on from 0; requests without one stay without."""
    if all(trace.session is None for trace in traces):
        return None
    numbers, first = [np.empty(0, np.int32)], 0
    for trace in traces:
        own = np.full(trace.requests, -1, np.int32) if trace.session is None else trace.session
        known = own != -1
        if known.any():
            lowest, highest = int(own[known].min()), int(own[known].max())
            own = np.where(known, own + np.int32(first - lowest), np.int32(-1))
            first += highest - lowest + 1
        numbers.append(own)
    return np.concatenate(numbers)[order]


def _late(arrival: Column) -> BoolArray:
    """Return which readable arrivals come before the last readable one above them."""
    late = np.zeros(arrival.values.size, np.bool_)
    rows = np.flatnonzero(arrival.valid)
    late[rows[1:]] = np.diff(arrival.values[rows]) < 0
    return late
