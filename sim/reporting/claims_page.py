"""Claims as a table for the terminal, as a page each, and as the table of all pages."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from sim.planning.claims.study import ClaimFound, ConditionFound, FigureFound
from sim.planning.claims.verdict import Verdict
from sim.planning.claims.wording import asked, interval, short, shown
from sim.reporting.wide_table import TableColumn, WideTable
from sim.specs.claim import AttributionStudy
from sim.specs.claim_inputs import LibraryInput, ListInput, RangeInput

COMMAND = "fleetcast claims --pages docs/claims"
"""What writes the pages of the documentation."""

INDEX = "README.md"
"""The table of all pages."""

_FLEET = (
    ("accelerators_per_replica", "accelerators a replica"),
    ("replicas", "replicas"),
    ("load", "load"),
    ("tightness", "latency over limit"),
    ("output_per_accelerator_s", "tokens/s per accelerator"),
    ("usd_per_hour", "USD/h"),
    ("usd_per_million_output", "USD per M output"),
)


def claims_table(found: Sequence[ClaimFound]) -> WideTable:
    """Return a row a claim: what is claimed, what was computed, and the verdict."""
    columns = [TableColumn("claim", is_key=True), TableColumn("claimed", is_prose=True),
               *(TableColumn(heading, is_number=True) for heading in ("p10", "p50", "p90")), TableColumn("unit"),
               TableColumn("verdict"), TableColumn("what was computed", is_prose=True)]  # fmt: skip
    rows = []
    for each in found:
        first = each.parts[0]
        numbers = [shown(value, first.spec.unit) for value in (first.p10, first.p50, first.p90)]
        unit = "" if first.spec.unit == "1" else first.spec.unit
        rows.append([each.spec.id, each.spec.claimed, *numbers, unit, each.verdict.value, first.spec.text])
    return WideTable("Published claims", columns, rows)


def claim_text(found: ClaimFound) -> str:
    """Return the page of a claim."""
    spec = found.spec
    first = found.parts[0]
    lines = [
        f"# {spec.id}: {spec.title}",
        "",
        f"- **Claim**: {spec.claim}",
        f"- **Claimed**: {spec.claimed}",
        f"- **Computed**: {interval(first.p10, first.p50, first.p90, first.spec.unit)}"
        " (median, 10th to 90th percentile)",
        f"- **Verdict**: {found.verdict.value}",
        "",
        found.reason,
        "",
        "## Statements",
        "",
        *_table(
            ("statement", "computed", "claimed", "true in", "verdict"),
            (
                (
                    each.spec.text if each.spec.role == "claim" else f"Beside it: {each.spec.text}",
                    interval(each.p10, each.p50, each.p90, each.spec.unit), asked(each.spec), f"{each.share:.0%}",
                    each.verdict.value,
                )
                for each in found.parts
            ),
        ),
    ]  # fmt: skip
    lines += _conditions(found)
    if found.measurements:
        lines += ["", "## What would decide it", "", *(f"- {_sentence(each)}" for each in found.measurements)]
    if found.figures:
        lines += ["", "## Numbers on the way", ""]
        lines += _table(("number", "computed"), ((each.text, _interval(each)) for each in found.figures))
    lines += _simulated(found)
    lines += ["", "## What was assumed", "", *(f"- {_sentence(each)}" for each in spec.assumed)]
    if found.inputs:
        lines += ["", "## What was varied", "", *_inputs(found)]
    if spec.sources:
        lines += ["", "## Sources", "", *(f"- {key}: {each}" for key, each in spec.sources.items())]
    lines += ["", f"Computed by `fleetcast claims {spec.id}` from `claims/{spec.name}.yaml`."]
    return "\n".join(lines) + "\n"


def index_text(found: Sequence[ClaimFound]) -> str:
    """Return the table of all pages."""
    rows = (
        (
            f"[{each.spec.id}]({each.spec.id}.md)", each.spec.claim, each.parts[0].spec.text,
            interval(each.parts[0].p10, each.parts[0].p50, each.parts[0].p90, each.parts[0].spec.unit),
            f"**{each.verdict.value}**",
        )
        for each in found
    )  # fmt: skip
    counts = {verdict: sum(each.verdict is verdict for each in found) for verdict in Verdict}
    lines = [
        "# Published claims, put to the test",
        "",
        f"Written by `{COMMAND}` from the studies in `claims/`; [claims.md](../claims.md) says how they are computed.",
        "",
        f"{len(found)} claims. " + ", ".join(f"{verdict.value}: {count}" for verdict, count in counts.items()) + ".",
        "",
        *_table(("claim", "in words", "computed is", "median (10th to 90th percentile)", "verdict"), rows),
    ]
    return "\n".join(lines) + "\n"


def write_pages(folder: Path, found: Sequence[ClaimFound]) -> None:
    """Write the page of every claim, and their table where all are there, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {f"{each.spec.id}.md": claim_text(each) for each in found}
    if len(found) > 1:
        pages[INDEX] = index_text(found)
    for name, text in pages.items():
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8", suffix=".tmp") as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(folder / name)


