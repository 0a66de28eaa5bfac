"""A dated horizon: how demand, models, hardware, prices and policies go on, month by month."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.hardware import PriceBasis
from sim.specs.paths import Changes, Month
from sim.specs.paths import ChangeSpec as ChangeSpec
from sim.specs.paths import PathSpec as PathSpec
from sim.specs.records import RecordSpec, SeriesSpec
from sim.specs.spec import (
    Date,
    Document,
    Fraction,
    Key,
    Name,
    Number,
    OwnKey,
    PositiveInteger,
    PositiveNumber,
    Sourced,
    Spec,
)
from sim.specs.units import Dimension, PositiveWatts, Usd
from sim.specs.use_case import CompressionUseSpec, UseCaseSpec

HOURS_PER_DAY = 24
LONGEST_HORIZON_MONTHS = 120

CARBON = Dimension("carbon intensity", "kg/kWh", {"kg/kWh": 1.0, "g/kWh": 1e-3}, "0.37 kg/kWh")
KilogramsPerKilowattHour = Annotated[float, CARBON]

LeverName = Literal[
    "hardware", "compression", "moe", "quantisation", "prefix_caching", "speculative_decoding", "software", "batching"
]
LEVERS: tuple[LeverName, ...] = (
    "hardware", "compression", "moe", "quantisation", "prefix_caching", "speculative_decoding", "software", "batching",
)  # fmt: skip
"""What can be switched off: then the horizon keeps what its baseline says."""

PolicyName = Literal["optimal", "rolling", "buy_now", "wait", "rent_only", "api_only"]
POLICIES: tuple[PolicyName, ...] = ("optimal", "rolling", "buy_now", "wait", "rent_only", "api_only")


class TermSpec(Spec):
    """Terms on which accelerators are rented."""

    months: PositiveInteger
    """Shortest time that is paid."""

    basis: PriceBasis
    """Price of the hardware profile that holds for it."""


class OfferSpec(Spec):
    """How one accelerator can be had."""

    available_from: Sourced[Date] | None = None
    """First day on which it can be ordered or rented; none means the profile's."""

    lead_time_months: Sourced[Annotated[int, Field(ge=0)]]
    """Time from order to service."""

    supply: Sourced[Annotated[int, Field(ge=0)]]
    """Most systems that can be delivered a month."""

    system: PositiveInteger
    """Accelerators of the smallest purchase."""

    rent_unit: PositiveInteger
    """Accelerators of the smallest rental contract."""

    rent_supply: Sourced[Annotated[int, Field(ge=0)]]
    """Most accelerators that can be rented at a time."""

    terms: tuple[Key, ...] | None = None
    """Rental terms on which it is offered; none means all for which the profile has a price."""

    claim: Sourced[PositiveNumber] | None = None
    """Throughput per accelerator over what is simulated, where a claim is to be followed; none means none is [1]."""


