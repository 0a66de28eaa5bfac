"""Recorded numbers, against which it is tested what could have been expected before."""

from __future__ import annotations

from typing import Literal

from sim.specs.paths import Changes
from sim.specs.spec import Date, Key, PositiveNumber, Provenance, Spec


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
