"""What of a study is not to be trusted: too few worlds, fractions of large systems, a response that is off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.planning.uncertainty.estimates import Fan
from sim.planning.uncertainty.outcomes import ALL, Asked
from sim.planning.uncertainty.sensitivity import Index
from sim.specs.uncertainty import UncertaintySpec

if TYPE_CHECKING:
    from sim.planning.uncertainty.study import Settings

MOST_WHOLE = 0.1
"""Distance of the plan from its fractions beyond which it is flagged [1]."""

MOST_OFF = 0.2
"""Median distance of the response from simulation beyond which it is flagged [1]."""


@dataclass(frozen=True, eq=False)
class Shares:
    """Indices of one headline number."""

    place: int
    """Its column."""

    scale: str
    """`log` or `plain`."""

    variance: float
    """Variance on that scale."""

    indices: tuple[Index, ...]
    """Indices by group."""


def few_samples(
    asked: Sequence[Asked],
    fans: Sequence[Fan],
    enough: Sequence[bool],
    headlines: Sequence[int],
    spec: UncertaintySpec,
    settings: Settings,
) -> Iterator[str]:
    """Yield which headline numbers have quantiles that more worlds would move."""
    wide = [place for place in headlines if not enough[place] and fans[place].samples]
    if wide:
        yield (
            f"few_samples: {settings.samples} worlds leave {len(wide)} of {len(headlines)} headline numbers with "
            f"quantiles whose intervals exceed {spec.quantile_tolerance.value:.0%} of the distance from P10 to P90: "
            + _listed(asked, wide)
        )


def few_pairs(
    asked: Sequence[Asked],
    headlines: Sequence[int],
    shares: Sequence[Shares],
    spec: UncertaintySpec,
    settings: Settings,
) -> Iterator[str]:
    """Yield which headline numbers have Sobol indices that more pairs of worlds would move."""
    unsure = [
        each.place
        for each in shares
        if any(half > spec.index_tolerance.value for one in each.indices for half in (one.first_half, one.total_half))
    ]
    if unsure:
        yield (
            f"few_pairs: {settings.pairs} pairs of worlds leave {len(unsure)} of {len(headlines)} headline numbers "
            f"with Sobol indices that are not known to within {spec.index_tolerance.value:g}: " + _listed(asked, unsure)
        )


def fractions_matter(whole_usd: float, fractions_usd: float) -> Iterator[str]:
    """Yield that whole systems cost much more than the fractions by which worlds are counted."""
    if whole_usd > (1.0 + MOST_WHOLE) * fractions_usd:
        yield (
            f"fractions_matter: at the horizon's own numbers whole systems cost {whole_usd / fractions_usd - 1.0:.0%} "
            "more than fractions of them, by which the best fleets of all worlds are counted"
        )


def response_off(median: float | None) -> Iterator[str]:
    """Yield that what replicas were taken to serve is far from what simulation says."""
    if median is not None and median > MOST_OFF:
        yield f"response_off: the median distance of the response from simulation is {median:.0%}"


def _listed(asked: Sequence[Asked], places: Sequence[int]) -> str:
    words = [
        " ".join(part for part in (asked[place].metric, asked[place].fleet, asked[place].class_name) if part != ALL)
        for place in places
    ]
    return ", ".join(words)