def _conditions(found: ClaimFound) -> Iterator[str]:
    if found.conditions:
        yield from ("", "## Under which conditions it would hold", "")
    for each in found.conditions:
        yield f"- {_sentence(_condition(each))}"


def _condition(each: ConditionFound) -> str:
    after = "" if each.unit in ("1", "place") else f" {each.unit}"
    planned = f"here {shown(each.planned, each.unit)}{after}"
    if each.value is not None:
        side = "at least" if each.above else "at most"
        return f"{each.text}: {side} {shown(each.value, each.unit)}{after} ({planned})"
    low, high = (shown(end, each.unit) for end in each.between)
    return f"{each.text}: at {'any' if each.anyway else 'no'} value from {low} to {high}{after} ({planned})"


def _simulated(found: ClaimFound) -> Iterator[str]:
    spec = found.spec
    fleets = {name: figures for name, figures in found.simulated.items() if name in spec.fleets}
    if fleets:
        yield from ("", "## Simulated fleets", "")
        rows = (
            (f"`{name}`", *(short(figures.get(key, math.nan)) for key, _ in _FLEET)) for name, figures in fleets.items()
        )
        yield from _table(("fleet", *(heading for _, heading in _FLEET)), rows)
    for name, attribution in spec.attributions.items():
        yield from ("", f"## Levers on `{attribution.fleet}`: {attribution.figure.replace('_', ' ')}", "")
        yield from _attribution(attribution, found.simulated[name])
    others = {**spec.months, **spec.lengths}
    if others:
        yield from ("", "## Months and answers", "")
        rows = ((f"`{name}`", _in_line(found.simulated[name])) for name in others)
        yield from _table(("name", "figures"), rows)


def _in_line(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {short(value)}" for key, value in figures.items())


def _attribution(study: AttributionStudy, figures: Mapping[str, float]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [
        (lever, *(short(figures[key]) for key in (f"alone_{lever}", lever, f"last_{lever}"))) for lever in study.levers
    ]
    rows.append(("all together", short(figures["product_alone"]), short(figures["total"]), ""))
    yield from _table(("lever", "alone", "Shapley", "last, with all others"), rows)
    yield from (
        "",
        "Factors by which the figure falls. Shapley factors multiply to what is simulated with all levers; those of",
    )
    yield "each lever alone multiply to more or less, for all act on the same queue."


def _inputs(found: ClaimFound) -> Iterator[str]:
    rows = []
    for each in found.inputs:
        spec = found.spec.inputs[each.name]
        if isinstance(spec, RangeInput | ListInput):
            origin, note = f"{', '.join(spec.source)} ({spec.confidence.value.replace('_', ' ')})", spec.note
        elif isinstance(spec, LibraryInput):
            origin, note = f"`{spec.document}`, `{spec.path}`", ""
        else:
            origin, note = f"library, {spec.input}", ""
        rows.append((f"`{each.name}`", _interval(each), origin, note))
    yield from _table(("input", "median (10th to 90th percentile)", "source", "note"), rows)


def _interval(each: FigureFound) -> str:
    return interval(each.p10, each.p50, each.p90, "" if each.unit == "place" else each.unit)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('---' for _ in head)}|"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in row)} |"


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
