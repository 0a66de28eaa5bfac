"""The one list of columns of an uncertainty study: tables that a BI tool joins on what is asked and on inputs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pyarrow as pa

from sim.results.tables import ARROW_TYPES, Column

UNCERTAINTY_SCHEMA_VERSION = 1
"""Raised by one whenever a column is renamed, removed or changes its meaning."""

_STUDY = Column("study_id", "string", "1", "Horizon whose plan was looked at; joins all tables.")
_SAMPLE = Column("sample", "int64", "1", "Number of the world, from 0.")
_INPUT = Column("input", "string", "1", "Document and path of the number, as in `economics.electricity`.")
_ASKED = (
    Column("metric", "string", "1", "What is asked; its ending is its unit."),
    Column("fleet", "string", "1", "`best`: cheapest fleet of each world; `plan`: the decided one; `world`: neither."),
    Column("class", "string", "1", "Use case, or `all`."),
    Column("period", "string", "1", "Month, as 2027-06, or `all`."),
)
_GROUP = Column("group", "string", "1", "Group of the input in the decomposition of variance.")

TABLES: dict[str, tuple[Column, ...]] = {
    "inputs": (
        _STUDY,
        _INPUT,
        _GROUP,
        Column("unit", "string", "1", "Unit of low, value and high."),
        Column("low", "float64", "see unit", "Lower end."),
        Column("value", "float64", "see unit", "Value to plan with; of an error band its geometric middle."),
        Column("high", "float64", "see unit", "Upper end."),
        Column("shape", "string", "1", "Form of the distribution."),
        Column("interval", "float64", "1", "Probability between low and high; 1 where they are the ends."),
        Column("drawn", "bool", "1", "Whether it is drawn."),
        Column("reason", "string", "1", "Why it is not drawn, or that it moves nothing; empty otherwise."),
        Column("source", "string", "1", "Source keys and confidence, or the measured points of a band."),
    ),
    "draws": (
        _STUDY,
        _SAMPLE,
        _INPUT,
        Column("value", "float64", "see inputs", "Number of the input in that world."),
    ),
    "samples": (
        _STUDY,
        _SAMPLE,
        *_ASKED,
        Column("value", "float64", "see metric", "The number; null where there is none, infinite for never.", True),
    ),
    "fans": (
        _STUDY,
        *_ASKED,
        Column("quantile", "float64", "1", "0.1, 0.5 or 0.9."),
        Column("value", "float64", "see metric", "Quantile over worlds; null where there is none.", True),
        Column("low", "float64", "see metric", "Lower end of its 95% interval; null with too few worlds.", True),
        Column("high", "float64", "see metric", "Upper end; null with too few worlds.", True),
        Column("base", "float64", "see metric", "The number when every input keeps its value.", True),
        Column("samples", "int64", "1", "Worlds in which there is a number."),
        Column("enough", "bool", "1", "Whether the intervals of this number are as narrow as was asked."),
    ),
    "tornado": (
        _STUDY,
        *_ASKED,
        Column("rank", "int64", "1", "1 for the input that moves the number most."),
        _INPUT,
        _GROUP,
        Column("at_low", "float64", "see metric", "The number at the input's P10, all else as planned.", True),
        Column("at_high", "float64", "see metric", "The number at its P90.", True),
        Column("base", "float64", "see metric", "The number when every input keeps its value.", True),
    ),
    "sobol": (
        _STUDY,
        *_ASKED,
        Column("scale", "string", "1", "`log` where indices are of the number's logarithm, else `plain`."),
        _GROUP,
        Column("order", "string", "1", "`first` or `total`."),
        Column("value", "float64", "1", "Share in the variance; null where the number does not vary.", True),
        Column("low", "float64", "1", "Lower end of its 95% bootstrap interval.", True),
        Column("high", "float64", "1", "Upper end.", True),
        Column("pairs", "int64", "1", "Pairs of worlds behind it."),
        Column("enough", "bool", "1", "Whether the interval is as narrow as was asked."),
    ),
    "noise": (
        _STUDY,
        *_ASKED,
        Column("scale", "string", "1", "As in sobol."),
        Column("variance", "float64", "scale", "Variance over all worlds.", True),
        Column("from_inputs", "float64", "1", "Share that knowing all inputs would take away.", True),
        Column("from_simulation", "float64", "1", "Share left then: other requests give other coefficients.", True),
        Column("half_interval", "float64", "1", "Half of the 95% interval of both shares.", True),
        Column("at_base", "float64", "scale", "Variance over sets of requests, inputs at their values.", True),
    ),
    "response": (
        _STUDY,
        _SAMPLE,
        Column("class", "string", "1", "Use case."),
        Column("model", "string", "1", "Key of the model."),
        Column("accelerator", "string", "1", "Hardware profile."),
        Column("compressed", "bool", "1", "Whether all reasoning is compressed."),
        Column("pace", "float64", "1", "Speed of steps over the calibration, for the room below the limits."),
        Column("response_per_s", "float64", "requests/s", "What an accelerator was taken to serve in that world."),
        Column("simulated_per_s", "float64", "requests/s", "What it serves by simulation and sizing of that world."),
    ),
}
"""Table -> columns."""

DESCRIPTIONS = {
    "inputs": "Every number with a range, drawn or not.",
    "draws": "The numbers of the sampled worlds.",
    "samples": "What each sampled world comes to.",
    "fans": "P10, P50 and P90 of all numbers.",
    "tornado": "What each input does alone to the headline numbers.",
    "sobol": "Shares of groups of inputs in the variance of the headline numbers.",
    "noise": "How much of that variance is noise of the simulation.",
    "response": "The response without simulation against simulations of drawn worlds.",
}


def arrow(name: str, rows: pd.DataFrame | Mapping[str, object]) -> pa.Table:
    """Return rows with the schema of a table; ValueError for a column that is missing or too many."""
    columns = TABLES[name]
    frame = pd.DataFrame(rows)
    given = [str(each) for each in frame.columns]
    if sorted(given) != sorted(each.name for each in columns):
        raise ValueError(f"{name}: columns differ by {sorted(set(given) ^ {each.name for each in columns})}")
    fields = [
        pa.field(
            each.name, ARROW_TYPES[each.dtype], nullable=each.nullable,
            metadata={"unit": each.unit, "description": each.description},
        )
        for each in columns
    ]  # fmt: skip
    metadata = {
        "table": name,
        "description": DESCRIPTIONS[name],
        "uncertainty_schema_version": str(UNCERTAINTY_SCHEMA_VERSION),
    }
    arrays = []
    for each in columns:
        array = pa.array(frame[each.name].to_numpy(), from_pandas=True)
        arrays.append(
            array.cast(pa.string()).dictionary_encode()
            if each.dtype == "string"
            else array.cast(ARROW_TYPES[each.dtype])
        )
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def columns_markdown() -> str:
    """Return the tables and columns as Markdown, for docs/uncertainty.md."""
    lines = []
    for name, columns in TABLES.items():
        lines += [f"### {name}.parquet", "", DESCRIPTIONS[name], ""]
        lines += ["| column | type | unit | may be null | description |", "|---|---|---|---|---|"]
        lines += [
            f"| `{each.name}` | {each.dtype} | {each.unit} | {'yes' if each.nullable else 'no'} | {each.description} |"
            for each in columns
        ]
        lines.append("")
    return "\n".join(lines)
