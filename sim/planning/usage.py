"""What is asked of a fleet in a month: hours of the day, models, how fast software is, how much is compressed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.demand.compression import PowerLaw, fitted_power_law
from sim.planning.horizon import Horizon
from sim.specs.horizon import HOURS_PER_DAY, LeverName
from sim.specs.workload import WorkloadSpec

FloatArray = npt.NDArray[np.float64]


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


def compression_law(horizon: Horizon, case: str) -> PowerLaw | None:
    """Return what remains of T tokens of reasoning, min(T, c T^b); none where a use case compresses nothing.

    Fitted through the measured means of the method, or (1 - reduction) T where a reduction is claimed; c times `kept`.
    """
    key = horizon.spec.use_cases[case].compression
    if key is None:
        return None
    use = horizon.spec.compression[key]
    if use.method is not None:
        law = fitted_power_law(horizon.methods[use.method], use.base, use.benchmarks)
    else:
        law = PowerLaw(1.0 - (0.0 if use.reduction is None else use.reduction.value), 1.0)
    return law if use.kept is None else law._replace(coefficient=law.coefficient * use.kept.value)


def paces(horizon: Horizon, hardware: str) -> tuple[float, ...]:
    """Return paces of steps over the calibration at which the capacity of an accelerator is simulated, slowest first.

    Those of the first month, of the first planned one and of the last, and the calibration where it lies between.
    """
    spec, levers = horizon.spec, horizon.levers
    found = {pace(horizon, hardware, month, levers) for month in (spec.start, spec.plan_from, spec.end)}
    found |= {each for each in (claimed(horizon, hardware),) if min(found) < each < max(found)}
    return tuple(sorted(found))


def claimed(horizon: Horizon, hardware: str) -> float:
    """Return the throughput of an accelerator over what is simulated, where a claim is to be followed [1]."""
    claim = horizon.spec.hardware[hardware].claim
    return 1.0 if claim is None else claim.value


def pace(horizon: Horizon, hardware: str, month: datetime.date, levers: frozenset[LeverName]) -> float:
    """Return how many times as fast as simulated the steps of an accelerator are in a month, to four digits [1]."""
    return float(f"{claimed(horizon, hardware) * speed(horizon, month, levers):.4g}")
