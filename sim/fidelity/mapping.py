"""From a measured run, as its source words it, to what the library knows: hardware, model, layout, formats, load."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sim.fidelity.clients import client_of
from sim.fidelity.points import DATA, MeasuredRun
from sim.serving.kv_cache import Formats, weight_bytes_per_accelerator
from sim.specs.errors import InputError
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.library import Library, default_library
from sim.specs.model import ModelSpec, MultiHeadLatentAttention

FP4, FP8, BF16, INT8 = NumberFormat.FP4, NumberFormat.FP8, NumberFormat.BF16, NumberFormat.INT8

LoadKind = Literal["closed", "open", "offline", "batch", "limits"]

_DISAGGREGATED = re.compile(r"disagg prefill (\d+)x\(.*?\) decode (\d+)x\(N=(\d+),dpattn=(\w+),ep=(\d+)\)")
_ROOM_FOR_WEIGHTS = 0.65
"""Share of memory that weights may take where a layout is not stated and has to be guessed."""


class UnmappedError(ValueError):
    """Raised for a run that the simulator cannot represent; says why."""


@dataclass(frozen=True)
class Load:
    """How a system was driven."""

    kind: LoadKind
    """`closed`: users who wait for their answer; `open`: requests at a rate; `offline`: all at once; `batch`: one
    batch of equal requests; `limits`: the highest rate that keeps the limits on TTFT and TPOT."""

    amount: float
    """Users, requests/s, or sequences in the batch, of the whole system."""

    ttft_limit_s: float = math.inf
    """Limit on the 99th percentile of TTFT [s]."""

    tpot_limit_s: float = math.inf
    """Limit on the 99th percentile of TPOT [s]."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of the requests."""

    prompt_tokens: float
    """Mean prompt [tokens]."""

    output_tokens: float
    """Mean answer [tokens]."""

    shape: Literal["fixed", "uniform", "dataset"]
    """All equal, uniform in 0.8 to 1.0 of the nominal length, or those of a data set."""

    dataset: str = ""
    """Model whose MLPerf data set it is."""

    cached_tokens: float = 0.0
    """Part of the prompt that a prefix cache or another pool has computed already [tokens]."""


@dataclass(frozen=True)
class System:
    """One measured system in the words of the library."""

    hardware: HardwareSpec
    """Accelerator."""

    model: ModelSpec
    """Model."""

    formats: Formats
    """Number formats."""

    parallelism: ParallelismSpec
    """Layout of one replica."""

    replicas: int
    """Replicas behind one load balancer."""

    framework: str
    """Framework family: `vllm`, `sglang`, `trtllm`, `neuron`, `vllm-2023`, or `shared` where it is not known."""

    load: Load
    """How it was driven."""

    lengths: Lengths
    """What was asked."""

    regime: str
    """Regime as the source has it."""

    accelerator_name: str
    """Accelerator as written."""

    model_name: str
    """Model as written."""

    source: str
    """Source as written."""

    client: str = ""
    """Benchmark client, whose clock and transport are part of first tokens."""

    decode_only: bool = False
    """Whether a pool of its own prefills, so that TTFT is not predicted."""


def fidelity_library() -> Library:
    """Return the library with the measured systems behind it."""
    library = default_library()
    return Library((*library.roots, DATA))


class Mapper:
    """Maps runs; holds the library's documents that it has read."""

    def __init__(self, library: Library | None = None) -> None:
        self._library = library or fidelity_library()
        self._hardware: dict[str, HardwareSpec] = {}
        self._models: dict[str, ModelSpec] = {}

    def system(self, run: MeasuredRun) -> System:
        """Return a run in the words of the library.

        Raises
        ------
        UnmappedError
            The library lacks its hardware or model, or the simulator cannot represent it; says which.

        """
        columns = run.columns
        hardware = self._find_hardware(columns["accelerator"], columns["system"])
        model = self._find_model(columns["model"])
        if columns["spec_decode"].lower().split(" ")[0] not in ("", "none", "no", "false"):
            raise UnmappedError(f"speculative decoding ({columns['spec_decode']}) of unknown acceptance")
        framework = framework_family(columns["framework"], hardware, columns["date"])
        formats = _formats(columns["precision"], model, hardware, "mlperf" in columns["source"].lower())
        if formats.kv is FP8 and _keeps_wide_kv(framework, hardware, columns):
            formats = dataclasses.replace(formats, kv=BF16)
        accelerators = int(run.number("n_accel") or 1)
        disaggregated = _DISAGGREGATED.search(columns["system"])
        if disaggregated:
            parallelism, replicas = _decode_pool(disaggregated, model)
        else:
            parallelism = _layout(run, model, hardware, formats, accelerators)
            replicas = max(1, round(accelerators / parallelism.accelerators))
        return System(
            hardware=hardware,
            model=model,
            formats=formats,
            parallelism=parallelism,
            replicas=replicas,
            framework=framework,
            load=_load(run, accelerators),
            lengths=_lengths(run, model, bool(disaggregated)),
            regime=columns["regime"] or "not stated",
            accelerator_name=columns["accelerator"],
            model_name=columns["model"],
            source=columns["source"],
            client=client_of(columns["source"]),
            decode_only=bool(disaggregated),
        )

    def _find_hardware(self, written: str, system: str) -> HardwareSpec:
        name = _name("hardware", written)
        if name == "gh200-96gb" and "144" in system:
            name = "gh200-144gb"
        if name not in self._hardware:
            try:
                self._hardware[name] = self._library.hardware(name).spec
            except InputError:
                raise UnmappedError(f"no hardware profile for {written!r}") from None
        return self._hardware[name]

    def _find_model(self, written: str) -> ModelSpec:
        name = _name("model", written)
        if name not in self._models:
            try:
                self._models[name] = self._library.model(name).spec
            except InputError:
                raise UnmappedError(f"no model for {written!r}") from None
        return self._models[name]


