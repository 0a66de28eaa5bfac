"""A validation as a directory: predictions of every point, errors by group, and pages; whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from sim.fidelity.validation import GROUPINGS, MEASURES, Compared, Unscored, Validation
from sim.results.writing import whole_directory, write_parquet
from sim.specs.errors import InputError, Problem

PREDICTIONS = "predictions"
NOT_COMPARED = "not_compared.csv"
ERRORS = "errors.csv"
SUMMARY = "summary.json"
PAGE = "parity.html"
PICTURE = "parity.svg"
FILES = (f"{PREDICTIONS}.parquet", f"{PREDICTIONS}.csv", NOT_COMPARED, ERRORS, SUMMARY, PAGE, PICTURE)
"""All that `write_validation` writes."""

_UNITS = {"measured": "s, or 1/s and accelerator", "sequences": "1 a replica", "tokens": "tokens"}


def check_place(directory: Path, overwrite: bool) -> None:
    """Raise InputError unless a validation may be put at a directory: it is free, or holds an older one to replace."""
    if not directory.exists() and not directory.is_symlink():
        return
    remedy = "Choose another directory, or add --overwrite to replace what is in it."
    if not overwrite:
        raise InputError([Problem("exists already", str(directory), remedy=remedy)])
    if not directory.is_dir() or directory.is_symlink():
        raise InputError([Problem("is no directory", str(directory), remedy="Choose another one.")])
    foreign = sorted(path.name for path in directory.iterdir() if path.name not in FILES)
    if foreign:
        message = f"holds {foreign[0]!r}, which is no part of a validation; it is not replaced"
        raise InputError([Problem(message, str(directory), remedy="Choose another directory.")])


def write_validation(
    validation: Validation, directory: Path, pages: Mapping[str, str], overwrite: bool = False
) -> None:
    """Write a validation to a directory that appears whole or not at all.

    Parameters
    ----------
    validation : Validation
        Points with predictions.
    directory : Path
        Where to write.
    pages : mapping
        Further text files: `parity.html`, `parity.svg`.
    overwrite : bool
        Replace an older validation.

    Raises
    ------
    InputError
        The directory is there and may not be replaced.

    """
    check_place(directory, overwrite)
    texts = {
        f"{PREDICTIONS}.csv": _csv([field.name for field in fields(Compared)], map(_plain, validation.compared)),
        NOT_COMPARED: _csv([field.name for field in fields(Unscored)], map(asdict, validation.unscored)),
        ERRORS: _csv(["grouping", "group", "metric", *MEASURES], error_rows(validation)),
        SUMMARY: json.dumps(validation.to_json(), indent=2, allow_nan=False) + "\n",
        **pages,
    }
    table = predictions_table(validation.compared)
    with whole_directory(directory.absolute(), lambda: check_place(directory, overwrite)) as fresh:
        write_parquet(table, fresh / f"{PREDICTIONS}.parquet")
        for name, text in texts.items():
            (fresh / name).write_text(text, encoding="utf-8")


def predictions_table(rows: Sequence[Compared]) -> pa.Table:
    """Return compared numbers as an Arrow table, one row each; what is not known is null."""
    columns: dict[str, pa.Array] = {}
    for field in fields(Compared):
        values = [getattr(each, field.name) for each in rows]
        if field.name in ("features", "formats"):
            columns[field.name] = pa.array([list(each) for each in values], pa.list_(pa.string()))
        elif field.name == "line":
            columns[field.name] = pa.array(values, pa.int64())
        elif field.type in ("str", "BandClass"):
            columns[field.name] = pa.array(values, pa.string())
        else:
            columns[field.name] = pa.array([each if math.isfinite(each) else None for each in values], pa.float64())
    units = _UNITS | dict.fromkeys(("predicted", "band_low", "band_high"), _UNITS["measured"])
    schema = pa.schema(
        [pa.field(name, array.type, metadata={"unit": units.get(name, "1")}) for name, array in columns.items()]
    )
    return pa.Table.from_arrays(list(columns.values()), schema=schema)


def error_rows(validation: Validation) -> list[dict[str, object]]:
    """Return the error measures of all numbers and of every group, one row a group and metric."""
    groupings: dict[str, dict[str, Any]] = {"all": {"all": validation.errors()}}
    groupings |= {column: dict(validation.by(column)) for column in GROUPINGS}
    return [
        {"grouping": grouping, "group": group, "metric": metric, **measures}
        for grouping, groups in groupings.items()
        for group, metrics in groups.items()
        for metric, measures in metrics.items()
    ]


def _plain(row: Compared) -> dict[str, object]:
    """Return a row as text has it: several words with blanks between, nothing where nothing is known."""
    found: dict[str, object] = {}
    for name, value in asdict(row).items():
        unknown = isinstance(value, float) and not math.isfinite(value)
        found[name] = " ".join(value) if isinstance(value, tuple) else "" if unknown else value
    return found


def _csv(columns: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
