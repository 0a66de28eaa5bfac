"""Tasks, units of work and users of a run as a table: what each class gets done, and what that costs."""

from __future__ import annotations

import math

import pandas as pd

from sim.reporting.wide_table import TableColumn, WideTable
from sim.results.tables import ALL

_TASKS = {
    ("task_time_s", 0.5): "task p50\ns",
    ("task_time_s", 0.9): "task p90\ns",
    ("calls_per_task", None): "calls\nper task",
    ("output_tokens_per_task", None): "output tok\nper task",
    ("usd_per_task", None): "USD\nper task",
    ("usd_per_request", None): "USD\nper request",
    ("usd_per_user_month", None): "USD per\nuser month",
}


def work_table(summary: pd.DataFrame) -> WideTable:
    """Return one row a scenario and class: times and costs of its tasks, and its units in words."""
    classes = summary[(summary["class"] != ALL) & (summary["pool"] == ALL)]
    columns = [TableColumn("scenario", is_key=True), TableColumn("class", is_key=True)]
    columns += [TableColumn(heading, is_number=True) for heading in _TASKS.values()]
    columns += [TableColumn("work", is_prose=True)]
    rows = []
    for (scenario, name), found in classes.groupby(["scenario_id", "class"], sort=False, observed=True):
        values = {
            (str(metric), None if math.isnan(quantile) else float(quantile)): float(value)
            for metric, quantile, value in zip(found["metric"], found["quantile"], found["value"], strict=True)
        }
        rows.append([str(scenario), str(name), *(_number(values.get(key, math.nan)) for key in _TASKS), _work(values)])
    return WideTable("Tasks, work and users", columns, rows)


def _work(values: dict[tuple[str, float | None], float]) -> str:
    """Return units, their cost, deadline and backlog in words; nothing for a class that counts none."""
    plain = {metric: value for (metric, quantile), value in values.items() if quantile is None}
    parts = []
    for metric in plain:
        unit = metric.removesuffix("_completed_per_s")
        if unit == metric or unit in ("requests", "tasks", "input_tokens", "output_tokens"):
            continue
        said = f"{_number(plain[metric])} {unit}/s at USD {_number(plain[f'usd_per_{unit}'])} each"
        fraction = plain.get(f"{unit}_by_deadline_fraction", math.nan)
        said += "" if math.isnan(fraction) else f", {fraction:.1%} by their deadline"
        backlog = plain.get(f"backlog_{unit}", 0.0)
        parts.append(said + (f", backlog {_number(backlog)}" if backlog > 0.0 else ""))
    return "; ".join(parts)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return "not seen" if math.isinf(value) else f"{value:,.4g}"
