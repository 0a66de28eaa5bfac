"""The one list of columns of a plan: tables that a BI tool joins on plan_id, policy, period, class and accelerator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sim.results.tables import Column, schema_of
from sim.results.writing import MANIFEST, check_replaceable, whole_directory, write_parquet

PLAN_SCHEMA_VERSION = 2
"""Raised by one whenever a column is renamed, removed or changes its meaning."""

VERSION_KEY = "plan_schema_version"

_PLAN = Column("plan_id", "string", "1", "Horizon that was planned; joins all tables.")
_POLICY = Column("policy", "string", "1", "Policy or near-optimal alternative.")
_PERIOD = Column("period", "string", "1", "Month, as 2027-06.")
_CLASS = Column("class", "string", "1", "Use case; `idle` for what nothing uses.")
_MODEL = Column("model", "string", "1", "Model that serves it; null where none does.", nullable=True)
_ACCELERATOR = Column("accelerator", "string", "1", "Hardware profile.")

TABLES: dict[str, tuple[Column, ...]] = {
    "periods": (
        _PLAN,
        _POLICY,
        _PERIOD,
        Column("site", "string", "1", "Site of owned systems, or `rented`."),
        Column("accelerators", "int64", "1", "Accelerators in use or idle."),
        Column("provisioned_w", "float64", "W", "Power provisioned before cooling."),
        Column("power_w", "float64", "W", "Mean power at the meter."),
        Column("energy_kwh", "float64", "kWh", "Energy at the meter in the month."),
        Column("carbon_kg", "float64", "kg", "Carbon dioxide of that energy."),
        Column(
            "money_out_usd",
            "float64",
            "USD",
            "Purchases, running cost, rent and API less resale; API and rent on `rented`.",
        ),
        Column("software", "float64", "1", "Speed of steps over the calibration, software and speculation together."),
        Column("rent_index", "float64", "1", "Rents over those of the profiles."),
    ),
    "fleet": (
        _PLAN,
        _POLICY,
        _PERIOD,
        _ACCELERATOR,
        _CLASS,
        _MODEL,
        Column("replicas", "int64", "1", "Serving instances; 0 for idle accelerators."),
        Column("accelerators", "int64", "1", "Accelerators that they take."),
        Column("owned", "int64", "1", "Accelerators of this kind owned in all; the same on all rows of the kind."),
        Column("rented", "int64", "1", "Accelerators of this kind rented in all; the same on all rows of the kind."),
    ),
    "costs": (
        _PLAN,
        _POLICY,
        _PERIOD,
        _CLASS,
        Column("requests", "float64", "requests", "Requests of the month."),
        Column("base_requests", "float64", "requests", "Requests if nothing had become cheaper since the first month."),
        Column("rebound", "float64", "1", "First over second, less one."),
        Column("api_share", "float64", "1", "Share of the busiest hour's requests that is left to the API."),
        Column("utilisation", "float64", "1", "Mean load over what its replicas can serve.", nullable=True),
        Column("fleet_usd", "float64", "USD", "Share of annuities, running cost and rent, by accelerators."),
        Column("api_usd", "float64", "USD", "Cost of what is left to the API."),
        Column("cost_usd", "float64", "USD", "Both together."),
        Column("usd_per_request", "float64", "USD", "Per request; null for idle.", nullable=True),
        Column("usd_per_million_tokens", "float64", "USD", "Per million prompt and answer tokens.", nullable=True),
        Column("unit", "string", "1", "What the use case counts.", nullable=True),
        Column("usd_per_unit", "float64", "USD", "Per unit.", nullable=True),
    ),
    "latency": (
        _PLAN,
        _POLICY,
        _PERIOD,
        Column("hour", "string", "1", "Representative hour."),
        _CLASS,
        _MODEL,
        Column("metric", "string", "1", "ttft, tpot or e2e."),
        Column("quantile", "float64", "1", "Share of the requests that must keep the limit."),
        Column("limit_s", "float64", "s", "Limit."),
        Column("value_s", "float64", "s", "Quantile in the simulation."),
        Column("low_s", "float64", "s", "Lower end of its 95% interval.", nullable=True),
        Column("high_s", "float64", "s", "Upper end.", nullable=True),
        Column(
            "model_low_s",
            "float64",
            "s",
            "Lower end of the 80% band of model error; null past the knee.",
            nullable=True,
        ),
        Column("model_high_s", "float64", "s", "Upper end of that band.", nullable=True),
        Column("past_the_knee", "bool", "1", "Whether the load exceeds the capacity: the latency grows with the run."),
        Column("met", "bool", "1", "Whether the quantile keeps the limit."),
        Column("surely", "bool", "1", "Whether the whole interval lies on that side."),
        Column("samples", "int64", "1", "Requests behind it."),
        Column("replicas", "int64", "1", "Replicas that serve it."),
        Column("requests_per_s", "float64", "requests/s", "Rate in that hour of a busy day, without the API's share."),
    ),
    "purchases": (
        _PLAN,
        _POLICY,
        _PERIOD,
        _ACCELERATOR,
        Column("action", "string", "1", "order, deliver, retire or rent."),
        Column("term", "string", "1", "Rental term; null otherwise.", nullable=True),
        Column("systems", "int64", "1", "Systems or contracts."),
        Column("accelerators", "int64", "1", "Accelerators in them."),
        Column("usd", "float64", "USD", "Paid in this month for it; resale is negative, a rent that of one month."),
    ),
    "viability": (
        _PLAN,
        _PERIOD,
        Column("price_path", "string", "1", "low, base or high prices."),
        _CLASS,
        Column("unit", "string", "1", "What the use case counts."),
        Column("usd_per_unit", "float64", "USD", "Cheapest way at large scale, sized to the peak.", nullable=True),
        Column("way", "string", "1", "owned, rented or api.", nullable=True),
        Column("accelerator", "string", "1", "Accelerator or API model of the largest share.", nullable=True),
        Column("own_usd_per_unit", "float64", "USD", "Cheapest way without the API.", nullable=True),
        Column("api_usd_per_unit", "float64", "USD", "API.", nullable=True),
        Column("ceiling_usd", "float64", "USD", "Cost below which it pays.", nullable=True),
        Column("pays", "bool", "1", "Whether it does."),
    ),
    "attribution": (
        _PLAN,
        _PERIOD,
        Column("lever", "string", "1", "Lever; `none` and `all` for the cost before and after."),
        Column("other", "string", "1", "Second lever of an interaction; null otherwise.", nullable=True),
        Column("kind", "string", "1", "cost, shapley, alone, last or interaction."),
        Column("usd", "float64", "USD", "Cost, or saving a month."),
    ),
    "policies": (
        _PLAN,
        _POLICY,
        Column("feasible", "bool", "1", "Whether a fleet meets all limits."),
        Column("net_present_cost_usd", "float64", "USD", "Discounted, less what is left at the end.", nullable=True),
        Column("over_optimum", "float64", "1", "That over the optimum, less one.", nullable=True),
        Column("gap", "float64", "1", "Proven distance to the best of this policy.", nullable=True),
        Column("solve_s", "float64", "s", "Time in the solver; not reproducible."),
        Column("most_owned", "int64", "1", "Most accelerators owned."),
        Column("most_rented", "int64", "1", "Most accelerators rented."),
        Column("reason", "string", "1", "How it ended, or what is missing."),
    ),
}
"""Table -> columns."""

DESCRIPTIONS = {
    "periods": "One row for each month and site: power, energy, carbon, and money out.",
    "fleet": "One row for each month, accelerator, use case and model: replicas and what they take; and idle ones.",
    "costs": "One row for each month and use case: requests, load and what they cost; and idle capacity.",
    "latency": "One row for each month, representative hour and service level: what the rehearsal of the plan came to.",
    "purchases": "One row for each order, delivery, sale and contract.",
    "viability": "One row for each use case, month and price path: the cheapest way to serve a unit.",
    "attribution": "One row for each saving of a lever, each interaction, and the cost before and after.",
    "policies": "One row for each policy and near-optimal alternative.",
}
"""Table -> what a row is."""


def table(name: str, rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return rows as a table with the columns of its list; ValueError for a column missing or too many."""
    columns = [column.name for column in TABLES[name]]
    for row in rows[:1]:
        if set(row) != set(columns):
            raise ValueError(f"{name}: columns differ by {sorted(set(row) ^ set(columns))}")
    frame = pd.DataFrame(rows, columns=columns)
    return _typed(name, frame)


