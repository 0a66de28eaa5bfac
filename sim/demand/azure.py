"""The public Azure LLM inference traces: 2023 (instants without zone) and 2024 (with zone, some without decimals)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sim.demand.row_problems import RowProblems
from sim.demand.tabular import read_bytes, text_rows, whole_number
from sim.demand.trace import NANOSECONDS, Trace
from sim.demand.trace_columns import Column, trace_from_columns
from sim.specs.errors import InputError, Problem

AZURE_HEADER = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

_INSTANT = re.compile(
    r"(?P<minute>\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}):(?P<second>[0-5]\d)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[-+]\d{2}:\d{2})?",
    re.ASCII,
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def read_azure_csv(path: str | Path, class_name: str) -> Trace:
    """Return an Azure LLM inference trace, with instants counted from its first row.

    Parameters
    ----------
    path : str or Path
        CSV file with the columns `TIMESTAMP,ContextTokens,GeneratedTokens`.
    class_name : str
        Traffic class of all requests.

    Returns
    -------
    Trace
        Requests in the order of the file; nothing is cached. Instants are exact to the last decimal written; one
        without a zone is taken as UTC.

    Raises
    ------
    InputError
        Missing or unreadable file, another header, or rows that are malformed, unsorted or of zero or negative
        tokens; all problems, with their lines.

    References
    ----------
    Patel et al., Splitwise (ISCA 2024), https://github.com/Azure/AzurePublicDataset, CC-BY-4.0.

    """
    file = str(path)
    rows = text_rows(read_bytes(Path(path)), file)
    line, header = next(rows)
    if tuple(header) != AZURE_HEADER:
        wanted = ",".join(AZURE_HEADER)
        raise InputError([Problem("has another header", file, "", ",".join(header), f"It must be {wanted}.", line)])
    return azure_trace(rows, file, class_name)


def azure_trace(rows: Iterator[tuple[int, list[str]]], file: str, class_name: str) -> Trace:
    """Return the trace of the rows below an Azure header; see `read_azure_csv`.

    Parameters
    ----------
    rows : iterator of (int, list of str)
        Line and cells of each row.
    file : str
        Name of the file, for errors.
    class_name : str
        Traffic class of all requests.

    Raises
    ------
    InputError
        All problems, with their lines.

    """
    problems = RowProblems(file)
    lines: list[int] = []
    cells_by_column: tuple[list[int | None], ...] = ([], [], [])
    minutes: dict[str, int | None] = {}
    for line, cells in rows:
        row = len(lines)
        lines.append(line)
        if len(cells) != len(AZURE_HEADER):
            problems.add(row, "", f"has {len(cells)} cells", ",".join(cells), f"{len(AZURE_HEADER)} are needed.")
            cells = [""] * len(AZURE_HEADER)
            read: list[int | None] = [None, None, None]
        else:
            read = [_nanoseconds(cells[0], minutes), whole_number(cells[1]), whole_number(cells[2])]
            if read[0] is None:
                example = "Write it like 2023-11-16 18:15:46.6805900."
                problems.add(row, AZURE_HEADER[0], "is not an instant", cells[0], example)
            for position in (1, 2):
                if read[position] is None:
                    problems.add(row, AZURE_HEADER[position], "is not a whole number", cells[position])
        for column, value in zip(cells_by_column, read, strict=True):
            column.append(value)
    instants, prompt, output = (_column(values) for values in cells_by_column)
    start = int(instants.values[instants.valid][0]) if instants.valid.any() else 0
    zeros = Column(np.zeros(len(lines), np.int64), np.ones(len(lines), np.bool_))
    columns = {
        "arrival_ns": Column(instants.values - start, instants.valid),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "cached_tokens": zeros,
        "class": zeros,
    }
    names = dict(zip(columns, AZURE_HEADER, strict=False))
    return trace_from_columns(columns, (class_name,), problems, lines, names)


def _column(values: list[int | None]) -> Column:
    valid = np.array([value is not None for value in values], dtype=np.bool_)
    return Column(np.array([value or 0 for value in values], dtype=np.int64), valid)


def _nanoseconds(cell: str, minutes: dict[str, int | None]) -> int | None:
    """Return nanoseconds since 1970 of a written instant; None when it is none."""
    match = _INSTANT.fullmatch(cell)
    if match is None:
        return None
    key = match["minute"] + (match["zone"] or "Z")
    if key not in minutes:
        minutes[key] = _minute_as_seconds(key)
    seconds = minutes[key]
    if seconds is None:
        return None
    return (seconds + int(match["second"])) * NANOSECONDS + int((match["fraction"] or "").ljust(9, "0"))


def _minute_as_seconds(minute: str) -> int | None:
    try:
        instant = datetime.datetime.fromisoformat(minute)
    except ValueError:
        return None
    return round((instant - _EPOCH).total_seconds())
