"""Results and library entries as tables for a terminal, a page, and a picture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from sim.reporting.console import recorder
from sim.reporting.wide_table import TableColumn, WideTable
from sim.reporting.work_table import work_table
from sim.results.model_error import PAST_THE_KNEE
from sim.results.result import Result
from sim.results.tables import ALL

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
KNOWN = {"calibrated": "calibrated", "transferred": "unmeasured", "specification": "a specification"}
"""How well an accelerator is known, in words."""

_POOL_NAMES = ("scenario", "pool", "model", "hardware")
_POOL_NUMBERS = ("replicas", "accelerators", "weights\nGiB each", "KV\nktokens", "USD/h each", "terms")
_LISTED: Mapping[str, tuple[str, float, int]] = {
    "bf16_flop_per_s": ("bf16\nTFLOP/s", 1e12, 0),
    "fp8_flop_per_s": ("fp8\nTFLOP/s", 1e12, 0),
    "fp4_flop_per_s": ("fp4\nTFLOP/s", 1e12, 0),
    "memory_bytes": ("memory\nGiB", 2.0**30, 0),
    "memory_bytes_per_s": ("memory\nTB/s", 1e12, 2),
    "link_bytes_per_s": ("link\nGB/s", 1e9, 0),
    "scale_up_domain": ("domain", 1.0, 0),
    "thermal_design_w": ("W", 1.0, 0),
    "on_demand_usd_per_hour": ("on demand\nUSD/h", 1.0, 2),
    "reserved_3_year_usd_per_hour": ("3 years\nUSD/h", 1.0, 2),
    "owning_hyperscaler_usd_per_hour": ("owned\nUSD/h", 1.0, 2),
    "purchasable": ("for sale", 1.0, 0),
    "total_parameters": ("parameters\nG", 1e9, 1),
    "active_parameters": ("active\nG", 1e9, 1),
    "kv_bytes_per_token_bf16": ("KV bf16\nB/token", 1.0, 0),
    "context_tokens": ("context\ntokens", 1.0, 0),
    "mean_prompt_tokens": ("mean prompt\ntokens", 1.0, 0),
    "mean_output_tokens": ("mean output\ntokens", 1.0, 0),
}
"""Key of a listing -> heading, what a displayed unit holds of the key's unit, and decimals."""


def result_tables(result: Result) -> RenderableType:
    """Return what a planner wants to see of a run: load and cost, latency by class, and the flags."""
    summary = result.summary()
    parts: list[RenderableType] = [_fleet_table(result, summary), Text(), _latency_table(summary)]
    if (summary["metric"].str.startswith("service_level_met")).any():
        parts += [Text(), _service_level_table(summary)]
    parts += [Text(), work_table(summary)]
    parts += [Text(), model_error_table(result), Text(), *_flag_lines(result)]
    return Group(*parts)


def result_picture(result: Result, title: str) -> str:
    """Return load, cost and latency of a run as SVG that needs nothing else.

    Parameters
    ----------
    result : Result
        The run.
    title : str
        What stands in the title bar.

    """
    console = recorder()
    summary = result.summary()
    console.print(Group(_fleet_table(result, summary), Text(), _latency_table(summary)))
    # The fonts that rich refers to lie on a server of others; the reader's own monospace does as well.
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL)


def library_table(kind: str, rows: Sequence[Mapping[str, object]]) -> WideTable:
    """Return the documents of one kind as a table with a column for each key of the rows.

    Parameters
    ----------
    kind : str
        Title.
    rows : sequence of mapping
        Rows of `sim.reporting.listing.listing`, all with the same keys.

    """
    keys = list(rows[0]) if rows else ["name"]
    columns = [
        TableColumn(
            _heading(key),
            is_number=any(isinstance(row[key], int | float) for row in rows),
            is_key=key == "name",
            is_prose=key == "title" or any(isinstance(row[key], list) for row in rows),
        )
        for key in keys
    ]
    return WideTable(kind, columns, [[_listed(key, row[key]) for key in keys] for row in rows])


