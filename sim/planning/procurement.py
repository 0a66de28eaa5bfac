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
import numpy.typing as npt
from scipy import optimize, sparse

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

SMALLEST_OVERFLOW_PER_S = 1e-9
"""Below this an API rate is rounding of the solver [requests/s]."""


@dataclass(frozen=True, eq=False)
class Market:
    """All that the program knows: H accelerators, S streams of requests, T months, R representative hours, K terms."""

    accelerators: tuple[str, ...]
    """Names, H."""

    streams: tuple[str, ...]
    """Names, S: one stream is a traffic class with the model that serves it."""

    term_months: IntArray
    """Length of each rental term [months], shape (K,)."""

    demand_per_s: FloatArray
    """Requests that must be served, shape (S, T, R) [requests/s]."""

    capacity_per_s: FloatArray
    """Requests that one replica serves within the service levels, 0 where it cannot, shape (H, S, T) [requests/s]."""

    replica_accelerators: IntArray
    """Accelerators of one replica, shape (H, S)."""

    system_accelerators: IntArray
    """Accelerators of the smallest purchase, shape (H,)."""

    systems_at_start: IntArray
    """Systems owned before the first month, shape (H,)."""

    purchase_usd: FloatArray
    """Price of one system delivered in month t, shape (H, T) [USD]."""

    purchase_limit: IntArray
    """Most systems that can be delivered in month t; 0 before lead times are over, shape (H, T)."""

    running_usd: FloatArray
    """Cost of one owned system through month t: power, colocation, operation, shape (H, T) [USD]."""

    resale_usd: FloatArray
    """Value of a system of delivery v (0 at the start, 1 + t in month t) at the start of month u, u = T being the end,
    shape (H, T + 1, T + 1) [USD]."""

    rent_usd: FloatArray
    """Rent per accelerator and month of a contract that starts in month t, NaN if none, shape (H, K, T) [USD]."""

    rent_unit: IntArray
    """Accelerators of the smallest contract, shape (H,)."""

    rent_limit: FloatArray
    """Most accelerators rented at a time, shape (H, T)."""

    rent_tail_usd: FloatArray
    """What the months of a contract after the end cost more than the market then, shape (H, K, T) [USD]."""

    power_w: FloatArray
    """Power provisioned for one owned system, shape (H,) [W]."""

    site_power_w: FloatArray
    """Power of the site, shape (T,) [W]."""

    budget_year: IntArray
    """Budget to which each month belongs, shape (T,)."""

    budget_usd: FloatArray
    """Most money out in each budget, infinite for none, shape (Y,) [USD]."""

    api_usd: FloatArray
    """Cost of leaving 1 request/s of demand in hour r of month t to an API for the month, NaN if none, shape
    (S, T, R) [USD]."""

    discount: FloatArray
    """Discount factor of each month and of the end, shape (T + 1,)."""


@dataclass(frozen=True, eq=False)
class Procurement:
    """The answer of the program."""

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

    bought: IntArray
    """Systems delivered, shape (H, T)."""

    retired: IntArray
    """Systems sold at the start of the month, shape (H, T)."""

    owned: IntArray
    """Systems in use, shape (H, T)."""

    rent_started: IntArray
    """Contracts of one unit that start, shape (H, K, T)."""

    rented: IntArray
    """Accelerators under contract, shape (H, T)."""

    replicas: IntArray
    """Replicas, shape (H, S, T)."""

    api_per_s: FloatArray
    """Demand left to the API, shape (S, T, R) [requests/s]."""

    money_usd: dict[str, FloatArray]
    """Money by kind and month, not discounted: purchase, running, rent, api out, resale in, shape (T,) [USD]."""

    end_usd: float
    """Residual value less the tail of contracts, at the end, not discounted [USD]."""


@dataclass(frozen=True, eq=False)
class Program:
    """The market as matrices, so that several objectives can be solved on the same constraints."""

    market: Market
    """What it was made of."""

    cost: FloatArray
    """Discounted cost of one unit of each variable [USD]."""

    constraints: sparse.csr_array
    """Left-hand sides."""

    lower: FloatArray
    """Lower ends of the rows."""

    upper: FloatArray
    """Upper ends of the rows."""

    most: FloatArray
    """Upper bounds of the variables; lower bounds are 0."""

    whole: IntArray
    """1 for whole variables."""

    index: dict[str, IntArray]
    """Positions of buy (H, T), retire (H, T + 1, T), rent (H, K, T), replicas (H, S, T), api (S, T, R)."""


