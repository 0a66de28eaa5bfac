"""Serving stacks as YAML: the values of a stack times fitted factors, with one standard error around them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sim.fidelity.calibration import Calibration
from sim.specs.serving_stack import EFFICIENCIES, ServingStackSpec


def profile_yaml(calibration: Calibration, name: str, points: str) -> str:
    """Return a serving stack as YAML: a delta of the base stack with the fitted values.

    Parameters
    ----------
    calibration : Calibration
        The fit.
    name : str
        Name of the new stack.
    points : str
        What it was fitted on, for its sources.

    """
    factors = calibration.fitted.factors("shared")
    error = float(np.median(np.abs(np.expm1(calibration.after))))
    lines = [
        "kind: serving_stack",
        f"name: {name}",
        f"title: {calibration.base.name} calibrated on own measurements",
        "extends: shared",
        "description: >",
        f"  Fitted to {len(calibration.rows)} numbers, median absolute error {error:.1%}. Parameters that the points",
        f"  do not determine stay near those of {calibration.base.name}.",
        "sources:",
        f"  OWN: {points!r}",
        *batching_lines(calibration.base),
        "step_time:",
        *parameter_lines(calibration.base, factors, "OWN"),
    ]
    return "\n".join(lines) + "\n"


def batching_lines(base: ServingStackSpec) -> list[str]:
    """Return the limits of a stack that a user sets herself, as YAML: slots and tokens of a step."""
    sequences, budget = base.batching.max_sequences.value, int(base.batching.step_token_budget.value)
    assumed = "source: [assumption], confidence: assumption"
    return [
        "batching:",
        f"  max_sequences: {{value: {sequences}, low: {min(128, sequences)}, high: {max(1024, sequences)}, {assumed}}}",
        f"  step_token_budget: {{value: {budget} tokens, low: {min(2048, budget)} tokens, "
        f"high: {max(16384, budget)} tokens, {assumed}}}",
    ]


def parameter_lines(base: ServingStackSpec, factors: Mapping[str, tuple[float, float]], source: str) -> list[str]:
    """Return all `step_time` entries of YAML: values of a stack times factors, with one standard error around them.

    Parameters
    ----------
    base : ServingStackSpec
        The stack.
    factors : mapping
        Parameter (or `parameter.format`) -> factor and its standard error as a ratio.
    source : str
        Source key.

    """
    lines = []
    formats: dict[str, dict[str, str]] = {}
    for parameter in type(base.step_time).model_fields:
        if parameter in _FIXED:
            continue
        value = getattr(base.step_time, parameter)
        factor, error = factors.get(parameter, (1.0, 1.0))
        if isinstance(value, Mapping):
            for number_format, each in value.items():
                own, spread = factors.get(f"{parameter}.{number_format.value}", (1.0, 1.0))
                entry = _entry(each.value * factor * own, max(error, spread), "", source, 1.0)
                formats.setdefault(parameter, {})[number_format.value] = entry
            continue
        unit = " us" if parameter.endswith(("latency", "overhead")) else ""
        most = _MOST.get(parameter, 1.0 if parameter in EFFICIENCIES else math.inf)
        lines.append(
            f"  {parameter}: {_entry(value.value * factor * (1e6 if unit else 1.0), error, unit, source, most)}"
        )
    for parameter, entries in sorted(formats.items()):
        lines.append(f"  {parameter}:")
        lines += [f"    {number_format}: {entry}" for number_format, entry in sorted(entries.items())]
    return lines


_MOST = {"expert_imbalance_exponent": 1.0, "link_bandwidth": 2.0}
_FIXED = frozenset({"smoothness", "step_time_spread"})


def _entry(value: float, error: float, unit: str, source: str, most: float) -> str:
    numbers = [float(f"{min(each, most):.4g}") for each in (value, value / error, value * error)]
    text = [f"{each:g}{unit}" for each in numbers]
    return f"{{value: {text[0]}, low: {text[1]}, high: {text[2]}, source: [{source}], confidence: derived}}"
