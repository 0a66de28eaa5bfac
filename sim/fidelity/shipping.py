"""The shipped serving stacks, made from points: `shared` with factors by accelerator family, one file a framework."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim.fidelity.calibration import Row, coordinates, fit_rows, observations
from sim.fidelity.fitting import Fitted, Observations, fit
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import DATA, MeasuredRun
from sim.fidelity.stack_yaml import family_lines, parameter_lines, together
from sim.specs.library import Library
from sim.specs.serving_stack import ServingStackSpec

TITLES = {
    "vllm": "vLLM, as measured 2025 and 2026",
    "vllm-2023": "vLLM of 2023 (0.2), before CUDA graphs",
    "sglang": "SGLang, as measured 2025 and 2026",
    "trtllm": "TensorRT-LLM, as measured 2024 to 2026",
    "neuron": "AWS Neuron (NxD Inference, Transformers NeuronX)",
}
"""Framework family -> title of its stack."""

LIMITS = {
    "vllm": (1024, 8192, 512),
    "vllm-2023": (256, 4096, 1),
    "sglang": (1024, 8192, 512),
    "trtllm": (4096, 16384, 512),
    "neuron": (256, 8192, 512),
}
"""Framework family -> slots, step token budget and tokens of the largest recorded graph, as benchmarks set them."""

_SOURCE = (
    "Fit to measured points of public benchmarks (MLPerf, InferenceX, TensorRT-LLM, vLLM runs); see docs/measured.md"
)
_HELD = 1e-6

APART = frozenset({"vllm-2023"})
"""Framework families whose points say nothing about current engines."""

_KERNELS_TITLE = "Kernels alone, before any served system was seen"
_SHARED_TITLE = "Any framework, one set of efficiencies, with factors by accelerator family"
KERNELS = "kernels"
"""Stack of the fit to kernel measurements, from which fits to served systems depart."""


def library_rows(runs: Sequence[MeasuredRun], library: Library | None = None) -> tuple[list[Row], Observations]:
    """Return the numbers of some runs that the library's fit uses, and the same as arrays."""
    found = library or fidelity_library()
    rows = fit_rows(runs, Mapper(found))
    base = found.serving_stack(KERNELS).spec
    stacks = {name: _with_limits(base, name) for name in {row.system.framework for row in rows}}
    qualities = {target.row_id: run.columns["quality"] for run in runs for target in run.targets}
    return rows, observations(rows, stacks, [qualities[row.target.row_id] for row in rows])


def fit_library(
    seen: Observations, base: ServingStackSpec, first: Fitted | None = None, evaluations: int = 25
) -> Fitted:
    """Return the fit of shared values, framework factors and family factors, starting at one stack.

    Engines of another age (`APART`) are fitted afterwards with all else held, so that they do not bend the rest.

    Parameters
    ----------
    seen : Observations
        Measured numbers.
    base : ServingStackSpec
        Stack from which the fit departs; its own family factors must be empty.
    first : Fitted, optional
        An earlier fit to start at.
    evaluations : int
        Most evaluations of the model.

    """
    moved = list(first.coordinates) if first is not None else coordinates(seen.systems)
    start = None if first is None else first.values
    apart = np.array([seen.systems[index].framework in APART for index in seen.index])
    stacks = starts(seen, base)
    joint = fit(seen.only(~apart), stacks, moved, first=start, evaluations=evaluations)
    if not apart.any():
        return joint
    held = [
        dataclasses.replace(each, spread=_HELD, centre=float(value)) if each.member not in APART else each
        for each, value in zip(moved, joint.values, strict=True)
    ]
    own = fit(seen.only(apart), stacks, held, first=joint.values, evaluations=evaluations)
    mine = np.array([each.member in APART for each in moved])
    return dataclasses.replace(
        joint,
        values=np.where(mine, own.values, joint.values),
        standard_errors=np.where(mine, own.standard_errors, joint.standard_errors),
        determined=np.where(mine, own.determined, joint.determined),
    )


def starts(seen: Observations, base: ServingStackSpec) -> list[ServingStackSpec]:
    """Return the stack from which the fit of each system departs: one, with the settings of its framework."""
    known = {name: _with_limits(base, name) for name in {each.framework for each in seen.systems}}
    return [known[each.framework] for each in seen.systems]


