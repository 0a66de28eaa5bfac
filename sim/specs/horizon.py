"""A dated horizon: how demand, models, hardware, prices and policies go on, month by month."""

from __future__ import annotations

import datetime
import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat, PriceBasis
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
    Provenance,
    Sourced,
    Spec,
)
from sim.specs.units import Dimension, PositiveWatts, RequestsPerSecond, Usd
from sim.specs.workload import ServiceLevelSpec

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


def _first_of_month(day: datetime.date) -> datetime.date:
    if day.day != 1:
        raise ValueError(f"write the first day of a month, such as {day.replace(day=1)}")
    return day


Month = Annotated[Date, AfterValidator(_first_of_month)]


def _layout(given: object) -> object:
    """Return a layout where a number of tensor parallelism is given."""
    return ParallelismSpec(tensor=given) if isinstance(given, int) and given > 0 else given


Layout = Annotated[ParallelismSpec, BeforeValidator(_layout)]


class PathSpec(Provenance):
    """A number over time: straight lines between dated points, constant before the first and after the last."""

    points: Annotated[dict[Date, Annotated[Number, Field(ge=0.0)]], Field(min_length=1)]
    """Date -> value."""

    def at(self, day: datetime.date) -> float:
        """Return the value on a day."""
        known = sorted(self.points.items())
        if day <= known[0][0]:
            return known[0][1]
        for (before, low), (after, high) in itertools.pairwise(known):
            if day <= after:
                return low + (high - low) * (day - before).days / (after - before).days
        return known[-1][1]


class ChangeSpec(Spec):
    """A yearly rate of change that holds from a day on."""

    since: Date
    """First day; before the first of several, nothing changes."""

    yearly: Sourced[Annotated[Number, Field(gt=-1.0)]]
    """Relative change a year, compounded [1]; low and high are those of the cheap and of the dear price path."""


def _in_order(changes: tuple[ChangeSpec, ...]) -> tuple[ChangeSpec, ...]:
    if any(later.since <= earlier.since for earlier, later in itertools.pairwise(changes)):
        raise ValueError("changes must be in order of their first day, each with a day of its own")
    return changes


Changes = Annotated[tuple[ChangeSpec, ...], AfterValidator(_in_order)]


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


class CompressionUseSpec(Spec):
    """A method that shortens reasoning, and how far it is adopted."""

    method: Name | None = None
    """Name of a method whose measurements say what remains of a part of T tokens; difficulty-dependent as measured."""

    base: str | None = None
    """Model on which the method was measured; none means the first one."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks of that model to go by; none means all."""

    reduction: Sourced[Fraction] | None = None
    """Instead of a method: a share of the tokens that is saved whatever the difficulty, as a claim has it [1]."""

    kept: Sourced[PositiveNumber] | None = None
    """Tokens that remain over what the method's measurements say; none means as measured [1]."""

    adoption: PathSpec
    """Share of the requests that are answered by a compressed model [1]."""

    @model_validator(mode="after")
    def _measured_or_claimed(self) -> Self:
        if (self.method is None) == (self.reduction is None):
            raise ValueError("say either which method was measured, or which reduction is claimed")
        if self.method is None and (self.base is not None or self.benchmarks):
            raise ValueError("base and benchmarks belong to a method")
        return self


class ModelShareSpec(Spec):
    """One model that serves a class, and for which share of its requests."""

    model: Name
    """Name of a model."""

    share: PathSpec
    """Share of the class's requests [1]; shares are normalised to sum to one."""

    weight_format: NumberFormat | None = None
    """Format of weights with the lever quantisation; none means as published."""

    plain_format: NumberFormat = NumberFormat.BF16
    """Format of weights without it."""

    kv_format: NumberFormat = NumberFormat.BF16
    """Format of KV entries with the lever quantisation; bf16 without it."""

    layouts: Annotated[tuple[Layout, ...], Field(min_length=1)] = tuple(ParallelismSpec(tensor=each) for each in (1, 2, 4, 8))
    """Layouts of a replica to choose from; a number is one of tensor parallelism."""

    batch_limits: tuple[PositiveInteger, ...] = ()
    """Limits on the sequences of a replica to choose from; none means the serving stack's."""


class UnitSpec(Spec):
    """What a use case counts and what that is worth."""

    name: Key
    """One document, task, user-month."""

    requests: Sourced[PositiveNumber]
    """Requests to the model for one unit [1]."""

    ceiling: Sourced[Usd] | None = None
    """Cost per unit below which the use case pays [USD]."""


class UseCaseSpec(Spec):
    """One traffic class over time."""

    workload: Name
    """Name of the workload: arrivals, lengths, prefix, service levels."""

    rate: Sourced[RequestsPerSecond]
    """Mean requests in the first month of the horizon."""

    growth: Changes = ()
    """Change of demand at constant price."""

    elasticity: Sourced[Annotated[Number, Field(le=0.0, gt=-4.0)]]
    """Relative change of demand over relative change of unit cost [1]."""

    pass_through: Sourced[Fraction]
    """Share of a change in unit cost (of its logarithm) that users see [1]."""

    models: Annotated[dict[Key, ModelShareSpec], Field(min_length=1)]
    """Models that serve it, by key."""

    baseline_model: Key
    """Key of the model that serves all of it without the lever moe."""

    compression: Key | None = None
    """Compression method, if any."""

    reasoning_share: Sourced[Fraction]
    """Share of the answer that is reasoning, which alone can be compressed [1]."""

    api: str | None = None
    """API model of the economics to which demand can be left; none only where `residency` says why nothing may."""

    api_limit: Sourced[RequestsPerSecond] | None = None
    """Most requests that the API takes; none means any."""

    residency: str | None = None
    """Why no request may leave own or rented accelerators; none means that requests may."""

    unit: UnitSpec
    """What is counted."""

    service_levels: tuple[ServiceLevelSpec, ...] | None = None
    """Instead of the workload's."""

    @model_validator(mode="after")
    def _baseline_is_a_model(self) -> Self:
        if self.baseline_model not in self.models:
            raise ValueError(f"baseline_model is none of the models {', '.join(self.models)}")
        return self

    @model_validator(mode="after")
    def _leaves_or_stays(self) -> Self:
        if self.api is None and self.api_limit is not None:
            raise ValueError("api_limit belongs to an api")
        if self.api is not None and self.residency is not None:
            raise ValueError("requests that may not leave (residency) cannot be left to an api")
        return self


class BaselineSpec(Spec):
    """What remains where a lever is switched off."""

    hardware: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Accelerators without the lever hardware."""

    max_sequences: PositiveInteger
    """Sequences at a time without the lever batching."""


class RecordSpec(Provenance):
    """A recorded number to which the back-test compares what could have been said before."""

    series: Key
    """Numbers of one series are on the same terms."""

    date: Date
    """Day of the record."""

    dated: Literal["published", "assumed"] = "published"
    """Whether that day is published, or ours where only a month or nothing is."""

    value: PositiveNumber
    """Recorded number."""

    low: PositiveNumber | None = None
    """Lowest of several offers on that day."""

    high: PositiveNumber | None = None
    """Highest of them."""

    unlike: str | None = None
    """Why it cannot be held against the record before it; none means that it can."""


class SeriesSpec(Spec):
    """A series of recorded numbers and how it would have been projected."""

    unit: str
    """Unit of its records."""

    path: Literal["rent", "purchase", "api", "software"]
    """Price path, or software progress, that is applied to the record before."""

    title: str
    """What is recorded."""

    expected: Changes = ()
    """Yearly rates as they could have been expected at the time, from the day on which that was known; none means the
    horizon's own, which was not known then."""


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
