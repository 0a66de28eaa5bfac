"""What a fleet does besides serving: caches, limits, clients, control. Read from a scenario into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.demand.outages import OUTAGE, outage_events, outage_table
from sim.demand.trace import Trace
from sim.engine.arrivals import CLIENT, ENDPOINT
from sim.engine.control import scaling_record
from sim.serving.deployment import NANOSECONDS, Deployment
from sim.serving.kv_cache import kv_bytes_of_token
from sim.serving.pool_checks import formats_of
from sim.serving.state import FRACTION_BITS, NEVER
from sim.serving.transfer import token_duration
from sim.specs.fleet import PoolSpec
from sim.specs.resolved import Scenario
from sim.specs.scenario import TrafficSpec

Scaling = tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]
"""A pool's SCALING record, the hours of its schedule [ns], and the replicas from each of them on."""


@dataclass(frozen=True)
class PoolMechanisms:
    """What one pool does besides serving; the defaults do nothing."""

    columns: dict[str, int]
    """Values for its POOL record."""

    most_replicas: int
    """Replicas that it can ever have."""

    scaling: Scaling | None = None
    """How it scales; none means not at all."""

    cold_start_ns: int = 0
    """From nothing to the first request [ns]."""

    hand_over_to: int = -1
    """Pool that decodes what this one prefills, -1 when it decodes itself."""

    spill_to: int = -1
    """Pool to which it sends on, -1 when none."""

    rack_accelerators: int = 0
    """Accelerators in one rack, 0 when racks do not matter."""

    rack_cap_w: float | None = None
    """Most that a rack may draw [W]."""


@dataclass(frozen=True)
class Mechanisms:
    """What a fleet and its clients do besides serving and asking."""

    pools: Sequence[PoolMechanisms]
    """In the order of the deployments."""

    clients: NDArray[np.void]
    """What the clients of each class do, dtype CLIENT."""

    deadlines_s: Sequence[float | None]
    """Time after arrival by which answers are due, by class [s]."""

    reserved_shares: Sequence[float]
    """Part of each replica that only this class may take, by class [1]."""

    endpoints: NDArray[np.void]
    """APIs, dtype ENDPOINT."""

    apis: Sequence[str]
    """Their names."""

    signal_interval_ns: int
    """Age that the router's picture of the replicas may reach [ns]; 0 for none."""

    load_guard: int
    """How many more requests than the least loaded replica the home of a prefix may have."""

    outages: NDArray[np.void]
    """Replicas that go and come, dtype OUTAGE_EVENT."""

    site_cap_w: float | None = None
    """Most that the whole fleet may draw [W]."""

    power_interval_ns: int = 0
    """Time between readings of the power [ns]."""

    @property
    def watches_power(self) -> bool:
        """Return whether anything limits the power."""
        return self.site_cap_w is not None or any(pool.rack_cap_w is not None for pool in self.pools)


def no_mechanisms(deployments: Sequence[Deployment], classes: int) -> Mechanisms:
    """Return the mechanisms of a fleet that only serves."""
    clients = np.zeros(classes, CLIENT)
    clients["first_token_ns"] = clients["whole_ns"] = NEVER
    return Mechanisms(
        pools=[PoolMechanisms({}, each.replicas) for each in deployments],
        clients=clients,
        deadlines_s=[None] * classes,
        reserved_shares=[0.0] * classes,
        endpoints=np.zeros(0, ENDPOINT),
        apis=(),
        signal_interval_ns=0,
        load_guard=0,
        outages=outage_events(np.zeros(0, OUTAGE)),
    )


