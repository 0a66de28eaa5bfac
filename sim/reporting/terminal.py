"""Results and library entries as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim.results.result import Result
from sim.results.tables import ALL

_LATENCY_COLUMNS = (
    ("ttft_s", 0.5),
    ("ttft_s", 0.99),
    ("tpot_s", 0.5),
    ("tpot_s", 0.99),
    ("e2e_s", 0.5),
    ("e2e_s", 0.99),
)

_FLEET_METRICS = (
    "output_tokens_offered_per_s",
    "output_tokens_completed_per_s",
    "goodput_requests_fraction",
    "utilisation",
    "usd_per_million_tokens",
    "usd_per_million_output_tokens",
)


def result_tables(result: Result) -> RenderableType:
    """Return what a planner wants to see of a run: load and cost, latency by class, and the flags."""
    summary = result.summary()
    parts: list[RenderableType] = [_fleet_table(result, summary), Text(), _latency_table(summary)]
    if (summary["metric"].str.startswith("service_level_met")).any():
        parts += [Text(), _service_level_table(summary)]
    parts += [Text(), *_flag_lines(result)]
    return Group(*parts)


def library_table(kind: str, rows: Sequence[Mapping[str, str]]) -> Table:
    """Return the documents of one kind as a table whose columns are the keys of the rows."""
    table = Table(title=kind, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in rows[0] if rows else ("name",):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for row in rows:
        table.add_row(*row.values())
    return table


def pools_table(pools: Iterable[Mapping[str, Any]]) -> Table:
    """Return the pools of a scenario: what they run on, hold and cost."""
    table = Table(title="Pools", title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in ("scenario", "pool", "model", "hardware"):
        table.add_column(column)
    for column in ("replicas", "accelerators", "weights GiB", "KV ktokens", "USD/h each", "terms"):
        table.add_column(column, justify="right")
    for pool in pools:
        price = pool["price"]
        table.add_row(
            pool["scenario"],
            pool["pool"],
            pool["model"],
            pool["hardware"],
            str(pool["replicas"]),
            str(pool["accelerators"]),
            f"{pool['weight_bytes_per_accelerator'] / 2**30:.1f}",
            f"{pool['kv_capacity_tokens'] / 1e3:,.0f}",
            "unknown" if price is None else with_interval(price["usd_per_hour"], price["low"], price["high"]),
            "" if price is None else str(price["basis"]),
        )
    return table


def with_interval(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a number with its interval, `0.42 (0.40-0.45)`; without one where there is none."""
    if math.isnan(value):
        return "-"
    text = _number(value)
    if math.isnan(low) or math.isnan(high) or (low == value and high == value):
        return text
    return f"{text} ({_number(low)}–{_number(high)})"


def _number(value: float) -> str:
    if math.isinf(value):
        return "unserved"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 6)}f}"


def _fleet_table(result: Result, summary: pd.DataFrame) -> Table:
    table = Table(title="Load and cost", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    table.add_column("accelerators")
    for column in (
        "offered\ntok/s out",
        "completed\ntok/s out",
        "good\nrequests",
        "busy",
        "USD per M tokens",
        "USD per M output",
        "terms",
    ):
        table.add_column(column, justify="right")
    for scenario in summary["scenario_id"].unique():
        rows = summary[
            (summary["scenario_id"] == scenario) & (summary["class"] == ALL) & (summary["pool"] == ALL)
        ].set_index("metric")
        pools = _mapping(result.manifest, "pools")[scenario]
        table.add_row(
            scenario,
            ", ".join(f"{pool['accelerators']} {pool['hardware']}" for pool in pools),
            *(_shown(rows, metric) for metric in _FLEET_METRICS),
            str(rows.loc["usd_per_million_tokens", "price_basis"] or ""),
        )
    return table


def _shown(rows: pd.DataFrame, metric: str) -> str:
    value, low, high = rows.loc[metric, ["value", "low", "high"]].astype(float)
    return with_interval(value, low, high)


def _latency_table(summary: pd.DataFrame) -> Table:
    table = Table(title="Latency [s]", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    table.add_column("class")
    table.add_column("requests", justify="right")
    for metric, quantile in _LATENCY_COLUMNS:
        table.add_column(f"{metric.removesuffix('_s').upper()} p{100 * quantile:g}", justify="right")
    rows = summary[summary["pool"] == ALL]
    for (scenario, name), group in rows.groupby(["scenario_id", "class"], sort=False):
        if name == ALL and group["class"].nunique() == 1 and rows["class"].nunique() == 2:
            continue
        cells = []
        for metric, quantile in _LATENCY_COLUMNS:
            found = group[(group["metric"] == metric) & (group["quantile"] == quantile)].iloc[0]
            cells.append(with_interval(found["value"], found["low"], found["high"]))
        offered = group.loc[group["metric"] == "requests_offered", "value"].iloc[0]
        table.add_row(str(scenario), str(name), f"{offered:,.0f}", *cells)
    return table


def _service_level_table(summary: pd.DataFrame) -> Table:
    table = Table(title="Service levels", title_justify="left", box=None, pad_edge=False, header_style="bold")
    table.add_column("scenario")
    table.add_column("class")
    table.add_column("service level")
    for column in ("limit s", "reached s", "within limit", "met"):
        table.add_column(column, justify="right")
    for _, row in summary[summary["metric"].str.startswith("service_level_met")].iterrows():
        metric = row["metric"].removeprefix("service_level_met_")
        same = summary[
            (summary["scenario_id"] == row["scenario_id"])
            & (summary["class"] == row["class"])
            & (summary["quantile"] == row["quantile"])
        ].set_index("metric")
        reached, within = same.loc[metric], same.loc[f"service_level_attainment_{metric}"]
        undecided = row["low"] != row["high"]
        table.add_row(
            str(row["scenario_id"]),
            str(row["class"]),
            f"{metric.removesuffix('_s').upper()} p{100 * row['quantile']:g}",
            _number(same.loc[f"service_level_limit_{metric}", "value"]),
            with_interval(reached["value"], reached["low"], reached["high"]),
            f"{within['value']:.1%}",
            ("yes" if row["value"] else "no") + (" (within noise)" if undecided else ""),
        )
    return table


def _flag_lines(result: Result) -> list[RenderableType]:
    if not result.flags:
        return [Text("No flags: loads are below capacity, queues are level, samples suffice.")]
    lines: list[RenderableType] = [Text("Flags: read the figures above with these in mind", style="bold")]
    lines += [Text(f"  {flag.name}: {flag.scope}: {flag.message}") for flag in result.flags]
    return lines


def _mapping(manifest: Mapping[str, object], key: str) -> Mapping[str, Any]:
    value = manifest[key]
    assert isinstance(value, Mapping)
    return value
