"""What the library holds, in the columns that a planner compares, and what is computed from one entry."""

from __future__ import annotations

from sim.demand.mean_lengths import mean_call_lengths
from sim.serving.parameter_counts import parameter_counts
from sim.serving.roofline import kv_elements_per_token, state_bytes_per_sequence, window_tokens
from sim.specs.errors import InputError, Problem
from sim.specs.hardware import HardwareSpec, NumberFormat, PriceBasis
from sim.specs.library import Library
from sim.specs.model import ModelSpec
from sim.specs.scenario import ScenarioSpec
from sim.specs.spec import Document
from sim.specs.workload import WorkloadSpec

_BF16_BYTES = 2.0
_LISTED_FORMATS = (NumberFormat.BF16, NumberFormat.FP8, NumberFormat.FP4)
_LISTED_TERMS = (PriceBasis.ON_DEMAND, PriceBasis.RESERVED_3_YEAR, PriceBasis.OWNING_HYPERSCALER)


def listing(library: Library, kind: str) -> list[dict[str, object]]:
    """Return one row an entry, by column name; all rows have the same columns, None where a value is not known.

    Raises
    ------
    InputError
        All entries that are broken.

    """
    rows: list[dict[str, object]] = []
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
    """Return what follows from an entry: parameters and KV bytes of a model, mean lengths of calls of a workload."""
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
        means = mean_call_lengths(spec)
        return {
            "mean_prompt_tokens": round(means.prompt_tokens, 1),
            "mean_output_tokens": round(means.output_tokens, 1),
        }
    return {}


def _row(spec: Document) -> dict[str, object]:
    row: dict[str, object] = {"name": spec.name}
    if isinstance(spec, HardwareSpec):
        row |= _hardware_row(spec)
    elif isinstance(spec, ModelSpec):
        values = computed(spec)
        row |= {
            **{key: values[key] for key in ("total_parameters", "active_parameters", "kv_bytes_per_token_bf16")},
            "context_tokens": spec.architecture.context_length,
            "weights": spec.formats.weights.value,
            "experts": spec.formats.experts.value if spec.formats.experts else None,
        }
    elif isinstance(spec, WorkloadSpec):
        row |= {
            "class": spec.traffic_class,
            **computed(spec),
            "service_levels": [
                f"{level.metric.upper()} p{100 * level.quantile:g} {level.limit:g} s" for level in spec.service_levels
            ],
        }
    elif isinstance(spec, ScenarioSpec):
        row |= {"classes": list(spec.traffic), "alternatives": list(spec.alternatives)}
    return row | {"title": spec.title}


def _hardware_row(spec: HardwareSpec) -> dict[str, object]:
    peaks = {number_format: peak.value for number_format, peak in spec.peak.items()}
    prices = {basis: price.value for basis, price in spec.prices.hourly.items()}
    thermal = spec.power.thermal_design
    return {
        **{f"{each.value}_flop_per_s": peaks.get(each) for each in _LISTED_FORMATS},
        "memory_bytes": spec.memory.usable.value,
        "memory_bytes_per_s": spec.memory.bandwidth.value,
        "link_bytes_per_s": spec.scale_up.bandwidth.value if spec.scale_up else None,
        "scale_up_domain": spec.scale_up_domain,
        "thermal_design_w": thermal.value if thermal else None,
        **{f"{each.value}_usd_per_hour": prices.get(each) for each in _LISTED_TERMS},
        "status": spec.availability.status.value,
        "purchasable": spec.availability.purchasable,
    }
