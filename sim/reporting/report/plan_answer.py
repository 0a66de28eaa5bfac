"""What a plan answers: what to own and rent, what it costs, whether service levels hold, and from when it pays."""

from __future__ import annotations

import html
import math
from typing import Any

import pandas as pd

from sim.reporting.report.numbers import cited, html_table, seconds, share, usd, whole
from sim.reporting.report.section import Answer
from sim.reporting.report.studies import Study

BEST = "optimal"


def of_policy(study: Study, table: str, policy: str = BEST) -> pd.DataFrame:
    """Return the rows of one policy."""
    rows = study.tables[table]
    return rows[rows["policy"] == policy]


def plan_answer(study: Study, spread: Study | None) -> Answer:
    """Return the answer of a plan, with P10 and P90 of its cost where an uncertainty study is at hand."""
    where = {"policy": BEST}
    if not study.manifest["feasible"]:
        reason = "; ".join(html.escape(str(each)) for each in study.manifest["reasons"])
        return Answer(study.label, f"No fleet meets the demand: {reason}.", [], cautions_of(study))
    counted = of_policy(study, "fleet").drop_duplicates(["period", "accelerator"])
    peak = counted.groupby("accelerator", sort=False)[["owned", "rented"]].max()
    owned = _most(peak["owned"])
    rented = _most(peak["rented"])
    kinds = " and ".join(
        filter(None, (f"own up to {owned}" if owned else "", f"rent up to {rented}" if rented else ""))
    )
    cost = cited(study, "policies", "net_present_cost_usd", where, usd)
    months = sorted(set(counted["period"]))
    missed = study.manifest["missed"]
    held = "every service level holds in its rehearsal" if not missed else f"{len(missed)} service levels are missed"
    sentence = (
        f"Through {months[0]} to {months[-1]}: {html.escape(kinds)}, for a net present cost of <b>{cost}</b>; {held}."
    )
    fleet = (
        f"{cited(study, 'policies', 'most_owned', where, whole)} owned, "
        f"{cited(study, 'policies', 'most_rented', where, whole)} rented"
    )
    cards = [
        ("Fleet", fleet, f"accelerators at most: {html.escape(kinds)}"),
        ("Cost", cost, "net present cost" + _fan_in_words(spread) + f"; proven within {_gap(study)} of the best"),
        _latency_card(study),
        ("When it pays", *_dates(study)),
    ]
    unsure = [] if spread is None else [html.escape(str(flag)) for flag in spread.manifest["flags"]]
    return Answer(study.label, sentence, cards, [*cautions_of(study), *unsure])


def cautions_of(study: Study) -> list[str]:
    """Return missed levels and flags as HTML."""
    missed = [f"<b>missed</b> {html.escape(str(each))}" for each in study.manifest["missed"]]
    flags = [
        f"<b>{html.escape(flag['name'])}</b> {html.escape(flag['scope'])}: {html.escape(flag['message'])}"
        for flag in study.manifest["flags"]
    ]
    return missed + flags


def fan_where(metric: str, fleet: str, quantile: float, name: str = "all", period: str = "all") -> dict[str, object]:
    """Return what singles out a quantile of an uncertainty study."""
    return {"metric": metric, "fleet": fleet, "class": name, "period": period, "quantile": quantile}


def viability_table(study: Study, spread: Study | None) -> str:
    """Return from which month each use case pays, under which prices and ceilings."""
    rows = []
    for each in study.manifest["viability"]:
        cells = [
            html.escape(str(each["class"])),
            html.escape(str(each["unit"])),
            f"<b>{_month(each['first_month'])}</b>",
        ]
        cells += [_month(each[key]) for key in _DATES]
        cells.append(usd(float(each["ceiling_usd"])) if each.get("ceiling_usd") is not None else "–")
        if spread is not None:
            cells.append(_months_of(spread, str(each["class"])))
        rows.append(cells)
    headings = ["use case", "unit", "pays from", *_DATES.values(), "ceiling"]
    headings += ["P10, P50, P90"] if spread is not None else []
    return html_table(headings, rows, "First month from which each use case pays for good", len(headings))


def levels_table(study: Study) -> str:
    """Return the worst month and hour of each service level of a plan."""
    rows = study.tables["latency"]
    cells = []
    for _, group in rows.groupby(["class", "metric", "quantile"], sort=False):
        worst = group.iloc[int((group["value_s"] / group["limit_s"]).to_numpy().argmax())]
        where = {name: worst[name] for name in ("period", "hour", "class", "metric", "quantile")}
        where["quantile"] = float(where["quantile"])
        missed = int((~group["met"]).sum())
        model = (float(worst["model_low_s"]), float(worst["model_high_s"]))
        noise = f"{seconds(float(worst['low_s']))} to {seconds(float(worst['high_s']))}"
        cells.append(
            [
                html.escape(str(worst["class"])),
                f"{str(worst['metric']).upper()} p{100 * float(worst['quantile']):g}",
                f"{worst['period']} {html.escape(str(worst['hour']))}",
                "holds" if not missed else f"<b>missed in {missed} of {len(group)}</b>",
                cited(study, "latency", "limit_s", where, seconds),
                cited(study, "latency", "value_s", where, seconds) + f' <span class="interval">{noise}</span>',
                "–" if any(map(math.isnan, model)) else f"{seconds(model[0])} to {seconds(model[1])}",
            ]
        )
    headings = ["use case", "service level", "worst in", "verdict", "limit", "reached", "80% band of model error"]
    return html_table(headings, cells, "Service levels, simulated with fresh requests in every month and hour", 4)


