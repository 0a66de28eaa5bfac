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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sim.specs.errors import InputError, Problem, suggest
from sim.specs.hardware import HardwareSpec
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, read_yaml, validate
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Document
from sim.specs.step_time_source import MeasuredTableSpec, StepTimeSource
from sim.specs.workload import WorkloadSpec

if TYPE_CHECKING:
    from sim.specs.economics import EconomicsSpec

KINDS: Mapping[str, str] = {
    "hardware": "hardware_profiles",
    "model": "models",
    "serving_stack": "serving_stacks",
    "workload": "workloads",
    "compression": "compression",
    "economics": "economics",
    "scenario": "scenarios",
    "horizon": "horizons",
    "uncertainty": "uncertainty",
    "claim": "claims",
}
"""Kind -> folder."""

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
    """Folder and file name -> SHA-256 of its bytes, for the file and what it extends."""


@dataclass(frozen=True)
class Library:
    """Folders in which documents are looked up, in this order."""

    roots: tuple[Path, ...]
    """Folders that hold `hardware_profiles/` and so on."""

    def names(self, kind: str) -> dict[str, Path]:
        """Return name -> file of one kind; the first root that has a name wins."""
        folder = KINDS[kind]
        found: dict[str, Path] = {}
        for root in self.roots:
            for path in sorted((root / folder).glob("*.y*ml")):
                found.setdefault(path.stem, path)
        return found

    def kinds_of(self, name: str) -> list[str]:
        """Return the kinds that have a document of this name."""
        return [kind for kind in KINDS if name in self.names(kind)]

    def find(self, kind: str, name: str, beside: str | None = None) -> Path:
        """Return the file of a document.

        Parameters
        ----------
        kind : str
            A key of KINDS.
        name : str
            Name, or path of a file.
        beside : str, optional
            File that refers to it, in whose folder a relative path is looked up first.

        Raises
        ------
        InputError
            No such name or file; the remedy names near misses.

        """
        names = self.names(kind)
        if _is_path(name):
            path = located(name, beside)
            if not path.exists():
                stem = Path(name).stem
                remedy = f"The library has {stem}: write its name alone." if stem in names else "Check the path."
                raise InputError([Problem("there is no such file", value=name, remedy=remedy)])
            return path
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

    def economics(self, name: str) -> Found[EconomicsSpec]:
        """Return terms of owning and API prices; InputError when missing or invalid."""
        from sim.specs.economics import EconomicsSpec  # only plans need it

        return self._load("economics", name, EconomicsSpec)

    def load(self, kind: str, name: str, beside: str | None = None) -> Found[Any]:
        """Return a document of any kind, by name or by path beside a file; InputError when missing or invalid."""
        return self._load(kind, name, spec_type(kind), beside)

    def read(self, kind: str, name: str, beside: str | None = None) -> tuple[RawDocument, dict[str, str]]:
        """Return a document before validation, with `extends` applied, and its fingerprints.

        Raises
        ------
        InputError
            Missing, unreadable, of another kind, or extending something that is one of these or itself extends.

        """
        path = self.find(kind, name, beside)
        raw = read_yaml(path)
        fingerprints = _fingerprint(path)
        if "extends" not in raw.data:
            _check_kind(raw, kind)
            return raw, fingerprints
        extended_name = raw.data["extends"]
        if not isinstance(extended_name, str):
            raise InputError([raw.problem("extends takes one name", ("extends",), extended_name)])
        try:
            extended_path = self.find(kind, extended_name, raw.file)
        except InputError as error:
            found = error.problems[0]
            raise InputError([raw.problem(found.message, ("extends",), extended_name, found.remedy)]) from None
        if extended_path.samefile(path):
            remedy = "Give the delta a name of its own."
            raise InputError([raw.problem("a file cannot extend itself", ("extends",), extended_name, remedy)])
        extended = read_yaml(extended_path)
        if "extends" in extended.data:
            remedy = f"Extend {extended.data['extends']!r} and repeat what {extended_name!r} changes."
            raise InputError([raw.problem("extends one level only", ("extends",), extended_name, remedy)])
        _check_kind(extended, kind)
        delta = {key: value for key, value in raw.data.items() if key != "extends"}
        raw = replace(raw, data=merged(extended.data, delta), extended=extended)
        _check_kind(raw, kind)
        return raw, fingerprints | _fingerprint(extended_path)

    def _load(
        self, kind: str, name: str, spec_type: type[DocumentType], beside: str | None = None
    ) -> Found[DocumentType]:
        raw, fingerprints = self.read(kind, name, beside)
        misnamed = [] if _is_path(name) else name_problems(raw, name)
        try:
            spec = validate(raw, spec_type)
        except InputError as error:
            raise InputError([*misnamed, *error.problems]) from None
        if misnamed:
            raise InputError(misnamed)
        if isinstance(spec, ServingStackSpec) and spec.step_time_source is not None:
            spec = spec.model_copy(update={"step_time_source": anchored(spec.step_time_source, raw.file)})
        return Found(spec, raw, fingerprints)


