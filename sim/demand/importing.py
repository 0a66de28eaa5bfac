"""Import of recorded traffic: a file in a published format, or any CSV file by its columns, becomes a trace."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sim.demand.arrivals import gamma_renewal_arrivals
from sim.demand.import_formats import (
    csv_rows,
    read_aiperf,
    read_azure,
    read_burstgpt,
    read_mooncake,
    read_openai_log,
    read_otel,
    read_ragpulse,
    read_vllm_bench,
)
from sim.demand.prefix import with_session_prefix
from sim.demand.processes import weibull_renewal_arrivals
from sim.demand.record_reading import as_nanoseconds, as_tokens, json_document, text_lines
from sim.demand.recorded import Imported, RecordedRows
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS
from sim.specs.errors import InputError, Problem, suggest

READERS: Mapping[str, Callable[[Path, RecordedRows], None]] = {
    "azure": read_azure,
    "burstgpt": read_burstgpt,
    "mooncake": read_mooncake,
    "ragpulse": read_ragpulse,
    "vllm-bench": read_vllm_bench,
    "aiperf": read_aiperf,
    "openai-log": read_openai_log,
    "otel": read_otel,
}
"""Format -> its reader; `servegen` and `csv` have options of their own."""

FORMATS = (*READERS, "servegen", "csv")
"""All formats."""

CSV_ROLES = ("arrival", "prompt_tokens", "output_tokens", "cached_tokens", "end", "duration", "session")
"""What a column of a CSV file may be; the first three are needed."""

TIME_UNITS = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": NANOSECONDS}
"""Unit of times in a CSV file -> units in a second; instants by ISO 8601 are always understood."""

_WINDOW_S = 600.0
_DATASET_WINDOW_S = 6 * 3600.0


@dataclass(frozen=True)
class ImportOptions:
    """How a file is read."""

    class_name: str = "requests"
    """Traffic class of all requests."""

    closed_loop: bool = False
    """Whether requests of a session follow each other's ends."""

    session_prefix: bool = False
    """Whether a request is taken to find the context of the last one of its session in the cache."""

    spread_s: float = 0.0
    """Requests of one instant are spread over this time [s]."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """For `csv`: role -> name of the column."""

    time_unit: str = "s"
    """For `csv`: unit of its times."""

    seed: int = 1
    """Seed of what is drawn: the spreading, and the requests of `servegen`."""


def import_trace(path: str | Path, form: str, options: ImportOptions | None = None) -> Imported:
    """Return the trace that a file of recorded traffic holds; the file may be packed by gzip.

    Parameters
    ----------
    path : str or Path
        The file.
    form : str
        One of FORMATS.
    options : ImportOptions, optional
        How it is read.

    Returns
    -------
    Imported
        Trace, what was left out, and notes. Memory is that of the trace, not of the file, but for `vllm-bench`.

    Raises
    ------
    InputError
        Unreadable, of another format, or with malformed rows: all of them, by line.

    """
    options = options or ImportOptions()
    if form not in FORMATS:
        raise InputError([Problem("is not a format", "", "--format", form, suggest(form, FORMATS))])
    if not (math.isfinite(options.spread_s) and options.spread_s >= 0.0):
        raise InputError([Problem("must not be negative", "", "--spread", options.spread_s)])
    file = Path(path)
    rows = RecordedRows(str(path))
    if form == "csv":
        _read_csv(file, rows, options)
    elif form == "servegen":
        _read_servegen(file, rows, options)
    else:
        READERS[form](file, rows)
    trace = rows.trace(options.class_name, options.closed_loop, options.spread_s, options.seed)
    if options.session_prefix:
        trace = with_session_prefix(trace)
    return Imported(trace, rows.left_out, tuple(rows.notes))


def _read_csv(path: Path, rows: RecordedRows, options: ImportOptions) -> None:
    columns = {role: options.columns.get(role, role) for role in CSV_ROLES}
    unknown = [role for role in options.columns if role not in CSV_ROLES]
    if unknown:
        raise InputError([Problem("is no role", "", "--column", role, suggest(role, CSV_ROLES)) for role in unknown])
    table = csv_rows(path, rows)
    line, header = next(table)
    wanted = [columns[role] for role in CSV_ROLES[:3]] + list(options.columns.values())
    missing = [name for name in dict.fromkeys(wanted) if name not in header]
    if missing:
        remedy = "Name them with --column ROLE=COLUMN, roles " + ", ".join(CSV_ROLES) + "."
        raise InputError([Problem(f"header lacks {', '.join(missing)}", rows.file, "", ",".join(header), remedy, line)])
    if options.time_unit not in TIME_UNITS:
        raise InputError([Problem("is no unit of time", "", "--time-unit", options.time_unit)])
    per_second = TIME_UNITS[options.time_unit]
    present = {role: name for role, name in columns.items() if name in header}
    for line, record in table:
        values: dict[str, int | None] = {}
        for role, name in present.items():
            if role == "session":
                continue
            cell = record[name]
            if not cell and role in ("end", "duration"):
                continue  # not known of this request
            timed = role in ("arrival", "end", "duration")
            values[role] = as_nanoseconds(cell, per_second) if timed else as_tokens(cell)
            if values[role] is None:
                rows.reject(line, name, "is not a time" if timed else "is not a whole number", cell)
        arrival, end = values.get("arrival"), values.get("end")
        lasted = values.get("duration")
        if end is None and arrival is not None and lasted is not None:
            end = arrival + lasted
        session = record[present["session"]] or None if "session" in present else None
        prompt, output, cached = values["prompt_tokens"], values["output_tokens"], values.get("cached_tokens", 0)
        rows.add(line, arrival, prompt, output, cached, end, session)


def _read_servegen(path: Path, rows: RecordedRows, options: ImportOptions) -> None:
    """Draw the requests of a ServeGen client: `chunk-i-trace.csv` with its `chunk-i-dataset.json` beside it.

    Lines are window start [s], rate [1/s], CV of the gaps, `Gamma`, `Weibull` or nothing, shape, scale. Each window of
    10 minutes is a stationary renewal process; prompt and output are independent, from the tables of 6 hours.
    """
    dataset = path.with_name(path.name.removesuffix(".gz").replace("-trace.csv", "-dataset.json"))
    if dataset == path or not dataset.exists():
        remedy = "Put chunk-i-dataset.json beside chunk-i-trace.csv."
        raise InputError([Problem("has no data set beside it", rows.file, value=dataset.name, remedy=remedy)])
    tables = dict(sorted(_servegen_tables(dataset).items()))
    starts = np.array(list(tables))
    for line, text in text_lines(path):
        cells = [cell.strip() for cell in text.split(",")]
        numbers = [_number(cell) for cell in cells[:3]] if len(cells) == 6 else [None]
        if len(numbers) != 3 or any(number is None or number < 0.0 for number in numbers):
            if len(numbers) == 3 and numbers[1] == 0.0:
                continue
            rows.reject(line, "", "is not start, rate, CV, distribution, shape, scale", text[:60])
            continue
        start, rate, cv = (number or 0.0 for number in numbers)
        if cells[3] not in ("Gamma", "Weibull", ""):
            rows.reject(line, "distribution", "is neither Gamma, Weibull nor empty", cells[3])
            continue
        if rate <= 0.0:
            continue
        named = ("import", "servegen", line)
        expected = rate * _WINDOW_S
        generator = stream(options.seed, *named, "arrivals")
        cv = cv if cells[3] and cv > 0.01 else 1.0
        draw = weibull_renewal_arrivals if cells[3] == "Weibull" else None
        unit = (
            draw(cv, expected, generator) if draw is not None
            else gamma_renewal_arrivals(1.0, cv, expected, generator)
        )  # fmt: skip
        fields = tables[float(starts[max(int(np.searchsorted(starts, start, side="right")) - 1, 0)])]
        drawn = [
            values[np.searchsorted(cumulative, stream(options.seed, *named, name).random(unit.size), side="right")]
            for name, (values, cumulative) in fields.items()
        ]
        for instant, prompt, output in zip((start + unit / rate).tolist(), *drawn, strict=True):
            rows.add(line, round(instant * NANOSECONDS), int(prompt), int(output))


_Table = tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]


def _servegen_tables(path: Path) -> dict[float, dict[str, _Table]]:
    """Return window start [s] -> prompt and output table; a table is written as the text of a Python mapping."""
    document = json_document(path)
    tables: dict[float, dict[str, _Table]] = {}
    for start, fields in document.items():
        place = _number(start)
        read: dict[str, _Table] = {}
        for name in ("input_tokens", "output_tokens"):
            table = _shares(fields.get(name) if isinstance(fields, dict) else None)
            if place is None or table is None:
                message = "is not a table of token counts and probabilities"
                raise InputError([Problem(message, str(path), f"{start}.{name}", line=1)])
            read[name] = table
        tables[place or 0.0] = read
    if not tables:
        raise InputError([Problem("holds no tables", str(path), line=1)])
    return tables


def _shares(value: object) -> _Table | None:
    try:
        shares = ast.literal_eval(value) if isinstance(value, str) else value
        if not isinstance(shares, dict) or not shares:
            return None
        pairs = sorted((round(float(tokens)), float(share)) for tokens, share in shares.items())
    except (ValueError, SyntaxError, TypeError):
        return None
    tokens, share = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    if (share < 0.0).any() or not share.sum() > 0.0:
        return None
    cumulative = np.cumsum(share) / share.sum()
    cumulative[-1] = 1.0
    return np.maximum(tokens, 1).astype(np.int64), cumulative


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
