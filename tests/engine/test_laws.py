"""Laws that hold on every trace and fleet: equality of engines, spans and steps, and conservation of everything."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engine.compiled_engine import CompiledEngine
from sim.engine.simpy_engine import ReplicaView, RequestView, SimpyEngine
from sim.serving.replica import enqueue
from sim.serving.state import FRACTION_BITS, FleetState
from sim.theory.little import mean_number_in_system

FOREVER = 1 << 62
STEP_COLUMNS = ("waiting_ns", "running_ns", "busy_ns", "prefill_tokens", "decode_tokens", "arrivals")
EMPTY = (
    "kv_used", "context", "window_context", "window_growing", "decoding", "prefilling", "waiting", "outstanding",
    "finish_size", "crossing_size",
)  # fmt: skip
EMPTY_QUEUE = {"head": -1, "running": 0, "backlog": 0, "newest": -1}


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    """Return keyword arguments of a random small fleet: KV pressure, windows, chunks, bursts and ties."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 120))
    gap_s = 10.0 ** generator.uniform(-6, -0.5)
    ticks = np.sort(generator.integers(0, count + 1, count))
    arrivals_s = ticks * gap_s if draw(st.booleans()) else np.sort(generator.random(count)) * gap_s * count
    prompt = generator.integers(1, 100, count)
    window = draw(st.sampled_from([0, 0, 7, 40, 100]))
    follows = None
    if draw(st.booleans()):
        earlier = (np.arange(count) * generator.random(count)).astype(int)
        follows = np.where((generator.random(count) < 0.6) & (np.arange(count) > 0), earlier, -1)
    return {
        "arrivals_s": arrivals_s,
        "prompt": prompt,
        "output": np.where(generator.random(count) < 0.2, 1, generator.integers(1, 90, count)),
        "cached": np.where(generator.random(count) < 0.5, 0, (prompt - 1) * generator.random(count)).astype(int),
        "replicas": draw(st.integers(1, 4)),
        "max_sequences": draw(st.integers(1, 8)),
        "step_token_budget": draw(st.integers(1, 64)),
        "kv_capacity": draw(st.integers(200, 600)),
        "admission_headroom": draw(st.integers(1, 20)),
        "sequence_charge": draw(st.integers(0, 5)),
        "base_s": 1e-3 * generator.uniform(0.1, 10),
        "token_s": 1e-5 * generator.random(),
        "sequence_s": 1e-5 * generator.random(),
        "context_s": 1e-8 * generator.random(),
        "pair_s": 1e-9 * generator.random(),
        "window": window,
        "window_context_s": 1e-8 * generator.random(),
        "window_pair_s": 1e-9 * generator.random(),
        "router": draw(st.sampled_from(["round_robin", "least_outstanding", "power_of_two"])),
        "interval_s": max(gap_s * count / 20, 1e-6),
        "intervals": 40,
        "seed": draw(st.integers(0, 1000)),
        "follows": follows,
        "priority": generator.integers(0, draw(st.sampled_from([1, 1, 2, 3])), count),
        "gaps_s": np.where(generator.random(count) < 0.3, 0.0, generator.random(count) * 10 * gap_s),
    }


def finished(builder: Any, engine: type[CompiledEngine] | type[SimpyEngine] = CompiledEngine) -> tuple[FleetState, Any]:
    fleet, routing, arrivals = builder.build()
    mover = engine(fleet, routing, arrivals)
    mover.advance(FOREVER)
    return fleet, mover