def mechanisms_of(
    scenario: Scenario, deployments: Sequence[Deployment], trace: Trace, replication: int, end_ns: int
) -> Mechanisms:
    """Return the mechanisms of a scenario's fleet.

    Parameters
    ----------
    scenario : Scenario
        What is simulated.
    deployments : sequence of Deployment
        Its pools.
    trace : Trace
        What arrives; its classes set the order.
    replication : int
        Number of the repetition, which draws other failures.
    end_ns : int
        End of the run [ns].

    """
    spec = scenario.spec
    traffic = [spec.traffic[name] for name in trace.classes]
    apis = list(spec.apis.values())
    endpoints = np.zeros(len(apis), ENDPOINT)
    for endpoint, api in zip(endpoints, apis, strict=True):
        endpoint["first_token_ns"] = round(api.first_token * NANOSECONDS)
        endpoint["per_token_ns"] = round(api.per_token * NANOSECONDS)
    parts = [(name, pool, scenario.hardware[pool.hardware]) for name, pool in spec.fleet.items()]
    guard = spec.routing.load_guard
    return Mechanisms(
        pools=[
            _pool_mechanisms(scenario, pool, deployment)
            for pool, deployment in zip(spec.fleet.values(), deployments, strict=True)
        ],
        clients=np.array([_client(each) for each in traffic], CLIENT),
        deadlines_s=[each.deadline for each in traffic],
        reserved_shares=[each.reserved_share or 0.0 for each in traffic],
        endpoints=endpoints,
        apis=list(spec.apis),
        signal_interval_ns=round(spec.routing.signal_age * NANOSECONDS),
        load_guard=trace.requests if guard is None else guard,
        outages=outage_events(outage_table(parts, spec.seed, replication, end_ns)),
        site_cap_w=spec.site.power_cap,
        power_interval_ns=round(spec.site.interval * NANOSECONDS),
    )


def _client(traffic: TrafficSpec) -> tuple[int, int, int, int, float]:
    timeout, retries = traffic.timeout, traffic.retries
    limits = (None, None) if timeout is None else (timeout.first_token, timeout.whole)
    first_ns, whole_ns = (NEVER if limit is None else round(limit * NANOSECONDS) for limit in limits)
    if retries is None:
        return first_ns, whole_ns, 0, 0, 1.0
    return first_ns, whole_ns, retries.maximum, round(retries.backoff * NANOSECONDS), retries.growth


def _pool_mechanisms(scenario: Scenario, pool: PoolSpec, deployment: Deployment) -> PoolMechanisms:
    names = list(scenario.spec.fleet)
    apis = list(scenario.spec.apis)
    columns = {"max_waiting": 0 if pool.admission is None else pool.admission.max_waiting}
    columns |= {"spill_row": -1, "spill_endpoint": -1}
    spill_to = -1
    if pool.spill_over is not None:
        columns["spill_at"] = pool.spill_over.at
        if pool.spill_over.to in apis:
            columns["spill_endpoint"] = apis.index(pool.spill_over.to)
        else:
            spill_to = names.index(pool.spill_over.to)
    columns |= _memory_columns(scenario, pool, deployment)
    profile = scenario.hardware[pool.hardware]
    return PoolMechanisms(
        columns=columns,
        most_replicas=pool.most_replicas,
        scaling=None if pool.autoscaling is None else scaling_record(pool, scenario.spec.start_hour),
        cold_start_ns=round(deployment.cold_start_s * NANOSECONDS),
        hand_over_to=-1 if pool.hand_over is None else names.index(pool.hand_over.to),
        spill_to=spill_to,
        rack_accelerators=pool.power.rack_accelerators or profile.scale_up_domain,
        rack_cap_w=pool.power.rack_cap,
    )


def _memory_columns(scenario: Scenario, pool: PoolSpec, deployment: Deployment) -> dict[str, int]:
    """Return what a pool keeps beyond running sequences, and sends to others, as columns of its POOL record."""
    model = scenario.models[pool.model]
    token_bytes = kv_bytes_of_token(model.architecture, formats_of(pool, model).kv)
    columns: dict[str, int] = {}
    cache = pool.prefix_cache
    if cache is not None:
        stack = scenario.serving_stacks[pool.serving_stack]
        columns["cache_block"] = cache.block or int(stack.batching.kv_block.value)
        columns["cache_capacity"] = int(cache.capacity_fraction * deployment.kv.tokens)
        if cache.host_memory is not None:
            columns["host_capacity"] = int(cache.host_memory.size / token_bytes)
            columns["host_duration"] = _duration(token_bytes / cache.host_memory.bandwidth)
    if pool.swap is not None:
        columns["swap_capacity"] = int(pool.swap.size / token_bytes)
        columns["swap_duration"] = _duration(token_bytes / pool.swap.bandwidth)
    if pool.hand_over is not None:
        columns["role"] = 1
        columns["transfer_duration"] = token_duration(pool.hand_over, token_bytes)
        columns["transfer_latency_ns"] = round(pool.hand_over.latency * NANOSECONDS)
    return columns


def _duration(seconds: float) -> int:
    """Return seconds in units of 2**-20 ns."""
    return round(seconds * NANOSECONDS * (1 << FRACTION_BITS))
