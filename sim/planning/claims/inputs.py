"""Inputs of a study as samples: ranges, lists, numbers of the library, measured compression and recorded prices."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from sim.demand.compression import FOLDER, fitted_power_law, load_compression
from sim.planning.claims.formula import FloatArray
from sim.planning.months import DAYS_PER_YEAR
from sim.specs.claim_inputs import (
    CompressionInput,
    CoverageInput,
    CurveInput,
    InputSpec,
    LibraryInput,
    ListInput,
    RangeInput,
    RecordsInput,
)
from sim.specs.errors import InputError, Problem
from sim.specs.horizon import HorizonSpec
from sim.specs.library import KINDS, Library

SAMPLES = 2048
"""Points of a study: Sobol's sequence, in which no chance is involved."""


@dataclass(frozen=True)
class Marginal:
    """The distribution of one input by its knots."""

    knots: tuple[float, ...]
    """Low, median and high, or values that are equally likely."""

    unit: str
    """Unit, `1` for a ratio or share."""

    log: bool = False
    """Whether it is even in the logarithm between knots."""

    discrete: bool = False
    """Whether only the knots themselves occur."""

    measurement: str = ""
    """What would have to be measured, where nothing has been."""

    def at(self, probability: FloatArray) -> FloatArray:
        """Return quantiles."""
        knots = np.asarray(self.knots, np.float64)
        if self.discrete:
            return np.asarray(knots[np.minimum((probability * knots.size).astype(np.int64), knots.size - 1)])
        ends = np.log(knots) if self.log else knots
        drawn = np.interp(probability, np.linspace(0.0, 1.0, knots.size), ends)
        return np.asarray(np.exp(drawn) if self.log else drawn)

    @property
    def median(self) -> float:
        """Return the median."""
        return float(self.at(np.array([0.5]))[0])


def marginals(inputs: Mapping[str, InputSpec], library: Library) -> dict[str, Marginal]:
    """Return the distribution of each input; InputError with all that cannot be found."""
    found: dict[str, Marginal] = {}
    problems: list[Problem] = []
    for name, spec in inputs.items():
        try:
            found[name] = _marginal(spec, library)
        except InputError as error:
            problems += [Problem(each.message, each.file, f"inputs.{name}", each.value, each.remedy)
                         for each in error.problems]  # fmt: skip
    if problems:
        raise InputError(problems)
    return found


def sampled(distributions: Mapping[str, Marginal], count: int = SAMPLES) -> dict[str, FloatArray]:
    """Return samples of independent inputs, each of shape (count,).

    Points are those of Sobol's sequence without scrambling, moved to the middle of their cells: the same for the same
    inputs, whatever else is computed.

    Source: Sobol', USSR Computational Mathematics and Mathematical Physics 7 (1967); directions of Joe and Kuo (2008)
    as in scipy.stats.qmc.

    """
    if not distributions:
        return {}
    points = qmc.Sobol(len(distributions), scramble=False).random(count) + 0.5 / count
    return {name: each.at(points[:, column]) for column, (name, each) in enumerate(distributions.items())}


def _marginal(spec: InputSpec, library: Library) -> Marginal:
    if isinstance(spec, RangeInput):
        return Marginal((spec.low, spec.value, spec.high), spec.unit, spec.log, measurement=spec.measurement)
    if isinstance(spec, ListInput):
        return Marginal(tuple(spec.values), spec.unit, discrete=True, measurement=spec.measurement)
    if isinstance(spec, LibraryInput):
        return _of_library(spec, library)
    if isinstance(spec, CompressionInput):
        return _of_compression(spec, library)
    if isinstance(spec, CurveInput):
        return _of_curve(spec, library)
    if isinstance(spec, CoverageInput):
        return _of_coverage(spec, library)
    return _of_records(spec, library)


