"""The response without simulation against simulations of drawn worlds: how far it can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from sim.demand.trace import Trace
from sim.planning.capacities import CapacityTable, Coefficient, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.lengths import world_requests
from sim.planning.uncertainty.response import Response
from sim.planning.uncertainty.world import World


def simulated_capacities(world: World) -> CapacityTable:
    """Return what replicas serve in a world, simulated as for a plan: the world's requests, sizing, layouts and all."""

    def requests(
        horizon: Horizon, service: Service, rate_per_s: float, count: int, seed: int, adoption: float
    ) -> Trace:
        del horizon
        return world_requests(world, service, rate_per_s, count, seed, adoption)

    return SimulatedCapacities(world.horizon, requests=requests).table()


def compared(response: Response, world: World) -> Iterator[tuple[Service, str, Coefficient, Coefficient]]:
    """Yield service, accelerator, response and simulation for all that serves by either; model errors are left out."""
    without = dataclasses.replace(world, errors={}, replicate=0)
    table, _ = response.capacities(without)
    for (service, hardware), each in simulated_capacities(without).replicas.items():
        answer = table.replica(service, hardware)
        if each.accelerators or answer.accelerators:
            yield service, hardware, answer, each
