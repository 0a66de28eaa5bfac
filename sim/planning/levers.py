"""The cost of serving a month's demand with any set of levers, fast enough for all 256 sets, and who saved what."""

from __future__ import annotations

import datetime
from typing import cast

from sim.planning.attribution import Attribution, attribute
from sim.planning.capacities import Capacities, Coefficient, MeanTokens, Service
from sim.planning.coefficients import REQUESTS, SEED, SimulatedCapacities, requests_of
from sim.planning.horizon import Horizon
from sim.planning.months import change_factor
from sim.planning.service_cost import choices_in, requests_in
from sim.serving.capacity import RequestMix, request_mix, saturated_requests_per_s
from sim.specs.errors import InputError
from sim.specs.horizon import LeverName


class MeanFieldCapacities:
    """What a replica serves by the mean field at saturation, times the load that was simulated with all levers.

    The load at which latencies reach their limits is simulated once for each model and accelerator, with all levers;
    for other sets of levers the saturation moves and that load is kept.
    """

    def __init__(self, simulated: SimulatedCapacities) -> None:
        self.simulated = simulated
        self._known: dict[tuple[Service, str], Coefficient] = {}
        self._mixes: dict[object, tuple[RequestMix, int]] = {}

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean tokens of a use case."""
        return self.simulated.tokens(case, model)

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return what a replica serves, kept once it was found."""
        if (service, hardware) not in self._known:
            self._known[service, hardware] = self._best(service, hardware)
        return self._known[service, hardware]

    def _best(self, service: Service, hardware: str) -> Coefficient:
        everything = Service(service.case, service.model, True, True, True, False)
        load = self.simulated.replica(everything, hardware).load
        best = Coefficient(0, 0.0, 0.0, "no layout serves")
        for tensor in self.simulated.horizon.spec.use_cases[service.case].models[service.model].layouts:
            try:
                deployment = self.simulated.deployment(service, hardware, tensor)
            except InputError:
                continue
            mix, longest = self._mix(service, deployment.window)
            if longest > deployment.longest_request():
                continue
            served = load * saturated_requests_per_s(deployment, mix)
            if served / deployment.accelerators > best.requests_per_s / max(1, best.accelerators):
                best = Coefficient(deployment.accelerators, served, load, "mean field")
        return best

    def _mix(self, service: Service, window: int) -> tuple[RequestMix, int]:
        key = (service.case, service.model, service.prefix_cached, service.compressed, window)
        if key not in self._mixes:
            trace = requests_of(self.simulated.horizon, service, 1.0, REQUESTS, SEED, float(service.compressed))
            longest = int((trace.prompt_tokens + trace.output_tokens).max())
            mix = request_mix(trace.prompt_tokens, trace.cached_tokens, trace.output_tokens, window)
            self._mixes[key] = (mix, longest)
        return self._mixes[key]


def serving_usd(horizon: Horizon, capacities: Capacities, month: datetime.date, levers: frozenset[LeverName]) -> float:
    """Return what it costs to serve a month's demand at constant price with some levers [USD].

    Demand is that without any answer to cost, the same for all sets of levers; an API is not among the ways, and
    prices are those of the month. Fleets are large, so that whole replicas do not matter.
    """
    total = 0.0
    for case, described in horizon.spec.use_cases.items():
        rate = described.rate.value * change_factor(described.growth, horizon.spec.start, month)
        cost = choices_in(horizon, capacities, case, month, levers).cheapest(with_api=False)
        total += cost.usd_per_request * requests_in(month, rate)
    return total


def attribution_of(simulated: SimulatedCapacities, month: datetime.date | None = None) -> Attribution:
    """Return what each lever of the horizon that is on saves in a month, the last one unless another is given."""
    horizon, capacities = simulated.horizon, MeanFieldCapacities(simulated)
    when = horizon.spec.end if month is None else month
    levers = sorted(horizon.levers)

    def cost(chosen: frozenset[str]) -> float:
        return serving_usd(horizon, capacities, when, cast(frozenset[LeverName], chosen))

    return attribute(levers, cost)
