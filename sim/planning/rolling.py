"""Procurement with limited foresight: every month the next few are known, and only this month's decisions are kept.

The optimum knows all prices, all demand and all that will be on offer until the end. A buyer who looks ahead some
months, decides, and looks again pays more; the difference is the regret, and what knowing better would be worth.

Source: rolling-horizon procedures, Sethi and Sorger, Annals of Operations Research 29 (1991).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.planning.procurement import Procurement, infeasible, priced, solve
from sim.planning.program import FloatArray, IntArray, Market, Program, build


def roll(
    market: Market, lead_months: IntArray, foresight_months: int, resale: float, gap: float = 0.02, nodes: int = 1
) -> Procurement:
    """Return the fleet of a buyer who sees `foresight_months` ahead, priced as all fleets are.

    In month t the program is solved for the months t to t + foresight - 1, with all that was decided before; systems
    are worth their book value at the end of it. Of its answer the orders placed in t, the contracts that start, what is
    retired and this month's replicas are kept.

    Parameters
    ----------
    market : Market
        The whole market.
    lead_months : ndarray of int, shape (H,)
        Months from order to delivery.
    foresight_months : int
        Months that are known, this one included, at least 1.
    resale : float
        What a used system fetches over its book value [1].
    gap, nodes
        Where each solution stops, as `sim.planning.procurement.solve`.

    """
    months = market.demand_per_s.shape[1]
    chips = len(market.accelerators)
    bought = np.zeros((chips, months), np.int64)
    retired = np.zeros((chips, months + 1, months), np.int64)
    rents = np.zeros((chips, len(market.term_months), months), np.int64)
    replicas = np.zeros((chips, len(market.streams), months), np.int64)
    took_s = 0.0
    for month in range(months):
        end = min(months, month + foresight_months)
        program = build(until(market, end, resale))
        decided = {"buy": bought[:, :end], "retire": retired[:, : end + 1, :end], "rent": rents[:, :, :end]}
        # Deliveries before the lead time is over were decided earlier; that of the lead time is ordered now.
        open_from: dict[str, IntArray | int] = {"buy": month + lead_months[:, None], "retire": month, "rent": month}
        found = solve(fixed(program, decided, open_from, end), program.cost, gap, nodes)
        took_s += found.solve_s
        if not found.feasible:
            return infeasible(market, f"in month {month + 1} of the plan: {found.reason}", took_s)
        for chip, arrival in enumerate(month + lead_months):
            if arrival < end:
                bought[chip, arrival] = found.bought[chip, arrival]
        retired[:, : end + 1, month] = found.retired_by_delivery[:, :, month]
        rents[:, :, month] = found.rent_started[:, :, month]
        replicas[:, :, month] = found.replicas[:, :, month]
    served = np.einsum("hst,hst->st", market.capacity_per_s, replicas.astype(float))[:, :, None]
    api = np.where(np.isnan(market.api_usd), 0.0, np.maximum(0.0, market.demand_per_s - served))
    reason = f"{foresight_months} months of foresight"
    return priced(
        market, bought, retired, rents, replicas, api, {"reason": reason, "gap": float("nan"), "solve_s": took_s}
    )


def until(market: Market, end: int, resale: float) -> Market:
    """Return the first months of a market, after which systems are worth their book value.

    What contracts cost beyond the end is counted as in the whole market: by what they exceed the rents of the month
    after the last.
    """
    months = market.demand_per_s.shape[1]
    if end == months:
        return market
    kept = {
        name: getattr(market, name)[..., :end]
        for name in ("capacity_per_s", "purchase_usd", "purchase_limit", "running_usd", "rent_usd", "rent_limit",
                     "site_power_w", "budget_year", "api_limit_per_s")
    }  # fmt: skip
    values = market.resale_usd[:, : end + 1, : end + 1].copy()
    values[:, :, end] /= resale if resale > 0.0 else 1.0
    then = market.rent_usd[:, :, end : end + 1]
    excess = np.maximum(0.0, kept["rent_usd"] - np.where(np.isnan(then), kept["rent_usd"], then))
    beyond = np.maximum(0, np.arange(end)[None, :] + market.term_months[:, None] - end)
    return replace(
        market,
        demand_per_s=market.demand_per_s[:, :end],
        api_usd=market.api_usd[:, :end],
        resale_usd=values,
        rent_tail_usd=np.nan_to_num(excess) * beyond[None],
        discount=market.discount[: end + 1],
        budget_usd=market.budget_usd[: int(market.budget_year[end - 1]) + 1],
        **kept,
    )


def fixed(program: Program, decided: dict[str, IntArray], open_from: dict[str, IntArray | int], end: int) -> Program:
    """Return a program in which decisions of earlier months are what they are.

    Parameters
    ----------
    program : Program
        The program of the months until `end`.
    decided : dict
        Decisions by name, months in the last dimension.
    open_from : dict
        First month that is still open, by name: of all accelerators, or by accelerator in shape (H, 1).
    end : int
        Months of the program.

    """
    most: FloatArray = program.most.copy()
    least: FloatArray = program.least.copy()
    for name, amounts in decided.items():
        closed = np.broadcast_to(np.arange(end) < open_from[name], amounts.shape)
        places = program.index[name][closed]
        most[places] = least[places] = amounts[closed]
    return replace(program, most=most, least=least)