def build(market: Market) -> Program:
    """Return the market as a program in matrices."""
    sizes = _sizes(market)
    index: dict[str, IntArray] = {}
    start = 0
    for name, shape in sizes.items():
        count = int(np.prod(shape))
        index[name] = np.arange(start, start + count).reshape(shape)
        start += count
    rows = _Rows(start)
    _accelerator_rows(rows, market, index)
    _demand_rows(rows, market, index)
    _stock_rows(rows, market, index)
    _money_rows(rows, market, index)
    whole = np.ones(start, np.int64)
    whole[index["api"].ravel()] = 0
    constraints, lower, upper = rows.matrix()
    return Program(market, _cost(market, index), constraints, lower, upper, _most(market, index), whole, index)


def procure(market: Market, gap: float = 0.005, limit_s: float = 10.0, program: Program | None = None) -> Procurement:
    """Return the cheapest way to serve the demand.

    Parameters
    ----------
    market : Market
        Demand, capacity coefficients, prices and limits.
    gap : float
        Relative distance to the proven bound at which the solver stops [1].
    limit_s : float
        Time after which the best fleet found so far is returned, with its gap [s].
    program : Program, optional
        The same market as matrices, where they are at hand.

    """
    program = build(market) if program is None else program
    return solve(program, program.cost, gap=gap, limit_s=limit_s)


def solve(program: Program, objective: FloatArray, gap: float, limit_s: float) -> Procurement:
    """Return the fleet that minimises an objective; its net present cost is counted at the market's own prices.

    Parameters
    ----------
    program : Program
        Constraints.
    objective : ndarray, shape (variables,)
        What is minimised.
    gap, limit_s : float
        As in `procure`.

    """
    matrix, lower, upper = program.constraints, program.lower, program.upper
    started = time.perf_counter()
    scale = max(1e-12, float(np.abs(objective).max()))
    answer = optimize.milp(
        objective / scale,
        constraints=optimize.LinearConstraint(matrix, lower, upper),
        bounds=optimize.Bounds(np.zeros_like(program.most), program.most),
        integrality=program.whole,
        options={"mip_rel_gap": gap, "time_limit": limit_s, "presolve": True},
    )
    took_s = time.perf_counter() - started
    if answer.x is None:
        reason = "the solver ran out of time" if answer.status == 1 else "no fleet within the limits serves the demand"
        return _nothing(program.market, reason, took_s)
    return _answer(program, np.asarray(answer.x), answer, took_s)


def shortfall(market: Market, limit_s: float = 10.0) -> FloatArray:
    """Return the least demand that must stay unserved where the program is infeasible, shape (S, T, R) [requests/s]."""
    free = np.nan_to_num(market.api_usd)
    missing = np.isnan(market.api_usd)
    program = build(replace(market, api_usd=free))
    objective = np.zeros_like(program.cost)
    objective[program.index["api"][missing]] = 1.0
    return np.where(missing, solve(program, objective, gap=0.01, limit_s=limit_s).api_per_s, 0.0)


def _sizes(market: Market) -> dict[str, tuple[int, ...]]:
    streams, months, hours = market.demand_per_s.shape
    chips, terms = len(market.accelerators), len(market.term_months)
    return {
        "buy": (chips, months),
        "retire": (chips, months + 1, months),
        "rent": (chips, terms, months),
        "replicas": (chips, streams, months),
        "api": (streams, months, hours),
    }


