"""Rows of a recorded trace as they stream in, and the trace that they become."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.demand.row_problems import RowProblems
from sim.demand.streams import stream
from sim.demand.trace import MOST_TOKENS, NANOSECONDS, Trace
from sim.specs.errors import InputError, Problem

IntArray = npt.NDArray[np.int64]

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
