"""Reading of recorded traffic line by line: text and JSON, packed or not, and values that are exactly what they say."""

from __future__ import annotations

import datetime
import decimal
import functools
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol, cast

from sim.demand.trace import NANOSECONDS
from sim.specs.errors import InputError, Problem

_GZIP = b"\x1f\x8b"
_LATEST_NS = 2**62


class Rejects(Protocol):
    """Takes what is wrong with a line."""

    def reject(self, line: int, field: str, message: str, value: object, remedy: str = "") -> None:
        """Note what is wrong with a line."""


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


def json_lines(path: Path, rows: Rejects) -> Iterator[tuple[int, dict[str, Any]]]:
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
