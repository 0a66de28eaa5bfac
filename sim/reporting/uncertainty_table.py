"""An uncertainty study as tables for a terminal, and as JSON."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from sim.planning.uncertainty.assembly import is_headline
from sim.planning.uncertainty.outcomes import Asked, months_in_words
from sim.planning.uncertainty.result import MONTH_METRICS, Uncertainty
from sim.reporting.wide_table import TableColumn, WideTable

MOST_BARS = 12
"""Bars of the tornado that are shown."""

_FLEETS = {"best": "cheapest fleet of each world", "plan": "the plan", "world": ""}


def uncertainty_tables(study: Uncertainty) -> RenderableType:
    """Return the headline quantiles, the tornado and the shares of variance of the cost, and what is flagged."""
    parts: list[RenderableType] = [_headlines(study), Text(), _tornado(study)]
    if len(study.table("sobol")):
        parts += [Text(), _sobol(study)]
    parts += [Text(), _noise_in_words(study), _inputs_in_words(study), *_response_in_words(study)]
    parts += [Text(f"Flag: {each}") for each in study.flags]
    return Group(*parts)


def uncertainty_json(study: Uncertainty) -> dict[str, object]:
    """Return the study in JSON types, without the single worlds."""
    tables = {}
    for name in ("inputs", "fans", "tornado", "sobol", "noise", "response"):
        rows = study.table(name)
        tables[name] = rows.astype(object).where(rows.notna(), None).to_dict(orient="records")
    kept = {key: value for key, value in study.manifest.items() if key != "fingerprints"}
    return {**kept, "tables": tables}


def _headlines(study: Uncertainty) -> WideTable:
    rows = study.table("fans")
    last = str(rows[rows["period"] != "all"]["period"].max())
    start = str(study.manifest["start"])
    shown = []
    for key, mine in rows.groupby(["metric", "fleet", "class", "period"], sort=False):
        asked = Asked(*(str(each) for each in key))
        if not is_headline(asked, last):
            continue
        flag = "" if bool(mine["enough"].iloc[0]) else "too few worlds"
        words = [_value(asked.metric, value, start) for value in (mine["base"].iloc[0], *mine["value"])]
        shown.append([
            asked.metric, _FLEETS[asked.fleet], asked.class_name if asked.class_name != "all" else "",
            asked.period if asked.period != "all" else "", *words, flag,
        ])  # fmt: skip
    columns = [TableColumn("number", is_key=True), TableColumn("fleet"), TableColumn("class"), TableColumn("month")]
    columns += [TableColumn(heading, is_number=True) for heading in ("as planned", "P10", "P50", "P90")]
    columns += [TableColumn("flag")]
    count = study.manifest["settings"]["samples"]
    return WideTable(f"What {count:,} worlds come to", columns, shown)


def _tornado(study: Uncertainty) -> WideTable:
    rows = study.tornado().head(MOST_BARS)
    shown = [
        [str(row["input"]), str(row["group"]), _number(row["at_low"]), _number(row["at_high"])]
        for row in rows.to_dict(orient="records")
    ]
    columns = [TableColumn("input", is_key=True), TableColumn("group")]
    columns += [TableColumn(heading, is_number=True) for heading in ("at its P10\nUSD", "at its P90\nUSD")]
    base = _number(float(rows["base"].iloc[0]))
    title = f"Net present cost of the cheapest fleet, one input at a time (as planned {base} USD)"
    return WideTable(title, columns, shown)


def _sobol(study: Uncertainty) -> WideTable:
    rows = study.sobol()
    shown: list[tuple[float, list[str]]] = []
    for group, mine in rows.groupby("group", sort=False):
        first, total = mine[mine["order"] == "first"].iloc[0], mine[mine["order"] == "total"].iloc[0]
        shown.append((float(total["value"]), [str(group), _share(first), _share(total)]))
    shown.sort(key=lambda row: 0.0 if math.isnan(row[0]) else -row[0])
    columns = [TableColumn("group", is_key=True)]
    columns += [TableColumn(heading, is_number=True) for heading in ("alone", "with others")]
    scale = " (of its logarithm)" if str(rows["scale"].iloc[0]) == "log" else ""
    title = f"Shares in the variance of that cost{scale}, with 95% intervals"
    return WideTable(title, columns, [cells for _, cells in shown])


def _noise_in_words(study: Uncertainty) -> Text:
    rows = study.noise()
    mine = rows[(rows["metric"] == "net_present_cost_usd") & (rows["fleet"] == "best")]
    if mine.empty or math.isnan(float(mine["from_simulation"].iloc[0])):
        return Text("Noise of the simulation was not told apart: that takes pairs of worlds and several replicates.")
    share, half = float(mine["from_simulation"].iloc[0]), float(mine["half_interval"].iloc[0])
    return Text(f"Noise of the simulation is {share:.2%} of that variance (± {half:.2%}); the rest is from inputs.")


def _inputs_in_words(study: Uncertainty) -> Text:
    rows = study.inputs()
    idle = int(((rows["reason"] != "") & rows["drawn"]).sum())
    drawn, left = int(rows["drawn"].sum()), int((~rows["drawn"]).sum())
    return Text(
        f"{drawn} numbers are drawn, {idle} of which move nothing here; {left} are not, for reasons in `inputs`."
    )


def _response_in_words(study: Uncertainty) -> list[Text]:
    found = study.manifest["response"]
    if not found:
        return []
    return [
        Text(
            f"What replicas serve, against simulation of {study.manifest['settings']['checks']} worlds "
            f"({found['replicas']} replicas): off by {found['median']:.1%} in the median, {found['p90']:.1%} at P90, "
            f"{found['largest']:.0%} at most."
        )
    ]


def _share(row: pd.Series[Any]) -> str:
    if math.isnan(float(row["value"])):
        return "-"
    return f"{row['value']:.0%} ± {row['high'] - row['value']:.0%}"


def _value(metric: str, value: float, start: str) -> str:
    if metric in MONTH_METRICS:
        return "-" if math.isnan(value) else months_in_words(start, value)
    return _number(value)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"
