"""What `--set` says, and the points that follow from it."""

from __future__ import annotations

import itertools
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from sim.execution.axes import Axis, axes_of, grid, latin_hypercube, parse_axis
from sim.specs.units import RATE, parse_quantity


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4,8,12", (4, 8, 12)),
        ("4", (4,)),
        ("2..8:4", (2, 4, 6, 8)),
        ("2..3:3", (2.0, 2.5, 3.0)),
        ("0.1..0.3:3", (0.1, 0.2, 0.3)),
        ("10..40:4 requests/s", ("10 requests/s", "20 requests/s", "30 requests/s", "40 requests/s")),
        ("10 requests/s..20 requests/s:2", ("10 requests/s", "20 requests/s")),
        ("10 requests/s..20:2", ("10 requests/s", "20 requests/s")),
        ("1..2:2 h", ("1 h", "2 h")),
        ("0..1e3:3 GB/s", ("0 GB/s", "500 GB/s", "1000 GB/s")),
        ("10,20 requests/s", ("10 requests/s", "20 requests/s")),
        ("1 min,1 h", ("1 min", "1 h")),
        ("h100-sxm, h200-sxm", ("h100-sxm", "h200-sxm")),
        ("{tensor: 1, data: 2},{tensor: 4}", ({"tensor": 1, "data": 2}, {"tensor": 4})),
        ("[a, b],[c]", (["a", "b"], ["c"])),
        ("'a,b',c", ("a,b", "c")),
        ("true,false", (True, False)),
        ("{}", ({},)),
        ("../traces/a.csv,../traces/b.csv", ("../traces/a.csv", "../traces/b.csv")),
    ],
)
def test_lists_and_ranges(text: str, values: tuple[object, ...]) -> None:
    axis = parse_axis("x", text)
    assert axis == Axis("x", values)
    assert list(map(type, axis.values)) == list(map(type, values))


def test_ranges_without_a_count() -> None:
    (whole,), problems = axes_of({"x": "3..6"}, is_drawn=False)
    assert whole == Axis("x", (3, 4, 5, 6))
    assert not problems
    (drawn,), problems = axes_of({"x": "3..6 s"}, is_drawn=True)
    assert drawn.values == ("3 s", "6 s")
    assert drawn.span is not None
    assert not problems


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("8..4:3", "from a lower to a higher value"),
        ("4..8:1", "at least two values"),
        ("1.0..2.0", "how many values"),
        ("1..2 s", "how many values"),
        ("1 s..2 min:3", "one unit, not min and s"),
        ("1,,2", "a value is missing"),
        ("", "a value is missing"),
        ("1,2,1", "a value is given twice"),
        ("[1,2", "not valid YAML"),
        ([], "there is no value"),
        ([1, 1], "a value is given twice"),
    ],
)
def test_what_is_wrong_with_one_does_not_hide_the_others(setting: Any, message: str) -> None:
    axes, problems = axes_of({"good": "1,2", "bad": setting, "worse": "3..1:2"}, is_drawn=False)
    assert "good" in [axis.path for axis in axes]
    assert [problem.path for problem in problems] == ["bad", "worse"]
    assert message in problems[0].message


def test_a_grid_has_every_combination_once_and_the_last_axis_changes_fastest() -> None:
    axes = (Axis("a", (1, 2)), Axis("b", ("x", "y", "z")))
    assert [tuple(point.values()) for point in grid(axes)] == list(itertools.product((1, 2), "xyz"))


@hypothesis.given(st.integers(1, 200), st.integers(0, 5))
def test_a_latin_hypercube_has_one_point_in_each_part_of_each_axis(count: int, seed: int) -> None:
    axes, _ = axes_of({"rate": "10..40 requests/s", "replicas": "1..1000", "load": "0.0..1.0"}, is_drawn=True)
    points = list(latin_hypercube(axes, count, seed))
    rates = np.array([parse_quantity(point["rate"], RATE) for point in points])
    loads = np.array([point["load"] for point in points], float)
    replicas = np.array([point["replicas"] for point in points])
    assert replicas.dtype == np.int64
    for shares, slack in (((rates - 10) / 30, 1e-6), (loads, 1e-6), ((replicas - 0.5) / 1000, 0.5e-3)):
        parts = np.sort(shares) * count
        assert (np.arange(count) - slack * count <= parts).all()
        assert (parts <= np.arange(1, count + 1) + slack * count).all()


def test_a_list_is_drawn_from_evenly_and_another_axis_changes_no_draw() -> None:
    axes, _ = axes_of({"kind": "a,b,c", "size": "1.0..2.0"}, is_drawn=True)
    points = list(latin_hypercube(axes, 30, seed=1))
    assert sorted(str(point["kind"]) for point in points) == ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    alone = list(latin_hypercube(axes[1:], 30, seed=1))
    assert [point["size"] for point in points] == [point["size"] for point in alone]
    assert alone != list(latin_hypercube(axes[1:], 30, seed=2))
