"""Rows of a recorded trace as they stream in, and the trace that they become."""

from __future__ import annotations

import datetime
import decimal
import functools
import gzip
import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from sim.demand.row_problems import RowProblems
from sim.demand.streams import stream
from sim.demand.trace import MOST_TOKENS, NANOSECONDS, Trace
from sim.specs.errors import InputError, Problem

IntArray = npt.NDArray[np.int64]

_GZIP = b"\x1f\x8b"
_LATEST_NS = 2**62
_UNKNOWN = -1


class RecordedRows:
    """Collects requests in the order of a file, eight bytes a value, with what is wrong or left out.

    Parameters
    ----------
    file : str
        Name of the file, for errors.

    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.left_out: dict[str, int] = {}
        self.notes: list[str] = []
        self._problems = RowProblems(file)
        self._columns = {name: array("q") for name in ("arrival", "end", "prompt", "cached", "output", "session")}
        self._sessions: dict[object, int] = {}

    def reject(self, line: int, field: str, message: str, value: object, remedy: str = "") -> None:
        """Note what is wrong with a line."""
        self._problems.add(line, field, message, value, remedy)

    def leave_out(self, reason: str) -> None:
        """Count a row that is in order and no request to replay."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def add(
        self,
        line: int,
        arrival_ns: int | None,
        prompt: int | None,
        output: int | None,
        cached: int | None = 0,
        end_ns: int | None = None,
        session: object = None,
    ) -> None:
        """Add a request; values that could not be read are None and have been rejected by the caller."""
        if arrival_ns is None or prompt is None or output is None or cached is None:
            return
        for name, value, fewest in (("prompt", prompt, 1), ("output", output, 0), ("cached", cached, 0)):
            if not fewest <= value <= MOST_TOKENS:
                self.reject(line, f"{name} tokens", f"run from {fewest} to {MOST_TOKENS}", value)
                return
        if end_ns is not None and end_ns < arrival_ns:
            self.reject(line, "end", "is before the start, in seconds", end_ns / NANOSECONDS)
            return
        if output == 0:
            self.leave_out("without output")
            return
        known = _UNKNOWN if session is None else self._sessions.setdefault(session, len(self._sessions))
        row = (arrival_ns, _UNKNOWN if end_ns is None else end_ns, prompt, min(cached, prompt - 1), output, known)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def trace(self, class_name: str, closed_loop: bool, spread_s: float, seed: int) -> Trace:
        """Return the trace, sorted by arrival and counted from its first one.

        Parameters
        ----------
        class_name : str
            Traffic class of all requests.
        closed_loop : bool
            Whether a request follows the last one of its session that had been answered when it came; the gap is
            from that answer.
        spread_s : float
            Requests of one instant are spread over this time, uniformly at random, but not beyond the next instant
            [s]; 0 leaves them.
        seed : int
            Seed of the spreading.

        Raises
        ------
        InputError
            All rejected lines; no requests; or a closed loop without sessions or ends.

        """
        # rows are named by their lines, counted from 1
        self._problems.raise_if_any(range(1 << 62))
        columns = {name: np.frombuffer(column, np.int64) for name, column in self._columns.items()}
        if columns["arrival"].size == 0:
            counted = "; ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            remedy = f"Left out: {counted}." if counted else "Give at least one row."
            raise InputError([Problem("holds no requests", self.file, remedy=remedy)])
        order = np.argsort(columns["arrival"], kind="stable")
        if (np.diff(columns["arrival"]) < 0).any():
            self.notes.append("rows were not in order of arrival and have been sorted")
        columns = {name: column[order] for name, column in columns.items()}
        start = columns["arrival"][0]
        arrival, end = columns["arrival"] - start, columns["end"] - start
        instants = np.unique(arrival).size
        if spread_s > 0.0:
            arrival = _spread(arrival, spread_s, seed)
        elif instants < 0.5 * arrival.size:
            self.notes.append(
                f"{arrival.size} requests share {instants} instants: the clock is coarse, and bursts below its tick "
                "are artefacts; --spread SECONDS spreads them"
            )
        session = self._numbered(columns["session"])
        follows, gap = None, None
        if closed_loop:
            unknown = columns["end"] < 0
            if session is None or unknown.all():
                remedy = "Name the columns, or leave out --closed-loop."
                problem = "a closed loop needs sessions and the ends of requests"
                raise InputError([Problem(problem, self.file, remedy=remedy)])
            if unknown.any():
                self.notes.append(f"{unknown.sum()} requests without an end are taken to end when they come")
                end = np.where(unknown, arrival, end)
            follows, gap = follow_ups(arrival, end, session)
            roots = _first_of_chain(follows)
            arrival = arrival[roots]
            place = np.argsort(arrival, kind="stable")
            return Trace(
                (class_name,), arrival, np.zeros(arrival.size, np.int16), columns["prompt"], columns["cached"],
                columns["output"], follows, gap, session,
            ).rows(place)  # fmt: skip
        return Trace(
            (class_name,), arrival, np.zeros(arrival.size, np.int16), columns["prompt"], columns["cached"],
            columns["output"], follows, gap, session,
        )  # fmt: skip

    def _numbered(self, session: IntArray) -> npt.NDArray[np.int32] | None:
        if not self._sessions:
            return None
        alone = session < 0
        numbers = session.copy()
        numbers[alone] = len(self._sessions) + np.arange(int(alone.sum()))
        return numbers.astype(np.int32)


