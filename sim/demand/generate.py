"""Synthetic traffic: a workload at a rate becomes a trace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from sim.demand.closed_loop import draw_patience, generate_sessions
from sim.demand.lengths import invert, length_table, sample_lengths
from sim.demand.prefix import draw_shared, first_of_group, sample_cached
from sim.demand.processes import Streams, arrival_instants
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.prefixes import SharedPrefix
from sim.specs.workload import WorkloadSpec

IntArray = npt.NDArray[np.int64]


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
    that changes in one class changes another. The n-th request of a class, or the n-th session, keeps its lengths
    and gaps when the rate, the profile or the duration changes.

    Parameters
    ----------
    workload : WorkloadSpec
        How requests arrive and how long they are.
    rate_per_s : float
        Mean rate over the profile [requests/s]; the hours of the run have the profile's share of it. With sessions,
        they begin at this rate divided by the mean number of their calls.
    duration_s : float
        Length of the run [s].
    start_hour : float
        Hour of the day or week at which the run starts [h]; without a profile it does not matter.
    seed : int
        Seed of the run.
    name : str
        Name of the traffic class.
    replication : int
        Number of the replication.

    Returns
    -------
    Trace
        Requests with arrivals in [0, duration); it may be empty. Lengths are not cut to any context. Follow-ups are
        those that could come before the end if every call took no time.

    Raises
    ------
    ValueError
        Rate or duration out of range.
    InputError
        A truncation leaves no probability.

    """

    def streams(*names: str | int) -> np.random.Generator:
        return stream(seed, name, replication, *names)

    if workload.sessions is not None:
        return generate_sessions(workload, rate_per_s, duration_s, start_hour, name, streams)
    arrivals_s = arrival_instants(workload.arrivals, rate_per_s, duration_s, start_hour, streams)
    arrival_ns = (arrivals_s * NANOSECONDS).astype(np.int64)
    count = arrival_ns.size
    prompt, output = _lengths(workload, count, streams)
    patience_ns = None if workload.patience is None else draw_patience(workload.patience, count, streams)
    classes = np.zeros(count, np.int16)
    if isinstance(workload.prefix, SharedPrefix):
        shared = draw_shared(workload.prefix, count, streams("prefix"))
        cached = np.where(first_of_group(shared.group), 0, shared.tokens)
        return Trace(
            (name,), arrival_ns, classes, prompt + shared.tokens, cached, output,
            prefix_group=shared.group.astype(np.int32), prefix_tokens=shared.tokens.astype(np.int32),
            patience_ns=patience_ns,
        )  # fmt: skip
    cached = sample_cached(workload.prefix, prompt, streams("prefix"))
    return Trace((name,), arrival_ns, classes, prompt, cached, output, patience_ns=patience_ns)


def _lengths(workload: WorkloadSpec, count: int, streams: Streams) -> tuple[IntArray, IntArray]:
    """Return prompts and outputs; a rank correlation r is that of a Gaussian copula with 2 sin(pi r / 6).

    Kruskal, Ordinal measures of association, JASA 53 (1958), section 4.
    """
    if workload.rank_correlation is None:
        prompt = sample_lengths(workload.prompt_tokens, count, streams("prompt"))
        return prompt, sample_lengths(workload.output_tokens, count, streams("output"))
    shared, own = streams("prompt").random(count), streams("output").random(count)
    linear = 2.0 * np.sin(np.pi * workload.rank_correlation.value / 6.0)
    score = linear * special.ndtri(shared) + np.sqrt(1.0 - linear**2) * special.ndtri(own)
    output = invert(length_table(workload.output_tokens), np.minimum(special.ndtr(score), np.nextafter(1.0, 0.0)))
    return invert(length_table(workload.prompt_tokens), shared), output