class _Rows:
    """Rows of a sparse matrix as they are collected."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.entries: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []
        self.lower: list[float] = []
        self.upper: list[float] = []

    def add(self, parts: list[tuple[npt.ArrayLike, npt.ArrayLike]], lower: float, upper: float) -> None:
        """Add a row of (positions, coefficients), scaled so that its largest coefficient is one."""
        places = np.concatenate([np.ravel(np.asarray(place)) for place, _ in parts])
        weights = np.concatenate(
            [np.ravel(np.broadcast_to(np.asarray(weight, float), np.shape(place))) for place, weight in parts]
        )
        scale = max(float(np.abs(weights).max(initial=0.0)), 1e-300)
        kept = weights != 0.0
        if not kept.any() and lower <= 0.0 <= upper:
            return
        self.entries.append((places[kept], weights[kept] / scale))
        self.lower.append(lower / scale)
        self.upper.append(upper / scale)

    def matrix(self) -> tuple[sparse.csr_array, FloatArray, FloatArray]:
        """Return the matrix and the ends of its rows."""
        pointers = np.concatenate([[0], np.cumsum([len(places) for places, _ in self.entries])]).astype(np.int64)
        places = np.concatenate([places for places, _ in self.entries])
        weights = np.concatenate([weights for _, weights in self.entries])
        shape = (len(self.entries), self.columns)
        matrix = sparse.csr_array((weights, places, pointers), shape=shape)
        matrix.sum_duplicates()  # the solver rejects a position that stands twice in a row
        return matrix, np.array(self.lower), np.array(self.upper)


def _active(market: Market, month: int) -> list[tuple[int, slice]]:
    """Return, for each term, the months in which a contract that runs in `month` can have started."""
    return [(term, slice(max(0, month - int(length) + 1), month + 1)) for term, length in enumerate(market.term_months)]


def _owned(
    index: dict[str, IntArray], chip: int, month: int, weight: float
) -> list[tuple[npt.ArrayLike, npt.ArrayLike]]:
    """Return the terms of `weight x (owned systems less those at the start)` in a month."""
    return [
        (index["buy"][chip, : month + 1], weight),
        (index["retire"][chip, :, : month + 1], -weight),
    ]


def _rented(
    market: Market, index: dict[str, IntArray], chip: int, month: int, weight: float
) -> list[tuple[npt.ArrayLike, npt.ArrayLike]]:
    return [(index["rent"][chip, term, months], weight) for term, months in _active(market, month)]


def _accelerator_rows(rows: _Rows, market: Market, index: dict[str, IntArray]) -> None:
    _, months, _ = market.demand_per_s.shape
    for month in range(months):
        for chip in range(len(market.accelerators)):
            size, unit = float(market.system_accelerators[chip]), float(market.rent_unit[chip])
            used = [(index["replicas"][chip, :, month], market.replica_accelerators[chip].astype(float))]
            have = _owned(index, chip, month, -size) + _rented(market, index, chip, month, -unit)
            rows.add([*used, *have], -np.inf, size * float(market.systems_at_start[chip]))
            if np.isfinite(market.rent_limit[chip, month]):
                rented = _rented(market, index, chip, month, unit)
                rows.add(rented, -np.inf, float(market.rent_limit[chip, month]))
        power = [part for chip in range(len(market.accelerators))
                 for part in _owned(index, chip, month, float(market.power_w[chip]))]  # fmt: skip
        if np.isfinite(market.site_power_w[month]):
            taken = float(market.power_w @ market.systems_at_start)
            rows.add(power, -np.inf, float(market.site_power_w[month]) - taken)


def _demand_rows(rows: _Rows, market: Market, index: dict[str, IntArray]) -> None:
    streams, months, hours = market.demand_per_s.shape
    for stream in range(streams):
        for month in range(months):
            served = (index["replicas"][:, stream, month], market.capacity_per_s[:, stream, month])
            for hour in range(hours):
                wanted = float(market.demand_per_s[stream, month, hour])
                rows.add([served, (index["api"][stream, month, hour], 1.0)], wanted, np.inf)


def _stock_rows(rows: _Rows, market: Market, index: dict[str, IntArray]) -> None:
    months = market.demand_per_s.shape[1]
    for chip in range(len(market.accelerators)):
        rows.add([(index["retire"][chip, 0], 1.0)], -np.inf, float(market.systems_at_start[chip]))
        for month in range(months):
            sold, bought = index["retire"][chip, 1 + month], index["buy"][chip, month]
            rows.add([(sold, 1.0), (bought, -1.0)], -np.inf, 0.0)


def _money_rows(rows: _Rows, market: Market, index: dict[str, IntArray]) -> None:
    for year, budget in enumerate(market.budget_usd):
        if not np.isfinite(budget):
            continue
        parts: list[tuple[npt.ArrayLike, npt.ArrayLike]] = []
        fixed = 0.0
        for month in np.flatnonzero(market.budget_year == year):
            for chip in range(len(market.accelerators)):
                running = float(market.running_usd[chip, month])
                fixed += running * float(market.systems_at_start[chip])
                parts.append((index["buy"][chip, month], market.purchase_usd[chip, month]))
                parts += _owned(index, chip, int(month), running)
                unit = float(market.rent_unit[chip])
                for term, started in _active(market, int(month)):
                    rent = np.nan_to_num(market.rent_usd[chip, term, started])
                    parts.append((index["rent"][chip, term, started], rent * unit))
            parts.append((index["api"][:, month], np.nan_to_num(market.api_usd[:, month])))
        rows.add(parts, -np.inf, float(budget) - fixed)


def _cost(market: Market, index: dict[str, IntArray]) -> FloatArray:
    months = market.demand_per_s.shape[1]
    discount, end = market.discount[:months], float(market.discount[months])
    cost = np.zeros(sum(part.size for part in index.values()))
    # Running cost of a system from month t to the end, discounted.
    running = np.cumsum((market.running_usd * discount)[:, ::-1], axis=1)[:, ::-1]
    residual = market.resale_usd[:, :, months] * end
    cost[index["buy"]] = market.purchase_usd * discount + running - residual[:, 1:]
    sold = market.resale_usd[:, :, :months] * discount
    cost[index["retire"]] = residual[:, :, None] - sold - running[:, None, :]
    for term, length in enumerate(market.term_months):
        paid = np.array([discount[start : start + int(length)].sum() for start in range(months)])
        rent = np.nan_to_num(market.rent_usd[:, term]) * paid + market.rent_tail_usd[:, term] * end
        cost[index["rent"][:, term]] = rent * market.rent_unit[:, None]
    cost[index["api"]] = np.nan_to_num(market.api_usd) * discount[None, :, None]
    return cost


def _fixed_cost(market: Market) -> float:
    """Return what the systems owned at the start cost if none is sold, less their value at the end [USD]."""
    months = market.demand_per_s.shape[1]
    running = market.running_usd @ market.discount[:months]
    residual = market.resale_usd[:, 0, months] * float(market.discount[months])
    return float(market.systems_at_start @ (running - residual))


def _most(market: Market, index: dict[str, IntArray]) -> FloatArray:
    months = market.demand_per_s.shape[1]
    most = np.full(sum(part.size for part in index.values()), np.inf)
    most[index["buy"]] = market.purchase_limit
    # A delivery is sold after the month in which it came at the earliest.
    earlier = np.arange(months + 1)[:, None] > np.arange(months)[None, :]
    most[index["retire"][:, earlier]] = 0.0
    most[index["rent"]] = np.where(np.isnan(market.rent_usd), 0.0, np.inf)
    most[index["replicas"]] = np.where(market.capacity_per_s > 0.0, np.inf, 0.0)
    most[index["api"]] = np.where(np.isnan(market.api_usd), 0.0, market.demand_per_s)
    return most


def _answer(program: Program, found: FloatArray, answer: Any, took_s: float) -> Procurement:
    market, index = program.market, program.index
    whole = {name: np.rint(found[index[name]]).astype(np.int64) for name in ("buy", "retire", "rent", "replicas")}
    served = np.einsum("hst,hst->st", market.capacity_per_s, whole["replicas"].astype(float))
    api = np.where(np.isnan(market.api_usd), 0.0, np.maximum(0.0, market.demand_per_s - served[:, :, None]))
    api[api < SMALLEST_OVERFLOW_PER_S] = 0.0
    return priced(market, whole["buy"], whole["retire"], whole["rent"], whole["replicas"], api, {
        "reason": str(answer.message).strip().splitlines()[0],
        "gap": float(answer.mip_gap or 0.0),
        "solve_s": took_s,
    })  # fmt: skip


def priced(
    market: Market,
    bought: IntArray,
    retired_by_delivery: IntArray,
    rent_started: IntArray,
    replicas: IntArray,
    api_per_s: FloatArray,
    how: dict[str, Any],
) -> Procurement:
    """Return a fleet with its stocks and money, by adding up month by month what the program sums in closed form.

    Parameters
    ----------
    market : Market
        Prices.
    bought, retired_by_delivery, rent_started, replicas : ndarray of int
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
    stock = market.systems_at_start.astype(np.int64).copy()
    for month in range(months):
        sold = retired_by_delivery[:, :, month]
        stock = stock + bought[:, month] - sold.sum(axis=1)
        left = left - sold
        owned[:, month] = stock
        money["purchase"][month] = bought[:, month] @ market.purchase_usd[:, month]
        money["running"][month] = stock @ market.running_usd[:, month]
        money["resale"][month] = (sold * market.resale_usd[:, :, month]).sum()
        for term, started in _active(market, month):
            contracts = rent_started[:, term, started] * market.rent_unit[:, None]
            rented[:, month] += contracts.sum(axis=1)
            money["rent"][month] += (contracts * np.nan_to_num(market.rent_usd[:, term, started])).sum()
        money["api"][month] = (api_per_s[:, month] * np.nan_to_num(market.api_usd[:, month])).sum()
    tail = (rent_started * market.rent_unit[:, None, None] * market.rent_tail_usd).sum()
    end_usd = float((left * market.resale_usd[:, :, months]).sum() - tail)
    out = money["purchase"] + money["running"] + money["rent"] + money["api"] - money["resale"]
    present = float(out @ market.discount[:months]) - end_usd * float(market.discount[months])
    return Procurement(
        True, how["reason"], present, how["gap"], how["solve_s"], bought, retired_by_delivery.sum(axis=1), owned,
        rent_started, rented, replicas, api_per_s, money, end_usd,
    )  # fmt: skip


def _nothing(market: Market, reason: str, took_s: float) -> Procurement:
    sizes = _sizes(market)
    zeros = {name: np.zeros(shape, np.int64) for name, shape in sizes.items()}
    months = market.demand_per_s.shape[1]
    return Procurement(
        False, reason, float("inf"), float("inf"), took_s, zeros["buy"], zeros["retire"].sum(axis=1), zeros["buy"],
        zeros["rent"], zeros["buy"], zeros["replicas"], np.zeros(sizes["api"]),
        {kind: np.zeros(months) for kind in ("purchase", "running", "rent", "api", "resale")}, 0.0,
    )  # fmt: skip
