"""What the library holds, in the columns that a planner compares, and what is computed from one entry."""

from __future__ import annotations

from typing import Any

from sim.demand.lengths import mean_length
from sim.serving.roofline import (
    kv_elements_per_token,
    parameter_counts,
    state_bytes_per_sequence,
    window_tokens,
)
from sim.specs.errors import InputError, Problem
from sim.specs.hardware import HardwareSpec, NumberFormat, PriceBasis
from sim.specs.library import Library
from sim.specs.model import ModelSpec
from sim.specs.scenario import ScenarioSpec
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Document
from sim.specs.workload import WorkloadSpec

_BF16_BYTES = 2.0


def listing(library: Library, kind: str) -> list[dict[str, str]]:
    """Return one row an entry, by column name.

    Raises
    ------
    InputError
        All entries that are broken.

    """
    rows: list[dict[str, str]] = []
    problems: list[Problem] = []
    for name in library.names(kind):
        try:
            rows.append(_row(library.load(kind, name).spec))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    return rows


def computed(spec: Document) -> dict[str, float | str]:
    """Return what follows from an entry: parameters and KV bytes of a model, mean lengths of a workload."""
    if isinstance(spec, ModelSpec):
        counts = parameter_counts(spec.architecture)
        return {
            "total_parameters": counts.total,
            "active_parameters": counts.active,
            "kv_bytes_per_token_bf16": kv_elements_per_token(spec.architecture) * _BF16_BYTES,
            "state_bytes_per_sequence_bf16": state_bytes_per_sequence(spec.architecture, _BF16_BYTES),
            "sliding_window_tokens": window_tokens(spec.architecture),
        }
    if isinstance(spec, WorkloadSpec):
        return {
            "mean_prompt_tokens": round(mean_length(spec.prompt_tokens), 1),
            "mean_output_tokens": round(mean_length(spec.output_tokens), 1),
        }
    return {}


def _row(spec: Document) -> dict[str, str]:
    if isinstance(spec, HardwareSpec):
        return _hardware_row(spec)
    if isinstance(spec, ModelSpec):
        values: dict[str, Any] = computed(spec)
        return {
            "name": spec.name,
            "parameters G": f"{values['total_parameters'] / 1e9:.1f}",
            "active G": f"{values['active_parameters'] / 1e9:.1f}",
            "KV B/token bf16": f"{values['kv_bytes_per_token_bf16']:,.0f}",
            "context": f"{spec.architecture.context_length:,}",
            "weights": spec.formats.weights.value,
            "experts": spec.formats.experts.value if spec.formats.experts else "",
            "title": spec.title,
        }
    if isinstance(spec, WorkloadSpec):
        values = computed(spec)
        return {
            "name": spec.name,
            "class": spec.traffic_class,
            "mean prompt": f"{values['mean_prompt_tokens']:,.0f}",
            "mean output": f"{values['mean_output_tokens']:,.0f}",
            "service levels": ", ".join(
                f"{level.metric.upper()} p{100 * level.quantile:g} {level.limit:g} s" for level in spec.service_levels
            ),
            "title": spec.title,
        }
    if isinstance(spec, ScenarioSpec):
        return {
            "name": spec.name,
            "classes": ", ".join(spec.traffic),
            "alternatives": ", ".join(spec.alternatives),
            "title": spec.title,
        }
    assert isinstance(spec, ServingStackSpec)
    return {"name": spec.name, "title": spec.title}


def _hardware_row(spec: HardwareSpec) -> dict[str, str]:
    def peak(number_format: NumberFormat) -> str:
        return f"{spec.peak[number_format].value / 1e12:,.0f}" if number_format in spec.peak else ""

    def price(basis: PriceBasis) -> str:
        return f"{spec.prices.hourly[basis].value:.2f}" if basis in spec.prices.hourly else ""

    thermal = spec.power.thermal_design
    return {
        "name": spec.name,
        "bf16 TF": peak(NumberFormat.BF16),
        "fp8 TF": peak(NumberFormat.FP8),
        "fp4 TF": peak(NumberFormat.FP4),
        "HBM GiB": f"{spec.memory.usable.value / 2**30:.0f}",
        "HBM TB/s": f"{spec.memory.bandwidth.value / 1e12:.2f}",
        "link GB/s": f"{spec.scale_up.bandwidth.value / 1e9:,.0f}" if spec.scale_up else "",
        "domain": str(spec.scale_up_domain),
        "W": f"{thermal.value:,.0f}" if thermal else "",
        "on demand": price(PriceBasis.ON_DEMAND),
        "3 years": price(PriceBasis.RESERVED_3_YEAR),
        "owned": price(PriceBasis.OWNING_HYPERSCALER),
        "status": spec.availability.status.value + ("" if spec.availability.purchasable else ", not for sale"),
    }
