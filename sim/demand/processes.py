"""Arrival instants of a described process: the profile, the noise of the rate, and the process in operational time.

A process is drawn at the rate one and then moved by the time change of the run's rate, so a higher rate only
compresses it, and the noise of the rate is the same for every fleet.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import special

from sim.demand.arrivals import (
    cumulative_rate,
    gamma_renewal_arrivals,
    poisson_arrivals,
    profile_rates,
    rescale_to_profile,
)
from sim.demand.durations import DurationTable, duration_table
from sim.specs.arrivals import (
    Arrivals,
    ArrivalSpec,
    BatchArrivals,
    GammaRenewalArrivals,
    OnOffArrivals,
    TenantArrivals,
    WanderingSpec,
)

FloatArray = npt.NDArray[np.float64]
Streams = Callable[..., np.random.Generator]
"""Names -> the random stream of these names."""

_STEPS_PER_TIME_CONSTANT = 24
_FINEST_STEP_S = 1.0


def arrival_instants(
    arrivals: Arrivals, rate_per_s: float, duration_s: float, start_hour: float, streams: Streams
) -> FloatArray:
    """Return the instants of a described process.

    Parameters
    ----------
    arrivals : Arrivals
        Described process.
    rate_per_s : float
        Mean rate over the profile [1/s].
    duration_s : float
        Length of the run [s].
    start_hour : float
        Hour of the profile's day or week at which the run starts, on the scenario's clock [h].
    streams : callable
        Gives a random stream for a name: `arrivals`, `rate`, and one for each tenant or job.

    Returns
    -------
    ndarray, shape (requests,)
        Sorted instants [s] in [0, duration).

    Raises
    ------
    ValueError
        Rate or duration is negative, NaN or infinite.

    """
    edges_s, rates_per_s = run_rates(arrivals, rate_per_s, duration_s, start_hour, streams)
    expected = float(cumulative_rate(edges_s, rates_per_s)[-1])
    if isinstance(arrivals, TenantArrivals):
        unit = _tenants(arrivals, expected, streams)
    elif isinstance(arrivals, GammaRenewalArrivals):
        unit = gamma_renewal_arrivals(1.0, arrivals.cv.value, expected, streams("arrivals"))
    elif isinstance(arrivals, OnOffArrivals):
        return _jobs(arrivals, edges_s, rates_per_s, streams)
    elif isinstance(arrivals, BatchArrivals):
        return _batches(arrivals, edges_s, rates_per_s)
    else:
        unit = poisson_arrivals(1.0, expected, streams("arrivals"))
    return rescale_to_profile(unit, edges_s, rates_per_s)


def past_instants(
    arrivals: Arrivals, rate_per_s: float, past_s: float, start_hour: float, streams: Streams
) -> FloatArray:
    """Return Poisson instants before the run, from the last one backwards, at the rate of the profile without noise.

    Parameters
    ----------
    arrivals : Arrivals
        Described process, of which only the profile counts.
    rate_per_s, start_hour, streams
        As in `arrival_instants`; the stream is `past`.
    past_s : float
        How far back [s].

    Returns
    -------
    ndarray, shape (arrivals,)
        Falling instants [s] in (-past, 0]; a longer past keeps them, a higher rate compresses them.

    """
    edges_s, rates_per_s = _profile(arrivals, rate_per_s, past_s, start_hour - past_s / 3600.0)
    edges_s, rates_per_s = past_s - edges_s[::-1], rates_per_s[::-1]
    unit = poisson_arrivals(1.0, float(cumulative_rate(edges_s, rates_per_s)[-1]), streams("past"))
    return -rescale_to_profile(unit, edges_s, rates_per_s)


def run_rates(
    arrivals: ArrivalSpec, rate_per_s: float, duration_s: float, start_hour: float, streams: Streams
) -> tuple[FloatArray, FloatArray]:
    """Return the piecewise constant rate of a run, its noise included.

    The logarithm of the noise is a sum of stationary Ornstein-Uhlenbeck processes X, drawn exactly on a grid of a
    24th of the shortest time constant (an AR(1) series); the factor is exp(sum of X - half its variance), of mean one.

    Returns
    -------
    edges_s : ndarray, shape (pieces + 1,)
        Instants at which the rate changes [s], from 0 to the duration.
    rates_per_s : ndarray, shape (pieces,)
        Rate between them [1/s].

    """
    edges_s, rates_per_s = _profile(arrivals, rate_per_s, duration_s, start_hour)
    if not arrivals.rate_noise:
        return edges_s, rates_per_s
    shortest = min(part.time_constant.value for part in arrivals.rate_noise.values())
    step = max(shortest / _STEPS_PER_TIME_CONSTANT, _FINEST_STEP_S)
    count = max(math.ceil(duration_s / step), 1)
    noise = np.zeros(count)
    for name, part in arrivals.rate_noise.items():
        noise += _wandering(part, step, count, streams("rate", name)) - 0.5 * part.sigma.value**2
    grid = np.minimum(np.arange(count) * step, duration_s)
    both = np.union1d(edges_s, grid)
    pieces = both[:-1]
    hour = np.searchsorted(edges_s, pieces, side="right") - 1
    return both, rates_per_s[hour] * np.exp(noise[np.searchsorted(grid, pieces, side="right") - 1])


def _profile(
    arrivals: ArrivalSpec, rate_per_s: float, duration_s: float, start_hour: float
) -> tuple[FloatArray, FloatArray]:
    profile = arrivals.profile
    if profile is None:
        return np.array([0.0, duration_s]), np.array([rate_per_s])
    return profile_rates(rate_per_s, profile.multipliers, start_hour + profile.offset_hours, duration_s)


def _wandering(part: WanderingSpec, step_s: float, count: int, generator: np.random.Generator) -> FloatArray:
    from scipy import signal  # slow to import, and few workloads wander

    kept = math.exp(-step_s / part.time_constant.value)
    shocks = generator.standard_normal(count) * part.sigma.value
    shocks[1:] *= math.sqrt(1.0 - kept**2)
    return np.asarray(signal.lfilter([1.0], [1.0, -kept], shocks), dtype=np.float64)


def tenant_shares(arrivals: TenantArrivals) -> FloatArray:
    """Return the share of the requests of each tenant, largest first, shape (tenants,) [1]."""
    knots = sorted({0: 0.0, **arrivals.shares.largest, arrivals.tenants: 1.0}.items())
    numbers, reached = (np.array(column, dtype=np.float64) for column in zip(*knots, strict=True))
    return np.diff(np.interp(np.arange(arrivals.tenants + 1), numbers, reached))


def _tenants(arrivals: TenantArrivals, expected: float, streams: Streams) -> FloatArray:
    """Return the superposition of the tenants at the rate one.

    The CV table is weighted by requests, so tenants are laid along its probabilities in a random order, each as long as
    its share, and take the CV of their middle.
    """
    shares = tenant_shares(arrivals)
    order = streams("tenants").permutation(arrivals.tenants)
    middle = np.empty(arrivals.tenants)
    laid = shares[order]
    middle[order] = np.cumsum(laid) - laid / 2.0
    probability, cvs = (np.array(column) for column in zip(*sorted(arrivals.cv.quantiles.items()), strict=True))
    own_cv = np.exp(np.interp(middle, probability, np.log(cvs)))
    instants = [
        _renewal(arrivals.gaps, float(cv), share * expected, streams("tenant", tenant)) / share
        for tenant, (share, cv) in enumerate(zip(shares, own_cv, strict=True))
        if share > 0.0
    ]
    merged: FloatArray = np.sort(np.concatenate(instants))
    return merged[: np.searchsorted(merged, expected, side="left")]


def _renewal(gaps: str, cv: float, expected: float, generator: np.random.Generator) -> FloatArray:
    if gaps == "gamma":
        return gamma_renewal_arrivals(1.0, cv, expected, generator)
    return weibull_renewal_arrivals(cv, expected, generator)


def weibull_renewal_arrivals(cv: float, expected: float, generator: np.random.Generator) -> FloatArray:
    """Return the instants of a stationary renewal process of rate one with Weibull distributed gaps.

    The shape k solves Gamma(1 + 2/k) / Gamma(1 + 1/k)**2 = 1 + cv**2. The first instant is the remainder U L of a
    length-biased gap L: (L / scale)**k ~ Gamma(1 + 1/k) (Cox, Renewal Theory, 1962, sections 2.2 and 5.3).

    Parameters
    ----------
    cv : float
        Coefficient of variation of the gaps [1].
    expected : float
        Length of the run, in mean gaps [1].
    generator : numpy.random.Generator
        Stream to draw from.

    Returns
    -------
    ndarray, shape (arrivals,)
        Sorted instants in [0, expected), in mean gaps.

    """
    shape = weibull_shape(cv)
    scale = 1.0 / math.gamma(1.0 + 1.0 / shape)
    first = float(generator.random()) * scale * float(generator.standard_gamma(1.0 + 1.0 / shape)) ** (1.0 / shape)
    blocks, last = [np.array([first])], first
    size = int(expected + 6.0 * max(cv, 1.0) * math.sqrt(expected)) + 16
    while last < expected:
        gaps = scale * generator.weibull(shape, size)
        gaps[0] += last
        blocks.append(np.cumsum(gaps))
        last, size = float(blocks[-1][-1]), max(size // 4, 16)
    times = np.concatenate(blocks)
    return times[: np.searchsorted(times, expected, side="left")]


def weibull_shape(cv: float) -> float:
    """Return the shape of the Weibull distribution with a coefficient of variation, from 0.01 to 1000 [1]."""
    from scipy import optimize  # slow to import, and few workloads need it

    def excess(log_shape: float) -> float:
        inverse = math.exp(-log_shape)
        log_ratio = special.gammaln(1.0 + 2.0 * inverse) - 2.0 * special.gammaln(1.0 + inverse)
        return float(log_ratio - math.log1p(cv**2))

    return math.exp(float(optimize.brentq(excess, math.log(0.02), math.log(200.0), xtol=1e-13)))


def _jobs(arrivals: OnOffArrivals, edges_s: FloatArray, rates_per_s: FloatArray, streams: Streams) -> FloatArray:
    """Return the requests of all jobs; each is on and off by an alternating renewal process that is stationary."""
    on, off = duration_table(arrivals.running), duration_table(arrivals.pausing)
    duty = on.mean_s() / (on.mean_s() + off.mean_s())
    factor = 1.0 / (duty * arrivals.jobs)
    instants = []
    for job in range(arrivals.jobs):
        changes, running = on_off_changes(on, off, float(edges_s[-1]), streams("job", job, "on_off"))
        both = np.union1d(edges_s, changes)
        piece = np.searchsorted(edges_s, both[:-1], side="right") - 1
        period = np.searchsorted(changes, both[:-1], side="right")
        rates = rates_per_s[piece] * factor * ((period % 2 == 0) == running)
        expected = float(cumulative_rate(both, rates)[-1])
        unit = gamma_renewal_arrivals(1.0, arrivals.cv.value, expected, streams("job", job, "arrivals"))
        instants.append(rescale_to_profile(unit, both, rates))
    return np.sort(np.concatenate(instants))


def on_off_changes(
    on: DurationTable, off: DurationTable, duration_s: float, generator: np.random.Generator
) -> tuple[FloatArray, bool]:
    """Return the instants in (0, duration) at which a job starts or stops, and whether it runs at 0.

    It runs at 0 with probability E[on] / (E[on] + E[off]), and what is left of the period at 0 is U L of a
    length-biased period L (equilibrium of an alternating renewal process; Cox, Renewal Theory, 1962, section 7.2).
    """
    running = bool(generator.random() < on.mean_s() / (on.mean_s() + off.mean_s()))
    current = (on if running else off).length_biased()
    at = float(generator.random() * current.at(generator.random(1))[0])
    changes, state = [], running
    while at < duration_s:
        changes.append(at)
        state = not state
        at += float((on if state else off).at(generator.random(1))[0])
    return np.array(changes), running


def _batches(arrivals: BatchArrivals, edges_s: FloatArray, rates_per_s: FloatArray) -> FloatArray:
    duration_s, every = float(edges_s[-1]), arrivals.every.value
    instants = np.arange(arrivals.first.value, duration_s, every)
    reached = cumulative_rate(edges_s, rates_per_s)
    # the last batch brings what a full period would, at the mean rate of the run
    ends = np.arange(instants.size + 1) * every
    within = np.interp(ends, edges_s, reached)
    beyond = np.maximum(ends - duration_s, 0.0) * (reached[-1] / duration_s if duration_s > 0.0 else 0.0)
    sizes = np.diff(np.floor(within + beyond + 1e-9)).astype(np.int64)
    return np.repeat(instants, sizes)
