"""How sources word what they measured: names, formats, layouts, loads, lengths, drafts."""

from __future__ import annotations

import csv
import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from sim.fidelity.points import DATA, MeasuredRun
from sim.fidelity.systems import Lengths, Load, LoadKind, PrefillPool, Speculation, UnmappedError
from sim.serving.kv_cache import Formats, weight_bytes_per_accelerator
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.model import ModelSpec, MultiHeadLatentAttention

FP4, FP8, BF16, INT8 = NumberFormat.FP4, NumberFormat.FP8, NumberFormat.BF16, NumberFormat.INT8

_POOL = r"(\d+)x\(N=(\d+),dpattn=(\w+),ep=(\d+)\)"
_DISAGGREGATED = re.compile(rf"disagg prefill {_POOL} decode {_POOL}")
_ROOM_FOR_WEIGHTS = 0.65
"""Share of memory that weights may take where a layout is not stated and has to be guessed."""


@functools.cache
def _names() -> Mapping[tuple[str, str], str]:
    with (DATA / "names.csv").open(encoding="utf-8") as file:
        return {(row["kind"], row["written"]): row["name"] for row in csv.DictReader(file)}


_MAKERS = re.compile(r"^(?:nvidia|amd|google|aws|amazon|intel|instinct|geforce|hgx|dgx|cloud)[- ]+")
_SUFFIXES = re.compile(
    r"-(?:instruct|chat|hf|it|base|thinking|fp8|fp4|nvfp4|mxfp4|bf16|fp16|int8|int4|w8a8|awq|gptq|dynamic|quantized|"
    r"block|\d{4}|v\d(?:\.\d)?)(?=-|$)"
)
"""What the name of a checkpoint says beside the model: tuning, format, date, version."""


def library_name(kind: str, written: str, known: Collection[str]) -> str:
    """Return the name in the library of what a source writes, or what was written in plain letters.

    Tried in turn: a stated alias, the name itself, both without makers (hardware) or without tuning and format
    (models), and at last the longest alias or name that stands in it as whole words.

    Parameters
    ----------
    kind : str
        `hardware` or `model`.
    written : str
        As the source writes it.
    known : collection of str
        Names in the library.

    """
    text = re.sub(r"[_ ]+", "-", written.strip().lower())
    aliases = {alias: name for (each, alias), name in _names().items() if each == kind}
    plain = text if text in aliases else text.rpartition("/")[2]
    shorter = _without(plain, kind)
    for each in (text, plain, shorter):
        found = aliases.get(each, each)
        if found in known:
            return found
    words = {**{name: name for name in known}, **aliases}
    inside = [each for each in words if re.search(rf"(?<![a-z0-9.]){re.escape(each)}(?![a-z0-9])", plain)]
    return words[max(inside, key=len)] if inside and kind == "hardware" else shorter


def _without(plain: str, kind: str) -> str:
    if kind == "model":
        return _SUFFIXES.sub("", plain.removeprefix("meta-"))
    while _MAKERS.match(plain):
        plain = _MAKERS.sub("", plain)
    return plain


@functools.cache
def _methods() -> Mapping[str, tuple[int, float]]:
    """Return method of speculation -> usual drafts and acceptance; the empty one where none is named."""
    with (DATA / "speculation.csv").open(encoding="utf-8") as file:
        return {row["method"]: (int(row["drafts"]), float(row["acceptance"])) for row in csv.DictReader(file)}


def speculation_of(text: str) -> Speculation:
    """Return how answers are drafted, from words like `none`, `mtp`, `eagle3 k=3`, `mtp 2 acceptance 0.7`.

    An acceptance above 1 is the mean number of tokens of a step, from which the probability is solved.

    Raises
    ------
    UnmappedError
        The words name no method.

    """
    lower = text.lower().strip()
    if re.split(r"[ (]", lower)[0] in ("", "none", "no", "false", "off", "0", "nan"):
        return Speculation()
    method = next((name for name in _methods() if name and name in lower.replace("-", "")), "")
    if not method and not re.match(r"(true|yes|on|spec|draft)", lower):
        raise UnmappedError(f"speculative decoding worded {text!r}")
    drafts, acceptance = _methods()[method]
    stated = re.search(r"(?:k|n|drafts?|draft[_ ]?len(?:gth)?|tokens|mtp|eagle\d?)[-_ =:(]+(\d+)(?![.\d])", lower)
    drafts = int(stated[1]) if stated else drafts
    accepted = re.search(r"(?:accept\w*|al|length)[-_ a-z=:(]*?(\d+(?:\.\d+)?)", lower)
    if accepted:
        value = float(accepted[1])
        acceptance = value if value < 1.0 else _acceptance(drafts, value)
    return Speculation(drafts, acceptance)


