"""Reasoning compression as a transform of the lengths of answers: T' = min(T, c T^b exp(s Z)).

An exponent above 1 means that easy prompts, whose answers are short, shrink by more. It is fitted across the means of
benchmarks or difficulty levels; that it holds from prompt to prompt is an assumption. Answers shorter than those of
the shortest benchmark shrink by the share of that one.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.lengths import LengthTable, length_table
from sim.specs.compression import CompressionPoint, CompressionSpec
from sim.specs.distributions import LengthDistribution, QuantileTableLengths
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.library import Library
from sim.specs.reading import read_yaml, validate
from sim.specs.spec import Confidence

FloatArray = npt.NDArray[np.float64]

FOLDER = "compression"
"""Folder of the library that holds the methods."""

_NODES = 15


class PowerLaw(NamedTuple):
    """T' = min(T, coefficient x T^exponent x exp(spread x Z)), Z standard normal."""

    coefficient: float
    """c [tokens^(1 - b)]."""

    exponent: float
    """b, the elasticity of the new length in the old one [1]."""

    spread: float = 0.0
    """s, standard deviation of the logarithm from prompt to prompt [1]."""

    measured_from: float = 0.0
    """Shortest length that was measured; shorter ones shrink by the share that this one does [tokens]."""

    def at(self, tokens: npt.ArrayLike) -> FloatArray:
        """Return the new length at the median of the spread [tokens]."""
        old = np.asarray(tokens, dtype=np.float64)
        at_least = np.maximum(old, self.measured_from)
        return np.minimum(old, self.coefficient * at_least**self.exponent * old / np.maximum(at_least, 1e-300))

    def before(self, tokens: FloatArray) -> FloatArray:
        """Return the length that becomes so long without the bound by the old one: the inverse of c T^b [tokens]."""
        long = (tokens / self.coefficient) ** (1.0 / self.exponent)
        if self.measured_from <= 0.0:
            return long
        return np.where(long >= self.measured_from, long,
                        tokens / (self.coefficient * self.measured_from ** (self.exponent - 1.0)))  # fmt: skip


def load_compression(library: Library, name: str) -> CompressionSpec:
    """Return a method of the library; InputError when it is missing or invalid."""
    found: dict[str, Path] = {}
    for root in library.roots:
        for path in sorted((root / FOLDER).glob("*.yaml")):
            found.setdefault(path.stem, path)
    if name not in found:
        raise InputError([Problem("there is no compression of this name", value=name, remedy=suggest(name, found))])
    return validate(read_yaml(found[name]), CompressionSpec)


def fitted_power_law(
    spec: CompressionSpec, base: str | None = None, benchmarks: Collection[str] = (), spread: float = 0.0
) -> PowerLaw:
    """Return the power law through the measured means of one model, by least squares in the logarithms.

    Parameters
    ----------
    spec : CompressionSpec
        The method.
    base : str, optional
        Model; none takes the first one that has measured lengths.
    benchmarks : collection of str
        Benchmarks to fit; none takes all. Answers of one length shrink by less where they are about knowledge than in
        mathematics, so a fit over both is flatter than either.
    spread : float
        Standard deviation of the logarithm from prompt to prompt [1]; not measured, so the caller's assumption.

    Raises
    ------
    ValueError
        The method shortens nothing, or the model has no measured lengths. With one point the exponent is 1.

    """
    if not spec.shortens:
        raise ValueError(f"{spec.name} does not shorten a given model: {spec.title}")
    measured = [
        point for point in spec.points
        if point.tokens_before is not None and base in (None, point.base)
        and (not benchmarks or point.benchmark in benchmarks)
    ]  # fmt: skip
    if not measured:
        raise ValueError(f"{spec.name} has no measured lengths for {base or 'any model'}; known: {spec.bases}")
    mine = [point for point in measured if point.base == measured[0].base]
    before, after = (np.log([getattr(point, name) for point in mine]) for name in ("tokens_before", "tokens_after"))
    exponent = 1.0
    if np.unique(before).size > 1:
        centred = before - before.mean()
        exponent = float(centred @ (after - after.mean()) / (centred @ centred))
    shortest = math.exp(float(before.min()))
    return PowerLaw(math.exp(float(after.mean() - exponent * before.mean())), exponent, spread, shortest)


