"""Months of a horizon, and what a yearly change makes of a number between two days."""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Sequence
from typing import Literal

from sim.specs.paths import ChangeSpec
from sim.specs.spec import Sourced

PricePath = Literal["low", "base", "high"]
PRICE_PATHS: tuple[PricePath, ...] = ("low", "base", "high")

DAYS_PER_YEAR = 365.25


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
