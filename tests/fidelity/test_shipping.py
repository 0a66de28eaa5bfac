"""Shipped stacks follow from a fit; transfer leaves out whole parts; the page says what the errors say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from sim.fidelity.fitting import Coordinate, Fitted, Model
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.measured_page import ERRORS, measured_errors, measured_page
from sim.fidelity.points import MeasuredRun
from sim.fidelity.prediction import predict
from sim.fidelity.shipping import (
    KERNELS,
    client_factors,
    fit_library,
    library_rows,
    starts,
    write_clients,
    write_stacks,
)
from sim.fidelity.surrogate import fit_simulation, simulated_offsets
from sim.fidelity.transfer import Held, band_lines, group_fold, left_out
from sim.fidelity.validation import Validation, validate
from sim.specs.library import Library

Maker = Callable[..., MeasuredRun]
LIBRARY = fidelity_library()
BASE = LIBRARY.serving_stack(KERNELS).spec


def fitted(**logarithms: float) -> Fitted:
    """Return a fit with factors by `level__member__parameter`."""
    moved = []
    for name in logarithms:
        level, member, parameter = name.split("__")
        moved.append(Coordinate(level, member, parameter, 0.3))
    ones = np.full(len(moved), 0.1)
    return Fitted(moved, np.array(list(logarithms.values())), ones, ones, ones)


def test_stacks_multiply_shared_framework_and_family(tmp_path: Path) -> None:
    folder = tmp_path / "serving_stacks"
    folder.mkdir()
    found = fitted(
        shared____step_overhead=0.5,
        framework__vllm__step_overhead=0.7,
        family__hopper__step_overhead=-0.2,
        framework__sglang__kv_bandwidth=-0.3,
    )
    bands = ["bands:", "  tpot:", "    calibrated: {low: 0.8, high: 1.2, points: 9}"]
    write_stacks(found, BASE, bands, folder)
    library = Library((tmp_path, *LIBRARY.roots))
    shared, vllm = (library.serving_stack(name).spec for name in ("shared", "vllm"))
    start = BASE.step_time.step_overhead.value
    assert shared.step_time.step_overhead.value == pytest.approx(start * np.exp(0.5), rel=1e-3)
    assert vllm.step_time_on("hopper").step_overhead.value == pytest.approx(start * np.exp(1.0), rel=1e-2)
    assert vllm.step_time_on("unheard-of").step_overhead.value == pytest.approx(start * np.exp(1.2), rel=1e-3)
    # Efficiencies move in log odds: a sum of shifts in any order, and never to 1.
    sglang, start = library.serving_stack("sglang").spec.step_time, BASE.step_time.kv_bandwidth.value
    odds = start / (1.0 - start) * np.exp(-0.3)
    assert sglang.kv_bandwidth.value == pytest.approx(odds / (1.0 + odds), rel=1e-3)
    assert library.serving_stack("trtllm").spec.step_time.step_overhead == shared.step_time.step_overhead
    assert vllm.bands["tpot"]["calibrated"].points == 9


def test_a_left_out_family_is_predicted_by_a_fit_without_it(measured_run: Maker) -> None:
    runs = [
        measured_run({"tpot_mean_ms": value}, accelerator=accelerator, concurrency_or_rate=f"conc={users}")
        for accelerator, values in (("H100", (16.0, 20.0)), ("B200", (30.0, 40.0)))
        for users, value in zip((4, 32), values, strict=True)
    ]
    rows, seen = library_rows(runs, LIBRARY)
    whole = fit_library(seen, BASE, evaluations=10)
    held = Held(rows, seen, whole, BASE)
    found = left_out(runs, LIBRARY, held, lambda system: system.hardware.family, ["blackwell"])
    assert {each.accelerator for each in found.compared} == {"B200"}
    assert {each.known for each in found.compared} == {"transferred"}


def test_groups_stay_whole(measured_run: Maker) -> None:
    fold, mapper = group_fold(5), Mapper(LIBRARY)
    first, second = (mapper.system(measured_run(concurrency_or_rate=load)) for load in ("conc=1", "rate=9/s"))
    assert fold(first) == fold(second)
    assert 0 <= int(fold(first)) < 5


def test_bands_hold_four_of_five_and_widen_with_ignorance(measured_run: Maker) -> None:
    runs = [measured_run({"tpot_mean_ms": 14.0 + number}) for number in range(25)]
    seen = validate(runs, LIBRARY)
    bands = yaml.safe_load("\n".join(band_lines(seen, Validation([], []))))["bands"]["tpot"]
    inside = sum(
        bands["calibrated"]["low"] <= each.measured / each.predicted <= bands["calibrated"]["high"]
        for each in seen.compared
    )
    assert 0.75 <= inside / 25 <= 0.9  # three digits of a bound may leave out the point that it is
    assert bands["transferred"]["low"] <= bands["calibrated"]["low"]
    assert bands["specification"]["high"] >= bands["transferred"]["high"]


def test_factors_of_clients_are_written_and_read(tmp_path: Path) -> None:
    found = Fitted([Coordinate("client", "my client", "request_overhead", 0.3)], np.array([0.5]), *[np.ones(1)] * 3)
    assert client_factors(found) == {"my client": pytest.approx(np.exp(0.5), rel=1e-3)}
    write_clients(found, tmp_path / "clients.csv")
    assert (tmp_path / "clients.csv").read_text() == "client,request_overhead\nmy client,1.649\n"


def test_a_fit_to_simulation_reproduces_what_was_simulated(measured_run: Maker) -> None:
    """Points made by simulation are fitted better with offsets than by mean field alone, in bursts above all."""
    stack, mapper, runs = LIBRARY.serving_stack("vllm").spec, Mapper(LIBRARY), []
    for users in (4, 16, 64):
        load = f"conc={users}"
        values = predict(mapper.system(measured_run(concurrency_or_rate=load)), stack).values
        metrics = {f"{kind}_mean_ms": values[kind, "mean"] * 1e3 for kind in ("tpot", "ttft")}
        runs.append(measured_run(metrics, concurrency_or_rate=load))
    rows, plain = library_rows(runs, LIBRARY)
    seen, found = fit_simulation(rows, plain, BASE, LIBRARY, rounds=2)
    assert np.abs(seen.offset[seen.kind == "ttft"]).max() > 0.1

    def error(each: Fitted) -> float:
        model = Model(plain, starts(plain, BASE), each.coordinates)
        simulated = model.logarithms(each.values) + simulated_offsets(rows, plain, BASE, each, LIBRARY)
        return float(np.abs(simulated - np.log(plain.value)).mean())

    assert error(found) < 0.6 * error(fit_library(plain, BASE))


def test_the_page_shows_every_table(measured_run: Maker) -> None:
    runs = [measured_run({"tpot_mean_ms": 14.0 + number, "ttft_mean_ms": 90.0}) for number in range(4)]
    found = validate(runs, LIBRARY)
    errors = json.loads(json.dumps(measured_errors(found, found, found, found, found)))
    page = measured_page(errors)
    for heading in ("Overall", "Servers under limits", "Whole frameworks left out", "Groups left out, by model"):
        assert f"## {heading}" in page
    for heading in ("## The ten worst groups", "## Published errors"):
        assert heading in page
    assert "| Llama-3.1-70B | tpot | 4 |" in page


def test_the_shipped_page_is_that_of_the_stored_errors() -> None:
    page = Path(__file__).parents[2] / "docs" / "measured.md"
    assert page.read_text("utf-8") == measured_page()
    assert set(json.loads(ERRORS.read_text("utf-8"))) >= {"in_sample", "groups_out", "families_out", "worst"}
