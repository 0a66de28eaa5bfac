"""The two fleets of a world: the cheapest there would be, and the one that was decided, which has to do.

Both are linear programs over the matrices of `sim.planning.program`, with fractions allowed, so that a world takes
hundredths of a second. Demand that nothing serves is left unserved at a stated price, so that every world has an
answer. The decided fleet is the plan's orders and contracts of more than the shortest term; by the month one can rent
more, leave more to the API, and spread accelerators over use cases in another way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, sparse

from sim.planning.procurement import Procurement, priced
from sim.planning.program import Amounts, FloatArray, IntArray, Market, Program, active, build, fixed_cost


@dataclass(frozen=True, eq=False)
class Decided:
    """What a plan has committed itself to."""

    ordered: IntArray
    """Systems by the month in which they would be delivered as planned, shape (H, T)."""

    contracts: IntArray
    """Contracts of one unit that start, of all terms, shape (H, K, T)."""

    lead_months: IntArray
    """Lead times that the plan counted on, shape (H,) [months]."""


@dataclass(frozen=True, eq=False)
class WorldFleet:
    """A fleet in a world."""

    fleet: Procurement
    """Amounts, which may be fractions, and money; what is unserved is not among it."""

    unserved_per_s: FloatArray
    """Demand that nothing serves, shape (S, T, R) [requests/s]."""

    penalty_usd: FloatArray
    """What the unserved demand costs at the stated price, not discounted, shape (T,) [USD]."""

    net_present_cost_usd: float
    """Discounted cost less what is left, the unserved demand at the stated price included [USD]."""


def decided(fleet: Procurement, lead_months: IntArray) -> Decided:
    """Return what a plan's fleet commits to."""
    return Decided(
        np.asarray(fleet.bought, np.int64),
        np.asarray(fleet.rent_started, np.int64),
        lead_months,
    )


def cheapest_fleet(market: Market, unserved_price: float) -> WorldFleet:
    """Return the fleet that would be cheapest in a world, decided in full knowledge of it.

    Parameters
    ----------
    market : Market
        The world's demand, capacity, prices and limits.
    unserved_price : float
        Price of demand unserved in one representative hour, over the rent that would serve it that month [1].

    """
    program = build(market)
    return _solved(program, np.zeros_like(program.most), program.most.copy(), unserved_price)


def decided_fleet(market: Market, plan: Decided, lead_months: IntArray, unserved_price: float) -> WorldFleet:
    """Return what the decided fleet comes to in a world.

    Orders arrive as much later or earlier as the world's lead times differ, no more a month than it supplies; those
    that come after the last month never do. Budget and site power are not enforced: what was decided is paid.

    Parameters
    ----------
    market : Market
        The world's demand, capacity, prices and limits.
    plan : Decided
        What was decided.
    lead_months : ndarray of int, shape (H,)
        The world's lead times [months].
    unserved_price : float
        As in `cheapest_fleet`.

    """
    free = replace(
        market,
        budget_usd=np.full_like(market.budget_usd, np.inf),
        site_power_w=np.full_like(market.site_power_w, np.inf),
    )
    shortest = int(market.term_months.min())
    limited = np.maximum(market.rent_limit, _committed(market, plan, shortest))
    program = build(replace(free, rent_limit=limited))
    index = program.index
    least, most = np.zeros_like(program.most), program.most.copy()
    arriving = delivered(plan, market, lead_months)
    least[index["buy"]] = most[index["buy"]] = arriving
    for term, length in enumerate(market.term_months):
        started = plan.contracts[:, term].astype(float)
        if int(length) > shortest:
            least[index["rent"][:, term]] = most[index["rent"][:, term]] = started
    # Contracts that the world does not offer any more are kept: they were signed.
    return _solved(program, least, np.maximum(most, least), unserved_price)


