"""A horizon with everything that it refers to, and what holds in each of its months."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from sim.planning.cost import HOURS_PER_YEAR, OwningCost, owned, owning_terms, yearly_capital_usd
from sim.specs.economics import EconomicsSpec
from sim.specs.errors import InputError, Problem
from sim.specs.hardware import HardwareSpec
from sim.specs.horizon import HOURS_PER_DAY, LEVERS, ChangeSpec, HorizonSpec, LeverName
from sim.specs.library import Library, default_library, name_problems
from sim.specs.model import ModelSpec
from sim.specs.reading import RawDocument, validate
from sim.specs.resolved import changed
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Sourced
from sim.specs.workload import WorkloadSpec

FloatArray = npt.NDArray[np.float64]
PricePath = Literal["low", "base", "high"]
PRICE_PATHS: tuple[PricePath, ...] = ("low", "base", "high")

DAYS_PER_YEAR = 365.25


@dataclass(frozen=True)
class Horizon:
    """A horizon and the documents that it names; a change is a new horizon."""

    spec: HorizonSpec
    """The horizon itself."""

    economics: EconomicsSpec
    """Terms of owning and API prices."""

    serving_stack: ServingStackSpec
    """Batching limits and efficiencies."""

    hardware: Mapping[str, HardwareSpec]
    """Hardware profiles by name."""

    models: Mapping[str, ModelSpec]
    """Models by name."""

    workloads: Mapping[str, WorkloadSpec]
    """Workloads by name."""

    fingerprints: Mapping[str, str]
    """File -> SHA-256 of all that was read."""

    raw: RawDocument
    """The horizon as read, with changes applied."""

    library: Library
    """Where names are looked up."""

    coefficients: dict[object, object] = field(default_factory=dict, compare=False, repr=False)
    """Capacity coefficients that were simulated already."""

    @property
    def months(self) -> tuple[datetime.date, ...]:
        """Return the first day of every month."""
        return months_between(self.spec.start, self.spec.end)

    @property
    def planned(self) -> tuple[datetime.date, ...]:
        """Return the first day of every month in which something is decided."""
        return months_between(self.spec.plan_from, self.spec.end)

    @property
    def levers(self) -> frozenset[LeverName]:
        """Return the levers that are on."""
        return frozenset(each for each in LEVERS if self.spec.levers.get(each, True))

    def replace(self, path: str, value: object) -> Self:
        """Return a horizon in which one value differs, written as in YAML; InputError where it does not fit."""
        return type(self).resolve(changed(self.raw, {path: value}), self.library, self.fingerprints)

    @classmethod
    def resolve(cls, raw: RawDocument, library: Library, known: Mapping[str, str] | None = None) -> Self:
        """Return the horizon of a raw document; InputError with all that is wrong."""
        spec = validate(raw, HorizonSpec)
        problems: list[Problem] = []
        fingerprints = dict(known or {})

        def fetch(kind: str, name: str, *place: str) -> object:
            try:
                found = library.load(kind, name, raw.file)
            except InputError as error:
                problems.extend(
                    each if each.file else raw.problem(each.message, place, name, each.remedy)
                    for each in error.problems
                )
                return None
            fingerprints.update(found.fingerprints)
            return found.spec

        economics = fetch("economics", spec.economics, "economics")
        stack = fetch("serving_stack", spec.serving_stack, "serving_stack")
        hardware = {name: fetch("hardware", name, "hardware", name) for name in spec.hardware}
        workloads = {case.workload: fetch("workload", case.workload, "use_cases", name, "workload")
                     for name, case in spec.use_cases.items()}  # fmt: skip
        models = {share.model: fetch("model", share.model, "use_cases", name, "models", key, "model")
                  for name, case in spec.use_cases.items() for key, share in case.models.items()}  # fmt: skip
        if isinstance(economics, EconomicsSpec):
            for name, case in spec.use_cases.items():
                if case.api is not None and case.api not in economics.api:
                    remedy = f"The economics know {', '.join(economics.api)}."
                    problems.append(
                        raw.problem("no API prices of this name", ("use_cases", name, "api"), case.api, remedy)
                    )
        if problems:
            raise InputError(list(dict.fromkeys(problems)))
        return cls(spec, economics, stack, hardware, models, workloads, fingerprints, raw, library)  # type: ignore[arg-type]


def load_horizon(name: str, changes: Mapping[str, object] | None = None) -> Horizon:
    """Return a horizon by name or path.

    Parameters
    ----------
    name : str
        Name in the library, or path of a YAML file.
    changes : mapping, optional
        Dotted path -> value, applied before anything is checked.

    Raises
    ------
    InputError
        Missing or invalid; all problems at once.

    """
    library = default_library()
    path = library.find("horizon", name)
    library = default_library(beside=path)
    raw, fingerprints = library.read("horizon", str(path))
    problems = name_problems(raw, name) if path.stem == name else []
    if problems:
        raise InputError(problems)
    return Horizon.resolve(changed(raw, changes or {}), library, fingerprints)


def months_between(first: datetime.date, last: datetime.date) -> tuple[datetime.date, ...]:
    """Return the first days of the months from `first` to `last`, both included."""
    count = months_apart(first, last) + 1
    return tuple(later(first, number) for number in range(count))


def months_apart(first: datetime.date, last: datetime.date) -> int:
    """Return the whole months from the month of one day to the month of another."""
    return (last.year - first.year) * 12 + last.month - first.month


def later(month: datetime.date, count: int) -> datetime.date:
    """Return the first day of the month that comes `count` months later."""
    number = month.year * 12 + month.month - 1 + count
    return datetime.date(number // 12, number % 12 + 1, 1)


def days_of(month: datetime.date) -> int:
    """Return the days of a month."""
    return calendar.monthrange(month.year, month.month)[1]


def number_on(number: Sourced[float], path: PricePath) -> float:
    """Return the number of a price path: low, the value to plan with, or high, where it has a range."""
    end = {"low": number.low, "base": number.value, "high": number.high}[path]
    return number.value if end is None else end


def change_factor(
    changes: Sequence[ChangeSpec], first: datetime.date, last: datetime.date, path: PricePath = "base"
) -> float:
    """Return by what a number has changed between two days [1].

        product over pieces i of (1 + yearly_i) ^ (years in piece i)

    Parameters
    ----------
    changes : sequence of ChangeSpec
        Yearly rates with the days from which they hold; before the first one nothing changes.
    first, last : date
        From and to; 1 where `last` is not after `first`.
    path : str
        Which end of the ranges.

    """
    factor = 1.0
    ends = [change.since for change in changes[1:]] + [datetime.date.max]
    for change, end in zip(changes, ends, strict=True):
        days = (min(last, end) - max(first, change.since)).days
        if days > 0:
            factor *= (1.0 + number_on(change.yearly, path)) ** (days / DAYS_PER_YEAR)
    return factor


def available_from(horizon: Horizon, name: str) -> datetime.date | None:
    """Return the day from which an accelerator can be had; none if it is not sold or no day is known."""
    offer, profile = horizon.spec.hardware[name], horizon.hardware[name]
    if not profile.availability.purchasable or not profile.availability.enabled:
        return None
    if offer.available_from is not None:
        return offer.available_from.value
    return profile.availability.available_from


def rent_index(horizon: Horizon, month: datetime.date, path: PricePath) -> float:
    """Return the rents of a month over those of the profiles [1]: recorded before that day, projected after it."""
    spec = horizon.spec
    if month < spec.priced_on:
        return spec.rent_history.at(month)
    return change_factor(spec.rent_change, spec.priced_on, month, path)


def rent_usd_per_hour(horizon: Horizon, name: str, term: str, month: datetime.date, path: PricePath) -> float | None:
    """Return the rent of an accelerator on some terms in a month [USD/h]; none where it is not offered."""
    offer, profile = horizon.spec.hardware[name], horizon.hardware[name]
    since = available_from(horizon, name)
    if since is None or month < since.replace(day=1) or (offer.terms is not None and term not in offer.terms):
        return None
    price = profile.prices.hourly.get(horizon.spec.terms[term].basis)
    return None if price is None else price.value * rent_index(horizon, month, path)


@dataclass(frozen=True)
class Owning:
    """What owning one accelerator means in money and power."""

    purchase_usd: float
    """Purchase with host, network and spares [USD]."""

    running_usd_per_hour: float
    """Operation, space and energy [USD/h]."""

    total_usd_per_hour: float
    """With the annuity of the purchase [USD/h]."""

    provisioned_w: float
    """Power before cooling [W]."""

    drawn_w: float
    """Mean power at the meter [W]."""


def owning(horizon: Horizon, name: str, month: datetime.date, path: PricePath) -> Owning | None:
    """Return what owning an accelerator means in a month; none where price or power is not known.

    The purchase moves with the purchase price path from the day of the profiles' prices on; before it, the profile's
    price is taken. Operation is a share of the purchase and moves with it.
    """
    parts = owned(horizon.hardware[name], horizon.economics)
    if parts is None:
        return None
    terms = owning_terms(horizon.economics)
    annuity = yearly_capital_usd(1.0, terms.cost_of_capital, terms.life_years, terms.residual) / HOURS_PER_YEAR
    factor = change_factor(horizon.spec.purchase_change, horizon.spec.priced_on, month, path)
    parts = replace(
        parts,
        capital_usd_per_hour=parts.capital_usd_per_hour * factor,
        spares_usd_per_hour=parts.spares_usd_per_hour * factor,
        opex_usd_per_hour=parts.opex_usd_per_hour * factor,
    )
    return Owning(
        purchase_usd=(parts.capital_usd_per_hour + parts.spares_usd_per_hour) / annuity,
        running_usd_per_hour=_running(parts),
        total_usd_per_hour=parts.usd_per_hour,
        provisioned_w=parts.electricity_usd_per_hour * 1000.0
        / (terms.load_factor * terms.power_usage_effectiveness * terms.usd_per_kilowatt_hour),
        drawn_w=parts.electricity_usd_per_hour * 1000.0 / terms.usd_per_kilowatt_hour,
    )  # fmt: skip


def _running(parts: OwningCost) -> float:
    return parts.opex_usd_per_hour + parts.colocation_usd_per_hour + parts.electricity_usd_per_hour


def hourly_shape(workload: WorkloadSpec) -> tuple[FloatArray, FloatArray]:
    """Return the rate by hour of the day over its mean: on the busiest weekday of each hour, and on average.

    Returns two arrays of shape (24,); both are ones without a profile. A weekly profile has the busiest weekday.
    """
    profile = workload.arrivals.profile
    if profile is None:
        return np.ones(HOURS_PER_DAY), np.ones(HOURS_PER_DAY)
    multipliers = np.asarray(profile.multipliers, float)
    days = (multipliers / multipliers.mean()).reshape(-1, HOURS_PER_DAY)
    shift = round(profile.offset_hours)
    return np.roll(days.max(axis=0), -shift), np.roll(days.mean(axis=0), -shift)


@dataclass(frozen=True)
class HourGroup:
    """One representative hour of a use case."""

    name: str
    """Name, e.g. peak."""

    hours_per_day: int
    """Hours of the day for which it stands."""

    highest: float
    """Rate of its busiest hour over the mean rate, on an ordinary day [1]."""

    mean: float
    """Its mean rate over the mean rate [1]."""


def hour_groups(horizon: Horizon, case: str) -> tuple[HourGroup, ...]:
    """Return the representative hours of a use case, in the order of the horizon."""
    highest, mean = hourly_shape(horizon.workloads[horizon.spec.use_cases[case].workload])
    return tuple(
        HourGroup(name, len(hours), float(highest[list(hours)].max()), float(mean[list(hours)].mean()))
        for name, hours in horizon.spec.hours.items()
    )


def model_shares(horizon: Horizon, case: str, month: datetime.date, levers: frozenset[LeverName]) -> dict[str, float]:
    """Return the share of a use case's requests by model key; all to the baseline model without the lever moe."""
    described = horizon.spec.use_cases[case]
    if "moe" not in levers:
        return {described.baseline_model: 1.0}
    shares = {key: share.share.at(month) for key, share in described.models.items()}
    total = sum(shares.values())
    if total <= 0.0:
        return {described.baseline_model: 1.0}
    return {key: share / total for key, share in shares.items() if share > 0.0}


