"""What to buy, rent, retire and leave to an API, month by month: a mixed-integer program over arrays.

    minimise    sum over t of d_t (purchases + running + rent + API - resale)_t - d_T residual + d_T tail of contracts
    subject to  sum over s of g_hs n_hst <= systems_h owned_ht + unit_h rented_ht          accelerators of month t
                sum over h of k_hst n_hst + api_str >= demand_str                          requests/s in hour r
                owned_ht = owned at the start + delivered - retired, retired of a delivery <= delivery
                deliveries, rents, power and yearly money below their limits

with d_t discount factors, n whole replicas, g accelerators and k requests/s of one. A contract of m months that starts
in month t is paid and can be used until month t + m - 1. Purchases are paid on delivery. Power counts for owned
systems alone: rented ones stand elsewhere. All terms are known in advance: the optimum is that of perfect foresight.

Source: capacity expansion with lumpy investments, Luss, "Operations research and capacity expansion problems",
Operations Research 30 (1982); solved by HiGHS (Huangfu and Hall, Math. Prog. Comp. 10, 2018).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import optimize

from sim.planning.program import Amounts, FloatArray, Market, Program, active, build, sizes_of

NO_FLEET = "no fleet within the limits serves the demand"

MOST_NODES = 1000
"""Nodes of the search after which the best fleet found so far counts."""

LONGEST_SOLVE_S = 120.0
"""Time after which the solver stops in any case: no answer of a sensible plan takes so long [s]."""

SMALLEST_OVERFLOW_PER_S = 1e-9
"""Below this an API rate is rounding of the solver [requests/s]."""


@dataclass(frozen=True, eq=False)
class Procurement:
    """The answer of the program; amounts are whole numbers unless fractions were allowed."""

    feasible: bool
    """Whether any fleet meets all limits."""

    reason: str
    """Why not, or how the solver ended."""

    net_present_cost_usd: float
    """Discounted cost less the residual value; infinite when infeasible [USD]."""

    gap: float
    """Proven relative distance to the optimum [1]."""

    solve_s: float
    """Time in the solver [s]."""

    bought: Amounts
    """Systems delivered, shape (H, T)."""

    retired_by_delivery: Amounts
    """The same by delivery (0 at the start, 1 + t in month t), shape (H, T + 1, T)."""

    retired: Amounts
    """Systems sold at the start of the month, shape (H, T)."""

    owned: Amounts
    """Systems in use, shape (H, T)."""

    rent_started: Amounts
    """Contracts of one unit that start, shape (H, K, T)."""

    rented: Amounts
    """Accelerators under contract, shape (H, T)."""

    replicas: Amounts
    """Replicas, shape (H, S, T)."""

    api_per_s: FloatArray
    """Demand left to the API, shape (S, T, R) [requests/s]."""

    money_usd: dict[str, FloatArray]
    """Money by kind and month, not discounted: purchase, running, rent, api out, resale in, shape (T,) [USD]."""

    end_usd: float
    """Residual value less the tail of contracts, at the end, not discounted [USD]."""


def procure(
    market: Market,
    gap: float = 0.005,
    nodes: int = MOST_NODES,
    program: Program | None = None,
    whole: bool = True,
) -> Procurement:
    """Return the cheapest way to serve the demand.

    Parameters
    ----------
    market : Market
        Demand, capacity coefficients, prices and limits.
    gap : float
        Relative distance to the proven bound at which the solver stops [1].
    nodes : int
        Nodes of the search after which the best fleet found so far is returned, with its gap; a count and not a time,
        so that equal inputs give equal fleets on any machine.
    program : Program, optional
        The same market as matrices, where they are at hand.
    whole : bool
        Whether systems, contracts and replicas are whole numbers. Fractions make a linear program: its cost is a lower
        bound, found in some hundredths of a second.

    """
    program = build(market) if program is None else program
    return solve(program, program.cost, gap=gap, nodes=nodes, whole=whole)


def solve(
    program: Program, objective: FloatArray, gap: float = 0.005, nodes: int = MOST_NODES, whole: bool = True
) -> Procurement:
    """Return the fleet that minimises an objective; its net present cost is counted at the market's own prices.

    Parameters
    ----------
    program : Program
        Constraints.
    objective : ndarray, shape (variables,)
        What is minimised.
    gap, nodes, whole
        As in `procure`.

    """
    matrix, lower, upper = program.constraints, program.lower, program.upper
    started = time.perf_counter()
    scale = max(1e-12, float(np.abs(objective).max()))
    answer = optimize.milp(
        objective / scale,
        constraints=optimize.LinearConstraint(matrix, lower, upper),
        bounds=optimize.Bounds(program.least, program.most),
        integrality=program.whole if whole else np.zeros_like(program.whole),
        options={"mip_rel_gap": gap, "node_limit": nodes, "time_limit": LONGEST_SOLVE_S, "presolve": True},
    )
    took_s = time.perf_counter() - started
    if answer.x is None:
        reason = "the solver found no fleet before its limit" if answer.status in (1, 4) else NO_FLEET
        return infeasible(program.market, reason, took_s)
    return _answer(program, np.asarray(answer.x), answer, took_s, whole)


def shortfall(market: Market) -> FloatArray:
    """Return the least demand that must stay unserved where the program is infeasible, shape (S, T, R) [requests/s]."""
    free = np.nan_to_num(market.api_usd)
    missing = np.isnan(market.api_usd)
    program = build(replace(market, api_usd=free))
    objective = np.zeros_like(program.cost)
    objective[program.index["api"][missing]] = 1.0
    return np.where(missing, solve(program, objective, gap=0.01).api_per_s, 0.0)


def _answer(program: Program, found: FloatArray, answer: Any, took_s: float, whole: bool) -> Procurement:
    market, index = program.market, program.index
    made: dict[str, Amounts] = {name: np.asarray(found[index[name]]) for name in ("buy", "retire", "rent", "replicas")}
    if whole:
        made = {name: np.rint(amount).astype(np.int64) for name, amount in made.items()}
    served = np.einsum("hst,hst->st", market.capacity_per_s, made["replicas"].astype(float))
    api = np.where(np.isnan(market.api_usd), 0.0, np.maximum(0.0, market.demand_per_s - served[:, :, None]))
    api[api < SMALLEST_OVERFLOW_PER_S] = 0.0
    return priced(market, made["buy"], made["retire"], made["rent"], made["replicas"], api, {
        "reason": _ending(answer, whole),
        "gap": float(answer.mip_gap or 0.0),
        "solve_s": took_s,
    })  # fmt: skip


def _ending(answer: Any, whole: bool) -> str:
    """Return in words how the solver ended."""
    if not whole:
        return "fractions of systems: a lower bound"
    if answer.status == 0:
        return "proven within the gap"
    return f"best of {int(answer.mip_node_count or 0)} nodes of the search"


def priced(
    market: Market,
    bought: Amounts,
    retired_by_delivery: Amounts,
    rent_started: Amounts,
    replicas: Amounts,
    api_per_s: FloatArray,
    how: dict[str, Any],
) -> Procurement:
    """Return a fleet with its stocks and money, by adding up month by month what the program sums in closed form.

    Parameters
    ----------
    market : Market
        Prices.
    bought, retired_by_delivery, rent_started, replicas : ndarray
        Decisions, shapes (H, T), (H, T + 1, T), (H, K, T), (H, S, T).
    api_per_s : ndarray
        Demand left to the API, shape (S, T, R) [requests/s].
    how : dict
        `reason`, `gap` and `solve_s` of the answer.

    """
    months = market.demand_per_s.shape[1]
    money = {kind: np.zeros(months) for kind in ("purchase", "running", "rent", "api", "resale")}
    owned = np.zeros_like(bought)
    rented = np.zeros_like(bought)
    left = np.concatenate([market.systems_at_start[:, None], bought], axis=1)
    stock = market.systems_at_start.astype(bought.dtype)
    for month in range(months):
        sold = retired_by_delivery[:, :, month]
        stock = stock + bought[:, month] - sold.sum(axis=1)
        left = left - sold
        owned[:, month] = stock
        money["purchase"][month] = bought[:, month] @ market.purchase_usd[:, month]
        money["running"][month] = stock @ market.running_usd[:, month]
        money["resale"][month] = (sold * market.resale_usd[:, :, month]).sum()
        for term, started in active(market, month):
            contracts = rent_started[:, term, started] * market.rent_unit[:, None]
            rented[:, month] += contracts.sum(axis=1)
            money["rent"][month] += (contracts * np.nan_to_num(market.rent_usd[:, term, started])).sum()
        money["api"][month] = (api_per_s[:, month] * np.nan_to_num(market.api_usd[:, month])).sum()
    tail = (rent_started * market.rent_unit[:, None, None] * market.rent_tail_usd).sum()
    end_usd = float((left * market.resale_usd[:, :, months]).sum() - tail)
    out = money["purchase"] + money["running"] + money["rent"] + money["api"] - money["resale"]
    present = float(out @ market.discount[:months]) - end_usd * float(market.discount[months])
    return Procurement(
        True, how["reason"], present, how["gap"], how["solve_s"], bought, retired_by_delivery,
        retired_by_delivery.sum(axis=1), owned,
        rent_started, rented, replicas, api_per_s, money, end_usd,
    )  # fmt: skip


def infeasible(market: Market, reason: str, took_s: float) -> Procurement:
    """Return the answer that no fleet will do, and why."""
    sizes = sizes_of(market)
    zeros = {name: np.zeros(shape, np.int64) for name, shape in sizes.items()}
    months = market.demand_per_s.shape[1]
    return Procurement(
        False, reason, float("inf"), float("inf"), took_s, zeros["buy"], zeros["retire"],
        zeros["retire"].sum(axis=1), zeros["buy"],
        zeros["rent"], zeros["buy"], zeros["replicas"], np.zeros(sizes["api"]),
        {kind: np.zeros(months) for kind in ("purchase", "running", "rent", "api", "resale")}, 0.0,
    )  # fmt: skip
