"""Serving stacks as YAML: the values of a stack after fitted shifts, with one standard error around them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sim.fidelity.calibration import Calibration
from sim.fidelity.fitting import moved
from sim.specs.serving_stack import ServingStackSpec


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
    shifts = calibration.fitted.shifts("shared")
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
        *graph_lines(calibration.base),
        *parameter_lines(calibration.base, shifts, "OWN"),
        *inherited_families(calibration.base, "OWN"),
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


def graph_lines(base: ServingStackSpec) -> list[str]:
    """Return the largest recorded graph of a stack as YAML."""
    graph = base.step_time.graph_tokens
    low, high = (int(graph.value if each is None else each) for each in (graph.low, graph.high))
    numbers = f"value: {int(graph.value)} tokens, low: {low} tokens, high: {high} tokens"
    return [f"  graph_tokens: {{{numbers}, source: [assumption], confidence: assumption}}"]


def inherited_families(base: ServingStackSpec, source: str) -> list[str]:
    """Return the factors by accelerator family of a stack as YAML, for one that takes them over."""
    lines = ["families:"] if base.families else []
    for family, factors in sorted(base.families.items()):
        lines.append(f"  {family}:" if factors else f"  {family}: {{}}")
        for name, factor in sorted(factors.items()):
            low, high = (factor.value if each is None else each for each in (factor.low, factor.high))
            numbers = f"value: {factor.value:.4g}, low: {low:.4g}, high: {high:.4g}"
            lines.append(f"    {name}: {{{numbers}, source: [{source}], confidence: derived}}")
    return lines


Shifts = Mapping[str, tuple[float, float]]
"""Parameter (or `parameter.format`) -> shift of its logarithm or log odds, and the standard error."""


def together(*levels: Shifts) -> dict[str, tuple[float, float]]:
    """Return the shifts of several levels added up, their errors as of independent ones."""
    result: dict[str, tuple[float, float]] = {}
    for level in levels:
        for name, (shift, error) in level.items():
            before = result.get(name, (0.0, 0.0))
            result[name] = (before[0] + shift, math.hypot(before[1], error))
    return result


def shifted(base: ServingStackSpec, shifts: Shifts) -> dict[str, tuple[float, float, float]]:
    """Return parameter (or `parameter.format`) -> value, and one standard error below and above it.

    Parameters
    ----------
    base : ServingStackSpec
        The stack from which the shifts depart.
    shifts : mapping
        Shifts; one of `parameter` counts for all its formats.

    """
    result = {}
    for parameter in type(base.step_time).model_fields:
        if parameter in _FIXED:
            continue
        value = getattr(base.step_time, parameter)
        starts = {"": value} if not isinstance(value, Mapping) else {key.value: each for key, each in value.items()}
        for number_format, start in starts.items():
            name = f"{parameter}.{number_format}" if number_format else parameter
            found = [shifts[each] for each in {name, parameter} if each in shifts]
            shift, error = sum(each[0] for each in found), math.hypot(*(each[1] for each in found))
            result[name] = (
                moved(parameter, start.value, shift),
                moved(parameter, start.value, shift - error),
                moved(parameter, start.value, shift + error),
            )
    return result


def parameter_lines(base: ServingStackSpec, shifts: Shifts, source: str) -> list[str]:
    """Return all `step_time` entries of YAML: values of a stack after shifts, with one standard error around them.

    Parameters
    ----------
    base : ServingStackSpec
        The stack.
    shifts : mapping
        Shifts of its parameters.
    source : str
        Source key.

    """
    lines = []
    formats: dict[str, dict[str, str]] = {}
    for name, numbers in shifted(base, shifts).items():
        parameter, _, number_format = name.partition(".")
        entry = _entry(numbers, parameter.endswith(("latency", "overhead")), source)
        if number_format:
            formats.setdefault(parameter, {})[number_format] = entry
        else:
            lines.append(f"  {parameter}: {entry}")
    for parameter, entries in sorted(formats.items()):
        lines.append(f"  {parameter}:")
        lines += [f"    {number_format}: {entry}" for number_format, entry in sorted(entries.items())]
    return lines


def family_lines(base: ServingStackSpec, own: Shifts, families: Mapping[str, Shifts], source: str) -> list[str]:
    """Return `families` as YAML: factors that take a stack's values to those on each accelerator family.

    Parameters
    ----------
    base : ServingStackSpec
        Stack from which the shifts depart.
    own : mapping
        Shifts of the stack.
    families : mapping
        Family -> its further shifts.
    source : str
        Source key.

    """
    plain = shifted(base, own)
    lines = ["families:"]
    for member, shifts in sorted(families.items()):
        entries = []
        for name, numbers in shifted(base, together(own, shifts)).items():
            if name in shifts or name.partition(".")[0] in shifts:
                value, low, high = (each / plain[name][0] for each in numbers)
                figures = f"value: {value:.4g}, low: {min(low, high):.4g}, high: {max(low, high):.4g}"
                entries.append(f"    {name}: {{{figures}, source: [{source}], confidence: derived}}")
        lines += [f"  {member}:", *entries] if entries else [f"  {member}: {{}}"]
    return lines


_FIXED = frozenset({"smoothness", "step_time_spread", "graph_tokens"})


def _entry(numbers: tuple[float, float, float], is_time: bool, source: str) -> str:
    text = [f"{float(f'{each * 1e6:.4g}'):g} us" if is_time else f"{float(f'{each:.4g}'):g}" for each in numbers]
    return f"{{value: {text[0]}, low: {text[1]}, high: {text[2]}, source: [{source}], confidence: derived}}"
