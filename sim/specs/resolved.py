"""A scenario with everything that it refers to, ready to be simulated, changed and compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sim.specs.errors import InputError, Problem
from sim.specs.hardware import HardwareSpec
from sim.specs.library import Found, Library, default_library
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, suggest, validate
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.workload import ServiceLevelSpec, WorkloadSpec


@dataclass(frozen=True)
class Scenario:
    """A scenario and the documents that it names; a change is a new scenario."""

    spec: ScenarioSpec
    """The scenario itself."""

    scenario_id: str
    """Its name in results: `name`, or `name/alternative`."""

    hardware: Mapping[str, HardwareSpec]
    """Hardware profiles by name."""

    models: Mapping[str, ModelSpec]
    """Models by name."""

    serving_stacks: Mapping[str, ServingStackSpec]
    """Serving stacks by name."""

    workloads: Mapping[str, WorkloadSpec]
    """Workloads by name."""

    fingerprints: Mapping[str, str]
    """File -> SHA-256 of all that was read."""

    raw: RawDocument
    """The scenario as read, with changes applied."""

    library: Library
    """Where names are looked up."""

    def replace(self, path: str, value: object) -> Self:
        """Return a scenario in which one value differs.

        Parameters
        ----------
        path : str
            Dotted path in the scenario, e.g. `fleet.chat.replicas`.
        value : object
            The new value, written as in YAML, e.g. `12` or `"20 requests/s"`.

        Raises
        ------
        InputError
            No such path, or a value that does not fit.

        """
        return type(self).resolve(changed(self.raw, {path: value}), self.library, self.scenario_id, self.fingerprints)

    def variants(self) -> list[Self]:
        """Return the alternatives as scenarios of their own, or this scenario when it has none."""
        if not self.spec.alternatives:
            return [self]
        base = RawDocument(
            self.raw.file, {key: value for key, value in self.raw.data.items() if key != "alternatives"}, self.raw.lines
        )
        result, problems = [], []
        for name, delta in self.spec.alternatives.items():
            try:
                identity = f"{self.spec.name}/{name}"
                result.append(type(self).resolve(changed(base, delta), self.library, identity, self.fingerprints))
            except InputError as error:
                problems += [
                    Problem(each.message, each.file, f"alternatives.{name}: {each.path}", each.value, each.remedy)
                    for each in error.problems
                ]
        if problems:
            raise InputError(problems)
        return result

    def service_levels(self, traffic_class: str) -> tuple[ServiceLevelSpec, ...]:
        """Return the service levels of a class: the scenario's own, else its workload's, else none."""
        if traffic_class in self.spec.service_levels:
            return self.spec.service_levels[traffic_class]
        workload = self.spec.traffic[traffic_class].workload
        return () if workload is None else self.workloads[workload].service_levels

    def classes_served(self, pool: str) -> tuple[str, ...]:
        """Return the traffic classes that a pool serves."""
        return self.spec.fleet[pool].serves or tuple(self.spec.traffic)

    def trace_file(self, traffic_class: str) -> Path | None:
        """Return the file that a class replays, relative to the scenario's own folder; none when synthetic."""
        trace = self.spec.traffic[traffic_class].trace
        if trace is None:
            return None
        path = Path(trace).expanduser()
        return path if path.is_absolute() or path.exists() else Path(self.raw.file).parent / path

    @classmethod
    def resolve(
        cls, raw: RawDocument, library: Library, scenario_id: str | None = None, known: Mapping[str, str] | None = None
    ) -> Self:
        """Return the scenario of a raw document.

        Raises
        ------
        InputError
            All problems of the scenario and of the documents that it names.

        """
        spec = validate(raw, ScenarioSpec)
        problems = list(_class_problems(raw, spec))
        fingerprints = dict(known or {})
        found: dict[str, dict[str, Any]] = {"hardware": {}, "model": {}, "serving_stack": {}, "workload": {}}
        for path, kind, name in _references(spec):
            if name in found[kind]:
                continue
            try:
                document: Found[Any] = library.load(kind, name)
            except InputError as error:
                problems += [
                    each if each.file else Problem(each.message, raw.file, path, name, each.remedy)
                    for each in error.problems
                ]
                continue
            found[kind][name] = document.spec
            fingerprints.update(document.fingerprints)
        if problems:
            raise InputError(problems)
        return cls(
            spec=spec,
            scenario_id=scenario_id or spec.name,
            hardware=found["hardware"],
            models=found["model"],
            serving_stacks=found["serving_stack"],
            workloads=found["workload"],
            fingerprints=fingerprints,
            raw=raw,
            library=library,
        )


