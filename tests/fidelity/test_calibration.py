"""A user's own measurements become a stack that predicts them better than ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.fidelity.benchmark_files import MeasuredSystem, read_measurements
from sim.fidelity.calibration import calibrate, summary
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import MeasuredRun
from sim.fidelity.prediction import predict
from sim.fidelity.stack_yaml import profile_yaml
from sim.specs.errors import InputError
from sim.specs.library import Library

Maker = Callable[..., MeasuredRun]
LIBRARY = fidelity_library()
SYSTEM = MeasuredSystem("h100-sxm", 4, "llama-3.1-70b", 4, "fp8", "vllm")


def own_runs(measured_run: Maker, slower: float) -> list[MeasuredRun]:
    """Return runs of a stack that is slower than ours by a factor, as the simulator would measure them."""
    mapper, runs = Mapper(LIBRARY), []
    stack = LIBRARY.serving_stack("vllm").spec
    for model, tensor in (("Llama-3.1-70B", "4"), ("Llama-3.1-8B", "1")):
        for users in (1, 4, 16, 64):
            keys = {"model": model, "tp": tensor, "n_accel": tensor, "concurrency_or_rate": f"conc={users}"}
            tpot_s = predict(mapper.system(measured_run(**keys)), stack).values["tpot", "mean"]
            runs.append(measured_run({"tpot_mean_ms": tpot_s * 1e3 * slower}, **keys))
    return runs


def test_a_slower_stack_is_learned_and_predicted(measured_run: Maker, tmp_path: Path) -> None:
    runs = own_runs(measured_run, 1.4)
    found = calibrate(runs, "own.csv", LIBRARY)
    median = [float(np.median(np.abs(np.expm1(each)))) for each in (found.before, found.after, found.left_out)]
    assert median[0] > 0.2
    assert median[1] < 0.05
    assert median[2] < 0.6 * median[0]
    folder = tmp_path / "serving_stacks"
    folder.mkdir()
    (folder / "mine.yaml").write_text(profile_yaml(found, "mine", "Own measurements of a test, made up for it"))
    mine = Library((tmp_path, *LIBRARY.roots)).serving_stack("mine").spec
    mapper = Mapper(LIBRARY)
    ratios = [predict(mapper.system(run), mine).values["tpot", "mean"] / run.targets[0].value for run in runs]
    assert float(np.median(np.abs(np.array(ratios) - 1.0))) < 0.12
    answer = summary(found)
    assert answer["numbers"] == 8
    assert json.loads(json.dumps(answer)) == answer


def test_nothing_usable_is_an_error(measured_run: Maker) -> None:
    with pytest.raises(InputError, match="no model for 'Foo'"):
        calibrate([measured_run(model="Foo")], "own.csv", LIBRARY)


VLLM: dict[str, Any] = {
    "completed": 100, "total_input_tokens": 102400, "total_output_tokens": 20000, "request_rate": "inf",
    "max_concurrency": 32, "output_throughput": 900.0, "mean_ttft_ms": 210.0, "p99_ttft_ms": 700.0,
    "mean_tpot_ms": 30.0, "median_tpot_ms": 29.0, "model_id": "meta-llama/Llama-3.1-70B-Instruct",
}  # fmt: skip
AIPERF: dict[str, Any] = {
    "time_to_first_token": {"avg": 210.0, "p99": 700.0}, "inter_token_latency": {"avg": 30.0, "p99": 50.0},
    "request_latency": {"avg": 6000.0}, "input_sequence_length": {"avg": 1024.0},
    "output_sequence_length": {"avg": 200.0}, "input_config": {"loadgen": {"concurrency": 32}},
}  # fmt: skip


@pytest.mark.parametrize("content", [VLLM, AIPERF], ids=["vllm bench serve", "aiperf"])
def test_results_of_benchmark_clients_are_read(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(content))
    (run,) = read_measurements(path, SYSTEM)
    values = {(each.kind, each.statistic): each.value for each in run.targets if each.kind}
    assert values["ttft", "p99"] == pytest.approx(0.7)
    assert values["tpot", "mean"] == pytest.approx(0.03)
    system = Mapper(LIBRARY).system(run)
    assert (system.load.kind, system.load.amount, system.lengths.prompt_tokens) == ("closed", 32.0, 1024.0)
    assert (system.model.name, system.parallelism.tensor) == ("llama-3.1-70b", 4)


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps(VLLM | {"completed": 0})])
def test_what_is_no_benchmark_result_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"result\.json"):
        read_measurements(path, SYSTEM)


def test_a_result_does_not_say_what_it_ran_on(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(VLLM))
    with pytest.raises(InputError, match="--accelerator"):
        read_measurements(path)
