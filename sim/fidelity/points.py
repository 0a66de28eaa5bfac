"""Measured points as they stand in a CSV file: one row a metric of one run."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sim.specs.errors import InputError, Problem, suggest

DATA = Path(__file__).parent / "data"
"""Points, names, lengths, priors and profiles of systems that were measured but are not offered to planners."""

REQUIRED = ("accelerator", "model", "metric", "value")
"""Columns without which a row says nothing."""

OPTIONAL = (
    "row_id", "source", "system", "n_accel", "tp", "pp", "dp", "ep", "precision", "framework", "scenario", "isl_mean",
    "osl_mean", "concurrency_or_rate", "unit", "date", "quality", "spec_decode", "regime", "weight",
    "ttft_p99_limit_ms", "tpot_p99_limit_ms",
)  # fmt: skip
"""Columns that may be absent or empty."""

KINDS = ("throughput", "tpot", "e2e", "ttft")
"""What is compared."""

_NUMBERS = ("n_accel", "isl_mean", "osl_mean", "value", "weight", "ttft_p99_limit_ms", "tpot_p99_limit_ms")
_PER_ROW = frozenset({"row_id", "metric", "value", "unit", "weight"})
_LATENCY = re.compile(r"(ttft|tpot|itl|e2e|prompt_time|token_time)(?:_(mean|p50|p90|p95|p99))?_ms")
_SAME = {"prompt_time": "ttft", "token_time": "tpot", "itl": "tpot"}


@dataclass(frozen=True)
class Target:
    """One measured number."""

    row_id: str
    """Name of the row, or its line where it has none."""

    line: int
    """Line in the file, counted from 1."""

    metric: str
    """Metric as written."""

    kind: str
    """One of KINDS; empty where the row is not scored."""

    statistic: str
    """`mean`, `p50`, `p90`, `p95` or `p99`; for throughput what is counted: `output`, `input` or `requests`."""

    value: float
    """Measured value, in seconds, or per second and accelerator."""

    weight: float
    """1 over the number of submitters of the same configuration [1]."""

    why_not: str
    """Why the row is not scored; empty where it is."""


@dataclass(frozen=True)
class MeasuredRun:
    """One run of a real system: what its rows have in common, and their targets."""

    columns: Mapping[str, str]
    """Text of every column that the rows share; absent ones are empty."""

    targets: tuple[Target, ...]
    """What was measured."""

    def number(self, column: str) -> float | None:
        """Return a column as a number; None where it is empty or says that it is not known."""
        text = self.columns.get(column, "").strip()
        try:
            return float(text)
        except ValueError:
            return None


def read_points(path: Path) -> list[MeasuredRun]:
    """Return the runs of a CSV file of the calibration schema, in the order of the file.

    Rows that agree in all columns but metric, value, unit, weight and row_id are one run.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        The file cannot be read, lacks a column, has an unknown one, a broken number, or no rows; all problems with
        their lines.

    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError([Problem(f"cannot be read: {error}", str(path), remedy="Check the path.")]) from None
    reader = csv.DictReader(text.splitlines())
    problems = _header_problems(str(path), reader.fieldnames)
    if problems:
        raise InputError(problems)
    grouped: dict[tuple[str, ...], list[Target]] = {}
    shared: dict[tuple[str, ...], dict[str, str]] = {}
    names = [name for name in OPTIONAL + REQUIRED if name not in _PER_ROW]
    for row in reader:
        line = reader.line_num
        wrong = list(_row_problems(str(path), line, row))
        problems += wrong
        if wrong:
            continue
        columns = {name: (row.get(name) or "").strip() for name in names}
        key = tuple(columns.values())
        shared[key] = columns
        grouped.setdefault(key, []).append(target_of(row, line))
    if not problems and not grouped:
        problems.append(Problem("holds no rows", str(path), remedy="Give at least one point."))
    if problems:
        raise InputError(problems)
    return [MeasuredRun(shared[key], tuple(_without_repeats(targets))) for key, targets in grouped.items()]


