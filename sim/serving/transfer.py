"""KV on its way from one replica to another: each sends one at a time, first come, first served."""

from __future__ import annotations

from sim.serving.compilation import compiled
from sim.serving.state import FRACTION_BITS
from sim.specs.memory import HandOverSpec

_NANOSECONDS = 1e9


def token_duration(hand_over: HandOverSpec, bytes_per_token: float) -> int:
    """Return how long the KV of one token takes at the stated bandwidth [2**-20 ns]."""
    return round(bytes_per_token / hand_over.bandwidth * _NANOSECONDS * (1 << FRACTION_BITS))


@compiled
def transfer_end_ns(ready_ns: int, sender_free_ns: int, tokens: int, duration: int, latency_ns: int) -> tuple[int, int]:
    """Return when the sender is free again, and when the KV is there.

    A transfer begins when its prompt is computed and its sender is free, `start = max(ready, free)`, and holds it for
    `tokens * duration`, rounded up to whole nanoseconds; the latency passes on the way and holds nobody. This is
    Lindley's recursion.

    Parameters
    ----------
    ready_ns : int
        When the prompt is computed [ns].
    sender_free_ns : int
        When the sender has ended its transfers before this one [ns].
    tokens : int
        KV entries to send [tokens].
    duration : int
        Time of one of them [2**-20 ns].
    latency_ns : int
        Time on the way [ns].

    Returns
    -------
    tuple of int
        When the sender is free, and when decoding can begin [ns].

    """
    start_ns = max(ready_ns, sender_free_ns)
    busy_ns = (tokens * duration + (1 << FRACTION_BITS) - 1) >> FRACTION_BITS
    return start_ns + busy_ns, start_ns + busy_ns + latency_ns
