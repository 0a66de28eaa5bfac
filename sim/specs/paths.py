"""Numbers over time: months, straight lines between dated points, and yearly rates of change."""

from __future__ import annotations

import datetime
import itertools
from typing import Annotated

from pydantic import AfterValidator, Field

from sim.specs.spec import Date, Number, Provenance, Sourced, Spec


def _first_of_month(day: datetime.date) -> datetime.date:
    if day.day != 1:
        raise ValueError(f"write the first day of a month, such as {day.replace(day=1)}")
    return day


Month = Annotated[Date, AfterValidator(_first_of_month)]


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
