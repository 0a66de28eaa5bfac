"""Formulas of studies: arithmetic over names and samples, and nothing that could do more."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.planning.claims.formula import evaluate, names_in

VALUES = {"a": 3.0, "b": np.array([1.0, 2.0]), "fleet": {"usd": 4.0}, "zero": 0.0}


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("1 + 2 * a", 7.0),
        ("-(a - 5) ** 2", -4.0),
        ("fleet.usd / a", 4.0 / 3.0),
        ("max(a, 10) - min(a, 2)", 8.0),
        ("exp(log(a))", 3.0),
        ("ceil(a / 2)", 2.0),
        ("pick(1, a, 5, 7)", 5.0),
        ("1 / zero", math.inf),
    ],
)
def test_a_formula_comes_to_what_it_says(formula: str, expected: float) -> None:
    assert evaluate(formula, VALUES) == pytest.approx(expected, rel=1e-12)


def test_samples_go_through_element_by_element() -> None:
    assert list(np.asarray(evaluate("a * b + fleet.usd", VALUES))) == [7.0, 10.0]
    assert list(np.asarray(evaluate("pick(b - 1, a, b * 10)", VALUES))) == [3.0, 20.0]


def test_names_are_told_without_figures_and_functions() -> None:
    assert names_in("max(a, fleet.usd) + pick(b, 1, 2)") == {"a", "fleet", "b"}


@pytest.mark.parametrize(
    "formula",
    ["a +", "unknown", "fleet", "fleet.eur", "a.usd", "__import__('os')", "a[0]", "'text'", "True", "pick(5, 1, 2)",
     "[x for x in b]", "a if b else a", "open(a)", "a.b.c", "a // 2"],
)  # fmt: skip
def test_what_is_no_formula_is_refused(formula: str) -> None:
    with pytest.raises(ValueError, match=r"formula|stands for nothing|figure|place"):
        evaluate(formula, VALUES)
