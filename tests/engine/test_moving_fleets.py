"""Laws of fleets in motion: caches, impatient clients, hand-over, failures and scaling at once, on both engines."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.demand.outages import DOWN, DRAIN, OUTAGE_EVENT, UP
from sim.engine.compiled_engine import CompiledEngine
from sim.engine.control import DRAINING, FAILED, OUTSTANDING, QUEUE, READY, SCALING, TTFT, UTILISATION
from sim.engine.mechanisms import Mechanisms, PoolMechanisms, no_mechanisms
from sim.engine.operations import Operations
from sim.engine.simpy_engine import SimpyEngine
from sim.serving.state import (
    FINISHED,
    NEVER,
    PREFIX,
    REJECTED,
    SWAPPED,
    TIMED_OUT,
    TRANSFERRED,
    UNFINISHED,
    FleetState,
)

SECOND = 10**9
EMPTY = (
    "kv_used", "context", "window_context", "window_growing", "decoding", "prefilling", "waiting", "outstanding",
    "finish_size", "crossing_size", "waiting_tokens", "swapped_tokens", "cancelling",
)  # fmt: skip


@st.composite
def moving_fleets(draw: st.DrawFn) -> dict[str, Any]:
    """Return arguments of a random small fleet in which everything happens, and of its control."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 100))
    gap_s = 10.0 ** generator.uniform(-5, -0.5)
    prompt = generator.integers(1, 100, count)
    sessions = generator.integers(-1, max(1, count // 4), count)
    groups = generator.integers(-1, 3, count)
    prefixes = np.zeros(count, PREFIX)
    prefixes["session"], prefixes["group"] = sessions, groups
    prefixes["group_tokens"] = np.where(groups >= 0, 5 + 11 * groups, 0)
    prefixes["reusable"] = np.maximum((prompt * generator.random(count)).astype(int), prefixes["group_tokens"])
    earlier = (np.arange(count) * generator.random(count)).astype(int)
    follows = np.where((generator.random(count) < 0.4) & (np.arange(count) > 0), earlier, -1)
    base_s = 1e-3 * generator.uniform(0.1, 10)
    replicas = draw(st.integers(1, 4))
    limit_s = float(generator.uniform(1, 60)) * base_s
    whole_s = limit_s + float(generator.uniform(0, 100)) * base_s
    clients = (
        round(limit_s * SECOND) if generator.random() < 0.7 else NEVER,
        round(whole_s * SECOND) if generator.random() < 0.7 else NEVER,
        int(generator.integers(0, 4)),
        round(float(generator.random()) * base_s * SECOND),
        2.0,
    )
    columns: dict[str, int] = {
        "max_waiting": int(generator.choice([0, 0, 3, 10])),
        "swap_capacity": int(generator.choice([0, 300])),
        "swap_duration": int(generator.integers(0, 1 << 30)),
        "transfer_duration": int(generator.integers(0, 1 << 36)),
        "transfer_latency_ns": int(generator.integers(0, 10**6)),
    }
    if draw(st.booleans()):
        columns |= {
            "cache_block": int(generator.integers(1, 9)),
            "cache_capacity": int(generator.integers(0, 600)),
            "host_capacity": int(generator.choice([0, 0, 200])),
            "host_duration": int(generator.integers(0, 1 << 30)),
        }
    return {
        "fleet": {
            "arrivals_s": np.sort(generator.integers(0, count + 1, count)) * gap_s,
            "prompt": prompt,
            "output": np.where(generator.random(count) < 0.2, 1, generator.integers(1, 90, count)),
            "cached": (prompt - 1) * (generator.random(count) < 0.3) // 2,
            "replicas": replicas,
            "decode_replicas": draw(st.sampled_from([0, 0, 1, 3])),
            "max_sequences": draw(st.integers(1, 8)),
            "step_token_budget": draw(st.integers(1, 64)),
            "kv_capacity": draw(st.integers(200, 600)),
            "admission_headroom": int(generator.integers(1, 20)),
            "sequence_charge": int(generator.integers(0, 5)),
            "base_s": base_s,
            "token_s": 1e-5 * generator.random(),
            "context_s": 1e-8 * generator.random(),
            "pair_s": 1e-9 * generator.random(),
            "window": int(generator.choice([0, 0, 40])),
            "window_context_s": 1e-8 * generator.random(),
            "router": draw(
                st.sampled_from(["round_robin", "least_outstanding", "power_of_two", "least_kv", "prefix_affinity"])
            ),
            "interval_s": max(gap_s * count / 10, 1e-4),
            "intervals": 30,
            "follows": follows,
            "priority": generator.integers(0, draw(st.sampled_from([1, 2, 3])), count),
            "gaps_s": generator.random(count) * 5 * gap_s,
            "reserved": {0: (1, 40)} if draw(st.booleans()) else {},
            "prefixes": prefixes,
            "deadlines_ns": generator.integers(0, 10**9, count) if draw(st.booleans()) else None,
            "clients": clients if draw(st.booleans()) else None,
            "patience_ns": generator.integers(-1, 10**9, count) if draw(st.booleans()) else None,
            "signal_s": float(draw(st.sampled_from([0.0, 0.0, 7.3]))) * base_s,
            "load_guard": int(generator.integers(0, 4)),
            "columns": columns,
            "resent": True,
        },
        "outages": outages(generator, replicas, count * gap_s + 50 * base_s) if draw(st.booleans()) else [],
        "scaling": draw(st.sampled_from([None, UTILISATION, OUTSTANDING, QUEUE, TTFT])),
        "cold_start_ns": int(generator.choice([0, round(20 * base_s * SECOND)])),
        "decision_s": 10 * base_s,
        "stop_s": count * gap_s + 20_000 * base_s,
    }


def outages(generator: np.random.Generator, replicas: int, horizon_s: float) -> list[tuple[int, int, int, int]]:
    """Return disjoint outages of each replica as events, some of which drain first."""
    events = []
    for replica in range(replicas):
        instants = np.sort(generator.integers(0, round(horizon_s * SECOND), 6))
        for drain, down, up in (instants[:3], instants[3:]):
            if drain < down < up:
                if generator.random() < 0.5:
                    events.append((int(drain), 0, replica, DRAIN))
                events += [(int(down), 0, replica, DOWN), (int(up), 0, replica, UP)]
    return events


def mechanisms_for(arguments: dict[str, Any], deployments: list[Any]) -> Mechanisms:
    """Return the control of a random fleet."""
    plain = no_mechanisms(deployments, 1)
    pools = list(plain.pools)
    replicas = deployments[0].replicas
    scaling = None
    if arguments["scaling"] is not None:
        record = np.zeros((), SCALING)
        record["signal"], record["target"], record["release"] = arguments["scaling"], 1.5, 0.3
        record["minimum"], record["maximum"], record["warm_spares"] = 1, replicas, int(replicas > 2)
        record["interval_ns"] = record["period_ns"] = round(arguments["decision_s"] * SECOND)
        record["down_cooldown_ns"] = 3 * record["interval_ns"]
        scaling = (record, np.zeros(0, np.int64), np.zeros(0, np.int64))
    pools[0] = PoolMechanisms({}, replicas, scaling, arguments["cold_start_ns"])
    events = np.sort(np.array(arguments["outages"], OUTAGE_EVENT), order=["instant_ns", "change", "pool", "replica"])
    return dataclasses.replace(plain, pools=pools, outages=events)


def moved(
    builder: Any, arguments: dict[str, Any], engine: type[CompiledEngine] | type[SimpyEngine], max_span: int = 1 << 40
) -> tuple[FleetState, Operations, Any, Any]:
    """Run a random fleet until its end."""
    built = builder(**arguments["fleet"], max_span=max_span)
    fleet, routing, arrivals = built.build()
    mover = engine(fleet, routing, arrivals)
    counts = [built.replicas] + ([built.decode_replicas] if built.decode_replicas else [])
    deployments = [
        SimpleNamespace(replicas=each, accelerators=1, idle_w=0.0, busy_w=0.0, host_w=0.0, speed_elasticity=None)
        for each in counts
    ]
    mechanisms = mechanisms_for(arguments, deployments)
    replica_pool = fleet.replicas["pool"].copy()
    operations = Operations(mechanisms, deployments, replica_pool, fleet, routing, arrivals, mover)  # type: ignore[arg-type]  # what control asks of a deployment
    stop_ns = round(arguments["stop_s"] * SECOND)
    operations.run_until(stop_ns, None, 3)
    mover.close(stop_ns)
    return fleet, operations, mover, arrivals


@settings(max_examples=60)
@given(arguments=moving_fleets())
def test_engines_agree_and_spans_are_steps(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    compiled, _, compiled_mover, _ = moved(fleet_builder, arguments, CompiledEngine)
    reference, _, simpy_mover, _ = moved(fleet_builder, arguments, SimpyEngine)
    assert (reference.requests == compiled.requests).all()
    assert (reference.timeline == compiled.timeline).all()
    assert (reference.replicas == compiled.replicas).all()
    assert simpy_mover.events == compiled_mover.events
    if arguments["fleet"]["router"] == "least_kv":
        return  # sees memory as of the last boundary, of which steps have more than spans
    steps, _, _, _ = moved(fleet_builder, arguments, CompiledEngine, 1)
    for column in compiled.requests.dtype.names or ():
        if column not in ("next", "previous"):
            assert (steps.requests[column] == compiled.requests[column]).all(), column
    for column in ("waiting_ns", "running_ns", "busy_ns", "prefill_tokens", "decode_tokens", "arrivals", "hit_tokens"):
        assert (steps.timeline[column] == compiled.timeline[column]).all(), column


@settings(max_examples=80)
@given(arguments=moving_fleets())
def test_nothing_vanishes(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    """Each request ends in one way, each token of KV is given back, each entry of a cache is accounted for."""
    fleet, operations, _, _ = moved(fleet_builder, arguments, CompiledEngine)
    requests, replicas = fleet.requests, fleet.replicas
    sent = requests[requests["arrival_ns"] >= 0]
    assert np.isin(sent["outcome"], (UNFINISHED, FINISHED, REJECTED, TIMED_OUT)).all()
    if (sent["outcome"] != UNFINISHED).all():
        for column in EMPTY:
            assert (replicas[column] == 0).all(), column
    finished = sent[sent["outcome"] == FINISHED]
    assert (finished["first_token_ns"] >= finished["admitted_ns"]).all()
    assert (finished["finished_ns"] >= finished["first_token_ns"]).all()
    assert (finished["stage"] & (TRANSFERRED | SWAPPED) == 0).all()
    most = 0 if arguments["fleet"]["clients"] is None else arguments["fleet"]["clients"][2]
    assert (sent["attempt"] <= most).all()
    if not arguments["outages"]:
        assert (sent["retries"] == sent["attempt"]).all()
    assert (sent["attempt"][np.isin(sent["outcome"], (REJECTED, TIMED_OUT))] == most).all()
    # A parent that did not finish has no follow-up; one that finished has sent all that were due before the end.
    parents = np.asarray(arguments["fleet"]["follows"])
    for child in np.flatnonzero(parents >= 0):
        if requests["arrival_ns"][child] >= 0:
            assert requests["outcome"][parents[child]] == FINISHED
            gap_ns = requests["arrival_ns"][child] - requests["finished_ns"][parents[child]]
            assert gap_ns == requests["gap_ns"][child]
    check_caches(fleet)
    check_time(fleet, operations, arguments)


def check_caches(fleet: FleetState) -> None:
    """Entries that nobody uses are what the replicas say they keep; all others are free, and can be found."""
    if not len(fleet.entries):
        return
    free = set(fleet.free_entries[1 : fleet.free_entries[0] + 1].tolist())
    live = [index for index in range(len(fleet.entries)) if index not in free]
    assert len(free) + len(live) == len(fleet.entries)
    indexed = fleet.entry_index[fleet.entry_index >= 0]
    assert sorted(indexed) == [index for index in live if fleet.entries[index]["key"] >= 0]
    for number, replica in enumerate(fleet.replicas):
        pool = fleet.pools[replica["pool"]]
        kept, entry = 0, replica["cache_newest"]
        while entry >= 0:
            assert fleet.entries[entry]["references"] == 0
            assert fleet.entries[entry]["tokens"] > 0
            kept += fleet.entries[entry]["tokens"]
            entry = fleet.entries[entry]["older"]
        assert kept == replica["cache_tokens"]
        assert kept + replica["kv_used"] <= pool["kv_capacity"], number
        assert kept <= pool["cache_capacity"]
        assert 0 <= replica["host_tokens"] <= pool["host_capacity"]


def check_time(fleet: FleetState, operations: Operations, arguments: dict[str, Any]) -> None:
    """The time of every replica is in one state or another, and work is done only by those that take requests."""
    stop_ns = round(arguments["stop_s"] * SECOND)
    intervals = -(-stop_ns // fleet.interval_ns)
    time_ns, _ = operations.log.sums(len(fleet.pools), intervals, fleet.interval_ns, stop_ns)
    assert time_ns.sum() == stop_ns * len(fleet.replicas)
    serving_ns = time_ns[:, :, [READY, DRAINING]].sum()
    assert fleet.timeline["busy_ns"].sum() <= serving_ns
    assert fleet.timeline["busy_ns"].sum() == fleet.replicas["busy_ns"].sum()
    if not arguments["outages"]:
        assert time_ns[:, :, FAILED].sum() == 0
