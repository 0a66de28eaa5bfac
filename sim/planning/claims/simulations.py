"""All fleets of some studies, simulated as a set of independent tasks: on all cores, on a cluster, each only once."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from sim.demand.compression import FOLDER
from sim.execution.execution import Progress, execute
from sim.execution.executor import Executor
from sim.execution.store import Store
from sim.execution.task import Task, make_task
from sim.planning.claims.fleets import Figures, coalition, fleet_figures, remember, whole_fleet
from sim.planning.claims.formula import names_in
from sim.specs.claim import ClaimSpec, FleetStudy
from sim.specs.errors import InputError, Problem
from sim.specs.library import KINDS, Library


def named_fleets(spec: ClaimSpec) -> list[str]:
    """Return the fleets of a study that its formulas name; the others are only there for some to be like them."""
    formulas = [each.formula for each in (*spec.figures.values(), *spec.parts.values())]
    used = {name for formula in formulas for name in names_in(formula)}
    return [name for name in spec.fleets if name in used]


def fleets_of(spec: ClaimSpec) -> Iterator[tuple[str, FleetStudy]]:
    """Yield where they stand and all fleets of a study that are simulated, those of every set of levers included."""
    for name in named_fleets(spec):
        yield f"fleets.{name}", whole_fleet(spec.fleets, name)
    for name, each in spec.attributions.items():
        base = whole_fleet(spec.fleets, each.fleet)
        for size in range(len(each.levers) + 1):
            for chosen in itertools.combinations(each.levers, size):
                yield f"attributions.{name}", coalition(base, each.levers, frozenset(chosen))


def simulate_fleets(
    specs: Sequence[ClaimSpec],
    library: Library,
    executor: Executor,
    store: Store | None = None,
    progress: Progress | None = None,
) -> None:
    """Simulate the fleets of some studies and remember their figures, for `fleet_figures` to find them.

    Parameters
    ----------
    specs : sequence of ClaimSpec
        Studies, whose formulas can be read.
    library : Library
        Where names are looked up.
    executor : Executor
        Where fleets are simulated.
    store : Store, optional
        Where they are kept for the next time; a temporary folder without one.
    progress : callable, optional
        Told how far the work is.

    Raises
    ------
    InputError
        Bad input, or a fleet that meets no service level: of the first that is found.

    """
    fleets: dict[str, tuple[ClaimSpec, str, FleetStudy]] = {}
    for spec in specs:
        for place, each in fleets_of(spec):
            fleets.setdefault(each.model_dump_json(), (spec, place, each))
    digest = _digest(library)
    roots = [str(root.resolve()) for root in library.roots]
    tasks: list[Task] = [
        make_task(fleet_task, {"study": text, "roots": roots}, {"study": text, "library": digest}) for text in fleets
    ]
    found = execute(tasks, store, executor, progress, what="fleets")
    for finished, (spec, place, each) in zip(found, fleets.values(), strict=True):
        value = finished.result.value
        if value is None:
            placed_figures(spec, place, each, library)
        else:
            figures = {name: math.nan if number is None else float(number) for name, number in value.items()}
            remember(each, library, figures)


def placed_figures(spec: ClaimSpec, place: str, fleet: FleetStudy, library: Library) -> Figures:
    """Return the figures of a fleet; InputError with its place in the study."""
    try:
        return fleet_figures(fleet, library)
    except InputError as error:
        raise InputError(placed(spec, place, error)) from None


def placed(spec: ClaimSpec, place: str, error: InputError) -> list[Problem]:
    """Return problems with their place in a study, where they have none."""
    return [
        each if each.file else Problem(each.message, f"{spec.name}.yaml", place, each.value, each.remedy)
        for each in error.problems
    ]


def fleet_task(study: str, roots: list[str]) -> dict[str, float | None] | None:
    """Return the figures of a fleet, none for what is not known; none at all where something is wrong with it."""
    library = Library(tuple(map(Path, roots)))
    try:
        figures = fleet_figures(FleetStudy.model_validate_json(study), library)
    except InputError:
        return None
    return {name: number if math.isfinite(number) else None for name, number in figures.items()}


def _digest(library: Library) -> str:
    """Return SHA-256 of all files of a library, by which kept fleets are known."""
    digest = hashlib.sha256()
    for root in library.roots:
        for folder in sorted({*KINDS.values(), FOLDER}):
            for path in sorted((root / folder).glob("*.y*ml")):
                content = path.read_bytes()
                digest.update(f"{folder}/{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()