def follow_ups(arrival_ns: IntArray, end_ns: IntArray, session: npt.NDArray[np.int32]) -> tuple[IntArray, IntArray]:
    """Return which request each one follows, and the gap between that one's end and its arrival.

    It is the request of the same session that was answered last before the arrival; -1 and gap 0 where none was.
    Requests that overlap thus follow the same one: sub-agents, or a second window.

    Parameters
    ----------
    arrival_ns, end_ns : ndarray, shape (requests,)
        Sorted arrivals and their ends [ns].
    session : ndarray, shape (requests,)
        Session of each request.

    """
    follows, gaps = np.full(arrival_ns.size, -1, np.int64), np.zeros(arrival_ns.size, np.int64)
    by_end = np.lexsort((end_ns, session))
    ranked_sessions, ranked_ends = session[by_end], end_ns[by_end]
    first = np.searchsorted(ranked_sessions, session, side="left")
    last = np.searchsorted(ranked_sessions, session, side="right")
    # a position in (session, end) order is found by one search in each session's own slice
    for row in range(arrival_ns.size):
        low, high = int(first[row]), int(last[row])
        place = low + int(np.searchsorted(ranked_ends[low:high], arrival_ns[row], side="right")) - 1
        while place >= low and by_end[place] >= row:
            place -= 1
        if place >= low:
            follows[row], gaps[row] = by_end[place], arrival_ns[row] - ranked_ends[place]
    return follows, gaps


def _first_of_chain(follows: IntArray) -> IntArray:
    root = np.where(follows < 0, np.arange(follows.size), follows)
    while True:
        further = root[root]
        if np.array_equal(further, root):
            return root
        root = further


def _spread(arrival_ns: IntArray, spread_s: float, seed: int) -> IntArray:
    instants, group = np.unique(arrival_ns, return_inverse=True)
    following = np.append(instants[1:], instants[-1] + round(spread_s * NANOSECONDS))
    room = np.minimum(following - instants, round(spread_s * NANOSECONDS))[group]
    drawn = stream(seed, "import", "spread").random(arrival_ns.size)
    moved: IntArray = arrival_ns + np.minimum((drawn * room).astype(np.int64), np.maximum(room - 1, 0))
    # within an instant the order of the rows is kept
    ordered: IntArray = moved[np.lexsort((moved, group))]
    return ordered


