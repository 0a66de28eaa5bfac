"""Strict reading of text tables: rows with their line numbers, and cells that are exactly what they should be."""

from __future__ import annotations

import csv
import decimal
import io
import re
from collections.abc import Iterator
from pathlib import Path

from sim.specs.errors import InputError, Problem

_WHOLE = re.compile(r"[-+]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,4})?", re.ASCII)
_NANOSECONDS = decimal.Decimal(1_000_000_000)
_LATEST_NS = decimal.Decimal(2**62)


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Parameters
    ----------
    path : Path
        File to read.

    Raises
    ------
    InputError
        The file is missing, a directory, or not readable.

    """
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Name a file." if path.is_dir() else "Check the path and its permissions."
        raise InputError(
            [Problem(f"cannot be read: {reason[:1].lower()}{reason[1:]}", str(path), remedy=remedy)]
        ) from None


def text_rows(data: bytes, file: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of every row of comma-separated text, the header first.

    Parameters
    ----------
    data : bytes
        Content of the file: UTF-8, with or without byte order mark, any line ending.
    file : str
        Name of the file, for errors.

    Raises
    ------
    InputError
        Not UTF-8, empty, or a quote that is never closed; with its line.

    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start : error.start + 1]
        raise InputError(
            [Problem("is not UTF-8 text", file, value=wrong, remedy="Save it as UTF-8.", line=line)]
        ) from None
    if not text.strip():
        raise InputError([Problem("is empty", file, remedy="Give a header and at least one row.")])
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in rows:
            yield rows.line_num, cells
    except csv.Error as error:
        raise InputError([Problem(f"is not comma-separated text: {error}", file, line=rows.line_num)]) from None


def whole_number(cell: str) -> int | None:
    """Return the whole number that a cell holds, without blanks or separators; None when it holds none."""
    return int(cell) if _WHOLE.fullmatch(cell) else None


def seconds_as_nanoseconds(cell: str) -> int | None:
    """Return the seconds that a cell holds as whole nanoseconds, rounded half to even; None when it holds none.

    Decimal arithmetic: `1e-05` and `0.123456789` are exact.
    """
    if not _NUMBER.fullmatch(cell):
        return None
    nanoseconds = decimal.Decimal(cell) * _NANOSECONDS
    return int(nanoseconds.to_integral_value()) if abs(nanoseconds) < _LATEST_NS else None