def _with_limits(base: ServingStackSpec, framework: str) -> ServingStackSpec:
    """Return a stack with the slots and the step token budget of a framework."""
    if framework not in LIMITS:
        return base
    slots, budget, graph = LIMITS[framework]
    batching, times = base.batching, base.step_time
    changed = {
        "max_sequences": batching.max_sequences.model_copy(update={"value": slots, "low": None, "high": None}),
        "step_token_budget": batching.step_token_budget.model_copy(update={"value": budget, "low": None, "high": None}),
    }
    graphs = {"graph_tokens": times.graph_tokens.model_copy(update={"value": graph, "low": None, "high": None})}
    return base.model_copy(
        update={"batching": batching.model_copy(update=changed), "step_time": times.model_copy(update=graphs)}
    )


def client_factors(fitted: Fitted) -> dict[str, float]:
    """Return benchmark client -> factor on the overhead of a request, as fitted: what `data/clients.csv` holds."""
    return {
        each.member: float(f"{math.exp(value):.4g}")
        for each, value in zip(fitted.coordinates, fitted.values, strict=True)
        if each.level == "client"
    }


def write_clients(fitted: Fitted, path: Path) -> None:
    """Write the factors of benchmark clients as CSV."""
    rows = [f"{name},{factor:g}" for name, factor in client_factors(fitted).items()]
    path.write_text("\n".join(["client,request_overhead", *rows]) + "\n", "utf-8")


def write_stacks(
    fitted: Fitted,
    base: ServingStackSpec,
    bands: Sequence[str],
    folder: Path,
) -> None:
    """Write `shared.yaml` and one file a framework into a folder; one that the fit has not seen has shared values.

    Parameters
    ----------
    fitted : Fitted
        The fit.
    base : ServingStackSpec
        Stack from which it departed.
    bands : sequence of str
        Lines of YAML with the error bands, for all frameworks.
    folder : Path
        Where to write.

    """
    head = (DATA / "serving_stacks" / "kernels.yaml").read_text("utf-8").partition("\nstep_time:")[0]
    head = "\n".join(line for line in head.split("\n") if not line.startswith("  BLIS:"))
    head = (
        head.replace("name: kernels", "name: shared")
        .replace(_KERNELS_TITLE, _SHARED_TITLE)
        .replace("\n\nbatching:", f"\n  FITTED: {_SOURCE}\n\nbatching:")
    )
    shared = fitted.shifts("shared")
    members = sorted({each.member for each in fitted.coordinates if each.level == "family"})
    families = {member: fitted.shifts("family", member) for member in members}
    fixed = [
        f"  smoothness: {{value: {base.step_time.smoothness.value:g}, source: [FIT], confidence: derived}}",
        "  step_time_spread: {value: 0.1, low: 0.084, high: 0.27, source: [FIT], confidence: derived}",
        "  graph_tokens: {value: 512 tokens, low: 128 tokens, high: 1024 tokens, source: [assumption], "
        "confidence: assumption}",
    ]
    text = [
        head.rstrip(),
        "",
        "step_time:",
        *fixed,
        *parameter_lines(base, shared, "FITTED"),
        "",
        *family_lines(base, shared, families, "FITTED"),
    ]
    (folder / "shared.yaml").write_text("\n".join([*text, "", *bands]).rstrip() + "\n", "utf-8")
    for framework in sorted(TITLES):
        slots, budget, graph = LIMITS[framework]
        own = together(shared, fitted.shifts("framework", framework))
        assumed = "source: [assumption], confidence: assumption"
        text = [
            "kind: serving_stack",
            f"name: {framework}",
            f"title: {TITLES[framework]}",
            "extends: shared",
            "description: >",
            "  Efficiencies of this framework family, with factors by accelerator family.",
            "sources:",
            f"  FITTED: {_SOURCE}",
            "batching:",
            f"  max_sequences: {{value: {slots}, low: {slots // 4}, high: {slots * 2}, {assumed}}}",
            f"  step_token_budget: {{value: {budget} tokens, low: {budget // 4} tokens, high: {budget * 2} tokens, "
            f"{assumed}}}",
            "step_time:",
            f"  graph_tokens: {{value: {graph} tokens, low: {-(-graph // 4)} tokens, high: {graph * 2} tokens, "
            f"{assumed}}}",
            *parameter_lines(base, own, "FITTED"),
            *family_lines(base, own, families, "FITTED"),
        ]
        (folder / f"{framework}.yaml").write_text("\n".join(text).rstrip() + "\n", "utf-8")
