"""How much of a replica's time prompts cause, and how much answers."""

from __future__ import annotations

import numpy as np

from sim.serving.capacity import RequestMix
from sim.serving.deployment import Deployment


def prefill_share_of_time(deployment: Deployment, mix: RequestMix, sequences: float) -> float:
    """Return the part of a replica's busy time that prompts cause, by the step-time model [1].

    A step with B sequences decodes B tokens and on average prefills p = B x uncached / output. The rule:

    - time that depends on the number of tokens in a step is shared in proportion to tokens, p to B: weights that
      are read once serve both;
    - attention within prompts belongs to prompts; reading contexts and the overhead of sequences to answers.

    Parameters
    ----------
    deployment : Deployment
        Pool with its step times.
    mix : RequestMix
        Means of its requests.
    sequences : float
        Sequences that run at a time on a replica, on average over busy time; at least 1 is taken.

    Assumes that prefill is spread evenly over steps. Another rule moves money between input and output tokens and
    leaves their sum unchanged.

    """
    times = deployment.step_time
    decoded = min(max(1.0, sequences), float(deployment.max_sequences))
    prefilled = decoded * mix.uncached_tokens / mix.output_tokens
    shared = float(np.interp(decoded + prefilled, np.arange(len(times.linear_s)), times.linear_s))
    prompts = shared * prefilled / (decoded + prefilled)
    prompts += decoded / mix.output_tokens * (mix.pairs * times.pair_s + mix.window_pairs * times.window_pair_s)
    answers = shared * decoded / (decoded + prefilled)
    answers += float(np.interp(decoded, np.arange(len(times.sequence_s)), times.sequence_s))
    answers += decoded * (mix.context * times.context_s + mix.window_context * times.window_context_s)
    return prompts / (prompts + answers)
