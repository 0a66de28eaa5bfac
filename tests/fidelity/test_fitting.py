"""The fit finds parameters that made the data, keeps what they do not determine, and its derivatives are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sim.fidelity.calibration import Row, coordinates, fit_rows, observations
from sim.fidelity.fitting import Coordinate, Model, Observations, fit, moved
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import MeasuredRun

Maker = Callable[..., MeasuredRun]
LIBRARY = fidelity_library()
STACK = LIBRARY.serving_stack("vllm").spec
MAPPER = Mapper(LIBRARY)
MOVED = [
    Coordinate("shared", "", "weight_bandwidth", 0.3),
    Coordinate("shared", "", "matmul.fp8", 0.3),
    Coordinate("shared", "", "step_overhead", 1.0),
    Coordinate("shared", "", "latent_kv_bandwidth", 0.2),
    Coordinate("family", "blackwell", "kv_bandwidth", 0.3),
]


def seen(measured_run: Maker) -> Observations:
    runs = [
        measured_run(
            {"tpot_mean_ms": 20.0},
            accelerator=accelerator,
            model=model,
            tp=tensor,
            n_accel=tensor,
            isl_mean=prompt,
            concurrency_or_rate=f"conc={users}",
        )
        for accelerator in ("H100", "B200")
        for model, tensor in (("Llama-3.1-8B", "1"), ("Llama-3.1-70B", "4"))
        for prompt in ("200", "8000")
        for users in (1, 8, 64)
    ]
    rows: Sequence[Row] = fit_rows(runs, MAPPER)
    return observations(rows, {"vllm": STACK}, ["A"] * len(rows))


def test_parameters_that_made_the_data_are_found_again(measured_run: Maker) -> None:
    made = seen(measured_run)
    starts = [STACK] * len(made.systems)
    truth = np.array([-0.1, -0.2, 0.7, 0.0, 0.25])
    values = np.exp(Model(made, starts, MOVED).logarithms(truth))
    found = fit(dataclasses.replace(made, value=values), starts, MOVED, error_spread=0.002)
    assert found.values == pytest.approx(truth, abs=0.02)
    assert (found.determined[[0, 2, 4]] > 0.95).all()
    # No system here has latent attention: the parameter stays where it was, as uncertain as before.
    assert found.values[3] == pytest.approx(0.0, abs=1e-6)
    assert found.standard_errors[3] == pytest.approx(0.2, rel=1e-6)
    assert found.determined[3] == pytest.approx(0.0, abs=1e-6)
    assert (np.diff(found.singular_values) <= 0).all()


def test_one_wild_point_does_not_bend_the_fit(measured_run: Maker) -> None:
    made = seen(measured_run)
    starts = [STACK] * len(made.systems)
    values = np.exp(Model(made, starts, MOVED).logarithms(np.zeros(len(MOVED))))
    values[3] *= 10.0
    found = fit(dataclasses.replace(made, value=values), starts, MOVED, error_spread=0.02)
    assert np.abs(found.values).max() < 0.1


def test_derivatives_are_those_of_the_model(measured_run: Maker) -> None:
    made = seen(measured_run)
    model = Model(made, [STACK] * len(made.systems), MOVED)
    at = np.array([-0.05, 0.1, 0.2, 0.0, -0.1])
    slopes = model.derivatives(at)
    for column in range(len(MOVED)):
        near = at.copy()
        near[column] += 1e-4
        numeric = (model.logarithms(near) - model.logarithms(at)) / 1e-4
        assert slopes[:, column] == pytest.approx(numeric, abs=2e-3)


def test_priors_name_members_first(measured_run: Maker) -> None:
    system = MAPPER.system(measured_run(framework="vLLM ~0.2 (2023)"))
    found = {each.parameter: each for each in coordinates([system]) if each.level == "framework"}
    usual = {each.parameter: each for each in coordinates([MAPPER.system(measured_run())]) if each.level == "framework"}
    assert found["launch_latency"].centre > usual["launch_latency"].centre
    assert set(found) == set(usual)


def test_latencies_that_hang_on_queueing_are_not_fitted(measured_run: Maker) -> None:
    metrics = {"tpot_mean_ms": 20.0, "ttft_mean_ms": 90.0, "ttft_p99_ms": 300.0, "output_tok_s_per_accel": 100.0}
    closed = fit_rows([measured_run(metrics)], MAPPER)
    assert [row.target.kind for row in closed] == ["tpot", "ttft", "throughput"]
    assert [row.target.kind for row in fit_rows([measured_run(metrics, source="NVIDIA lab")], MAPPER)] == [
        "tpot",
        "throughput",
    ]
    assert fit_rows([measured_run(metrics, spec_decode="MTP")], MAPPER) == []
    served = measured_run(metrics, concurrency_or_rate="rate=5/s", ttft_p99_limit_ms="2000", tpot_p99_limit_ms="200")
    (row,) = fit_rows([served], MAPPER)
    assert (row.target.kind, row.system.load.kind) == ("throughput", "limits")


def test_efficiencies_stay_below_one_and_parameters_move_together(measured_run: Maker) -> None:
    assert 0.99 < moved("kv_bandwidth", 0.9, 9.0) < 1.0
    assert moved("matmul.fp8", 0.5, -1.0) == pytest.approx(1.0 / (1.0 + np.e))
    assert moved("matmul_latency", 4e-6, 1.0) == pytest.approx(4e-6 * np.e)
    made = seen(measured_run)
    starts = [STACK] * len(made.systems)
    both = Model(made, starts, [Coordinate("shared", "", "matmul_latency+step_overhead", 0.3)])
    each = Model(made, starts, [Coordinate("shared", "", name, 0.3) for name in ("matmul_latency", "step_overhead")])
    assert both.logarithms(np.array([0.4])) == pytest.approx(each.logarithms(np.array([0.4, 0.4])))