def speed(horizon: Horizon, month: datetime.date, levers: frozenset[LeverName]) -> float:
    """Return how much faster every step is than that of the serving stack's calibration [1].

    Without the lever software, that of the first month stays. All step times shrink alike, so a fleet at load `x` then
    is a fleet of today at load `x / speed` with all latencies divided by it.
    """
    spec = horizon.spec
    software = spec.software.at(month if "software" in levers else spec.start)
    return software * (spec.speculation.at(month) if "speculative_decoding" in levers else 1.0)


def adoption(horizon: Horizon, case: str, month: datetime.date, levers: frozenset[LeverName]) -> float:
    """Return the share of a use case's requests that a compressed model answers [1]."""
    method = horizon.spec.use_cases[case].compression
    if method is None or "compression" not in levers:
        return 0.0
    return min(1.0, horizon.spec.compression[method].adoption.at(month))


def hardware_on_offer(
    horizon: Horizon, month: datetime.date, levers: frozenset[LeverName], order_lead: bool = False
) -> tuple[str, ...]:
    """Return the accelerators that can be had in a month; those of the baseline without the lever hardware.

    With `order_lead`, those that can already be in service when ordered on their first day.
    """
    names = tuple(horizon.spec.hardware) if "hardware" in levers else horizon.spec.baseline.hardware
    found = []
    for name in names:
        since = available_from(horizon, name)
        if since is None:
            continue
        lead = horizon.spec.hardware[name].lead_time_months.value if order_lead else 0
        if later(since.replace(day=1), lead) <= month:
            found.append(name)
    return tuple(found)
