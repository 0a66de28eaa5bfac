"""Which worlds are looked at: quasi-random probabilities for every input, with the correlations that are stated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special
from scipy.stats import qmc

from sim.demand.streams import stream
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.inputs import Input, matching
from sim.specs.errors import InputError, Problem
from sim.specs.uncertainty import UncertaintySpec

Method = Literal["sobol", "latin_hypercube"]

_SMALLEST = 2.0**-53
_NEGATIVE = -1e-9


@dataclass(frozen=True, eq=False)
class Design:
    """Numbers of all inputs in all worlds."""

    inputs: tuple[Input, ...]
    """Drawn inputs, d."""

    samples: FloatArray
    """Numbers in the sampled worlds, shape (N, d)."""

    first: FloatArray
    """Numbers in the first worlds of the pairs that indices come from, shape (M, d)."""

    second: FloatArray
    """Numbers in the second worlds, shape (M, d)."""

    groups: tuple[str, ...]
    """Groups of inputs, G."""

    def mixed(self, group: str) -> FloatArray:
        """Return the first worlds with the second ones' numbers in one group, shape (M, d)."""
        chosen = np.array([each.group == group for each in self.inputs])
        return np.where(chosen[None, :], self.second, self.first)


def design(
    inputs: Sequence[Input], spec: UncertaintySpec, samples: int, pairs: int, seed: int, method: Method = "sobol"
) -> Design:
    """Return the worlds of a study.

    Numbers depend on the seed, the number of samples or pairs, and the inputs, never on who evaluates them.

    Parameters
    ----------
    inputs : sequence of Input
        All inputs; those that are not drawn are left out.
    spec : UncertaintySpec
        Correlations and tails.
    samples : int
        Worlds for quantiles.
    pairs : int
        Pairs of worlds for Sobol indices; 0 for none.
    seed : int
        Seed of the study.
    method : str
        Scrambled Sobol points, or a Latin hypercube.

    Raises
    ------
    InputError
        Correlations that contradict each other or tie groups together.

    """
    drawn = tuple(each for each in inputs if each.drawn)
    root = correlation_root(drawn, spec)
    count = len(drawn)

    def numbers(probability: FloatArray) -> FloatArray:
        correlated = _correlated(probability, root)
        tails = spec.tails.value
        return np.column_stack([each.at(correlated[:, column], tails) for column, each in enumerate(drawn)])

    plain = numbers(probabilities(samples, count, seed, "samples", method))
    both = probabilities(pairs, 2 * count, seed, "pairs", method)
    groups = tuple(dict.fromkeys(group for group in spec.groups if any(each.group == group for each in drawn)))
    return Design(drawn, plain, numbers(both[:, :count]), numbers(both[:, count:]), groups)


def probabilities(count: int, dimensions: int, seed: int, name: str, method: Method) -> FloatArray:
    """Return points that fill the unit cube evenly, shape (count, dimensions), from a named stream of the seed.

    Sources: scrambled Sobol points, Owen, Journal of Complexity 14 (1998); Latin hypercube, McKay et al., Technometrics
    21 (1979).
    """
    if count == 0:
        return np.zeros((0, dimensions))
    generator = stream(seed, "uncertainty", name)
    if method == "latin_hypercube":
        found = qmc.LatinHypercube(dimensions, rng=generator).random(count)
    else:
        power = max(0, math.ceil(math.log2(count)))
        found = qmc.Sobol(dimensions, scramble=True, rng=generator).random_base2(power)[:count]
    return np.clip(np.asarray(found, np.float64), _SMALLEST, 1.0 - _SMALLEST)


def correlation_root(inputs: Sequence[Input], spec: UncertaintySpec) -> FloatArray:
    """Return the Cholesky factor of the correlations of the normal scores, shape (d, d).

    Spearman's rho of two numbers with a Gaussian copula belongs to the correlation `2 sin(pi rho / 6)` of their scores
    (Pearson 1907). Where two statements name one pair, the first holds.

    Raises
    ------
    InputError
        Two groups tied together, or correlations that no numbers can have.

    """
    places = {each.name: position for position, each in enumerate(inputs)}
    matrix = np.eye(len(inputs))
    stated = np.eye(len(inputs), dtype=bool)
    problems: list[Problem] = []
    for rule in spec.correlations:
        ours = [(each, 1.0) for each in matching(inputs, rule.paths)]
        theirs = [(each, -1.0) for each in matching(inputs, rule.against)]
        named = [*ours, *((each, sign) for each, sign in theirs if all(each is not other for other, _ in ours))]
        groups = sorted({each.group for each, _ in named})
        if len(groups) > 1:
            problems.append(
                Problem(
                    "a correlation ties groups together, whose shares in the variance could not be told apart",
                    path="correlations", value=", ".join(rule.paths),
                    remedy=f"Put the numbers of {', '.join(groups)} into one group.",
                )
            )  # fmt: skip
            continue
        score = 2.0 * math.sin(math.pi * rule.rank / 6.0)
        for one, sign in named:
            for other, against in named:
                row, column = places[one.name], places[other.name]
                if not stated[row, column]:
                    matrix[row, column] = sign * against * score
                    stated[row, column] = True
    if problems:
        raise InputError(problems)
    smallest = float(np.linalg.eigvalsh(matrix).min()) if len(inputs) else 1.0
    if smallest < _NEGATIVE:
        raise InputError(
            [Problem("the correlations contradict each other", path="correlations",
                     remedy="Lower those of numbers that several entries name, or name each number in one entry.")]
        )  # fmt: skip
    positive = matrix + max(0.0, 1e-12 - smallest) * np.eye(len(inputs))
    return np.asarray(np.linalg.cholesky(positive), np.float64)


def _correlated(probability: FloatArray, root: FloatArray) -> FloatArray:
    """Return probabilities whose normal scores have the correlations; a row depends on that row alone."""
    beside = root - np.diag(np.diag(root))
    tied = beside.any(axis=0) | beside.any(axis=1)
    scores = special.ndtri(probability[:, tied])
    found = probability.copy()
    # Summed term by term, so that a row has the same bits whatever other rows there are.
    factor = root[np.ix_(tied, tied)]
    mixed = np.zeros_like(scores)
    for column in range(factor.shape[1]):
        mixed += scores[:, [column]] * factor[:, column][None, :]
    found[:, tied] = special.ndtr(mixed)
    return found
