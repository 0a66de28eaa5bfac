"""Plots of plans: cost per unit with its fan, fleet and purchases by month, frontier, waterfall and viability dates."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sim.reporting.report.plan_answer import of_policy
from sim.reporting.report.plots import (
    COLOURS,
    Plot,
    Trace,
    band,
    bars,
    in_row,
    line,
    log_axis,
    points,
    rows_layout,
    style,
)
from sim.reporting.report.studies import Study

_NEVER = "never"


def cost_per_unit(studies: Sequence[Study], spread: Study | None) -> Plot:
    """Return the cost of a unit by month, one row a use case: fan or price paths, ceiling, and the plan's own."""
    traces: list[Trace] = []
    seen: set[str] = set()
    first = studies[0].tables["viability"]
    classes = list(dict.fromkeys(first["class"]))
    several = len(studies) > 1
    table = []
    for place, name in enumerate(classes):
        if spread is not None:
            fans = spread.tables["fans"]
            fans = fans[(fans["metric"] == "usd_per_unit") & (fans["fleet"] == "world") & (fans["class"] == name)]
            wide = fans.pivot(index="period", columns="quantile", values="value").sort_index()
            told = "P10 to P90 over worlds"
            traces.append(in_row(band(list(wide.index), wide[0.1], wide[0.9], 0, told), place, seen))
            traces.append(in_row(line("P50 over worlds", wide.index, wide[0.5], 7), place, seen))
        for number, study in enumerate(studies):
            rows = study.tables["viability"]
            rows = rows[rows["class"] == name]
            paths = dict(list(rows.groupby("price_path", sort=False)))
            if spread is None and not several and {"low", "high"} <= set(paths):
                low, high = paths["low"], paths["high"]
                drawn = band(list(low["period"]), low["usd_per_unit"], high["usd_per_unit"], 0, "low to high prices")
                traces.append(in_row(drawn, place, seen))
            label = f"{study.label}: " if several else ""
            base = paths["base"]
            traces.append(
                in_row(line(f"{label}cheapest way", base["period"], base["usd_per_unit"], number), place, seen)
            )
            costs = of_policy(study, "costs")
            costs = costs[costs["class"] == name]
            mark = points(f"{label}this plan's fleet", costs["period"], costs["usd_per_unit"], number + 1)
            mark["marker"]["size"] = 7
            traces.append(in_row(mark, place, seen))
            if number == 0:
                ceiling = line("ceiling: pays below", base["period"], base["ceiling_usd"], 6)
                ceiling["line"] |= {"dash": "dash"}
                traces.append(in_row(ceiling, place, seen))
            table.append(rows[["class", "period", "price_path", "usd_per_unit", "way", "accelerator", "ceiling_usd"]])
    units = [str(first.loc[first["class"] == name, "unit"].iloc[0]) for name in classes]
    layout = rows_layout(
        [f"{name}, USD per {unit}" for name, unit in zip(classes, units, strict=True)],
        ["USD"] * len(classes),
        "",
        y_axis=log_axis(),
        x_axis={"type": "date"},
    )
    caption = (
        "Logarithmic. The cheapest way is at large scale, sized to the peak; the plan's fleet pays for whole systems."
    )
    return Plot(
        "Cost per unit through the horizon",
        "Cost per unit by month, one row a use case, with its range and the ceiling below which it pays.",
        traces,
        layout,
        pd.concat(table, ignore_index=True),
        caption,
    )