def name_problems(raw: RawDocument, stem: str) -> list[Problem]:
    """Return the problem that a document has another name than its file, if it has."""
    name = raw.data.get("name")
    if name == stem or not isinstance(name, str):
        return []
    remedy = f"Write `name: {stem}`, or rename the file to {name}.yaml."
    return [raw.problem("differs from the name of the file", ("name",), name, remedy)]


def _check_kind(raw: RawDocument, kind: str) -> None:
    given = raw.data.get("kind")
    if given != kind:
        folder = KINDS[given] if isinstance(given, str) and given in KINDS else ""
        remedy = f"Move the file to {folder}/, or write `kind: {kind}`." if folder else f"Write `kind: {kind}`."
        raise InputError([raw.problem(f"this file is to be of kind {kind}", ("kind",), given, remedy)])


def spec_type(kind: str) -> type[Document]:
    """Return the spec of a kind; those that only plans need are imported when they are asked for."""
    if kind == "economics":
        from sim.specs.economics import EconomicsSpec

        return EconomicsSpec
    if kind == "compression":
        from sim.specs.compression import CompressionSpec

        return CompressionSpec
    if kind == "horizon":
        from sim.specs.horizon import HorizonSpec

        return HorizonSpec
    if kind == "uncertainty":
        from sim.specs.uncertainty import UncertaintySpec

        return UncertaintySpec
    if kind == "claim":
        from sim.specs.claim import ClaimSpec

        return ClaimSpec
    specs: dict[str, type[Document]] = {
        "hardware": HardwareSpec,
        "model": ModelSpec,
        "serving_stack": ServingStackSpec,
        "workload": WorkloadSpec,
        "scenario": ScenarioSpec,
    }
    return specs[kind]


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
        root = Path(entry).expanduser()
        if not root.is_dir():
            problems.append(Problem("no such folder", "FLEETCAST_PATH", value=entry, remedy="Check the path."))
        elif not any((root / folder).is_dir() for folder in KINDS.values()):
            folders = list(KINDS.values())
            remedy = "Name the folder above it." if root.resolve().name in folders else ""
            problem = f"this folder holds none of {', '.join(folders)}"
            problems.append(Problem(problem, "FLEETCAST_PATH", value=entry, remedy=remedy))
        roots.append(root)
    if problems:
        raise InputError(problems)
    if beside is not None:
        folder = beside.resolve().parent
        roots.append(folder.parent if folder.name == KINDS["scenario"] else folder)
    return Library((*roots, builtin_root()))


def located(name: str, beside: str | None) -> Path:
    """Return the file of a written path: in the folder of the file that refers to it, else as the system sees it."""
    path = Path(name).expanduser()
    neighbour = path if beside is None else Path(beside).parent / path
    return neighbour if neighbour.exists() or not path.exists() else path


def anchored(source: StepTimeSource, beside: str | None) -> StepTimeSource:
    """Return a source of step times whose file is found from anywhere, given the file that names it."""
    if not isinstance(source, MeasuredTableSpec):
        return source
    return source.model_copy(update={"file": str(located(source.file, beside).absolute())})


def _is_path(name: str) -> bool:
    return name.endswith((".yaml", ".yml")) or "/" in name or os.sep in name


def _fingerprint(path: Path) -> dict[str, str]:
    resolved = path.resolve()
    return {f"{resolved.parent.name}/{resolved.name}": hashlib.sha256(path.read_bytes()).hexdigest()}
