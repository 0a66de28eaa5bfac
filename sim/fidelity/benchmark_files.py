"""Benchmark results as clients write them (vllm bench serve, aiperf, genai-perf) as measured runs."""

from __future__ import annotations

import json
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
_AIPERF = {"time_to_first_token": "ttft", "inter_token_latency": "itl", "request_latency": "e2e"}
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


def read_measurements(path: Path, system: MeasuredSystem | None = None) -> list[MeasuredRun]:
    """Return the runs of a points file (CSV) or of one benchmark result (JSON).

    Parameters
    ----------
    path : Path
        CSV of the calibration schema, or JSON of vllm bench serve, aiperf or genai-perf.
    system : MeasuredSystem, optional
        The server; needed for JSON.

    Raises
    ------
    InputError
        The file cannot be read, or is none of these; or JSON without a server.

    """
    if path.suffix.lower() != ".json":
        return read_points(path)
    if system is None:
        remedy = "Give --accelerator and what else differs from one accelerator of it."
        raise InputError([Problem("a benchmark result does not say what it ran on", str(path), remedy=remedy)])
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"is no JSON: {error}", str(path))]) from None
    if not isinstance(data, dict):
        raise InputError([Problem("holds no JSON object", str(path))])
    metrics, columns = _vllm(data) if "total_input_tokens" in data else _aiperf(data)
    if not metrics or not columns.get("isl_mean") or not columns.get("osl_mean"):
        remedy = "Known are the outputs of vllm bench serve, aiperf and genai-perf, with lengths and latencies."
        raise InputError([Problem("is no benchmark result that is known", str(path), remedy=remedy)])
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
            if value is not None and not (name == "itl" and plain != "mean"):
                metrics[f"{name}_{plain}_ms"] = value
    throughput = _statistic(data, "output_token_throughput", "avg")
    if throughput is not None:
        metrics["output_tok_s"] = throughput
    prompt = _statistic(data, "input_sequence_length", "avg")
    output = _statistic(data, "output_sequence_length", "avg")
    config = data.get("input_config")
    config = config if isinstance(config, Mapping) else {}
    nested = config.get("loadgen")
    config = {**config, **nested} if isinstance(nested, Mapping) else dict(config)
    columns = {
        "isl_mean": "" if prompt is None else repr(prompt),
        "osl_mean": "" if output is None else repr(output),
        "model": "",
        "concurrency_or_rate": _load(config.get("concurrency"), config.get("request_rate")),
    }
    return metrics, columns


def _statistic(data: Mapping[str, Any], metric: str, statistic: str) -> float | None:
    entry = data.get(metric)
    if isinstance(entry, Mapping) and _is_positive(entry.get(statistic)):
        return float(entry[statistic])
    return None


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 < value < float("inf")


def _load(concurrency: object, rate: object) -> str:
    if _is_positive(concurrency):
        return f"conc={concurrency}"
    return f"rate={rate}/s" if _is_positive(rate) else "offline"
