"""The page itself: answers, plots, assumptions and how to reproduce, in one file that needs nothing else."""

from __future__ import annotations

import html
import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sim.reporting.report.contents import answers_of, sections_of
from sim.reporting.report.numbers import frame_table
from sim.reporting.report.plotly_script import need_plotly, plotly_script
from sim.reporting.report.plots import Plot
from sim.reporting.report.section import Answer, Section
from sim.reporting.report.studies import Study, labelled, study_of
from sim.specs.errors import InputError, Problem

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
"""No network at all: what the page needs is in it, and a browser refuses the rest."""


def write_report(studies: Sequence[Study], file: str | Path) -> list[Answer]:
    """Write the report of studies to a file, whole or not at all, and return what it answers.

    Parameters
    ----------
    studies : sequence of Study
        What it is about; several of a kind are compared with the first.
    file : str or Path
        HTML file to write; it is replaced as a whole.

    Raises
    ------
    InputError
        The extra `report` (plotly) is not installed, or the folder does not exist.

    """
    target = Path(file)
    need_plotly(str(target))
    if not target.absolute().parent.is_dir():
        raise InputError([Problem("there is no such folder", value=str(target.parent), remedy="Make it first.")])
    if target.is_dir():
        raise InputError([Problem("is a directory", value=str(target), remedy="Name a file, such as report.html.")])
    named = labelled(studies)
    text = report_page(named)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)
    return answers_of(named)


def write_report_of(found: object, file: str | Path) -> None:
    """Write the report of a result, a plan, sizes or an uncertainty study in memory; raises as `write_report` does."""
    write_report([study_of(found)], file)


def report_page(studies: Sequence[Study]) -> str:
    """Return the report as HTML; without plotly, numbers stand where plots would."""
    script = plotly_script()
    answers, sections = answers_of(studies), sections_of(studies)
    title = "Fleetcast: " + ", ".join(dict.fromkeys(study.label for study in studies))
    figures: list[dict[str, object]] = []
    body = [_answers_html(title, studies, answers), _contents_html(sections)]
    body += [_section_html(section, figures, script is not None) for section in sections]
    scripts = ""
    if script is not None and figures:
        data = json.dumps(figures, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
        scripts = (
            f'<script type="application/json" id="figures">{data}</script>'
            f"<script>{script}</script><script>{_asset('draw.js')}</script>"
        )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{html.escape(title)}</title><style>{_asset('style.css')}</style></head>"
        f"<body><main>{''.join(body)}</main>{scripts}</body></html>\n"
    )


def _answers_html(title: str, studies: Sequence[Study], answers: Sequence[Answer]) -> str:
    parts = [f"<header><h1>{html.escape(title)}</h1>"]
    parts += [f'<p class="soft">{html.escape(text)}</p>' for text in _subtitles(studies)]
    parts.append("</header>")
    for answer in answers:
        parts.append(f'<section aria-label="Answer for {html.escape(answer.label)}">')
        if len(answers) > 1:
            parts.append(f"<h3>{html.escape(answer.label)}</h3>")
        parts.append(f'<p class="sentence">{answer.sentence}</p>')
        cards = "".join(
            f'<div class="card"><dt>{html.escape(name)}</dt><dd class="big">{number}</dd><dd class="of">{of}</dd></div>'
            for name, number, of in answer.cards
        )
        parts.append(f'<dl class="cards">{cards}</dl>' if cards else "")
        if answer.cautions:
            told = "".join(f"<li>{each}</li>" for each in answer.cautions)
            parts.append(f'<div class="caution" role="note">Read with these in mind:<ul>{told}</ul></div>')
        parts.append("</section>")
    return "".join(parts)


def _subtitles(studies: Sequence[Study]) -> list[str]:
    """Return the titles that the scenarios and horizons give themselves."""
    found = []
    for study in studies:
        scenarios = study.manifest.get("scenarios")
        if isinstance(scenarios, dict) and scenarios:
            found.append(str(next(iter(scenarios.values()))["scenario"].get("title", "")))
        horizon = study.manifest.get("horizon")
        if isinstance(horizon, dict):
            found.append(str(horizon.get("title", "")))
    return [text for text in dict.fromkeys(found) if text]


def _contents_html(sections: Sequence[Section]) -> str:
    links = "".join(f'<li><a href="#{each.anchor}">{html.escape(each.title)}</a></li>' for each in sections)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def _section_html(section: Section, figures: list[dict[str, object]], has_plots: bool) -> str:
    parts = [f'<section aria-labelledby="{section.anchor}"><h2 id="{section.anchor}">{html.escape(section.title)}</h2>']
    parts += [part if isinstance(part, str) else _figure_html(part, figures, has_plots) for part in section.parts]
    return "".join(parts) + "</section>"


def _figure_html(plot: Plot, figures: list[dict[str, object]], has_plots: bool) -> str:
    numbers = ""
    if plot.table is not None:
        shown = plot if has_plots else replace(plot, caption="")
        numbers = frame_table(plot.table, shown.heading, "The numbers" if has_plots else "")
    drawing = '<p class="soft">Plots need the extra <code>fleetcast[report]</code>.</p>'
    if has_plots:
        name = f"figure-{len(figures)}"
        figures.append({"id": name, "data": plot.traces, "layout": plot.layout})
        drawing = (
            f'<div class="plot" id="{name}" role="img" aria-label="{html.escape(plot.description)}" '
            f'style="min-height:{plot.layout["height"]}px"></div>'
        )
    caption = f"<figcaption>{html.escape(plot.caption)}</figcaption>" if plot.caption else ""
    return f"<figure><h3>{html.escape(plot.heading)}</h3>{drawing}{caption}{numbers}</figure>"


def _asset(name: str) -> str:
    return (importlib.resources.files("sim.reporting.report") / name).read_text(encoding="utf-8")