class BaselineSpec(Spec):
    """What remains where a lever is switched off."""

    hardware: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Accelerators without the lever hardware."""

    max_sequences: PositiveInteger
    """Sequences at a time without the lever batching."""


class HorizonSpec(Document):
    """A dated description of demand, models, hardware, prices and policies."""

    kind: Literal["horizon"]
    """Says what the file describes."""

    start: Month
    """First month; also the reference of elasticity and of the baseline."""

    plan_from: Month
    """First month in which something can be decided; before it the horizon is history."""

    end: Month
    """Last month."""

    economics: str
    """Name of the terms of owning and of API prices."""

    serving_stack: str = "shared"
    """Name of a serving stack."""

    hours: Annotated[dict[Key, tuple[Annotated[int, Field(ge=0, lt=24)], ...]], Field(min_length=1)]
    """Representative hours -> the hours of the day for which each stands; together they are the whole day."""

    busy_day: Sourced[PositiveNumber]
    """Demand of a busy day over the mean day, to which fleets are sized [1]."""

    target_load: Sourced[Annotated[Number, Field(gt=0.0, le=1.0)]]
    """Most load of a replica over its saturation, whatever its latencies would allow [1]."""

    terms: dict[Key, TermSpec]
    """Rental terms."""

    hardware: Annotated[dict[Name, OfferSpec], Field(min_length=1)]
    """Accelerators on offer, by the name of their profile."""

    foresight_months: Sourced[PositiveInteger]
    """Months that a buyer of the policy `rolling` sees ahead, the current one included."""

    waits_for: Name
    """The accelerator for which the policy `wait` waits."""

    owned: dict[Name, Sourced[Annotated[int, Field(ge=0)]]] = Field(default_factory=dict)
    """Systems owned when planning begins."""

    resale: Sourced[Fraction]
    """What a used system fetches over its book value, straight-line over the life of the economics [1]."""

    priced_on: Date
    """Day of the profiles' prices, from which price paths run forward and back."""

    rent_change: Changes
    """Change of rents."""

    rent_history: PathSpec
    """Rents before that day, over those on it [1]."""

    purchase_change: Changes
    """Change of purchase prices."""

    api_change: Changes
    """Change of API prices beyond the dated ones."""

    site: Key
    """Name of the site."""

    site_power: Sourced[PositiveWatts] | None = None
    """Power for owned systems before cooling; none means any."""

    carbon: Sourced[KilogramsPerKilowattHour]
    """Carbon dioxide per energy at the meter."""

    yearly_budget: Sourced[Usd] | None = None
    """Most money out in a calendar year; none means any."""

    software: PathSpec
    """Throughput of software over that of the serving stack's calibration [1]."""

    speculation: PathSpec
    """Throughput with speculative decoding over that without [1]."""

    compression: dict[Key, CompressionUseSpec] = Field(default_factory=dict)
    """Methods that shorten reasoning."""

    use_cases: Annotated[dict[OwnKey, UseCaseSpec], Field(min_length=1)]
    """Traffic classes."""

    baseline: BaselineSpec
    """What remains without levers."""

    levers: dict[LeverName, bool] = Field(default_factory=dict)
    """Levers that are switched; those not named are on."""

    policies: tuple[PolicyName, ...] = POLICIES
    """Policies to compare."""

    series: dict[Key, SeriesSpec] = Field(default_factory=dict)
    """Recorded series."""

    records: tuple[RecordSpec, ...] = ()
    """Recorded numbers for the back-test."""

    @model_validator(mode="after")
    def _months_are_in_order(self) -> Self:
        if not self.start <= self.plan_from <= self.end:
            raise ValueError("start, plan_from and end must be in this order")
        if (self.end.year - self.start.year) * 12 + self.end.month - self.start.month >= LONGEST_HORIZON_MONTHS:
            raise ValueError(f"a horizon has at most {LONGEST_HORIZON_MONTHS} months")
        return self

    @model_validator(mode="after")
    def _hours_make_a_day(self) -> Self:
        hours = sorted(hour for group in self.hours.values() for hour in group)
        if hours != list(range(HOURS_PER_DAY)) or not all(self.hours.values()):
            raise ValueError("the representative hours must hold every hour 0 to 23 exactly once, and none be empty")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        wrong = [f"compression {case.compression}" for case in self.use_cases.values()
                 if case.compression is not None and case.compression not in self.compression]  # fmt: skip
        wrong += [f"hardware {name}" for name in (self.waits_for, *self.owned, *self.baseline.hardware)
                  if name not in self.hardware]  # fmt: skip
        wrong += [f"term {term}" for offer in self.hardware.values() for term in offer.terms or ()
                  if term not in self.terms]  # fmt: skip
        wrong += [f"series {each.series}" for each in self.records if each.series not in self.series]
        if wrong:
            raise ValueError(f"not described here: {', '.join(dict.fromkeys(wrong))}")
        return self
