"""A horizon with everything that it refers to, by name, with changes, or with other numbers in it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import BaseModel

from sim.demand.compression import fitted_power_law
from sim.planning.months import months_between
from sim.specs.compression import CompressionSpec
from sim.specs.economics import EconomicsSpec
from sim.specs.errors import InputError
from sim.specs.hardware import HardwareSpec
from sim.specs.horizon import LEVERS, HorizonSpec, LeverName
from sim.specs.library import Library, default_library, name_problems
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, validate
from sim.specs.references import Reference, fetch
from sim.specs.resolved import changed
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Document, Sourced
from sim.specs.workload import WorkloadSpec


@dataclass(frozen=True)
class Horizon:
    """A horizon and the documents that it names; a change is a new horizon."""

    spec: HorizonSpec
    """The horizon itself."""

    economics: EconomicsSpec
    """Terms of owning and API prices."""

    serving_stack: ServingStackSpec
    """Batching limits and efficiencies."""

    hardware: Mapping[str, HardwareSpec]
    """Hardware profiles by name."""

    models: Mapping[str, ModelSpec]
    """Models by name."""

    workloads: Mapping[str, WorkloadSpec]
    """Workloads by name."""

    methods: Mapping[str, CompressionSpec]
    """Methods that shorten reasoning by name."""

    fingerprints: Mapping[str, str]
    """File -> SHA-256 of all that was read."""

    raw: RawDocument
    """The horizon as read, with changes applied."""

    library: Library
    """Where names are looked up."""

    def as_written(self) -> dict[str, Any]:
        """Return the horizon as read, with changes applied, in JSON types: days as text, also where they are keys."""
        written: dict[str, Any] = _in_json(self.raw.data)
        return written

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return kind -> name -> document of all that it names, in JSON types."""
        parts: dict[str, Mapping[str, Document]] = {
            "hardware": self.hardware,
            "models": self.models,
            "workloads": self.workloads,
            "compression": self.methods,
            "serving_stacks": {self.serving_stack.name: self.serving_stack},
            "economics": {self.economics.name: self.economics},
        }
        return {
            kind: {name: each.model_dump(mode="json", exclude_none=True) for name, each in part.items()}
            for kind, part in parts.items()
        }

    @property
    def months(self) -> tuple[datetime.date, ...]:
        """Return the first day of every month."""
        return months_between(self.spec.start, self.spec.end)

    @property
    def planned(self) -> tuple[datetime.date, ...]:
        """Return the first day of every month in which something is decided."""
        return months_between(self.spec.plan_from, self.spec.end)

    @property
    def levers(self) -> frozenset[LeverName]:
        """Return the levers that are on."""
        return frozenset(each for each in LEVERS if self.spec.levers.get(each, True))

    def replace(self, path: str, value: object) -> Self:
        """Return a horizon in which one value differs, written as in YAML; InputError where it does not fit."""
        raw = changed(self.raw, {path: value}, spec_type=HorizonSpec)
        return type(self).resolve(raw, self.library, self.fingerprints)

    def with_numbers(self, numbers: Mapping[str, float]) -> Self:
        """Return a horizon in which some numbers differ, without reading or checking anything again: in microseconds.

        Parameters
        ----------
        numbers : mapping
            Path -> number in the unit of memory (SI, USD). A path leads through the horizon, as in
            `use_cases.agents.elasticity`, `rent_change.0.yearly` or `software.points.2027-12-01`; with the prefix
            `economics.` through its economics, and with `profiles.NAME.` through a hardware profile. Where it ends at
            a number with a source, that number's value changes and its range stays.

        Raises
        ------
        ValueError
            No such path, or there is no number.

        """
        spec, economics, hardware = self.spec, self.economics, dict(self.hardware)
        for path, number in numbers.items():
            first, *rest = keys = path.split(".")
            if first == "economics" and rest:
                economics = _with_number(economics, rest, number, path)
            elif first == "profiles" and len(rest) > 1 and rest[0] in hardware:
                hardware[rest[0]] = _with_number(hardware[rest[0]], rest[1:], number, path)
            else:
                spec = _with_number(spec, keys, number, path)
        return replace(self, spec=spec, economics=economics, hardware=hardware)

    @classmethod
    def resolve(cls, raw: RawDocument, library: Library, known: Mapping[str, str] | None = None) -> Self:
        """Return the horizon of a raw document; InputError with all that is wrong."""
        spec = validate(raw, HorizonSpec)
        found = fetch(raw, library, _references(spec))
        problems = found.problems
        economics = found.documents["economics"].get(spec.economics)
        for name, case in spec.use_cases.items():
            if economics is not None and case.api is not None and case.api not in economics.api:
                remedy = f"The economics know {', '.join(economics.api)}."
                place = ("use_cases", name, "api")
                problems.append(raw.problem("no API prices of this name", place, case.api, remedy))
        for key, use in spec.compression.items():
            method = found.documents.get("compression", {}).get(use.method or "")
            if method is not None:
                try:
                    fitted_power_law(method, use.base, use.benchmarks)
                except ValueError as error:
                    remedy = "`fleetcast show` prints what was measured of it."
                    problems.append(raw.problem(str(error), ("compression", key, "method"), use.method, remedy))
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        documents = found.documents
        return cls(
            spec=spec,
            economics=documents["economics"][spec.economics],
            serving_stack=documents["serving_stack"][spec.serving_stack],
            hardware=documents["hardware"],
            models=documents["model"],
            workloads=documents["workload"],
            methods=documents.get("compression", {}),
            fingerprints={**(known or {}), **found.fingerprints},
            raw=raw,
            library=library,
        )


