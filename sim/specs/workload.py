"""Who asks: how requests of one kind arrive, how long they are, and what their users expect."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sim.specs.spec import (
    Document,
    Fraction,
    Key,
    PositiveFraction,
    PositiveNumber,
    Provenance,
    Sourced,
    Spec,
)
from sim.specs.units import TOKENS, RequestsPerSecond, Seconds, Tokens

HOURS_PER_DAY = 24
"""Entries of a profile."""

LONGEST_LENGTH = 10_000_000
"""Longest prompt or output that a distribution may hold [tokens]; its cdf is a table over whole tokens."""


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
        total = sum(component.weight for component in self.components)
        if abs(total - 1.0) > 0.01:
            raise ValueError(f"weights must sum to 1 (within 1%), they sum to {total:g}")
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


LengthDistribution = Annotated[
    QuantileTableLengths | LognormalMixtureLengths | GammaLengths | FixedLengths,
    Field(discriminator="distribution"),
]


def _whole_day(multipliers: tuple[float, ...]) -> tuple[float, ...]:
    if len(multipliers) != HOURS_PER_DAY:
        raise ValueError(f"a day has {HOURS_PER_DAY} hours, this has {len(multipliers)} multipliers")
    if not any(multiplier > 0.0 for multiplier in multipliers):
        raise ValueError("at least one hour needs a multiplier above 0")
    return multipliers


class HourlyProfileSpec(Provenance):
    """How the rate goes through the hours of a day."""

    multipliers: Annotated[
        tuple[Annotated[float, Field(ge=0.0)], ...],
        AfterValidator(_whole_day),
        Field(json_schema_extra={"minItems": HOURS_PER_DAY, "maxItems": HOURS_PER_DAY}),
    ]
    """Rate of hour 0, 1, ... 23 relative to any level; normalised to a mean of one [1]."""


class PoissonArrivals(Spec):
    """Requests that arrive independently of each other."""

    process: Literal["poisson"]
    """Says which process it is."""

    profile: HourlyProfileSpec | None = None
    """Rate through the day; none means a constant rate."""


class GammaRenewalArrivals(Spec):
    """Requests whose gaps are independent and gamma distributed: bursty above a CV of 1, regular below."""

    process: Literal["gamma_renewal"]
    """Says which process it is."""

    cv: Sourced[PositiveNumber]
    """Coefficient of variation of the gaps [1]."""

    profile: HourlyProfileSpec | None = None
    """Rate through the day; none means a constant rate."""


Arrivals = Annotated[PoissonArrivals | GammaRenewalArrivals, Field(discriminator="process")]


class HitFractionPrefix(Spec):
    """The same share of every prompt is found in the prefix cache."""

    kind: Literal["hit_fraction"]
    """Says how the share is described."""

    fraction: Sourced[Fraction]
    """Share of the prompt tokens that is found; the last prompt token is always computed [1]."""


class UncachedLengthsPrefix(Spec):
    """A prompt of any length brings so many new tokens; all before them are found in the prefix cache."""

    kind: Literal["uncached_lengths"]
    """Says how the share is described."""

    uncached_tokens: LengthDistribution
    """New tokens of a prompt, independent of its length; where they exceed the prompt, nothing is found."""


Prefix = Annotated[HitFractionPrefix | UncachedLengthsPrefix, Field(discriminator="kind")]


class ServiceLevelSpec(Provenance):
    """What the users of the class expect: a quantile of a metric stays within a limit."""

    metric: Literal["ttft", "tpot", "e2e"]
    """Time to first token, time per output token after the first, or time to the last token."""

    quantile: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the requests that must meet the limit [1]."""

    limit: Seconds
    """Longest time that is acceptable [s]."""

    @model_validator(mode="after")
    def _limit_is_positive(self) -> Self:
        if self.limit <= 0.0:
            raise ValueError("limit must exceed 0 s")
        return self


class WorkloadSpec(Document):
    """One kind of traffic, open loop: requests arrive whatever the fleet does with earlier ones."""

    kind: Literal["workload"]
    """Says what the file describes."""

    traffic_class: Key
    """Traffic class: continuous, agent, realtime, or the user's own."""

    rate: Sourced[RequestsPerSecond]
    """Typical mean rate over a day [requests/s]; scenarios set their own."""

    arrivals: Arrivals
    """How requests arrive around that rate."""

    prompt_tokens: LengthDistribution
    """All tokens of a prompt, cached ones included."""

    output_tokens: LengthDistribution
    """All generated tokens, reasoning included; independent of the prompt."""

    prefix: Prefix | None = None
    """How much of a prompt a prefix cache is assumed to hold; none means nothing."""

    service_levels: tuple[ServiceLevelSpec, ...] = ()
    """What its users expect."""

    @model_validator(mode="after")
    def _rate_is_positive_and_levels_are_distinct(self) -> Self:
        if self.rate.value <= 0.0:
            raise ValueError("rate must exceed 0 requests/s")
        asked = [(level.metric, level.quantile) for level in self.service_levels]
        twice = sorted(
            {f"{metric} at {quantile:g}" for metric, quantile in asked if asked.count((metric, quantile)) > 1}
        )
        if twice:
            raise ValueError(f"service levels stand twice: {', '.join(twice)}")
        return self
