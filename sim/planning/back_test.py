"""What could have been said before, against what was recorded: every pair of records, misses included."""

from __future__ import annotations

import itertools
import math

import pandas as pd

from sim.planning.horizon import Horizon
from sim.planning.months import DAYS_PER_YEAR, PRICE_PATHS, number_on
from sim.specs.horizon import HorizonSpec
from sim.specs.paths import ChangeSpec
from sim.specs.records import RecordSpec, SeriesSpec


def back_test(horizon: Horizon) -> pd.DataFrame:
    """Return, for each recorded number, what the record before it and the rates expected then would have said.

        projection = record before x (1 + yearly rate) ^ (years between)

    The rates are those that could have been expected on the day of the record before, where the series states them;
    else those with which the horizon starts to project, which nobody had then. A pair that compares different things
    is shown and not judged.

    Columns: series, title, unit, known_on, recorded_on, dated (`assumed` where a day is ours), months, known, rates
    (`expected then` or `of the horizon`), low, base, high, recorded, recorded_low, recorded_high, factor (recorded over
    base), verdict (`inside` where the ranges meet, `outside`, `not comparable`), note.
    """
    rows = []
    for name, series in horizon.spec.series.items():
        records = sorted((each for each in horizon.spec.records if each.series == name), key=lambda each: each.date)
        for before, after in itertools.pairwise(records):
            years = (after.date - before.date).days / DAYS_PER_YEAR
            rates, origin = _rates(horizon.spec, series, before)
            low, base, high = (before.value * (1.0 + rate) ** years for rate in rates)
            low *= 1.0 if before.low is None else before.low / before.value
            high *= 1.0 if before.high is None else before.high / before.value
            least = after.value if after.low is None else after.low
            most = after.value if after.high is None else after.high
            inside = low <= most and least <= high
            rows.append({
                "series": name,
                "title": series.title,
                "unit": series.unit,
                "known_on": before.date.isoformat(),
                "recorded_on": after.date.isoformat(),
                "dated": "assumed" if "assumed" in (before.dated, after.dated) else "published",
                "months": 12.0 * years,
                "known": before.value,
                "rates": origin,
                "low": low,
                "base": base,
                "high": high,
                "recorded": after.value,
                "recorded_low": least,
                "recorded_high": most,
                "factor": after.value / base,
                "verdict": "not comparable" if after.unlike is not None else "inside" if inside else "outside",
                "note": after.unlike or after.note,
            })  # fmt: skip
    return pd.DataFrame(rows)


def typical_factor(found: pd.DataFrame) -> float:
    """Return the root mean square of |ln(recorded / projected)| over the comparable pairs, as a factor [1]."""
    judged = found[found["verdict"] != "not comparable"]
    if judged.empty:
        return math.nan
    return math.exp(math.sqrt(float((judged["factor"].map(math.log) ** 2).mean())))


def _rates(spec: HorizonSpec, series: SeriesSpec, before: RecordSpec) -> tuple[tuple[float, float, float], str]:
    """Return yearly rates low, base, high [1], and whose they are."""
    known = [each for each in series.expected if each.since <= before.date]
    if known:
        return _ends(known[-1]), "expected then"
    changes = {"rent": spec.rent_change, "purchase": spec.purchase_change, "api": spec.api_change}
    if series.path in changes:
        first = changes[series.path][:1]
        return (_ends(first[0]) if first else (0.0, 0.0, 0.0)), "of the horizon"
    points = sorted(spec.software.points.items())
    years = (points[-1][0] - points[0][0]).days / DAYS_PER_YEAR
    whole = (points[-1][1] / points[0][1]) ** (1.0 / years) - 1.0 if years > 0.0 else 0.0
    return (0.0, 0.5 * whole, whole), "of the horizon"


def _ends(change: ChangeSpec) -> tuple[float, float, float]:
    low, base, high = (number_on(change.yearly, each) for each in PRICE_PATHS)
    return low, base, high
