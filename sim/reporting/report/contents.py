"""Which answers and sections a page has: those for which its directories hold the tables."""

from __future__ import annotations

import html
from collections.abc import Sequence

from sim.reporting.report import plan_answer, plan_plots, run_answer, run_plots, sweep_parts, uncertainty_parts
from sim.reporting.report.assumptions import assumptions_section
from sim.reporting.report.numbers import html_table, plain
from sim.reporting.report.plots import Plot
from sim.reporting.report.reproduction import reproduction_section
from sim.reporting.report.section import Answer, Section
from sim.reporting.report.studies import Kind, Study


def answers_of(studies: Sequence[Study]) -> list[Answer]:
    """Return the answer of every study; an uncertainty study that goes with a plan speaks in the plan's."""
    planned = {study.manifest["plan_id"] for study in studies if study.kind == "plan"}
    found = []
    for study in studies:
        if study.kind == "run":
            found.append(run_answer.run_answer(study))
        elif study.kind == "plan":
            found.append(plan_answer.plan_answer(study, _spread(study, studies)))
        elif study.kind == "sweep":
            found.append(sweep_parts.sweep_answer(study))
        elif study.kind == "size":
            found.append(sweep_parts.size_answer(study))
        elif study.manifest["study_id"] not in planned:
            found.append(uncertainty_parts.uncertainty_answer(study))
    return found


def sections_of(studies: Sequence[Study]) -> list[Section]:
    """Return the sections of the page in order."""
    sections = [
        *_comparison(studies),
        *_latency(studies),
        *_time(studies),
        *_cost(studies),
        *_fleet(studies),
        *_levers(studies),
        *_sureness(studies),
        *_dates(studies),
        *_studies(studies),
        assumptions_section(studies),
        _trust(studies),
        reproduction_section(studies),
    ]
    return [section for section in sections if section.parts]


def _of(studies: Sequence[Study], kind: Kind) -> list[Study]:
    return [study for study in studies if study.kind == kind]


def _feasible(studies: Sequence[Study]) -> list[Study]:
    return [study for study in _of(studies, "plan") if study.manifest["feasible"]]


def _spread(study: Study, studies: Sequence[Study]) -> Study | None:
    """Return the uncertainty study of a plan's horizon."""
    return next(
        (each for each in _of(studies, "uncertainty") if each.manifest["study_id"] == study.manifest["plan_id"]), None
    )


def _headed(study: Study, studies: Sequence[Study]) -> list[str]:
    """Return the study's name as a heading where there are several of its kind."""
    return [f"<h3>{html.escape(study.label)}</h3>"] if len(studies) > 1 else []


