"""A sweep as a table for a terminal, and as JSON."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from sim.execution.dataset import Sweep
from sim.reporting.terminal import with_interval
from sim.reporting.wide_table import TableColumn, WideTable

SHOWN_RUNS = 60
"""Most runs in the table; the dataset holds all."""

_METRICS = {
    "load_factor": ("load /\ncapacity", 1.0),
    "goodput_requests_fraction": ("requests in\nservice level", 1.0),
    "usd_per_million_output_tokens": ("USD per\nM output", 1.0),
    "ttft_p99_s": ("TTFT p99\nms", 1e3),
    "tpot_p99_s": ("TPOT p99\nms", 1e3),
    "e2e_p99_s": ("E2E p99\ns", 1.0),
}
"""Column of the overview -> heading, and how many displayed units its unit holds."""


def sweep_tables(sweep: Sweep) -> RenderableType:
    """Return the first runs with their values, main metrics and flags; refused ones with the reason."""
    frame = sweep.overview(SHOWN_RUNS)
    varied = [axis.path for axis in sweep.axes if len(axis.values) > 1]
    several = frame["scenario_id"].nunique() > 1
    columns = [TableColumn("run", is_number=True, is_key=True)]
    columns += [TableColumn(path.replace(".", ".\n"), is_key=True) for path in varied]
    columns += [TableColumn("scenario", is_key=True)] * several
    columns += [TableColumn(heading, is_number=True) for heading, _ in _METRICS.values()]
    columns.append(TableColumn("flags"))
    rows = [
        [
            str(row["run"]),
            *(_value(row[path]) for path in varied),
            *([_text(row["scenario_id"])] * several),
            *(with_interval(float(row[name]) * scale) for name, (_, scale) in _METRICS.items()),
            _text(row["flags"]) if row["outcome"] == "finished" else f"refused: {row['problem']}",
        ]
        for row in frame.to_dict(orient="records")
    ]
    parts: list[RenderableType] = [WideTable("Runs", columns, rows)]
    units = [
        f"{field.name} [{unit}]"
        for field in sweep.table("runs", 0).schema
        if field.name in varied and (unit := field.metadata[b"unit"].decode()) != "1"
    ]
    if units:
        parts.append(Text(f"in SI units: {', '.join(units)}"))
    total = sweep.tally.total or 0
    if total > SHOWN_RUNS:
        parts.append(Text(f"the first {SHOWN_RUNS} of {total:,} runs"))
    return Group(*parts)


def sweep_json(sweep: Sweep) -> dict[str, object]:
    """Return the sweep in JSON types; a value that is missing or infinite is null."""
    frame = sweep.overview()
    kept = frame.astype(object).where(frame.notna(), None)
    return {
        "values": {axis.path: list(axis.values) for axis in sweep.axes},
        "runs": [_finite(row) for row in kept.to_dict(orient="records")],
    }


def _finite(row: dict[Any, Any]) -> dict[str, object]:
    return {
        str(key): None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }


def _value(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
