"""Synthetic traffic: a workload at a rate becomes a trace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.demand.closed_loop import draw_patience, generate_sessions
from sim.demand.lengths import correlated, invert, length_table, type_shares
from sim.demand.prefix import draw_shared, first_of_group, sample_cached
from sim.demand.processes import Streams, arrival_instants
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.specs.distributions import TypeMixtureLengths
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
    """Return prompts and outputs: by the types that both have, or of each on its own."""
    prompt, output = streams("prompt").random(count), streams("output").random(count)
    if workload.rank_correlation is not None:
        output = correlated(prompt, output, workload.rank_correlation.value)
    of_prompt, of_output = workload.prompt_tokens, workload.output_tokens
    if not (
        isinstance(of_prompt, TypeMixtureLengths)
        and isinstance(of_output, TypeMixtureLengths)
        and {name: part.share for name, part in of_prompt.types.items()}
        == {name: part.share for name, part in of_output.types.items()}
    ):
        return invert(length_table(of_prompt), prompt), invert(length_table(of_output), output)
    reached = np.cumsum(type_shares(of_prompt))
    kind = np.minimum(np.searchsorted(reached, streams("type").random(count), side="right"), reached.size - 1)
    lengths = np.empty((2, count), np.int64)
    for number, name in enumerate(of_prompt.types):
        rows = np.flatnonzero(kind == number)
        lengths[0, rows] = invert(length_table(of_prompt.types[name].lengths), prompt[rows])
        lengths[1, rows] = invert(length_table(of_output.types[name].lengths), output[rows])
    return lengths[0], lengths[1]
