"""Single mechanisms by hand: each test fails when its mechanism is off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.engine.compiled_engine import CompiledEngine
from sim.engine.simpy_engine import SimpyEngine
from sim.serving.state import NEVER, PREFIX, REJECTED

ENGINES = pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
MILLISECOND = 10**6


def run(builder: Any, engine: Any, until_ns: int = 10**12) -> Any:
    fleet, routing, arrivals = builder.build()
    engine(fleet, routing, arrivals).advance(until_ns)
    return fleet


@ENGINES
def test_the_earliest_due_is_admitted_first_and_who_has_no_deadline_last(fleet_builder: Any, engine: Any) -> None:
    """All come at once to one slot; requests of one step each are served in the order of their deadlines."""
    deadlines = np.array([NEVER, 300, 100, NEVER, 200])
    fleet = run(fleet_builder(np.zeros(5), base_s=0.001, deadlines_ns=deadlines), engine)
    assert np.argsort(fleet.requests["admitted_ns"]).tolist() == [2, 4, 1, 0, 3]


@ENGINES
@pytest.mark.parametrize(("reserved", "running"), [({}, [0, 1, 2, 3]), ({0: (2, 0)}, [0, 1])])
def test_a_reserved_share_stays_free_for_its_class(
    fleet_builder: Any, engine: Any, reserved: dict[int, tuple[int, int]], running: list[int]
) -> None:
    """Four slots, four requests of the lower class: with two reserved, two wait although slots are free."""
    fleet = run(
        fleet_builder(
            [0.0, 0.0, 0.0, 0.0, 0.5],
            output=1000,
            max_sequences=4,
            base_s=0.001,
            priority=[1, 1, 1, 1, 0],
            reserved=reserved,
        ),
        engine,
        400 * MILLISECOND,
    )
    assert np.flatnonzero(fleet.requests["admitted_ns"] >= 0).tolist() == running


@ENGINES
def test_what_is_reserved_and_in_use_is_not_kept_free_twice(fleet_builder: Any, engine: Any) -> None:
    """One slot is reserved and its class uses it: the other three are for all."""
    fleet = run(
        fleet_builder(
            [0.0, 0.1, 0.1, 0.1],
            output=1000,
            max_sequences=4,
            base_s=0.001,
            priority=[0, 1, 1, 1],
            reserved={0: (1, 0)},
        ),
        engine,
        400 * MILLISECOND,
    )
    assert (fleet.requests["admitted_ns"] >= 0).all()


@ENGINES
@pytest.mark.parametrize(("signal_s", "replicas"), [(0.0, [0, 1, 0, 0]), (1.0, [0, 1, 0, 1])])
def test_a_router_does_not_see_completions_before_its_next_look(
    fleet_builder: Any, engine: Any, signal_s: float, replicas: list[int]
) -> None:
    """The first replica is empty again after 5 ms; who looks once a second still counts what it sent there."""
    fleet = run(
        fleet_builder(
            [0.0, 0.001, 0.5, 0.6],
            output=[5, 2000, 300, 1],
            replicas=2,
            max_sequences=4,
            base_s=0.001,
            signal_s=signal_s,
        ),
        engine,
    )
    assert fleet.requests["replica"].tolist() == replicas


@ENGINES
def test_least_kv_goes_by_memory_and_least_outstanding_by_number(fleet_builder: Any, engine: Any) -> None:
    """One long request on the first replica, two short ones on the second."""
    chosen = {}
    for router in ("least_kv", "least_outstanding"):
        fleet = run(
            fleet_builder(
                [0.0, 0.1, 0.2, 0.3],
                prompt=[5000, 10, 10, 10],
                output=3000,
                replicas=2,
                max_sequences=8,
                base_s=0.001,
                router=router,
            ),
            engine,
        )
        chosen[router] = fleet.requests["replica"].tolist()
    assert chosen == {"least_kv": [0, 1, 1, 1], "least_outstanding": [0, 1, 0, 1]}


@ENGINES
@pytest.mark.parametrize(("guard", "home"), [(5, 0), (0, 1)])
def test_affinity_gives_way_beyond_the_load_guard(fleet_builder: Any, engine: Any, guard: int, home: int) -> None:
    """The session's replica holds one request more than the other one when its second call comes."""
    prefixes = np.array([(0, -1, 0, 0), (1, -1, 0, 0), (2, -1, 0, 0), (0, -1, 0, 8)], PREFIX)
    fleet = run(
        fleet_builder(
            [0.0, 0.1, 0.2, 1.0],
            prompt=[10, 10, 10, 20],
            output=[2, 2, 5000, 2],
            replicas=2,
            max_sequences=8,
            base_s=0.001,
            router="prefix_affinity",
            load_guard=guard,
            prefixes=prefixes,
            columns={"cache_block": 4, "cache_capacity": 1 << 30},
        ),
        engine,
    )
    assert fleet.requests["replica"].tolist() == [0, 0, 0, home]
    assert fleet.requests["cached_tokens"][3] == (8 if home == 0 else 0)


