"""What a run answers: which of its fleets keeps its service levels at the least cost, and how far from its limits."""

from __future__ import annotations

import html
import math
from typing import Any

from sim.reporting.report.numbers import cited, cited_interval, html_table, plain, row_of, seconds, share, value_of
from sim.reporting.report.section import Answer
from sim.reporting.report.studies import Study
from sim.reporting.terminal import verdict
from sim.results.tables import ALL

_ALL: dict[str, object] = {"class": ALL, "pool": ALL, "quantile": None}
_LEVEL = "service_level_met_"


def scenarios_of(study: Study) -> list[str]:
    """Return the scenarios of a run in the order in which they were simulated."""
    return [str(name) for name in dict.fromkeys(study.tables["summary"]["scenario_id"])]


def short(study: Study, scenario: str) -> str:
    """Return a scenario's name without what all of the run share."""
    names = scenarios_of(study)
    return scenario.split("/", 1)[1] if len(names) > 1 and "/" in scenario else scenario


def whole_run(scenario: str, metric: str) -> dict[str, object]:
    """Return what singles out the row of a metric of everything together."""
    return {"scenario_id": scenario, **_ALL, "metric": metric}


def fleet_in_words(study: Study, scenario: str) -> str:
    """Return the accelerators of a scenario's fleet."""
    pools: Any = study.manifest["pools"]
    return ", ".join(f"{pool['accelerators']} {pool['hardware']}" for pool in pools[scenario])


def all_met(study: Study, scenario: str) -> bool | None:
    """Return whether all service levels of a scenario are met; None where it has none."""
    rows = study.tables["summary"]
    rows = rows[(rows["scenario_id"] == scenario) & rows["metric"].str.startswith(_LEVEL)]
    return None if rows.empty else bool((rows["value"] == 1).all())


def cheapest(study: Study) -> str:
    """Return the scenario with the least cost per output token of those that keep all levels, else of all."""
    names = scenarios_of(study)
    keeping = [name for name in names if all_met(study, name) is not False] or names

    def cost(name: str) -> float:
        value = value_of(study, "summary", "value", whole_run(name, "usd_per_million_output_tokens"))
        return math.inf if math.isnan(value) else value

    return min(keeping, key=cost)


def levels_of(study: Study, scenario: str) -> list[dict[str, Any]]:
    """Return the service levels of a scenario: keys of their rows, limit, value and share of the limit reached."""
    rows = study.tables["summary"]
    rows = rows[(rows["scenario_id"] == scenario) & rows["metric"].str.startswith(_LEVEL)]
    found: list[dict[str, Any]] = []
    for _, row in rows.iterrows():
        metric = str(row["metric"]).removeprefix(_LEVEL)
        where = {"scenario_id": scenario, "class": row["class"], "pool": ALL, "quantile": row["quantile"]}
        limit = value_of(study, "summary", "value", where | {"metric": f"service_level_limit_{metric}"})
        value = value_of(study, "summary", "value", where | {"metric": metric})
        found.append({"where": where, "metric": metric, "limit": limit, "value": value, "used": value / limit})
    return found


def level_in_words(where: Any, metric: str) -> str:
    """Return a service level as planners write it."""
    return f"{metric.removesuffix('_s').upper()} p{100 * float(where['quantile']):g} of {where['class']}"


def run_answer(study: Study) -> Answer:
    """Return the answer of a run."""
    best = cheapest(study)
    names = scenarios_of(study)
    met = [name for name in names if all_met(study, name)]
    fleet = html.escape(fleet_in_words(study, best))
    cost = cited_interval(study, "summary", whole_run(best, "usd_per_million_output_tokens"), _usd_small)
    levels = levels_of(study, best)
    tight = max(levels, key=lambda level: _or_zero(level["used"])) if levels else None
    if not levels:
        sentence = f"Of {len(names)} simulated fleets, <b>{fleet}</b> serves the load at the least cost."
    elif all_met(study, best):
        kept = "The fleet keeps" if len(names) == 1 else f"{len(met)} of {len(names)} simulated fleets keep"
        sentence = f"{kept} every service level; the cheapest that does is <b>{fleet}</b>."
        if len(names) == 1:
            sentence = f"<b>{fleet}</b> keeps every service level."
    else:
        missed = "This fleet misses" if len(names) == 1 else "None of the simulated fleets keeps all:"
        sentence = f"{missed} at least one service level; shown is the cheapest, <b>{fleet}</b>."
    cards = [
        ("Fleet", fleet, html.escape(best)),
        ("Cost", cost, f"per million output tokens, {html.escape(_basis(study, best))}"),
    ]
    if tight is not None:
        where: Any = tight["where"]
        cards.append(
            (
                "Latency",
                cited(study, "summary", "value", where | {"metric": tight["metric"]}, seconds),
                f"{html.escape(level_in_words(where, str(tight['metric'])))}, the level closest to its limit of "
                + cited(
                    study, "summary", "value", where | {"metric": f"service_level_limit_{tight['metric']}"}, seconds
                ),
            )
        )
    else:
        where = {"scenario_id": best, "class": ALL, "pool": ALL, "quantile": 0.99, "metric": "ttft_s"}
        cards.append(("Latency", cited(study, "summary", "value", where, seconds), "TTFT p99 of all requests"))
    load = cited(study, "summary", "value", whole_run(best, "load_factor"), share)
    cards.append(("Room to grow", load, "of the fleet's capacity is asked for"))
    return Answer(study.label, sentence, cards, cautions_of(study, best))