def policies_table(study: Study) -> str:
    """Return all policies and near-optimal fleets."""
    rows = []
    for name in study.tables["policies"]["policy"]:
        where = {"policy": name}
        rows.append(
            [
                html.escape(str(name)),
                html.escape(str(study.tables["policies"].set_index("policy").loc[name, "reason"])),
                cited(study, "policies", "net_present_cost_usd", where, usd),
                cited(study, "policies", "over_optimum", where, share),
                cited(study, "policies", "gap", where, share),
                cited(study, "policies", "most_owned", where, whole),
                cited(study, "policies", "most_rented", where, whole),
            ]
        )
    headings = [
        "policy",
        "how it ended",
        "net present cost",
        "over the optimum",
        "proven gap",
        "most owned",
        "most rented",
    ]
    return html_table(headings, rows, f"Policies and near-optimal fleets of {study.label}", 2)


def comparison_table(studies: list[Study]) -> str:
    """Return the headline numbers of several plans side by side, with changes to the first."""
    lines: dict[str, list[str]] = {}
    base: dict[str, float] = {}
    for study in studies:
        for name, table, column, where, form in _headlines(study):
            shown = cited(study, table, column, where, form)
            rows = study.tables[table]
            for key, wanted in where.items():
                rows = rows[rows[key] == wanted]
            value = float(rows.iloc[0][column]) if len(rows) == 1 and not pd.isna(rows.iloc[0][column]) else None
            first = base.setdefault(name, value) if value is not None else None
            if value is not None and first and value != first:
                shown += f' <span class="change">{value / first - 1:+.0%}</span>'
            lines.setdefault(name, ["–"] * len(studies))[studies.index(study)] = shown
        for each in study.manifest["viability"]:
            row = lines.setdefault(f"{each['class']} pays from", ["–"] * len(studies))
            row[studies.index(study)] = _month(each["first_month"])
    headings = ["", *(study.label for study in studies)]
    rows_ = [[html.escape(name), *cells] for name, cells in lines.items()]
    return html_table(headings, rows_, "Plans side by side; changes are to the first")


def _headlines(study: Study) -> list[tuple[str, str, str, dict[str, object], Any]]:
    where: dict[str, object] = {"policy": BEST}
    found: list[tuple[str, str, str, dict[str, object], Any]] = [
        ("net present cost", "policies", "net_present_cost_usd", where, usd),
        ("most accelerators owned", "policies", "most_owned", where, whole),
        ("most accelerators rented", "policies", "most_rented", where, whole),
    ]
    costs = of_policy(study, "costs")
    if costs.empty:
        return found
    last = max(costs["period"])
    for _, row in costs[(costs["period"] == last) & costs["unit"].notna()].iterrows():
        name = f"{row['class']}, per {row['unit']} in {last}"
        found.append((name, "costs", "usd_per_unit", {**where, "period": last, "class": row["class"]}, usd))
    return found


_DATES = {
    "at_low_prices": "at low prices",
    "at_high_prices": "at high prices",
    "at_low_ceiling": "at the low ceiling",
    "at_high_ceiling": "at the high ceiling",
    "cost_20_higher": "20% dearer",
    "cost_20_lower": "20% cheaper",
    "self_host_cheaper_from": "own fleet beats the API from",
}


def month_after(start: str, months: float) -> str:
    """Return the month that lies so many whole months after a month such as 2025-01; `never` for infinity."""
    if months == float("inf"):
        return "never"
    return str(pd.Period(start, "M") + int(months))


def _months_of(spread: Study, name: str) -> str:
    start = str(spread.manifest["start"])

    def month(value: float) -> str:
        return month_after(start, value)

    wheres = [fan_where("viable_from_months", "world", quantile, name) for quantile in (0.1, 0.5, 0.9)]
    return ", ".join(cited(spread, "fans", "value", where, month) for where in wheres)


def _fan_in_words(spread: Study | None) -> str:
    if spread is None:
        return ""
    low, high = (
        cited(spread, "fans", "value", fan_where("net_present_cost_usd", "best", quantile), usd)
        for quantile in (0.1, 0.9)
    )
    return f" (best fleet of each world, P10 to P90: {low} to {high})"


def _latency_card(study: Study) -> tuple[str, str, str]:
    rows = study.tables["latency"]
    if rows.empty:
        return "Latency", "–", "no service levels"
    worst = rows.iloc[int((rows["value_s"] / rows["limit_s"]).to_numpy().argmax())]
    where = {name: worst[name] for name in ("period", "hour", "class", "metric")} | {
        "quantile": float(worst["quantile"])
    }
    level = f"{str(worst['metric']).upper()} p{100 * float(worst['quantile']):g} of {worst['class']}"
    told = f"{html.escape(level)} in {worst['period']}, {html.escape(str(worst['hour']))}: closest to its limit of "
    return (
        "Latency",
        cited(study, "latency", "value_s", where, seconds),
        told + cited(study, "latency", "limit_s", where, seconds),
    )


def _dates(study: Study) -> tuple[str, str]:
    found = study.manifest["viability"]
    latest = max((str(each["first_month"] or "never") for each in found), default="–")
    told = "; ".join(f"{html.escape(str(each['class']))} from {_month(each['first_month'])}" for each in found)
    return ("never for some" if latest == "never" else f"all from {latest}"), told


def _most(peak: pd.Series) -> str:
    return ", ".join(f"{int(count)} {name}" for name, count in peak.items() if count > 0)


def _gap(study: Study) -> str:
    gap = study.manifest["gap"]
    return "an unknown distance" if gap is None else f"{float(gap):.1%}"


def _month(value: object) -> str:
    return html.escape(str(value)) if value else "never"
