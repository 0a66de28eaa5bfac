"""A sweep: one scenario at many points, each a run of its own, and what they gave as one dataset."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from sim.engine.run import EngineName
from sim.execution.axes import Axis, Point, axes_of, grid, latin_hypercube
from sim.execution.dataset import Sweep, forget, start_dataset, write_dataset
from sim.execution.execution import Progress, Tally, execute
from sim.execution.executor import Executor, make_executor
from sim.execution.identity import Identity
from sim.execution.store import Store
from sim.execution.task import Output, Task, TaskError, make_task
from sim.results.versions import versions
from sim.simulation import simulate
from sim.specs.errors import InputError, Problem
from sim.specs.library import default_library
from sim.specs.reading import RawDocument
from sim.specs.resolved import Scenario, changed, load_scenario

_MOST_TRIED = 32


def sweep(
    scenario: Scenario | str,
    settings: Mapping[str, str | Sequence[object]],
    output: str | Path | None = None,
    *,
    samples: int | None = None,
    replications: int = 1,
    engine: EngineName = "auto",
    workers: int | None = None,
    cluster: str | None = None,
    executor: Executor | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Sweep:
    """Simulate a scenario at every point of a grid, or at points of a Latin hypercube.

    Points that an earlier sweep into the same directory has finished are not run again. A point that the scenario does
    not allow, such as a model that does not fit, is kept as refused, with the reason.

    Parameters
    ----------
    scenario : Scenario or str
        What to simulate, or its name or path; its alternatives are run at every point.
    settings : mapping
        Dotted path -> values to try, or text as after `--set PATH=`: `4,8,16` or `10..40:4 requests/s`.
    output : str or Path, optional
        Directory for the dataset; without one it is kept in memory.
    samples : int, optional
        Points of a Latin hypercube, instead of all combinations.
    replications : int
        Independent repetitions at each point.
    engine : str
        `auto`, `simpy` or `compiled`.
    workers, cluster :
        Where runs take place, see `sim.execution.executor.make_executor`.
    executor : Executor, optional
        The same as an object, which is left open.
    resume : bool
        Whether runs that the directory holds are used; otherwise they are removed first.
    progress : callable, optional
        Told how far the sweep is.

    Raises
    ------
    InputError
        Bad settings, told all at once before anything runs; or a directory that is none of a sweep.
    TaskError
        A run failed for another reason than bad input.
    OSError
        The directory cannot be written; what is finished is kept.

    """
    if replications < 1 or (samples is not None and samples < 1):
        raise ValueError("replications and samples must be at least 1")
    base = load_scenario(scenario) if isinstance(scenario, str) else scenario
    axes, problems = axes_of(settings, is_drawn=samples is not None)
    check_settings(base, axes, problems)
    points, count = _points(base, axes, samples)
    tally = Tally(total=count)
    with ExitStack() as stack:
        folder = Path(output) if output else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetcast-")))
        study = {
            "scenario": json.loads(json.dumps(base.raw.data, default=str)),
            "settings": {axis.path: list(axis.values) for axis in axes},
            "latin_hypercube": samples,
            "replications": replications,
            "engine": engine,
            "runs": count,
            "fingerprints": dict(base.fingerprints),
            "versions": versions(),
        }
        if not resume:
            forget(folder)
        start_dataset(folder, study)
        if executor is None:
            executor = stack.enter_context(make_executor(workers, cluster))
        identity = Identity(base.library)
        tasks = (_task(base, point, replications, engine, identity) for point in points)
        found = execute(tasks, Store(folder / "results"), executor, progress, tally=tally)
        again, _ = _points(base, axes, samples)
        tables = write_dataset(folder, axes, zip(again, found, strict=True), in_memory=output is None)
    return Sweep(axes, tally, folder if output else None, tables)


def run_point(
    file: str, data: dict[str, Any], fingerprints: dict[str, str], identity: str, replications: int, engine: EngineName
) -> Output:
    """Simulate one point; bad input is a result, too.

    Parameters
    ----------
    file : str
        File of the scenario, beside which others are looked up.
    data : dict
        The scenario as written, with the point's changes.
    fingerprints : dict
        Files that the scenario itself was read from.
    identity : str
        What the study found this scenario to be, to be found here as well.
    replications, engine :
        As in `sim.simulation.simulate`.

    Raises
    ------
    TaskError
        The files that the scenario names differ from those of the study.

    """
    library = default_library(beside=Path(file))
    raw = RawDocument(file, data)
    if Identity(library).of(raw) != identity:
        raise TaskError(
            "the files that the scenario names differ on this worker from those of the study; "
            "check FLEETCAST_PATH and the recorded traces there"
        )
    try:
        result = simulate(Scenario.resolve(raw, library, known=fingerprints), replications, engine)
    except InputError as error:
        return Output(
            {"outcome": "refused", "problems": [str(replace(each, file="", line=None)) for each in error.problems]}
        )
    manifest = {key: value for key, value in result.manifest.items() if key != "wall_s"}
    return Output({"outcome": "finished", "manifest": manifest}, result.tables["summary"])


def check_settings(base: Scenario, axes: Sequence[Axis], known: Sequence[Problem] = ()) -> None:
    """Raise InputError for known problems and every path and value that the scenario does not take.

    A value that only goes with some values of the others is none of these; it is tried with the scenario as it is and
    with the first and the last value of all others.
    """
    problems = list(known)
    for axis in axes:
        others = [{each.path: each.values[end] for each in axes if each is not axis} for end in (0, -1)]
        for value in _tried(axis.values):
            refused = _refusal(base, {axis.path: value})
            if refused and all(_refusal(base, {**rest, axis.path: value}) for rest in others):
                problems += refused
    if problems:
        raise InputError(problems)


def _tried(values: Sequence[object]) -> Sequence[object]:
    """Return the values that are tried beforehand: all, or of very many numbers the ends and some between."""
    if len(values) <= _MOST_TRIED or not all(isinstance(value, int | float) for value in values):
        return values
    ordered = sorted(values, key=float)  # type: ignore[arg-type]  # values are numbers here, checked before
    return [ordered[index * (len(ordered) - 1) // (_MOST_TRIED - 1)] for index in range(_MOST_TRIED)]


def _refusal(base: Scenario, changes: Mapping[str, object]) -> list[Problem]:
    try:
        Scenario.resolve(changed(base.raw, changes), base.library).variants()
    except InputError as error:
        return list(error.problems)
    return []


def _points(base: Scenario, axes: Sequence[Axis], samples: int | None) -> tuple[Iterator[Point], int]:
    if samples is not None:
        return latin_hypercube(axes, samples, base.spec.seed), samples
    count = 1
    for axis in axes:
        count *= len(axis.values)
    return grid(axes), count


def _task(base: Scenario, point: Point, replications: int, engine: EngineName, identity: Identity) -> Task:
    data = json.loads(json.dumps(changed(base.raw, point).data, default=str))
    found = identity.of(replace(base.raw, data=data))
    arguments = {"replications": replications, "engine": engine}
    everything = {
        "file": str(Path(base.raw.file).absolute()),
        "data": data,
        "fingerprints": dict(base.fingerprints),
        "identity": found,
        **arguments,
    }
    return make_task(run_point, everything, {"scenario": found, **arguments})
