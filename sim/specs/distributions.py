"""Distributions that YAML describes: lengths in tokens, durations in seconds, and counts."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sim.specs.spec import Fraction, Key, PositiveFraction, PositiveInteger, PositiveNumber, Provenance, Spec
from sim.specs.units import TOKENS, Seconds, Tokens

LONGEST_LENGTH = 10_000_000
"""Longest prompt or output that a distribution may hold [tokens]; its cdf is a table over whole tokens."""

MOST_CALLS = 100_000
"""Most calls that a session may have."""

PositiveKey = Annotated[int, Field(ge=1, le=MOST_CALLS)]


def _whole(tokens: float) -> int:
    if abs(tokens - round(tokens)) > 1e-6 or not 1 <= round(tokens) <= LONGEST_LENGTH:
        raise ValueError(f"write a whole number of tokens from 1 to {LONGEST_LENGTH}")
    return round(tokens)


WholeTokens = Annotated[int, TOKENS, AfterValidator(_whole)]


class QuantileTableLengths(Provenance):
    """Lengths by their measured quantiles; straight lines in the logarithm of tokens between them."""

    distribution: Literal["quantile_table"]
    """Says which distribution it is."""

    quantiles: dict[Fraction, Tokens]
    """Probability -> tokens; 0 is the shortest and 1 the longest length, a repeated length is an atom."""

    @property
    def knots(self) -> tuple[tuple[float, float], ...]:
        """Return (probability, tokens) in order of probability."""
        return tuple(sorted(self.quantiles.items()))

    @model_validator(mode="after")
    def _table_is_a_distribution(self) -> Self:
        missing = [name for name in (0.0, 1.0) if name not in self.quantiles]
        if missing:
            raise ValueError("quantiles need the entries 0 (shortest length) and 1 (longest length)")
        lengths = [tokens for _, tokens in self.knots]
        if any(later < earlier for earlier, later in itertools.pairwise(lengths)):
            raise ValueError("quantiles must not fall with the probability")
        if not 1.0 <= lengths[0] <= lengths[-1] <= LONGEST_LENGTH:
            raise ValueError(f"lengths run from 1 to {LONGEST_LENGTH} tokens")
        return self


class LognormalComponent(Spec):
    """One log-normal of a mixture."""

    weight: PositiveFraction
    """Share of the requests before truncation [1]."""

    mu: float
    """Mean of the natural logarithm of tokens."""

    sigma: PositiveNumber
    """Standard deviation of the natural logarithm of tokens."""


def _check_weights(components: tuple[LognormalComponent, ...]) -> None:
    total = sum(component.weight for component in components)
    if abs(total - 1.0) > 0.01:
        raise ValueError(f"weights must sum to 1 (within 1%), they sum to {total:g}")


class TruncatedLengths(Provenance):
    """What the parametric distributions share: the shortest and longest length, both possible."""

    minimum: WholeTokens
    """Shortest length [tokens]."""

    maximum: WholeTokens
    """Longest length [tokens]."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum cannot exceed maximum")
        return self


class LognormalMixtureLengths(TruncatedLengths):
    """Lengths from a mixture of log-normals, truncated."""

    distribution: Literal["lognormal_mixture"]
    """Says which distribution it is."""

    components: Annotated[tuple[LognormalComponent, ...], Field(min_length=1)]
    """The mixed log-normals; rounded weights are normalised to sum to one."""

    @model_validator(mode="after")
    def _weights_sum_to_one(self) -> Self:
        _check_weights(self.components)
        return self


class GammaLengths(TruncatedLengths):
    """Lengths from a gamma distribution, truncated."""

    distribution: Literal["gamma"]
    """Says which distribution it is."""

    shape: PositiveNumber
    """Shape [1]."""

    scale: Tokens
    """Scale [tokens]; the mean before truncation is shape x scale."""

    @model_validator(mode="after")
    def _scale_is_positive(self) -> Self:
        if self.scale <= 0.0:
            raise ValueError("scale must exceed 0 tokens")
        return self


class FixedLengths(Provenance):
    """One length for every request."""

    distribution: Literal["fixed"]
    """Says which distribution it is."""

    tokens: WholeTokens
    """Length of every request [tokens]."""


