"""Benchmark results as clients write them (vllm bench serve, aiperf, genai-perf) as measured runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim.fidelity.points import MeasuredRun, read_points, target_of
from sim.specs.errors import InputError, Problem

_VLLM = {
    f"{statistic}_{metric}_ms": f"{written}_{plain}_ms"
    for metric, written in (("ttft", "ttft"), ("tpot", "tpot"), ("e2el", "e2e"))
    for statistic, plain in (("mean", "mean"), ("median", "p50"), ("p90", "p90"), ("p95", "p95"), ("p99", "p99"))
}
_AIPERF = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
"""Metric of aiperf and genai-perf -> ours; their inter-token latency is one number a request, which is our TPOT."""

_MILLISECONDS = {"ms": 1.0, "s": 1e3, "sec": 1e3, "us": 1e-3, "ns": 1e-6}
_CSV_NAMES = {
    "time_to_first_token": "time_to_first_token", "inter_token_latency": "inter_token_latency",
    "request_latency": "request_latency", "output_token_throughput": "output_token_throughput",
    "output_sequence_length": "output_sequence_length", "num_output_token": "output_sequence_length",
    "input_sequence_length": "input_sequence_length", "num_input_token": "input_sequence_length",
}  # fmt: skip
"""Name in a client's CSV, in small letters with underscores -> name in its JSON."""

_STATISTICS = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}


@dataclass(frozen=True)
class MeasuredSystem:
    """What a client's file does not say about the server."""

    accelerator: str
    """Accelerator, as in the library or as sources write it."""

    accelerators: int
    """Accelerators of the server."""

    model: str
    """Model; empty takes the file's."""

    tensor: int
    """Tensor parallelism."""

    precision: str
    """Weight format; empty means as published."""

    framework: str
    """Serving framework."""

    load: str = ""
    """How it was driven, as `conc=16` or `rate=2/s`, where the file does not say."""


def read_measurements(path: Path, system: MeasuredSystem | None = None) -> list[MeasuredRun]:
    """Return the runs of a points file, or the run of a benchmark result.

    Parameters
    ----------
    path : Path
        CSV of the calibration schema, JSON of vllm bench serve, or JSON or CSV of aiperf or genai-perf.
    system : MeasuredSystem, optional
        The server; needed for a benchmark result.

    Raises
    ------
    InputError
        The file cannot be read, or is none of these; or JSON without a server.

    """
    is_json = path.suffix.lower() == ".json"
    if not is_json and not _is_client_csv(path):
        return read_points(path)
    if system is None:
        remedy = "Give --accelerator and what else differs from one accelerator of it."
        raise InputError([Problem("a benchmark result does not say what it ran on", str(path), remedy=remedy)])
    data = _json_of(path) if is_json else _csv_of(path)
    metrics, columns = _vllm(data) if "total_input_tokens" in data else _aiperf(data)
    if not metrics or not columns.get("isl_mean") or not columns.get("osl_mean"):
        remedy = "Known are the outputs of vllm bench serve, aiperf and genai-perf, with lengths and latencies."
        raise InputError([Problem("is no benchmark result that is known", str(path), remedy=remedy)])
    columns["concurrency_or_rate"] = columns["concurrency_or_rate"] or system.load
    if not columns["concurrency_or_rate"]:
        remedy = "Give --load conc=USERS or --load rate=REQUESTS/s."
        raise InputError([Problem("does not say how the server was driven", str(path), remedy=remedy)])
    shared = {
        "accelerator": system.accelerator,
        "n_accel": str(system.accelerators),
        "model": system.model or columns.pop("model", ""),
        "tp": str(system.tensor),
        "precision": system.precision,
        "framework": system.framework,
        "source": f"own: {path.name}",
        "quality": "A",
        "regime": "own",
    } | {name: value for name, value in columns.items() if name != "model"}
    rows = [{"metric": name, "value": repr(value), "n_accel": shared["n_accel"]} for name, value in metrics.items()]
    targets = tuple(target_of(row, number + 1) for number, row in enumerate(rows))
    empty = dict.fromkeys(("system", "scenario", "date", "spec_decode", "pp", "dp", "ep"), "")
    limits = dict.fromkeys(("ttft_p99_limit_ms", "tpot_p99_limit_ms"), "")
    return [MeasuredRun(empty | limits | shared, targets)]