def _comparison(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    runs, plans = _of(studies, "run"), _of(studies, "plan")
    if runs:
        parts.append(run_answer.fleets_table(runs))
        against = run_plots.cost_against_latency(runs)
        parts += [against] if against is not None else []
    if len(plans) > 1:
        parts.append(plan_answer.comparison_table(plans))
    title = "Side by side" if len(runs) + len(plans) > 1 else "Fleets"
    return [Section("fleets", title, parts)]


def _latency(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    runs, plans = _of(studies, "run"), _feasible(studies)
    for study in runs:
        parts += [*_headed(study, runs), run_answer.levels_table(study)]
    if runs:
        parts += run_plots.latency_plots(runs)
    for study in plans:
        if len(study.tables["latency"]):
            parts += [*_headed(study, plans), plan_answer.levels_table(study), plan_plots.level_plot(study)]
    return [Section("latency", "Latency and service levels", parts)]


def _time(studies: Sequence[Study]) -> list[Section]:
    runs, plans = _of(studies, "run"), _feasible(studies)
    parts: list[str | Plot] = list(run_plots.timeline_plots(runs)) if runs else []
    for study in plans:
        parts += [*_headed(study, plans), plan_plots.use_plot(study)]
    return [Section("time", "Load, ramps, failures and utilisation", parts)]


def _cost(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    runs, plans, sure = _of(studies, "run"), _of(studies, "plan"), _of(studies, "uncertainty")
    spent = run_plots.spending_plot(runs) if runs else None
    parts += [spent] if spent is not None else []
    if plans:
        parts.append(plan_plots.cost_per_unit(plans, _spread(plans[0], studies)))
    for study in sure:
        fan = uncertainty_parts.cost_fan(study)
        parts += [*_headed(study, sure), *([fan] if fan is not None else [])]
    return [Section("cost", "Cost", parts)]


def _fleet(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    plans = _feasible(studies)
    for study in plans:
        parts += [*_headed(study, plans), *plan_plots.fleet_plots(study), plan_plots.frontier(study)]
        parts.append(plan_answer.policies_table(study))
    return [Section("purchases", "Fleet and purchases by month", parts)]


def _levers(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    plans = _of(studies, "plan")
    for study in plans:
        drawn = plan_plots.waterfall(study)
        parts += [*_headed(study, plans), drawn] if drawn is not None else []
    return [Section("levers", "What saves the money", parts)]


def _sureness(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    found = _of(studies, "uncertainty")
    for study in found:
        shares = uncertainty_parts.sobol_plot(study)
        parts += [*_headed(study, found), uncertainty_parts.fans_table(study), *uncertainty_parts.tornado_plots(study)]
        parts += [shares] if shares is not None else []
    return [Section("sureness", "How sure it is, and what drives it", parts)]


def _dates(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    plans = _of(studies, "plan")
    for study in plans:
        spread = _spread(study, studies)
        parts += [*_headed(study, plans), plan_plots.viability_dates(study, spread)]
        parts.append(plan_answer.viability_table(study, spread))
    return [Section("dates", "When it pays", parts)]


def _studies(studies: Sequence[Study]) -> list[Section]:
    parts: list[str | Plot] = []
    for study in studies:
        if study.kind == "sweep":
            parts += [f"<h3>{html.escape(study.label)}</h3>", *sweep_parts.sweep_parts(study)]
        elif study.kind == "size":
            parts += [f"<h3>{html.escape(study.label)}</h3>", *sweep_parts.size_parts(study)]
    return [Section("studies", "Points that were tried", parts)]


def _trust(studies: Sequence[Study]) -> Section:
    """Return flags and error bands: how far measured systems like these lay from their predictions."""
    parts: list[str | Plot] = []
    rows = []
    for study in studies:
        told = {
            "run": run_answer.all_cautions_of,
            "plan": plan_answer.cautions_of,
            "uncertainty": uncertainty_parts.flags_of,
        }.get(study.kind)
        flags = told(study) if told is not None else []
        listed = "".join(f"<li>{flag}</li>" for flag in flags)
        if told is not None:
            none = "<p>No flags: nothing found that speaks against the figures.</p>"
            parts.append(
                f"<h3>Flags of {html.escape(study.label)}, {study.kind}</h3>"
                + (f"<ul>{listed}</ul>" if flags else none)
            )
        for name, validity in _validities(study):
            bands = validity["error_bands"]
            rows.append(
                [
                    html.escape(f"{study.label}: {name}"),
                    html.escape(str(validity["known"])),
                    *(_band(bands.get(metric)) for metric in ("ttft", "tpot", "e2e", "throughput")),
                    f"{sum(int(each['points']) for each in bands.values()):,}",
                ]
            )
    if rows:
        parts.append(
            "<p>Error bands: measured over predicted lay in this range in four of five cases. They stand beside the "
            "intervals, which are the noise of finite runs only.</p>"
        )
        headings = ["pool", "accelerator is", "TTFT", "TPOT", "E2E", "capacity", "measured points"]
        parts.append(html_table(headings, rows, "Error of the step-time model", 2))
    parts += _back_tests(studies)
    return Section("trust", "Flags and error bands", parts)


def _validities(study: Study) -> list[tuple[str, dict[str, dict[str, dict[str, float]]]]]:
    pools = study.manifest.get("pools")
    if isinstance(pools, dict):
        return [
            (f"{run_answer.short(study, name) if study.kind == 'run' else name}, {pool['pool']}", pool["validity"])
            for name, found in pools.items()
            for pool in found
        ]
    return [(f"{each['model']} on {each['accelerator']}", each) for each in study.manifest.get("validity", [])]


def _band(found: dict[str, float] | None) -> str:
    return "not known" if found is None else f"×{found['low']:.2f} to {found['high']:.2f}"


def _back_tests(studies: Sequence[Study]) -> list[str]:
    rows = {
        (str(each["series"]), str(each["recorded_on"])): [
            html.escape(str(each["title"])),
            html.escape(str(each["known_on"])),
            html.escape(str(each["recorded_on"])),
            html.escape(str(each["rates"])),
            html.escape(str(each["verdict"])),
            f"{plain(float(each['base']))} ({plain(float(each['low']))} to {plain(float(each['high']))})",
            plain(float(each["recorded"])),
        ]
        for study in studies
        for each in study.manifest.get("back_test", [])
        if "verdict" in each
    }
    if not rows:
        return []
    headings = ["series", "known on", "recorded on", "rates", "verdict", "projected", "recorded"]
    told = "Projections from one record to the next against what was recorded"
    return [html_table(headings, list(rows.values()), told, 5, "How earlier projections fared")]
