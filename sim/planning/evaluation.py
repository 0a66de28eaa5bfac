"""What a horizon comes to when it is known what replicas serve: demand, fleet, money, viability, without a simulation.

A plan has two stages. The first takes hardware, models and software and simulates what a replica serves: a table
(`sim.planning.coefficients`). The second takes the table and everything else, demand, prices, supply, terms, and is
this: it can be asked a thousand times with other numbers in the horizon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.planning.capacities import Capacities
from sim.planning.demand import Demand
from sim.planning.horizon import Horizon
from sim.planning.market import PlannedMarket, demands, planned_market, under_policy
from sim.planning.months import PricePath
from sim.planning.plan_rows import fleet_rows
from sim.planning.plan_tables import table
from sim.planning.procurement import Procurement, procure
from sim.planning.program import FloatArray
from sim.planning.rolling import roll
from sim.planning.viability import first_months, viability_rows
from sim.specs.horizon import PolicyName


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The cheapest fleet of a horizon, and what follows from it."""

    horizon: Horizon
    """What was evaluated."""

    capacities: Capacities
    """What replicas were taken to serve."""

    planned: PlannedMarket
    """Demand, capacity and prices as arrays."""

    fleet: Procurement
    """What to own, rent and leave to the API."""

    policy: PolicyName
    """Policy by which the fleet was chosen."""

    @property
    def feasible(self) -> bool:
        """Return whether any fleet meets all limits."""
        return self.fleet.feasible

    @property
    def net_present_cost_usd(self) -> float:
        """Return the discounted cost less the residual value; infinite where nothing will do [USD]."""
        return self.fleet.net_present_cost_usd

    def costs(self) -> pd.DataFrame:
        """Return cost by month and use case, columns of the plan's table `costs`."""
        return self._rows("costs")

    def purchases(self) -> pd.DataFrame:
        """Return orders, deliveries, retirements and contracts, columns of the plan's table `purchases`."""
        return self._rows("purchases")

    def periods(self) -> pd.DataFrame:
        """Return energy, power, carbon and money by month and site, columns of the plan's table `periods`."""
        return self._rows("periods")

    def viability(self) -> pd.DataFrame:
        """Return from which month each use case pays, as `sim.planning.viability.first_months`."""
        rows = table("viability", viability_rows(self.horizon, self.capacities, self.horizon.spec.name))
        return first_months(rows, self.horizon)

    def _rows(self, name: str) -> pd.DataFrame:
        if not self.feasible:
            return table(name, [])
        found = fleet_rows(self.horizon, self.capacities, self.planned, self.fleet, self.horizon.spec.name, self.policy)
        return table(name, found[name])


def evaluate(
    horizon: Horizon,
    capacities: Capacities,
    *,
    policy: PolicyName = "optimal",
    path: PricePath = "base",
    wanted: Mapping[str, tuple[Demand, ...]] | None = None,
    derating: Mapping[str, FloatArray] | None = None,
    gap: float = 0.02,
    nodes: int = 200,
    whole: bool = True,
) -> Evaluation:
    """Return the cheapest fleet of a horizon; nothing is simulated.

    Parameters
    ----------
    horizon : Horizon
        Demand, prices, supply, terms; `Horizon.with_numbers` puts other numbers into it.
    capacities : Capacities
        What replicas serve: `SimulatedCapacities(horizon).table()`, perhaps `scaled`.
    policy : str
        Policy to follow.
    path : str
        Price path.
    wanted : mapping, optional
        Demand by use case and month, where it is known already.
    derating : mapping, optional
        Factor on what the replicas of a stream serve, by stream and month.
    gap : float
        Relative distance to the proven bound at which the solver stops [1].
    nodes : int
        Nodes of its search after which the best fleet found so far counts.
    whole : bool
        Whether systems, contracts and replicas are whole; fractions give a lower bound on cost, 30 times faster.

    """
    asked = demands(horizon, capacities, path) if wanted is None else wanted
    planned = planned_market(horizon, capacities, asked, path, derating)
    return Evaluation(horizon, capacities, planned, solved(horizon, planned, policy, gap, nodes, whole), policy)


def solved(
    horizon: Horizon, planned: PlannedMarket, policy: PolicyName, gap: float, nodes: int, whole: bool = True
) -> Procurement:
    """Return the fleet of a policy; `rolling` sees some months at a time, all others all of them."""
    if policy != "rolling":
        return procure(under_policy(planned, policy, horizon), gap, nodes, whole=whole)
    lead = np.array([offer.lead_time_months.value for offer in horizon.spec.hardware.values()], np.int64)
    return roll(planned.market, lead, horizon.spec.foresight_months.value, horizon.spec.resale.value, 2.0 * gap)
