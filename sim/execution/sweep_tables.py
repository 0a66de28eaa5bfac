"""The two tables of a sweep: `runs` with one row a run, and `summary` with the rows of all summaries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sim.execution.axes import Axis, Point
from sim.execution.execution import Finished
from sim.results.tables import ARROW_TYPES, Column, arrow_schema
from sim.specs.units import dimension_of, parse_quantity

RUN = Column("run", "int64", "1", "Number of the run in the sweep, from 0.")
KEY = Column("key", "string", "1", "Name of the run's files in `results/`.")
OUTCOMES = (
    Column("outcome", "string", "1", "`finished`, or `refused` where the scenario does not allow the values."),
    Column("requests", "int64", "requests", "Requests of all scenarios and replications of the run."),
    Column("events", "int64", "events", "Events of all its simulations."),
    Column("flags", "string", "1", "Names of the honesty flags that any of its scenarios raised."),
    Column("problem", "string", "1", "Why the run was refused.", nullable=True),
    Column("manifest", "string", "1", "Manifest as JSON: resolved scenario, fingerprints, versions.", nullable=True),
)
"""Columns of `runs` after those of the values."""

_VALUE = "Value of the scenario at this path"


def value_fields(axes: Sequence[Axis]) -> list[pa.Field]:
    """Return the columns of what was varied: numbers as such, quantities in SI units, all else as text."""
    return [_value_field(axis) for axis in axes]


def runs_table(block: Sequence[tuple[Point, Finished]], values: Sequence[pa.Field], first: int) -> pa.Table:
    """Return the rows of `runs`.

    Parameters
    ----------
    block : sequence of (Point, Finished)
        Consecutive runs.
    values : sequence of pyarrow.Field
        Columns of what was varied.
    first : int
        Number of the first run.

    """
    rows = [
        {RUN.name: number, KEY.name: finished.task.key, **_cells(point, values), **_outcome(finished.result.value)}
        for number, (point, finished) in enumerate(block, first)
    ]
    schema = pa.schema([_field(RUN), _field(KEY), *values, *map(_field, OUTCOMES)])
    return pa.Table.from_pylist(rows, schema=schema)


def summary_table(block: Sequence[tuple[Point, Finished]], values: Sequence[pa.Field], first: int) -> pa.Table:
    """Return the rows of `summary`: number and values of the run in front of the columns of a run's own summary."""
    own = arrow_schema("summary")
    schema = pa.schema([_field(RUN), *values, *own])
    tables = []
    for number, (point, finished) in enumerate(block, first):
        if finished.result.parquet is None:
            continue
        rows = finished.result.table()
        front = [number, *_cells(point, values).values()]
        columns = [
            pa.repeat(pa.scalar(cell, field.type), rows.num_rows) for cell, field in zip(front, schema, strict=False)
        ]
        tables.append(pa.Table.from_arrays([*columns, *(rows[name] for name in own.names)], schema=schema))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks() if tables else schema.empty_table()


def _outcome(value: Mapping[str, Any]) -> dict[str, object]:
    manifest = value.get("manifest")
    known = manifest or {}
    return {
        "outcome": value["outcome"],
        "requests": known.get("requests", 0),
        "events": known.get("events", 0),
        "flags": " ".join(sorted({flag["name"] for flag in known.get("flags", [])})),
        "problem": "; ".join(value["problems"]) if "problems" in value else None,
        "manifest": None if manifest is None else json.dumps(manifest, sort_keys=True, ensure_ascii=False),
    }


def _value_field(axis: Axis) -> pa.Field:
    kinds = {type(value) for value in axis.values}
    for kind, dtype in (
        ({bool}, pa.bool_()),
        ({int}, pa.int64()),
        ({float}, pa.float64()),
        ({int, float}, pa.float64()),
    ):
        if kinds == kind:
            return _described(axis.path, dtype, "1", _VALUE, nullable=False)
    dimensions = {dimension_of(value) if isinstance(value, str) else None for value in axis.values}
    dimension = dimensions.pop() if len(dimensions) == 1 else None
    if dimension is not None:
        return _described(axis.path, pa.float64(), dimension.si_unit, _VALUE, nullable=False)
    return _described(axis.path, pa.string(), "1", f"{_VALUE}, as written", nullable=False)


def _cells(point: Point, values: Sequence[pa.Field]) -> dict[str, object]:
    return {field.name: _cell(point[field.name], field) for field in values}


def _cell(value: object, field: pa.Field) -> object:
    if field.type == pa.string():
        return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    dimension = dimension_of(value) if isinstance(value, str) else None
    return value if dimension is None else parse_quantity(value, dimension)


def _field(column: Column) -> pa.Field:
    kind = pa.string() if column.dtype == "string" else ARROW_TYPES[column.dtype]
    return _described(column.name, kind, column.unit, column.description, column.nullable)


def _described(name: str, kind: pa.DataType, unit: str, description: str, nullable: bool) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "description": description})
