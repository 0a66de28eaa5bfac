"""What measured points cover, by framework and accelerator family, and the error bands that they earn there.

Each family of a serving stack says which accelerators, kinds of models, formats, batches and lengths its points are
of, so that a prediction outside of them can be flagged, and how far groups that were left out of the fit lay off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sim.fidelity.calibration import UNSTEADY, Calibration
from sim.fidelity.validation import Compared, Validation, weighted_quantile
from sim.serving.validity import features_of, formats_used
from sim.specs.serving_stack import BandMetric

FEWEST_POINTS = 20
"""Numbers needed to call an accelerator calibrated, and to state a band: an end then rests on two of them."""

METRICS: tuple[BandMetric, ...] = ("throughput", "tpot", "e2e", "ttft")
SHARED = "shared"
"""Stack whose coverage is that of all frameworks together."""


def coverage_of(seen: Validation, judged: Validation | None = None) -> dict[str, dict[str, dict[str, Any]]]:
    """Return serving stack -> accelerator family -> coverage, as a stack's YAML has it.

    A framework says something of its own about a family where it has enough points there; elsewhere the entry of the
    shared stack, which it extends, holds.

    Parameters
    ----------
    seen : Validation
        Points with predictions.
    judged : Validation, optional
        The same, predicted by fits that have not seen their group; without it no bands are stated.

    """
    frameworks = sorted({each.framework for each in seen.compared} - {SHARED})
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for stack in (SHARED, *frameworks):
        rows, out = (_of(each, stack) for each in (seen, judged or Validation([], [])))
        families = {
            family: _entry(mine, [each for each in out if each.family == family])
            for family in sorted({each.family for each in rows})
            if len(mine := [each for each in rows if each.family == family])
            >= (1 if stack == SHARED else FEWEST_POINTS)
        }
        if families:
            found[stack] = families
    return found


def _of(validation: Validation, stack: str) -> Sequence[Compared]:
    return [each for each in validation.compared if stack in (SHARED, each.framework)]


def _entry(rows: Sequence[Compared], judged: Sequence[Compared]) -> dict[str, Any]:
    bands = {metric: band for metric in METRICS if (band := band_of(judged, metric)) is not None}
    most = {
        "most_sequences": max((each.sequences for each in rows if math.isfinite(each.sequences)), default=math.nan),
        "most_tokens": max((each.tokens for each in rows if math.isfinite(each.tokens)), default=math.nan),
    }
    return {
        "points": len(rows),
        "accelerators": _frequent(rows, lambda each: (each.hardware,), FEWEST_POINTS),
        "features": _frequent(rows, lambda each: each.features, 1),
        "formats": _frequent(rows, lambda each: each.formats, 1),
        **{name: float(f"{value:.4g}") for name, value in most.items() if math.isfinite(value)},
        **({"bands": bands} if bands else {}),
    }


def band_of(rows: Iterable[Compared], metric: str) -> dict[str, float | int] | None:
    """Return the range of measured over predicted that holds the middle 80% of some numbers; none for too few.

    Servers that were not warm are left out, as they are left out of the fit: nobody plans for them.
    """
    mine = [each for each in rows if each.metric == metric and not each.source.startswith(UNSTEADY)]
    if len(mine) < FEWEST_POINTS:
        return None
    ratio = np.array([each.measured / each.predicted for each in mine])
    weight = np.array([each.weight for each in mine])
    low, high = (float(f"{weighted_quantile(ratio, weight, share):.3g}") for share in (0.1, 0.9))
    return {"low": low, "high": high, "points": len(mine)} if low < high else None


def _frequent(rows: Sequence[Compared], what: Callable[[Compared], Collection[str]], fewest: int) -> list[str]:
    counts: dict[str, int] = {}
    for each in rows:
        for name in what(each):
            counts[name] = counts.get(name, 0) + 1
    return sorted(name for name, count in counts.items() if count >= fewest)


def own_coverage(calibration: Calibration) -> dict[str, dict[str, Any]]:
    """Return accelerator family -> coverage of a user's own calibration; every accelerator that she measured counts.

    Bands come from the errors of groups left out of her fit, where there are enough of them.
    """
    found: dict[str, dict[str, Any]] = {}
    systems = [row.system for row in calibration.rows]
    for family in sorted({system.hardware.family for system in systems}):
        mine = [system for system in systems if system.hardware.family == family]
        bands = {}
        for metric in METRICS:
            chosen = np.array([
                row.system.hardware.family == family and row.target.kind == metric for row in calibration.rows
            ]) & np.isfinite(calibration.left_out)  # fmt: skip
            if chosen.sum() < FEWEST_POINTS:
                continue
            low, high = np.quantile(np.exp(-calibration.left_out[chosen]), (0.1, 0.9))
            bands[metric] = {"low": float(f"{low:.3g}"), "high": float(f"{high:.3g}"), "points": int(chosen.sum())}
        users = [each.load.amount / each.replicas for each in mine if each.load.kind in ("closed", "batch")]
        tokens = max(each.lengths.prompt_tokens + each.lengths.output_tokens for each in mine)
        found[family] = {
            "points": len(mine),
            "accelerators": sorted({each.hardware.name for each in mine}),
            "features": sorted({name for each in mine for name in features_of(each.model.architecture)}),
            "formats": sorted(
                {str(name) for each in mine for name in formats_used(each.model.architecture, each.formats)}
            ),
            **({"most_sequences": float(f"{max(users):.4g}")} if users else {}),
            "most_tokens": float(f"{tokens:.4g}"),
            **({"bands": bands} if bands else {}),
        }
    return found


def coverage_lines(families: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the coverage of one stack as lines of YAML."""
    lines = ["coverage:"]
    for family, entry in families.items():
        lines.append(f"  {family}:")
        for key, value in entry.items():
            if key == "bands":
                lines.append("    bands:")
                lines += [
                    f"      {metric}: {{low: {band['low']:g}, high: {band['high']:g}, points: {band['points']}}}"
                    for metric, band in value.items()
                ]
            elif isinstance(value, list):
                lines.append(f"    {key}: [{', '.join(value)}]")
            else:
                lines.append(f"    {key}: {value:.10g}")
    return lines


def with_coverage(text: str, lines: Sequence[str]) -> str:
    """Return a serving stack's YAML with its coverage replaced, or put at its end."""
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("coverage:"):
            inside = True
        elif inside and line and not line.startswith((" ", "#")):
            inside = False
        if not inside:
            kept.append(line)
    return "\n".join(kept).rstrip() + "\n\n" + "\n".join(lines) + "\n"


def write_coverage(folder: Path, coverage: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
    """Write the coverage of every stack of a folder into its file; stacks without one are left as they are."""
    for stack, families in coverage.items():
        file = folder / f"{stack}.yaml"
        if file.exists():
            file.write_text(with_coverage(file.read_text("utf-8"), coverage_lines(families)), "utf-8")
