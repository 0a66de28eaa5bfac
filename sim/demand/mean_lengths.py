"""Mean prompt and answer of the calls of a workload, shared beginnings and contexts of sessions included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.demand.lengths import mean_length
from sim.demand.prefix import mean_cached
from sim.demand.session_tables import session_tables
from sim.demand.sessions import draw_sessions
from sim.demand.streams import stream
from sim.specs.prefixes import SharedPrefix
from sim.specs.workload import WorkloadSpec

_SESSIONS = 2000


class MeanLengths(NamedTuple):
    """Means over calls."""

    prompt_tokens: float
    """Whole prompt, context included [tokens]."""

    output_tokens: float
    """Answer [tokens]."""


def mean_call_lengths(workload: WorkloadSpec) -> MeanLengths:
    """Return the means of a workload: exact without sessions, of 2,000 sessions with them."""
    output = mean_length(workload.output_tokens)
    if workload.sessions is None:
        prompt = mean_length(workload.prompt_tokens)
        if isinstance(workload.prefix, SharedPrefix):
            prompt += mean_cached(workload.prefix, workload.prompt_tokens)
        return MeanLengths(prompt, output)
    calls = draw_sessions(session_tables(workload), _SESSIONS, lambda *names: stream(1, "mean", *names))
    return MeanLengths(float(np.mean(calls.prompt)), output)