def _typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with numbers as its list has them, and text as plain objects, None where there is none."""
    dtypes: dict[str, Any] = {each.name: object if each.dtype == "string" else each.dtype for each in TABLES[name]}
    typed = frame.astype(dtypes)
    for each in TABLES[name]:
        if each.dtype == "string":
            typed[each.name] = pd.Series([None if pd.isna(text) else text for text in typed[each.name]], dtype=object)
    return typed


def write_plan(
    directory: Path, tables: Mapping[str, pd.DataFrame], manifest: Mapping[str, object], overwrite: bool = False
) -> None:
    """Write the tables and the manifest to a directory that appears whole or not at all.

    Written to a temporary directory beside it and renamed at the end; an older plan is replaced only if asked for, and
    never a directory that holds anything else. Raises FileExistsError where it may not be written.
    """
    target = directory.absolute()
    check_free(target, overwrite)
    text = json.dumps({**manifest, VERSION_KEY: PLAN_SCHEMA_VERSION}, sort_keys=True, indent=2, allow_nan=False) + "\n"
    arrows = {
        name: pa.Table.from_pandas(
            tables[name], schema_of(columns, name, DESCRIPTIONS[name], PLAN_SCHEMA_VERSION), preserve_index=False
        )
        for name, columns in TABLES.items()
    }
    with whole_directory(target, lambda: check_free(target, overwrite)) as fresh:
        for name, arrow in arrows.items():
            write_parquet(arrow, fresh / f"{name}.parquet")
        (fresh / MANIFEST).write_text(text, encoding="utf-8")


def check_free(target: Path, overwrite: bool) -> None:
    """Raise FileExistsError unless a plan may be put at `target`."""
    check_replaceable(target, overwrite, {MANIFEST, "report.html", *(f"{name}.parquet" for name in TABLES)}, "a plan")


def read_plan(directory: Path) -> tuple[dict[str, pd.DataFrame], dict[str, object]]:
    """Return tables and manifest of a plan; ValueError where it is none, or one of another version."""
    manifest_file = directory / MANIFEST
    if not manifest_file.is_file():
        raise ValueError(f"{directory}: not a plan: it has no {MANIFEST}")
    manifest = json.loads(manifest_file.read_text(encoding="utf-8"))
    if manifest.pop(VERSION_KEY, None) != PLAN_SCHEMA_VERSION:
        raise ValueError(f"{directory}: not a plan of this version of the program")
    tables = {}
    for name in TABLES:
        tables[name] = _typed(name, pq.ParquetFile(directory / f"{name}.parquet").read().to_pandas())
    return tables, manifest
