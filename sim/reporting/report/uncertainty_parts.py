"""Parts of the page from an uncertainty study: its answer, fans of cost, tornado, and shares in the variance."""

from __future__ import annotations

import html
import math

import pandas as pd

from sim.reporting.report.numbers import Form, cited, html_table, plain, seconds, share, usd, whole
from sim.reporting.report.plan_answer import fan_where, month_after
from sim.reporting.report.plots import Plot, Trace, band, line, log_axis, points, style
from sim.reporting.report.section import Answer
from sim.reporting.report.studies import Study

MOST_INPUTS = 12
"""Inputs that a tornado shows."""

_HEADLINES = (
    ("net_present_cost_usd", "best", "Net present cost of the best fleet of each world"),
    ("net_present_cost_usd", "plan", "Net present cost of the plan's fleet"),
)


def uncertainty_answer(study: Study) -> Answer:
    """Return the answer of an uncertainty study that stands alone."""
    low, middle, high = (
        cited(study, "fans", "value", fan_where("net_present_cost_usd", "best", quantile), usd)
        for quantile in (0.1, 0.5, 0.9)
    )
    extra = cited(study, "fans", "value", fan_where("cost_over_best", "plan", 0.5), plain)
    unserved = cited(study, "fans", "value", fan_where("unserved_share", "plan", 0.5), share)
    sentence = (
        f"Over {whole(float(study.manifest['settings']['samples']))} worlds the best fleet costs <b>{low}</b> to "
        f"<b>{high}</b> (P10 to P90), {middle} in the middle."
    )
    cards = [
        ("Cost", f"{low} to {high}", "net present cost of the best fleet of each world, P10 to P90"),
        ("The plan in other worlds", f"{extra} times", "the best fleet's cost, in the middle"),
        ("Left unserved", unserved, "of the requests by the plan's fleet, in the middle"),
        ("Numbers drawn", whole(float(study.manifest["drawn"])), "inputs with a range"),
    ]
    return Answer(study.label, sentence, cards, flags_of(study))


def flags_of(study: Study) -> list[str]:
    """Return the flags as HTML."""
    return [html.escape(str(each)) for each in study.manifest["flags"]]


def cost_fan(study: Study) -> Plot | None:
    """Return cost by month over worlds, of the best fleet and of the plan's."""
    fans = study.tables["fans"]
    fans = fans[(fans["metric"] == "cost_usd") & (fans["period"] != "all")]
    traces: list[Trace] = []
    for place, (fleet, name) in enumerate((("best", "best fleet of each world"), ("plan", "the plan's fleet"))):
        rows = fans[fans["fleet"] == fleet]
        if rows.empty:
            continue
        wide = rows.pivot(index="period", columns="quantile", values="value").sort_index()
        traces.append(band(list(wide.index), wide[0.1], wide[0.9], place, f"{name}: P10 to P90"))
        traces.append(line(f"{name}: P50", wide.index, wide[0.5], place))
    if not traces:
        return None
    layout = {
        "height": 380,
        "yaxis": {"title": {"text": "USD a month, logarithmic"}, **log_axis()},
        "xaxis": {"type": "date"},
    }
    table = fans[["fleet", "period", "quantile", "value", "low", "high", "samples"]]
    return Plot(
        "Cost by month over worlds",
        "Fan of the monthly cost over drawn worlds, best fleet and plan.",
        traces,
        layout,
        table,
    )