@functools.cache
def _names() -> Mapping[tuple[str, str], str]:
    with (DATA / "names.csv").open(encoding="utf-8") as file:
        return {(row["kind"], row["written"]): row["name"] for row in csv.DictReader(file)}


def _name(kind: str, written: str) -> str:
    plain = written.strip().lower().replace("_", "-").replace(" ", "-").rpartition("/")[2]
    if kind == "model" and written.lower() == "deepseek-v3/r1":
        plain = "deepseek-v3/r1"
    for text in (plain, re.sub(r"-(instruct|chat|hf|fp8|fp4|nvfp4|mxfp4)\b.*", "", plain)):
        if (kind, text) in _names():
            return _names()[kind, text]
    return re.sub(r"-(instruct|chat|hf|fp8|fp4|nvfp4|mxfp4)\b.*", "", plain) if kind == "model" else plain


def framework_family(text: str, hardware: HardwareSpec, date: str = "") -> str:
    """Return the framework family of a framework as written; MLPerf names the libraries under it instead."""
    lower = text.lower()
    for word, family in (("neuron", "neuron"), ("nxdi", "neuron"), ("sglang", "sglang"), ("deepseek", "sglang")):
        if word in lower:
            return family
    if "vllm" in lower and ("2023" in lower or "~0.2" in lower or date.startswith("2023")):
        return "vllm-2023"
    if hardware.vendor == "NVIDIA" and ("trt" in lower or "tensorrt" in lower):
        return "trtllm"
    if "vllm" in lower or "llm-d" in lower:
        return "vllm"
    if hardware.vendor == "NVIDIA":
        return "trtllm"
    return "vllm" if hardware.vendor in ("AMD", "Google") else "shared"


def _formats(precision: str, model: ModelSpec, hardware: HardwareSpec, submitted: bool) -> Formats:
    """Return formats; none stated means as published, or for MLPerf the lowest that the hardware computes."""
    text = precision.lower()
    native = set(hardware.peak)
    if not text:
        lowest = FP4 if FP4 in native else FP8 if FP8 in native else BF16
        lowest = lowest if submitted else model.formats.weights
        text = "mxfp4 weights" if model.formats.experts is FP4 else lowest.value
    published = model.formats
    if model.formats.experts is FP4 and ("fp4" in text or "fp8" in text):
        arithmetic = FP8 if FP4 in native else BF16
        scales = published.expert_scales.bytes_per_weight if published.expert_scales else 0.0
        kv = FP8 if FP4 in native else BF16
        return Formats(published.weights, FP4, scales, kv, BF16, arithmetic)
    if "fp4" in text:
        if model.architecture.moe is not None:
            return Formats(FP8, FP4, 1.0 / 16.0, FP8, _native(FP8, native), _native(FP4, native))
        return Formats(FP4, FP4, 1.0 / 16.0, FP8, _native(FP4, native), _native(FP4, native))
    if "fp8" in text and "kv-fp8" not in text:
        return Formats(FP8, FP8, 0.0, FP8, _native(FP8, native), _native(FP8, native))
    if "int8" in text or "w8a8" in text:
        return Formats(INT8, INT8, 0.0, BF16, _native(INT8, native), _native(INT8, native))
    return Formats(BF16, BF16, 0.0, FP8 if "kv-fp8" in text else BF16, BF16, BF16)


def _keeps_wide_kv(framework: str, hardware: HardwareSpec, columns: Mapping[str, str]) -> bool:
    """Return whether KV stays bf16 beside quantised weights: vLLM and SGLang before Blackwell, unless stated."""
    tuned = "mlperf" in columns["source"].lower() or "kv-fp8" in columns["precision"].lower()
    return framework in ("vllm", "sglang") and FP4 not in hardware.peak and not tuned


def _native(wanted: NumberFormat, native: set[NumberFormat]) -> NumberFormat:
    """Return the format in which products are computed: weights of a missing format are widened."""
    order = {FP4: (FP4, FP8, BF16), FP8: (FP8, BF16), INT8: (INT8, BF16)}
    return next((each for each in order[wanted] if each in native), BF16)