def _acceptance(drafts: int, tokens: float) -> float:
    """Return the acceptance at which a step gives this many tokens, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        enough = Speculation(drafts, middle).tokens_per_step >= tokens
        low, high = (low, middle) if enough else (middle, high)
    return high


_OTHERS = (
    "lmdeploy",
    "tgi",
    "text-generation",
    "transformers",
    "ollama",
    "llama.cpp",
    "mlc",
    "jetstream",
    "maxtext",
    "mii",
)
"""Engines of which there are no points; Transformers NeuronX is caught before."""


def framework_family(text: str, hardware: HardwareSpec, date: str = "") -> str:
    """Return the framework family of a framework as written; MLPerf names the libraries under it instead."""
    lower = text.lower()
    for word, family in (("neuron", "neuron"), ("nxdi", "neuron"), ("sglang", "sglang"), ("deepseek", "sglang")):
        if word in lower:
            return family
    if "vllm" in lower and ("2023" in lower or "~0.2" in lower or date.startswith("2023")):
        return "vllm-2023"
    if any(word in lower for word in _OTHERS):
        return "shared"
    if hardware.vendor == "NVIDIA" and ("trt" in lower or "tensorrt" in lower):
        return "trtllm"
    if "vllm" in lower or "llm-d" in lower:
        return "vllm"
    if hardware.vendor == "NVIDIA":
        return "trtllm"
    return "vllm" if hardware.vendor in ("AMD", "Google") else "shared"


def formats_of_run(precision: str, model: ModelSpec, hardware: HardwareSpec, submitted: bool) -> Formats:
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


def keeps_wide_kv(framework: str, hardware: HardwareSpec, columns: Mapping[str, str]) -> bool:
    """Return whether KV stays bf16 beside quantised weights: vLLM and SGLang before Blackwell, unless stated."""
    tuned = "mlperf" in columns["source"].lower() or "kv-fp8" in columns["precision"].lower()
    return framework in ("vllm", "sglang") and FP4 not in hardware.peak and not tuned


def _native(wanted: NumberFormat, native: set[NumberFormat]) -> NumberFormat:
    """Return the format in which products are computed: weights of a missing format are widened."""
    order = {FP4: (FP4, FP8, BF16), FP8: (FP8, BF16), INT8: (INT8, BF16)}
    return next((each for each in order[wanted] if each in native), BF16)


def layout_of(
    run: MeasuredRun, model: ModelSpec, hardware: HardwareSpec, formats: Formats, accelerators: int
) -> ParallelismSpec:
    """Return the layout that a run states, or the usual one."""
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


def disaggregated_pools(system: str, model: ModelSpec) -> tuple[PrefillPool, PrefillPool] | None:
    """Return the pools that prefill and that decode, from a system as InferenceX words it; none where one does both."""
    match = _DISAGGREGATED.search(system)
    if match is None:
        return None
    prefill, decode = (_pool(match.groups()[start : start + 4], model) for start in (0, 4))
    return prefill, decode


def _pool(words: Sequence[str], model: ModelSpec) -> PrefillPool:
    replicas, nodes, attention, expert = int(words[0]), int(words[1]), words[2], int(words[3])
    ranks = max(expert, nodes)
    if attention == "True" and model.architecture.moe is not None:
        return PrefillPool(ParallelismSpec(tensor=1, data=ranks, expert=ranks), replicas)
    return PrefillPool(
        ParallelismSpec(tensor=ranks, expert=ranks if model.architecture.moe and expert > 1 else 1), replicas
    )


_LOADS: Mapping[str, LoadKind] = {
    "conc": "closed", "concurrency": "closed", "users": "closed", "max_concurrency": "closed", "rate": "open",
    "request_rate": "open", "qps": "open", "rps": "open", "batch": "batch", "batch_size": "batch", "bs": "batch",
}  # fmt: skip
"""Word of a load -> kind."""


def load_of(run: MeasuredRun, accelerators: int) -> Load:
    """Return how a run was driven.

    Raises
    ------
    UnmappedError
        Its words are not known.

    """
    text = run.columns["concurrency_or_rate"].lower().strip()
    limits = [(run.number(name) or math.inf) * 1e-3 for name in ("ttft_p99_limit_ms", "tpot_p99_limit_ms")]
    match = re.fullmatch(r"([a-z_]+)[ =:]+([0-9.]+) ?(?:/s|/gpu|req/s|rps|qps)?", text)
    if match and match[1] in _LOADS:
        amount = float(match[2]) * (accelerators if text.endswith("/gpu") else 1)
        if amount <= 0.0:
            raise UnmappedError(f"a load of {text!r}")
        return Load(_LOADS[match[1]], amount, *limits)
    if text.startswith("offline") or text in ("saturation", "saturated", "max-throughput", "max_throughput", "inf"):
        return Load("offline", 0.0, *limits)
    if text == "server" and math.isfinite(limits[1]):
        return Load("limits", 0.0, *limits)
    raise UnmappedError(f"a load worded {run.columns['concurrency_or_rate']!r}")


def lengths_of(run: MeasuredRun, model: ModelSpec, decode_only: bool) -> Lengths:
    """Return the lengths of a run.

    Raises
    ------
    UnmappedError
        They are not stated, and no table has them.

    """
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
