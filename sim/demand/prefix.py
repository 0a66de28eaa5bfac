"""What prompts share: how much of each a prefix cache is assumed to hold, and beginnings with their popularity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.lengths import LengthTable, invert, length_survival, length_table, mean_length, sample_lengths
from sim.demand.trace import Trace
from sim.specs.distributions import LengthDistribution
from sim.specs.prefixes import HitFractionPrefix, PopularitySpec, Prefix, SharedPrefix

IntArray = npt.NDArray[np.int64]


def sample_cached(prefix: Prefix | None, prompt_tokens: IntArray, generator: np.random.Generator) -> IntArray:
    """Return the tokens of each prompt that are found in the prefix cache.

    A hit fraction f finds floor(f x prompt) tokens, new tokens U find prompt - min(U, prompt); the last token
    of a prompt is always computed.

    Parameters
    ----------
    prefix : Prefix or None
        Described assumption; none finds nothing. Shared prefixes are drawn by `draw_shared`.
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
    if isinstance(prefix, SharedPrefix):
        raise ValueError("shared prefixes are drawn by draw_shared")
    uncached = sample_lengths(prefix.uncached_tokens, prompt_tokens.size, generator)
    return prompt_tokens - np.minimum(uncached, prompt_tokens)


def mean_cached(prefix: Prefix | None, prompt: LengthDistribution) -> float:
    """Return the exact mean of the sampled cached tokens; of shared prefixes, when all have been asked for before.

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
    if isinstance(prefix, SharedPrefix):
        share = 1.0 if prefix.share_of_requests is None else prefix.share_of_requests.value
        shares = np.diff(popularity_table(prefix.popularity), prepend=0.0)
        return share * float(shares @ shared_lengths(length_table(prefix.tokens), prefix.popularity.groups))
    longest = length_table(prompt).minimum + length_table(prompt).cumulative.size
    both = length_survival(prefix.uncached_tokens, longest) @ length_survival(prompt, longest)
    return mean_length(prompt) - float(both)


class SharedDraw(NamedTuple):
    """Shared beginnings of requests, each of shape (requests,)."""

    group: IntArray
    """Number of the beginning, 0 for the most popular; -1 for none."""

    tokens: IntArray
    """Its length; 0 for none [tokens]."""


def draw_shared(prefix: SharedPrefix, count: int, generator: np.random.Generator) -> SharedDraw:
    """Return the beginnings of requests; two uniform numbers a request.

    Parameters
    ----------
    prefix : SharedPrefix
        Beginnings and their popularity.
    count : int
        Number of requests.
    generator : numpy.random.Generator
        Stream to draw from.

    """
    which, whether = generator.random((count, 2)).T
    group = draw_groups(popularity_table(prefix.popularity), which)
    tokens = shared_lengths(length_table(prefix.tokens), prefix.popularity.groups)[group]
    if prefix.share_of_requests is not None:
        without = whether >= prefix.share_of_requests.value
        group, tokens = np.where(without, -1, group), np.where(without, 0, tokens)
    return SharedDraw(group, tokens)


def popularity_table(popularity: PopularitySpec) -> npt.NDArray[np.float64]:
    """Return the cumulative shares of the groups, most popular first; they go as rank**-exponent (Zipf)."""
    shares = np.arange(1, popularity.groups + 1, dtype=np.float64) ** -popularity.exponent
    cumulative = np.cumsum(shares)
    cumulative /= cumulative[-1]
    return np.asarray(cumulative, dtype=np.float64)


def draw_groups(cumulative: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64]) -> IntArray:
    """Return the group of each uniform number in [0, 1)."""
    return np.minimum(np.searchsorted(cumulative, uniform, side="right"), cumulative.size - 1).astype(np.int64)


def shared_lengths(table: LengthTable, groups: int) -> IntArray:
    """Return the lengths of groups: the same in every run, and spread evenly over the distribution for any prefix of
    the ranks, by the radical inverse in base 2 (van der Corput, Proc. Akad. Amsterdam 38, 1935) [tokens]."""
    bits = np.arange(1, groups + 1, dtype=np.uint64)
    inverse = np.zeros(groups)
    scale = 0.5
    while bits.any():
        inverse += scale * (bits & np.uint64(1))
        bits >>= np.uint64(1)
        scale /= 2.0
    return invert(table, inverse)


def first_of_group(group: npt.NDArray[np.signedinteger[Any]]) -> npt.NDArray[np.bool_]:
    """Return which requests are the first of their group; those without a group are none."""
    names, row = np.unique(group, return_index=True)
    first = np.zeros(group.size, np.bool_)
    first[row[names >= 0]] = True
    return first


def ideal_hit_fraction(trace: Trace) -> float:
    """Return the share of all prompt tokens that a prefix cache without bound, empty at the start, holds [1].

    Of any trace: where it marks nothing as cached, a request finds what the last one of its session had, and from the
    second request of a prefix group on what the group shares.
    """
    cached = trace.cached_tokens
    if not cached.any() and trace.session is not None:
        cached = with_session_prefix(trace).cached_tokens
    if trace.prefix_group is not None and trace.prefix_tokens is not None:
        again = (trace.prefix_group >= 0) & ~first_of_group(trace.prefix_group)
        cached = np.maximum(cached, np.where(again, trace.prefix_tokens, 0))
    return float(cached.sum() / max(int(trace.prompt_tokens.sum()), 1))


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
