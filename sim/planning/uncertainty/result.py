"""An uncertainty study in the hands of an analyst: tables, and the questions asked most."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sim.planning.uncertainty.outcomes import months_in_words
from sim.planning.uncertainty.tables import TABLES, UNCERTAINTY_SCHEMA_VERSION
from sim.results.writing import write_parquet

MANIFEST = "manifest.json"
RUNS = "runs"
"""Folder in the output directory in which finished pieces are kept until the study is whole, and after."""

_VERSION_KEY = "uncertainty_schema_version"
MONTH_METRICS = ("viable_from_months", "self_host_from_months")
"""Metrics that count months since the horizon's start."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """How sure a plan is."""

    arrow: Mapping[str, pa.Table]
    """Tables by name, columns in `sim.planning.uncertainty.tables`."""

    manifest: Mapping[str, Any]
    """What was studied: horizon, ranges, samples, seed, flags, checks."""

    @property
    def flags(self) -> list[str]:
        """Return in words what is not to be trusted, such as that there were too few worlds."""
        return [str(each) for each in self.manifest["flags"]]

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; KeyError for an unknown name."""
        frame: pd.DataFrame = self.arrow[name].to_pandas()
        for column in TABLES[name]:
            if column.dtype == "string":
                frame[column.name] = frame[column.name].astype(object)
        return frame

    def inputs(self, drawn: bool | None = None) -> pd.DataFrame:
        """Return the numbers with a range; only those that are drawn, or that are not, where asked."""
        rows = self.table("inputs")
        return rows if drawn is None else rows[rows["drawn"] == drawn].reset_index(drop=True)

    def fans(self, metric: str | None = None, fleet: str | None = None, class_name: str | None = None) -> pd.DataFrame:
        """Return P10, P50 and P90 with their intervals, one row for each number and quantile."""
        return self._of("fans", metric, fleet, class_name)

    def tornado(self, metric: str = "net_present_cost_usd", fleet: str = "best") -> pd.DataFrame:
        """Return what each input does alone to a headline number, from the largest to the smallest."""
        return self._of("tornado", metric, fleet, None)

    def sobol(self, metric: str = "net_present_cost_usd", fleet: str = "best") -> pd.DataFrame:
        """Return the shares of groups of inputs in the variance of a headline number."""
        return self._of("sobol", metric, fleet, None)

    def noise(self) -> pd.DataFrame:
        """Return how much of the variance of the headline numbers is noise of the simulation."""
        return self.table("noise")

    def viability(self) -> pd.DataFrame:
        """Return from which month each use case pays, at P10, P50 and P90 over worlds, in words."""
        rows = self._of("fans", "viable_from_months", None, None)
        start = str(self.manifest["start"])
        words = rows.assign(month=[months_in_words(start, value) for value in rows["value"]])
        found: pd.DataFrame = words.pivot(index="class", columns="quantile", values="month").reset_index()
        found.columns.name = None
        return found.rename(columns={0.1: "p10", 0.5: "p50", 0.9: "p90"})

    def save(self, directory: str | Path) -> None:
        """Write the tables and, last, the manifest; each appears whole or not at all."""
        write_study(Path(directory), self.arrow, self.manifest)

    @classmethod
    def load(cls, directory: str | Path) -> Self:
        """Read a study's directory; ValueError where it is none, or one of another version."""
        folder = Path(directory)
        file = folder / MANIFEST
        if not file.is_file():
            raise ValueError(f"{folder}: not an uncertainty study: it has no {MANIFEST}")
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest.get(_VERSION_KEY) != UNCERTAINTY_SCHEMA_VERSION:
            raise ValueError(f"{folder}: not an uncertainty study of this version of the program")
        return cls({name: pq.ParquetFile(folder / f"{name}.parquet").read() for name in TABLES}, manifest)

    def _of(self, name: str, metric: str | None, fleet: str | None, class_name: str | None) -> pd.DataFrame:
        rows = self.table(name)
        for column, wanted in (("metric", metric), ("fleet", fleet), ("class", class_name)):
            if wanted is None:
                continue
            known = list(dict.fromkeys(rows[column]))
            if wanted not in known:
                raise ValueError(f"no {column} {wanted!r} in {name}; it has {', '.join(map(str, known))}")
            rows = rows[rows[column] == wanted]
        return rows.reset_index(drop=True)

    def _repr_html_(self) -> str:
        rows = self.table("fans")
        rows = rows[rows["period"] == "all"]
        return str(rows.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""))


def write_study(directory: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    """Write a study beside its finished pieces: tables first, the manifest last, each renamed when it is whole.

    Where an older study stands, its manifest is removed first, so that no reader takes a mixture for whole.
    """
    text = json.dumps({**manifest, _VERSION_KEY: UNCERTAINTY_SCHEMA_VERSION}, sort_keys=True, indent=2, allow_nan=False)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=directory) as staging:
        for name, table in tables.items():
            write_parquet(table, Path(staging, f"{name}.parquet"))
        Path(staging, MANIFEST).write_text(text + "\n", encoding="utf-8")
        (directory / MANIFEST).unlink(missing_ok=True)
        for name in tables:
            Path(staging, f"{name}.parquet").replace(directory / f"{name}.parquet")
        Path(staging, MANIFEST).replace(directory / MANIFEST)


def check_place(directory: Path) -> None:
    """Raise FileExistsError where a directory holds something that is no part of a study."""
    if not directory.exists():
        return
    expected = {MANIFEST, RUNS, "report.html", *(f"{name}.parquet" for name in TABLES)}
    if not directory.is_dir():
        raise FileExistsError(f"{directory}: is a file; choose another directory")
    foreign = sorted(each.name for each in directory.iterdir() if each.name not in expected)
    foreign = [each for each in foreign if not each.startswith(".partial-")]
    if foreign:
        raise FileExistsError(
            f"{directory}: holds {foreign[0]!r}, which is no part of a study; choose another directory"
        )
