"""Cold starts by hand: bytes over a bandwidth and a fixed part, over a disk or through the network."""

from __future__ import annotations

from typing import Any

import pytest

import sim
from sim.serving.cold_start import cold_start_of, cold_start_s
from sim.serving.deployment import deploy
from sim.specs.control import ColdStartSpec


def test_bytes_over_bandwidth_and_a_fixed_part() -> None:
    assert cold_start_s(140e9, 5e9, 90.0) == 118.0


def start(**changes: Any) -> ColdStartSpec:
    return ColdStartSpec.model_validate({"source": "local_disk", "bandwidth": "100 GB/s", "fixed": "90 s"} | changes)


def test_the_weights_of_all_accelerators_come_over_the_network_no_faster_than_their_links() -> None:
    scenario = sim.load("quickstart").variants()[0]
    hardware = scenario.hardware["gb200-nvl72"]
    (deployment,) = deploy(scenario)
    weights = deployment.kv.weight_bytes
    assert deployment.accelerators == 2
    # 119 billion parameters in fp8, with what is kept in bf16 and what each of the two accelerators holds a copy of.
    assert 110e9 < 2 * weights < 150e9
    disk = cold_start_of(start(), hardware, 2, weights)
    assert disk == pytest.approx(2 * weights / 100e9 + 90.0)
    network = cold_start_of(start(source="network"), hardware, 2, weights)
    assert network == pytest.approx(2 * weights / (2 * 50e9) + 90.0)
    slow = cold_start_of(start(source="network", bandwidth="2 GB/s"), hardware, 2, weights)
    assert slow == pytest.approx(weights / 1e9 + 90.0)
    assert cold_start_of(None, hardware, 2, weights) == 0.0