@settings(max_examples=300)
@given(arguments=fleets())
def test_engines_agree_to_the_last_bit_and_spans_are_steps(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    spans = fleet_builder(**arguments)
    reference, simpy_engine = finished(spans, SimpyEngine)
    compiled, compiled_engine = finished(spans, CompiledEngine)
    assert (reference.requests == compiled.requests).all()
    assert (reference.timeline == compiled.timeline).all()
    assert simpy_engine.events == compiled_engine.events
    for max_span, engine in ((1, CompiledEngine), (1, SimpyEngine), (3, CompiledEngine)):
        steps, _ = finished(dataclasses.replace(spans, max_span=max_span), engine)
        columns = [name for name in steps.requests.dtype.names or () if name != "next"]
        for column in columns:
            assert (steps.requests[column] == compiled.requests[column]).all(), column
        for column in STEP_COLUMNS:
            assert (steps.timeline[column] == compiled.timeline[column]).all(), column
        # KV is integrated over whole nanoseconds, so each boundary may move it by less than kv x 1 ns.
        assert steps.timeline["kv_token_ns"] == pytest.approx(compiled.timeline["kv_token_ns"], rel=1e-6, abs=600.0)


@given(arguments=fleets())
def test_everything_is_conserved(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    builder = fleet_builder(**arguments)
    fleet, _ = finished(builder)
    requests, replicas, timeline = fleet.requests, fleet.replicas, fleet.timeline
    assert (requests["outcome"] == 1).all()
    for column in EMPTY:
        assert (replicas[column] == 0).all(), column
    for column, empty in EMPTY_QUEUE.items():
        assert (fleet.queues[column] == empty).all(), column
    assert timeline["arrivals"].sum() == len(requests)
    assert replicas["preemptions"].sum() == requests["preemptions"].sum()
    decoded = (requests["output_tokens"] - 1 - requests["preemptions"]).sum()
    assert decoded <= timeline["decode_tokens"].sum() <= (requests["output_tokens"] - 1).sum()
    needed = (requests["prompt_tokens"] - requests["cached_tokens"]).sum()
    if requests["preemptions"].sum() == 0:
        assert timeline["prefill_tokens"].sum() == needed
        assert timeline["decode_tokens"].sum() == (requests["output_tokens"] - 1).sum()
    else:
        assert timeline["prefill_tokens"].sum() >= needed


@given(arguments=fleets())
def test_times_are_in_order_and_first_come_is_first_admitted(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    """Within a priority; a request of lower priority may come later than one that arrived after it."""
    fleet, _ = finished(fleet_builder(**arguments))
    requests = fleet.requests
    assert (requests["admitted_ns"] >= requests["arrival_ns"]).all()
    assert (requests["first_token_ns"] > requests["admitted_ns"]).all()
    assert (requests["finished_ns"] >= requests["first_token_ns"]).all()
    for index in range(len(fleet.replicas)):
        for level in range(3):
            mine = requests[(requests["replica"] == index) & (requests["priority"] == level)]
            mine = mine[np.argsort(mine["arrival_ns"], kind="stable")]
            assert (np.diff(mine["admitted_ns"]) >= 0).all()


@given(arguments=fleets())
def test_littles_law_is_an_identity(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    """A run that ends empty: the timeline's integral of requests in the system is the sum of their sojourns."""
    fleet, _ = finished(fleet_builder(**arguments))
    requests = fleet.requests
    integral = fleet.timeline["waiting_ns"].sum() + fleet.timeline["running_ns"].sum()
    assert integral == (requests["finished_ns"] - requests["arrival_ns"]).sum()
    edges = np.arange(fleet.timeline.shape[1]) * fleet.interval_ns
    theory = mean_number_in_system(
        requests["arrival_ns"].astype(float), requests["finished_ns"].astype(float), edges.astype(float)
    )
    rows = fleet.timeline[0, : len(edges) - 1]
    assert (rows["waiting_ns"] + rows["running_ns"]) / fleet.interval_ns == pytest.approx(theory, abs=1e-6)


@given(arguments=fleets())
def test_kv_never_exceeds_its_capacity(fleet_builder: Any, arguments: dict[str, Any]) -> None:
    fleet, routing, arrivals = fleet_builder(**arguments).build()
    engine = CompiledEngine(fleet, routing, arrivals)
    end_ns = int(fleet.requests["arrival_ns"].max()) + 10**10
    for step in range(200):
        engine.advance(end_ns * step // 200)
        replicas = fleet.replicas
        assert (replicas["kv_used"] >= 0).all()
        growing = replicas["decoding"] * replicas["span_steps"]
        assert (replicas["kv_used"] + growing <= fleet.pools["kv_capacity"][0]).all()
        assert (replicas["decoding"] + replicas["prefilling"] <= fleet.pools["max_sequences"][0]).all()
        tokens = replicas["prefill_tokens"] + replicas["decoding"]
        assert (tokens <= max(fleet.pools["step_token_budget"][0], fleet.pools["max_sequences"][0])).all()


@given(arguments=fleets(), factor=st.sampled_from([2, 3, 10]))
def test_time_scales(fleet_builder: Any, arguments: dict[str, Any], factor: int) -> None:
    """All durations and arrivals times a whole factor: every instant is times that factor, up to its rounding."""
    fleet, routing, arrivals = fleet_builder(**arguments).build()
    slow, slow_routing, slow_arrivals = fleet_builder(**arguments).build()
    # Exactness needs durations of whole nanoseconds, so that no fraction is carried.
    for state in (fleet, slow):
        for table in (state.linear_duration, state.sequence_duration):
            table[:] = (table >> FRACTION_BITS) << FRACTION_BITS
        for column in ("context_duration", "window_duration", "pair_duration", "window_pair_duration"):
            state.pools[column] = (state.pools[column] >> FRACTION_BITS) << FRACTION_BITS
    slow.requests["arrival_ns"][slow.requests["arrival_ns"] >= 0] *= factor
    slow.requests["gap_ns"] *= factor
    slow.linear_duration[:] *= factor
    slow.sequence_duration[:] *= factor
    for column in ("context_duration", "window_duration", "pair_duration", "window_pair_duration"):
        slow.pools[column] *= factor
    CompiledEngine(fleet, routing, arrivals).advance(FOREVER)
    CompiledEngine(slow, slow_routing, slow_arrivals).advance(FOREVER)
    for column in ("admitted_ns", "first_token_ns", "finished_ns"):
        assert (slow.requests[column] == factor * fleet.requests[column]).all()


@given(arguments=fleets(), cuts=st.lists(st.floats(0, 1), max_size=20))
def test_stopping_at_control_instants_changes_nothing(
    fleet_builder: Any, arguments: dict[str, Any], cuts: list[float]
) -> None:
    builder = fleet_builder(**arguments)
    whole, _ = finished(builder)
    for engine in (CompiledEngine, SimpyEngine):
        fleet, routing, arrivals = builder.build()
        mover = engine(fleet, routing, arrivals)
        last_ns = int(whole.requests["finished_ns"].max())
        for cut in sorted(cuts):
            mover.advance(int(cut * last_ns))
        mover.advance(FOREVER)
        assert (fleet.requests == whole.requests).all()
        assert (fleet.timeline == whole.timeline).all()


def test_work_is_conserved_whatever_the_batch_limit(fleet_builder: Any) -> None:
    """When a step costs only its tokens, one server clears a backlog at the same instant in any order."""
    generator = np.random.default_rng(2)
    arrivals = np.cumsum(generator.exponential(0.01, 500))
    prompt, output = generator.integers(1, 50, 500), generator.integers(1, 50, 500)
    ends = set()
    for limit in (1, 4, 64):
        fleet, _ = finished(fleet_builder(arrivals, prompt=prompt, output=output, token_s=0.001, max_sequences=limit))
        ends.add(int(fleet.requests["finished_ns"].max()))
        assert fleet.timeline["busy_ns"].sum() == pytest.approx((prompt + output - 1).sum() * 1e6, rel=1e-9)
    assert len(ends) == 1


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_a_request_that_just_fits_alone_is_served(fleet_builder: Any, engine: type[CompiledEngine]) -> None:
    builder = fleet_builder(
        [0.0, 0.0, 0.0], prompt=10, output=11, kv_capacity=20, max_sequences=4, base_s=0.01, step_token_budget=4
    )
    fleet, _ = finished(builder, engine)
    assert (fleet.requests["outcome"] == 1).all()
    assert fleet.requests["preemptions"].sum() == 0
    assert (np.diff(fleet.requests["finished_ns"]) > 0).all()


def test_preemption_recomputes_and_gives_no_second_first_token(fleet_builder: Any) -> None:
    """Two sequences outgrow the memory: the newer one is preempted, recomputed, and finishes later."""
    builder = fleet_builder(
        [0.0, 0.0], prompt=10, output=40, kv_capacity=60, max_sequences=2, base_s=0.01, token_s=0.001
    )
    fleet, _ = finished(builder)
    first, second = fleet.requests
    assert (first["preemptions"], second["preemptions"]) == (0, 1)
    assert first["first_token_ns"] == second["first_token_ns"]
    assert first["finished_ns"] < second["finished_ns"]
    kept = 60 // 2 - 10 + 1  # tokens that each had when the memory was full
    assert fleet.timeline["prefill_tokens"].sum() == 20 + 10 + kept


def test_an_arrival_at_a_boundary_joins_the_step_that_begins_there(fleet_builder: Any) -> None:
    fleet, _ = finished(fleet_builder([0.0, 0.02], prompt=1, output=[9, 2], base_s=0.01, max_sequences=2))
    assert fleet.requests["admitted_ns"].tolist() == [0, 20_000_000]
    assert fleet.requests["first_token_ns"].tolist() == [10_000_000, 30_000_000]


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_more_of_anything_never_hurts_a_backlog(fleet_builder: Any, engine: type[CompiledEngine]) -> None:
    """A burst at time 0 is cleared no later with more replicas, more slots or more memory."""
    base = {"arrivals_s": [0.0] * 60, "prompt": 20, "output": 30, "base_s": 0.01, "max_sequences": 4,
            "kv_capacity": 400, "replicas": 2}  # fmt: skip

    def cleared(**changes: int) -> int:
        return int(finished(fleet_builder(**base | changes), engine)[0].requests["finished_ns"].max())

    reference = cleared()
    for changes in ({"replicas": 3}, {"max_sequences": 8}, {"kv_capacity": 4000}):
        assert cleared(**changes) <= reference


def test_a_router_of_ones_own_sees_no_output_length_and_decides(fleet_builder: Any) -> None:
    fields = {field.name for view in (RequestView, ReplicaView) for field in dataclasses.fields(view)}
    assert not any("output" in name for name in fields)
    fleet, routing, arrivals = fleet_builder([0.0, 0.1, 0.2], replicas=3, base_s=0.01).build()
    SimpyEngine(fleet, routing, arrivals, router=lambda request, replicas: replicas[-1].index).advance(FOREVER)
    assert fleet.requests["replica"].tolist() == [2, 2, 2]
    fleet, routing, arrivals = fleet_builder([0.0], replicas=3, base_s=0.01).build()
    with pytest.raises(ValueError, match="router chose replica 7"):
        SimpyEngine(fleet, routing, arrivals, router=lambda request, replicas: 7).advance(FOREVER)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_routers_are_blind_to_output_lengths(fleet_builder: Any, router: str) -> None:
    """Before anything can have finished, answers of any length leave the choice of replicas unchanged."""
    chosen = []
    for seed in (1, 2):
        output = np.random.default_rng(seed).integers(2, 100, 50)
        arrivals = np.arange(50) * 1e-6
        fleet, _ = finished(
            fleet_builder(arrivals, output=output, replicas=4, base_s=1.0, max_sequences=64, router=router)
        )
        chosen.append(fleet.requests["replica"].tolist())
    assert chosen[0] == chosen[1]


def test_a_span_is_cut_where_an_arrival_can_join(fleet_builder: Any) -> None:
    fleet, routing, arrivals = fleet_builder([0.0, 0.055], prompt=1, output=100, base_s=0.01, max_sequences=2).build()
    engine = CompiledEngine(fleet, routing, arrivals)
    engine.advance(50_000_000)
    assert fleet.replicas[0]["span_steps"] > 1
    assert enqueue(fleet, 0, 1, 55_000_000) == 60_000_000


@given(arguments=fleets())
def test_a_follow_up_comes_its_gap_after_the_completion_that_it_follows(
    fleet_builder: Any, arguments: dict[str, Any]
) -> None:
    fleet, _ = finished(fleet_builder(**arguments))
    requests = fleet.requests
    follows = arguments["follows"]
    if follows is None:
        return
    child = np.flatnonzero(follows >= 0)
    parent = requests[follows[child]]
    assert (requests["arrival_ns"][child] == parent["finished_ns"] + requests["gap_ns"][child]).all()


@pytest.mark.parametrize("engine", [CompiledEngine, SimpyEngine])
def test_a_closed_loop_holds_its_number_of_users(fleet_builder: Any, engine: type[CompiledEngine]) -> None:
    """Four chains without gaps on four slots: always four in the system, and steps of one length serve them in turn."""
    users, rounds = 4, 25
    follows = np.concatenate([np.full(users, -1), np.arange(users * (rounds - 1))])
    builder = fleet_builder(
        np.zeros(users * rounds), prompt=1, output=10, base_s=0.01, max_sequences=users, follows=follows
    )
    fleet, _ = finished(builder, engine)
    assert (fleet.requests["outcome"] == 1).all()
    last_ns = fleet.requests["finished_ns"].max()
    in_system = fleet.timeline["waiting_ns"].sum() + fleet.timeline["running_ns"].sum()
    assert in_system == users * last_ns
    assert last_ns == rounds * 10 * 10_000_000


def test_follow_ups_after_the_end_of_the_arrivals_are_not_sent(fleet_builder: Any) -> None:
    builder = fleet_builder(
        [0.0, 0.0, 0.0], output=10, base_s=0.01, follows=[-1, 0, 1], gaps_s=[0.0, 0.05, 1.0], end_s=0.5
    )
    for engine in (CompiledEngine, SimpyEngine):
        fleet, _ = finished(builder, engine)
        assert fleet.requests["outcome"].tolist() == [1, 1, 0]
        assert fleet.requests["arrival_ns"].tolist() == [0, 150_000_000, -1]


def test_priority_goes_first_and_takes_the_place_of_the_lowest(fleet_builder: Any) -> None:
    """Two slots are taken by low priority; a high one preempts the newer, a middle one waits for nobody to give way."""
    builder = fleet_builder(
        [0.0, 0.0, 0.055, 0.055], prompt=1, output=50, base_s=0.01, max_sequences=2, priority=[2, 2, 0, 1]
    )
    for engine in (CompiledEngine, SimpyEngine):
        fleet, _ = finished(builder, engine)
        admitted, finish = fleet.requests["admitted_ns"], fleet.requests["finished_ns"]
        assert fleet.requests["preemptions"].tolist() == [1, 1, 0, 0]
        assert admitted[2:].tolist() == [60_000_000, 60_000_000]
        assert finish[2:].max() < finish[:2].min()


def test_the_high_priority_does_not_feel_the_low_one(fleet_builder: Any) -> None:
    """Where steps cost the same whatever the batch, preemptive priority serves the first class as if alone."""
    generator = np.random.default_rng(8)
    arrivals = np.sort(generator.random(400)) * 40
    priority = generator.integers(0, 2, 400)
    output = generator.integers(1, 60, 400)
    common = {"output": output, "base_s": 0.01, "max_sequences": 3}
    both, _ = finished(fleet_builder(arrivals, priority=priority, **common))
    first = priority == 0
    alone, _ = finished(fleet_builder(arrivals[first], **common | {"output": output[first]}))
    waits = both.requests["admitted_ns"][first] - both.requests["arrival_ns"][first]
    alone_waits = alone.requests["admitted_ns"] - alone.requests["arrival_ns"]
    # Steps of the other class shift boundaries by less than one step.
    assert np.abs(np.quantile(waits, [0.5, 0.9, 0.99]) - np.quantile(alone_waits, [0.5, 0.9, 0.99])).max() <= 10_000_000
    low_waits = both.requests["admitted_ns"][~first] - both.requests["arrival_ns"][~first]
    assert low_waits.mean() > 10 * waits.mean()


def test_a_high_priority_prompt_does_not_queue_behind_a_long_low_one(fleet_builder: Any) -> None:
    builder = fleet_builder(
        [0.0, 0.015], prompt=[1000, 10], output=2, base_s=0.01, max_sequences=4, step_token_budget=20, priority=[1, 0]
    )
    fleet, _ = finished(builder)
    assert fleet.requests["first_token_ns"][1] == 30_000_000
    assert fleet.requests["first_token_ns"][0] > 500_000_000
