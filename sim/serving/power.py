"""What a fleet draws, and how much slower it gets under a cap.

An accelerator draws from idle to its thermal design power in proportion to the time with a step in progress. That is
an upper bound: decode steps, which wait for memory, draw less. No source states by how much for any part.
"""

from __future__ import annotations

import math

from sim.serving.compilation import compiled
from sim.serving.state import FRACTION_BITS

FULL_SPEED = 1 << FRACTION_BITS
"""Factor on durations that changes nothing [2**-20]."""

LONGEST_FACTOR = 1000 * FULL_SPEED
"""Factor where the cap leaves next to nothing [2**-20]."""

_JOULES_PER_KILOWATT_HOUR = 3.6e6


@compiled
def power_w(busy_fraction: float, idle_w: float, busy_w: float) -> float:
    """Return the power of an accelerator that is busy for a fraction of the time, `idle + busy (TDP - idle)` [W]."""
    return idle_w + busy_fraction * (busy_w - idle_w)


@compiled
def slowdown_factor(unthrottled_w: float, fixed_w: float, cap_w: float, elasticity: float) -> int:
    """Return the factor on step times at which a rack or a site keeps its cap [2**-20], at least 1.

    The part above idle is cut to what the cap leaves, and speed follows it as a power,
    `speed = ((cap - fixed) / (unthrottled - fixed)) ** elasticity`. For Vera Rubin the fact table has two points:
    1,800 W instead of 2,300 W cost 5% of FP8, an elasticity of 0.16 to 0.21 for an idle power of 20% to none.

    Parameters
    ----------
    unthrottled_w : float
        Power at full speed [W].
    fixed_w : float
        Part of it that no cap changes: hosts and idle accelerators [W].
    cap_w : float
        The cap [W].
    elasticity : float
        Exponent, above 0 and at most 1 [1].

    """
    if unthrottled_w <= cap_w:
        return FULL_SPEED
    left = (cap_w - fixed_w) / (unthrottled_w - fixed_w)
    if left <= 0.0:
        return LONGEST_FACTOR
    return min(LONGEST_FACTOR, math.ceil(math.pow(left, -elasticity) * FULL_SPEED))


@compiled
def dynamic_share(factor: int, elasticity: float) -> float:
    """Return the power above idle at a slow-down, as a share of that at full speed: the inverse of the above [1]."""
    return math.pow(FULL_SPEED / factor, 1.0 / elasticity)


@compiled
def throttled(duration: int, factor: int) -> int:
    """Return a duration under a slow-down, rounded up [2**-20 ns]; exact for steps of up to 4 s."""
    whole = (duration >> FRACTION_BITS) * factor
    return whole + (((duration & (FULL_SPEED - 1)) * factor + FULL_SPEED - 1) >> FRACTION_BITS)


def energy_kilowatt_hours(power: float, seconds: float) -> float:
    """Return energy [kWh] of a power [W] over a time [s]."""
    return power * seconds / _JOULES_PER_KILOWATT_HOUR


def energy_per_million_tokens(energy_kwh: float, tokens: float) -> float:
    """Return energy per million tokens [kWh per million tokens]; infinite where there are none."""
    return energy_kwh / tokens * 1e6 if tokens > 0 else math.inf
