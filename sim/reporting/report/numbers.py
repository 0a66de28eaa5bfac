"""Numbers on the page: formatted once, each with the cell of the Parquet file that it stands for."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from sim.reporting.report.studies import Study
from sim.results.model_error import PAST_THE_KNEE

Form = Callable[[float], str]
"""How a number is written, its unit included."""


def plain(value: float) -> str:
    """Return a number with three digits and thousands separated; a dash where there is none."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "unbounded"
    if value == 0:
        return "0"
    decimals = min(8, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:,.{decimals}f}"


def whole(value: float) -> str:
    """Return a count."""
    return "–" if math.isnan(value) else f"{value:,.0f}"


def seconds(value: float) -> str:
    """Return a latency [s] in milliseconds below a second."""
    if math.isinf(value):
        return "unserved"
    return f"{plain(value * 1e3)} ms" if value < 1 else f"{plain(value)} s" if value == value else "–"


def usd(value: float) -> str:
    """Return an amount of money in the words of a budget."""
    if math.isnan(value):
        return "–"
    for scale, word in ((1e9, " billion"), (1e6, " million")):
        if abs(value) >= scale:
            return f"USD {value / scale:,.2f}{word}"
    return f"USD {plain(value)}"


def share(value: float) -> str:
    """Return a fraction as a percentage."""
    if math.isnan(value):
        return "–"
    if 0.995 <= value < 1:
        # rounded down: what is not quite all must not read as all
        return f"{math.floor(value * 1e4) / 100:.2f}%"
    return f"{value:.0%}" if abs(value) >= 1 or value == 0 else f"{value:.1%}"


def row_of(study: Study, table: str, where: Mapping[str, object]) -> pd.Series | None:
    """Return the one row of a table in which columns have these values (None is null), or None."""
    rows = study.tables[table]
    chosen = np.ones(len(rows), dtype=bool)
    for column, wanted in where.items():
        chosen &= (rows[column].isna() if wanted is None else rows[column] == wanted).to_numpy(dtype=bool)
    places = np.flatnonzero(chosen)
    return rows.iloc[int(places[0])] if len(places) == 1 else None


def value_of(study: Study, table: str, column: str, where: Mapping[str, object]) -> float:
    """Return the number of one cell; NaN where there is no such row or it is null."""
    row = row_of(study, table, where)
    return math.nan if row is None or pd.isna(row[column]) else float(row[column])


def cited(study: Study, table: str, column: str, where: Mapping[str, object], form: Form) -> str:
    """Return a number as HTML that names its cell, so that a reader or a test finds it again.

    Parameters
    ----------
    study : Study
        Whose table.
    table, column : str
        Name of the Parquet file without its ending, and column.
    where : mapping
        Values that single out the row; None for null.
    form : callable
        How it is written.

    """
    row = row_of(study, table, where)
    if row is None or pd.isna(row[column]):
        return "–"
    value = float(row[column])
    place = json.dumps(dict(where), ensure_ascii=False)
    return _past_the_knee(row, column) + (
        f'<data value="{value!r}" data-study="{study.number}" data-table="{table}" data-column="{column}" '
        f'data-where="{html.escape(place)}">{html.escape(form(value))}</data>'
    )


def _past_the_knee(row: pd.Series, column: str) -> str:
    """Return the mark of a latency of a pool beyond its capacity, which hangs on how long the run lasts."""
    if column not in ("value", "value_s"):
        return ""
    is_past = str(row.get("note") or "").startswith(PAST_THE_KNEE) or row.get("past_the_knee") is True
    return "past knee: " if is_past else ""


def cited_interval(study: Study, table: str, where: Mapping[str, object], form: Form, column: str = "value") -> str:
    """Return a number with the two ends of its interval, columns `low` and `high`, where they differ."""
    row = row_of(study, table, where)
    shown = cited(study, table, column, where, form)
    if row is None or pd.isna(row["low"]) or pd.isna(row["high"]) or row["low"] == row["high"]:
        return shown
    low, high = form(float(row["low"])), form(float(row["high"]))
    if low == high:
        return shown
    ends = f"{low} to {high}"
    return f'{shown} <span class="interval" title="95% interval">{html.escape(ends)}</span>'


def html_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], caption: str, texts: int = 1, details: str = ""
) -> str:
    """Return a table of cells that are HTML already.

    Parameters
    ----------
    headings : sequence of str
        Column headings, plain text.
    rows : sequence of sequence of str
        Cells; the first of each row is its heading.
    caption : str
        What it shows, for all readers.
    texts : int
        Leading columns that are text; the others are set as numbers.
    details : str
        If given, the words behind which the table is folded away.

    """
    head = "".join(
        f'<th scope="col"{"" if place < texts else " class=number"}>{html.escape(name)}</th>'
        for place, name in enumerate(headings)
    )
    body = []
    for row in rows:
        cells = [f'<th scope="row">{row[0]}</th>']
        cells += [
            f"<td{'' if place < texts else ' class=number'}>{cell}</td>" for place, cell in enumerate(row[1:], start=1)
        ]
        body.append(f"<tr>{''.join(cells)}</tr>")
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}"><table>'
        f"<caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        "</table></div>"
    )
    return f"<details><summary>{html.escape(details)}</summary>{table}</details>" if details else table


def frame_table(frame: pd.DataFrame, caption: str, details: str = "", most: int = 400) -> str:
    """Return a DataFrame as a table; long ones are cut at `most` rows, and the caption says so."""
    cut = frame.head(most)
    told = caption if len(frame) <= most else f"{caption} (the first {most} of {len(frame):,} rows)"
    numeric = [pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != bool for name in frame.columns]
    texts = numeric.index(True) if True in numeric else len(numeric)
    rows = [
        [_cell(value, is_number) for value, is_number in zip(row, numeric, strict=True)]
        for row in cut.itertuples(index=False)
    ]
    return html_table([str(name) for name in frame.columns], rows, told, texts, details)


def _cell(value: object, is_number: bool) -> str:
    if value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if is_number and isinstance(value, int | float):
        return plain(float(value)) if isinstance(value, float) else whole(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return html.escape(str(value))
