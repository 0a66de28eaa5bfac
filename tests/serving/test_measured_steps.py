"""Step times from a user's own table: what she measured comes back, what she did not is the stack's and is flagged."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.serving.deployment import Deployment, deploy
from sim.serving.measured_steps import MeasuredStep, outside_of, read_measured_steps, tabulated
from sim.serving.step_time import StepTime
from sim.specs.errors import InputError
from sim.specs.resolved import load_scenario

HEADER = "batch_tokens,decode_sequences,context_tokens,seconds"
STACK = StepTime(1e-3 + 1e-6 * np.arange(2001.0), 1e-4 + np.zeros(65), 2e-9, 0.0, 3e-11, 0.0)
WINDOWED = StepTime(STACK.linear_s, STACK.sequence_s, 2e-9, 1e-9, 3e-11, 2e-11)


def level(tokens: float) -> float:
    return 5e-3 + 2e-6 * tokens


def decoded(sequences: int, context: int, factor: float = 1.5) -> MeasuredStep:
    seconds = level(sequences) + factor * 2e-9 * sequences * context
    return MeasuredStep(sequences, sequences, float(sequences * context), seconds)


def prefilled(chunk: int, past: int, factor: float = 0.7) -> MeasuredStep:
    pairs = chunk * past + chunk * (chunk + 1) / 2
    return MeasuredStep(chunk, 0, 0.0, level(chunk) + factor * 3e-11 * pairs, float(past))


DECODES = [decoded(*pair) for pair in itertools.product((1, 8, 64), (100, 5000, 50000))]
PREFILLS = [prefilled(*pair) for pair in itertools.product((128, 1024), (0, 30000))]


def test_a_table_of_the_form_is_reproduced_and_its_factors_found() -> None:
    found = tabulated([*DECODES, *PREFILLS], STACK)
    assert found.worst_error < 1e-6
    assert found.step_time.context_s == pytest.approx(1.5 * 2e-9)
    assert found.step_time.pair_s == pytest.approx(0.7 * 3e-11)
    assert found.step_time.linear_s[[1, 8, 64, 1024]] == pytest.approx([level(each) for each in (1, 8, 64, 1024)])
    assert (found.batch_tokens, found.most_sequences, found.most_context_tokens) == ((1, 1024), 64, 3.2e6)


def test_between_measured_numbers_it_is_straight_and_outside_the_stacks_own() -> None:
    steps = [decoded(8, 100), decoded(8, 9000), decoded(64, 100), decoded(64, 9000)]
    found = tabulated(steps, STACK).step_time.linear_s
    assert found[36] == pytest.approx((found[8] + found[64]) / 2)
    assert np.diff(found[64:]) == pytest.approx(np.diff(STACK.linear_s[64:]))
    assert np.diff(found[:9]) == pytest.approx(np.diff(STACK.linear_s[:9]))


def test_what_the_rows_do_not_determine_stays_as_the_stack_has_it() -> None:
    """One context at every batch, and no prompt: attention cannot be told from the rest."""
    found = tabulated([decoded(each, 1000) for each in (1, 8, 64)], STACK).step_time
    assert found.context_s == pytest.approx(STACK.context_s)
    assert found.pair_s == pytest.approx(STACK.pair_s)
    steps = np.array([1, 8, 64])
    expected = [decoded(int(each), 1000).seconds for each in steps]
    assert found.decode_step_s(steps, steps * 1000) == pytest.approx(expected)


def test_sliding_windows_count_only_what_they_see() -> None:
    window = 100
    steps = [
        MeasuredStep(n, n, float(n * c), level(n) + 1.5 * n * (2e-9 * c + 1e-9 * min(c, window)))
        for n, c in itertools.product((1, 8), (50, 5000))
    ]
    found = tabulated(steps, WINDOWED, window).step_time
    assert (found.context_s, found.window_context_s) == pytest.approx((1.5 * 2e-9, 1.5 * 1e-9))


def test_noise_is_met_in_the_middle_and_said() -> None:
    twice = [decoded(8, 1000), MeasuredStep(8, 8, 8000.0, 1.5 * decoded(8, 1000).seconds), decoded(64, 1000)]
    found = tabulated(twice, STACK)
    assert 0.1 < found.worst_error < 0.3
    assert any("reproduce steps.csv" in reason for reason in outside_of(found, 64, "steps.csv"))
    assert list(outside_of(tabulated(DECODES, STACK), 64, "steps.csv")) == []
    (reason,) = outside_of(tabulated(DECODES, STACK), 8192, "steps.csv")
    assert "8,192 tokens are possible, steps.csv ends at 64" in reason


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("batch_tokens,seconds\n1,2\n", 1, "decode_sequences: has no such column"),
        (f"{HEADER},speed\n1,1,1,1,1\n", 1, "speed: unknown column"),
        (f"{HEADER}\n1,1,1,fast\n", 2, "seconds: is not a number (got 'fast')"),
        (f"{HEADER}\n1,1,1,0.1\n8,9,1,0.1\n", 3, "decode_sequences: exceeds batch_tokens (got '9')"),
        (f"{HEADER}\n1,1,1,-1\n", 2, "seconds: must be a finite number above 0"),
        (f"{HEADER}\n1.5,1,1,1\n", 2, "batch_tokens: must be a whole number of at least 1"),
        (f"{HEADER}\n1,1,1\n", 2, "has more or fewer cells than the header"),
    ],
)
def test_a_broken_table_is_told_with_its_lines(tmp_path: Path, text: str, line: int, expected: str) -> None:
    table = tmp_path / "steps.csv"
    table.write_text(text)
    with pytest.raises(InputError) as raised:
        read_measured_steps(table)
    assert f"{table}:{line}: {expected}" in str(raised.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    table = tmp_path / "steps.csv"
    table.write_text(f"{HEADER}\n1,1,1,x\n2,2,2,y\n")
    with pytest.raises(InputError) as raised:
        read_measured_steps(table)
    assert [problem.line for problem in raised.value.problems] == [2, 3]
    table.write_text(f"{HEADER}\n1,1,1,0.1\n")
    with pytest.raises(InputError, match="fewer than two steps"):
        read_measured_steps(table)


SCENARIO = """kind: scenario
name: mine
title: mine
duration: 2 min
warm_up: 10 s
drain: 10 min
timeline_interval: 10 s
price_basis: [on_demand]
traffic:
  chat: {workload: realtime-chat, rate: 1 requests/s}
