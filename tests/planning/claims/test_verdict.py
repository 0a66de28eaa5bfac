"""Verdicts follow from shares of samples by stated rules, and inputs that nobody has measured are told apart."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.planning.claims.inputs import Marginal, sampled
from sim.planning.claims.verdict import (
    PartFound,
    Verdict,
    judge,
    of_share,
    quantiles,
    together,
    truth,
    turning_point,
)
from sim.specs.claim import PartSpec

HOLDS, IN_PART, FAILS, UNDECIDED = Verdict.HOLDS, Verdict.IN_PART, Verdict.FAILS, Verdict.UNDECIDED


def part(at_least: float | None = None, at_most: float | None = None, role: str = "claim") -> PartSpec:
    return PartSpec.model_validate(
        {"text": "x", "formula": "x", "unit": "1", "at_least": at_least, "at_most": at_most, "role": role}
    )


def found(verdict: Verdict, role: str = "claim") -> PartFound:
    return PartFound("x", part(at_least=1.0, role=role), 0.0, 0.0, 0.0, 0.0, verdict)


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.0, HOLDS), (0.9, HOLDS), (0.899, IN_PART), (0.101, IN_PART), (0.1, FAILS), (0.0, FAILS)]
)
def test_a_share_of_true_samples_is_a_verdict(share: float, verdict: Verdict) -> None:
    assert of_share(share, 0.9) is verdict


@pytest.mark.parametrize(("limit", "verdict"), [(0.05, HOLDS), (0.5, HOLDS), (0.85, HOLDS), (0.95, FAILS)])
def test_what_only_may_be_so_holds_unless_it_surely_is_not(limit: float, verdict: Verdict) -> None:
    statement = part(at_least=limit).model_copy(update={"may": True})
    assert judged(statement, {"a": Marginal((0.0, 0.5, 1.0), "1", measurement="it")}).verdict is verdict


@given(st.floats(0.0, 1.0), st.floats(0.51, 1.0))
def test_turning_a_statement_round_turns_its_verdict_round(share: float, surely: float) -> None:
    opposite = {HOLDS: FAILS, FAILS: HOLDS, IN_PART: IN_PART}
    if abs(share - surely) > 1e-9 and abs(1.0 - share - surely) > 1e-9:
        assert of_share(1.0 - share, surely) is opposite[of_share(share, surely)]


def test_limits_are_part_of_what_is_claimed() -> None:
    samples = np.array([1.0, 2.0, 3.0, np.inf])
    assert truth(part(at_least=2.0), samples) == 0.75
    assert truth(part(at_most=2.0), samples) == 0.5
    assert truth(part(at_least=2.0, at_most=2.0), samples) == 0.25


def judged(statement: PartSpec, inputs: Mapping[str, Marginal]) -> PartFound:
    samples = sampled(inputs)

    def evaluate(held: Mapping[str, float]) -> np.ndarray:
        return sum(np.broadcast_to(np.asarray(held.get(name, each)), each.shape) for name, each in samples.items())

    return judge("x", statement, evaluate, inputs, 0.9)


def test_an_input_that_nobody_has_measured_and_that_turns_a_statement_leaves_it_undecided() -> None:
    known, unknown = Marginal((0.0, 0.05, 0.1), "1"), Marginal((0.0, 0.5, 1.0), "1", measurement="the thing itself")
    decided = Marginal((0.0, 0.5, 1.0), "1")
    assert judged(part(at_least=0.5), {"a": known, "b": decided}).verdict is IN_PART
    answer = judged(part(at_least=0.5), {"a": known, "b": unknown})
    assert (answer.verdict, answer.measurements) == (UNDECIDED, ("the thing itself",))
    # what is wide beside it hides what the measurement would tell
    assert judged(part(at_least=1.0), {"a": Marginal((-3.0, 0.5, 4.0), "1"), "b": unknown}).verdict is IN_PART
    # and what does not matter need not be measured
    assert judged(part(at_least=-1.0), {"a": known, "b": unknown}).verdict is HOLDS


def test_inputs_that_turn_a_statement_only_together_count_too() -> None:
    half = Marginal((0.0, 0.5, 1.0), "1", measurement="half of it")
    other = Marginal((0.0, 0.5, 1.0), "1", measurement="the other half")
    answer = judged(part(at_least=1.2), {"a": half, "b": other})
    assert (answer.verdict, answer.measurements) == (UNDECIDED, ("half of it", "the other half"))


def test_a_range_is_looked_at_inside_too() -> None:
    """True in the middle and false at both ends: the ends alone would not tell."""
    unknown = Marginal((0.0, 0.5, 1.0), "1", measurement="where it lies")
    assert judged(part(at_least=0.4, at_most=0.6), {"a": unknown}).verdict is UNDECIDED


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([found(HOLDS), found(HOLDS)], HOLDS),
        ([found(FAILS), found(FAILS)], FAILS),
        ([found(HOLDS), found(FAILS)], IN_PART),
        ([found(FAILS), found(IN_PART)], IN_PART),
        ([found(UNDECIDED), found(HOLDS)], UNDECIDED),
        ([found(HOLDS), found(UNDECIDED)], IN_PART),
        ([found(FAILS), found(UNDECIDED)], FAILS),
        ([found(FAILS), found(HOLDS, "case")], FAILS),
    ],
)
def test_a_claim_has_the_verdict_of_its_statements(parts: list[PartFound], verdict: Verdict) -> None:
    assert together(parts) is verdict


def test_the_turning_point_is_found_and_told_with_its_side() -> None:
    turn = turning_point(part(at_least=10.0), lambda value: value**2, (0.0, 8.0))
    assert turn is not None
    assert turn[0] == pytest.approx(10.0**0.5, rel=1e-9)
    assert turn[1]
    falling = turning_point(part(at_least=10.0), lambda value: 40.0 / value, (1.0, 8.0))
    assert falling is not None
    assert falling == (pytest.approx(4.0, rel=1e-9), False)
    assert turning_point(part(at_least=100.0), lambda value: value, (0.0, 8.0)) is None
    assert turning_point(part(at_least=-1.0), lambda value: value, (0.0, 8.0)) is None


def test_quantiles_are_samples_so_that_never_is_an_answer() -> None:
    assert quantiles(np.array([1.0, 2.0, 3.0, np.inf, np.inf])) == (1.0, 3.0, np.inf)


def test_a_formula_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        judge("x", part(at_least=1.0), lambda held: np.array([1.0, np.nan]), {}, 0.9)
