"""What a pool can do at most: the mean-field estimate at saturation, and a bound that no schedule can beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from sim.serving.deployment import Deployment


@dataclass(frozen=True)
class RequestMix:
    """Means of a stream of requests, as capacity needs them."""

    uncached_tokens: float
    """Mean prompt tokens to prefill [tokens]."""

    uncached_spread: float
    """Mean square over mean of these: the uncached length of the request to which a random token belongs [tokens]."""

    prompt_spread: float
    """The same of whole prompts [tokens]."""

    output_tokens: float
    """Mean answer [tokens]."""

    pairs: float
    """Mean query-key pairs of a prefill [1]."""

    window_pairs: float
    """The same in sliding-window layers [1]."""

    context: float
    """Context of a decoding sequence, averaged over decode steps [tokens]."""

    window_context: float
    """The same cut at the window [tokens]."""

    kv_tokens: float
    """KV held by a running sequence, averaged over steps [tokens]."""


def request_mix(prompt: ArrayLike, cached: ArrayLike, output: ArrayLike, window: int = 0) -> RequestMix:
    """Return the means of some requests; long answers weigh more where means are over steps.

    Parameters
    ----------
    prompt, cached, output : ndarray of int, shape (n,)
        Prompt, cached part of it, and answer [tokens]; n at least 1.
    window : int
        Sliding window [tokens]; 0 when there is none.

    """
    start, resident, answer = (np.asarray(each, np.float64) for each in (prompt, cached, output))
    uncached = start - resident
    steps = answer.sum()
    context = (answer * (start + 0.5 * (answer + 1.0))).sum() / steps
    window_context = 0.0
    window_pairs = 0.0
    if window:
        # Sum over j = 1..output of min(prompt + j, window), and the same over the uncached prompt tokens.
        window_context = _clipped_sums(start, answer, window).sum() / steps
        window_pairs = float(_clipped_sums(resident, uncached, window).mean())
    return RequestMix(
        uncached_tokens=float(uncached.mean()),
        uncached_spread=float((uncached**2).mean() / uncached.mean()),
        prompt_spread=float((start**2).mean() / start.mean()),
        output_tokens=float(answer.mean()),
        pairs=float((uncached * resident + 0.5 * uncached * (uncached + 1.0)).mean()),
        window_pairs=window_pairs,
        context=float(context),
        window_context=float(window_context),
        kv_tokens=float(context),
    )


def saturated_requests_per_s(deployment: Deployment, mix: RequestMix) -> float:
    """Return the rate at which one replica finishes requests when its queue never empties [requests/s].

    Mean field: B sequences run, as many as slots and KV memory hold; each leaves after `output` steps, so every step
    prefills `B uncached / output` tokens beside B decoded ones on average. When that exceeds the step's token budget,
    prefill limits and fewer sequences decode. The rate is `B / output` over the mean time of a step.

    Memory is never quite full: the next prompt waits until all of it fits, which leaves half a prompt empty on
    average, and the admission headroom besides. Assumes that sequences start at random; preempted work is not
    counted, so where answers are long and memory is short the rate is up to a tenth too high.
    """
    charge = deployment.kv.sequence_charge + mix.kv_tokens
    usable = deployment.kv.tokens - deployment.admission_headroom - 0.5 * mix.prompt_spread
    budget = float(deployment.step_token_budget)
    per_sequence = 1.0 + mix.uncached_tokens / mix.output_tokens
    sequences = max(1.0, min(float(deployment.max_sequences), usable / charge, budget / per_sequence))
    finished = sequences / mix.output_tokens
    times = deployment.step_time
    step_s = (
        _mean_linear_s(deployment, sequences, finished * mix.uncached_tokens, mix.uncached_spread)
        + np.interp(sequences, np.arange(len(times.sequence_s)), times.sequence_s)
        + sequences * (mix.context * times.context_s + mix.window_context * times.window_context_s)
        + finished * (mix.pairs * times.pair_s + mix.window_pairs * times.window_pair_s)
    )
    return float(finished / step_s)


def _mean_linear_s(deployment: Deployment, decoded: float, prefilled: float, prompt: float) -> float:
    """Return the mean time of what depends on the tokens in a step [s], over steps with more and with less prefill.

    A step prefills a Poisson number of prompts; with prompts of `mean square / mean` their tokens have the variance of
    the real lengths (compound Poisson). What exceeds the budget fills other steps to the brim. Below the ridge a step
    reads its weights whatever it prefills, so steps that alternate take longer than two of the mean.
    """
    linear_s = deployment.step_time.linear_s
    room = max(0.0, deployment.step_token_budget - decoded)
    prompts = prefilled / prompt
    count = np.arange(int(prompts + 8.0 * np.sqrt(prompts)) + 16)
    weight = np.exp(special.xlogy(count, prompts) - prompts - special.gammaln(count + 1.0))
    tokens = np.minimum(count * prompt, room)
    spare = room - float(weight @ tokens)
    full = min(1.0, (prefilled - float(weight @ tokens)) / spare) if spare > 0.0 else 1.0
    seconds = np.interp(decoded + np.append(tokens, room), np.arange(len(linear_s)), linear_s)
    return float((1.0 - full) * (weight @ seconds[:-1]) + full * seconds[-1])


def least_busy_s(deployment: Deployment, prompt: ArrayLike, cached: ArrayLike, output: ArrayLike) -> float:
    """Return a lower bound on the time that replicas of a pool must be busy to serve some requests [s].

    Every token costs at least the smallest share of a step that any batch gives it, every decoded token reads its
    context, every prompt computes its pairs: no schedule can do with less. The first token of an answer needs no
    decode step.
    """
    times = deployment.step_time
    tokens = np.arange(1, len(times.linear_s))
    sequences = np.arange(1, len(times.sequence_s))
    token_s = float((times.linear_s[1:] / tokens).min())
    sample_s = float((times.sequence_s[1:] / sequences).min())
    start, resident, answer = (np.asarray(each, np.float64) for each in (prompt, cached, output))
    uncached, decoded = start - resident, answer - 1.0
    context = decoded * start + 0.5 * decoded * (decoded + 1.0)
    busy_s = (uncached + decoded).sum() * token_s + answer.sum() * sample_s + context.sum() * times.context_s
    busy_s += (uncached * resident + 0.5 * uncached * (uncached + 1.0)).sum() * times.pair_s
    return float(busy_s)


def _clipped_sums(start: NDArray[np.float64], count: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return `sum over j = 1..count of min(start + j, window)`."""
    below = np.clip(window - start, 0.0, count)
    return np.asarray(below * start + 0.5 * below * (below + 1.0) + (count - below) * window)
