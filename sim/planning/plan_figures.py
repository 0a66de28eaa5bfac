"""A plan as figures in Plotly's JSON form: fleet and cost by month, policies, and what each lever saves."""

from __future__ import annotations

from typing import Any

import pandas as pd

Figure = dict[str, Any]


def fleet_figure(fleet: pd.DataFrame) -> Figure:
    """Return accelerators by month, owned and rented, of one policy's fleet."""
    counted = fleet.drop_duplicates(["period", "accelerator"])
    bars = []
    for name, group in counted.groupby("accelerator", sort=False):
        bars += [
            {"type": "bar", "name": f"{name}, {kind}", "x": group["period"].tolist(), "y": group[kind].tolist()}
            for kind in ("owned", "rented")
            if group[kind].any()
        ]
    return _stacked(bars, "accelerators")


def cost_figure(costs: pd.DataFrame) -> Figure:
    """Return cost by month and use case, idle capacity apart."""
    bars = [
        {"type": "bar", "name": str(name), "x": group["period"].tolist(), "y": group["cost_usd"].tolist()}
        for name, group in costs.groupby("class", sort=False)
    ]
    return _stacked(bars, "cost [USD a month]")


def policies_figure(policies: pd.DataFrame) -> Figure:
    """Return the net present cost of all policies and alternatives that are feasible."""
    feasible = policies[policies["feasible"]]
    bar = {"type": "bar", "x": feasible["policy"].tolist(), "y": feasible["net_present_cost_usd"].tolist()}
    return {"data": [bar], "layout": {"yaxis": {"title": {"text": "net present cost [USD]"}, "rangemode": "tozero"}}}


def waterfall(attribution: pd.DataFrame) -> Figure:
    """Return the way from the cost without any lever to that with all of them, by Shapley value, largest first."""
    ends = attribution[attribution["kind"] == "cost"].set_index("lever")["usd"]
    parts = attribution[attribution["kind"] == "shapley"].sort_values("usd", ascending=False)
    bar = {
        "type": "waterfall",
        "x": ["none", *parts["lever"], "all"],
        "y": [float(ends["none"]), *(-parts["usd"]).tolist(), float(ends["all"])],
        "measure": ["absolute", *["relative"] * len(parts), "total"],
    }
    return {"data": [bar], "layout": {"yaxis": {"title": {"text": "cost of the last month [USD]"}}}}


def _stacked(bars: list[Figure], title: str) -> Figure:
    return {"data": bars, "layout": {"barmode": "stack", "yaxis": {"title": {"text": title}}}}