def fleet_plots(study: Study) -> list[Plot]:
    """Return accelerators and money by month of the optimal fleet."""
    counted = of_policy(study, "fleet").drop_duplicates(["period", "accelerator"])
    months = sorted(set(counted["period"]))
    traces: list[Trace] = []
    for name, group in counted.groupby("accelerator", sort=False):
        for kind in ("owned", "rented"):
            if group[kind].any():
                values = group.set_index("period")[kind].reindex(months, fill_value=0)
                traces.append(bars(f"{name}, {kind}", months, values, len(traces)))
    table = counted[["period", "accelerator", "owned", "rented"]]
    found = [
        Plot(
            "The fleet by month",
            "Accelerators owned and rented in each month, stacked by kind.",
            traces,
            _stacked("accelerators"),
            table,
        )
    ]
    purchases = of_policy(study, "purchases")
    traces = []
    for (action, made), group in purchases.groupby(["action", "accelerator"], sort=False):
        values = group.groupby("period")["accelerators"].sum().reindex(months, fill_value=0)
        traces.append(bars(f"{action} {made}", months, values, len(traces)))
    layout = _stacked("accelerators") | {"barmode": "group"}
    found.append(
        Plot(
            "Orders, deliveries, rents and retirements",
            "Accelerators ordered, delivered, rented and retired in each month.",
            traces,
            layout,
            purchases.drop(columns=["plan_id", "policy"]),
        )
    )
    costs = of_policy(study, "costs")
    traces = []
    for use_case, group in costs.groupby("class", sort=False):
        values = group.groupby("period")["cost_usd"].sum().reindex(months)
        traces.append(bars(str(use_case), months, values, len(traces)))
    found.append(
        Plot(
            "Cost by use case",
            "Cost in each month by use case, what idles apart.",
            traces,
            _stacked("USD a month"),
            costs[["period", "class", "requests", "cost_usd", "usd_per_million_tokens", "usd_per_unit", "unit"]],
        )
    )
    return found


def use_plot(study: Study) -> Plot:
    """Return utilisation by month and use case."""
    costs = of_policy(study, "costs")
    costs = costs[costs["utilisation"].notna()]
    traces = [
        line(str(name), group["period"], group["utilisation"], place, markers=True)
        for place, (name, group) in enumerate(costs.groupby("class", sort=False))
    ]
    layout = {
        "height": 320,
        "yaxis": {"title": {"text": "mean load / capacity"}, "tickformat": ".0%", "range": [0, 1.02]},
    }
    return Plot(
        "Utilisation",
        "Mean load over what the replicas can serve, by month and use case.",
        traces,
        layout,
        costs[["period", "class", "utilisation"]],
    )


def level_plot(study: Study) -> Plot:
    """Return how close each service level comes to its limit in each month's worst hour."""
    rows = study.tables["latency"].assign(used=lambda frame: frame["value_s"] / frame["limit_s"])
    worst = rows.loc[rows.groupby(["class", "metric", "quantile", "period"], sort=False)["used"].idxmax()]
    traces = []
    for place, ((name, metric, quantile), group) in enumerate(
        worst.groupby(["class", "metric", "quantile"], sort=False)
    ):
        label = f"{name} {str(metric).upper()} p{100 * float(str(quantile)):g}"
        ordered = group.sort_values("period")
        traces.append(line(label, ordered["period"], ordered["used"], place, markers=True))
    layout = {
        "height": 360,
        "yaxis": {"title": {"text": "share of the limit"}, "tickformat": ".0%", "rangemode": "tozero"},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"dash": "dash"}}],
    }
    table = worst[["class", "metric", "quantile", "period", "hour", "limit_s", "value_s", "low_s", "high_s", "used"]]
    return Plot(
        "Latency against its limits",
        "Each service level in the worst hour of each month, as a share of its limit.",
        traces,
        layout,
        table,
        "Above the dashed line a limit is broken.",
    )


def frontier(study: Study) -> Plot:
    """Return net present cost against accelerators owned, one mark a policy or near-optimal fleet."""
    rows = study.tables["policies"]
    rows = rows[rows["feasible"]]
    traces = [
        points(str(row["policy"]), [row["most_owned"]], [row["net_present_cost_usd"]], place)
        for place, (_, row) in enumerate(rows.iterrows())
    ]
    layout = {
        "height": 380,
        "xaxis": {"title": {"text": "most accelerators owned"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "net present cost [USD]"}},
    }
    return Plot(
        "Frontier: policies and fleets that cost nearly the same",
        "Net present cost against the most accelerators owned, one mark a policy.",
        traces,
        layout,
        rows.drop(columns=["plan_id", "solve_s"]),
    )