def compressed_lengths(lengths: LengthDistribution, law: PowerLaw, adoption: float = 1.0) -> QuantileTableLengths:
    """Return the distribution of answers of which a share is compressed.

    P(T' <= n) = (1 - a) F(n) + a E[F(max(n, (n exp(-s Z) / c)^(1/b)))], the expectation by Gauss-Hermite quadrature;
    tabulated at 400 probabilities.

    Parameters
    ----------
    lengths : LengthDistribution
        Answers before, of cdf F.
    law : PowerLaw
        The transform; its exponent must exceed 0.
    adoption : float
        Share a of the requests that are compressed, in [0, 1].

    Raises
    ------
    ValueError
        Adoption outside [0, 1] or an exponent that is not positive.

    """
    if not 0.0 <= adoption <= 1.0:
        raise ValueError(f"adoption lies in [0, 1], got {adoption}")
    if not law.exponent > 0.0:
        raise ValueError(f"the exponent must exceed 0, got {law.exponent}")
    table = length_table(lengths)
    longest = table.minimum + table.cumulative.size - 1
    tokens = np.unique(np.rint(np.geomspace(1.0, longest, 4000)))
    before = _cdf(table, tokens)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    after = np.zeros_like(before)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        # lengths that the law brings down to at most `tokens`; a whole result counts as reached
        origin = law.before((tokens + 0.5) * math.exp(-law.spread * node))
        after += weight * _cdf(table, np.maximum(tokens, np.floor(origin)))
    reached = (1.0 - adoption) * before + adoption * after
    first = max(int(np.searchsorted(reached, 0.0, side="right")) - 1, 0)
    knots = {0.0: float(tokens[first]), 1.0: float(longest)}
    wanted = np.searchsorted(reached, np.arange(1, 400) / 400.0, side="left")
    ends = np.searchsorted(reached, [0.999, 0.9999, 1.0 - 1e-12], side="left")
    for place in np.unique(np.append(wanted, ends)):
        knots[round(min(float(reached[place]), 1.0), 9)] = float(tokens[place])
    return QuantileTableLengths(
        distribution="quantile_table",
        quantiles={probability: f"{value:.0f} tokens" for probability, value in sorted(knots.items())},
        source=lengths.source,
        confidence=Confidence.ASSUMPTION if "assumption" in lengths.source else Confidence.DERIVED,
        note=f"T' = {law.coefficient:.4g} T^{law.exponent:.3f} for {adoption:.0%} of the answers.",
    )


def accuracy_change(spec: CompressionSpec, tokens: float, base: str | None = None) -> float | None:
    """Return the change of accuracy for prompts of some difficulty, told by the length of their answers before.

    Straight lines in the logarithm of the length between the measured benchmarks of one model, constant beyond them.

    Parameters
    ----------
    spec : CompressionSpec
        The method.
    tokens : float
        Mean answer before [tokens].
    base : str, optional
        Model; none takes the first one with accuracies.

    Returns
    -------
    float or None
        Difference of the shares of right answers [1]; none where none is published.

    """
    known = [
        (math.log(point.tokens_before), point.accuracy_after - point.accuracy_before)
        for point in _of_one(spec, base)
        if point.tokens_before and point.accuracy_after is not None and point.accuracy_before is not None
    ]
    if not known:
        return None
    lengths, changes = (np.array(column) for column in zip(*sorted(known), strict=True))
    return float(np.interp(math.log(tokens), lengths, changes))


def _of_one(spec: CompressionSpec, base: str | None) -> list[CompressionPoint]:
    complete = [
        point for point in spec.points
        if point.tokens_before is not None and point.accuracy_before is not None and base in (None, point.base)
    ]  # fmt: skip
    return [point for point in complete if point.base == complete[0].base]


def _cdf(table: LengthTable, tokens: FloatArray) -> FloatArray:
    index = np.floor(tokens) - table.minimum
    inside = np.clip(index, 0, table.cumulative.size - 1).astype(np.int64)
    return np.where(index < 0, 0.0, table.cumulative[inside])
