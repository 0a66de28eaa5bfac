"""How much of each prompt a prefix cache is assumed to hold, in the open-loop form of a workload."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sim.demand.lengths import length_survival, length_table, mean_length, sample_lengths
from sim.demand.trace import Trace
from sim.specs.distributions import LengthDistribution
from sim.specs.workload import HitFractionPrefix, Prefix

IntArray = npt.NDArray[np.int64]


def sample_cached(prefix: Prefix | None, prompt_tokens: IntArray, generator: np.random.Generator) -> IntArray:
    """Return the tokens of each prompt that are found in the prefix cache.

    A hit fraction f finds floor(f x prompt) tokens, new tokens U find prompt - min(U, prompt); the last token
    of a prompt is always computed.

    Parameters
    ----------
    prefix : Prefix or None
        Described assumption; none finds nothing.
    prompt_tokens : ndarray of int64, shape (requests,)
        Prompts [tokens].
    generator : numpy.random.Generator
        Stream to draw from; a hit fraction draws nothing.

    Returns
    -------
    ndarray of int64, shape (requests,)
        Cached tokens, from 0 to prompt - 1.

    """
    if prefix is None:
        return np.zeros_like(prompt_tokens)
    if isinstance(prefix, HitFractionPrefix):
        return _share(prefix, prompt_tokens)
    uncached = sample_lengths(prefix.uncached_tokens, prompt_tokens.size, generator)
    return prompt_tokens - np.minimum(uncached, prompt_tokens)


def mean_cached(prefix: Prefix | None, prompt: LengthDistribution) -> float:
    """Return the exact mean of the sampled cached tokens.

    New tokens U and prompt P are independent, so E[min(U, P)] = sum over n >= 0 of P(U > n) P(P > n).

    Parameters
    ----------
    prefix : Prefix or None
        Described assumption.
    prompt : LengthDistribution
        Distribution of the prompts.

    Returns
    -------
    float
        Mean [tokens].

    """
    if prefix is None:
        return 0.0
    if isinstance(prefix, HitFractionPrefix):
        table = length_table(prompt)
        lengths = table.minimum + np.arange(table.cumulative.size, dtype=np.int64)
        return float(np.diff(table.cumulative, prepend=0.0) @ _share(prefix, lengths))
    longest = length_table(prompt).minimum + length_table(prompt).cumulative.size
    both = length_survival(prefix.uncached_tokens, longest) @ length_survival(prompt, longest)
    return mean_length(prompt) - float(both)


def ideal_hit_fraction(trace: Trace) -> float:
    """Return the share of all prompt tokens that are marked as cached; the hit of a cache without bound [1]."""
    return float(trace.cached_tokens.sum() / max(int(trace.prompt_tokens.sum()), 1))


def with_session_prefix(trace: Trace) -> Trace:
    """Return a trace in which every request finds what the last one of its session had in common with it.

    That is the smaller of the earlier prompt with its answer and the new prompt, less the last token: an upper bound,
    for a shorter prompt may also have been rewritten.

    Raises
    ------
    ValueError
        The trace has no sessions.

    """
    if trace.session is None:
        raise ValueError("the trace has no sessions")
    session = trace.session_groups()
    order = np.argsort(session, kind="stable")
    before, after = order[:-1], order[1:]
    joined = session[before] == session[after]
    left = (trace.prompt_tokens + trace.output_tokens)[before][joined]
    rows = after[joined]
    cached = trace.cached_tokens.copy()
    cached[rows] = np.maximum(cached[rows], np.minimum(left, trace.prompt_tokens[rows]) - 1)
    return replace(trace, cached_tokens=cached)


def _share(prefix: HitFractionPrefix, prompt_tokens: IntArray) -> IntArray:
    # the small addend keeps 0.29 x 100 at 29
    found = np.floor(prefix.fraction.value * prompt_tokens + 1e-9).astype(np.int64)
    cached: IntArray = np.minimum(found, prompt_tokens - 1)
    return cached
