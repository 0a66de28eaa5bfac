"""How long a model answers: its measured lengths on a task, or a workload's lengths scaled by a measured ratio."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import special

from sim.demand.lengths import length_quantile, length_table, mean_length
from sim.specs.distributions import (
    LONGEST_LENGTH,
    LengthDistribution,
    LengthPart,
    PlainLengths,
    QuantileTableLengths,
    TypeMixtureLengths,
)
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.model import ModelSpec, OutputLengthSpec
from sim.specs.spec import Confidence
from sim.specs.workload import WorkloadSpec

_END = 1e-4


def answer_lengths(model: ModelSpec, task: str) -> QuantileTableLengths:
    """Return the measured lengths of a model's answers on a task as a distribution.

    The published quantiles are joined as those of any table; the shortest and longest length are those at
    probabilities of 0.0001 and 0.9999 on the straight line, in logarithm of length against normal score, through the
    two outermost quantiles of each side, and not beyond the cap of the measurement.

    Parameters
    ----------
    model : ModelSpec
        Model with `output_lengths`.
    task : str
        Key of `output_lengths`.

    Raises
    ------
    InputError
        The model has no such task, or fewer than two quantiles of different length.

    """
    known = model.output_lengths
    if task not in known:
        remedy = suggest(task, known) if known else "This model has no measured output lengths."
        raise InputError([Problem("has no output lengths for this task", model.name, "output_lengths", task, remedy)])
    return _table(known[task])


def _table(measured: OutputLengthSpec) -> QuantileTableLengths:
    inside = {probability: tokens for probability, tokens in measured.quantiles.items() if 0.0 < probability < 1.0}
    probabilities = sorted(inside)
    cap = measured.cap if measured.cap is not None else float(LONGEST_LENGTH)
    shortest = measured.quantiles.get(0.0) or _beyond(inside, probabilities[:2], _END, cap)
    longest = measured.quantiles.get(1.0) or _beyond(inside, probabilities[-2:], 1.0 - _END, cap)
    knots = {0.0: min(shortest, inside[probabilities[0]]), **inside, 1.0: max(longest, inside[probabilities[-1]])}
    return QuantileTableLengths(
        distribution="quantile_table",
        quantiles={probability: f"{max(tokens, 1.0):.6g} tokens" for probability, tokens in knots.items()},
        source=measured.source,
        confidence=measured.confidence,
        note=f"{measured.task}; {measured.censored:.0%} of the answers were cut at the cap. Ends extrapolated.",
    )


def _beyond(quantiles: dict[float, float], two: list[float], probability: float, cap: float) -> float:
    low, high = (float(special.ndtri(each)) for each in (two[0], two[-1]))
    first, last = (math.log(quantiles[each]) for each in (two[0], two[-1]))
    if high == low:
        return quantiles[two[0]]
    slope = (last - first) / (high - low)
    at = first + slope * (float(special.ndtri(probability)) - low)
    return float(np.clip(round(math.exp(min(at, math.log(cap)))), 1.0, cap))


def answer_ratio(model: ModelSpec, reference: ModelSpec, task: str, suffix: str = "") -> float:
    """Return how many times longer a model's median answer is than another one's on the same task [1].

    A suffix is that of a mode of the first model's answers.

    Medians, for means are cut where a measurement caps its answers.

    Raises
    ------
    InputError
        One of the models lacks the task.

    """
    measured = (answer_lengths(model, task + suffix), answer_lengths(reference, task))
    medians = [float(length_quantile(lengths, 0.5)) for lengths in measured]
    return medians[0] / medians[1]


class ModelAnswers(NamedTuple):
    """How long a model answers a workload."""

    lengths: LengthDistribution
    """Answers of the workload by this model."""

    ratio: float
    """Mean over that of the workload as described [1]."""

    tasks: tuple[str, ...]
    """Tasks of the workload on which both models are measured; none where the lengths stay as described."""


def answers_of(
    workload: WorkloadSpec, model: ModelSpec, reference: ModelSpec | None, effort: str | None = None
) -> ModelAnswers:
    """Return the answers of a workload by a model.

    With the form `ratio` the lengths are those of the workload times exp(sum of w log r), where r are the ratios of the
    medians on the tasks and w their weights; with `distribution` they are those of the model, mixed by the weights.
    Tasks that are not measured of both models are left out, and where none is left nothing changes.

    Parameters
    ----------
    workload : WorkloadSpec
        What is asked.
    model : ModelSpec
        Model that answers.
    reference : ModelSpec or None
        Model whose answers the workload describes; none where it names none.
    effort : str, optional
        Mode of the model's answers; its lengths on a task are those of `TASK-EFFORT`.

    Raises
    ------
    InputError
        An effort that is not measured on any task, or of a workload that states no tasks.

    """
    unchanged = ModelAnswers(workload.output_tokens, 1.0, ())
    suffix = "" if effort is None else f"-{effort}"
    if workload.answers is None or reference is None:
        if effort is not None:
            remedy = "State `answers` in the workload, or leave out effort."
            raise InputError([Problem("an effort needs tasks", workload.name, "answers", effort, remedy)])
        return unchanged
    if model.name == reference.name and effort is None:
        return unchanged
    weights = {
        task: weight
        for task, weight in workload.answers.tasks.items()
        if task + suffix in model.output_lengths and task in reference.output_lengths
    }
    if not weights:
        if effort is not None:
            known = ", ".join(model.output_lengths) or "nothing"
            message = f"has no output lengths of {', '.join(task + suffix for task in workload.answers.tasks)}"
            raise InputError([Problem(message, model.name, "output_lengths", effort, f"Measured are {known}.")])
        return unchanged
    total = sum(weights.values())
    if workload.answers.form == "distribution":
        lengths: LengthDistribution = TypeMixtureLengths(
            distribution="types",
            types={
                task: LengthPart(share=weight / total, lengths=answer_lengths(model, task + suffix))
                for task, weight in weights.items()
            },
            source=workload.answers.source,
            confidence=workload.answers.confidence,
        )
        return ModelAnswers(lengths, mean_length(lengths) / mean_length(workload.output_tokens), tuple(weights))
    logarithm = sum(
        weight / total * math.log(answer_ratio(model, reference, task, suffix)) for task, weight in weights.items()
    )
    ratio = math.exp(logarithm)
    return ModelAnswers(mapped_lengths(workload.output_tokens, lambda part: scaled_lengths(part, ratio)), ratio,
                        tuple(weights))  # fmt: skip


def mapped_lengths(lengths: LengthDistribution, change: Callable[[PlainLengths], PlainLengths]) -> LengthDistribution:
    """Return lengths that are changed; of types, those of each."""
    if not isinstance(lengths, TypeMixtureLengths):
        return change(lengths)
    types = {name: part.model_copy(update={"lengths": change(part.lengths)}) for name, part in lengths.types.items()}
    return lengths.model_copy(update={"types": types})


def scaled_lengths(lengths: LengthDistribution, ratio: float) -> QuantileTableLengths:
    """Return lengths times a ratio, rounded to whole tokens and at least 1; its table has 200 probabilities.

    Parameters
    ----------
    lengths : LengthDistribution
        Lengths of the workload.
    ratio : float
        Factor, above 0 [1].

    Raises
    ------
    ValueError
        The ratio is not finite and above 0.

    """
    if not (math.isfinite(ratio) and ratio > 0.0):
        raise ValueError(f"ratio must be finite and above 0, got {ratio}")
    table = length_table(lengths)
    longest = table.minimum + table.cumulative.size - 1
    even = np.append(np.arange(1, 200) / 200.0, [0.999, 0.9999])
    places = np.unique(np.searchsorted(table.cumulative, even, side="left"))
    knots = {0.0: float(table.minimum), 1.0: float(longest)}
    knots |= {float(table.cumulative[place]): float(table.minimum + place) for place in places if place > 0}
    knots[1.0] = float(longest)
    return QuantileTableLengths(
        distribution="quantile_table",
        quantiles={
            probability: f"{max(round(tokens * ratio), 1)} tokens" for probability, tokens in sorted(knots.items())
        },
        source=lengths.source,
        confidence=Confidence.ASSUMPTION if "assumption" in lengths.source else Confidence.DERIVED,
        note=f"Lengths times {ratio:.4g}.",
    )
