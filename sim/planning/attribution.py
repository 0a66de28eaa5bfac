"""Which lever brought how much: Shapley values, which need no order and sum to the whole, and pairwise interactions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MOST_LEVERS = 8
"""Most levers: all 2^n coalitions are evaluated."""


@dataclass(frozen=True)
class Attribution:
    """A change in cost and the part of each lever in it; positive is a saving."""

    before: float
    """Cost with no lever."""

    after: float
    """Cost with all levers."""

    shapley: Mapping[str, float]
    """Saving by lever, its mean marginal saving over all orders; they sum to `before - after`."""

    alone: Mapping[str, float]
    """Saving of the lever alone, with no other."""

    last: Mapping[str, float]
    """Saving of the lever when all others are on already."""

    interaction: Mapping[tuple[str, str], float]
    """What two levers save together beyond what each saves, over all sets of others; negative where they overlap."""


def attribute(levers: Sequence[str], cost: Callable[[frozenset[str]], float]) -> Attribution:
    """Return the part of each lever in the change of cost from none of them to all.

        phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)),   v(S) = cost(none) - cost(S)
        I_ij  = sum over S without i, j of |S|! (n - |S| - 2)! / (n - 1)! (v(S + ij) - v(S + i) - v(S + j) + v(S))

    Parameters
    ----------
    levers : sequence of str
        At most 8 levers.
    cost : callable
        Cost with a set of levers on; called once for each of the 2^n sets.

    Raises
    ------
    ValueError
        Too many levers, or one stands twice.

    Sources: Shapley, A value for n-person games (1953); Grabisch and Roubens, International Journal of Game Theory 28
    (1999), for the interaction.

    """
    if len(levers) > MOST_LEVERS or len(set(levers)) < len(levers):
        raise ValueError(f"attribution takes at most {MOST_LEVERS} different levers, not {', '.join(levers)}")
    count = len(levers)
    costs = {
        chosen: cost(chosen)
        for size in range(count + 1)
        for chosen in map(frozenset, itertools.combinations(levers, size))
    }
    nothing, everything = frozenset[str](), frozenset(levers)

    def saving(with_it: frozenset[str], without: frozenset[str]) -> float:
        return costs[without] - costs[with_it]

    shapley: dict[str, float] = {}
    for lever in levers:
        parts = []
        for chosen in costs:
            if lever not in chosen:
                weight = math.factorial(len(chosen)) * math.factorial(count - len(chosen) - 1) / math.factorial(count)
                parts.append(weight * saving(chosen | {lever}, chosen))
        shapley[lever] = math.fsum(parts)
    interaction: dict[tuple[str, str], float] = {}
    for first, second in itertools.combinations(levers, 2):
        parts = []
        for chosen in costs:
            if first not in chosen and second not in chosen:
                size = len(chosen)
                weight = math.factorial(size) * math.factorial(count - size - 2) / math.factorial(count - 1)
                both = saving(chosen | {first, second}, chosen)
                each = saving(chosen | {first}, chosen) + saving(chosen | {second}, chosen)
                parts.append(weight * (both - each))
        interaction[first, second] = math.fsum(parts)
    return Attribution(
        before=costs[nothing],
        after=costs[everything],
        shapley=shapley,
        alone={lever: saving(frozenset({lever}), nothing) for lever in levers},
        last={lever: saving(everything, everything - {lever}) for lever in levers},
        interaction=interaction,
    )
