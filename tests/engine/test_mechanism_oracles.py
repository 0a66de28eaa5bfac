"""Mechanisms of fleets in motion against theory: caches, priorities that resume, and clients that give up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engine.compiled_engine import CompiledEngine
from sim.results.intervals import batch_means_interval
from sim.serving.state import NEVER, PREFIX, TIMED_OUT
from sim.theory.abandonment import mmc_fixed_patience
from sim.theory.caches import prefix_hits
from sim.theory.priorities import preemptive_mean_waits

BLOCK = 4


def simulate(builder: Any) -> Any:
    fleet, routing, arrivals = builder.build()
    CompiledEngine(fleet, routing, arrivals).advance(1 << 62)
    return fleet.requests


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), capacity=st.integers(12, 60), sessions=st.integers(1, 12))
def test_hits_are_those_of_an_exact_lru_cache_of_blocks(
    fleet_builder: Any, seed: int, capacity: int, sessions: int
) -> None:
    """Requests one after the other: what is found is what Mattson's stack distances say, block by block."""
    generator = np.random.default_rng(seed)
    group_blocks = [0, 2, 3]
    context = {}
    prefixes, prompts, outputs, chains = [], [], [], []
    for _ in range(120):
        session = int(generator.integers(0, sessions))
        group = session % 3 - 1
        shared = group_blocks[group + 1]
        before = context.get(session, shared)
        blocks = before + int(generator.integers(1, 4))
        if blocks > capacity // 2:
            before, blocks = shared, shared + 1  # compacted: the session's text is another one from now on
            sessions += 1
            session = sessions * 100 + session
        context[session] = blocks
        output = int(generator.integers(1, BLOCK))
        prompts.append(blocks * BLOCK - output + 1)
        outputs.append(output)
        prefixes.append((session, group, shared * BLOCK, before * BLOCK))
        names = [("group", group, place) for place in range(shared)]
        chains.append([*names, *((session, place) for place in range(shared, blocks))])
    requests = simulate(
        fleet_builder(
            np.arange(120.0),
            prompt=prompts,
            output=outputs,
            base_s=1e-4,
            kv_capacity=capacity * BLOCK,
            columns={"cache_block": BLOCK, "cache_capacity": capacity * BLOCK},
            prefixes=np.array(prefixes, PREFIX),
        )
    )
    assert (requests["cached_tokens"] // BLOCK).tolist() == prefix_hits(chains, capacity)


def test_a_class_that_yields_and_resumes_waits_as_preemptive_priorities_do(fleet_builder: Any) -> None:
    """Sequences whose KV is swapped at no cost go on where they were: M/G/1 with preemptive-resume priorities."""
    generator = np.random.default_rng(3)
    count, step_s = 300_000, 1e-3
    steps = np.ceil(generator.exponential(400, count)).astype(np.int64)
    priority = generator.integers(0, 2, count)
    services = [steps[priority == level] * step_s for level in (0, 1)]
    rates = np.array([0.35 / services[0].mean(), 0.35 / services[1].mean()])
    arrivals = np.cumsum(generator.exponential(1 / rates.sum(), count))
    priority = (generator.random(count) < rates[1] / rates.sum()).astype(np.int64)
    requests = simulate(
        fleet_builder(
            arrivals,
            output=steps,
            base_s=step_s,
            priority=priority,
            intervals=2,
            columns={"swap_capacity": 1 << 40},
        )
    )
    assert requests["preemptions"].sum() > count / 20
    theory = preemptive_mean_waits(
        [(priority == level).sum() / arrivals[-1] for level in (0, 1)],
        [steps[priority == level].mean() * step_s for level in (0, 1)],
        [(steps[priority == level] ** 2.0).mean() * step_s**2 for level in (0, 1)],
    )
    waits = (requests["finished_ns"] - requests["arrival_ns"]) * 1e-9 - steps * step_s
    for level in (0, 1):
        mine = priority == level
        found = batch_means_interval(arrivals[mine], waits[mine], batches=20, confidence=0.99)
        assert found.low - step_s <= theory[level] <= found.high + step_s
        assert found.high - found.low < 0.2 * theory[level]


@pytest.mark.parametrize("load", [0.8, 1.5])
def test_clients_give_up_as_often_as_in_a_queue_with_fixed_patience(fleet_builder: Any, load: float) -> None:
    """M/M/1+D, also beyond capacity: the share that times out, and nobody of it is lost from the count."""
    generator = np.random.default_rng(9)
    count, step_s, mean_steps, patience_s = 300_000, 1e-3, 1000, 1.5
    steps = np.ceil(generator.exponential(mean_steps, count)).astype(np.int64)
    service_s = steps.mean() * step_s
    arrivals = np.cumsum(generator.exponential(service_s / load, count))
    requests = simulate(
        fleet_builder(
            arrivals,
            output=steps,
            base_s=step_s,
            intervals=2,
            clients=(round((patience_s + step_s) * 1e9), NEVER, 0, 0, 1.0),
        )
    )
    gone = (requests["outcome"] == TIMED_OUT).astype(float)
    assert (requests["first_token_ns"][gone > 0] < 0).all()
    assert ((requests["finished_ns"] >= 0) == (gone == 0)).all()
    found = batch_means_interval(arrivals, gone, batches=20, confidence=0.99)
    theory = mmc_fixed_patience(count / arrivals[-1], 1 / service_s, 1, patience_s).abandons
    assert found.low <= theory <= found.high
    assert found.high - found.low < 0.06 * theory
