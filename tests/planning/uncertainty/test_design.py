from typing import Any

import numpy as np
import pytest
from scipy import stats

from sim.planning.uncertainty.design import Method, design, probabilities
from sim.specs.errors import InputError
from sim.specs.uncertainty import UncertaintySpec

ASSUMED = {"source": ["assumption"], "confidence": "assumption"}


def described(**changes: Any) -> UncertaintySpec:
    data = {
        "kind": "uncertainty", "name": "test", "title": "test", "groups": {"one": ["a.*", "b.*"], "two": ["*"]},
        "interval": {"value": 0.8, **ASSUMED}, "tails": {"value": 0.001, **ASSUMED},
        "unserved_price": {"value": 5.0, **ASSUMED}, "quantile_tolerance": {"value": 0.2, **ASSUMED},
        "index_tolerance": {"value": 0.1, **ASSUMED},
    }  # fmt: skip
    return UncertaintySpec.model_validate(data | changes)


def correlation(paths: list[str], rank: float, against: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"paths": paths, "against": against, "rank": rank, **ASSUMED}


@pytest.mark.parametrize("method", ["sobol", "latin_hypercube"])
@pytest.mark.parametrize("rank", [0.3, 0.7, 0.9])
def test_the_stated_rank_correlations_are_those_of_the_sample(method: Method, rank: float, make_input: Any) -> None:
    spec = described(correlations=[correlation(["a.*"], rank, ("b.*",))])
    inputs = [make_input(name) for name in ("a.x", "a.y", "b.z")] + [make_input("c.free", group="two")]
    found = design(inputs, spec, 2000, 0, 11, method).samples
    ranks = stats.spearmanr(found).statistic
    wanted = np.array([[1, rank, -rank, 0], [rank, 1, -rank, 0], [-rank, -rank, 1, 0], [0, 0, 0, 1]])
    assert np.abs(ranks - wanted).max() < 0.04


def test_correlation_leaves_every_distribution_as_it_is(make_input: Any) -> None:
    spec = described(correlations=[correlation(["a.*"], 0.8)])
    inputs = [make_input("a.x"), make_input("a.y", low=1.0, value=2.0, high=8.0, shape="two_piece_lognormal")]
    found = design(inputs, spec, 4096, 0, 1).samples
    assert np.quantile(found[:, 1], [0.1, 0.5, 0.9]) == pytest.approx([1.0, 2.0, 8.0], rel=0.03)


def test_a_latin_hypercube_has_one_point_in_every_layer() -> None:
    found = probabilities(50, 4, 3, "samples", "latin_hypercube")
    for column in found.T:
        assert sorted(np.floor(column * 50).astype(int)) == list(range(50))


def test_sobol_points_fill_more_evenly_than_chance() -> None:
    even = probabilities(256, 3, 3, "samples", "sobol")
    assert np.abs(even.mean(axis=0) - 0.5).max() < 0.3 / np.sqrt(12 * 256)


def test_equal_seeds_give_equal_worlds_and_others_others(make_input: Any) -> None:
    inputs = [make_input("a.x"), make_input("c.y", group="two")]
    one, same, other = (design(inputs, described(), 30, 4, seed) for seed in (1, 1, 2))
    assert np.array_equal(one.samples, same.samples)
    assert np.array_equal(one.second, same.second)
    assert not np.isclose(one.samples, other.samples).any()


def test_mixed_worlds_differ_in_their_group_alone(make_input: Any) -> None:
    inputs = [make_input("a.x"), make_input("b.y"), make_input("c.z", group="two")]
    found = design(inputs, described(), 4, 16, 1)
    assert found.groups == ("one", "two")
    assert np.array_equal(found.mixed("one"), np.column_stack([found.second[:, :2], found.first[:, 2]]))
    assert np.array_equal(found.mixed("two"), np.column_stack([found.first[:, :2], found.second[:, 2]]))


def test_an_input_that_is_not_drawn_is_no_column(make_input: Any) -> None:
    found = design([make_input("a.x"), make_input("a.y", reason="a choice")], described(), 8, 0, 1)
    assert [each.name for each in found.inputs] == ["a.x"]


def test_correlations_across_groups_are_refused(make_input: Any) -> None:
    spec = described(correlations=[correlation(["*"], 0.5)])
    with pytest.raises(InputError, match="ties groups together"):
        design([make_input("a.x"), make_input("c.y", group="two")], spec, 8, 0, 1)


def test_correlations_that_no_numbers_can_have_are_refused(make_input: Any) -> None:
    rules = [correlation(["a.x", "a.y"], 0.9), correlation(["a.y", "a.z"], 0.9), correlation(["a.x"], 0.9, ("a.z",))]
    with pytest.raises(InputError, match="contradict each other"):
        design([make_input(f"a.{name}") for name in "xyz"], described(correlations=rules), 8, 0, 1)