def _json_of(path: Path) -> Mapping[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"is no JSON: {error}", str(path))]) from None
    if not isinstance(data, dict):
        raise InputError([Problem("holds no JSON object", str(path))])
    return data


def _is_client_csv(path: Path) -> bool:
    """Return whether a CSV begins as those of aiperf and genai-perf do."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline().lower().replace(" ", "").strip()
    except (OSError, UnicodeDecodeError):
        return False  # reading it as points says what is wrong
    return header.startswith("metric,avg") or header == "metric,value"


def _csv_of(path: Path) -> Mapping[str, Any]:
    """Return a client's CSV as its JSON has it: blocks with a header each, `Metric,avg,...` or `Metric,Value`."""
    found: dict[str, dict[str, Any]] = {}
    header: list[str] = []
    problems = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, cells in enumerate(csv.reader(file), 1):
            if not cells or not "".join(cells).strip():
                continue
            if cells[0].strip().lower() == "metric":
                header = ["avg" if cell.strip().lower() == "value" else cell.strip().lower() for cell in cells]
                continue
            written, _, unit = cells[0].partition("(")
            name = _CSV_NAMES.get("_".join(written.lower().split()))
            if name is None or len(header) != len(cells) or "gpu" in header:
                continue
            try:
                numbers = [float(cell.replace(",", "")) if cell.strip() else math.nan for cell in cells[1:]]
            except ValueError:
                problems.append(Problem("is not a number", str(path), written.strip(), cells[1:], line=line))
                continue
            found[name] = {"unit": unit.rstrip(") ")} | dict(zip(header[1:], numbers, strict=True))
    if problems:
        raise InputError(problems)
    return found


def _vllm(data: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    completed = float(data.get("completed") or 0)
    if completed <= 0:
        return {}, {}
    metrics = {name: float(data[key]) for key, name in _VLLM.items() if _is_positive(data.get(key))}
    if _is_positive(data.get("output_throughput")):
        metrics["output_tok_s"] = float(data["output_throughput"])
    columns = {
        "isl_mean": repr(float(data["total_input_tokens"]) / completed),
        "osl_mean": repr(float(data.get("total_output_tokens") or 0) / completed),
        "model": str(data.get("model_id") or ""),
        "concurrency_or_rate": _load(data.get("max_concurrency"), data.get("request_rate")),
    }
    return metrics, columns


def _aiperf(data: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    metrics: dict[str, float] = {}
    for key, name in _AIPERF.items():
        for statistic, plain in _STATISTICS.items():
            value = _statistic(data, key, statistic)
            if value is not None:
                metrics[f"{name}_{plain}_ms"] = value * _MILLISECONDS.get(str(data[key].get("unit") or "ms"), 1.0)
    throughput = _statistic(data, "output_token_throughput", "avg")
    if throughput is not None:
        metrics["output_tok_s"] = throughput
    prompt = _statistic(data, "input_sequence_length", "avg")
    output = _statistic(data, "output_sequence_length", "avg")
    config = data.get("input_config")
    columns = {
        "isl_mean": "" if prompt is None else repr(prompt),
        "osl_mean": "" if output is None else repr(output),
        "model": _first(_deep(config, "model_names") or _deep(config, "model")),
        "concurrency_or_rate": _load(_deep(config, "concurrency"), _deep(config, "request_rate"), otherwise=""),
    }
    return metrics, columns


def _deep(config: object, key: str) -> Any:
    """Return the first value of a key, however deep; clients move their settings from version to version."""
    if not isinstance(config, Mapping):
        return None
    if config.get(key) is not None:
        return config[key]
    return next((value for each in config.values() if (value := _deep(each, key)) is not None), None)


def _first(names: object) -> str:
    return str(names[0]) if isinstance(names, list) and names else names if isinstance(names, str) else ""


def _statistic(data: Mapping[str, Any], metric: str, statistic: str) -> float | None:
    entry = data.get(metric)
    if isinstance(entry, Mapping) and _is_positive(entry.get(statistic)):
        return float(entry[statistic])
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < float("inf")


def _load(concurrency: object, rate: object, otherwise: str = "offline") -> str:
    """Return the load in words; without a limit on users or a rate all requests are there at once."""
    if _is_positive(concurrency):
        return f"conc={concurrency}"
    return f"rate={rate}/s" if _is_positive(rate) else otherwise