PlainLengths = Annotated[
    QuantileTableLengths | LognormalMixtureLengths | GammaLengths | FixedLengths,
    Field(discriminator="distribution"),
]


class LengthPart(Spec):
    """The lengths of one type of requests."""

    share: PositiveFraction
    """Share of the requests that are of this type [1]."""

    lengths: PlainLengths
    """Their lengths."""


class TypeMixtureLengths(Provenance):
    """Lengths of several types of requests, as of documents; prompts and answers of the same types go together."""

    distribution: Literal["types"]
    """Says which distribution it is."""

    types: Annotated[dict[Key, LengthPart], Field(min_length=1)]
    """Type -> its share and its lengths; rounded shares are normalised to sum to one."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = sum(part.share for part in self.types.values())
        if abs(total - 1.0) > 0.01:
            raise ValueError(f"shares of the types must sum to 1 (within 1%), they sum to {total:g}")
        return self


LengthDistribution = Annotated[
    QuantileTableLengths | LognormalMixtureLengths | GammaLengths | FixedLengths | TypeMixtureLengths,
    Field(discriminator="distribution"),
]


class QuantileTableDurations(Provenance):
    """Durations by their measured quantiles; straight lines in the logarithm of seconds between them."""

    distribution: Literal["quantile_table"]
    """Says which distribution it is."""

    quantiles: dict[Fraction, Seconds]
    """Probability -> duration; 0 is the shortest and 1 the longest."""

    @property
    def knots(self) -> tuple[tuple[float, float], ...]:
        """Return (probability, seconds) in order of probability."""
        return tuple(sorted(self.quantiles.items()))

    @model_validator(mode="after")
    def _table_is_a_distribution(self) -> Self:
        if 0.0 not in self.quantiles or 1.0 not in self.quantiles:
            raise ValueError("quantiles need the entries 0 (shortest duration) and 1 (longest duration)")
        durations = [seconds for _, seconds in self.knots]
        if any(later < earlier for earlier, later in itertools.pairwise(durations)):
            raise ValueError("quantiles must not fall with the probability")
        if durations[0] <= 0.0:
            raise ValueError("durations must exceed 0 s")
        return self


class LognormalMixtureDurations(Provenance):
    """Durations from a mixture of log-normals, truncated."""

    distribution: Literal["lognormal_mixture"]
    """Says which distribution it is."""

    components: Annotated[tuple[LognormalComponent, ...], Field(min_length=1)]
    """The mixed log-normals, of seconds; rounded weights are normalised to sum to one."""

    minimum: Seconds
    """Shortest duration [s]."""

    maximum: Seconds
    """Longest duration [s]."""

    @model_validator(mode="after")
    def _is_a_distribution(self) -> Self:
        _check_weights(self.components)
        if not 0.0 < self.minimum < self.maximum:
            raise ValueError("minimum must exceed 0 s and be below maximum")
        return self


class FixedDuration(Provenance):
    """One duration for all."""

    distribution: Literal["fixed"]
    """Says which distribution it is."""

    duration: Seconds
    """The duration [s]."""


DurationDistribution = Annotated[
    QuantileTableDurations | LognormalMixtureDurations | FixedDuration, Field(discriminator="distribution")
]


class WeibullCounts(Provenance):
    """Whole numbers from a Weibull distribution, rounded up and truncated."""

    distribution: Literal["weibull"]
    """Says which distribution it is."""

    shape: PositiveNumber
    """Shape [1]."""

    scale: PositiveNumber
    """Scale [1]."""

    minimum: PositiveInteger = 1
    """Smallest number."""

    maximum: Annotated[PositiveInteger, Field(le=MOST_CALLS)]
    """Largest number."""

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum cannot exceed maximum")
        return self


class ShareCounts(Provenance):
    """Whole numbers by their shares."""

    distribution: Literal["shares"]
    """Says which distribution it is."""

    shares: Annotated[dict[PositiveKey, PositiveFraction], Field(min_length=1)]
    """Number -> share; rounded shares are normalised to sum to one."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1.0) > 0.01:
            raise ValueError(f"shares must sum to 1 (within 1%), they sum to {total:g}")
        return self


CountDistribution = Annotated[WeibullCounts | ShareCounts, Field(discriminator="distribution")]
