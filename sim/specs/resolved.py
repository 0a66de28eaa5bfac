"""A scenario with everything that it refers to, ready to be simulated, changed and compared."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sim.specs.errors import InputError, Problem, suggest
from sim.specs.fleet import PoolSpec
from sim.specs.fleet_checks import fleet_problems, targets
from sim.specs.hardware import HardwareSpec
from sim.specs.library import Library, default_library, located, name_problems
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, validate
from sim.specs.references import Reference, fetch
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Document
from sim.specs.wording import Location, known_keys
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
        base = {key: value for key, value in self.raw.data.items() if key != "alternatives"}
        result: list[Self] = []
        problems: list[Problem] = []
        for name, delta in self.spec.alternatives.items():
            written: dict[Location, Location | None] = {}
            for path in delta:
                place = ("alternatives", name, path)
                written[_place(path)] = self.raw.changed.get(place, place)
            raw = replace(self.raw, data=base, scope=f"alternatives.{name}")
            try:
                raw = changed(raw, delta, written)
                result.append(type(self).resolve(raw, self.library, f"{self.spec.name}/{name}", self.fingerprints))
            except InputError as error:
                problems += error.problems
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
        """Return the traffic classes that routers send to a pool; none where it takes what other pools send on."""
        if pool in targets(self.spec.fleet):
            return ()
        return self.spec.fleet[pool].serves or tuple(self.spec.traffic)

    def trace_file(self, traffic_class: str) -> Path | None:
        """Return the file that a class replays, relative to the scenario's own folder; none when synthetic."""
        trace = self.spec.traffic[traffic_class].trace
        if trace is None:
            return None
        return located(trace, self.raw.file)

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
        spec: ScenarioSpec | None = None
        problems: list[Problem] = []
        try:
            spec = validate(raw, ScenarioSpec)
        except InputError as error:
            problems += error.problems
        problems += _class_problems(raw)
        found = fetch(raw, library, references(raw.data))
        problems += found.problems
        hardware = found.documents.get("hardware", {})
        if spec is not None:
            problems += fleet_problems(spec, raw, hardware)
        if spec is None or problems:
            raise InputError(problems)
        return cls(
            spec=spec,
            scenario_id=scenario_id or spec.name,
            hardware=hardware,
            models=found.documents.get("model", {}),
            serving_stacks=found.documents.get("serving_stack", {}),
            workloads=found.documents.get("workload", {}),
            fingerprints={**(known or {}), **found.fingerprints},
            raw=raw,
            library=library,
        )


def load_scenario(
    name: str,
    changes: Mapping[str, object] | None = None,
    replay: tuple[str | Sequence[str] | None, str] | None = None,
) -> Scenario:
    """Return a scenario by name or path.

    Parameters
    ----------
    name : str
        Name in the library, or path of a YAML file.
    changes : mapping, optional
        Dotted path -> value, applied before anything is checked and after `replay`.
    replay : tuple, optional
        Traffic class, all classes that the file names, or None, and file of a recorded trace that replaces the
        scenario's traffic.

    Raises
    ------
    InputError
        Missing or invalid; all problems at once.

    """
    library = default_library()
    path = library.find("scenario", name)
    library = default_library(beside=path)
    raw, fingerprints = library.read("scenario", str(path))
    problems = name_problems(raw, name) if path.stem == name else []
    if problems:
        raise InputError(problems)
    if replay is not None:
        raw = replayed(raw, *replay)
    raw = changed(raw, changes or {})
    return Scenario.resolve(raw, library, known=fingerprints)


