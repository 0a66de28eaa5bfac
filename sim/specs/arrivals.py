"""How requests or sessions arrive around a rate: the hours of the week, how the rate wanders, and the process."""

from __future__ import annotations

import itertools
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sim.specs.distributions import DurationDistribution
from sim.specs.spec import Fraction, Key, PositiveFraction, PositiveInteger, PositiveNumber, Provenance, Sourced, Spec
from sim.specs.units import Seconds

HOURS_PER_DAY = 24
"""Entries of a daily profile."""

HOURS_PER_WEEK = 168
"""Entries of a weekly profile, which begins on Monday."""

_ZONE = re.compile(r"UTC(?:([+-])(\d{1,2})(?::([0-5]\d))?)?")


def _whole_period(multipliers: tuple[float, ...]) -> tuple[float, ...]:
    if len(multipliers) not in (HOURS_PER_DAY, HOURS_PER_WEEK):
        raise ValueError(
            f"a day has {HOURS_PER_DAY} hours and a week {HOURS_PER_WEEK}, this has {len(multipliers)} multipliers"
        )
    if not any(multiplier > 0.0 for multiplier in multipliers):
        raise ValueError("at least one hour needs a multiplier above 0")
    return multipliers


def _known_zone(zone: str) -> str:
    match = _ZONE.fullmatch(zone)
    if match is None or int(match[2] or 0) > 14:
        raise ValueError("write a fixed offset such as UTC, UTC+1 or UTC-03:30")
    return zone


class HourlyProfileSpec(Provenance):
    """How the rate goes through the hours of a day or of a week."""

    multipliers: Annotated[
        tuple[Annotated[float, Field(ge=0.0)], ...],
        AfterValidator(_whole_period),
        Field(json_schema_extra={"minItems": HOURS_PER_DAY, "maxItems": HOURS_PER_WEEK}),
    ]
    """Rate of hour 0, 1, ... 23 of any day, or of hour 0, 1, ... 167 from Monday on, relative to any level; normalised
    to a mean of one [1]."""

    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    """Clock of the multipliers, as an offset from the clock of the scenario's `start_hour`."""

    @property
    def offset_hours(self) -> float:
        """Return what the clock of the profile is ahead of the scenario's [h]."""
        match = _ZONE.fullmatch(self.time_zone)
        assert match is not None, "validated above"
        hours = int(match[2] or 0) + int(match[3] or 0) / 60.0
        return -hours if match[1] == "-" else hours


class WanderingSpec(Spec):
    """One part of the noise of a rate: an Ornstein-Uhlenbeck process in its logarithm."""

    sigma: Sourced[PositiveNumber]
    """Standard deviation of the logarithm of the rate [1]."""

    time_constant: Sourced[Seconds]
    """Time after which the correlation has fallen to 1/e [s]."""

    @model_validator(mode="after")
    def _time_is_positive(self) -> Self:
        if self.time_constant.value < 1.0:
            raise ValueError("time_constant must be at least 1 s")
        return self


class ArrivalSpec(Spec):
    """What all processes share: the rate that they follow."""

    profile: HourlyProfileSpec | None = None
    """Rate through the day or the week; none means a constant rate."""

    rate_noise: dict[Key, WanderingSpec] = Field(default_factory=dict)
    """How the rate wanders around the profile, by name, as `fast` and `slow`; none means that it does not."""


class PoissonArrivals(ArrivalSpec):
    """Requests that arrive independently of each other, given the rate."""

    process: Literal["poisson"]
    """Says which process it is."""


class GammaRenewalArrivals(ArrivalSpec):
    """Requests whose gaps are independent and gamma distributed: bursty above a CV of 1, regular below."""

    process: Literal["gamma_renewal"]
    """Says which process it is."""

    cv: Sourced[PositiveNumber]
    """Coefficient of variation of the gaps [1]."""


class CumulativeShares(Provenance):
    """How unequal tenants are."""

    largest: dict[Annotated[int, Field(ge=1)], PositiveFraction]
    """Number of the largest tenants -> their share of the requests together; within a step tenants are equal."""

    @model_validator(mode="after")
    def _larger_come_first(self) -> Self:
        knots = [(0, 0.0), *sorted(self.largest.items())]
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(knots)]
        if any(slope < 0.0 for slope in slopes) or any(b > a + 1e-12 for a, b in itertools.pairwise(slopes)):
            raise ValueError("shares must rise, each step of tenants smaller than the one before")
        return self


class CvTable(Provenance):
    """How bursty tenants are."""

    quantiles: dict[Fraction, PositiveNumber]
    """Probability, weighted by requests -> coefficient of variation of a tenant's gaps [1]."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        values = [value for _, value in sorted(self.quantiles.items())]
        if 0.0 not in self.quantiles or 1.0 not in self.quantiles:
            raise ValueError("quantiles need the entries 0 and 1")
        if any(later < earlier for earlier, later in itertools.pairwise(values)):
            raise ValueError("quantiles must not fall with the probability")
        return self


class TenantArrivals(ArrivalSpec):
    """Many tenants of unequal size, each a renewal process with a burstiness of its own."""

    process: Literal["tenants"]
    """Says which process it is."""

    tenants: Annotated[PositiveInteger, Field(le=100_000)]
    """Number of tenants."""

    shares: CumulativeShares
    """How the requests are shared among them."""

    gaps: Literal["gamma", "weibull"]
    """Distribution of the gaps of a tenant."""

    cv: CvTable
    """Coefficients of variation of the gaps."""

    @model_validator(mode="after")
    def _shares_are_of_these_tenants(self) -> Self:
        last, share = max(self.shares.largest.items())
        if last > self.tenants or (last == self.tenants and abs(share - 1.0) > 1e-9):
            raise ValueError(f"shares go to tenant {last} at {share:g}, of {self.tenants} tenants with a share of 1")
        return self


class OnOffArrivals(ArrivalSpec):
    """Jobs that are idle most of the time and send requests at a high rate while they run."""

    process: Literal["on_off"]
    """Says which process it is."""

    jobs: Annotated[PositiveInteger, Field(le=100_000)]
    """Independent jobs that share the rate."""

    running: DurationDistribution
    """How long a job runs [s]."""

    pausing: DurationDistribution
    """How long it pauses [s]."""

    cv: Sourced[PositiveNumber]
    """Coefficient of variation of the gaps while it runs [1]."""


class BatchArrivals(ArrivalSpec):
    """Requests that are handed in together, a backlog at a time; a deadline is a service level on `e2e`."""

    process: Literal["batch"]
    """Says which process it is."""

    every: Sourced[Seconds]
    """Time from batch to batch; a batch holds what the rate, profile and noise included, brings in that time [s]."""

    first: Sourced[Seconds]
    """Time of the first batch after the start of the run [s]."""

    @model_validator(mode="after")
    def _period_is_positive(self) -> Self:
        if self.every.value < 1.0:
            raise ValueError("every must be at least 1 s")
        return self


Arrivals = Annotated[
    PoissonArrivals | GammaRenewalArrivals | TenantArrivals | OnOffArrivals | BatchArrivals,
    Field(discriminator="process"),
]
