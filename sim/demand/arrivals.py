"""Arrival instants: renewal processes at unit rate, and the time change that gives them a daily profile.

All functions are pure: instants come back sorted, in seconds, in [0, duration). A longer duration from the
same stream keeps the earlier instants, and a higher rate only compresses them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from sim.specs.arrivals import HOURS_PER_DAY, HOURS_PER_WEEK

FloatArray = npt.NDArray[np.float64]
SECONDS_PER_HOUR = 3600.0


def poisson_arrivals(rate_per_s: float, duration_s: float, generator: np.random.Generator) -> FloatArray:
    """Return the instants of a Poisson process.

    Parameters
    ----------
    rate_per_s : float
        Rate [requests/s], not negative.
    duration_s : float
        Length of the run [s], not negative.
    generator : numpy.random.Generator
        Stream to draw from.

    Returns
    -------
    ndarray, shape (requests,)
        Sorted instants [s] in [0, duration).

    Raises
    ------
    ValueError
        Rate or duration is negative, NaN or infinite.

    """
    horizon = _horizon(rate_per_s, duration_s)
    unit = _accumulate(generator.standard_exponential, float(generator.standard_exponential()), horizon, 1.0)
    return _to_seconds(unit, rate_per_s, duration_s)


def gamma_renewal_arrivals(
    rate_per_s: float, cv: float, duration_s: float, generator: np.random.Generator
) -> FloatArray:
    """Return the instants of a stationary renewal process with gamma distributed gaps.

    Gaps have shape k = 1/cv**2 and mean 1/rate. The first instant is the equilibrium residual, the
    remainder U L of a length-biased gap L ~ Gamma(k + 1, 1/(k rate)) with U uniform, so the expected
    count is exactly rate x duration from the start (Cox, Renewal Theory, 1962, sections 2.2 and 5.3).

    Parameters
    ----------
    rate_per_s : float
        Rate [requests/s], not negative.
    cv : float
        Coefficient of variation of the gaps [1], above 0; 1 is a Poisson process.
    duration_s : float
        Length of the run [s], not negative.
    generator : numpy.random.Generator
        Stream to draw from.

    Returns
    -------
    ndarray, shape (requests,)
        Sorted instants [s] in [0, duration).

    Raises
    ------
    ValueError
        A parameter is negative, NaN or infinite, or cv is 0.

    """
    if not (math.isfinite(cv) and cv > 0.0):
        raise ValueError(f"cv must be finite and above 0, got {cv}")
    horizon = _horizon(rate_per_s, duration_s)
    shape = cv**-2
    first = float(generator.random()) * float(generator.standard_gamma(shape + 1.0)) / shape
    unit = _accumulate(lambda count: generator.standard_gamma(shape, count) / shape, first, horizon, cv)
    return _to_seconds(unit, rate_per_s, duration_s)


def profile_rates(
    rate_per_s: float, multipliers: Sequence[float], start_hour: float, duration_s: float
) -> tuple[FloatArray, FloatArray]:
    """Return the piecewise constant rate of a run that follows an hourly profile of a day or a week.

    Parameters
    ----------
    rate_per_s : float
        Mean rate over the whole profile [requests/s].
    multipliers : sequence of float, length 24 or 168
        Relative rate of hour 0, 1, ... 23 of every day, or of 0, 1, ... 167 from Monday on; normalised here to a
        mean of one [1].
    start_hour : float
        Hour of the profile at which the run starts [h]; beyond its length, and below 0, the profile repeats.
    duration_s : float
        Length of the run [s].

    Returns
    -------
    edges_s : ndarray, shape (pieces + 1,)
        Instants at which the rate changes [s], from 0 to the duration.
    rates_per_s : ndarray, shape (pieces,)
        Rate between them [requests/s].

    Raises
    ------
    ValueError
        Not 24 or 168 multipliers, one negative or all zero, or a start hour that is not finite.

    """
    _horizon(rate_per_s, duration_s)
    relative = np.asarray(multipliers, dtype=np.float64)
    hours_of_profile = (HOURS_PER_DAY, HOURS_PER_WEEK)
    if relative.size not in hours_of_profile or not np.all(np.isfinite(relative)) or np.any(relative < 0.0):
        raise ValueError("a profile has 24 or 168 multipliers, finite and not negative")
    if not np.any(relative > 0.0):
        raise ValueError("a profile needs an hour with a multiplier above 0")
    if not math.isfinite(start_hour):
        raise ValueError(f"start_hour must be finite, got {start_hour}")
    hours = np.arange(math.floor(start_hour), math.ceil(start_hour + duration_s / SECONDS_PER_HOUR) + 1)
    changes = (hours - start_hour) * SECONDS_PER_HOUR
    inside = (changes > 0.0) & (changes < duration_s)
    edges = np.concatenate(([0.0], changes[inside], [duration_s]))
    hour_of_piece = np.concatenate(([math.floor(start_hour)], hours[inside])) % relative.size
    return edges, rate_per_s * relative[hour_of_piece] / relative.mean()


def rescale_to_profile(unit_arrivals: FloatArray, edges_s: FloatArray, rates_per_s: FloatArray) -> FloatArray:
    """Return the instants of a unit-rate process after the time change to a piecewise constant rate.

    Instant s of the unit-rate process moves to t with Lambda(t) = s, Lambda the cumulative rate. A Poisson
    process becomes the inhomogeneous Poisson process of that rate (Cinlar, Introduction to Stochastic
    Processes, 1975, section 4.7); a renewal process keeps its burstiness in operational time.

    Parameters
    ----------
    unit_arrivals : ndarray, shape (requests,)
        Sorted instants of a process of rate one, in [0, Lambda(duration)) [1].
    edges_s : ndarray, shape (pieces + 1,)
        Instants at which the rate changes [s].
    rates_per_s : ndarray, shape (pieces,)
        Rate between them [requests/s]; pieces of rate zero receive nothing.

    Returns
    -------
    ndarray, shape (requests,)
        Sorted instants [s] in [0, duration).

    Raises
    ------
    ValueError
        An instant lies outside [0, Lambda(duration)).

    """
    cumulative = cumulative_rate(edges_s, rates_per_s)
    if unit_arrivals.size == 0:
        return np.empty(0)
    if unit_arrivals[0] < 0.0 or unit_arrivals[-1] >= cumulative[-1]:
        raise ValueError("unit-rate arrivals must lie in [0, cumulative rate)")
    # side="right" steps over pieces of rate zero, whose cumulative rate does not move
    piece = np.searchsorted(cumulative, unit_arrivals, side="right") - 1
    times = edges_s[piece] + (unit_arrivals - cumulative[piece]) / rates_per_s[piece]
    return np.minimum(times, np.nextafter(edges_s[piece + 1], 0.0))


def cumulative_rate(edges_s: FloatArray, rates_per_s: FloatArray) -> FloatArray:
    """Return the expected number of arrivals up to each edge of a piecewise constant rate.

    Parameters
    ----------
    edges_s : ndarray, shape (pieces + 1,)
        Instants at which the rate changes [s].
    rates_per_s : ndarray, shape (pieces,)
        Rate between them [requests/s].

    Returns
    -------
    ndarray, shape (pieces + 1,)
        Lambda at the edges [requests]; the last is the expected count of the run.

    """
    return np.concatenate(([0.0], np.cumsum(rates_per_s * np.diff(edges_s))))


def _horizon(rate_per_s: float, duration_s: float) -> float:
    for name, value in (("rate", rate_per_s), ("duration", duration_s)):
        if not (math.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    return rate_per_s * duration_s


def _accumulate(draw: Callable[[int], FloatArray], first: float, horizon: float, cv: float) -> FloatArray:
    """Return first, first + gap, ... below the horizon, for gaps of mean one."""
    size = int(horizon + 6.0 * max(cv, 1.0) * math.sqrt(horizon)) + 16
    blocks, last = [np.array([first])], first
    while last < horizon:
        gaps = draw(size)
        # one running sum over all blocks: the block size must not show in the last bits
        gaps[0] += last
        times = np.cumsum(gaps)
        blocks.append(times)
        last, size = float(times[-1]), max(size // 4, 16)
    times = np.concatenate(blocks)
    return times[: np.searchsorted(times, horizon, side="left")]


def _to_seconds(unit: FloatArray, rate_per_s: float, duration_s: float) -> FloatArray:
    if unit.size == 0:
        return unit
    times = unit / rate_per_s
    return times[: np.searchsorted(times, duration_s, side="left")]
