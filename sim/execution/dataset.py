"""The dataset of a sweep: two partitioned tables that are there whole or not at all, and how an analyst reads them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset

from sim.execution.axes import Axis, Point
from sim.execution.execution import Finished, Tally
from sim.execution.store import is_abandoned, owner
from sim.execution.sweep_tables import runs_table, summary_table, value_fields
from sim.results.writing import write_parquet
from sim.specs.errors import InputError, Problem

STUDY = "study.json"
"""What a sweep is; it makes a directory that of a sweep."""

BLOCK_RUNS = 1000
"""Runs in one file of each table."""

OVERVIEW = {
    "load_factor": ("load_factor", None),
    "goodput_requests_fraction": ("goodput_requests_fraction", None),
    "usd_per_million_output_tokens": ("usd_per_million_output_tokens", None),
    "ttft_p99_s": ("ttft_s", 0.99),
    "tpot_p99_s": ("tpot_s", 0.99),
    "e2e_p99_s": ("e2e_s", 0.99),
}
"""Column of the overview -> metric and quantile, of all classes and pools together."""

_DATASET = ("runs", "summary")
_KNOWN = {STUDY, "results", "lock", *_DATASET}
_PARTIAL = ".dataset-"


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a sweep gave."""

    axes: tuple[Axis, ...]
    """What was varied."""

    tally: Tally
    """How many runs were skipped and run."""

    directory: Path | None
    """Where the dataset is; None when it is in memory."""

    tables: Mapping[str, pa.Table]
    """`runs` and `summary`, when they are in memory."""

    def table(self, name: str, runs: int | None = None) -> pa.Table:
        """Return `runs` or `summary`, in the order of the runs, all or the first ones."""
        chosen = None if runs is None else pa.dataset.field("run") < runs
        if self.directory is None:
            found = self.tables[name]
            return found if chosen is None else found.filter(chosen)
        dataset = pa.dataset.dataset(self.directory / name, format="parquet", partitioning="hive")
        names = [field for field in dataset.schema.names if field != "block"]
        return dataset.to_table(columns=names, filter=chosen).sort_by("run")

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row a run: values, outcome, flags, manifest."""
        result: pd.DataFrame = self.table("runs").to_pandas()
        return result

    @cached_property
    def summary(self) -> pd.DataFrame:
        """The summary of every run, with the run and its values in front."""
        result: pd.DataFrame = self.table("summary").unify_dictionaries().to_pandas()
        return result

    @cached_property
    def any_finished(self) -> bool:
        """Whether the scenario allowed any of the points."""
        finished = pa.dataset.field("outcome") == "finished"
        if self.directory is None:
            return bool(self.tables["runs"].filter(finished).num_rows)
        return bool(pa.dataset.dataset(self.directory / "runs", format="parquet").count_rows(filter=finished))

    def overview(self, runs: int | None = None) -> pd.DataFrame:
        """Return one row a run and scenario, all or the first runs: values, the main metrics and the flags.

        Infinite where requests were left unserved, NaN where there is no value.
        """
        frame: pd.DataFrame = self.table("runs", runs).drop_columns(["manifest"]).to_pandas()
        summary: pd.DataFrame = self.table("summary", runs).unify_dictionaries().to_pandas()
        keys = ["run", "scenario_id"]
        summary = summary[(summary["class"] == "all") & (summary["pool"] == "all")]
        wide = summary[keys].drop_duplicates().astype({"scenario_id": str}).set_index(keys)
        for column, (metric, quantile) in OVERVIEW.items():
            rows = summary[summary["metric"] == metric]
            rows = rows[rows["quantile"].isna() if quantile is None else rows["quantile"] == quantile]
            wide[column] = rows.astype({"scenario_id": str}).set_index(keys)["value"]
        result = frame.merge(wide.reset_index(), on="run", how="left")
        front = ["run", *(axis.path for axis in self.axes), "scenario_id", "outcome", *OVERVIEW, "flags", "problem"]
        return result[front]

    def _repr_html_(self) -> str:
        html: str = self.overview(BLOCK_RUNS).to_html(index=False, border=0, float_format="{:.4g}".format)
        return html


def check_is_ours(folder: Path) -> None:
    """Raise InputError when a directory that is there holds anything that is no part of a sweep."""
    if folder.exists() and not folder.is_dir():
        raise InputError([Problem("exists and is no directory", str(folder), remedy="Choose another one.")])
    foreign = sorted(path.name for path in folder.glob("*") if not _is_known(path.name))
    if foreign:
        problem = f"holds {foreign[0]!r}, which is no part of a sweep"
        raise InputError([Problem(problem, str(folder), remedy="Choose another directory.")])


def start_dataset(folder: Path, study: Mapping[str, Any]) -> None:
    """Make a directory that of a sweep, with what the sweep is in it.

    Raises
    ------
    InputError
        It is there and holds something else.
    OSError
        It cannot be written.

    """
    check_is_ours(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(study, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    with _staging(folder) as staging:
        (staging / STUDY).write_text(text, encoding="utf-8")
        (staging / STUDY).replace(folder / STUDY)


def forget(folder: Path) -> None:
    """Remove the results and the dataset of a sweep; InputError when the directory holds anything else."""
    check_is_ours(folder)
    for name in _KNOWN:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_dataset(
    folder: Path, axes: Sequence[Axis], found: Iterable[tuple[Point, Finished]], in_memory: bool
) -> dict[str, pa.Table]:
    """Write `runs` and `summary` as the runs come, and put them in place of older ones when all are there.

    Parameters
    ----------
    folder : Path
        Directory of the sweep.
    axes : sequence of Axis
        What was varied.
    found : iterable
        Point and result of each run, in order.
    in_memory : bool
        Whether to return the tables, too.

    Returns
    -------
    dict
        `runs` and `summary`, or nothing.

    """
    kept: dict[str, list[pa.Table]] = {name: [] for name in _DATASET}
    values = value_fields(axes)
    with _staging(folder) as staging:
        for number, block in enumerate(_blocks(found)):
            first = number * BLOCK_RUNS
            for name, table_of in (("runs", runs_table), ("summary", summary_table)):
                table = table_of(block, values, first)
                _write(table, staging / name / f"block={number}" / f"{name}.parquet")
                if in_memory:
                    kept[name].append(table)
        with _locked(folder):
            for name in _DATASET:
                if (folder / name).exists():
                    (folder / name).rename(staging / f"replaced-{name}")
                (staging / name).rename(folder / name)
    return {name: pa.concat_tables(tables).unify_dictionaries() for name, tables in kept.items() if tables}


def _blocks(found: Iterable[tuple[Point, Finished]]) -> Iterator[list[tuple[Point, Finished]]]:
    block: list[tuple[Point, Finished]] = []
    for each in found:
        block.append(each)
        if len(block) == BLOCK_RUNS:
            yield block
            block = []
    if block:
        yield block


def _write(table: pa.Table, path: Path) -> None:
    """Write a file and wait until it is on the disk: it is to replace an older one for good."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_parquet(table, file)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Make a directory beside what it will replace, which goes whatever happens, with what killed sweeps left."""
    for path in folder.glob(f"{_PARTIAL}*"):
        if is_abandoned(path, path.name.removeprefix(_PARTIAL)):
            shutil.rmtree(path, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{_PARTIAL}{owner()}", dir=folder))
    try:
        yield staging
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other sweeps from putting their dataset in the same place at the same moment."""
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_known(name: str) -> bool:
    return name in _KNOWN or name.startswith(_PARTIAL)