def replayed(raw: RawDocument, traffic_class: str | Sequence[str] | None, file: str) -> RawDocument:
    """Return a raw scenario whose only traffic is a recorded trace.

    Parameters
    ----------
    raw : RawDocument
        The scenario.
    traffic_class : str, sequence of str, or None
        Class of the scenario as which the trace is replayed, at that class's speed and service levels, or all classes
        that the file names, each row as its own; None makes a class `trace` that has none.
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
    names = [traffic_class] if isinstance(traffic_class, str) else list(traffic_class or ())
    strange = [name for name in names if name not in known]
    if strange:
        remedies = [suggest(name, map(str, known)) for name in strange]
        raise InputError(
            [raw.problem("the scenario has no such class", ("traffic",), name, remedy)
             for name, remedy in zip(strange, remedies, strict=True)]
        )  # fmt: skip
    data["traffic"] = {}
    for name in names or ["trace"]:
        entry = known.get(name)
        entry = entry if isinstance(entry, dict) else {}
        kept = {key: entry[key] for key in ("workload", "trace_speed") if key in entry}
        data["traffic"][name] = kept | {"trace": str(Path(file).absolute())}
    if isinstance(data.get("service_levels"), dict):
        data["service_levels"] = {key: value for key, value in data["service_levels"].items() if key in data["traffic"]}
    return replace(raw, data=data, changed={**raw.changed, ("traffic",): None})


def changed(
    raw: RawDocument,
    changes: Mapping[str, object],
    written: Mapping[Location, Location | None] | None = None,
    spec_type: type[Document] = ScenarioSpec,
) -> RawDocument:
    """Return a raw document with values set at dotted paths; the last key of a path may be new.

    Parameters
    ----------
    raw : RawDocument
        The scenario, or another document.
    changes : mapping
        Dotted path -> value.
    written : mapping, optional
        Place that changes -> where in the file the new value stands; none when it stands elsewhere.
    spec_type : type
        Spec of the document, which says which keys there could be.

    Raises
    ------
    InputError
        A path leads through something that is not there, or is no mapping.

    """
    data = copy.deepcopy(raw.data)
    places: dict[Location, Location | None] = {_place(path): None for path in changes}
    places.update(written or {})
    raw = replace(raw, data=data, changed={**raw.changed, **places})
    problems = []
    for path, value in changes.items():
        place = _place(path)
        wrong = _set(data, place, copy.deepcopy(value), spec_type)
        if wrong is not None:
            problems.append(raw.problem(wrong[0], place, wrong[1], wrong[2]))
    if problems:
        raise InputError(problems)
    return raw


def _set(
    data: dict[Any, Any], place: Location, value: object, spec_type: type[Document]
) -> tuple[str, object, str] | None:
    """Set a value, or return what is wrong with the path: message, value and remedy."""
    if not all(place):
        return "is not a path", None, "Write keys joined by dots, as in `fleet.chat.replicas`."
    here: Any = data
    for position, key in enumerate(place[:-1]):
        known = known_keys(spec_type, data, place[:position])
        if here.get(key) is None and key in known:
            here[key] = {}
        if key not in here:
            return "there is no such path", ".".join(place[: position + 1]), suggest(key, {*map(str, here), *known})
        here = here[key]
        if not isinstance(here, dict):
            at = ".".join(place[: position + 1])
            return f"there are no keys below {at}", here, f"Set {at} as a whole."
    here[place[-1]] = value
    return None


def _place(path: str) -> tuple[str, ...]:
    """Return the keys of a dotted path; below an alternative stands one key, which is itself a dotted path."""
    parts = path.split(".")
    return (*parts[:2], ".".join(parts[2:])) if parts[0] == "alternatives" and len(parts) > 2 else tuple(parts)


def references(data: Mapping[str, Any]) -> Iterator[Reference]:
    """Return where names of documents stand, their kind and the name; of data that may be wrong elsewhere."""
    for name, pool in _entries(data, "fleet"):
        for kind in ("hardware", "model", "serving_stack"):
            document = pool.get(kind, PoolSpec.model_fields[kind].default)
            if isinstance(document, str):
                yield ("fleet", name, kind), kind, document
    for name, traffic in _entries(data, "traffic"):
        if isinstance(traffic.get("workload"), str):
            yield ("traffic", name, "workload"), "workload", traffic["workload"]


def _class_problems(raw: RawDocument) -> Iterator[Problem]:
    classes = [name for name, _ in _entries(raw.data, "traffic")]
    if not classes:
        return
    levels = raw.data.get("service_levels")
    for name in levels if isinstance(levels, dict) else ():
        if name not in classes:
            remedy = suggest(str(name), map(str, classes))
            yield raw.problem("service level for a class that has no traffic", ("service_levels", name), None, remedy)
    pools = _entries(raw.data, "fleet")
    served: set[str] = set()
    sent_on = {
        entry.get("to")
        for _, pool in pools
        for entry in (pool.get("hand_over"), pool.get("spill_over"))
        if isinstance(entry, dict)
    }
    for name, pool in pools:
        serves = pool.get("serves") or ([] if name in sent_on else classes)
        for traffic_class in serves if isinstance(serves, list | tuple) else classes:
            if isinstance(traffic_class, str) and traffic_class not in classes:
                remedy = suggest(traffic_class, map(str, classes))
                location = ("fleet", name, "serves")
                yield raw.problem("serves a class that has no traffic", location, traffic_class, remedy)
            served.add(str(traffic_class))
    for name in classes:
        if pools and str(name) not in served:
            yield raw.problem("no pool serves this class", ("traffic", name), None, "Add it to a pool's `serves`.")


def _entries(data: Mapping[str, Any], key: str) -> list[tuple[Any, dict[str, Any]]]:
    entries = data.get(key)
    if not isinstance(entries, dict):
        return []
    return [(name, entry if isinstance(entry, dict) else {}) for name, entry in entries.items()]
