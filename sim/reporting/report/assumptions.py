"""Every number with a source that a study rests on, from its manifest: value, unit, range, confidence and citation."""

from __future__ import annotations

import html
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from sim.reporting.report.numbers import html_table, plain
from sim.reporting.report.section import Section
from sim.reporting.report.studies import Study
from sim.specs.compression import CompressionSpec
from sim.specs.economics import EconomicsSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.horizon import HorizonSpec
from sim.specs.model import ModelSpec
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.units import Dimension
from sim.specs.workload import WorkloadSpec

_TYPES: Mapping[str, type[BaseModel]] = {
    "scenario": ScenarioSpec,
    "horizon": HorizonSpec,
    "hardware": HardwareSpec,
    "models": ModelSpec,
    "serving_stacks": ServingStackSpec,
    "workloads": WorkloadSpec,
    "compression": CompressionSpec,
    "economics": EconomicsSpec,
}
_WORDS = {
    "scenario": "Scenario",
    "horizon": "Horizon",
    "hardware": "Accelerator",
    "models": "Model",
    "serving_stacks": "Serving stack",
    "workloads": "Workload",
    "compression": "Compression",
    "economics": "Terms",
}
_CONFIDENCE = (
    "assumption",
    "derived",
    "analyst_estimate",
    "vendor_claim",
    "measured",
    "published_spec_via_secondary",
    "published_spec",
)
"""From the least to the most certain, as they are counted."""


@dataclass(frozen=True)
class Assumption:
    """One number, or one group of numbers, with its source."""

    kind: str
    """Kind of document."""

    document: str
    """Name of the document."""

    path: str
    """Where it stands in it."""

    value: str
    """As the page writes it, unit included."""

    low: str
    """Lower end; empty where none is given."""

    high: str
    """Upper end; empty where none is given."""

    confidence: str
    """How far it can be trusted."""

    source: tuple[str, ...]
    """Source keys."""

    note: str
    """What a reader has to know."""