def _references(spec: HorizonSpec) -> Iterator[Reference]:
    yield ("economics",), "economics", spec.economics
    yield ("serving_stack",), "serving_stack", spec.serving_stack
    for name in spec.hardware:
        yield ("hardware", name), "hardware", name
    for name, case in spec.use_cases.items():
        yield ("use_cases", name, "workload"), "workload", case.workload
        for key, share in case.models.items():
            yield ("use_cases", name, "models", key, "model"), "model", share.model
    for key, use in spec.compression.items():
        if use.method is not None:
            yield ("compression", key, "method"), "compression", use.method


def load_horizon(name: str, changes: Mapping[str, object] | None = None) -> Horizon:
    """Return a horizon by name or path.

    Parameters
    ----------
    name : str
        Name in the library, or path of a YAML file.
    changes : mapping, optional
        Dotted path -> value, applied before anything is checked.

    Raises
    ------
    InputError
        Missing or invalid; all problems at once.

    """
    library = default_library()
    path = library.find("horizon", name)
    library = default_library(beside=path)
    raw, fingerprints = library.read("horizon", str(path))
    problems = name_problems(raw, name) if path.stem == name else []
    if problems:
        raise InputError(problems)
    return Horizon.resolve(changed(raw, changes or {}, spec_type=HorizonSpec), library, fingerprints)


def _with_number(here: Any, keys: Sequence[str], number: float, path: str) -> Any:
    """Return a part of a spec with a number set below it."""
    if not keys:
        if isinstance(here, Sourced) and isinstance(here.value, int | float):
            return here.model_copy(update={"value": type(here.value)(number)})
        if isinstance(here, int | float) and not isinstance(here, bool):
            return type(here)(number)
        raise ValueError(f"{path}: there is no number")
    key, *rest = keys
    if isinstance(here, BaseModel) and key in type(here).model_fields:
        return here.model_copy(update={key: _with_number(getattr(here, key), rest, number, path)})
    if isinstance(here, Mapping):
        found = next((each for each in here if str(each) == key), None)
        if found is not None:
            return {**here, found: _with_number(here[found], rest, number, path)}
    if isinstance(here, tuple) and key.isdecimal() and int(key) < len(here):
        place = int(key)
        return (*here[:place], _with_number(here[place], rest, number, path), *here[place + 1 :])
    raise ValueError(f"{path}: there is no {key!r}")


def _in_json(content: object) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _in_json(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_in_json(value) for value in content]
    return content if content is None or isinstance(content, str | bool | int | float) else str(content)
