"""Trace files: whatever is recorded becomes a trace, by the content of the file and never by its name."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sim.demand.azure import AZURE_HEADER, azure_trace
from sim.demand.row_problems import RowProblems
from sim.demand.tabular import read_bytes, seconds_as_nanoseconds, text_rows, whole_number
from sim.demand.trace import NANOSECONDS, OPTIONAL_COLUMNS, Trace
from sim.demand.trace_columns import Column, trace_from_columns, whole_numbers
from sim.specs.errors import InputError, Problem

NEEDED = ("arrival_s", "prompt_tokens", "output_tokens")
OPTIONAL = ("cached_tokens", "class", *(name.replace("_ns", "_s") for name in OPTIONAL_COLUMNS))
_PAIRS = (("follows", "gap_s"), ("session_call", "session_calls"), ("prefix_group", "prefix_tokens"))
SCHEMAS = (
    f"Accepted: the Azure LLM inference traces ({','.join(AZURE_HEADER)}), or {', '.join(NEEDED)} with optional "
    f"{', '.join(OPTIONAL)}, as CSV or Parquet; "
    + "; ".join(f"{first} and {second} come together" for first, second in _PAIRS)
    + "."
)
_NAMES = {"arrival_ns": "arrival_s", "gap_ns": "gap_s", "patience_ns": "patience_s"}
_IN_NANOSECONDS = {written: name for name, written in _NAMES.items()}


def read_trace(path: str | Path, class_name: str) -> Trace:
    """Return a recorded trace.

    Parameters
    ----------
    path : str or Path
        CSV file in the Azure schema, or CSV or Parquet file with the columns `arrival_s` [s after the start],
        `prompt_tokens`, `output_tokens` and optionally `cached_tokens`, `class`, `follows` (row counted from 0, or
        -1) with `gap_s` [s], `session` (a number), `session_call` with `session_calls` (from 1), `prefix_group` (a
        number, or -1) with `prefix_tokens`, and `patience_s` [s] (or -1), in any order.
    class_name : str
        Traffic class of requests whose file names none.

    Returns
    -------
    Trace
        Requests in the order of the file, which must be sorted by arrival; instants are rounded to nanoseconds.

    Raises
    ------
    InputError
        Missing, unreadable or empty file, unknown columns (the remedy names the accepted schemas), or rows that are
        malformed, unsorted, negative, NaN, of zero tokens, or cached beyond the prompt; all problems, with lines
        (CSV) or rows counted from 0 (Parquet).

    """
    file = str(path)
    data = read_bytes(Path(path))
    if data.startswith(b"PAR1"):
        return _parquet_trace(data, file, class_name)
    rows = text_rows(data, file)
    line, header = next(rows)
    if tuple(header) == AZURE_HEADER:
        return azure_trace(rows, file, class_name)
    _check_header(header, file, line)
    return _csv_trace(rows, header, file, class_name)


def classes_named(path: Path) -> tuple[str, ...] | None:
    """Return the classes that the column `class` of a file names, in order; None without such a column.

    A file that cannot be read has none: reading its requests says what is wrong with it.
    """
    try:
        with path.open("rb") as content:
            if content.read(4) == b"PAR1":
                schema = pq.read_schema(path)
                column = pq.read_table(path, columns=["class"])["class"] if "class" in schema.names else None
                names = None if column is None else column.unique().to_pylist()
            else:
                rows = text_rows(read_bytes(path), str(path))
                _, header = next(rows)
                place = header.index("class") if "class" in header else None
                names = None if place is None else [cells[place] for _, cells in rows if len(cells) > place]
    except (pa.ArrowException, OSError, InputError, ValueError):
        return None
    known = [name for name in dict.fromkeys(names or ()) if isinstance(name, str) and name]
    return tuple(known) or None


def _check_header(header: list[str], file: str, line: int | None = None) -> None:
    known = {*NEEDED, *OPTIONAL}
    missing = [name for name in NEEDED if name not in header]
    unknown = [name for name in header if name not in known]
    twice = sorted({name for name in header if header.count(name) > 1})
    found = [
        f"{what} {', '.join(map(repr, names))}"
        for what, names in (("lacks", missing), ("has the unknown", unknown), ("repeats", twice))
        if names
    ]
    found += [f"has only one of '{one}' and '{other}'" for one, other in _PAIRS if (one in header) != (other in header)]
    if found:
        raise InputError([Problem(f"header {'; '.join(found)}", file, "", ",".join(header), SCHEMAS, line)])


def _csv_trace(rows: Iterator[tuple[int, list[str]]], header: list[str], file: str, class_name: str) -> Trace:
    problems = RowProblems(file)
    lines: list[int] = []
    read: dict[str, list[int | None]] = {name: [] for name in header}
    classes: dict[str, int] = {} if "class" in header else {class_name: 0}
    for line, cells in rows:
        row = len(lines)
        lines.append(line)
        if len(cells) != len(header):
            problems.add(row, "", f"has {len(cells)} cells", ",".join(cells), f"{len(header)} are needed.")
            for values in read.values():
                values.append(None)
            continue
        for name, cell in zip(header, cells, strict=True):
            value = _cell(name, cell, classes)
            read[name].append(value)
            if value is None:
                problems.add(row, name, _expectation(name), cell)
    count = len(lines)
    columns = {
        _IN_NANOSECONDS.get(name, name): Column(
            np.array([value or 0 for value in values], dtype=np.int64),
            np.array([value is not None for value in values], dtype=np.bool_),
        )
        for name, values in read.items()
    }
    return trace_from_columns(_completed(columns, count), tuple(classes), problems, lines, _NAMES)


def _cell(name: str, cell: str, classes: dict[str, int]) -> int | None:
    if name in _IN_NANOSECONDS:
        return seconds_as_nanoseconds(cell)
    if name == "class":
        return classes.setdefault(cell, len(classes)) if cell else None
    return whole_number(cell)


def _expectation(name: str) -> str:
    return {
        "arrival_s": "is not a number of seconds",
        "gap_s": "is not a number of seconds",
        "patience_s": "is not a number of seconds",
        "class": "names no class",
    }.get(name, "is not a whole number")


def _completed(columns: dict[str, Column], count: int) -> dict[str, Column]:
    """Return the columns with the optional ones filled in: nothing cached, the first class."""
    absent = Column(np.zeros(count, np.int64), np.ones(count, np.bool_))
    return dict.fromkeys(("cached_tokens", "class"), absent) | columns


def _parquet_trace(data: bytes, file: str, class_name: str) -> Trace:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError([Problem(f"is not a readable Parquet file: {reason}", file)]) from None
    _check_header(list(table.column_names), file)
    problems = RowProblems(file)
    columns: dict[str, Column] = {}
    classes: tuple[str, ...] = (class_name,)
    wrong = [
        Problem("is not a column of numbers", file, name, str(table.schema.field(name).type))
        for name in table.column_names
        if name != "class" and not _is_numeric(table.schema.field(name).type)
    ]
    if wrong:
        raise InputError(wrong)
    for name in table.column_names:
        series = table.column(name)
        if name == "class":
            columns[name], classes = _class_column(series.to_pylist(), problems)
        elif name in _IN_NANOSECONDS:
            columns[_IN_NANOSECONDS[name]] = _seconds_column(series, name, problems)
        else:
            numbers = series.to_numpy()
            columns[name] = whole_numbers(numbers, name, problems)
    return trace_from_columns(_completed(columns, table.num_rows), classes, problems, names=_NAMES)


def _is_numeric(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _seconds_column(series: Any, name: str, problems: RowProblems) -> Column:
    seconds = series.to_numpy().astype(np.float64)
    valid = np.isfinite(seconds) & (np.abs(seconds) < 2**62 / NANOSECONDS)
    problems.add_where(~valid, name, _expectation(name), seconds)
    return Column(np.rint(np.where(valid, seconds, 0.0) * NANOSECONDS).astype(np.int64), valid)


def _class_column(names: list[Any], problems: RowProblems) -> tuple[Column, tuple[str, ...]]:
    known = [isinstance(name, str) and name != "" for name in names]
    problems.add_where(~np.array(known, dtype=np.bool_), "class", _expectation("class"), np.array(names, dtype=object))
    order = tuple(dict.fromkeys(name for name, good in zip(names, known, strict=True) if good))
    position = {name: index for index, name in enumerate(order)}
    values = np.array([position[name] if good else 0 for name, good in zip(names, known, strict=True)], dtype=np.int64)
    return Column(values, np.array(known, dtype=np.bool_)), order
