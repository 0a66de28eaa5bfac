"""Plots of runs: latency by class, time lines, utilisation, where the money goes, and cost against latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.reporting.report.numbers import value_of
from sim.reporting.report.plots import Plot, Trace, bars, in_row, line, log_axis, points, rows_layout
from sim.reporting.report.run_answer import levels_of, scenarios_of, short, whole_run
from sim.reporting.report.studies import Study
from sim.results.model_error import PAST_THE_KNEE

MOST_ROWS = 8
"""Fleets that a plot shows one under the other; more would be unreadable."""

_SHARES = np.concatenate([np.linspace(0.0, 0.9, 37), np.linspace(0.91, 0.99, 17), np.linspace(0.992, 1.0, 9)])
_LATENCIES = {
    "ttft_s": ("Time to first token", "arrival_s", "first_token_s"),
    "tpot_s": ("Time per output token", "first_token_s", "finished_s"),
    "e2e_s": ("End to end", "arrival_s", "finished_s"),
}
_AWAY = {"starting_replicas": "starting", "spare_replicas": "warm spare", "failed_replicas": "failed or in maintenance"}
_PARTS = ("used", "idle", "spare", "starting", "failed")


def fleets_of(studies: Sequence[Study]) -> list[tuple[Study, str, str]]:
    """Return study, scenario and name on the page of every fleet."""
    several = len(studies) > 1
    return [
        (study, name, f"{study.label}: {short(study, name)}" if several else short(study, name))
        for study in studies
        for name in scenarios_of(study)
    ]


def latency_plots(studies: Sequence[Study]) -> list[Plot]:
    """Return how latencies are distributed: one plot a metric, one row a fleet, one line a class."""
    found = []
    fleets = fleets_of(studies)[:MOST_ROWS]
    requests = [_latencies(study, scenario) for study, scenario, _ in fleets]
    classes = list(dict.fromkeys(name for each in requests for name in each["class"].unique()))
    for metric, (name, _, _) in _LATENCIES.items():
        traces: list[Trace] = []
        seen: set[str] = set()
        rows = []
        for place, ((study, scenario, label), times) in enumerate(zip(fleets, requests, strict=True)):
            limits = {
                str(each["where"]["class"]): each for each in levels_of(study, scenario) if each["metric"] == metric
            }
            for number, each in enumerate(classes):
                values = times.loc[times["class"] == each, metric].dropna().to_numpy(float)
                if not len(values) or not np.isfinite(values).any():
                    continue
                reached = np.quantile(values, _SHARES, method="inverted_cdf")
                traces.append(in_row(line(str(each), reached, _SHARES, number), place, seen))
                if each in limits:
                    traces.append(in_row(_limit_mark(limits[each], str(each), number), place, seen))
                rows += [
                    {
                        "fleet": label,
                        "class": each,
                        "share of requests": part,
                        f"{metric}": np.quantile(values, part, method="inverted_cdf"),
                    }
                    for part in (0.5, 0.9, 0.95, 0.99)
                ]
        layout = rows_layout(
            [label for _, _, label in fleets],
            ["share"] * len(fleets),
            f"{name.lower()}, logarithmic",
            x_axis=log_axis("s"),
            y_axis={"range": [0, 1.1], "tickformat": ".0%", "tickvals": [0, 0.5, 1]},
        )
        description = f"{name}: share of requests that took at most so long, by class, one row a fleet."
        caption = (
            "Rings mark a service level: its quantile at its limit. A curve that passes left of its ring keeps it."
        )
        told = caption + _beyond(fleets) + _cut(studies)
        found.append(Plot(name, description, traces, layout, pd.DataFrame(rows), told))
    return found


def timeline_plots(studies: Sequence[Study]) -> list[Plot]:
    """Return load, replicas and utilisation through the run, one row a pool."""
    pools = [
        (f"{label}, {pool}" if rows["pool"].nunique() > 1 else label, rows[rows["pool"] == pool])
        for study, scenario, label in fleets_of(studies)
        for rows in [_first_replication(study.tables["timeline"], scenario)]
        for pool in rows["pool"].unique()
    ][:MOST_ROWS]
    load: list[Trace] = []
    replicas: list[Trace] = []
    use: list[Trace] = []
    seen_load: set[str] = set()
    seen_replicas: set[str] = set()
    seen_use: set[str] = set()
    table = []
    for place, (label, rows) in enumerate(pools):
        hours = rows["interval_start_s"] / 3600
        length = rows["interval_end_s"] - rows["interval_start_s"]
        for number, (column, name) in enumerate((("running", "in a batch"), ("waiting", "waiting"))):
            load.append(in_row(line(name, hours, rows[column], number), place, seen_load))
        step = {"line": {"shape": "hv"}}
        for number, (column, name) in enumerate({"replicas": "serving", **_AWAY}.items()):
            if column == "replicas" or rows[column].any():
                drawn = line(name, hours, rows[column], number)
                drawn["line"] |= step["line"]
                replicas.append(in_row(drawn, place, seen_replicas))
        for number, (column, name) in enumerate((("busy_fraction", "busy"), ("kv_used_fraction", "KV memory used"))):
            use.append(in_row(line(name, hours, rows[column], number), place, seen_use))
        table.append(
            rows.assign(pool=label, hour=hours, arrivals_per_s=rows["arrivals"] / length)[
                [
                    "pool",
                    "hour",
                    "arrivals_per_s",
                    "running",
                    "waiting",
                    "replicas",
                    *_AWAY,
                    "busy_fraction",
                    "kv_used_fraction",
                ]
            ]
        )
    titles = [label for label, _ in pools]
    numbers = pd.concat(table, ignore_index=True)
    count = len(pools)
    hours_title = "hours from the start of the run"
    note = "First replication." + _cut(studies)
    return [
        Plot(
            "Requests in the fleet",
            "Requests in a batch and waiting through the run, one row a pool.",
            load,
            rows_layout(titles, ["requests"] * count, hours_title, y_axis={"rangemode": "tozero"}),
            numbers,
            note,
        ),
        Plot(
            "Replicas: ramps and failures",
            "Replicas that serve, start, stand by and are away through the run, one row a pool.",
            replicas,
            rows_layout(titles, ["replicas"] * count, hours_title, y_axis={"rangemode": "tozero"}),
            None,
            note,
        ),
        Plot(
            "Utilisation",
            "Share of time with a step in progress and share of KV memory in use, one row a pool.",
            use,
            rows_layout(titles, ["share"] * count, hours_title, y_axis={"range": [0, 1.02], "tickformat": ".0%"}),
            None,
            "A replica is busy while it has any request, so busy is not how full it is." + _cut(studies),
        ),
    ]


def spending_plot(studies: Sequence[Study]) -> Plot | None:
    """Return what is paid for: accelerator time in use, idle, spare, starting and failed; None without a price."""
    traces = []
    table = []
    fleets = fleets_of(studies)
    for number, part in enumerate(_PARTS):
        values = []
        for study, scenario, label in fleets:
            rows = study.tables["headroom"]
            rows = rows[(rows["scenario_id"] == scenario) & (rows["part"] == part)]
            hours = float(rows["accelerator_s"].sum()) / 3600
            values.append(hours)
            table.append({"fleet": label, "part": part, "accelerator hours": hours, "USD": rows["cost_usd"].sum()})
        if any(values):
            drawn = bars(part, values, [label for _, _, label in fleets], number, orientation="h")
            traces.append(drawn)
    if not traces:
        return None
    layout = {
        "barmode": "stack",
        "height": 90 + 44 * len(fleets) + 40,
        "yaxis": {"autorange": "reversed"},
        "xaxis": {"title": {"text": "accelerator hours of the run"}},
    }
    return Plot(
        "What is paid for",
        "Accelerator hours by what they were for: used, idle, spare, starting or failed, one bar a fleet.",
        traces,
        layout,
        pd.DataFrame(table),
    )


def cost_against_latency(studies: Sequence[Study]) -> Plot | None:
    """Return cost against the service level closest to its limit; None for a single fleet."""
    fleets = fleets_of(studies)
    traces: list[Trace] = []
    table = []
    for number, (study, scenario, label) in enumerate(fleets):
        cost = value_of(study, "summary", "value", whole_run(scenario, "usd_per_million_output_tokens"))
        used = [float(str(each["used"])) for each in levels_of(study, scenario)]
        if used and np.isfinite(cost):
            traces.append(points(label, [cost], [max(used)], number))
            table.append({"fleet": label, "USD per million output tokens": cost, "largest share of a limit": max(used)})
    if len(traces) < 2:
        return None
    layout = {
        "height": 360,
        "xaxis": {"title": {"text": "USD per million output tokens"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "largest share of a limit"}, "tickformat": ".0%", "rangemode": "tozero"},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"dash": "dash"}}],
    }
    return Plot(
        "Cost against latency",
        "Cost per million output tokens against the largest latency relative to its limit, one mark a fleet.",
        traces,
        layout,
        pd.DataFrame(table),
        "Left is cheaper, lower is further from the limits; above the dashed line a service level is missed.",
    )


def _latencies(study: Study, scenario: str) -> pd.DataFrame:
    """Return class and latencies [s] of all requests; infinite for one that was not served."""
    rows = study.tables["requests"]
    rows = rows[rows["scenario_id"] == scenario]
    found = pd.DataFrame({"class": rows["class"].to_numpy()})
    unserved = (rows["outcome"] != "finished").to_numpy()
    for metric, (_, start, end) in _LATENCIES.items():
        taken = rows[end].to_numpy(float) - rows[start].to_numpy(float)
        if metric == "tpot_s":
            more = rows["output_tokens"].to_numpy(float) - 1
            taken = np.divide(taken, more, out=np.full(len(taken), np.nan), where=more > 0)
        found[metric] = np.where(unserved, np.inf, taken)
    return found


def _limit_mark(level: dict[str, object], name: str, number: int) -> Trace:
    where = level["where"]
    assert isinstance(where, dict)
    mark = points(f"limit of {name}", [float(str(level["limit"]))], [float(where["quantile"])], number)
    mark["marker"] |= {"symbol": "circle-open", "size": 12, "line": {"width": 2}}
    return mark


def _first_replication(timeline: pd.DataFrame, scenario: str) -> pd.DataFrame:
    rows = timeline[timeline["scenario_id"] == scenario]
    found: pd.DataFrame = rows[rows["replication"] == rows["replication"].min()]
    return found


def _beyond(fleets: Sequence[tuple[Study, str, str]]) -> str:
    """Return which fleets are past the knee: their latencies hang on how long the run lasts."""
    found = []
    for study, scenario, label in fleets:
        rows = study.tables["summary"]
        notes = rows.loc[(rows["scenario_id"] == scenario) & (rows["metric"] == "e2e_s"), "note"].fillna("").astype(str)
        if notes.str.startswith(PAST_THE_KNEE).any():
            found.append(label)
    return f" Past knee, so that latencies hang on how long the run lasts: {', '.join(found)}." if found else ""


def _cut(studies: Sequence[Study]) -> str:
    total = len(fleets_of(studies))
    return f" The first {MOST_ROWS} of {total} fleets." if total > MOST_ROWS else ""
