"""Fleets that cost little more than the cheapest and are built of something else, for the cheapest is often sold out.

Method: one ingredient is made dearer or cheaper for the solver alone, as far as the slack allows, and the fleet that
results is priced as it is; of those within the slack, the ones that differ most count. Generating alternatives so is
the weighting method of Brill, Chang and Hopkins, Management Science 28 (1982); every solution is as easy to find as the
optimum. How far a price can be moved is found with fractions of systems, which takes hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.planning.procurement import Procurement, solve
from sim.planning.program import FloatArray, Program

STRENGTHS = (0.05, 0.1, 0.2, 0.35, 0.6)
"""Relative changes of price that are tried; the largest that keeps within the slack is taken [1]."""

ROOM = 0.6
"""Part of the slack that fractions of systems may take: whole ones come on top [1]."""

CANDIDATE_GAP = 0.02
"""Gap at which a candidate is taken [1]."""


@dataclass(frozen=True, eq=False)
class Alternative:
    """A near-optimal fleet and what it was asked for."""

    direction: str
    """What was asked for, e.g. `less h100-sxm`."""

    dearer: float
    """Net present cost over that of the optimum, less one [1]."""

    difference: float
    """Distance to the nearest of the fleets chosen before it, 0 to 2 [1]."""

    procurement: Procurement
    """The fleet."""


def alternatives(
    program: Program, best: Procurement, slack: float = 0.05, count: int = 3, nodes: int = 1
) -> list[Alternative]:
    """Return fleets within a slack of the optimum that differ most from it and from each other.

    Parameters
    ----------
    program : Program
        Constraints and costs.
    best : Procurement
        The optimum.
    slack : float
        Most that an alternative may cost more [1].
    count : int
        Most alternatives.
    nodes : int
        Nodes of the search for each candidate; the best found by then counts.

    """
    if not best.feasible:
        return []
    ceiling = best.net_present_cost_usd + slack * abs(best.net_present_cost_usd)
    candidates = []
    bound = solve(program, program.cost, whole=False).net_present_cost_usd
    fractions = bound + ROOM * slack * abs(bound)
    for direction, weight in _directions(program, best):
        within: FloatArray | None = None
        for strength in STRENGTHS:
            moved = program.cost * (1.0 + strength * weight)
            if solve(program, moved, whole=False).net_present_cost_usd > fractions:
                break
            within = moved
        if within is None:
            continue
        found = solve(program, within, gap=CANDIDATE_GAP, nodes=nodes)
        if found.feasible and found.net_present_cost_usd <= ceiling:
            candidates.append((direction, found))
    chosen: list[Alternative] = []
    signatures = [signature(program, best)]
    while candidates and len(chosen) < count:
        distances = [_nearest(signature(program, found), signatures) for _, found in candidates]
        far = int(np.argmax(distances))
        if distances[far] < 0.02:
            break
        direction, found = candidates.pop(far)
        dearer = found.net_present_cost_usd / best.net_present_cost_usd - 1.0
        chosen.append(Alternative(direction, dearer, float(distances[far]), found))
        signatures.append(signature(program, found))
    return chosen


def signature(program: Program, fleet: Procurement) -> FloatArray:
    """Return what a fleet is made of: shares of the work by accelerator, owned, rented, or API; and when it is bought.

    Work is capacity in use, a replica's requests over the demand of its stream, so that a fast accelerator counts for
    more than a slow one. Shape (2 H + 2,): owned, rented, API, mean month of delivery over the months.
    """
    market = program.market
    demand = np.maximum(market.demand_per_s.max(axis=2), 1e-12)
    work = np.einsum("hst,hst->h", market.capacity_per_s / demand[None], fleet.replicas.astype(float))
    owned = (fleet.owned * market.system_accelerators[:, None]).sum(axis=1).astype(float)
    rented = fleet.rented.sum(axis=1).astype(float)
    api = float((fleet.api_per_s.max(axis=2) / demand).sum())
    total = max(float(work.sum()) + api, 1e-12)
    part = owned / np.maximum(owned + rented, 1e-12)
    bought = fleet.bought.sum(axis=0).astype(float)
    months = len(bought)
    timing = float(bought @ np.arange(months)) / max(float(bought.sum()), 1.0) / months
    return np.concatenate([work * part / total, work * (1.0 - part) / total, [api / total, timing]])


def _nearest(here: FloatArray, others: list[FloatArray]) -> float:
    return min(float(np.abs(here - other).sum()) for other in others)


def _directions(program: Program, best: Procurement) -> Iterator[tuple[str, FloatArray]]:
    """Yield what is made dearer (1) or cheaper (-1): each accelerator, owning, renting, the API, early purchases."""
    market, index = program.market, program.index
    for chip, name in enumerate(market.accelerators):
        if not (market.capacity_per_s[chip] > 0.0).any():
            continue
        used = bool(best.owned[chip].any() or best.rented[chip].any())
        weight = np.zeros_like(program.cost)
        for part in ("buy", "rent"):
            weight[index[part][chip]] = 1.0 if used else -1.0
        yield f"{'less' if used else 'more'} {name}", weight
    for part, label in (("buy", "less bought"), ("rent", "less rented"), ("api", "less API")):
        weight = np.zeros_like(program.cost)
        weight[index[part]] = 1.0
        yield label, weight
    late = np.zeros_like(program.cost)
    months = market.demand_per_s.shape[1]
    late[index["buy"]] = 1.0 - np.arange(months) / months
    yield "later purchases", late
