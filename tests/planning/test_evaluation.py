import datetime
import pickle
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.capacities import CapacityTable, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.evaluation import Evaluation, evaluate
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.rehearsal import rehearse

day = datetime.date


@pytest.fixture(scope="module")
def horizon() -> Horizon:
    """Documents and agents on two accelerators over five months."""
    full = load_horizon("enterprise-2027")
    cases = {key: full.raw.data["use_cases"][key] for key in ("documents", "agents")}
    chips = {key: full.raw.data["hardware"][key] for key in ("h100-sxm", "vr200-nvl72")}
    return load_horizon("enterprise-2027", {"use_cases": cases, "hardware": chips, "end": day(2027, 4, 1)})


@pytest.fixture(scope="module")
def capacities(horizon: Horizon) -> CapacityTable:
    return SimulatedCapacities(horizon).table()


@pytest.fixture(scope="module")
def evaluation(horizon: Horizon, capacities: CapacityTable) -> Evaluation:
    return evaluate(horizon, capacities, gap=1e-3)


@pytest.fixture
def no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a simulation ran")

    monkeypatch.setattr("sim.planning.probe.run", never)


@pytest.mark.usefixtures("no_simulation")
def test_the_second_stage_simulates_nothing(horizon: Horizon, capacities: CapacityTable) -> None:
    found = evaluate(horizon.with_numbers({"site_power": 1e6, "economics.cost_of_capital": 0.15}), capacities)
    assert found.feasible
    assert not found.costs().empty
    assert not found.periods().empty
    assert set(found.viability()["class"]) == {"documents", "agents"}


def test_the_table_is_all_that_a_plan_asks_for_and_can_be_sent_away(
    horizon: Horizon, capacities: CapacityTable, evaluation: Evaluation
) -> None:
    copy = pickle.loads(pickle.dumps(capacities))
    again = evaluate(horizon, copy, gap=1e-3)
    assert again.net_present_cost_usd == evaluation.net_present_cost_usd
    assert len(capacities.table()) == len(capacities.replicas) == 2 * 2 * 2 * 2 * 4
    with pytest.raises(ValueError, match="h200-sxm"):
        capacities.replica(Service("agents", "moe", True, True, True, False), "h200-sxm")
    with pytest.raises(ValueError, match="voice"):
        capacities.tokens("voice", "moe")


def test_fractions_of_systems_are_a_lower_bound(
    horizon: Horizon, capacities: CapacityTable, evaluation: Evaluation
) -> None:
    bound = evaluate(horizon, capacities, whole=False)
    proven = evaluation.net_present_cost_usd * (1.0 - evaluation.fleet.gap)
    assert 0.8 * proven < bound.net_present_cost_usd <= proven * (1.0 + 1e-9)


def test_replicas_that_serve_more_never_cost_more(
    horizon: Horizon, capacities: CapacityTable, evaluation: Evaluation
) -> None:
    still = horizon.with_numbers({f"use_cases.{case}.pass_through": 0.0 for case in horizon.spec.use_cases})
    before, after = (
        evaluate(still, capacities.scaled(lambda *_, factor=factor: factor), whole=False).net_present_cost_usd  # type: ignore[misc]
        for factor in (1.0, 1.25)
    )
    assert 0.75 * before < after < before


@pytest.mark.parametrize("seed", [77, 78])
def test_the_fleets_keep_their_levels_for_requests_that_nobody_planned_with(
    horizon: Horizon, capacities: CapacityTable, evaluation: Evaluation, seed: int
) -> None:
    """Fresh requests in every month and hour: no interval lies above its limit, and nearly all values below."""
    simulated = SimulatedCapacities(horizon)
    planned, fleet = evaluation.planned, evaluation.fleet
    levels = [each.level for each in rehearse(simulated, capacities, planned, fleet, planned.hours, seed)]
    assert len(levels) >= 3 * 5 * 3
    assert not any(level.surely_missed for level in levels)
    assert np.mean([level.met for level in levels]) > 0.95


def test_one_accelerator_alone_can_be_scaled(capacities: CapacityTable) -> None:
    scaled = capacities.scaled(lambda _, hardware: 2.0 if hardware == "vr200-nvl72" else 1.0)
    for (service, hardware), each in capacities.replicas.items():
        factor = 2.0 if hardware == "vr200-nvl72" else 1.0
        assert scaled.replica(service, hardware) == replace(each, requests_per_s=factor * each.requests_per_s)


def test_an_infeasible_evaluation_says_so(horizon: Horizon, capacities: CapacityTable) -> None:
    nothing = horizon.with_numbers({"yearly_budget": 1000.0})
    found = evaluate(nothing, capacities)
    assert not found.feasible
    assert found.costs().empty
    assert list(found.costs().columns)[:2] == ["plan_id", "policy"]
