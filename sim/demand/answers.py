"""How long a model answers: its measured lengths on a task, or a workload's lengths scaled by a measured ratio."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from sim.demand.lengths import length_quantile, length_table
from sim.specs.distributions import LONGEST_LENGTH, LengthDistribution, QuantileTableLengths
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.model import ModelSpec, OutputLengthSpec
from sim.specs.spec import Confidence

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


def answer_ratio(model: ModelSpec, reference: ModelSpec, task: str) -> float:
    """Return how many times longer a model's median answer is than another one's on the same task [1].

    Medians, for means are cut where a measurement caps its answers.

    Raises
    ------
    InputError
        One of the models lacks the task.

    """
    medians = [float(length_quantile(answer_lengths(each, task), 0.5)) for each in (model, reference)]
    return medians[0] / medians[1]


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
