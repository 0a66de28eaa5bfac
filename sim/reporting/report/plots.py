"""Plots in Plotly's JSON form whose series differ without colour, too: by dashes, markers and patterns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Trace = dict[str, Any]

COLOURS = ("#3b7dd8", "#d9730d", "#1a9a82", "#b84f8e", "#8468d0", "#8d7f17", "#cf4a4a", "#7b838c")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "5px,2px", "2px,6px")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down")
PATTERNS = ("", "/", "x", ".", "\\", "-", "|", "+")

_ROW_HEIGHT, _EDGES = 190, 90  # [pixels]


@dataclass(frozen=True)
class Plot:
    """One figure of the page."""

    heading: str
    """What it shows."""

    description: str
    """The same in a sentence, for those who cannot see it; also its accessible name."""

    traces: list[Trace]
    """Series in Plotly's form."""

    layout: dict[str, Any]
    """Axes and height in Plotly's form; colours of the paper come from the page."""

    table: pd.DataFrame | None = None
    """The numbers behind it."""

    caption: str = ""
    """How to read it."""

    classes: tuple[str, ...] = field(default=())
    """Style classes."""


def style(place: int) -> dict[str, Any]:
    """Return what sets the series at a place apart."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "dash": DASHES[place % len(DASHES)],
        "symbol": MARKERS[place % len(MARKERS)],
        "pattern": PATTERNS[place % len(PATTERNS)],
    }


def line(name: str, x: Iterable[Any], y: Iterable[Any], place: int, *, markers: bool = False, **more: Any) -> Trace:
    """Return a line; the place among its series decides how it looks."""
    look = style(place)
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers" if markers else "lines",
        "name": name,
        "x": listed(x),
        "y": listed(y),
        "line": {"color": look["color"], "dash": look["dash"], "width": 2},
    }
    if markers:
        trace["marker"] = {"symbol": look["symbol"], "size": 7, "color": look["color"]}
    return trace | more


def bars(name: str, x: Iterable[Any], y: Iterable[Any], place: int, **more: Any) -> Trace:
    """Return bars with a pattern."""
    look = style(place)
    marker = {"color": look["color"], "pattern": {"shape": look["pattern"], "fillmode": "overlay", "solidity": 0.25}}
    return {"type": "bar", "name": name, "x": listed(x), "y": listed(y), "marker": marker} | more


def points(name: str, x: Iterable[Any], y: Iterable[Any], place: int, **more: Any) -> Trace:
    """Return markers without lines."""
    look = style(place)
    marker = {"symbol": look["symbol"], "size": 11, "color": look["color"]}
    return {"type": "scatter", "mode": "markers", "name": name, "x": listed(x), "y": listed(y), "marker": marker} | more


def band(x: Sequence[Any], low: Iterable[float], high: Iterable[float], place: int, name: str, **more: Any) -> Trace:
    """Return a filled band between two lines."""
    colour = COLOURS[place % len(COLOURS)]
    across = [*x, *reversed(x)]
    along = [*listed(high), *reversed(listed(low))]
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": across, "y": along, "fill": "toself",
        "fillcolor": f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:7], 16)},0.18)",
        "line": {"width": 0.5, "color": colour}, "hoverinfo": "skip",
    } | more  # fmt: skip


def rows_layout(
    titles: Sequence[str], y_titles: Sequence[str], x_title: str, *, x_axis: dict[str, Any] | None = None,
    y_axis: dict[str, Any] | None = None, row_height: int = _ROW_HEIGHT,
) -> dict[str, Any]:  # fmt: skip
    """Return a layout of rows, one under the other on one x axis, each with its title above it."""
    count = len(titles)
    gap = 0.0 if count == 1 else min(0.3 / (count - 1), 42 / (row_height * count))
    height = (1 - gap * (count - 1)) / count
    layout: dict[str, Any] = {"height": row_height * count + _EDGES, "annotations": []}
    for place, (title, y_title) in enumerate(zip(titles, y_titles, strict=True)):
        suffix = "" if place == 0 else str(place + 1)
        top = 1 - place * (height + gap)
        bottom = max(0.0, top - height)
        layout[f"yaxis{suffix}"] = {"domain": [bottom, top], "title": {"text": y_title}, **(y_axis or {})}
        if title:
            layout["annotations"].append(
                {
                    "text": title, "xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left",
                    "yanchor": "bottom", "showarrow": False, "font": {"size": 12},
                }
            )  # fmt: skip
    layout["xaxis"] = {"title": {"text": x_title}, "anchor": "y" + ("" if count == 1 else str(count)), **(x_axis or {})}
    return layout


def log_axis(unit: str = "") -> dict[str, Any]:
    """Return a logarithmic axis that names 1 and 3 of every power of ten; of seconds in ms below one."""
    values = [digit * 10.0**power for power in range(-6, 10) for digit in (1, 3)]
    if unit == "s":
        words = [f"{value * 1e3:g} ms" if value < 1 else f"{value:g} s" for value in values]
    else:
        words = [
            f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"
            for value in values
        ]
    return {"type": "log", "tickvals": values, "ticktext": words}


def in_row(trace: Trace, place: int, seen: set[str]) -> Trace:
    """Return a trace put on the row at a place; a name that was seen before is not listed again."""
    first = trace["name"] not in seen
    seen.add(trace["name"])
    suffix = "" if place == 0 else str(place + 1)
    return trace | {"yaxis": f"y{suffix}", "xaxis": "x", "legendgroup": trace["name"], "showlegend": first}


def listed(values: Iterable[Any]) -> list[Any]:
    """Return values in JSON types: numbers with six digits, null for what is missing or infinite."""
    found: list[Any] = []
    for value in values:
        if isinstance(value, str | bool) or value is None or isinstance(value, int):
            found.append(value)
        else:
            number = float(value)
            found.append(float(f"{number:.6g}") if math.isfinite(number) else None)
    return found
