"""Validations and calibrations as tables for a terminal."""

from __future__ import annotations

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from sim.fidelity.calibration import Calibration
from sim.fidelity.validation import GROUPINGS, Validation
from sim.reporting.wide_table import TableColumn, WideTable

Measures = dict[str, dict[str, float | int | None]]


def validation_tables(validation: Validation) -> RenderableType:
    """Return errors overall and by every grouping, and what was not compared and why."""
    parts: list[RenderableType] = [_errors("All points", {"all": validation.errors()})]
    for column in GROUPINGS:
        parts += [Text(), _errors(f"By {column}", validation.by(column))]
    past = sum(each.load_factor >= 1.0 and each.load == "open" for each in validation.compared)
    if past:
        parts += [Text(), Text(f"{past} numbers lie past the knee: their latencies hang on how long a run lasts.")]
    parts += [Text(), Text(f"Not compared: {len(validation.unscored)} rows")]
    parts += [Text(f"  {count:5d}  {reason}") for reason, count in validation.reasons().items()]
    return Group(*parts)


def _errors(title: str, groups: dict[str, Measures]) -> WideTable:
    columns = [
        TableColumn("group", is_key=True),
        TableColumn("metric", is_key=True),
        *(
            TableColumn(heading, is_number=True)
            for heading in ("n", "median\nerror", "mean\nerror", "p90\nerror", "median\nbias", "inside\n80% band")
        ),
    ]
    rows = [
        [
            name,
            metric,
            str(found["n"]),
            *(_percent(found[key]) for key in ("median_ape", "mean_ape", "p90_ape", "median_bias", "band_coverage")),
        ]
        for name, measures in groups.items()
        for metric, found in measures.items()
    ]
    return WideTable(title, columns, rows)


def _percent(value: float | int | None) -> str:
    return "" if value is None else f"{value:.1%}"


def calibration_tables(calibration: Calibration) -> RenderableType:
    """Return what was fitted, how well the points determine it, and the errors before, after and left out."""
    fitted = calibration.fitted
    rows = [
        [each.parameter, f"{np.exp(value):.3f}", f"{np.exp(-error):.2f} to {np.exp(error):.2f}", f"{share:.0%}"]
        for each, value, error, share in zip(
            fitted.coordinates, fitted.values, fitted.standard_errors, fitted.determined, strict=True
        )
    ]
    table = WideTable(
        f"Factors on {calibration.base.name}",
        [
            TableColumn("parameter", is_key=True),
            TableColumn("factor", is_number=True),
            TableColumn("times, one\nstandard error", is_number=True),
            TableColumn("determined by\nthe points", is_number=True),
        ],
        rows,
    )
    known = int((fitted.singular_values > 1.0).sum())
    lines = [
        f"{len(calibration.rows)} numbers determine {known} of {len(rows)} combinations of parameters.",
        f"Median absolute error before {_median(calibration.before)}, after {_median(calibration.after)}, "
        f"of groups left out {_median(calibration.left_out)}.",
        *(f"Left out: {count} runs, {reason}" for reason, count in calibration.unmapped),
    ]
    return Group(table, Text(), *(Text(line) for line in lines))


def _median(logarithms: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> str:
    known = logarithms[np.isfinite(logarithms)]
    return f"{np.median(np.abs(np.expm1(known))):.1%}" if known.size else "not known (one group only)"
