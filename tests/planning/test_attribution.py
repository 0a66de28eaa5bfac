import itertools
import math

import numpy as np
import pytest

from sim.planning.attribution import attribute


def test_values_sum_to_the_whole_whatever_the_costs() -> None:
    rng = np.random.default_rng(5)
    levers = ["a", "b", "c", "d", "e"]
    costs = {
        frozenset(chosen): float(rng.random()) for size in range(6) for chosen in itertools.combinations(levers, size)
    }
    found = attribute(levers, costs.__getitem__)
    assert math.fsum(found.shapley.values()) == pytest.approx(found.before - found.after, abs=1e-12)
    assert found.before == costs[frozenset()]
    assert found.after == costs[frozenset(levers)]


def test_it_is_the_mean_marginal_saving_over_all_orders() -> None:
    rng = np.random.default_rng(6)
    levers = ["a", "b", "c", "d"]
    costs = {
        frozenset(chosen): float(rng.random()) for size in range(5) for chosen in itertools.combinations(levers, size)
    }
    found = attribute(levers, costs.__getitem__)
    for lever in levers:
        marginal = []
        for order in itertools.permutations(levers):
            before = frozenset(order[: order.index(lever)])
            marginal.append(costs[before] - costs[before | {lever}])
        assert found.shapley[lever] == pytest.approx(np.mean(marginal), abs=1e-12)


def test_levers_that_add_up_have_no_interaction_and_equal_their_own_saving() -> None:
    own = {"a": 3.0, "b": 2.0, "c": -1.0}
    found = attribute(list(own), lambda chosen: 10.0 - sum(own[lever] for lever in chosen))
    assert dict(found.shapley) == pytest.approx(own)
    assert dict(found.alone) == pytest.approx(own)
    assert dict(found.last) == pytest.approx(own)
    assert all(abs(each) < 1e-12 for each in found.interaction.values())


def test_factors_that_multiply_share_equally_and_overlap() -> None:
    """Two levers that each halve the cost: 100 -> 25, 37.5 each; alone 50, last 25; together they save 25 less."""
    found = attribute(["a", "b"], lambda chosen: 100.0 * 0.5 ** len(chosen))
    assert dict(found.shapley) == pytest.approx({"a": 37.5, "b": 37.5})
    assert dict(found.alone) == pytest.approx({"a": 50.0, "b": 50.0})
    assert dict(found.last) == pytest.approx({"a": 25.0, "b": 25.0})
    assert dict(found.interaction) == pytest.approx({("a", "b"): -25.0})


def test_a_lever_that_does_nothing_gets_nothing() -> None:
    found = attribute(["a", "idle"], lambda chosen: 5.0 - ("a" in chosen))
    assert found.shapley["idle"] == 0.0


def test_too_many_levers_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 8"):
        attribute([str(number) for number in range(9)], lambda _: 0.0)
    with pytest.raises(ValueError, match="different"):
        attribute(["a", "a"], lambda _: 0.0)