def delivered(plan: Decided, market: Market, lead_months: IntArray) -> FloatArray:
    """Return the systems that arrive in a world, shape (H, T): orders moved by its lead times and cut to its supply."""
    chips, months = plan.ordered.shape
    found = np.zeros((chips, months))
    for chip in range(chips):
        supply = float(market.purchase_limit[chip].max(initial=0))
        waiting = 0.0
        shift = int(lead_months[chip] - plan.lead_months[chip])
        for month in range(months):
            due = month - shift
            waiting += float(plan.ordered[chip, due]) if 0 <= due < months else 0.0
            if month == 0 and shift < 0:
                waiting += float(plan.ordered[chip, :-shift].sum())
            found[chip, month] = min(waiting, supply)
            waiting -= found[chip, month]
    return found


def _committed(market: Market, plan: Decided, shortest: int) -> FloatArray:
    """Return accelerators under contracts longer than the shortest, shape (H, T)."""
    chips, months = plan.ordered.shape
    found = np.zeros((chips, months))
    for month in range(months):
        for term, started in active(market, month):
            if int(market.term_months[term]) > shortest:
                found[:, month] += plan.contracts[:, term, started].sum(axis=1) * market.rent_unit
    return found


def unserved_usd(market: Market, price: float) -> FloatArray:
    """Return what leaving 1 request/s unserved in one representative hour of a month costs, shape (S, T) [USD].

    The stated multiple of the cheapest rent of the shortest term that would serve it for that whole month, for that is
    what serving its busiest hour takes; where nothing can be rented so, of the dearest rent or API of all.
    """
    terms = market.rent_usd[:, market.term_months == market.term_months.min()]
    rent = np.where(np.isnan(terms), np.inf, terms).min(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = rent[:, None, :] * market.replica_accelerators[:, :, None] / market.capacity_per_s
    each = np.where((market.capacity_per_s > 0.0) & np.isfinite(each), each, np.inf).min(axis=0)
    known = each[np.isfinite(each)]
    api = market.api_usd[np.isfinite(market.api_usd)]
    dearest = max([*known.tolist(), *api.tolist(), 1.0])
    return np.asarray(price * np.where(np.isfinite(each), each, dearest))


def _solved(program: Program, least: FloatArray, most: FloatArray, unserved_price: float) -> WorldFleet:
    """Return the cheapest fleet between some bounds; every demand row has a variable for what is unserved."""
    market, index = program.market, program.index
    shape = market.demand_per_s.shape
    usd = np.broadcast_to(unserved_usd(market, unserved_price)[:, :, None], shape)
    rows = np.flatnonzero(np.isfinite(program.lower))
    # Rows are scaled: what is unserved counts in them as what is left to an API does.
    weights = np.asarray(program.constraints[rows, index["api"].ravel()]).ravel()
    slack = sparse.csr_array((weights, (rows, np.arange(rows.size))), shape=(program.constraints.shape[0], rows.size))
    priced_slack = (usd * market.discount[None, : shape[1], None]).ravel()
    cost = np.concatenate([program.cost, priced_slack])
    scale = max(1e-12, float(np.abs(cost).max()))
    answer = optimize.milp(
        cost / scale,
        constraints=optimize.LinearConstraint(
            sparse.hstack([program.constraints, slack], format="csr"), program.lower, program.upper
        ),
        bounds=optimize.Bounds(
            np.concatenate([least, np.zeros(rows.size)]), np.concatenate([most, market.demand_per_s.ravel()])
        ),
    )
    if answer.x is None:
        raise RuntimeError(f"a world has no fleet, which unserved demand should rule out: {answer.message}")
    found, unserved = np.asarray(answer.x)[: -rows.size], np.asarray(answer.x)[-rows.size :].reshape(shape)
    made: dict[str, Amounts] = {name: found[index[name]] for name in ("buy", "retire", "rent", "replicas")}
    how = {"reason": "linear program", "gap": 0.0, "solve_s": 0.0}
    fleet = priced(market, made["buy"], made["retire"], made["rent"], made["replicas"], found[index["api"]], how)
    total = float(cost @ np.asarray(answer.x)) + fixed_cost(market)
    return WorldFleet(fleet, unserved, (unserved * usd).sum(axis=(0, 2)), total)