def pools_table(pools: Iterable[Mapping[str, Any]]) -> WideTable:
    """Return the pools of a scenario: what they run on, hold and cost."""
    columns = [TableColumn(name, is_key=name in ("scenario", "pool")) for name in _POOL_NAMES]
    columns += [TableColumn(heading, is_number=True) for heading in _POOL_NUMBERS]
    rows = []
    for pool in pools:
        price = pool["price"]
        rows.append(
            [
                *(str(pool[name]) for name in _POOL_NAMES),
                str(pool["replicas"]),
                str(pool["accelerators"]),
                f"{pool['weight_bytes_per_accelerator'] / 2**30:.1f}",
                f"{pool['kv_capacity_tokens'] / 1e3:,.0f}",
                "unknown" if price is None else _range(price["usd_per_hour"], price["low"], price["high"]),
                "" if price is None else str(price["basis"]),
            ]
        )
    return WideTable("Pools", columns, rows)


def model_error_table(result: Result) -> WideTable:
    """Return the error band of every pool: how far measured systems like it lay from their predictions."""
    columns = [TableColumn("scenario", is_key=True), TableColumn("pool", is_key=True), TableColumn("accelerator is")]
    columns += [TableColumn(heading, is_number=True) for heading in ("TTFT", "TPOT", "E2E", "capacity")]
    columns += [TableColumn("load /\ncapacity", is_number=True), TableColumn("points", is_number=True)]
    summary = result.summary()
    factors = summary[summary["metric"] == "load_factor"].set_index(["scenario_id", "pool"])
    pools = result.manifest["pools"]
    assert isinstance(pools, Mapping)
    rows = []
    for scenario, found in pools.items():
        for pool in found:
            bands = pool["validity"]["error_bands"]
            load = "-"
            if (scenario, pool["pool"]) in factors.index:
                low, high = (float(factors[end].loc[(scenario, pool["pool"])]) for end in ("model_low", "model_high"))
                load = "-" if math.isnan(low) else f"{_number(low)}–{_number(high)}"
            rows.append(
                [
                    str(scenario),
                    str(pool["pool"]),
                    KNOWN[pool["validity"]["known"]],
                    *(band_in_words(bands.get(metric)) for metric in ("ttft", "tpot", "e2e", "throughput")),
                    load,
                    f"{sum(band['points'] for band in bands.values()):,}",
                ]
            )
    return WideTable(
        "Model error: measured over predicted in four of five cases, beside the intervals above", columns, rows
    )


def band_in_words(band: Mapping[str, float] | None) -> str:
    """Return an error band as factors on a prediction."""
    return "not known" if band is None else f"×{band['low']:.2f}–{band['high']:.2f}"


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


def _heading(key: str) -> str:
    return _LISTED[key][0] if key in _LISTED else key.replace("_", " ")


