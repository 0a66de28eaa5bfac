"""Arithmetic of spans: k steps with an unchanged batch, of which step j lasts `first + j growth`.

Durations are integers in units of 2**-20 ns, so a span cut anywhere adds up to the same instant.
"""

from __future__ import annotations

import numpy as np

from sim.serving.compilation import compiled
from sim.serving.state import FRACTION_BITS

FRACTION_MASK = (1 << FRACTION_BITS) - 1
LONGEST_SPAN = 1 << 60  # [2**-20 ns], 18 minutes; spans are cut there so that sums stay inside 64 bits


@compiled
def span_duration(first: int, growth: int, steps: int) -> int:
    """Return the duration of a span's first steps [2**-20 ns]: `k first + growth k (k - 1) / 2`."""
    return steps * first + growth * (steps * (steps - 1) // 2)


@compiled
def steps_within(first: int, growth: int, limit: int) -> int:
    """Return how many steps of a span end within a limit.

    Parameters
    ----------
    first, growth : int
        Duration of the first step, and by which each later step is longer [2**-20 ns].
    limit : int
        Time since the start of the span [2**-20 ns], not negative.

    Returns
    -------
    int
        The largest k with `k first + growth k (k - 1) / 2 <= limit`: the root of the quadratic, corrected exactly.

    """
    linear = first - 0.5 * growth
    if growth == 0:
        steps = limit // first
    else:
        steps = int(2.0 * limit / (linear + np.sqrt(linear * linear + 2.0 * growth * limit)))
    while steps > 0 and span_duration(first, growth, steps) > limit:
        steps -= 1
    while span_duration(first, growth, steps + 1) <= limit:
        steps += 1
    return steps


@compiled
def end_of_span_ns(replica: np.void) -> int:
    """Return when the running span of a replica ends [ns]."""
    length = span_duration(replica["first_duration"], replica["duration_growth"], replica["span_steps"])
    return replica["clock_ns"] + ((replica["remainder"] + length) >> FRACTION_BITS)


@compiled
def steps_before(replica: np.void, now_ns: int) -> int:
    """Return how many steps of the running span end before an instant [ns]."""
    elapsed = ((now_ns - replica["clock_ns"]) << FRACTION_BITS) - 1 - replica["remainder"]
    return steps_within(replica["first_duration"], replica["duration_growth"], elapsed) if elapsed >= 0 else 0
