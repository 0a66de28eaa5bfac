import math
import sys
from typing import Any

import numpy as np
import pytest

from sim.planning.uncertainty.design import design, probabilities
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.sensitivity import Bar, require_salib, sobol_indices, tornado
from sim.specs.errors import InputError
from sim.specs.uncertainty import UncertaintySpec


def ishigami(x: FloatArray) -> FloatArray:
    return np.asarray(np.sin(x[:, 0]) + 7.0 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0]))


def test_indices_of_the_ishigami_function_are_the_analytic_ones() -> None:
    points = np.pi * (2.0 * probabilities(4096, 6, 1, "pairs", "sobol") - 1.0)
    first, second = points[:, :3], points[:, 3:]
    mixed = {}
    for column, name in enumerate("abc"):
        worlds = first.copy()
        worlds[:, column] = second[:, column]
        mixed[name] = ishigami(worlds)
    a, b = 7.0, 0.1
    parts = [0.5 * (1.0 + b * np.pi**4 / 5.0) ** 2, a**2 / 8.0, 0.0]
    shared = b**2 * np.pi**8 * (1.0 / 18.0 - 1.0 / 50.0)
    variance = sum(parts) + shared
    alone = np.array(parts) / variance
    total = np.array([parts[0] + shared, parts[1], shared]) / variance
    for place, found in enumerate(sobol_indices(ishigami(first), ishigami(second), mixed, 1)):
        assert abs(found.first - alone[place]) <= found.first_half
        assert abs(found.total - total[place]) <= found.total_half
        assert found.first_half < 0.05
        assert found.total_half < 0.06


def test_a_group_of_correlated_inputs_has_the_share_of_the_closed_form(
    ranges: UncertaintySpec, make_input: Any
) -> None:
    rule = {"paths": ["a.*"], "rank": 0.6, "source": ["assumption"], "confidence": "assumption"}
    spec = UncertaintySpec.model_validate(
        ranges.model_dump() | {"groups": {"one": ["a.*"], "two": ["*"]}, "correlations": [rule], "tails": {
            **ranges.tails.model_dump(), "value": 1e-6}}
    )  # fmt: skip
    inputs = [make_input("a.x"), make_input("a.y"), make_input("c.z", group="two")]
    worlds = design(inputs, spec, 1, 2048, 5)
    mixed = {group: worlds.mixed(group).sum(axis=1) for group in worlds.groups}
    one, two = sobol_indices(worlds.first.sum(axis=1), worlds.second.sum(axis=1), mixed, 1)
    correlation = 2.0 * math.sin(math.pi * 0.6 / 6.0)
    share = (2.0 + 2.0 * correlation) / (3.0 + 2.0 * correlation)
    for found, expected in ((one, share), (two, 1.0 - share)):
        assert abs(found.first - expected) <= found.first_half < 0.06
        assert abs(found.total - expected) <= found.total_half < 0.06


def test_what_moves_nothing_has_no_share_and_what_does_not_vary_has_none_at_all() -> None:
    values = np.random.default_rng(3).random(64)
    idle, busy = sobol_indices(values, values[::-1], {"idle": values, "busy": values[::-1]}, 1)
    assert idle.total == 0.0
    assert busy.total > 0.9
    assert all(math.isnan(each.first) for each in sobol_indices(np.ones(8), np.ones(8), {"a": np.ones(8)}, 1))


def test_the_widest_bar_comes_first_and_a_bar_without_a_number_last() -> None:
    bars = [Bar("small", 1.0, 1.1), Bar("none", math.nan, 1.0), Bar("large", 3.0, 1.0)]
    assert [each.name for each in tornado(bars)] == ["large", "small", "none"]
    assert bars[2].swing == pytest.approx(2.0)


def test_a_missing_salib_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SALib.analyze.sobol", None)
    with pytest.raises(InputError, match=r"fleetcast\[uncertainty\]"):
        require_salib()