def _of_library(spec: LibraryInput, library: Library) -> Marginal:
    kind, _, name = spec.document.partition("/")
    if kind not in KINDS:
        raise InputError([Problem("unknown kind of document", value=kind)])
    here: Any = library.load(kind, name).spec
    for key in spec.path.split("."):
        try:
            if isinstance(here, Mapping):
                here = next(each for known, each in here.items() if str(known) == key)
            else:
                here = here[int(key)] if key.isdigit() else getattr(here, key)
        except (AttributeError, IndexError, TypeError, StopIteration):
            raise InputError([Problem(f"{spec.document} has no number at this path", value=spec.path)]) from None
    value = getattr(here, "value", here)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError([Problem(f"{spec.document} has no number at this path", value=spec.path)])
    low, high = getattr(here, "low", None), getattr(here, "high", None)
    ends = (value if low is None else low, value, value if high is None else high)
    return Marginal(tuple(spec.times * float(each) for each in ends), spec.unit, measurement=spec.measurement)


def _of_compression(spec: CompressionInput, library: Library) -> Marginal:
    method = load_compression(library, spec.method)
    points = [each for each in method.points
              if (not spec.bases or each.base in spec.bases)
              and (not spec.benchmarks or each.benchmark in spec.benchmarks)]  # fmt: skip
    if spec.figure == "reduction":
        values = [each.reduction for each in points]
    elif spec.figure == "accuracy_change":
        values = [
            each.accuracy_after - each.accuracy_before
            for each in points
            if each.accuracy_after is not None and each.accuracy_before is not None
        ]
    else:
        bases = dict.fromkeys(each.base for each in points if each.tokens_before is not None)
        values = [fitted_power_law(method, base, spec.benchmarks).exponent for base in bases]
    if not values:
        raise InputError([Problem(f"{spec.method} has no {spec.figure} of these models and benchmarks")])
    return Marginal(tuple(sorted(values)), "1", discrete=True)


def _of_curve(spec: CurveInput, library: Library) -> Marginal:
    curves: dict[tuple[str, str], dict[float, float]] = {}
    for method in spec.methods:
        for each in load_compression(library, method).points:
            if (spec.bases and each.base not in spec.bases) or (
                spec.benchmarks and each.benchmark not in spec.benchmarks
            ):
                continue
            for tokens, right in ((each.tokens_before, each.accuracy_before), (each.tokens_after, each.accuracy_after)):
                if tokens is not None and right is not None:
                    curves.setdefault((each.base, each.benchmark), {})[tokens] = right
    values: list[float] = []
    for curve in curves.values():
        lengths, shares = (np.array(column) for column in zip(*sorted(curve.items()), strict=True))
        gain = 100.0 * np.diff(shares)
        slope = gain / np.diff(lengths) * 1000.0
        values += list({"gain": gain, "slope": slope, "flattening": -np.diff(slope)}[spec.figure])
    if not values:
        raise InputError([Problem(f"no curve has a {spec.figure} of these models and benchmarks")])
    unit = "points" if spec.figure == "gain" else "points per 1,000 tokens"
    return Marginal(tuple(sorted(map(float, values))), unit, discrete=True)


def _of_coverage(spec: CoverageInput, library: Library) -> Marginal:
    names = {path.stem for root in library.roots for path in (root / FOLDER).glob("*.yaml")}
    points = [
        each
        for name in sorted(names)
        if (method := load_compression(library, name)).shortens
        for each in method.points
    ]  # fmt: skip
    outside = [
        each for each in points
        if (spec.models and not each.base.lower().startswith(spec.models))
        or (spec.benchmarks and not each.benchmark.lower().startswith(spec.benchmarks))
    ]  # fmt: skip
    if not points:
        raise InputError([Problem("the library holds no measured compression")])
    return Marginal((len(outside) / len(points),), "1", discrete=True)


def _of_records(spec: RecordsInput, library: Library) -> Marginal:
    horizon: HorizonSpec = library.load("horizon", spec.horizon).spec
    ratios = []
    for series in spec.series:
        records = sorted((each for each in horizon.records if each.series == series), key=lambda each: each.date)
        for before, after in itertools.pairwise(records):
            years = (after.date - before.date).days / DAYS_PER_YEAR
            ratios.append((after.value / before.value) ** (1.0 / years if spec.yearly else 1.0))
    if not ratios:
        raise InputError([Problem(f"{spec.horizon} has no two records of these series", value=", ".join(spec.series))])
    return Marginal(tuple(sorted(ratios)), "1", discrete=True)
