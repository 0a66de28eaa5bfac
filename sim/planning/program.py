"""The procurement program as matrices: what can be decided, what binds, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from sim.planning.constraint_rows import Rows

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Amounts = npt.NDArray[np.int64] | npt.NDArray[np.float64]


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

    api_limit_per_s: FloatArray
    """Most demand that may be left to an API, infinite for any, shape (S, T) [requests/s]."""

    discount: FloatArray
    """Discount factor of each month and of the end, shape (T + 1,)."""


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

    least: FloatArray
    """Lower bounds of the variables."""

    most: FloatArray
    """Upper bounds of the variables."""

    whole: IntArray
    """1 for whole variables."""

    index: dict[str, IntArray]
    """Positions of buy (H, T), retire (H, T + 1, T), rent (H, K, T), replicas (H, S, T), api (S, T, R)."""


def build(market: Market) -> Program:
    """Return the market as a program in matrices."""
    sizes = sizes_of(market)
    index: dict[str, IntArray] = {}
    start = 0
    for name, shape in sizes.items():
        count = int(np.prod(shape))
        index[name] = np.arange(start, start + count).reshape(shape)
        start += count
    rows = Rows(start)
    _accelerator_rows(rows, market, index)
    _demand_rows(rows, market, index)
    _stock_rows(rows, market, index)
    _money_rows(rows, market, index)
    whole = np.ones(start, np.int64)
    whole[index["api"].ravel()] = 0
    constraints, lower, upper = rows.matrix()
    return Program(
        market, _cost(market, index), constraints, lower, upper, np.zeros(start), _most(market, index), whole, index
    )


def sizes_of(market: Market) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the decisions by name."""
    streams, months, hours = market.demand_per_s.shape
    chips, terms = len(market.accelerators), len(market.term_months)
    return {
        "buy": (chips, months),
        "retire": (chips, months + 1, months),
        "rent": (chips, terms, months),
        "replicas": (chips, streams, months),
        "api": (streams, months, hours),
    }


def active(market: Market, month: int) -> list[tuple[int, slice]]:
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
    return [(index["rent"][chip, term, months], weight) for term, months in active(market, month)]


def _accelerator_rows(rows: Rows, market: Market, index: dict[str, IntArray]) -> None:
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


def _demand_rows(rows: Rows, market: Market, index: dict[str, IntArray]) -> None:
    streams, months, hours = market.demand_per_s.shape
    for stream in range(streams):
        for month in range(months):
            served = (index["replicas"][:, stream, month], market.capacity_per_s[:, stream, month])
            for hour in range(hours):
                wanted = float(market.demand_per_s[stream, month, hour])
                rows.add([served, (index["api"][stream, month, hour], 1.0)], wanted, np.inf)


def _stock_rows(rows: Rows, market: Market, index: dict[str, IntArray]) -> None:
    months = market.demand_per_s.shape[1]
    for chip in range(len(market.accelerators)):
        rows.add([(index["retire"][chip, 0], 1.0)], -np.inf, float(market.systems_at_start[chip]))
        for month in range(months):
            sold, bought = index["retire"][chip, 1 + month], index["buy"][chip, month]
            rows.add([(sold, 1.0), (bought, -1.0)], -np.inf, 0.0)


def _money_rows(rows: Rows, market: Market, index: dict[str, IntArray]) -> None:
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
                for term, started in active(market, int(month)):
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


def fixed_cost(market: Market) -> float:
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
    most[index["api"]] = np.where(
        np.isnan(market.api_usd), 0.0, np.minimum(market.demand_per_s, market.api_limit_per_s[:, :, None])
    )
    return most
