"""A fleet at time 0: from a plan to the arrays that engines move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.demand.trace import Trace
from sim.engine.arrivals import Arrivals, arrivals_of
from sim.engine.mechanisms import Mechanisms
from sim.serving.deployment import pool_records
from sim.serving.routing import RoutingState, routing_state
from sim.serving.state import NEVER, PREFIX, REJECTED, REQUEST, RESERVE, FleetState, empty_fleet

if TYPE_CHECKING:
    from sim.engine.run import RunPlan

_NANOSECONDS = 1e9


def set_up(plan: RunPlan, mechanisms: Mechanisms) -> tuple[FleetState, RoutingState, Arrivals, NDArray[np.int64]]:
    """Return the idle fleet of a plan, its router, what will arrive, and the pool of each replica.

    Requests that no replica of their class could ever hold are rejected already.
    """
    trace = plan.trace
    requests = request_records(trace)
    if plan.priorities:
        requests["priority"] = np.array(plan.priorities, np.int8)[trace.class_index]
    oversized = trace.prompt_tokens + trace.output_tokens > longest_requests(plan, mechanisms)[trace.class_index]
    requests["outcome"][oversized] = REJECTED
    own = np.flatnonzero((requests["arrival_ns"] >= 0) & ~oversized)
    replica_pool = np.repeat(np.arange(len(plan.deployments)), [each.most_replicas for each in mechanisms.pools])
    pools, linear, sequence = pool_records(plan.deployments, plan.max_span)
    pools["spill_row"] = pools["spill_endpoint"] = -1
    for record, each in zip(pools, mechanisms.pools, strict=True):
        for column, value in each.columns.items():
            record[column] = value
    members = [list(pools_of_class) for pools_of_class in plan.pools_of_class]
    decode_rows = np.full(len(members), -1, np.int64)
    row_of_pool: dict[int, int] = {}
    for pool, each in enumerate(mechanisms.pools):
        for target in (each.hand_over_to, each.spill_to):
            if target >= 0 and target not in row_of_pool:
                row_of_pool[target] = len(members) + len(row_of_pool)
        if each.spill_to >= 0:
            pools[pool]["spill_row"] = row_of_pool[each.spill_to]
    for row, pools_of_class in enumerate(members):
        for pool in pools_of_class:
            if mechanisms.pools[pool].hand_over_to >= 0:
                decode_rows[row] = row_of_pool[mechanisms.pools[pool].hand_over_to]
    rows = members + [[pool] for pool in row_of_pool]
    prefixes = _prefixes(trace) if (pools["cache_block"] > 0).any() else None
    stop_ns = plan.arrivals_end_ns + plan.drain_ns
    fleet = empty_fleet(
        pools,
        replica_pool,
        linear,
        sequence,
        requests,
        -(-stop_ns // plan.interval_ns) + 1,
        plan.interval_ns,
        _reserves(pools, plan, mechanisms),
        _deadlines(trace, mechanisms),
        prefixes,
    )
    routing = routing_state(
        plan.router,
        [np.flatnonzero(np.isin(replica_pool, row)).tolist() for row in rows],
        len(replica_pool),
        plan.draws,
        decode_rows=decode_rows,
        signal_interval_ns=mechanisms.signal_interval_ns,
        prefixes=prefixes,
        load_guard=mechanisms.load_guard,
    )
    again = bool(len(mechanisms.outages)) or any(pool.hand_over_to >= 0 for pool in mechanisms.pools)
    again |= any(pool.scaling is not None for pool in mechanisms.pools)
    arrivals = arrivals_of(
        requests,
        own,
        plan.arrivals_end_ns,
        mechanisms.clients,
        trace.patience_ns,
        mechanisms.endpoints,
        resent=again,
    )
    return fleet, routing, arrivals, replica_pool


def request_records(trace: Trace) -> NDArray[np.void]:
    """Return the requests of a trace as the engines keep them; follow-ups have no arrival yet (-1)."""
    records = np.zeros(trace.requests, REQUEST)
    for column in ("arrival_ns", "prompt_tokens", "cached_tokens", "output_tokens", "class_index"):
        records[column] = getattr(trace, column)
    for column in ("admitted_ns", "first_token_ns", "finished_ns"):
        records[column] = -1
    for column in ("replica", "first_child", "next_sibling", "previous"):
        records[column] = -1
    if trace.follows is not None and trace.gap_ns is not None:
        records["gap_ns"] = trace.gap_ns
        children = np.flatnonzero(trace.follows >= 0)
        records["arrival_ns"][children] = -1
        order = children[np.argsort(trace.follows[children], kind="stable")]
        parents = trace.follows[order]
        same = parents[1:] == parents[:-1]
        records["next_sibling"][order[:-1][same]] = order[1:][same]
        first = np.concatenate([[True], ~same]) if len(order) else np.zeros(0, bool)
        records["first_child"][parents[first]] = order[first]
    return records


def longest_requests(plan: RunPlan, mechanisms: Mechanisms) -> NDArray[np.int64]:
    """Return the longest prompt plus answer that every replica open to a class can hold [tokens], by class."""
    limits = []
    for pools_of_class in plan.pools_of_class:
        reached = list(pools_of_class)
        for pool in reached:
            each = mechanisms.pools[pool]
            reached += [to for to in (each.hand_over_to, each.spill_to) if to >= 0 and to not in reached]
        limits.append(min(plan.deployments[pool].longest_request() for pool in reached))
    return np.array(limits, np.int64)


def _prefixes(trace: Trace) -> NDArray[np.void]:
    """Return what prompts repeat; a shared text is found whole or not at all, so it may always be found."""
    records = np.zeros(trace.requests, PREFIX)
    records["session"] = -1 if trace.session is None else trace.session
    records["group"] = -1 if trace.prefix_group is None else trace.prefix_group
    records["group_tokens"] = 0 if trace.prefix_tokens is None else trace.prefix_tokens
    records["reusable"] = np.maximum(trace.cached_tokens, records["group_tokens"])
    return records


def _reserves(pools: NDArray[np.void], plan: RunPlan, mechanisms: Mechanisms) -> NDArray[np.void]:
    """Return what others leave to each priority, the sum over its classes that a pool serves."""
    priorities = list(plan.priorities) or [0] * len(plan.pools_of_class)
    present = np.unique(plan.trace.class_index)
    levels = max((priorities[index] for index in present), default=0) + 1
    reserves = np.zeros((len(pools), levels), RESERVE)
    for index, share in enumerate(mechanisms.reserved_shares):
        if priorities[index] < levels:
            for pool in plan.pools_of_class[index]:
                reserves[pool, priorities[index]]["slots"] += int(share * pools[pool]["max_sequences"])
                reserves[pool, priorities[index]]["kv"] += int(share * pools[pool]["kv_capacity"])
    return reserves


def _deadlines(trace: Trace, mechanisms: Mechanisms) -> NDArray[np.int64] | None:
    """Return by when each request is due [ns]; for follow-ups counted from the start of their session."""
    if all(deadline is None for deadline in mechanisms.deadlines_s):
        return None
    after_ns = np.array(
        [NEVER if deadline is None else round(deadline * _NANOSECONDS) for deadline in mechanisms.deadlines_s]
    )[trace.class_index]
    return np.where(after_ns == NEVER, NEVER, trace.arrival_ns + np.minimum(after_ns, NEVER - trace.arrival_ns))
