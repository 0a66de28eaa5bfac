"""How the ranges of a horizon's numbers are read: their distributions, what moves together, and what is not drawn."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.spec import Document, Key, Number, PositiveFraction, PositiveNumber, Provenance, Sourced, Spec

ShapeName = Literal["two_piece_lognormal", "two_piece_normal", "pert", "triangular", "uniform"]
QUANTILE_SHAPES: tuple[ShapeName, ...] = ("two_piece_lognormal", "two_piece_normal")
"""Shapes whose low and high are quantiles; those of the others are the ends."""

Patterns = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1)]
"""Paths of numbers, as in `hardware.*.prices.capex`; `*` stands for any run of characters, dots included."""


class DistributionSpec(Provenance):
    """How the numbers of some paths are distributed; the first entry that names a path holds for it."""

    paths: Patterns
    """Which numbers."""

    shape: ShapeName
    """Form; of a two-piece one, low and high are quantiles around the value, of the others they are the ends."""

    interval: PositiveFraction | None = None
    """Probability between low and high of a two-piece form [1]; none means that of the document."""

    @model_validator(mode="after")
    def _ends_have_no_interval(self) -> Self:
        if self.interval is not None and self.shape not in QUANTILE_SHAPES:
            raise ValueError(f"low and high of {self.shape} are its ends: leave out interval")
        if self.interval is not None and self.interval >= 1.0:
            raise ValueError("an interval of a form without ends is below 1")
        return self


class RangeSpec(Provenance):
    """A range for numbers to which the data gives none: a factor on them, 1 being the number as it stands."""

    paths: Patterns
    """Which numbers: of paths over time all points together, of lengths all requests together."""

    how: Literal["factor", "progress"]
    """`factor` multiplies; `progress` multiplies what a path gains after the start of planning."""

    low: Annotated[Number, Field(ge=0.0)]
    """Lower factor [1]."""

    high: PositiveNumber
    """Upper factor [1]."""

    @model_validator(mode="after")
    def _around_one(self) -> Self:
        if not self.low <= 1.0 <= self.high:
            raise ValueError("a factor is 1 where nothing changes: low must not exceed 1, nor high be below it")
        return self


class NotDrawnSpec(Spec):
    """Ranges that are no uncertainty of the plan, and why."""

    paths: Patterns
    """Which numbers."""

    reason: Annotated[str, Field(min_length=1)]
    """Why they keep their values, such as that they are a choice."""


class CorrelationSpec(Provenance):
    """Numbers that tend to be high together."""

    paths: Patterns
    """Which numbers; each pair of them is correlated."""

    against: tuple[str, ...] = ()
    """Numbers that tend to be low when these are high, and high together with each other."""

    rank: Annotated[Number, Field(gt=0.0, lt=1.0)]
    """Spearman rank correlation of each pair [1]; its negative between `paths` and `against`."""


class UncertaintySpec(Document):
    """How uncertain the numbers of a horizon are."""

    kind: Literal["uncertainty"]
    """Says what the file describes."""

    interval: Sourced[PositiveFraction]
    """Probability that a number lies between its low and high, where no distribution says otherwise [1]."""

    tails: Sourced[PositiveFraction]
    """Probability beyond which both tails are cut, each [1]; a quantile below it is taken to be at it."""

    distributions: tuple[DistributionSpec, ...] = ()
    """Forms by path; else two-piece log-normal where a number and its range exceed 0, two-piece normal elsewhere."""

    ranges: tuple[RangeSpec, ...] = ()
    """Ranges for numbers that have none in the data."""

    not_drawn: tuple[NotDrawnSpec, ...] = ()
    """Ranges that are not drawn."""

    groups: Annotated[dict[Key, Patterns], Field(min_length=1)]
    """Groups of numbers whose share in the variance is asked for; the first that names a path holds for it."""

    correlations: tuple[CorrelationSpec, ...] = ()
    """What moves together; only numbers of one group may."""

    unserved_price: Sourced[PositiveNumber]
    """What demand costs that nothing serves in one representative hour, over the rent by the shortest term that would
    serve it that month [1]."""

    quantile_tolerance: Sourced[PositiveFraction]
    """Widest interval of a quantile over the distance from P10 to P90 at which samples are called enough [1]; on the
    logarithm of numbers that exceed 0."""

    index_tolerance: Sourced[PositiveFraction]
    """Widest half-interval of a Sobol index at which its samples are called enough [1]."""

    @model_validator(mode="after")
    def _tails_leave_the_interval(self) -> Self:
        if not self.tails.value < 0.5 * (1.0 - self.interval.value):
            raise ValueError("tails must be smaller than what lies beyond each end of the interval")
        return self