@ENGINES
@pytest.mark.parametrize(("host", "found", "waited_ms"), [(0, 4, 0), (100, 16, 12)])
def test_what_memory_has_no_place_for_comes_back_from_the_host(
    fleet_builder: Any, engine: Any, host: int, found: int, waited_ms: int
) -> None:
    """A long request pushes 12 of a session's 16 tokens out; with a host tier they come back at 1 ms a token."""
    prefixes = np.array([(0, -1, 0, 0), (-1, -1, 0, 0), (0, -1, 0, 16)], PREFIX)
    fleet = run(
        fleet_builder(
            [0.0, 1.0, 2.0],
            prompt=[16, 60, 20],
            output=[1, 1, 1],
            kv_capacity=64,
            base_s=0.001,
            prefixes=prefixes,
            columns={
                "cache_block": 4,
                "cache_capacity": 64,
                "host_capacity": host,
                "host_duration": MILLISECOND << 20,
            },
        ),
        engine,
    )
    assert fleet.requests["cached_tokens"][2] == found
    first_ns = fleet.requests["first_token_ns"][2] - fleet.requests["arrival_ns"][2]
    assert first_ns == (1 + waited_ms) * MILLISECOND


@ENGINES
def test_a_full_queue_rejects_and_the_client_comes_again_later_and_later(fleet_builder: Any, engine: Any) -> None:
    """One runs for a second, one waits; the third comes at 3, 13 and 33 ms and goes away for good."""
    fleet = run(
        fleet_builder(
            [0.0, 0.002, 0.003],
            output=1000,
            base_s=0.001,
            columns={"max_waiting": 1},
            clients=(NEVER, NEVER, 2, 10 * MILLISECOND, 2.0),
        ),
        engine,
        33 * MILLISECOND,
    )
    third = fleet.requests[2]
    assert (third["retries"], third["outcome"]) == (2, 0)
    fleet = run(
        fleet_builder(
            [0.0, 0.002, 0.003],
            output=1000,
            base_s=0.001,
            columns={"max_waiting": 1},
            clients=(NEVER, NEVER, 2, 10 * MILLISECOND, 2.0),
        ),
        engine,
        34 * MILLISECOND,
    )
    assert (fleet.requests[2]["retries"], fleet.requests[2]["outcome"]) == (2, REJECTED)


@ENGINES
def test_transfers_leave_one_after_the_other(fleet_builder: Any, engine: Any) -> None:
    """Two prompts end in one step; each takes 10 ms on the sender's link and 1 ms of latency."""
    fleet = run(
        fleet_builder(
            [0.0, 0.0],
            prompt=10,
            output=5,
            max_sequences=2,
            decode_replicas=1,
            base_s=0.001,
            columns={"transfer_duration": MILLISECOND << 20, "transfer_latency_ns": MILLISECOND},
        ),
        engine,
    )
    # A step of prefill, then both transfers; the second joins the batch at the next boundary of the first.
    assert fleet.requests["first_token_ns"].tolist() == [12 * MILLISECOND, 22 * MILLISECOND]
    assert fleet.requests["replica"].tolist() == [1, 1]
