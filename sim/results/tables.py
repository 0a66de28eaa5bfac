"""The one list of columns: every table that a run writes, with dtype, unit and description of each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Table: TypeAlias = pd.DataFrame | pa.Table

ARROW_TYPES = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.dictionary(pa.int32(), pa.string()),
}

SCHEMA_VERSION = 2
"""Raised by one whenever a column is renamed, removed or changes its meaning."""

OUTCOMES = ("finished", "rejected", "timed_out", "unfinished")
"""What can become of a request: every request has exactly one of these."""

ALL = "all"
"""Stands in `class` and `pool` for everything together, so no class or pool may have this name."""


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, dtype, unit, description, and whether it may be empty (null)."""

    name: str
    dtype: str
    unit: str
    description: str
    nullable: bool = False


REQUESTS = (
    Column("scenario_id", "string", "1", "Scenario that was simulated; joins all tables."),
    Column("replication", "int32", "1", "Number of the replication, from 0."),
    Column("request_id", "int64", "1", "Row of the request in the trace, the same for every fleet."),
    Column("class", "string", "1", "Traffic class of the request."),
    Column("session", "int32", "1", "Session that the request belongs to, the same for every fleet; -1 if none."),
    Column(
        "session_call", "int32", "1", "Number of the request in its session, from 1, calls before the run included."
    ),
    Column("session_calls", "int32", "1", "Calls of the whole session, those before and after the run included."),
    Column("model", "string", "1", "Model that was asked for."),
    Column("pool", "string", "1", "Pool that took the request; null if none did.", nullable=True),
    Column("replica", "int32", "1", "Replica within the pool, from 0; null if none took it.", nullable=True),
    Column("arrival_s", "float64", "s", "Arrival at the router, from the start of the run."),
    Column("admitted_s", "float64", "s", "First admission to a batch; null if it never happened.", nullable=True),
    Column(
        "first_token_s", "float64", "s", "First output token at the client; null if it never happened.", nullable=True
    ),
    Column("finished_s", "float64", "s", "Last output token at the client; null if it never happened.", nullable=True),
    Column("prompt_tokens", "int32", "tokens", "Length of the prompt, cached part included."),
    Column("cached_tokens", "int32", "tokens", "Part of the prompt found in a prefix cache."),
    Column("output_tokens", "int32", "tokens", "Length of the whole answer as the trace asks for it."),
    Column("preemptions", "int32", "1", "Times that the request lost its place in the batch."),
    Column("retries", "int32", "1", "Times that the request was sent again after a failure or rejection."),
    Column("outcome", "string", "1", "What became of it: " + ", ".join(OUTCOMES) + "."),
)

TIMELINE = (
    Column("scenario_id", "string", "1", "Scenario that was simulated; joins all tables."),
    Column("replication", "int32", "1", "Number of the replication, from 0."),
    Column("pool", "string", "1", "Pool that the row is about."),
    Column("interval_start_s", "float64", "s", "Start of the interval, from the start of the run."),
    Column("interval_end_s", "float64", "s", "End of the interval."),
    Column("replicas", "float64", "1", "Replicas that serve, mean over the interval; those that drain are among them."),
    Column("starting_replicas", "float64", "1", "Replicas on their way from off to ready, mean."),
    Column("spare_replicas", "float64", "1", "Warm spares: started, without requests, mean."),
    Column("failed_replicas", "float64", "1", "Replicas away by failure, maintenance or roll-out, mean."),
    Column("waiting", "float64", "requests", "Requests not in a batch, mean over the interval, all replicas."),
    Column("running", "float64", "requests", "Requests in a batch, mean over the interval, all replicas."),
    Column("kv_used_fraction", "float64", "1", "KV memory in use, mean over interval and replicas that serve."),
    Column("busy_fraction", "float64", "1", "Time with a step in progress, mean over the replicas that serve."),
    Column("power_w", "float64", "W", "Power of the pool, mean; null where no power is known.", nullable=True),
    Column("prefill_tokens", "float64", "tokens", "Prompt tokens computed, recomputed ones included."),
    Column("decode_tokens", "float64", "tokens", "Output tokens produced."),
    Column("arrivals", "int64", "requests", "Requests that the router sent to the pool."),
)