def _layout(
    run: MeasuredRun, model: ModelSpec, hardware: HardwareSpec, formats: Formats, accelerators: int
) -> ParallelismSpec:
    tensor, pipeline = run.number("tp"), int(run.number("pp") or 1)
    data, expert = int(run.number("dp") or 1), int(run.number("ep") or 1)
    if tensor is None:
        return _usual_layout(model, hardware, formats, accelerators)
    ranks = min(int(tensor), accelerators)
    if model.architecture.moe is None or expert == 1:
        data = 1
    if expert > 1 and data == 1 and ranks == 1:  # "expert parallel" alone: attention is data parallel
        data = min(expert, max(1, accelerators // pipeline))
    expert = ranks * data if expert > 1 and model.architecture.moe is not None else 1
    return ParallelismSpec(tensor=ranks, data=data, expert=expert, pipeline=pipeline)


def _usual_layout(model: ModelSpec, hardware: HardwareSpec, formats: Formats, accelerators: int) -> ParallelismSpec:
    """Return the fewest accelerators that hold the weights with room for KV; latent attention goes data parallel."""
    latent = any(isinstance(group, MultiHeadLatentAttention) for group in model.architecture.attention)
    tensor = 1
    while True:
        layout = ParallelismSpec(tensor=tensor)
        if latent and model.architecture.moe is not None and tensor > 1:
            layout = ParallelismSpec(tensor=1, data=tensor, expert=tensor)
        weights = weight_bytes_per_accelerator(model.architecture, formats, layout)
        enough = weights <= _ROOM_FOR_WEIGHTS * hardware.memory.usable.value
        if enough or 2 * tensor > max(accelerators, 1):
            return layout
        tensor *= 2


def _decode_pool(match: re.Match[str], model: ModelSpec) -> tuple[ParallelismSpec, int]:
    replicas, nodes, attention, expert = int(match[2]), int(match[3]), match[4], int(match[5])
    ranks = max(expert, nodes)
    if attention == "True" and model.architecture.moe is not None:
        return ParallelismSpec(tensor=1, data=ranks, expert=ranks), replicas
    return ParallelismSpec(tensor=ranks, expert=ranks if model.architecture.moe else 1), replicas


def _load(run: MeasuredRun, accelerators: int) -> Load:
    text = run.columns["concurrency_or_rate"].lower().strip()
    limits = [(run.number(name) or math.inf) * 1e-3 for name in ("ttft_p99_limit_ms", "tpot_p99_limit_ms")]
    match = re.fullmatch(r"(conc|concurrency|rate|batch)=([0-9.]+)(?:/s|/gpu)?", text)
    if match:
        kind: LoadKind = {"conc": "closed", "concurrency": "closed", "rate": "open", "batch": "batch"}[match[1]]  # type: ignore[assignment]
        amount = float(match[2]) * (accelerators if text.endswith("/gpu") else 1)
        if amount <= 0.0:
            raise UnmappedError(f"a load of {text!r}")
        return Load(kind, amount, *limits)
    if text.startswith("offline") or text in ("saturation", "max-throughput"):
        return Load("offline", 0.0, *limits)
    if text == "server" and math.isfinite(limits[1]):
        return Load("limits", 0.0, *limits)
    raise UnmappedError(f"a load worded {run.columns['concurrency_or_rate']!r}")


def _lengths(run: MeasuredRun, model: ModelSpec, decode_only: bool) -> Lengths:
    source = run.columns["source"].lower()
    prompt, output = run.number("isl_mean"), run.number("osl_mean")
    if "mlperf" in source:
        table = dataset(model.name)
        if not table:
            raise UnmappedError(f"the lengths of the MLPerf set of {model.name} are not known")
        mean = [sum(column) / len(table) for column in zip(*table, strict=True)]
        return Lengths(prompt or mean[0], output or mean[1], "dataset", model.name)
    if prompt is None or output is None:
        raise UnmappedError("prompt or answer length is not stated")
    shape: Literal["fixed", "uniform"] = "uniform" if "inferencex c" in source or "inferencex d" in source else "fixed"
    cached = prompt - 1.0 if decode_only else 0.0
    if "inference-sim" in source or "prefix_caching" in run.columns["scenario"]:
        cached = min(_SHARED_PREFIX, 0.5 * prompt)
    return Lengths(prompt, output, shape, cached_tokens=cached)


_SHARED_PREFIX = 112.0
"""Shared prefixes of 100 to 150 tokens in the vLLM runs, in whole blocks of 16 [tokens]."""


@functools.cache
def dataset(model: str) -> tuple[tuple[int, int], ...]:
    """Return (prompt, answer) lengths of a model's MLPerf set, a sample in order of their work [tokens]."""
    with (DATA / "mlperf_lengths.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    return tuple((int(row["prompt_tokens"]), int(row["output_tokens"])) for row in rows)