def waterfall(study: Study) -> Plot | None:
    """Return the way from the cost without levers to that with all, by Shapley value; None without levers."""
    rows = study.tables["attribution"]
    ends = rows[rows["kind"] == "cost"].set_index("lever")["usd"]
    parts = rows[rows["kind"] == "shapley"].sort_values("usd", ascending=False)
    if parts.empty or not {"none", "all"} <= set(ends.index):
        return None
    values = [float(ends["none"]), *(-parts["usd"]).tolist(), float(ends["all"])]
    looks = style(0), style(2)
    trace: Trace = {
        "type": "waterfall",
        "x": ["no lever", *(str(name).replace("_", " ") for name in parts["lever"]), "all levers"],
        "y": values,
        "measure": ["absolute", *["relative"] * len(parts), "total"],
        "text": [_millions(value) for value in values],
        "textposition": "auto",
        "totals": {"marker": {"color": looks[0]["color"]}},
        "decreasing": {"marker": {"color": looks[1]["color"]}},
        "increasing": {"marker": {"color": COLOURS[1]}},
        "showlegend": False,
    }
    layout = {"height": 420, "yaxis": {"title": {"text": "USD a month"}}, "xaxis": {"tickangle": -35}}
    return Plot(
        "What each lever saves",
        "Waterfall from the cost of the last month without any lever to that with all of them.",
        [trace],
        layout,
        parts[["lever", "usd"]],
        "Shapley values: the order of the levers does not matter.",
    )


def viability_dates(study: Study, spread: Study | None) -> Plot:
    """Return the first month that pays by use case, with the months under other prices and ceilings."""
    kinds = {
        "first_month": "as planned",
        "at_low_prices": "low prices",
        "at_high_prices": "high prices",
        "at_low_ceiling": "low ceiling",
        "at_high_ceiling": "high ceiling",
        "cost_20_higher": "20% dearer",
        "cost_20_lower": "20% cheaper",
    }
    found = study.manifest["viability"]
    end = str(max(study.tables["viability"]["period"]))
    after = str(pd.Period(end, "M") + 3)
    traces = []
    table = []
    for place, (key, label) in enumerate(kinds.items()):
        months = [str(each[key]) if each[key] else _NEVER for each in found]
        mark = points(
            label,
            [after if each == _NEVER else each for each in months],
            [str(each["class"]) for each in found],
            place,
            text=months,
            hovertemplate="%{y}: %{text}",
        )
        mark["marker"] |= {"size": 16 - 1.4 * place, "symbol": style(place)["symbol"] + ("" if place == 0 else "-open")}
        mark["marker"]["line"] = {"width": 2}
        traces.append(mark)
        table += [
            {"use case": each["class"], "under": label, "pays from": month}
            for each, month in zip(found, months, strict=True)
        ]
    if spread is not None:
        traces += _date_fans(spread, [str(each["class"]) for each in found], after)
    layout = {
        "height": 120 + 70 * len(found),
        "xaxis": {"type": "date"},
        "yaxis": {"autorange": "reversed", "type": "category"},
        "shapes": [{"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": end, "x1": end, "line": {"dash": "dot"}}],
    }
    return Plot(
        "When it pays",
        "First month from which each use case pays for good, by prices and ceilings.",
        traces,
        layout,
        pd.DataFrame(table),
        f"Right of the dotted line, {end}: not within the horizon.",
    )


def _date_fans(spread: Study, classes: Sequence[str], after: str) -> list[Trace]:
    fans = spread.tables["fans"]
    fans = fans[fans["metric"] == "viable_from_months"]
    start = pd.Period(str(spread.manifest["start"]), "M")
    traces: list[Trace] = []
    for name in classes:
        ends = fans[fans["class"] == name].set_index("quantile")["value"]
        if ends.empty:
            continue
        months = [
            after if ends[quantile] == float("inf") else str(start + int(ends[quantile])) for quantile in (0.1, 0.9)
        ]
        drawn = line("P10 to P90 over worlds", months, [name, name], 7)
        drawn["line"] |= {"width": 9, "dash": "solid"}
        traces.append(drawn | {"opacity": 0.45, "showlegend": not traces, "legendgroup": "fan"})
    return traces


def _stacked(title: str) -> dict[str, object]:
    return {"barmode": "stack", "height": 380, "yaxis": {"title": {"text": title}, "rangemode": "tozero"}}


def _millions(value: float) -> str:
    return f"{value / 1e6:.2f} M" if abs(value) >= 1e5 else f"{value / 1e3:.0f} k"
