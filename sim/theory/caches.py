"""Caches that drop the least recently used: exact stack distances on any path, and Che's approximation.

References, by short name:
    Mattson: R. Mattson, J. Gecsei, D. Slutz, I. Traiger, Evaluation techniques for storage hierarchies, IBM Systems
        Journal 9 (1970).
    Che: H. Che, Y. Tung, Z. Wang, Hierarchical web caching systems, IEEE JSAC 20 (2002).
    Fricker: C. Fricker, P. Robert, J. Roberts, A versatile and accurate approximation for LRU cache performance,
        ITC 24 (2012).
"""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from sim.theory.domain import finite_array, require_non_negative, require_whole

COLD = -1
"""Stack distance of an item that was never asked for before."""


def stack_distances(keys: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number of different items asked for since the same one was, itself included, at every access.

    Parameters:
        keys: the items in the order in which they are asked for.

    Returns:
        Distances, shape [n] [1]; COLD at a first access. A cache of C items that drops the least recently used finds
        exactly the accesses whose distance is from 1 to C, for all C at once.

    Source: Mattson; with a binary indexed tree over the instants of last access (Bennett & Kruskal, 1975).
    """
    count = len(keys)
    tree = [0] * (count + 1)
    last: dict[Hashable, int] = {}
    result = np.full(count, COLD, np.int64)

    def add(place: int, amount: int) -> None:
        while place <= count:
            tree[place] += amount
            place += place & -place

    def up_to(place: int) -> int:
        total = 0
        while place > 0:
            total += tree[place]
            place -= place & -place
        return total

    for now, key in enumerate(keys, start=1):
        before = last.get(key)
        if before is not None:
            result[now - 1] = up_to(now - 1) - up_to(before - 1)
            add(before, -1)
        add(now, 1)
        last[key] = now
    return result


def prefix_hits(requests: Iterable[Sequence[Hashable]], capacity: int) -> list[int]:
    """Leading blocks that each request finds in a cache of prefixes that holds so many blocks.

    Parameters:
        requests: the blocks of each request from the first to the last, each named by all that comes before it too,
            so that equal names mean equal prefixes. Requests come one after the other.
        capacity: blocks that the cache holds [1].

    Returns:
        Blocks found, by request [1]. All blocks of a request are used at its instant, the first one last, so that
        what is dropped first is the end of the prefix that was used longest ago.

    Raises:
        ValueError: a negative capacity.

    Source: Mattson, on blocks.
    """
    require_whole(0, capacity=capacity)
    chains = [list(request) for request in requests]
    keys = [block for chain in chains for block in reversed(chain)]
    distances = stack_distances(keys)
    found, place = [], 0
    for chain in chains:
        mine = distances[place : place + len(chain)][::-1]
        place += len(chain)
        # A block was used after all deeper ones, so that these, which the request uses before it, were behind it.
        hits = 0
        for depth, distance in enumerate(mine.tolist()):
            deeper = len(chain) - 1 - depth
            if distance == COLD or distance - deeper > capacity:
                break
            hits += 1
        found.append(hits)
    return found


def che_hit_ratios(rates: ArrayLike, capacity: float) -> NDArray[np.float64]:
    """Hit ratio by item of a cache that drops the least recently used, under independent requests.

    Parameters:
        rates: request rate, or probability, of each item, shape [n] [any unit].
        capacity: items that the cache holds, from 0 to n [1].

    Returns:
        h(i) = 1 - exp(-rate(i) T), shape [n] [1], where the time T solves sum_i h(i) = capacity. Accurate to about a
        percent for hundreds of items, exact at both ends.

    Raises:
        ValueError: a rate that is not above zero, or a capacity beyond the items.

    Source: Che; why it is good: Fricker.
    """
    given = finite_array("rates", rates, minimum=0.0)
    require_non_negative(capacity=capacity)
    if given.ndim != 1 or given.size == 0 or (given <= 0.0).any() or capacity > given.size:
        raise ValueError("give rates above zero, and a capacity of at most as many items")
    if capacity == given.size:
        return np.ones_like(given)
    if capacity == 0.0:
        return np.zeros_like(given)
    scaled = given / given.max()

    def excess(time: float) -> float:
        return float(-np.expm1(-scaled * time).sum()) - capacity

    high = 1.0
    while excess(high) < 0.0:
        high *= 2.0
    time = brentq(excess, 0.0, high, xtol=1e-14 * high, rtol=1e-14)
    return np.asarray(-np.expm1(-scaled * time), dtype=np.float64)