fleet:
  main:
    hardware: h100-sxm
    model: llama-3.1-8b
    replicas: 1
    serving_stack: mine
"""


def scenario_with(tmp_path: Path, table: str, pool: str = "", stack: str = "") -> sim.Scenario:
    (tmp_path / "steps.csv").write_text(table)
    (tmp_path / "serving_stacks").mkdir(exist_ok=True)
    (tmp_path / "serving_stacks" / "mine.yaml").write_text(f"name: mine\nextends: shared\ntitle: mine\n{stack}")
    file = tmp_path / "mine.yaml"
    file.write_text(SCENARIO + pool)
    return load_scenario(str(file))


ROWS = "\n".join(f"{n},{n},{n * c},{1e-2 + 1e-4 * n + 1e-8 * n * c}" for n in (1, 32) for c in (100, 3000))
TABLE = f"{HEADER}\n{ROWS}\n"
IN_POOL = "    step_time: {source: measured_table, file: steps.csv}\n"
IN_STACK = "step_time_source: {source: measured_table, file: ../steps.csv}\n"


@pytest.mark.parametrize(("pool", "stack"), [(IN_POOL, ""), ("", IN_STACK)])
def test_a_pool_or_its_stack_names_the_table_and_a_run_flags_what_lies_outside(
    tmp_path: Path, pool: str, stack: str
) -> None:
    scenario = scenario_with(tmp_path, TABLE, pool, stack)
    (deployment,) = deploy(scenario)
    assert deployment.step_time.decode_step_s(32, 32 * 100) == pytest.approx(1e-2 + 32e-4 + 32e-6, rel=1e-6)
    assert deployment.validity.source == "steps.csv"
    assert deployment.validity.bands == {}, "the bands of a stack are not those of another source"
    result = sim.simulate(scenario)
    (flag,) = (flag for flag in result.flags if flag.name == "outside_calibration")
    assert "steps.csv ends at 32" in flag.message
    assert "its error is not known" in flag.message
    assert any(name.endswith("/steps.csv") for name in result.manifest["fingerprints"])
    summary = result.summary("tpot_s", "chat")
    assert summary["model_low"].isna().all()
    assert summary["value"].min() > 1e-2


def test_a_table_that_is_not_there_is_told_with_its_path(tmp_path: Path) -> None:
    scenario = scenario_with(tmp_path, TABLE, IN_POOL.replace("steps.csv", "gone.csv"))
    with pytest.raises(InputError, match=r"gone\.csv: cannot be read"):
        deploy(scenario)
    with pytest.raises(InputError, match="step_time"):
        scenario_with(tmp_path, TABLE, "    step_time: {source: crystal_ball}\n")


AICONFIGURATOR = (
    "    parallelism: {tensor: 4}\n    step_time: {source: aiconfigurator, system: h200_sxm, model: Qwen/Qwen3-32B}\n"
)


def qwen(tmp_path: Path, pool: str) -> Deployment:
    scenario = scenario_with(tmp_path, TABLE, pool)
    scenario = scenario.replace("fleet.main.hardware", "h200-sxm").replace("fleet.main.model", "qwen3-32b")
    return deploy(scenario.replace("fleet.main.serving_stack", "trtllm"))[0]


def test_without_aiconfigurator_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    with pytest.raises(InputError, match=r"pip install 'fleetcast\[aiconfigurator\]'"):
        qwen(tmp_path, AICONFIGURATOR)


def test_aiconfigurator_agrees_within_the_error_of_both(tmp_path: Path) -> None:
    """A comparison of two models of one system: decode and prefill steps lie within a factor of two of each other."""
    pytest.importorskip("aiconfigurator_core")
    theirs = qwen(tmp_path, AICONFIGURATOR)
    ours = qwen(tmp_path, "    parallelism: {tensor: 4}\n")
    assert theirs.validity.source == "aiconfigurator-core on h200_sxm"
    for sequences, context in itertools.product((1, 16, 128), (500, 4000)):
        steps = [each.step_time.decode_step_s(sequences, sequences * context) for each in (theirs, ours)]
        assert 0.5 < float(steps[0]) / float(steps[1]) < 2.0, (sequences, context, steps)
    for chunk in (512, 4096):
        seconds = [
            each.step_time.linear_s[chunk] + each.step_time.pair_s * chunk * (chunk + 1) / 2 for each in (theirs, ours)
        ]
        assert 0.5 < seconds[0] / seconds[1] < 2.0, (chunk, seconds)
    with pytest.raises(InputError, match="aiconfigurator-core cannot say"):
        qwen(tmp_path, AICONFIGURATOR.replace("h200_sxm", "abacus"))
