"""Parts of the page: a section under its heading, and the answer at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.reporting.report.plots import Plot


@dataclass(frozen=True)
class Section:
    """A part of the page under its own heading."""

    anchor: str
    """Name in the address of the page."""

    title: str
    """Heading."""

    parts: Sequence[str | Plot]
    """HTML and plots, in order."""


@dataclass(frozen=True)
class Answer:
    """What a reader who reads nothing else should know of one study."""

    label: str
    """Study that it answers for."""

    sentence: str
    """The answer in words, HTML."""

    cards: Sequence[tuple[str, str, str]]
    """Question, number and what it is of, HTML: fleet, cost, latency, when."""

    cautions: Sequence[str] = ()
    """Why not to trust it as it stands, HTML."""
