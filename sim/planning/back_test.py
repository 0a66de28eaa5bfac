"""What could have been said before, against what was recorded: every pair of records, misses included."""

from __future__ import annotations

import itertools

import pandas as pd

from sim.planning.horizon import Horizon
from sim.planning.months import DAYS_PER_YEAR, PRICE_PATHS, number_on
from sim.specs.horizon import ChangeSpec, HorizonSpec


def back_test(horizon: Horizon) -> pd.DataFrame:
    """Return, for each recorded number, what the record before it and the horizon's price paths would have said.

        projection = record before x (1 + yearly rate of the path) ^ (years between)

    The rates are those with which the horizon starts to project, as if they had been held then: they were not, so
    this asks whether the kind of projection holds, not whether anybody made it. For software the projection is "no
    progress" to the horizon's own progress, of which the middle is taken.

    Columns: series, title, unit, known_on, recorded_on, months, known, low, base, high, recorded, error (base over
    recorded, less one), inside (whether the record is within low and high).
    """
    rows = []
    for name, series in horizon.spec.series.items():
        records = sorted((each for each in horizon.spec.records if each.series == name), key=lambda each: each.date)
        for before, after in itertools.pairwise(records):
            years = (after.date - before.date).days / DAYS_PER_YEAR
            rates = _rates(horizon.spec, series.path)
            low, base, high = (before.value * (1.0 + rate) ** years for rate in rates)
            rows.append({
                "series": name,
                "title": series.title,
                "unit": series.unit,
                "known_on": before.date.isoformat(),
                "recorded_on": after.date.isoformat(),
                "months": 12.0 * years,
                "known": before.value,
                "low": low,
                "base": base,
                "high": high,
                "recorded": after.value,
                "error": base / after.value - 1.0,
                "inside": bool(low <= after.value <= high),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _rates(spec: HorizonSpec, path: str) -> tuple[float, float, float]:
    """Return the yearly rates with which a path starts: low, base, high [1]."""
    changes = {"rent": spec.rent_change, "purchase": spec.purchase_change, "api": spec.api_change}
    if path in changes:
        first: tuple[ChangeSpec, ...] = changes[path][:1]
        if not first:
            return 0.0, 0.0, 0.0
        low, base, high = (number_on(first[0].yearly, each) for each in PRICE_PATHS)
        return low, base, high
    points = sorted(spec.software.points.items())
    years = (points[-1][0] - points[0][0]).days / DAYS_PER_YEAR
    whole = (points[-1][1] / points[0][1]) ** (1.0 / years) - 1.0 if years > 0.0 else 0.0
    return 0.0, 0.5 * whole, whole
