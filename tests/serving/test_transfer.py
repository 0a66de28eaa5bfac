"""Transfers of KV: as Lindley has them, and never two at a time from any replica."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as some

from sim.serving.transfer import token_duration, transfer_end_ns
from sim.specs.memory import HandOverSpec
from sim.theory.queues import lindley_waits


def hand_over(bandwidth: str) -> HandOverSpec:
    return HandOverSpec.model_validate({"to": "answers", "bandwidth": bandwidth, "latency": "1 ms"})


def test_bytes_over_bandwidth_and_the_latency_on_top() -> None:
    duration = token_duration(hand_over("50 GB/s"), 100e3)
    assert duration == 2000 << 20
    free_ns, there_ns = transfer_end_ns(1000, 0, 500, duration, 10**6)
    assert (free_ns, there_ns) == (1000 + 1_000_000, 1000 + 2_000_000)
    # A third of a nanosecond a token: whole nanoseconds, rounded up, so that no two transfers overlap.
    assert transfer_end_ns(0, 0, 2, (1 << 20) // 3, 0) == (1, 1)


def test_the_sender_must_be_free() -> None:
    assert transfer_end_ns(100, 250, 3, 10 << 20, 5) == (280, 285)
    assert transfer_end_ns(300, 250, 3, 10 << 20, 5) == (330, 335)


@given(
    gaps=some.lists(some.integers(0, 500), min_size=1, max_size=40),
    tokens=some.lists(some.integers(0, 60), min_size=40, max_size=40),
)
def test_one_sender_is_lindleys_queue(gaps: list[int], tokens: list[int]) -> None:
    ready = np.cumsum(gaps)
    free_ns, waits = 0, []
    for at, count in zip(ready.tolist(), tokens, strict=False):
        end_ns, there_ns = transfer_end_ns(at, free_ns, count, 7 << 20, 11)
        waits.append(end_ns - 7 * count - at)
        assert there_ns == end_ns + 11
        free_ns = end_ns
    services = [7.0 * count for count in tokens[: len(gaps)]]
    assert waits == lindley_waits(np.array(gaps[1:], float), np.array(services, float)).tolist()