def tornado_plots(study: Study) -> list[Plot]:
    """Return what each input does alone to the headline numbers, largest first."""
    found = []
    rows = study.tables["tornado"]
    for metric, fleet, heading in _HEADLINES:
        chosen = rows[(rows["metric"] == metric) & (rows["fleet"] == fleet)].sort_values("rank").head(MOST_INPUTS)
        if chosen.empty:
            continue
        names = [_short(str(name)) for name in chosen["input"]]
        base = float(chosen["base"].iloc[0])
        traces: list[Trace] = []
        for place, (column, label) in enumerate((("at_low", "input at its P10"), ("at_high", "input at its P90"))):
            look = style(place)
            lengths = [float(value) - base for value in chosen[column]]
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": label,
                    "y": names,
                    "x": lengths,
                    "base": base,
                    "marker": {"color": look["color"], "pattern": {"shape": look["pattern"], "fillmode": "overlay"}},
                    "hovertemplate": "%{y}: %{x:,.4s}",
                }
            )
        layout = {
            "height": 110 + 30 * len(names),
            "barmode": "overlay",
            "yaxis": {"autorange": "reversed", "automargin": True},
            "xaxis": {"title": {"text": "USD"}},
            "shapes": [
                {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": base, "x1": base, "line": {"width": 1}}
            ],
        }
        table = chosen[["rank", "input", "group", "at_low", "at_high", "base"]]
        found.append(
            Plot(
                f"Tornado: {heading.lower()}",
                f"{heading}: change when one input goes to its P10 or P90.",
                traces,
                layout,
                table,
                f"The {len(names)} inputs that move it most of {int(study.manifest['drawn'])} drawn.",
            )
        )
    return found


def sobol_plot(study: Study) -> Plot | None:
    """Return shares of groups of inputs in the variance of the net present cost; None where none were computed."""
    rows = study.tables["sobol"]
    rows = rows[(rows["metric"] == "net_present_cost_usd") & (rows["fleet"] == "best")]
    if rows.empty or rows["value"].isna().all():
        return None
    order = rows[rows["order"] == "total"].sort_values("value", ascending=False)["group"].tolist()
    traces = []
    for place, kind in enumerate(("first", "total")):
        chosen = rows[rows["order"] == kind].set_index("group").reindex(order)
        drawn = points(f"{kind} order", chosen["value"], order, place)
        ends = {
            "array": (chosen["high"] - chosen["value"]).tolist(),
            "arrayminus": (chosen["value"] - chosen["low"]).tolist(),
        }
        traces.append(drawn | {"error_x": {"type": "data", "symmetric": False, **ends}})
    layout = {
        "height": 110 + 30 * len(order),
        "yaxis": {"autorange": "reversed", "automargin": True},
        "xaxis": {"title": {"text": "share in the variance"}, "tickformat": ".0%"},
    }
    return Plot(
        "What the uncertainty comes from",
        "Sobol indices of groups of inputs with 95% intervals.",
        traces,
        layout,
        rows[["group", "order", "value", "low", "high", "pairs"]],
    )


def fans_table(study: Study) -> str:
    """Return P10, P50 and P90 of the numbers that stand for all of the horizon."""
    rows = study.tables["fans"]
    rows = rows[rows["period"] == "all"]
    cells = []
    start = str(study.manifest["start"])
    for (metric, fleet, name), _ in rows.groupby(["metric", "fleet", "class"], sort=False):
        form = _form(str(metric), start)
        line_ = [
            html.escape(_METRICS.get(str(metric), str(metric).replace("_", " "))),
            str(fleet),
            html.escape(str(name)),
        ]
        line_ += [
            cited(study, "fans", "value", fan_where(str(metric), str(fleet), quantile, str(name)), form)
            for quantile in (0.1, 0.5, 0.9)
        ]
        cells.append(line_)
    headings = ["number", "fleet", "use case", "P10", "P50", "P90"]
    return html_table(headings, cells, f"Quantiles over the worlds of {study.label}", 3)


_METRICS = {
    "viable_from_months": "pays from",
    "self_host_from_months": "own fleet beats the API from",
    "net_present_cost_usd": "net present cost",
    "regret_usd": "cost over the best fleet",
    "cost_over_best": "cost relative to the best fleet",
    "unserved_share": "requests left unserved",
}


def _form(metric: str, start: str) -> Form:
    if metric.endswith("_months"):
        return lambda value: "–" if math.isnan(value) else month_after(start, value)
    for ending, form in (("_usd", usd), ("_share", share), ("_s", seconds)):
        if metric.endswith(ending):
            return form
    return plain


def _short(name: str) -> str:
    parts = name.split(".")
    return name if len(name) <= 44 else f"{parts[0]}…{'.'.join(parts[-3:])}"[:48]


def inputs_table(study: Study) -> str:
    """Return every number with a range, folded away."""
    rows: pd.DataFrame = study.tables["inputs"]
    cells = [
        [
            html.escape(str(row["input"])),
            html.escape(str(row["group"])),
            html.escape(str(row["source"])),
            html.escape(str(row["reason"] or "drawn")),
            plain(float(row["low"])),
            plain(float(row["value"])),
            plain(float(row["high"])),
            html.escape(str(row["unit"])),
        ]
        for _, row in rows.iterrows()
    ]
    headings = ["input", "group", "source", "use", "low", "value", "high", "unit"]
    told = f"Numbers with a range in {study.label}"
    return html_table(headings, cells, told, 4, f"All {len(cells)} numbers with a range")
