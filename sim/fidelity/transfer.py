"""Transfer: how well systems are predicted that the fit has not seen, by simulation with a fit of all others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.fidelity.calibration import Row
from sim.fidelity.fitting import Fitted, Observations
from sim.fidelity.mapping import Mapper
from sim.fidelity.points import KINDS, MeasuredRun
from sim.fidelity.shipping import client_factors, fit_library, write_stacks
from sim.fidelity.systems import System, UnmappedError
from sim.fidelity.validation import Compared, Validation, validate, weighted_quantile
from sim.specs.library import Library
from sim.specs.serving_stack import ServingStackSpec

_FEWEST_POINTS = 20
_UNSEEN = 2.0
"""Power by which a band widens, in logarithms, from one unseen generation to hardware that nobody has measured."""


@dataclass(frozen=True)
class Held:
    """A fit to hold against: its rows, its result, and where it departed from."""

    rows: Sequence[Row]
    """Numbers of the fit."""

    seen: Observations
    """The same as arrays."""

    fitted: Fitted
    """Fit of all of them."""

    base: ServingStackSpec
    """Stack from which it departed."""


def group_fold(folds: int) -> Callable[[System], str]:
    """Return a rule that puts every group of accelerator and model, whole, into one of some folds."""

    def fold(system: System) -> str:
        name = f"{system.accelerator_name} x {system.model_name}"
        return str(sum(name.encode()) % folds)

    return fold


def left_out(
    runs: Sequence[MeasuredRun],
    library: Library,
    held: Held,
    part_of: Callable[[System], str],
    parts: Iterable[str] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Validation:
    """Return all runs compared with predictions of fits that have not seen their part.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        Runs.
    library : Library
        Where hardware and models are looked up.
    held : Held
        Fit of all runs, from which each fit departs.
    part_of : callable
        System -> part to which it belongs.
    parts : iterable of str, optional
        Parts to leave out; all by default.
    progress : callable, optional
        Told which part is left out.

    """
    mapper = Mapper(library)
    members: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        try:
            members.setdefault(part_of(mapper.system(run)), []).append(run)
        except UnmappedError:
            continue
    compared: list[Compared] = []
    row_parts = np.array([part_of(row.system) for row in held.rows])
    for part in sorted(members) if parts is None else parts:
        if progress is not None:
            progress(part)
        fitted = fit_library(held.seen.only(row_parts != part), held.base, _without(held, part, part_of), 8)
        with tempfile.TemporaryDirectory() as folder:
            stacks = Path(folder) / "serving_stacks"
            stacks.mkdir()
            write_stacks(fitted, held.base, (), stacks)
            compared += validate(
                members.get(part, []), Library((Path(folder), *library.roots)), clients=client_factors(fitted)
            ).compared
    return Validation(compared, [])


def _without(held: Held, part: str, part_of: Callable[[System], str]) -> Fitted:
    """Return the full fit as a start, without the coordinates that only the left-out part determines."""
    kept = [row.system for row in held.rows if part_of(row.system) != part]
    members = {""} | {name for each in kept for name in (each.framework, each.hardware.family, each.client)}
    used = np.array([each.member in members for each in held.fitted.coordinates])
    return Fitted(
        [each for each, use in zip(held.fitted.coordinates, used, strict=True) if use],
        held.fitted.values[used],
        held.fitted.standard_errors[used],
        held.fitted.determined[used],
        held.fitted.singular_values,
    )


def band_lines(calibrated: Validation, transferred: Validation) -> list[str]:
    """Return the `bands` of a stack as YAML: from groups left out, from families left out, and twice that.

    A band holds the middle 80% of measured over predicted values, weighted as the points are.
    """
    lines = ["bands:"]
    for kind in KINDS:
        seen = _ratios(calibrated, kind)
        if seen is None:
            continue
        unseen = _ratios(transferred, kind) or (seen[0] ** 1.5, seen[1] ** 1.5, 0)
        unseen = (min(seen[0], unseen[0]), max(seen[1], unseen[1]), unseen[2])
        lines.append(f"  {kind}:")
        for name, (low, high, points) in (
            ("calibrated", seen),
            ("transferred", unseen),
            ("specification", (unseen[0] ** _UNSEEN, unseen[1] ** _UNSEEN, 0)),
        ):
            lines.append(f"    {name}: {{low: {low:.3g}, high: {high:.3g}, points: {points}}}")
    return lines


def _ratios(validation: Validation, kind: str) -> tuple[float, float, int] | None:
    rows = [each for each in validation.compared if each.metric == kind]
    if len(rows) < _FEWEST_POINTS:
        return None
    ratio = np.array([each.measured / each.predicted for each in rows])
    weight = np.array([each.weight for each in rows])
    return weighted_quantile(ratio, weight, 0.1), weighted_quantile(ratio, weight, 0.9), len(rows)
