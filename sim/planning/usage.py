"""What is asked of a fleet in a month: hours of the day, models, how fast software is, how much is compressed."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
