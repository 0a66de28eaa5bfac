"""The cost of serving a month's demand with any set of levers, fast enough for all 256 sets, and who saved what."""

from __future__ import annotations

import datetime
from typing import cast

from sim.planning.attribution import Attribution, attribute
from sim.planning.coefficients import (
    REQUESTS,
    SEED,
    Coefficient,
    Service,
    coefficient,
    deployment_of,
    requests_of,
)
from sim.planning.horizon import Horizon, change_factor
from sim.planning.service_cost import requests_in, service_cost
from sim.serving.capacity import RequestMix, request_mix, saturated_requests_per_s
from sim.specs.errors import InputError
from sim.specs.horizon import LeverName


def quick_coefficient(horizon: Horizon, service: Service, hardware: str) -> Coefficient:
    """Return what a replica serves by the mean field at saturation, times the load that was simulated with all levers.

    The load at which latencies reach their limits is simulated once for each model and accelerator, with all levers;
    for other sets of levers the saturation moves and that load is kept. Kept once it was found.
    """
    key = ("quick", service, hardware)
    known = horizon.coefficients.get(key)
    if isinstance(known, Coefficient):
        return known
    everything = Service(service.case, service.model, True, True, True, False)
    load = coefficient(horizon, everything, hardware).load
    best = Coefficient(0, 0.0, 0.0, "no layout serves")
    for tensor in horizon.spec.use_cases[service.case].models[service.model].layouts:
        try:
            deployment = deployment_of(horizon, service, hardware, tensor)
        except InputError:
            continue
        mix, longest = _mix(horizon, service, deployment.window)
        if longest > deployment.longest_request():
            continue
        served = load * saturated_requests_per_s(deployment, mix)
        if served / deployment.accelerators > best.requests_per_s / max(1, best.accelerators):
            best = Coefficient(deployment.accelerators, served, load, "mean field")
    horizon.coefficients[key] = best
    return best


def _mix(horizon: Horizon, service: Service, window: int) -> tuple[RequestMix, int]:
    key = ("mix", service.case, service.model, service.prefix_cached, service.compressed, window)
    known = horizon.coefficients.get(key)
    if known is None:
        trace = requests_of(horizon, service, 1.0, REQUESTS, SEED, float(service.compressed))
        longest = int((trace.prompt_tokens + trace.output_tokens).max())
        known = (request_mix(trace.prompt_tokens, trace.cached_tokens, trace.output_tokens, window), longest)
        horizon.coefficients[key] = known
    return cast(tuple[RequestMix, int], known)


def serving_usd(horizon: Horizon, month: datetime.date, levers: frozenset[LeverName]) -> float:
    """Return what it costs to serve a month's demand at constant price with some levers [USD].

    Demand is that without any answer to cost, the same for all sets of levers; an API is not among the ways, and
    prices are those of the month. Fleets are large, so that whole replicas do not matter.
    """
    total = 0.0
    for case, described in horizon.spec.use_cases.items():
        rate = described.rate.value * change_factor(described.growth, horizon.spec.start, month)
        cost = service_cost(horizon, case, month, levers, with_api=False, capacity=quick_coefficient)
        total += cost.usd_per_request * requests_in(horizon, case, month, rate)
    return total


def attribution_of(horizon: Horizon, month: datetime.date | None = None) -> Attribution:
    """Return what each lever of the horizon that is on saves in a month, the last one unless another is given."""
    when = horizon.spec.end if month is None else month
    levers = sorted(horizon.levers)

    def cost(chosen: frozenset[str]) -> float:
        return serving_usd(horizon, when, cast(frozenset[LeverName], chosen))

    return attribute(levers, cost)
