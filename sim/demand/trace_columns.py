"""Columns that come from outside become a trace, after every row has been checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.row_problems import RowProblems
from sim.demand.trace import (
    MOST_CLASSES,
    MOST_TOKENS,
    NANOSECONDS,
    OPTIONAL_COLUMNS,
    BoolArray,
    IntArray,
    NarrowArray,
    Trace,
)
from sim.specs.errors import InputError, Problem


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
        (rows) with `gap_ns`, `session` (any numbers) and the other optional columns of a trace, where they are known.
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
    for name in ("session_call", "session_calls"):
        if name in columns:
            problems.add_where(
                columns[name].valid & ((columns[name].values < 1) | (columns[name].values > MOST_TOKENS)),
                name,
                "counts from 1",
                columns[name].values,
            )
    _check_follow_ups(columns, named, problems)
    _check_prefixes(columns, prompt, problems)
    patience = columns.get("patience_ns")
    if patience is not None:
        wrong = patience.valid & (patience.values < 0) & (patience.values != -NANOSECONDS)
        told = patience.values / NANOSECONDS
        problems.add_where(wrong, named["patience_ns"], "is neither a time in seconds nor -1, for no end", told)
    problems.raise_if_any(lines)
    optional: dict[str, Any] = {name: columns[name].values for name in OPTIONAL_COLUMNS if name in columns}
    if "session" in optional:
        optional["session"] = _session_numbers(optional["session"])
    if patience is not None:
        optional["patience_ns"] = np.maximum(patience.values, -1)
    return Trace(
        classes,
        arrival.values,
        columns["class"].values.astype(np.int16),
        prompt.values,
        cached.values,
        output.values,
        **optional,
    )


def _check_follow_ups(columns: dict[str, Column], named: dict[str, str], problems: RowProblems) -> None:
    follows, gap = columns.get("follows"), columns.get("gap_ns")
    if follows is None or gap is None:
        return
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


def _check_prefixes(columns: dict[str, Column], prompt: Column, problems: RowProblems) -> None:
    group, length = columns.get("prefix_group"), columns.get("prefix_tokens")
    if group is None or length is None:
        return
    unknown = group.valid & ((group.values < -1) | (group.values > MOST_TOKENS))
    problems.add_where(unknown, "prefix_group", "is no number from 0, or -1 for none", group.values)
    outside = length.valid & prompt.valid & ((length.values < 0) | (length.values >= np.maximum(prompt.values, 1)))
    problems.add_where(outside, "prefix_tokens", "lie in 0 to prompt_tokens - 1", length.values)


def _session_numbers(names: IntArray) -> NarrowArray:
    """Return sessions numbered from 0 in the order of their names; -1 stays what has none."""
    known = names != -1
    numbers = np.full(names.size, -1, np.int32)
    numbers[known] = np.unique(names[known], return_inverse=True)[1]
    return numbers


def _late(arrival: Column) -> BoolArray:
    """Return which readable arrivals come before the last readable one above them."""
    late = np.zeros(arrival.values.size, np.bool_)
    rows = np.flatnonzero(arrival.valid)
    late[rows[1:]] = np.diff(arrival.values[rows]) < 0
    return late
