"""Why no fleet will do, in words: what cannot be served at all, else the limit that binds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.planning.market import PlannedMarket
from sim.planning.procurement import procure, shortfall
from sim.planning.program import Market

GAP, NODES = 0.01, 30
"""Where the search for the cheapest fleet without a budget stops."""


def why_infeasible(market: Market, planned: PlannedMarket) -> str:
    """Return in words why no fleet serves the demand: what cannot be served at all, else the limit that binds."""
    open_ended = replace(market, budget_usd=np.full_like(market.budget_usd, np.inf))
    lacking = shortfall(open_ended)
    if lacking.any():
        row, column, hour = np.unravel_index(
            int(np.argmax(lacking / np.maximum(market.demand_per_s, 1e-12))), lacking.shape
        )
        return (
            f"{planned.streams[row].name} in {planned.months[column]:%Y-%m} at the {planned.hours[hour]} hour: "
            f"{lacking[row, column, hour]:.4g} of {market.demand_per_s[row, column, hour]:.4g} requests/s can be "
            "served by nothing that is on offer within supply and power, and may not be left to an API"
        )
    needed = procure(open_ended, gap=GAP, nodes=NODES)
    if needed.feasible:
        spent = sum(needed.money_usd[kind] for kind in ("purchase", "running", "rent", "api"))
        return (
            f"the yearly budget is too small: the cheapest fleet pays out {float(np.sum(spent)) / 1e6:.4g} MUSD in all"
        )
    return "no fleet serves the demand within supply, power and budget"