def documents_of(study: Study) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield kind, name and content of every resolved document of a study, each once."""
    seen = set()
    for kind, name, content in _documents(study.manifest):
        if (kind, name) not in seen:
            seen.add((kind, name))
            yield kind, name, content


def _documents(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    resolved = manifest.get("scenarios")
    for content in resolved.values() if isinstance(resolved, Mapping) else ():
        yield "scenario", str(content["scenario"]["name"]), content["scenario"]
        for kind in ("hardware", "models", "serving_stacks", "workloads"):
            for name, document in content[kind].items():
                yield kind, str(name), document
    if isinstance(manifest.get("horizon"), Mapping):
        yield "horizon", str(manifest["horizon"]["name"]), manifest["horizon"]
    for kind, found in manifest.get("documents", {}).items():
        for name, document in found.items():
            yield kind, str(name), document


def assumptions_of(study: Study) -> list[Assumption]:
    """Return every number with a source in the resolved documents of a study."""
    return [
        Assumption(
            kind,
            name,
            ".".join(path),
            *_written(content, _unit(_TYPES.get(kind), (*path, "value"))),
            str(content["confidence"]),
            tuple(map(str, content["source"])),
            str(content.get("note", "")),
        )
        for kind, name, document in documents_of(study)
        for path, content in _sourced(document, ())
    ]


def assumptions_section(studies: Sequence[Study]) -> Section:
    """Return the section of assumptions of all studies, those with a range first, and the citations."""
    found = list(dict.fromkeys(each for study in studies for each in assumptions_of(study)))
    counts = [(name, sum(each.confidence == name for each in found)) for name in _CONFIDENCE]
    told = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts if count)
    parts = [
        f"<p>{len(found)} numbers with a source went in: {told}. Where sources differ or nothing is published, "
        "low and high are given; <code>fleetcast uncertainty</code> draws from them.</p>"
        if found
        else "<p>No resolved documents stand in these directories.</p>"
    ]
    for (kind, name), rows in _grouped(found).items():
        weak = sum(each.confidence == "assumption" for each in rows)
        cells = [
            [
                f"<code>{html.escape(each.path)}</code>",
                html.escape(each.value),
                _range(each),
                html.escape(each.confidence.replace("_", " ")),
                html.escape(", ".join(each.source)),
                html.escape(each.note),
            ]
            for each in sorted(rows, key=lambda each: (_CONFIDENCE.index(each.confidence), each.path))
        ]
        headings = ["number", "value", "low to high", "confidence", "source", "note"]
        summary = f"{_WORDS.get(kind, kind)} {name}: {len(rows)} numbers, {weak} of them assumptions"
        parts.append(html_table(headings, cells, f"Numbers of {name}", len(headings), summary))
    citations = {
        (key, str(text))
        for study in studies
        for _, _, document in documents_of(study)
        for key, text in (document.get("sources") or {}).items()
    }
    if citations:
        rows_ = [[f"<code>{html.escape(key)}</code>", html.escape(text)] for key, text in sorted(citations)]
        parts.append(html_table(["key", "source"], rows_, "Sources", 2, f"{len(rows_)} sources"))
    return Section("assumptions", "Assumptions and their sources", parts)


def _grouped(found: Sequence[Assumption]) -> dict[tuple[str, str], list[Assumption]]:
    groups: dict[tuple[str, str], list[Assumption]] = {}
    for each in found:
        groups.setdefault((each.kind, each.document), []).append(each)
    return groups


def _sourced(content: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if isinstance(content, Mapping):
        if "confidence" in content and isinstance(content.get("source"), list):
            yield path, content
        for key, value in content.items():
            yield from _sourced(value, (*path, str(key)))
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from _sourced(value, (*path, str(place)))


def _written(content: Mapping[str, Any], dimension: Dimension | None) -> tuple[str, str, str]:
    if "value" in content:
        low, high = (
            _quantity(content[end], dimension) if content.get(end) is not None else "" for end in ("low", "high")
        )
        return _quantity(content["value"], dimension), low, high
    own = {key: value for key, value in content.items() if key not in ("source", "confidence", "note")}
    told = [
        f"{key} {_quantity(value, None)}" if isinstance(value, int | float | str) else f"{key}: {len(value)} entries"
        for key, value in own.items()
        if value is not None and value != "" and not (isinstance(value, Mapping | list) and not value)
    ]
    return ", ".join(told[:6]) + (" …" if len(told) > 6 else ""), "", ""


def _quantity(value: object, dimension: Dimension | None) -> str:
    """Return a value in the largest decimal unit that leaves a number of at least one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if dimension is None:
        return plain(float(value))
    fitting = {
        unit: factor for unit, factor in dimension.factors.items() if "i" not in unit and 1 <= abs(value) / factor < 1e4
    }
    unit, factor = max(fitting.items(), key=lambda each: each[1], default=(dimension.si_unit, 1.0))
    if dimension.factors.get(dimension.si_unit, 1.0) == factor:
        unit = dimension.si_unit
    return f"{plain(value / factor)} {unit}"


def _range(each: Assumption) -> str:
    if not each.low and not each.high:
        return "–"
    return html.escape(f"{each.low or each.value} to {each.high or each.value}")


def _unit(annotation: object, path: tuple[str, ...]) -> Dimension | None:
    """Return the dimension of the field at a path of a spec's type, or None for a plain number."""
    origin = get_origin(annotation)
    if origin is Annotated:
        first, *more = get_args(annotation)
        known = next((each for each in more if isinstance(each, Dimension)), None)
        return known if known is not None and not path else _unit(first, path)
    if origin in (Union, types.UnionType):
        return next((found for each in get_args(annotation) if (found := _unit(each, path)) is not None), None)
    if not path:
        return None
    if origin in (dict, Mapping):
        return _unit(get_args(annotation)[1], path[1:])
    if origin in (tuple, list):
        return _unit(get_args(annotation)[0], path[1:])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        info = annotation.model_fields.get(path[0])
        if info is None:
            return None
        if len(path) == 1:
            known = next((each for each in info.metadata if isinstance(each, Dimension)), None)
            if known is not None:
                return known
        return _unit(info.annotation, path[1:])
    return None
