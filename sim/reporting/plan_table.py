"""A plan as tables for a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from sim.planning.plan import Plan
from sim.reporting.terminal import KNOWN, band_in_words
from sim.reporting.wide_table import TableColumn, WideTable

MONTHS_BETWEEN_ROWS = 3
"""The fleet is shown every third month, and in the last one."""


def plan_tables(plan: Plan) -> RenderableType:
    """Return policies, fleet, purchases, costs, service levels, viability and levers, then what does not hold."""
    parts: list[RenderableType] = [_policies(plan)]
    if plan.manifest["feasible"]:
        parts += [Text(), _fleet(plan), Text(), _purchases(plan), Text(), _costs(plan), Text(), _levels(plan)]
    parts += [Text(), _viability(plan), Text(), _levers(plan), Text(), _back_test(plan)]
    missed, reasons = _texts(plan, "missed"), _texts(plan, "reasons")
    if plan.manifest["validity"]:
        parts += [Text(), _validity(plan)]
    parts += [Text(f"{flag['scope']}: {flag['name']}: {flag['message']}") for flag in plan.manifest["flags"]]
    parts += [Text(f"Infeasible: {each}") for each in reasons]
    parts += [Text(f"Does not hold after {plan.manifest['repairs']} repairs: {each}") for each in missed]
    return Group(*parts)


def plan_json(plan: Plan) -> dict[str, object]:
    """Return the plan in JSON types, without what differs between two equal runs."""
    tables = {}
    for name, frame in plan.tables.items():
        kept = frame.drop(columns=[column for column in ("solve_s",) if column in frame])
        tables[name] = kept.astype(object).where(kept.notna(), None).to_dict(orient="records")
    timed = ("solve_s", "wall_s", "fingerprints", "horizon")
    return {**{key: value for key, value in plan.manifest.items() if key not in timed}, "tables": tables}


def _texts(plan: Plan, key: str) -> list[str]:
    found = plan.manifest[key]
    return [str(each) for each in found] if isinstance(found, list) else []


def _policies(plan: Plan) -> WideTable:
    rows = [
        [
            str(row["policy"]),
            _money(row["net_present_cost_usd"]),
            "-" if pd.isna(row["over_optimum"]) else f"{row['over_optimum']:+.1%}",
            "-" if pd.isna(row["gap"]) else f"{row['gap']:.2%}",
            f"{row['most_owned']:,}",
            f"{row['most_rented']:,}",
            str(row["reason"]),
        ]
        for row in plan.policies().to_dict(orient="records")
    ]
    columns = [TableColumn("policy", is_key=True)]
    columns += [TableColumn(heading, is_number=True) for heading in
                ("net present cost\nUSD", "over the\noptimum", "gap", "most\nowned", "most\nrented")]  # fmt: skip
    return WideTable(
        "Policies, and fleets within 5% that differ most", [*columns, TableColumn("how it ended", is_prose=True)], rows
    )


def _fleet(plan: Plan) -> WideTable:
    fleet = plan.fleet()
    months = sorted(fleet["period"].unique())
    shown = sorted({*months[::MONTHS_BETWEEN_ROWS], months[-1]})
    rows = [
        [
            str(row["period"]), str(row["accelerator"]), str(row["class"]), "-" if pd.isna(row["model"]) else
            str(row["model"]), f"{row['replicas']:,}", f"{row['accelerators']:,}", f"{row['owned']:,}",
            f"{row['rented']:,}",
        ]
        for row in fleet[fleet["period"].isin(shown)].to_dict(orient="records")
    ]  # fmt: skip
    columns = [TableColumn(heading, is_key=True) for heading in ("month", "accelerator", "use case", "model")]
    columns += [TableColumn(heading, is_number=True) for heading in
                ("replicas", "accelerators", "owned\nin all", "rented\nin all")]  # fmt: skip
    return WideTable("The fleet, every third month", columns, rows)


def _purchases(plan: Plan) -> WideTable:
    rows = [
        [
            str(row["period"]), str(row["action"]), str(row["accelerator"]), "-" if pd.isna(row["term"]) else
            str(row["term"]), f"{row['accelerators']:,}", _money(row["usd"]),
        ]
        for row in plan.purchases().to_dict(orient="records")
    ]  # fmt: skip
    columns = [TableColumn(heading, is_key=True) for heading in ("month", "action", "accelerator", "term")]
    columns += [TableColumn(heading, is_number=True) for heading in ("accelerators", "USD")]
    return WideTable("What to order, take, sell and rent; a rent is that of one month", columns, rows)


def _costs(plan: Plan) -> WideTable:
    costs = plan.cost()
    ends = costs[costs["period"].isin([costs["period"].min(), costs["period"].max()])]
    rows = [
        [
            str(row["period"]), str(row["class"]), _digits(row["requests"]),
            f"{row['rebound']:+.0%}", _digits(row["utilisation"]), f"{row['api_share']:.0%}",
            _money(row["cost_usd"]), _digits(row["usd_per_million_tokens"]), _digits(row["usd_per_unit"]),
            "-" if pd.isna(row["unit"]) else str(row["unit"]),
        ]
        for row in ends.to_dict(orient="records")
    ]  # fmt: skip
    columns = [TableColumn("month", is_key=True), TableColumn("use case", is_key=True)]
    columns += [TableColumn(heading, is_number=True) for heading in
                ("requests", "rebound", "use of\ncapacity", "left to\nthe API", "USD a month", "USD per\nM tokens",
                 "USD per unit")]  # fmt: skip
    return WideTable("Cost in the first and the last month", [*columns, TableColumn("unit")], rows)


def _levels(plan: Plan) -> WideTable:
    rows = []
    latency = plan.latency()
    latency["part"] = latency["value_s"] / latency["limit_s"]
    for (case, metric, quantile), group in latency.groupby(["class", "metric", "quantile"], sort=True):
        worst = group.iloc[int(group["part"].to_numpy().argmax())]
        rows.append([
            str(case), f"{str(metric).upper()} p{100 * float(str(quantile)):g}", f"{worst['limit_s']:.3g} s",
            _worst(worst), _model_band(worst),
            f"{worst['period']} {worst['hour']}", f"{int((~group['met']).sum())} of {len(group)}",
        ])  # fmt: skip
    columns = [
        TableColumn("use case", is_key=True), TableColumn("service level", is_key=True),
        TableColumn("limit", is_number=True), TableColumn("worst", is_number=True),
        TableColumn("80% band of\nmodel error", is_number=True), TableColumn("when"),
        TableColumn("missed", is_number=True),
    ]  # fmt: skip
    return WideTable("Service levels of the plan, simulated with fresh requests in every month and hour", columns, rows)


def _worst(level: pd.Series) -> str:
    """Return a latency with its interval, marked where its pools are past the knee."""
    shown = f"{level['value_s']:.3g} s ({_digits(level['low_s'])}–{_digits(level['high_s'])})"
    return f"past knee: {shown}" if level["past_the_knee"] else shown


def _model_band(level: pd.Series) -> str:
    if level["past_the_knee"]:
        return "past knee"
    ends = [level["model_low_s"], level["model_high_s"]]
    return "not known" if pd.isna(ends[0]) else f"{ends[0]:.3g}–{ends[1]:.3g} s"


def _validity(plan: Plan) -> WideTable:
    rows = []
    for each in plan.manifest["validity"]:
        bands = each["error_bands"]
        shown = [band_in_words(bands.get(metric)) for metric in ("ttft", "tpot", "e2e", "throughput")]
        rows.append([each["model"], each["accelerator"], KNOWN[each["known"]], *shown])
    columns = [TableColumn(heading, is_key=True) for heading in ("model", "accelerator")]
    columns += [TableColumn("accelerator is")]
    columns += [TableColumn(heading, is_number=True) for heading in ("TTFT", "TPOT", "E2E", "capacity")]
    return WideTable("Model error: measured over predicted in four of five cases", columns, rows)


def _viability(plan: Plan) -> WideTable:
    found = plan.viability()
    headings = {
        "class": "use case", "unit": "unit", "ceiling_usd": "ceiling\nUSD", "first_month": "pays\nfrom",
        "at_low_prices": "at low\nprices", "at_high_prices": "at high\nprices", "at_low_ceiling": "at low\nceiling",
        "at_high_ceiling": "at high\nceiling", "cost_20_higher": "20%\ndearer", "cost_20_lower": "20%\ncheaper",
        "self_host_cheaper_from": "own fleet beats\nthe API from",
    }  # fmt: skip
    rows = [
        [_digits(row[key]) if key == "ceiling_usd" else str(row[key]) for key in headings]
        for row in found.to_dict(orient="records")
    ]
    columns = [TableColumn(text, is_key=key == "class") for key, text in headings.items()]
    return WideTable("From which month it pays, for good", columns, rows)


def _levers(plan: Plan) -> WideTable:
    found = plan.attribution()
    before, after = (float(found[(found["kind"] == "cost") & (found["lever"] == end)]["usd"].iloc[0])
                     for end in ("none", "all"))  # fmt: skip
    wide = found[found["kind"].isin(["shapley", "alone", "last"])].pivot(index="lever", columns="kind", values="usd")
    rows = [["without any", _money(before), "", "", ""]]
    for lever, row in wide.sort_values("shapley", ascending=False).iterrows():
        share = row["shapley"] / (before - after) if 0.0 < before - after < math.inf else 0.0
        rows.append([str(lever), _money(-row["shapley"]), f"{share:.1%}", _money(-row["alone"]), _money(-row["last"])])
    rows.append(["with all", _money(after), "", "", ""])
    columns = [TableColumn("lever", is_key=True)]
    columns += [TableColumn(heading, is_number=True) for heading in
                ("USD a month", "share", "alone", "as the last")]  # fmt: skip
    return WideTable("What each lever saves in the last month (Shapley value, simulated)", columns, rows)


def _back_test(plan: Plan) -> WideTable:
    rows = [
        [
            str(row["title"]), str(row["known_on"]), str(row["recorded_on"]), _digits(row["known"]),
            f"{_digits(row['low'])}–{_digits(row['high'])}", _recorded(row), f"{row['factor']:.2g}",
            str(row["verdict"]), str(row["note"]),
        ]
        for row in plan.back_test().to_dict(orient="records")
    ]  # fmt: skip
    columns = [TableColumn("series", is_key=True), TableColumn("known"), TableColumn("recorded on")]
    columns += [TableColumn(heading, is_number=True) for heading in
                ("then", "expected", "recorded", "recorded over\nexpected")]  # fmt: skip
    return WideTable("Expectations against records", [*columns, TableColumn("verdict"),
                                                      TableColumn("note", is_prose=True)], rows)  # fmt: skip


def _recorded(row: Mapping[Hashable, Any]) -> str:
    if row["recorded_low"] == row["recorded_high"]:
        return _digits(row["recorded"])
    return f"{_digits(row['recorded_low'])}–{_digits(row['recorded_high'])}"


def _money(value: object) -> str:
    number = float(str(value)) if value is not None else math.nan
    return "-" if math.isnan(number) else f"{number:,.0f}"


def _digits(value: object) -> str:
    number = float(str(value)) if value is not None else math.nan
    if math.isnan(number):
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100.0 else f"{number:.3g}"
