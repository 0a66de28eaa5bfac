"""The cost of serving a month's demand with any set of levers, by simulation, and who saved what."""

from __future__ import annotations

import datetime
import math
from typing import cast

from sim.planning.attribution import Attribution, attribute
from sim.planning.capacities import Capacities, Coefficient, MeanTokens, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.months import change_factor
from sim.planning.service_cost import own_ways, peak_over_mean, requests_in
from sim.planning.terms import hardware_on_offer
from sim.planning.usage import model_shares
from sim.specs.horizon import LeverName


class Bounds:
    """The most that replicas can serve, without a simulation."""

    def __init__(self, simulated: SimulatedCapacities) -> None:
        self.simulated = simulated
        self._known: dict[tuple[Service, str], Coefficient] = {}

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean tokens of a use case."""
        return self.simulated.tokens(case, model)

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return the most that one replica can serve."""
        if (service, hardware) not in self._known:
            self._known[service, hardware] = self.simulated.bound(service, hardware)
        return self._known[service, hardware]


def serving_usd(
    simulated: SimulatedCapacities, bounds: Capacities, month: datetime.date, levers: frozenset[LeverName]
) -> float:
    """Return what it costs to serve a month's demand at constant price with some levers [USD].

    Demand is that without any answer to cost, the same for all sets of levers; an API is not among the ways, and
    prices are those of the month. Fleets are large, so that whole replicas do not matter. Accelerators are simulated in
    the order of the least that they can cost, until none can be cheaper than the best so far. Where nothing keeps the
    service levels, the cheapest throughput without them counts: the least that such a set of levers could cost.
    """
    horizon = simulated.horizon
    total = 0.0
    for case, described in horizon.spec.use_cases.items():
        rate = described.rate.value * change_factor(described.growth, horizon.spec.start, month)
        peak = peak_over_mean(horizon, case)
        for model, share in model_shares(horizon, case, month, levers).items():

            def least(
                capacities: Capacities, name: str, *, case: str = case, model: str = model, peak: float = peak
            ) -> float:
                ways = own_ways(horizon, capacities, case, model, name, month, levers)
                return min((way.usd_per_request(None, peak) for way in ways), default=math.inf)

            best = math.inf
            by_bound = sorted((least(bounds, name), name) for name in hardware_on_offer(horizon, month, levers))
            for bound, name in by_bound:
                if bound >= best:
                    break
                best = min(best, least(simulated, name))
            if math.isinf(best) and by_bound:
                best = by_bound[0][0]
            total += share * best * requests_in(month, rate)
    return total


def attribution_of(simulated: SimulatedCapacities, month: datetime.date | None = None) -> Attribution:
    """Return what each lever of the horizon that is on saves in a month, the last one unless another is given."""
    horizon, bounds = simulated.horizon, Bounds(simulated)
    when = horizon.spec.end if month is None else month

    def cost(chosen: frozenset[str]) -> float:
        return serving_usd(simulated, bounds, when, cast(frozenset[LeverName], chosen))

    return attribute(sorted(horizon.levers), cost)
