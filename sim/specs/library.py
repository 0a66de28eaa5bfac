"""The library: where hardware, models, workloads, serving stacks and scenarios are found by name.

Search order: an explicit path, the folders in `FLEETCAST_PATH`, the folder of the scenario, the built-in library.
Each is a folder with `hardware_profiles/`, `models/`, `serving_stacks/`, `workloads/` and `scenarios/`, or some of
them. `extends: NAME` makes a file a delta of another one of its kind, one level deep.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sim.specs.errors import InputError, Problem
from sim.specs.hardware import HardwareSpec
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, read_yaml, suggest, validate
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Document
from sim.specs.workload import WorkloadSpec

KINDS: Mapping[str, tuple[str, type[Document]]] = {
    "hardware": ("hardware_profiles", HardwareSpec),
    "model": ("models", ModelSpec),
    "serving_stack": ("serving_stacks", ServingStackSpec),
    "workload": ("workloads", WorkloadSpec),
    "scenario": ("scenarios", ScenarioSpec),
}
"""Kind -> folder and spec."""

_SAYS_WHAT_IT_IS = frozenset({"distribution", "process", "kind"})

DocumentType = TypeVar("DocumentType", bound=Document)


@dataclass(frozen=True)
class Found(Generic[DocumentType]):
    """A document of the library and where it came from."""

    spec: DocumentType
    """The validated spec."""

    raw: RawDocument
    """What was read, with `extends` applied."""

    fingerprints: Mapping[str, str]
    """File name -> SHA-256 of its bytes, for the file and what it extends."""


@dataclass(frozen=True)
class Library:
    """Folders in which documents are looked up, in this order."""

    roots: tuple[Path, ...]
    """Folders that hold `hardware_profiles/` and so on."""

    def names(self, kind: str) -> dict[str, Path]:
        """Return name -> file of one kind; the first root that has a name wins."""
        folder = KINDS[kind][0]
        found: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted((root / folder).glob("*.yaml")):
                found.setdefault(path.stem, path)
        return found

    def kinds_of(self, name: str) -> list[str]:
        """Return the kinds that have a document of this name."""
        return [kind for kind in KINDS if name in self.names(kind)]

    def find(self, kind: str, name: str) -> Path:
        """Return the file of a document.

        Raises
        ------
        InputError
            No such name; the remedy names near misses.

        """
        if _is_path(name):
            return Path(name)
        names = self.names(kind)
        if name not in names:
            raise InputError([Problem(f"there is no {kind} of this name", value=name, remedy=suggest(name, names))])
        return names[name]

    def hardware(self, name: str) -> Found[HardwareSpec]:
        """Return a hardware profile; InputError when missing or invalid."""
        return self._load("hardware", name, HardwareSpec)

    def model(self, name: str) -> Found[ModelSpec]:
        """Return a model; InputError when missing or invalid."""
        return self._load("model", name, ModelSpec)

    def serving_stack(self, name: str) -> Found[ServingStackSpec]:
        """Return a serving stack; InputError when missing or invalid."""
        return self._load("serving_stack", name, ServingStackSpec)

    def workload(self, name: str) -> Found[WorkloadSpec]:
        """Return a workload; InputError when missing or invalid."""
        return self._load("workload", name, WorkloadSpec)

    def load(self, kind: str, name: str) -> Found[Any]:
        """Return a document of any kind; InputError when missing or invalid."""
        return self._load(kind, name, KINDS[kind][1])

    def read(self, kind: str, name: str) -> tuple[RawDocument, dict[str, str]]:
        """Return a document before validation, with `extends` applied, and its fingerprints.

        Raises
        ------
        InputError
            Missing, unreadable, or extending something that itself extends.

        """
        path = self.find(kind, name)
        raw = read_yaml(path)
        fingerprints = {path.name: _fingerprint(path)}
        base_name = raw.data.get("extends")
        if base_name is None:
            return raw, fingerprints
        if not isinstance(base_name, str):
            raise InputError([Problem("extends takes one name", raw.file, "extends", base_name)])
        try:
            base_path = self.find(kind, base_name)
        except InputError as error:
            problem = error.problems[0]
            raise InputError([Problem(problem.message, raw.file, "extends", base_name, problem.remedy)]) from None
        base = read_yaml(base_path)
        if "extends" in base.data:
            raise InputError(
                [Problem("extends one level only", raw.file, "extends", base_name, "Extend its own base instead.")]
            )
        delta = {key: value for key, value in raw.data.items() if key != "extends"}
        fingerprints[base_path.name] = _fingerprint(base_path)
        return RawDocument(raw.file, merged(base.data, delta), raw.lines), fingerprints

    def _load(self, kind: str, name: str, spec_type: type[DocumentType]) -> Found[DocumentType]:
        raw, fingerprints = self.read(kind, name)
        given = raw.data.get("kind")
        if given != kind:
            raise InputError([Problem(f"this is not a {kind}", raw.file, "kind", given, f"Write `kind: {kind}`.")])
        spec = validate(raw, spec_type)
        if not _is_path(name) and spec.name != name:
            raise InputError([Problem(f"the name must be the file's, {name!r}", raw.file, "name", spec.name)])
        return Found(spec, raw, fingerprints)


def merged(base: Mapping[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    """Return base with delta laid over it.

    Mappings are merged key by key and all else is replaced; so is a mapping of the delta that says what kind of
    thing it is (`distribution`, `process`, `kind`), for its keys mean nothing beside those of another kind.
    """
    result = copy.deepcopy(dict(base))
    for key, value in delta.items():
        mergeable = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        if mergeable and not _SAYS_WHAT_IT_IS & set(value):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def builtin_root() -> Path:
    """Return the folder of the built-in library, in a checkout or in an installed wheel."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "builtin"
    return installed if installed.is_dir() else package.parent


def default_library(beside: Path | None = None) -> Library:
    """Return the library by the search order, with the folder of a scenario file where one is given.

    Raises
    ------
    InputError
        A folder in `FLEETCAST_PATH` does not exist.

    """
    roots: list[Path] = []
    problems = []
    for entry in filter(None, os.environ.get("FLEETCAST_PATH", "").split(os.pathsep)):
        if Path(entry).is_dir():
            roots.append(Path(entry))
        else:
            problems.append(Problem("this folder does not exist", "FLEETCAST_PATH", value=entry))
    if problems:
        raise InputError(problems)
    if beside is not None:
        folder = beside.resolve().parent
        roots.append(folder.parent if folder.name == KINDS["scenario"][0] else folder)
    return Library((*roots, builtin_root()))


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name


def _fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
