"""Parts of the page from a sweep or a sizing: what was varied against cost and latency."""

from __future__ import annotations

import html
import math

import pandas as pd

from sim.execution.dataset import OVERVIEW
from sim.reporting.report.numbers import frame_table, plain, whole
from sim.reporting.report.plots import Plot, Trace, in_row, line, rows_layout
from sim.reporting.report.section import Answer
from sim.reporting.report.studies import Study
from sim.results.tables import ALL

_SHOWN = {
    "usd_per_million_output_tokens": "USD per M output tokens",
    "ttft_p99_s": "TTFT p99 [s]",
    "goodput_requests_fraction": "requests in service level",
    "load_factor": "load / capacity",
}


def overview(study: Study) -> pd.DataFrame:
    """Return one row a run and scenario: what was varied, and the main metrics."""
    runs = study.tables["runs"].drop(columns=["manifest"])
    summary = study.tables["summary"]
    summary = summary[(summary["class"] == ALL) & (summary["pool"] == ALL)]
    keys = ["run", "scenario_id"]
    wide = summary[keys].drop_duplicates().set_index(keys)
    for column, (metric, quantile) in OVERVIEW.items():
        rows = summary[summary["metric"] == metric]
        rows = rows[rows["quantile"].isna() if quantile is None else rows["quantile"] == quantile]
        wide[column] = rows.set_index(keys)["value"]
    merged = runs.merge(wide.reset_index(), on="run", how="left")
    return merged[["run", *axes_of(study), "scenario_id", "outcome", *OVERVIEW, "flags", "problem"]]


def axes_of(study: Study) -> list[str]:
    """Return the paths that were varied."""
    return [str(name) for name in study.manifest["settings"]]


def sweep_answer(study: Study) -> Answer:
    """Return the answer of a sweep: the cheapest point that keeps the service levels best."""
    rows = overview(study)
    rows = rows[rows["usd_per_million_output_tokens"].notna()]
    cards = [("Runs", whole(len(study.tables["runs"])), f"over {html.escape(', '.join(axes_of(study)))}")]
    if rows.empty:
        return Answer(study.label, "No run of this sweep has a cost.", cards)
    kept = rows["goodput_requests_fraction"].max()
    near = rows[rows["goodput_requests_fraction"] >= kept - 0.01]
    best = near.iloc[int(near["usd_per_million_output_tokens"].to_numpy().argmin())]
    told = ", ".join(f"{axis} = {best[axis]}" for axis in axes_of(study))
    sentence = (
        f"Of the points that keep their service levels within a percentage point of the best, the cheapest is "
        f"<b>{html.escape(told)}</b>."
    )
    cards += [
        ("Cost there", f"USD {plain(float(best['usd_per_million_output_tokens']))}", "per million output tokens"),
        ("Requests in level", f"{float(best['goodput_requests_fraction']):.1%}", html.escape(str(best["scenario_id"]))),
    ]
    return Answer(study.label, sentence, cards)


def sweep_parts(study: Study) -> list[str | Plot]:
    """Return the plots and the overview of a sweep."""
    rows = overview(study)
    axes = axes_of(study)
    numeric = [axis for axis in axes if pd.api.types.is_numeric_dtype(rows[axis]) and rows[axis].dtype != bool]
    traces: list[Trace] = []
    seen: set[str] = set()
    axis = numeric[0] if numeric else "run"
    others = [name for name in (*axes, "scenario_id") if name != axis]
    groups = list(rows[rows["outcome"] == "finished"].groupby(others, sort=False, dropna=False))
    for place, column in enumerate(_SHOWN):
        for number, (key, group) in enumerate(groups):
            name = ", ".join(str(each) for each in (key if isinstance(key, tuple) else (key,)))
            ordered = group.sort_values(axis)
            traces.append(in_row(line(name, ordered[axis], ordered[column], number, markers=True), place, seen))
    layout = rows_layout(list(_SHOWN.values()), [""] * len(_SHOWN), axis, y_axis={"rangemode": "tozero"})
    found: list[str | Plot] = [
        Plot(
            "What changes along the sweep",
            f"Cost, latency and load against {axis}, one line for each of the other values.",
            traces,
            layout,
            None,
        )
    ]
    found.append(frame_table(rows.drop(columns=["problem"]), f"Runs of {study.label}", "All runs"))
    return found


def size_answer(study: Study) -> Answer:
    """Return the answer of a sizing: the cheapest accelerator that will do."""
    rows = study.tables["sizes"]
    able = rows[rows["feasible"].astype(bool)]
    if able.empty:
        told = "; ".join(f"{row['hardware']}: {row['reason']}" for _, row in rows.iterrows())
        return Answer(study.label, f"No size meets the service levels: {html.escape(told)}.", [])
    priced = able[able["cost_usd_per_hour"].notna()]
    best = priced.iloc[int(priced["cost_usd_per_hour"].to_numpy(float).argmin())] if len(priced) else able.iloc[0]
    cost = best["cost_usd_per_hour"]
    fleet = f"{int(best['accelerators'])} {html.escape(str(best['hardware']))}"
    sentence = (
        f"The cheapest fleet that meets every service level is <b>{fleet}</b> with {html.escape(str(best['model']))}."
    )
    cards = [
        ("Fleet", fleet, f"{int(best['replicas'])} replicas, {html.escape(str(best['layout']))}"),
        (
            "Cost",
            "–" if pd.isna(cost) else f"USD {plain(float(cost))}",
            f"an hour, {html.escape(str(best['price_basis']))}",
        ),
    ]
    low, high = best["replicas_model_low"], best["replicas_model_high"]
    if not pd.isna(low):
        cards.append(("Within model error", f"{int(low)} to {int(high)}", "replicas, 80% band"))
    return Answer(study.label, sentence, cards)


def size_parts(study: Study) -> list[str | Plot]:
    """Return the frontier and the tables of a sizing."""
    tried = study.tables["frontier"]
    traces = []
    for place, ((scenario, model, hardware), group) in enumerate(
        tried[tried["efficient"].astype(bool)].groupby(["scenario_id", "model", "hardware"], sort=False)
    ):
        priced = group["cost_usd_per_hour"].notna().all()
        ordered = group.sort_values("cost_usd_per_hour" if priced else "accelerators")
        cost = ordered["cost_usd_per_hour" if priced else "accelerators"]
        used = [float(value) if math.isfinite(float(value)) else None for value in ordered["tightness"]]
        text = [f"{count} accelerators" for count in ordered["accelerators"]]
        traces.append(line(f"{scenario}, {model} on {hardware}", cost, used, place, markers=True, text=text))
    layout = {
        "height": 420,
        "xaxis": {"title": {"text": "USD an hour, accelerators where no price is known"}},
        "yaxis": {"title": {"text": "largest share of a limit"}, "tickformat": ".0%", "type": "log"},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"dash": "dash"}}],
    }
    return [
        Plot(
            "Cost against latency",
            "Cost of every efficient size against its largest latency relative to the limit.",
            traces,
            layout,
            None,
            "Below the dashed line all service levels are met.",
        ),
        frame_table(study.tables["sizes"], f"Sizes for {study.label}"),
        frame_table(tried, "All sizes that were tried", "All sizes that were tried"),
    ]
