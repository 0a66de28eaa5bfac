"""From which month each use case pays, and how far that month moves with prices and with what a unit is worth."""

from __future__ import annotations

import math

import pandas as pd

from sim.planning.capacities import Capacities
from sim.planning.horizon import Horizon
from sim.planning.months import PRICE_PATHS
from sim.planning.service_cost import choices_in

NEVER = "never"
COST_SHIFT = 0.2
"""Relative change of the cost in the sensitivity [1]."""


def viability_rows(horizon: Horizon, capacities: Capacities, plan_id: str) -> list[dict[str, object]]:
    """Return the cost per unit of every use case in every month on every price path, as rows of the table."""
    rows: list[dict[str, object]] = []
    for case, described in horizon.spec.use_cases.items():
        unit = described.unit
        ceiling = None if unit.ceiling is None else unit.ceiling.value
        for path in PRICE_PATHS:
            for month in horizon.months:
                choices = choices_in(horizon, capacities, case, month, horizon.levers, path)
                best, own = choices.cheapest(), choices.cheapest(with_api=False)
                api = None if choices.api is None else choices.api.request_usd
                way = max(best.ways, key=lambda each: each[0])[1] if best.ways else None
                cost = _finite(best.usd_per_request * unit.requests.value)
                rows.append({
                    "plan_id": plan_id, "period": f"{month:%Y-%m}", "price_path": path, "class": case,
                    "unit": unit.name, "usd_per_unit": cost, "way": None if way is None else way.kind,
                    "accelerator": None if way is None else way.accelerator,
                    "own_usd_per_unit": _finite(own.usd_per_request * unit.requests.value),
                    "api_usd_per_unit": None if api is None else api * unit.requests.value,
                    "ceiling_usd": ceiling,
                    "pays": cost is not None and ceiling is not None and cost <= ceiling,
                })  # fmt: skip
    return rows


def first_months(rows: pd.DataFrame, horizon: Horizon) -> pd.DataFrame:
    """Return from which month each use case pays for good, by use case: at planned prices, and when something moves.

    Columns beside `class`, `unit`, `ceiling_usd`: `first_month` at base prices, `at_low_prices`, `at_high_prices`,
    `at_low_ceiling`, `at_high_ceiling`, `cost_20_higher`, `cost_20_lower`, and `self_host_cheaper_from`, the month from
    which serving oneself stays cheaper than the API. A month counts only if the use case pays in all later ones.
    """
    found = []
    for case, described in horizon.spec.use_cases.items():
        ceiling = described.unit.ceiling
        if ceiling is None:
            continue
        mine = rows[rows["class"] == case]
        base = mine[mine["price_path"] == "base"]
        low, high = mine[mine["price_path"] == "low"], mine[mine["price_path"] == "high"]
        value = ceiling.value
        least = value if ceiling.low is None else ceiling.low
        most = value if ceiling.high is None else ceiling.high
        cheaper = base["own_usd_per_unit"] <= base["api_usd_per_unit"]
        found.append({
            "class": case,
            "unit": described.unit.name,
            "ceiling_usd": value,
            "first_month": holds_from(base, base["usd_per_unit"] <= value),
            "at_low_prices": holds_from(low, low["usd_per_unit"] <= value),
            "at_high_prices": holds_from(high, high["usd_per_unit"] <= value),
            "at_low_ceiling": holds_from(base, base["usd_per_unit"] <= least),
            "at_high_ceiling": holds_from(base, base["usd_per_unit"] <= most),
            "cost_20_higher": holds_from(base, base["usd_per_unit"] * (1.0 + COST_SHIFT) <= value),
            "cost_20_lower": holds_from(base, base["usd_per_unit"] * (1.0 - COST_SHIFT) <= value),
            "self_host_cheaper_from": holds_from(base, cheaper | base["api_usd_per_unit"].isna()),
        })  # fmt: skip
    return pd.DataFrame(found)


def holds_from(rows: pd.DataFrame, true: pd.Series[bool]) -> str:
    """Return the first month from which something is true in all months to the end, or `never`."""
    flags = list(true)
    if not flags or not flags[-1]:
        return NEVER
    first = len(flags) - 1
    while first > 0 and flags[first - 1]:
        first -= 1
    return str(rows["period"].iloc[first])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
