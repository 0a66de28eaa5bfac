"""Synthetic traffic: a workload at a rate becomes a trace."""

from __future__ import annotations

import numpy as np

from sim.demand.arrivals import (
    cumulative_rate,
    gamma_renewal_arrivals,
    poisson_arrivals,
    profile_rates,
    rescale_to_profile,
)
from sim.demand.lengths import sample_lengths
from sim.demand.prefix import sample_cached
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.workload import PoissonArrivals, WorkloadSpec


def generate_class(
    workload: WorkloadSpec,
    rate_per_s: float,
    duration_s: float,
    start_hour: float,
    seed: int,
    name: str,
    replication: int = 0,
) -> Trace:
    """Return the requests of one traffic class.

    Arrivals, prompts, outputs and prefixes have streams of their own under (name, replication), so nothing
    that changes in one class changes another. The n-th request of a class keeps its lengths when the rate,
    the profile or the duration changes.

    Parameters
    ----------
    workload : WorkloadSpec
        How requests arrive and how long they are.
    rate_per_s : float
        Mean rate over a day [requests/s]; with a profile, the hours of the run have the profile's share of it.
    duration_s : float
        Length of the run [s].
    start_hour : float
        Hour of the day at which the run starts, in [0, 24) [h]; without a profile it does not matter.
    seed : int
        Seed of the run.
    name : str
        Name of the traffic class.
    replication : int
        Number of the replication.

    Returns
    -------
    Trace
        Requests with arrivals in [0, duration); it may be empty. Lengths are not cut to any context.

    Raises
    ------
    ValueError
        Rate, duration or start hour out of range.
    InputError
        A truncation leaves no probability.

    """
    arrivals = workload.arrivals
    if arrivals.profile is None:
        edges_s, rates_per_s = np.array([0.0, duration_s]), np.array([rate_per_s])
    else:
        edges_s, rates_per_s = profile_rates(rate_per_s, arrivals.profile.multipliers, start_hour, duration_s)
    expected = float(cumulative_rate(edges_s, rates_per_s)[-1])
    generator = stream(seed, name, replication, "arrivals")
    if isinstance(arrivals, PoissonArrivals):
        unit = poisson_arrivals(1.0, expected, generator)
    else:
        unit = gamma_renewal_arrivals(1.0, arrivals.cv.value, expected, generator)
    arrival_ns = (rescale_to_profile(unit, edges_s, rates_per_s) * NANOSECONDS).astype(np.int64)
    count = arrival_ns.size
    prompt = sample_lengths(workload.prompt_tokens, count, stream(seed, name, replication, "prompt"))
    output = sample_lengths(workload.output_tokens, count, stream(seed, name, replication, "output"))
    cached = sample_cached(workload.prefix, prompt, stream(seed, name, replication, "prefix"))
    return Trace((name,), arrival_ns, np.zeros(count, np.int16), prompt, cached, output)
