"""One HTML page of figures and tables that stands alone: it can be mailed and opened without a network."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sim.specs.errors import InputError, Problem

STYLE = (
    "body{font:14px sans-serif;margin:2em;max-width:110em}table{border-collapse:collapse}"
    "td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}"
)


def write_page(
    file: Path,
    title: str,
    figures: Sequence[tuple[str, Mapping[str, Any]]],
    tables: Sequence[tuple[str, pd.DataFrame]],
) -> None:
    """Write a page with Plotly figures, then tables.

    Parameters
    ----------
    file : Path
        File to write; it is replaced as a whole.
    title : str
        Heading.
    figures : sequence of (str, mapping)
        Headings and figures in Plotly's JSON form.
    tables : sequence of (str, DataFrame)
        Headings and tables.

    Raises
    ------
    InputError
        Plotly is not installed, or the folder does not exist.

    """
    try:
        import plotly.io
    except ImportError:
        remedy = "Install it with: pip install 'fleetcast[report]'"
        raise InputError([Problem("pages with figures need plotly", value=str(file), remedy=remedy)]) from None
    if not file.absolute().parent.is_dir():
        raise InputError([Problem("there is no such folder", value=str(file.parent), remedy="Make it first.")])
    parts = []
    for number, (heading, figure) in enumerate(figures):
        drawn = plotly.io.to_html(
            dict(figure), full_html=False, include_plotlyjs=number == 0, div_id=f"figure-{number}", validate=True
        )
        parts.append(f"<h2>{html.escape(heading)}</h2>{drawn}")
    for heading, table in tables:
        body = table.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="")
        parts.append(f"<h2>{html.escape(heading)}</h2>{body}")
    name = html.escape(title)
    page = f"<!doctype html><meta charset=utf-8><title>{name}</title><style>{STYLE}</style><h1>{name}</h1>" + "".join(
        parts
    )
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(file)