@dataclass(frozen=True)
class Imported:
    """An imported trace and what a user should know about it."""

    trace: Trace
    """The requests."""

    left_out: dict[str, int]
    """Reason -> rows that were in order and are no requests to replay."""

    notes: tuple[str, ...]
    """What was done to the rows."""


def open_binary(path: Path) -> IO[bytes]:
    """Open a file, packed by gzip or not; raises InputError when it cannot be read."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == _GZIP
        return cast(IO[bytes], gzip.open(path, "rb") if packed else path.open("rb"))
    except OSError as error:
        remedy = "Name a file." if path.is_dir() else "Check the path and its permissions."
        problem = f"cannot be read: {(error.strerror or str(error)).lower()}"
        raise InputError([Problem(problem, str(path), remedy=remedy)]) from None


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of every line that is not blank; nothing else is held in memory.

    Raises
    ------
    InputError
        Not readable, not UTF-8, or a broken gzip file; with the line.

    """
    line = 0
    try:
        with open_binary(path) as binary:
            for line, raw in enumerate(binary, start=1):
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield line, text
    except UnicodeDecodeError:
        raise InputError([Problem("is not UTF-8 text", str(path), remedy="Save it as UTF-8.", line=line)]) from None
    except (OSError, EOFError) as error:
        raise InputError([Problem(f"breaks off: {error}", str(path), line=line + 1)]) from None


def json_lines(path: Path, rows: RecordedRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number and the object of every line; lines that hold none are rejected."""
    for line, text in text_lines(path):
        record = json_object(text)
        if record is None:
            rows.reject(line, "", "is not a JSON object", text[:60])
        else:
            yield line, record


def json_object(text: str) -> dict[str, Any] | None:
    """Return a JSON object, its broken numbers as exact decimals; None when the text is no object."""
    try:
        record = json.loads(text, parse_float=decimal.Decimal)
    except (json.JSONDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def json_document(path: Path) -> dict[str, Any]:
    """Return the object that a whole file holds; raises InputError with the line at which it breaks."""
    try:
        with open_binary(path) as binary:
            text = binary.read().decode("utf-8-sig")
        record = json.loads(text, parse_float=decimal.Decimal)
    except json.JSONDecodeError as error:
        raise InputError([Problem(f"is not JSON: {error.msg}", str(path), line=error.lineno)]) from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError([Problem(f"cannot be read: {error}", str(path))]) from None
    if not isinstance(record, dict):
        raise InputError([Problem("is not a JSON object", str(path), line=1)])
    return record


def as_tokens(value: object) -> int | None:
    """Return a whole number; None when it is none, a truth value included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() else None
    if isinstance(value, decimal.Decimal) and value == value.to_integral_value():
        return int(value)
    return None


def as_nanoseconds(value: object, per_second: int = 1) -> int | None:
    """Return an instant or duration as whole nanoseconds; None when it is none.

    Parameters
    ----------
    value : object
        A number or its text, or an instant by ISO 8601, without zone in UTC.
    per_second : int
        Units of the number in a second, e.g. 1000 for milliseconds.

    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and value[4:5] == "-" and value[:4].isdigit():
        return _instant(value)
    try:
        number = decimal.Decimal(value if isinstance(value, int | decimal.Decimal) else str(value))
        nanoseconds = number * NANOSECONDS / per_second
        return int(nanoseconds.to_integral_value()) if abs(nanoseconds) < _LATEST_NS else None
    except (decimal.InvalidOperation, decimal.Overflow, ValueError):
        return _instant(str(value))


def _instant(text: str) -> int | None:
    whole, _, rest = text.strip().partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    zone = rest[len(digits) :]
    seconds = _whole_seconds(whole + zone if rest else whole)
    return None if seconds is None else seconds * NANOSECONDS + int(digits[:9].ljust(9, "0"))


@functools.lru_cache(maxsize=65_536)
def _whole_seconds(text: str) -> int | None:
    """Return seconds since 1970; many requests share a second."""
    try:
        instant = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=datetime.UTC)
    return round((instant - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)).total_seconds())
