"""The shipped scenarios pass every check, and every part and model of the library can be simulated with something."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

import sim
from sim.serving.deployment import deploy
from sim.simulation import check
from sim.specs.hardware import HardwareSpec, NumberFormat, Status
from sim.specs.library import Library, builtin_root
from sim.specs.serving_stack import ServingStackSpec

LIBRARY = Library((builtin_root(),))
SCENARIOS = sorted(LIBRARY.names("scenario"))
IN_MOTION = {
    "agents-and-caches", "model-roll-out", "morning-ramp", "power-cap", "prefill-and-decode", "rack-failure",
    "spill-over", "voice-and-batch",
}  # fmt: skip
"""Those whose results are looked at in tests/test_fleet_scenarios.py."""
HARDWARE = sorted(LIBRARY.names("hardware"))
MODELS = sorted(LIBRARY.names("model"))
NOT_OFFERED = {"rubin-ultra"}
TERMS = ["on_demand", "reserved_3_year", "reserved_1_year", "spot", "capacity_block", "owning_hyperscaler"]
TRAFFIC = {"chat": {"workload": "realtime-chat", "rate": "0.5 requests/s"}}


@cache
def hardware(name: str) -> HardwareSpec:
    return LIBRARY.hardware(name).spec


def best_format(profile: HardwareSpec) -> NumberFormat:
    """Return the format in which the part multiplies matrices fastest with the shared serving stack."""
    stack: ServingStackSpec = LIBRARY.serving_stack("shared").spec
    rates = {name: peak.value * stack.step_time.matmul[name].value for name, peak in profile.peak.items()}
    return max(rates, key=lambda name: (rates[name], name))


def fleet_of(pool: dict[str, Any], **changes: Any) -> sim.Scenario:
    written = {"alternatives": {}, "traffic": TRAFFIC, "fleet": {"pool": {"replicas": 1} | pool}}
    return sim.load("quickstart", written | changes)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_shipped_scenario_passes_every_check(name: str) -> None:
    scenario = sim.load(name)
    assert scenario.spec.name == name
    assert len(scenario.spec.description) > 40
    for pools in check(scenario):
        # A shipped example shows what can be had, with a price.
        assert all(pool.price is not None for pool in pools)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in IN_MOTION])
def test_a_shipped_scenario_is_long_enough_for_what_it_reports(name: str) -> None:
    """As shipped it raises no flag of its own making: no overload, no growing queue, no lack of samples."""
    scenario = sim.load(name)
    names = {flag.name for flag in sim.simulate(scenario).flags}
    assert not names & {"saturated", "not_converged", "few_samples", "no_price"}


def test_quickstart_compares_the_four_fleets_that_planners_ask_for() -> None:
    families = [hardware(pools[0].hardware).family for pools in check(sim.load("quickstart"))]
    assert families == ["blackwell", "rubin", "tpu", "trainium"]


@pytest.mark.parametrize("name", HARDWARE)
def test_every_part_runs_a_small_model_in_its_best_format(name: str) -> None:
    """Two minutes of chat: finished, at a latency that people bear, and at a price or without one, but said."""
    profile = hardware(name)
    if name in NOT_OFFERED:
        assert not profile.availability.enabled
        with pytest.raises(sim.InputError, match="not offered"):
            check(fleet_of({"hardware": name, "model": "llama-3.1-8b"}))
        return
    pool = {"hardware": name, "model": "llama-3.1-8b", "weight_format": best_format(profile).value}
    times = {"duration": "2 min", "warm_up": "10 s", "drain": "2 min", "timeline_interval": "5 s"}
    scenario = fleet_of(pool, price_basis=TERMS, **times)
    result = sim.simulate(scenario)
    assert set(result.requests["outcome"]) == {"finished"}
    flags = {flag.name for flag in result.flags}
    row = result.summary("usd_per_million_tokens", "all").iloc[0]
    known = {basis.value for basis in profile.prices.hourly}
    assert ("no_price" in flags) == (not known & set(TERMS)) == bool(np.isnan(row["value"]))
    if "no_price" not in flags:
        assert 0.001 < row["value"] < 100.0
        assert row["price_basis"] in known
    assert ("specification_only" in flags) >= (profile.availability.status is not Status.SHIPPING)
    latency = result.latency().set_index("class").loc["chat"]
    assert 1e-3 < latency["ttft_p50_s"] < 1.0
    assert 3e-4 < latency["tpot_p50_s"] < 0.1


def test_no_purchasable_part_is_left_out() -> None:
    sold = {name for name in HARDWARE if hardware(name).availability.purchasable}
    assert {name for name in sold if not hardware(name).availability.enabled} == NOT_OFFERED
    assert {"h100-sxm", "gb200-nvl72", "vr200-nvl72", "tpu-v7-ironwood", "trainium3", "mi355x"} <= sold
    assert not {"maia-100", "maia-200"} & sold


@pytest.mark.parametrize("name", MODELS)
def test_every_model_fits_some_layout_of_a_rack(name: str) -> None:
    """As published, with weight-only quantisation where the format cannot be computed with."""
    model = LIBRARY.model(name).spec
    published = {model.formats.weights, model.formats.experts or model.formats.weights}
    arithmetic = {} if published <= set(hardware("gb300-nvl72").peak) else {"arithmetic_format": "bf16"}
    problems: dict[int, str] = {}
    for tensor in (1, 2, 4, 8, 16):
        pool = {"hardware": "gb300-nvl72", "model": name, "parallelism": {"tensor": tensor}, **arithmetic}
        try:
            (deployment,) = deploy(fleet_of(pool))
        except sim.InputError as error:
            problems[tensor] = str(error)
            continue
        assert deployment.longest_request() > 1000
        assert 1e-4 < float(np.asarray(deployment.step_time.decode_step_s(1, 1000))) < 0.1
    fits = [tensor for tensor in (1, 2, 4, 8, 16) if tensor not in problems]
    assert fits
    # Too few accelerators are too little memory, too many cannot share the heads; between the two it fits.
    assert fits == [tensor for tensor in (1, 2, 4, 8, 16) if fits[0] <= tensor <= fits[-1]]
    for tensor, problem in problems.items():
        assert ("does not fit" if tensor < fits[0] else "attention heads") in problem
