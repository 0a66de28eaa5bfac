"""What a report is about: directories of results, plans, sweeps, sizes and uncertainty studies, read as they stand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow.dataset

from sim.execution.dataset import STUDY
from sim.planning.plan import Plan
from sim.planning.plan_tables import VERSION_KEY as PLAN_KEY
from sim.planning.plan_tables import read_plan
from sim.planning.sizing_comparison import SizingComparison
from sim.planning.uncertainty.result import Uncertainty
from sim.planning.uncertainty.tables import TABLES as UNCERTAINTY_TABLES
from sim.results.result import Result
from sim.results.writing import MANIFEST, VERSION_KEY
from sim.specs.errors import InputError, Problem

Kind = Literal["run", "plan", "sweep", "size", "uncertainty"]


@dataclass(frozen=True, eq=False)
class Study:
    """One directory, or what would be written to it."""

    kind: Kind
    """What made it."""

    label: str
    """What it is called on the page; unique there."""

    tables: Mapping[str, pd.DataFrame]
    """Tables by name; text is plain objects."""

    manifest: Mapping[str, Any]
    """What was asked, on which data and versions."""

    number: int = 0
    """Place among the directories of the page, from 0."""

    directory: str = ""
    """Where it was read; empty for one that was not."""


def read_studies(directories: Sequence[str | Path]) -> list[Study]:
    """Return the studies of directories in their order, under labels that differ.

    Raises InputError naming every directory that is none of ours or cannot be read.
    """
    found, problems = [], []
    for directory in directories:
        try:
            found.append(_read(Path(directory)))
        except (OSError, ValueError, KeyError) as error:
            remedy = "Give what `run -o`, `plan -o`, `sweep -o` or `uncertainty -o` has written."
            problems.append(Problem(f"cannot be reported: {error}", str(directory), remedy=remedy))
    if problems:
        raise InputError(problems)
    return labelled(found)


def labelled(studies: Sequence[Study]) -> list[Study]:
    """Return studies with their places, and with the names of their directories where labels would be the same."""
    labels = [(each.kind, each.label) for each in studies]
    named = []
    for number, study in enumerate(studies):
        label = study.label
        if labels.count((study.kind, label)) > 1:
            place = Path(study.directory).absolute()
            others = [Path(each.directory).absolute() for each in studies if each is not study]
            same = any(each.name == place.name for each in others)
            label = f"{study.label} ({study.directory if same else place.name})"
        named.append(replace(study, label=label, number=number))
    return named


def study_of(found: object) -> Study:
    """Return what a command or a notebook holds as a study; TypeError for what no report is made of."""
    if isinstance(found, Result):
        return study_of_result(found)
    if isinstance(found, Plan):
        return study_of_plan(found.tables, found.manifest)
    if isinstance(found, Uncertainty):
        return study_of_uncertainty(found)
    if isinstance(found, SizingComparison):
        return study_of_sizes(found)
    raise TypeError(f"no report is made of {type(found).__name__}")


def study_of_result(result: Result) -> Study:
    """Return a run as a study."""
    tables = {"requests": result.requests}
    tables |= {
        name: _plain(getattr(result, "summary_table" if name == "summary" else name))
        for name in result.tables
        if name != "requests"
    }
    scenarios = [str(name) for name in tables["summary"]["scenario_id"].unique()]
    label = scenarios[0].split("/")[0] if scenarios else "run"
    return Study("run", label, tables, result.manifest)


def study_of_plan(tables: Mapping[str, pd.DataFrame], manifest: Mapping[str, Any]) -> Study:
    """Return a plan as a study."""
    return Study("plan", str(manifest["plan_id"]), tables, manifest)


def study_of_sizes(found: SizingComparison) -> Study:
    """Return sizings as a study; what they rest on is what their simulations at the planned sizes did."""
    confirmed = [each.result.manifest for each in found.sizings if each.result is not None]
    manifest: dict[str, Any] = {"sizing_id": found.sizings[0].scenario_id.split("/")[0]}
    for key in ("scenarios", "fingerprints", "pools"):
        manifest[key] = {name: each for one in confirmed for name, each in _mapping(one[key]).items()}
    manifest["flags"] = [flag.__dict__ for each in found.sizings for flag in each.flags]
    if confirmed:
        manifest |= {key: confirmed[0][key] for key in ("versions", "seed")}
    return Study("size", str(manifest["sizing_id"]), {"sizes": found.table(), "frontier": found.frontier()}, manifest)


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def _uncertainty(folder: Path) -> Study:
    return study_of_uncertainty(Uncertainty.load(folder))


def _read(folder: Path) -> Study:
    if not folder.is_dir():
        raise ValueError("there is no such directory")
    if (folder / STUDY).is_file():
        return replace(_sweep(folder), directory=str(folder))
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"it has neither {MANIFEST} nor {STUDY}")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    readers: dict[str, Callable[[Path], Study]] = {
        VERSION_KEY: _result,
        PLAN_KEY: _plan,
        "uncertainty_schema_version": _uncertainty,
    }
    for key, read in readers.items():
        if key in manifest:
            return replace(read(folder), directory=str(folder))
    raise ValueError(f"its {MANIFEST} is of no kind that is known here")


def _result(folder: Path) -> Study:
    return study_of_result(Result.load(folder))


def _plan(folder: Path) -> Study:
    return study_of_plan(*read_plan(folder))


def study_of_uncertainty(found: Uncertainty) -> Study:
    """Return an uncertainty study as one of the page."""
    tables = {name: found.table(name) for name in UNCERTAINTY_TABLES if name != "draws"}
    return Study("uncertainty", str(found.manifest["study_id"]), tables, found.manifest)


def _sweep(folder: Path) -> Study:
    study = json.loads((folder / STUDY).read_text(encoding="utf-8"))
    tables = {}
    for name in ("runs", "summary"):
        dataset = pyarrow.dataset.dataset(folder / name, format="parquet", partitioning="hive")
        names = [field for field in dataset.schema.names if field != "block"]
        tables[name] = _plain(dataset.to_table(columns=names).sort_by("run").unify_dictionaries().to_pandas())
    return Study("sweep", str(study["scenario"].get("name", "sweep")), tables, study)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with text in place of categories, None where there is none."""
    categories = [name for name in frame.columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    return frame.astype(dict.fromkeys(categories, object))