SUMMARY = (
    Column("scenario_id", "string", "1", "Scenario that was simulated; joins all tables."),
    Column("class", "string", "1", "Traffic class, or all."),
    Column("pool", "string", "1", "Pool, or all."),
    Column("metric", "string", "1", "What was measured; the ending of the name is its unit."),
    Column("quantile", "float64", "1", "Quantile of the metric; null for means, rates and counts.", nullable=True),
    Column(
        "value",
        "float64",
        "see unit",
        "Estimate; null if there is none, infinite if unserved.",
        nullable=True,
    ),
    Column("low", "float64", "see unit", "Lower end of the confidence interval; null if none.", nullable=True),
    Column("high", "float64", "see unit", "Upper end of the confidence interval; null if none.", nullable=True),
    Column(
        "model_low",
        "float64",
        "see unit",
        "Lower end of the 80% band that errors of the step-time model leave; null where none is known or needed.",
        nullable=True,
    ),
    Column("model_high", "float64", "see unit", "Upper end of that band, past the knee null.", nullable=True),
    Column("confidence", "float64", "1", "Confidence of the interval."),
    Column("unit", "string", "1", "Unit of value, low and high."),
    Column("samples", "int64", "1", "Observations behind the value."),
    Column("method", "string", "1", "Interval from replications, sectioning, batch means, mean field; or exact."),
    Column("note", "string", "1", "Why a value or interval is missing or doubtful.", nullable=True),
    Column("price_basis", "string", "1", "What the price of a cost is, as in rent on demand.", nullable=True),
)

HEADROOM = (
    Column("scenario_id", "string", "1", "Scenario that was simulated; joins all tables."),
    Column("replication", "int32", "1", "Number of the replication, from 0."),
    Column("pool", "string", "1", "Pool that the row is about."),
    Column("class", "string", "1", "Traffic class that bears it."),
    Column("part", "string", "1", "What the accelerators did: used, idle, spare, starting, failed."),
    Column("accelerator_s", "float64", "s", "Accelerator time that is paid, over the whole run."),
    Column("cost_usd", "float64", "USD", "What it costs; null where no price is known.", nullable=True),
    Column("price_basis", "string", "1", "What the price of the cost is, as in rent on demand.", nullable=True),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "requests": REQUESTS,
    "timeline": TIMELINE,
    "summary": SUMMARY,
    "headroom": HEADROOM,
}

TABLE_DESCRIPTIONS = {
    "requests": "One row for each request of each replication. Latencies are differences of its times.",
    "timeline": "One row for each interval, pool and replication: time-weighted means and token counts.",
    "summary": "One row for each metric, class, pool and quantile, with its confidence interval.",
    "headroom": "One row for each pool, class, part and replication: whose the paid accelerator time of the run is.",
}


def arrow_schema(table: str) -> pa.Schema:
    """Arrow schema of a table, with unit and description of each field in its metadata.

    Parameters: `table` is a key of `TABLES`. Raises ValueError for any other name.
    """
    return schema_of(columns_of(table), table, TABLE_DESCRIPTIONS[table], SCHEMA_VERSION)