def _listed(key: str, value: object) -> str:
    """Return a value of a listing as planners write it."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool):
        return "" if value else "no"
    if isinstance(value, int | float):
        _, scale, decimals = _LISTED.get(key, ("", 1.0, 0))
        return f"{value / scale:,.{decimals}f}"
    return str(value)


def _decimals(value: float) -> int:
    """Return the decimals that show three digits of a number."""
    if value == 0 or not math.isfinite(value):
        return 2
    return min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def _number(value: float) -> str:
    return f"{value:,.{_decimals(value)}f}"


def _range(value: float, low: float, high: float) -> str:
    return _number(value) if low == high else f"{_number(value)} ({_number(low)}–{_number(high)})"


def _fleet_table(result: Result, summary: pd.DataFrame) -> WideTable:
    columns = [TableColumn("scenario", is_key=True), TableColumn("accelerators")]
    columns += [TableColumn(heading, is_number=True) for _, heading in _FLEET]
    columns.append(TableColumn("terms", is_number=True))
    pools_of = result.manifest["pools"]
    assert isinstance(pools_of, Mapping)
    table = []
    for scenario in summary["scenario_id"].unique():
        rows = summary[
            (summary["scenario_id"] == scenario) & (summary["class"] == ALL) & (summary["pool"] == ALL)
        ].set_index("metric")
        table.append(
            [
                str(scenario),
                ", ".join(f"{pool['accelerators']} {pool['hardware']}" for pool in pools_of[scenario]),
                *(_shown(rows, metric) for metric, _ in _FLEET),
                str(rows.loc["usd_per_million_tokens", "price_basis"] or ""),
            ]
        )
    return WideTable("Load and cost", columns, table)


def _shown(rows: pd.DataFrame, metric: str) -> str:
    if metric not in rows.index:
        return "-"
    return with_interval(*(float(rows[column].loc[metric]) for column in ("value", "low", "high")))


def _latency_table(summary: pd.DataFrame) -> WideTable:
    columns = [TableColumn(name, is_key=True) for name in ("scenario", "class")]
    columns += [TableColumn(heading, is_number=True) for heading in ("requests", *(each[2] for each in _LATENCIES))]
    rows = summary[summary["pool"] == ALL]
    several = rows["class"].nunique() > 2
    table = []
    for (scenario, name), group in rows.groupby(["scenario_id", "class"], sort=False):
        if name == ALL and not several:
            continue
        cells = []
        for metric, quantile, _, scale in _LATENCIES:
            found = group[(group["metric"] == metric) & (group["quantile"] == quantile)].iloc[0]
            shown = with_interval(*(float(found[column]) * scale for column in ("value", "low", "high")))
            cells.append(_marked(shown, found["note"]))
        offered = group.loc[group["metric"] == "requests_offered", "value"].iloc[0]
        table.append([str(scenario), str(name), f"{offered:,.0f}", *cells])
    return WideTable("Latency", columns, table)


def _service_level_table(summary: pd.DataFrame) -> WideTable:
    columns = [TableColumn(name, is_key=True) for name in ("scenario", "class", "service level")]
    columns += [TableColumn(name, is_number=True) for name in ("limit s", "reached s", "within limit", "met")]
    table = []
    for _, row in summary[summary["metric"].str.startswith("service_level_met")].iterrows():
        metric = str(row["metric"]).removeprefix("service_level_met_")
        same = summary[
            (summary["scenario_id"] == row["scenario_id"])
            & (summary["class"] == row["class"])
            & (summary["quantile"] == row["quantile"])
        ].set_index("metric")
        within = float(same["value"].loc[f"service_level_attainment_{metric}"])
        table.append(
            [
                str(row["scenario_id"]),
                str(row["class"]),
                f"{metric.removesuffix('_s').upper()} p{100 * row['quantile']:g}",
                _number(float(same["value"].loc[f"service_level_limit_{metric}"])),
                _marked(_shown(same, metric), same["note"].loc[metric]),
                "-" if math.isnan(within) else f"{within:.1%}",
                verdict(row),
            ]
        )
    return WideTable("Service levels", columns, table)


def _marked(shown: str, note: object) -> str:
    """Return a latency with a mark where its pool is past the knee, so that it is never read without."""
    return f"past knee: {shown}" if str(note or "").startswith(PAST_THE_KNEE) else shown


def verdict(row: pd.Series) -> str:
    """Return whether a service level is met, in words; nothing is met where nothing was measured."""
    met = float(row["value"])
    if math.isnan(met):
        return "no requests"
    within = ["noise"] if row["low"] != row["high"] else []
    within += ["model error"] if float(row["model_low"]) < float(row["model_high"]) else []
    return ("yes" if met else "no") + (f" (within {' and '.join(within)})" if within else "")


def _flag_lines(result: Result) -> list[RenderableType]:
    if not result.flags:
        return [Text("No flags: loads are below capacity, queues are level, samples suffice.")]
    lines: list[RenderableType] = [Text("Flags: read the figures above with these in mind", style="bold")]
    lines += [Text(f"  {flag.name}: {flag.scope}: {flag.message}") for flag in result.flags]
    return lines
