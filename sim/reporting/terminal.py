"""Results and library entries as tables for a terminal, a page, and a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from sim.results.result import Result
from sim.results.tables import ALL

PLAIN_WIDTH = 150
"""Width of tables where there is no terminal [characters]."""

_MILLISECONDS = 1e3
_LATENCIES = (
    ("ttft_s", 0.5, "TTFT p50\nms", _MILLISECONDS),
    ("ttft_s", 0.99, "TTFT p99\nms", _MILLISECONDS),
    ("tpot_s", 0.5, "TPOT p50\nms", _MILLISECONDS),
    ("tpot_s", 0.99, "TPOT p99\nms", _MILLISECONDS),
    ("e2e_s", 0.5, "E2E p50\ns", 1.0),
    ("e2e_s", 0.99, "E2E p99\ns", 1.0),
)
_FLEET = (
    ("output_tokens_offered_per_s", "offered\ntok/s out"),
    ("output_tokens_completed_per_s", "completed\ntok/s out"),
    ("goodput_requests_fraction", "requests in\nservice level"),
    ("load_factor", "load /\ncapacity"),
    ("usd_per_million_tokens", "USD per\nM tokens"),
    ("usd_per_million_output_tokens", "USD per\nM output"),
)


def result_tables(result: Result) -> RenderableType:
    """Return what a planner wants to see of a run: load and cost, latency by class, and the flags."""
    summary = result.summary()
    parts: list[RenderableType] = [_fleet_table(result, summary), Text(), _latency_table(summary)]
    if (summary["metric"].str.startswith("service_level_met")).any():
        parts += [Text(), _service_level_table(summary)]
    parts += [Text(), *_flag_lines(result)]
    return Group(*parts)


def result_page(result: Result) -> str:
    """Return the tables of a run as one HTML file that needs nothing else."""
    console = _recorder()
    console.print(result_tables(result))
    return console.export_html(inline_styles=True)


def result_picture(result: Result, title: str) -> str:
    """Return the tables of a run as SVG."""
    console = _recorder()
    console.print(result_tables(result))
    return console.export_svg(title=title)


def library_table(kind: str, rows: Sequence[Mapping[str, str]]) -> Table:
    """Return the documents of one kind as a table whose columns are the keys of the rows."""
    table = _table(kind)
    for column in rows[0] if rows else ("name",):
        table.add_column(column, overflow="fold", no_wrap=column != "title")
    for row in rows:
        table.add_row(*row.values())
    return table


def pools_table(pools: Iterable[Mapping[str, Any]]) -> Table:
    """Return the pools of a scenario: what they run on, hold and cost."""
    table = _table("Pools")
    for column in ("scenario", "pool", "model", "hardware"):
        table.add_column(column, no_wrap=True)
    for column in ("replicas", "accelerators", "weights\nGiB each", "KV\nktokens", "USD/h each", "terms"):
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
            "unknown" if price is None else _range(price["usd_per_hour"], price["low"], price["high"]),
            "" if price is None else str(price["basis"]),
        )
    return table


def with_interval(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """Return a number with the larger half of its interval, `0.420 ±0.021`; without one where there is none."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "unserved"
    half = max(value - low, high - value)
    if math.isnan(half) or half == 0.0:
        return _number(value)
    if math.isinf(half):
        return f"{_number(value)} ±∞"
    return f"{_number(value)} ±{half:,.{_decimals(value)}f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")


def _recorder() -> Console:
    return Console(record=True, file=io.StringIO(), width=PLAIN_WIDTH, force_terminal=True)


def _decimals(value: float) -> int:
    """Return the decimals that show three digits of a number."""
    if value == 0 or not math.isfinite(value):
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def _number(value: float) -> str:
    return f"{value:,.{_decimals(value)}f}"


def _range(value: float, low: float, high: float) -> str:
    return _number(value) if low == high else f"{_number(value)} ({_number(low)}–{_number(high)})"


def _fleet_table(result: Result, summary: pd.DataFrame) -> Table:
    table = _table("Load and cost")
    table.add_column("scenario", no_wrap=True)
    table.add_column("accelerators", no_wrap=True)
    for _, heading in _FLEET:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("terms", justify="right")
    pools_of = result.manifest["pools"]
    assert isinstance(pools_of, Mapping)
    for scenario in summary["scenario_id"].unique():
        rows = summary[
            (summary["scenario_id"] == scenario) & (summary["class"] == ALL) & (summary["pool"] == ALL)
        ].set_index("metric")
        table.add_row(
            scenario,
            ", ".join(f"{pool['accelerators']} {pool['hardware']}" for pool in pools_of[scenario]),
            *(_shown(rows, metric) for metric, _ in _FLEET),
            str(rows.loc["usd_per_million_tokens", "price_basis"] or ""),
        )
    return table


def _shown(rows: pd.DataFrame, metric: str) -> str:
    if metric not in rows.index:
        return "-"
    return with_interval(*(float(rows[column].loc[metric]) for column in ("value", "low", "high")))


def _latency_table(summary: pd.DataFrame) -> Table:
    table = _table("Latency")
    table.add_column("scenario", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("requests", justify="right")
    for *_, heading, _ in _LATENCIES:
        table.add_column(heading, justify="right", no_wrap=True)
    rows = summary[summary["pool"] == ALL]
    several = rows["class"].nunique() > 2
    for (scenario, name), group in rows.groupby(["scenario_id", "class"], sort=False):
        if name == ALL and not several:
            continue
        cells = []
        for metric, quantile, _, scale in _LATENCIES:
            found = group[(group["metric"] == metric) & (group["quantile"] == quantile)].iloc[0]
            cells.append(with_interval(*(float(found[column]) * scale for column in ("value", "low", "high"))))
        offered = group.loc[group["metric"] == "requests_offered", "value"].iloc[0]
        table.add_row(str(scenario), str(name), f"{offered:,.0f}", *cells)
    return table


def _service_level_table(summary: pd.DataFrame) -> Table:
    table = _table("Service levels")
    for column in ("scenario", "class", "service level"):
        table.add_column(column, no_wrap=True)
    for column in ("limit s", "reached s", "within limit", "met"):
        table.add_column(column, justify="right", no_wrap=True)
    for _, row in summary[summary["metric"].str.startswith("service_level_met")].iterrows():
        metric = str(row["metric"]).removeprefix("service_level_met_")
        same = summary[
            (summary["scenario_id"] == row["scenario_id"])
            & (summary["class"] == row["class"])
            & (summary["quantile"] == row["quantile"])
        ].set_index("metric")
        undecided = row["low"] != row["high"]
        table.add_row(
            str(row["scenario_id"]),
            str(row["class"]),
            f"{metric.removesuffix('_s').upper()} p{100 * row['quantile']:g}",
            _number(float(same["value"].loc[f"service_level_limit_{metric}"])),
            _shown(same, metric),
            f"{float(same['value'].loc[f'service_level_attainment_{metric}']):.1%}",
            ("yes" if row["value"] else "no") + (" (within noise)" if undecided else ""),
        )
    return table


def _flag_lines(result: Result) -> list[RenderableType]:
    if not result.flags:
        return [Text("No flags: loads are below capacity, queues are level, samples suffice.")]
    lines: list[RenderableType] = [Text("Flags: read the figures above with these in mind", style="bold")]
    lines += [Text(f"  {flag.name}: {flag.scope}: {flag.message}") for flag in result.flags]
    return lines