def schema_of(columns: Sequence[Column], table: str, description: str, version: int) -> pa.Schema:
    """Arrow schema of a list of columns, with the unit and description of each, and the table's own in its metadata."""
    fields = [
        pa.field(
            column.name,
            ARROW_TYPES[column.dtype],
            nullable=column.nullable,
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in columns
    ]
    return pa.schema(fields, metadata={"table": table, "description": description, "schema_version": str(version)})


def columns_of(table: str) -> tuple[Column, ...]:
    """Columns of a table; raises ValueError naming the known tables if there is no such table."""
    if table not in TABLES:
        raise ValueError(f"unknown table {table!r}; known tables: {', '.join(TABLES)}")
    return TABLES[table]


def arrow_table(table: str, data: Mapping[str, object] | pd.DataFrame | pa.Table) -> pa.Table:
    """Table with exactly the schema of `table`, from arrays by column name.

    Equal content gives an equal table however it was chunked or encoded: strings are encoded again in the
    order of their first appearance, and NaN becomes null.

    Parameters: `table` is a key of `TABLES`; `data` holds one array, each of shape (rows,), by column name:
    anything that pyarrow takes. Raises ValueError naming all missing, unknown, and wrongly filled columns at
    once.
    """
    columns = columns_of(table)
    given = data.column_names if isinstance(data, pa.Table) else [str(name) for name in data]
    expected = [column.name for column in columns]
    problems = [f"column {name!r} is missing" for name in expected if name not in given]
    problems += [f"column {name!r} is unknown" for name in given if name not in expected]
    arrays = []
    for column in columns:
        if column.name not in given:
            continue
        try:
            array = _array(column, data[column.name])
        except pa.ArrowException as error:
            problems.append(f"column {column.name!r} does not hold {column.dtype}: {error}")
            continue
        if array.null_count and not column.nullable:
            problems.append(f"column {column.name!r} has {array.null_count} nulls and may have none")
        arrays.append(array)
    if problems:
        raise ValueError(f"table {table!r}: " + "; ".join(problems))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def frame(table: str, data: pa.Table) -> pd.DataFrame:
    """Table as a DataFrame: strings as categories, missing times as NaN, nullable integers as Int32."""
    result: pd.DataFrame = data.unify_dictionaries().to_pandas()
    for column in columns_of(table):
        if column.nullable and column.dtype.startswith("int"):
            result[column.name] = result[column.name].astype(pd.api.types.pandas_dtype(column.dtype.title()))
    return result


def numbers(data: Table, name: str) -> npt.NDArray[np.float64]:
    """One numeric column as float64 of shape (rows,), null as NaN."""
    column = data[name]
    series = column if isinstance(column, pd.Series) else column.to_pandas()
    return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))


def labels(data: Table, name: str) -> tuple[npt.NDArray[np.intp], list[str]]:
    """One text column as codes of shape (rows,) into the sorted list of its values; null is -1."""
    column = data[name]
    series = column if isinstance(column, pd.Series) else column.unify_dictionaries().to_pandas()
    codes, values = pd.factorize(series)
    names = [str(value) for value in values]
    order = sorted(range(len(names)), key=names.__getitem__)
    # the last place is that of null, whose code -1 counts from the end
    places = np.full(len(names) + 1, -1, dtype=np.intp)
    places[order] = np.arange(len(names))
    return places[codes], [names[index] for index in order]


def fields_markdown() -> str:
    """Reference of all tables and columns as Markdown: the text of docs/fields.md."""
    lines = [
        "# Tables and columns",
        "",
        "Generated from `sim/results/tables.py`; unit and description also stand in the metadata of each",
        f"Parquet file. Schema version {SCHEMA_VERSION}.",
    ]
    for table, columns in TABLES.items():
        lines += ["", f"## {table}.parquet", "", TABLE_DESCRIPTIONS[table], ""]
        lines += ["| column | type | unit | may be null | description |", "|---|---|---|---|---|"]
        lines += [
            f"| `{column.name}` | {column.dtype} | {column.unit} | {'yes' if column.nullable else 'no'} "
            f"| {column.description} |"
            for column in columns
        ]
    return "\n".join(lines) + "\n"


def _array(column: Column, values: object) -> pa.Array:
    """One column in its canonical Arrow form: one chunk, NaN as null, strings encoded by first appearance."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    array = values if isinstance(values, pa.Array) else pa.array(values, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if column.dtype == "string":
        return array.cast(pa.string()).dictionary_encode()
    array = array.cast(ARROW_TYPES[column.dtype])
    if column.dtype == "float64":
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
    return array