def _header_problems(file: str, header: Sequence[str] | None) -> list[Problem]:
    known = REQUIRED + OPTIONAL
    names = list(header or ())
    missing = [
        Problem("has no such column", file, name, remedy=f"Columns needed: {', '.join(REQUIRED)}.", line=1)
        for name in REQUIRED
        if name not in names
    ]
    unknown = [
        Problem("unknown column", file, str(name), remedy=suggest(str(name), known), line=1)
        for name in names
        if name not in known
    ]
    return missing + unknown


def _row_problems(file: str, line: int, row: Mapping[str | None, str | None]) -> Iterable[Problem]:
    if None in row or any(value is None for value in row.values()):
        yield Problem("has more or fewer cells than the header", file, line=line)
        return
    for name in REQUIRED:
        if not (row[name] or "").strip():
            yield Problem("must not be empty", file, name, line=line)
    for name in _NUMBERS:
        text = (row.get(name) or "").strip()
        if not text or (name != "value" and not _is_number(text)):
            if text and name in ("weight", "n_accel"):
                yield Problem("is not a number", file, name, text, line=line)
            continue
        if not _is_number(text) or not (math.isfinite(float(text)) and float(text) > 0.0):
            yield Problem("must be a finite number above 0", file, name, text, line=line)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def target_of(row: Mapping[str, str], line: int) -> Target:
    """Return what a row says; `metric` and `value` must be there, `n_accel`, `weight` and `row_id` may be."""
    metric = row["metric"].strip()
    value = float(row["value"])
    kind, statistic, why_not = _meaning(metric)
    if kind in ("tpot", "e2e", "ttft"):
        value *= 1e-3
    elif kind == "throughput":
        accelerators = float(row.get("n_accel") or 1.0)
        if not metric.endswith("_per_accel"):
            value /= 8.0 if metric.endswith("_per_node") else accelerators
    weight = float(row.get("weight") or 1.0)
    return Target(row.get("row_id") or f"line {line}", line, metric, kind, statistic, value, weight, why_not)


def _meaning(metric: str) -> tuple[str, str, str]:
    """Return kind, statistic and why the metric is not scored."""
    if metric.endswith("_derived"):
        return "", "", "computed from other rows, no evidence of its own"
    latency = _LATENCY.fullmatch(metric)
    if latency:
        name, statistic = latency.group(1), latency.group(2)
        if name == "itl" and statistic not in (None, "mean"):
            return "", "", "a quantile over gaps between tokens; quantiles over requests are simulated"
        plain = "p50" if name in ("prompt_time", "token_time") else "mean"
        return _SAME.get(name, name), statistic or plain, ""
    for start, statistic in (("output_tok_s", "output"), ("input_tok_s", "input"), ("requests_s", "requests")):
        if metric in (start, f"{start}_per_accel"):
            return "throughput", statistic, ""
    for start, statistic in (("decode_tok_s", "output"), ("prefill_tok_s", "input")):
        if metric in (f"{start}_per_accel", f"{start}_per_node"):
            return "throughput", statistic, ""
    return "", "", "unknown metric"


def _without_repeats(targets: Sequence[Target]) -> Iterable[Target]:
    """Yield targets; tokens per system beside tokens per accelerator, or in beside out, are one measurement."""
    per_accelerator = {each.statistic for each in targets if each.metric.endswith("_per_accel")}
    counted = {each.statistic for each in targets if each.kind == "throughput"}
    for each in targets:
        why_not = ""
        if each.kind == "throughput" and each.statistic in per_accelerator and not each.metric.endswith("_per_accel"):
            why_not = "the same measurement as the row per accelerator"
        elif each.kind == "throughput" and each.statistic != "output" and "output" in counted:
            why_not = "the same measurement as output tokens per second"
        yield dataclasses.replace(each, kind="", why_not=why_not) if why_not else each
