"""Sizings as tables for a terminal: what each accelerator needs and costs, and cost against latency."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from rich.console import Group, RenderableType
from rich.text import Text

from sim.planning.break_even import BreakEven
from sim.planning.choices import layout_in_words
from sim.planning.levels import LevelReached, seconds
from sim.planning.sizing_comparison import SizingComparison
from sim.planning.sizing_result import Sizing
from sim.reporting.wide_table import TableColumn, WideTable


def sizing_tables(comparison: SizingComparison) -> RenderableType:
    """Return sizes and costs, the service levels at the planned sizes, the frontier, and what stands against them."""
    parts: list[RenderableType] = []
    planned = [each for each in comparison.sizings if each.feasible]
    if planned:
        parts += [_sizes(planned), Text(), _classes(planned), Text(), _levels(planned), Text(), _frontier(comparison)]
    for each in comparison.sizings:
        parts += [Text(f"{each.scenario_id}, {flag.scope}: {flag.name}: {flag.message}") for flag in each.flags]
    parts += [
        Text(f"Infeasible: {each.scenario_id}, pool {each.pool}, {each.model}, {each.reason}")
        for each in comparison.sizings
        if not each.feasible
    ]
    return Group(*parts)


def break_even_table(model: str, found: Mapping[str, BreakEven]) -> WideTable:
    """Return from which volume and use of capacity own replicas cost less than an API, by accelerator."""
    return WideTable(
        f"Own replicas against the API price of {model}",
        [
            TableColumn("hardware", is_key=True),
            TableColumn("break-even\nuse of capacity", is_number=True),
            TableColumn("pays from\nrequests/s", is_number=True),
            TableColumn("pays always from\nrequests/s", is_number=True),
        ],
        [
            [name, f"{each.utilisation:.1%}", _volume(each.first_per_s), _volume(each.always_per_s)]
            for name, each in found.items()
        ],
    )


def _sizes(sizings: list[Sizing]) -> WideTable:
    columns = [
        TableColumn("scenario", is_key=True),
        TableColumn("model", is_key=True),
        TableColumn("hardware", is_key=True),
        *(
            TableColumn(heading, is_number=heading != "layout")
            for heading in ("replicas", "with model\nerror", "accelerators", "layout", "sequences\nat most",
                            "requests/s", "USD/h", "idle share\nof cost", "USD per\nM input", "USD per\nM output",
                            "USD per\nM tokens")
        ),
        TableColumn("terms"),
    ]  # fmt: skip
    return WideTable("Smallest fleets that meet all service levels", columns, [_size_row(each) for each in sizings])


def _size_row(sizing: Sizing) -> list[str]:
    costs, load = sizing.token_costs, sizing.load
    money = ["-"] * 4
    if costs is not None:
        money = [
            f"{costs.stranded_usd_per_hour / costs.cost_usd_per_hour:.0%}",
            _digits(costs.usd_per_million_input_tokens),
            _digits(costs.usd_per_million_output_tokens),
            _digits(costs.usd_per_million_tokens),
        ]
    return [
        sizing.scenario_id,
        sizing.model,
        sizing.hardware,
        f"{sizing.replicas:,}",
        _within(sizing),
        f"{sizing.accelerators:,}",
        layout_in_words(sizing.layout),
        f"{sizing.max_sequences:,}",
        "-" if load is None else _digits(load.requests_per_s),
        "-" if sizing.cost_usd_per_hour is None else _digits(sizing.cost_usd_per_hour),
        *money,
        sizing.price_basis or "no price",
    ]


def _classes(sizings: list[Sizing]) -> WideTable:
    columns = [
        TableColumn("scenario", is_key=True),
        TableColumn("model", is_key=True),
        TableColumn("hardware", is_key=True),
        TableColumn("class", is_key=True),
        *(
            TableColumn(heading, is_number=True)
            for heading in (
                "requests/s",
                "mean prompt\ntokens",
                "mean answer\ntokens",
                "USD per\n1000 requests",
                "USD/h",
            )
        ),
    ]
    rows = [
        [
            each.scenario_id,
            each.model,
            each.hardware,
            str(row["class"]),
            _digits(float(row["requests_per_s"])),
            f"{row['prompt_tokens']:,.0f}",
            f"{row['output_tokens']:,.0f}",
            _digits(1000.0 * float(row["usd_per_request"])),
            _digits(float(row["usd_per_hour"])),
        ]
        for each in sizings
        if each.class_costs is not None
        for row in each.class_costs.to_dict(orient="records")
    ]
    return WideTable("What a request of each class costs", columns, rows)


def _levels(sizings: list[Sizing]) -> WideTable:
    columns = [
        TableColumn("scenario", is_key=True),
        TableColumn("model", is_key=True),
        TableColumn("hardware", is_key=True),
        TableColumn("service level", is_key=True),
        TableColumn("limit", is_number=True),
        TableColumn("reached", is_number=True),
        TableColumn("80% band of\nmodel error", is_number=True),
        TableColumn("met"),
    ]
    rows = [
        [
            each.scenario_id,
            each.model,
            each.hardware,
            level.label,
            seconds(level.limit_s),
            _reached(level),
            model_band(level),
            _verdict(level),
        ]
        for each in sizings
        for level in each.levels
    ]  # fmt: skip
    return WideTable("Service levels at these sizes, simulated again", columns, rows)


def _frontier(comparison: SizingComparison) -> WideTable:
    columns = [
        TableColumn("scenario", is_key=True),
        TableColumn("model", is_key=True),
        TableColumn("hardware", is_key=True),
        *(
            TableColumn(heading, is_number=heading != "layout")
            for heading in (
                "replicas",
                "accelerators",
                "layout",
                "sequences\nat most",
                "USD/h",
                "largest latency\n/ limit",
            )
        ),
        TableColumn("met"),
    ]
    rows = [
        [
            str(row["scenario_id"]),
            str(row["model"]),
            str(row["hardware"]),
            f"{row['replicas']:,}",
            f"{row['accelerators']:,}",
            str(row["layout"]),
            f"{row['max_sequences']:,}",
            "-" if pd.isna(row["cost_usd_per_hour"]) else _digits(float(row["cost_usd_per_hour"])),
            f"{row['tightness']:.3g}",
            "yes" if row["met"] else "no",
        ]
        for row in comparison.frontier().to_dict(orient="records")
        if row["efficient"]
    ]
    return WideTable("Cost against latency", columns, rows)


def _within(sizing: Sizing) -> str:
    """Return the replicas at both ends of the capacity's error band."""
    found = sizing.replicas_within_model_error()
    return "not known" if found is None else f"{found[0]:,}–{found[1]:,}"


def model_band(level: LevelReached) -> str:
    """Return the range that errors of the step-time model leave of a latency."""
    if level.past_the_knee:
        return "past knee"
    known = not math.isnan(level.model_low_s)
    return f"{seconds(level.model_low_s)}–{seconds(level.model_high_s)}" if known else "not known"


def _reached(level: LevelReached) -> str:
    if level.past_the_knee:
        return f"past knee: {seconds(level.value_s)}"
    if math.isnan(level.low_s) or math.isinf(level.value_s):
        return seconds(level.value_s)
    return f"{seconds(level.value_s)} ({seconds(level.low_s)}–{seconds(level.high_s)})"


def _verdict(level: LevelReached) -> str:
    undecided = level.met != level.surely_met or level.surely_missed == level.met
    within = ["noise"] if undecided else []
    if not math.isnan(level.model_low_s) and level.met_in_any_case is None:
        within.append("model error")
    return ("yes" if level.met else "no") + (f" (within {' and '.join(within)})" if within else "")


def _volume(per_s: float) -> str:
    return "never" if math.isinf(per_s) else _digits(per_s)


def _digits(value: float) -> str:
    """Return a number with three digits, and all those before the point."""
    return f"{value:,.0f}" if value >= 100.0 else f"{value:.3g}"