def load_scenario(
    name: str, changes: Mapping[str, object] | None = None, replay: tuple[str | None, str] | None = None
) -> Scenario:
    """Return a scenario by name or path.

    Parameters
    ----------
    name : str
        Name in the library, or path of a YAML file.
    changes : mapping, optional
        Dotted path -> value, applied before anything is checked.
    replay : tuple of str, optional
        Traffic class (or None) and file of a recorded trace that replaces the scenario's traffic.

    Raises
    ------
    InputError
        Missing or invalid; all problems at once.

    """
    library = default_library()
    path = library.find("scenario", name)
    library = default_library(beside=path)
    raw, fingerprints = library.read("scenario", str(path))
    raw = changed(raw, changes or {})
    if replay is not None:
        raw = replayed(raw, *replay)
    return Scenario.resolve(raw, library, known=fingerprints)


def replayed(raw: RawDocument, traffic_class: str | None, file: str) -> RawDocument:
    """Return a raw scenario whose only traffic is a recorded trace.

    Parameters
    ----------
    raw : RawDocument
        The scenario.
    traffic_class : str or None
        Class of the scenario as which the trace is replayed, at that class's service levels; None makes a class
        `trace` that has none.
    file : str
        The recorded trace.

    Raises
    ------
    InputError
        The scenario has no such class.

    """
    data = copy.deepcopy(raw.data)
    traffic = data.get("traffic")
    known: dict[str, Any] = traffic if isinstance(traffic, dict) else {}
    if traffic_class is not None and traffic_class not in known:
        problem = Problem("the scenario has no such class", raw.file, "traffic", traffic_class)
        raise InputError([replace(problem, remedy=suggest(traffic_class, map(str, known)))])
    name = traffic_class or "trace"
    entry = known.get(name)
    workload = {"workload": entry["workload"]} if isinstance(entry, dict) and "workload" in entry else {}
    data["traffic"] = {name: workload | {"trace": file}}
    if isinstance(data.get("service_levels"), dict):
        data["service_levels"] = {key: value for key, value in data["service_levels"].items() if key == name}
    return RawDocument(raw.file, data, raw.lines)


def changed(raw: RawDocument, changes: Mapping[str, object]) -> RawDocument:
    """Return a raw document with values set at dotted paths; the last key of a path may be new.

    Raises
    ------
    InputError
        A path leads through something that is not there, or is no mapping.

    """
    data = copy.deepcopy(raw.data)
    problems = []
    for path, value in changes.items():
        here: Any = data
        *parents, last = path.split(".")
        for position, part in enumerate(parents):
            if isinstance(here, dict) and here.get(part) is None and part not in data:
                here[part] = {}
            if not isinstance(here, dict) or part not in here:
                known = here if isinstance(here, dict) else ()
                at = ".".join(parents[: position + 1])
                problems.append(Problem("there is no such path", raw.file, path, at, suggest(part, map(str, known))))
                break
            here = here[part]
        else:
            if isinstance(here, dict):
                here[last] = copy.deepcopy(value)
            else:
                problems.append(Problem("there is nothing below this path", raw.file, ".".join(parents), here))
    if problems:
        raise InputError(problems)
    return RawDocument(raw.file, data, raw.lines)


def _references(spec: ScenarioSpec) -> Iterator[tuple[str, str, str]]:
    for name, pool in spec.fleet.items():
        yield f"fleet.{name}.hardware", "hardware", pool.hardware
        yield f"fleet.{name}.model", "model", pool.model
        yield f"fleet.{name}.serving_stack", "serving_stack", pool.serving_stack
    for name, traffic in spec.traffic.items():
        if traffic.workload is not None:
            yield f"traffic.{name}.workload", "workload", traffic.workload


def _class_problems(raw: RawDocument, spec: ScenarioSpec) -> Iterator[Problem]:
    classes = set(spec.traffic)
    for name in spec.service_levels:
        if name not in classes:
            remedy = suggest(name, classes)
            yield Problem("service level for a class that has no traffic", raw.file, "service_levels", name, remedy)
    served: set[str] = set()
    for name, pool in spec.fleet.items():
        served |= set(pool.serves or classes)
        for traffic_class in pool.serves:
            if traffic_class not in classes:
                remedy = suggest(traffic_class, classes)
                path = f"fleet.{name}.serves"
                yield Problem("serves a class that has no traffic", raw.file, path, traffic_class, remedy)
    for name in sorted(classes - served):
        yield Problem("no pool serves this class", raw.file, f"traffic.{name}", remedy="Add it to a pool's `serves`.")
