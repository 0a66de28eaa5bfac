"""The result of a run in the hands of an analyst: its tables as DataFrames, and the questions asked most."""

import difflib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from sim.results.flags import Flag
from sim.results.metrics import LATENCIES
from sim.results.model_error import PAST_THE_KNEE
from sim.results.reported import write_report_of
from sim.results.tables import ALL, TABLES, columns_of, frame
from sim.results.writing import read_results, write_results

LATENCY_QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Result:
    """What one or several simulated scenarios gave: its tables and the manifest."""

    tables: Mapping[str, pa.Table]
    """Arrow tables by name: requests, timeline, summary and headroom, in the schemas of `sim.results.tables`."""
    manifest: Mapping[str, object]
    """What was run: scenario, data, versions, seed, flags."""

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request, columns `sim.results.tables.REQUESTS`."""
        return frame("requests", self.tables["requests"])

    @cached_property
    def timeline(self) -> pd.DataFrame:
        """One row an interval and pool, columns `sim.results.tables.TIMELINE`."""
        return frame("timeline", self.tables["timeline"])

    @cached_property
    def summary_table(self) -> pd.DataFrame:
        """One row a metric, columns `sim.results.tables.SUMMARY`; `summary()` reads it."""
        return frame("summary", self.tables["summary"])

    @cached_property
    def headroom(self) -> pd.DataFrame:
        """One row a pool, class and part, columns `sim.results.tables.HEADROOM`."""
        return frame("headroom", self.tables["headroom"])

    @classmethod
    def load(cls, directory: str | Path) -> "Result":
        """Read a result directory.

        Raises FileNotFoundError if it is not there, ValueError if it is not a whole result directory.
        """
        tables, manifest = read_results(directory)
        missing = [name for name in TABLES if name not in tables]
        if missing:
            raise ValueError(f"{directory}: not a whole result: {missing[0]}.parquet is missing")
        return cls(tables, manifest)

    def save(self, directory: str | Path, overwrite: bool = False, pages: Mapping[str, str] | None = None) -> None:
        """Write a result directory, whole or not at all: see `sim.results.writing.write_results`."""
        write_results(directory, self.tables, self.manifest, overwrite, pages)

    def report(self, file: str | Path) -> None:
        """Write the run as one HTML page that needs nothing else; InputError without the extra `report` (plotly)."""
        write_report_of(self, file)

    def summary(self, metric: str | None = None, class_name: str | None = None) -> pd.DataFrame:
        """Rows of the summary, of one metric or class if given ("all" is a class).

        Raises ValueError naming near misses for a metric or class that is not there.
        """
        rows = _plain(self.summary_table)
        for column, wanted in (("metric", metric), ("class", class_name)):
            if wanted is not None:
                known = sorted(rows[column].unique())
                if wanted not in known:
                    near = difflib.get_close_matches(wanted, known, n=3) or known
                    raise ValueError(f"no {column} {wanted!r} in the summary; did you mean {', '.join(near)}?")
                rows = rows[rows[column] == wanted]
        return rows.reset_index(drop=True)

    def latency(self) -> pd.DataFrame:
        """Latencies [s], one row a scenario and class.

        Columns: `past_the_knee` says whether a pool of the class is beyond its capacity, so that its latencies hang on
        how long the run lasts; then `ttft_p50_s`, `ttft_p50_low_s`, `ttft_p50_high_s`, and so on for p90, p95, p99,
        tpot and e2e.
        """
        rows = _plain(self.summary_table)
        rows = rows[rows["pool"] == ALL]
        keys = ["scenario_id", "class"]
        wide = rows[keys].drop_duplicates().set_index(keys)
        noted = rows["metric"].isin(list(LATENCIES)) & rows["note"].fillna("").str.startswith(PAST_THE_KNEE)
        wide["past_the_knee"] = wide.index.isin(pd.MultiIndex.from_frame(rows.loc[noted, keys]))
        for metric in LATENCIES:
            for quantile in LATENCY_QUANTILES:
                chosen = rows[(rows["metric"] == metric) & (rows["quantile"] == quantile)].set_index(keys)
                stem = f"{metric.removesuffix('_s')}_p{100 * quantile:g}"
                wide[f"{stem}_s"] = chosen["value"]
                wide[f"{stem}_low_s"] = chosen["low"]
                wide[f"{stem}_high_s"] = chosen["high"]
        return wide.reset_index()

    @property
    def flags(self) -> list[Flag]:
        """Reasons not to trust the run, from the manifest; empty if there are none."""
        raised = self.manifest.get("flags", [])
        return [Flag(**flag) for flag in raised] if isinstance(raised, list) else []

    def to_json(self) -> dict[str, object]:
        """Summary, flags and how it was run, in JSON types; a value that is missing or infinite is null."""
        rows = _plain(self.summary_table)
        finite = rows.astype(object).where(rows.notna() & ~rows.isin([np.inf, -np.inf]), None)
        kept = {key: value for key, value in self.manifest.items() if key not in ("scenarios", "fingerprints")}
        return {"summary": finite.to_dict(orient="records"), **kept}

    def _repr_html_(self) -> str:
        """Flags and latencies, short enough for a notebook cell."""
        latency = self.latency()
        ends = ("_low_s", "_high_s")
        short = latency[[column for column in latency.columns if not column.endswith(ends)]]
        flags = "".join(
            f"<li><b>{html.escape(flag.name)}</b> {html.escape(flag.scope)}: {html.escape(flag.message)}</li>"
            for flag in self.flags
        )
        title = f"<p>{self.tables['requests'].num_rows:,} requests; latencies [s]</p>"
        table = short.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep="")
        return title + (f"<ul>{flags}</ul>" if flags else "") + table


def _plain(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with text in place of categories, so that it can be joined and compared freely."""
    text = [column.name for column in columns_of("summary") if column.dtype == "string"]
    return summary.astype(dict.fromkeys(text, object))
