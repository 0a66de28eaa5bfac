"""Reading a report as a test does: the numbers that it cites, as the page shows them."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import dataclass
from typing import Any

_CELL = re.compile(
    r'<data value="(?P<value>[^"]*)" data-study="(?P<study>\d+)" data-table="(?P<table>\w+)" '
    r'data-column="(?P<column>\w+)" data-where="(?P<where>[^"]*)">(?P<text>[^<]*)</data>'
)
_SCALES = (1.0, 1e-3, 1e6, 1e9, 0.01)


@dataclass(frozen=True)
class Cell:
    """A number on the page with the cell that it stands for."""

    study: int
    table: str
    column: str
    where: dict[str, Any]
    value: float
    text: str


def cells(page: str) -> list[Cell]:
    """Return the numbers of a page in order."""
    return [
        Cell(
            int(found["study"]), found["table"], found["column"], json.loads(html.unescape(found["where"])),
            float(found["value"]), html.unescape(found["text"]),
        )
        for found in _CELL.finditer(page)
    ]  # fmt: skip


def is_rounded(text: str, value: float) -> bool:
    """Return whether a text is a number, in some unit, to at least two digits; words stand for what is no number."""
    shown = re.search(r"-?[\d,]+(?:\.\d+)?", text)
    if shown is None:
        return math.isinf(value)
    number = float(shown[0].replace(",", ""))
    return any(math.isclose(number * scale, value, rel_tol=6e-3, abs_tol=6e-4) for scale in _SCALES)
