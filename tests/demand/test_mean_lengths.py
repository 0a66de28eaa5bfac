"""Means of workloads are those of the requests that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from sim.demand.generate import generate_class
from sim.demand.mean_lengths import mean_call_lengths
from sim.specs.library import default_library


@pytest.mark.parametrize("name", ["chat-sessions", "voice-calls", "document-questions", "realtime-chat"])
def test_means_are_those_of_the_requests(name: str) -> None:
    workload = default_library().workload(name).spec
    means = mean_call_lengths(workload)
    # long enough that most sessions end in it
    trace = generate_class(workload, 3.0, 20_000.0, 0.0, 1, name)
    for found, drawn in zip(means, (trace.prompt_tokens, trace.output_tokens), strict=True):
        # prompts of one session go together, so twice the error of independent ones, and that of 2,000 sessions
        error = 3.0 * drawn.std() * (2.0 / np.sqrt(drawn.size) + 1.5 / np.sqrt(2000))
        assert found == pytest.approx(drawn.mean(), abs=error)
        assert error < 0.25 * drawn.mean()
