from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.capacities import CapacityTable, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.check import compared
from sim.planning.uncertainty.curves import Curve, Setup, setups, simulate_curve
from sim.planning.uncertainty.inputs import find_inputs
from sim.planning.uncertainty.response import Response
from sim.planning.uncertainty.world import World, drawn_world
from sim.specs.fleet import ParallelismSpec
from sim.specs.uncertainty import UncertaintySpec

Draw = Callable[[dict[str, float]], World]


@pytest.fixture(scope="module")
def table(horizon: Horizon) -> CapacityTable:
    return SimulatedCapacities(horizon).table()


@pytest.fixture(scope="module")
def curves(horizon: Horizon, table: CapacityTable) -> list[Curve]:
    return [simulate_curve(horizon, each, 2, 7) for each in setups(table)]


@pytest.fixture(scope="module")
def response(horizon: Horizon, table: CapacityTable, curves: list[Curve]) -> Response:
    return Response(horizon, table, curves)


@pytest.fixture
def draw(horizon: Horizon, ranges: UncertaintySpec) -> Draw:
    def make(values: dict[str, float]) -> World:
        return drawn_world(horizon, find_inputs(horizon, ranges, 2), values)

    return make


MOE = Service("documents", "moe", True, True, True, False)


def at_last(table: CapacityTable) -> Service:
    """The service at the fastest pace of the table."""
    return max((each for each, _ in table.replicas if replace(each, pace=1.0) == MOE), key=lambda each: each.pace)


def made_curve(values_s: list[float], limit_s: float) -> Curve:
    loads = np.linspace(0.1, 0.8, len(values_s))
    values = np.array(values_s)[None, None]
    setup = Setup(MOE, "h100-sxm", ParallelismSpec(tensor=4), 256)
    return Curve(setup, loads, np.array([limit_s]), ("ttft",), ("ttft_p95_s",), values)


def test_the_largest_load_is_where_the_curve_reaches_the_limit() -> None:
    curve = made_curve([1.0, 2.0, 4.0, 8.0], 4.0)
    assert curve.largest_load(0, np.array([1.0])) == pytest.approx(curve.loads[2])
    assert curve.largest_load(0, np.array([2.0])) == pytest.approx(curve.loads[1])
    assert curve.largest_load(0, np.array([0.1])) == pytest.approx(0.8)
    assert curve.largest_load(0, np.array([4.1])) == 0.0
    middle = 0.5 * (curve.loads[1] + curve.loads[2])
    assert curve.largest_load(0, np.array([np.sqrt(2.0)])) == pytest.approx(middle)
    assert curve.latency_s(0, middle) == pytest.approx([3.0])


def test_a_curve_survives_json_and_never_falls_with_load(curves: list[Curve]) -> None:
    for curve in curves:
        again = Curve.from_json(curve.to_json())
        assert again.setup == curve.setup
        assert np.array_equal(again.values_s, curve.values_s)
        assert (np.diff(curve.values_s, axis=2) >= 0.0).all()
        assert not np.array_equal(curve.values_s[0], curve.values_s[1])


def test_the_horizon_as_it_stands_gives_the_coefficients_of_the_plan(
    table: CapacityTable, response: Response, draw: Draw
) -> None:
    found, inside = response.capacities(draw({}))
    for key, each in table.replicas.items():
        assert found.replicas[key].requests_per_s == pytest.approx(each.requests_per_s, rel=1e-12)
        assert found.replicas[key].accelerators == each.accelerators
    for key, mean in table.means.items():
        assert found.means[key] == pytest.approx(mean)
    replica = inside[at_last(table), "h100-sxm"]
    assert replica.latency_s(1.0, 1.0) == pytest.approx(replica.curve.latency_s(0, replica.load))
    assert replica.latency_s(1.0, 2.0) == pytest.approx(0.5 * replica.latency_s(1.0, 1.0))


def test_a_throughput_that_is_measured_lower_lowers_capacity_as_much(
    table: CapacityTable, response: Response, draw: Draw
) -> None:
    found, _ = response.capacities(replace(draw({}), errors={("throughput", "h100-sxm"): 0.6}))
    assert found.replicas[at_last(table), "h100-sxm"].requests_per_s == pytest.approx(
        0.6 * table.replicas[at_last(table), "h100-sxm"].requests_per_s
    )
    assert found.replicas[at_last(table), "b200-hgx"].requests_per_s == pytest.approx(
        table.replicas[at_last(table), "b200-hgx"].requests_per_s
    )


def test_latencies_beyond_the_limit_leave_no_capacity(table: CapacityTable, response: Response, draw: Draw) -> None:
    found, inside = response.capacities(replace(draw({}), errors={("e2e", "h100-sxm"): 50.0}))
    assert found.replicas[at_last(table), "h100-sxm"].accelerators == 0
    assert (at_last(table), "h100-sxm") not in inside
    assert found.replicas[at_last(table), "b200-hgx"].accelerators > 0


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("stack.step_time.matmul.fp8", 0.8, 0.4),
        ("stack.step_time.step_overhead", 1e-4, 1e-3),
        ("workload.continuous.output_tokens", 0.7, 1.5),
        ("workload.continuous.prompt_tokens", 0.8, 1.3),
        ("workload.continuous.prefix.fraction", 0.8, 0.3),
    ],
)
def test_what_makes_work_lighter_never_lowers_capacity(
    table: CapacityTable, response: Response, draw: Draw, name: str, better: float, worse: float
) -> None:
    light, _ = response.capacities(draw({name: better}))
    heavy, _ = response.capacities(draw({name: worse}))
    for key, each in heavy.replicas.items():
        assert light.replicas[key].requests_per_s >= each.requests_per_s
    assert (
        light.replicas[at_last(table), "h100-sxm"].requests_per_s
        > 1.01 * heavy.replicas[at_last(table), "h100-sxm"].requests_per_s
    )


def test_the_response_agrees_with_simulations_of_drawn_worlds(
    table: CapacityTable, response: Response, draw: Draw
) -> None:
    values = {
        "workload.continuous.output_tokens": 1.3, "workload.continuous.prefix.fraction": 0.4,
        "stack.step_time.expert_matmul.fp8": 0.36, "hardware.b200-hgx.memory.bandwidth": 7.7e12,
        "horizon.compression.difficulty-aware.c": 0.5,
    }  # fmt: skip
    found = list(compared(response, draw(values)))
    assert len(found) == len(response.table.replicas)
    for _, _, answer, simulated in found:
        expected = simulated.requests_per_s / simulated.accelerators
        assert answer.requests_per_s / answer.accelerators == pytest.approx(expected, rel=0.03)