def cautions_of(study: Study, scenario: str) -> list[str]:
    """Return the flags of one scenario as HTML."""
    flags: Any = study.manifest.get("flags", [])
    several = len(scenarios_of(study)) > 1
    return [
        f"<b>{html.escape(flag['name'])}</b> {html.escape(flag['scope'])}: {html.escape(flag['message'])}"
        for flag in flags
        if not several or str(flag["scope"]).endswith(scenario)
    ]


def all_cautions_of(study: Study) -> list[str]:
    """Return the flags of all scenarios of a run as HTML."""
    found = [flag for scenario in scenarios_of(study) for flag in cautions_of(study, scenario)]
    return list(dict.fromkeys(found))


def fleets_table(studies: list[Study]) -> str:
    """Return all fleets of runs side by side: cost, load and latency; with several runs the changes to the first."""
    several = len(studies) > 1
    first: dict[str, float] = {}
    rows = []
    for study in studies:
        for scenario in scenarios_of(study):
            name = f"{study.label}: {short(study, scenario)}" if several else short(study, scenario)
            cells = [html.escape(name), html.escape(fleet_in_words(study, scenario))]
            met = all_met(study, scenario)
            cells.append("no levels" if met is None else "all" if met else "<b>missed</b>")
            for metric, form in _SHOWN:
                where = whole_run(scenario, metric)
                shown = cited_interval(study, "summary", where, form)
                cells.append(shown + _change(study, where, metric, first, several))
            for metric in ("ttft_s", "tpot_s", "e2e_s"):
                where = {**whole_run(scenario, metric), "quantile": 0.99}
                shown = cited_interval(study, "summary", where, seconds)
                cells.append(shown + _change(study, where, metric, first, several))
            rows.append(cells)
    headings = ["scenario", "fleet", "service levels", "load / capacity", "requests in level"]
    headings += ["USD per M output tokens", "USD per M tokens", "TTFT p99", "TPOT p99", "E2E p99"]
    told = "All fleets, with 95% intervals" + ("; changes are to the first row" if several else "")
    return html_table(headings, rows, told, texts=3)


def levels_table(study: Study) -> str:
    """Return the service levels of a run with what was reached."""
    rows = []
    for scenario in scenarios_of(study):
        for level in levels_of(study, scenario):
            where: Any = level["where"]
            metric = str(level["metric"])
            row = row_of(study, "summary", where | {"metric": f"{_LEVEL}{metric}"})
            attained = where | {"metric": f"service_level_attainment_{metric}"}
            rows.append(
                [
                    html.escape(short(study, scenario)),
                    html.escape(level_in_words(where, metric)),
                    "–" if row is None else html.escape(verdict(row)),
                    cited(study, "summary", "value", where | {"metric": f"service_level_limit_{metric}"}, seconds),
                    cited_interval(study, "summary", where | {"metric": metric}, seconds),
                    _model_band(study, where | {"metric": metric}),
                    cited(study, "summary", "value", attained, share),
                ]
            )
    if not rows:
        return "<p>The scenario sets no service levels.</p>"
    headings = ["scenario", "service level", "met", "limit", "reached", "80% band of model error", "within limit"]
    return html_table(headings, rows, f"Service levels of {study.label}", texts=3)


def _model_band(study: Study, where: dict[str, object]) -> str:
    ends = [value_of(study, "summary", column, where) for column in ("model_low", "model_high")]
    return "–" if any(map(math.isnan, ends)) else f"{seconds(ends[0])} to {seconds(ends[1])}"


def _change(study: Study, where: dict[str, object], metric: str, first: dict[str, float], several: bool) -> str:
    value = value_of(study, "summary", "value", where)
    base = first.setdefault(metric, value)
    if not several or value == base or not math.isfinite(value) or not math.isfinite(base) or base == 0:
        return ""
    return f' <span class="change">{value / base - 1:+.0%}</span>'


def _basis(study: Study, scenario: str) -> str:
    row = row_of(study, "summary", whole_run(scenario, "usd_per_million_output_tokens"))
    basis = None if row is None else row["price_basis"]
    return str(basis).replace("_", " ") if isinstance(basis, str) else "no price known"


def _usd_small(value: float) -> str:
    return f"USD {plain(value)}"


def _or_zero(value: object) -> float:
    return value if isinstance(value, float) and not math.isnan(value) else 0.0


_SHOWN = (
    ("load_factor", share),
    ("goodput_requests_fraction", share),
    ("usd_per_million_output_tokens", plain),
    ("usd_per_million_tokens", plain),
)
