import datetime
import math
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.capacities import Coefficient, MeanTokens, Service
from sim.planning.coefficients import FEWER_REPLICAS, SEED, SimulatedCapacities
from sim.planning.demand import respond
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.levers import Bounds, serving_usd
from sim.planning.months import change_factor
from sim.planning.search import answers_for
from sim.planning.service_cost import choices_in, replica_rate, requests_in
from sim.planning.trials import POOL, length_s, requests_of, trial_scenario
from sim.planning.usage import compression_law

day = datetime.date
LATE = day(2027, 12, 1)


@pytest.fixture(scope="module")
def horizon() -> Horizon:
    return load_horizon("enterprise-2027")


@pytest.fixture(scope="module")
def simulated(horizon: Horizon) -> SimulatedCapacities:
    return SimulatedCapacities(horizon)


class Given:
    """Replicas that serve what is said."""

    def __init__(self, plain: Coefficient, compressed: Coefficient) -> None:
        self.coefficients = (plain, compressed)

    def replica(self, service: Service, hardware: str) -> Coefficient:
        return self.coefficients[service.compressed]

    def tokens(self, case: str, model: str) -> MeanTokens:
        return MeanTokens(1000.0, 0.0, 100.0)


def service(case: str = "documents", compressed: bool = False, prefix: bool = True) -> Service:
    return Service(case, "moe", True, True, prefix, compressed)


def test_demand_and_unit_cost_agree_at_the_fixed_point() -> None:
    """Constant cost has a closed form; a cost that falls with volume is solved to the same equation."""
    assert respond(10.0, 1.0, lambda _: 0.5, -1.0) == pytest.approx(20.0, rel=1e-4)
    assert respond(10.0, 1.0, lambda _: 0.5, 0.0) == 10.0

    def falling(rate: float) -> float:
        return 0.5 * (10.0 / rate) ** 0.2

    found = respond(10.0, 1.0, falling, -1.11)
    assert found == pytest.approx(10.0 * falling(found) ** -1.11, rel=1e-4)
    assert found > respond(10.0, 1.0, lambda _: 0.5, -1.11)


def test_a_jump_without_a_fixed_point_is_settled_at_the_jump() -> None:
    found = respond(10.0, 1.0, lambda rate: 0.4 if rate < 15.0 else 0.9, -1.0)
    assert found == pytest.approx(15.0, rel=0.05)


def test_a_dearer_unit_never_raises_demand() -> None:
    demands = [respond(10.0, 1.0, lambda _, cost=cost: cost, -1.11) for cost in (0.2, 0.5, 1.0, 2.0)]  # type: ignore[misc]
    assert demands == sorted(demands, reverse=True)
    assert demands[2] == pytest.approx(10.0)


def test_compression_shortens_the_reasoning_part_alone(horizon: Horizon) -> None:
    plain = requests_of(horizon, service(), 1.0, 2000, 1, 0.0)
    short = requests_of(horizon, service(), 1.0, 2000, 1, 1.0)
    np.testing.assert_array_equal(plain.prompt_tokens, short.prompt_tokens)
    reasoning = 0.6 * plain.output_tokens
    law = compression_law(horizon, "documents")
    assert law is not None
    expected = plain.output_tokens - reasoning + law.at(reasoning)
    assert np.abs(short.output_tokens - expected).max() <= 0.5 + 1e-9
    half = requests_of(horizon, service(), 1.0, 2000, 1, 0.5)
    changed = float((half.output_tokens < plain.output_tokens).mean())
    assert 0.45 < changed < 0.55


def test_without_the_prefix_cache_nothing_is_cached(horizon: Horizon) -> None:
    assert requests_of(horizon, service(prefix=False), 1.0, 500, 1, 0.0).cached_tokens.sum() == 0
    assert requests_of(horizon, service(), 1.0, 500, 1, 0.0).cached_tokens.sum() > 0


def test_a_coefficient_keeps_the_service_levels_and_the_target_load(
    horizon: Horizon, simulated: SimulatedCapacities
) -> None:
    found = simulated.replica(service("agents"), "h200-sxm")
    assert found.accelerators in (1, 2, 4, 8)
    assert 0.0 < found.load <= horizon.spec.target_load.value + 1e-12
    tight = load_horizon(
        "enterprise-2027",
        {
            "use_cases.agents.service_levels": [
                {
                    "metric": "tpot",
                    "quantile": 0.95,
                    "limit": "12 ms",
                    "source": ["assumption"],
                    "confidence": "assumption",
                }
            ]
        },
    )
    tighter = SimulatedCapacities(tight).replica(service("agents"), "h200-sxm")
    assert tighter.requests_per_s / max(1, tighter.accelerators) < found.requests_per_s / found.accelerators


def test_a_model_that_does_not_fit_says_so() -> None:
    small = load_horizon("enterprise-2027", {"use_cases.documents.models.moe.layouts": [1]})
    found = SimulatedCapacities(small).replica(service(), "h100-sxm")
    assert found.accelerators == 0
    assert "does not fit" in found.reason


def test_adoption_mixes_service_times(horizon: Horizon) -> None:
    """Half the requests at 2 per second and half at 6: 3 per second together, times the speed of the software."""
    given = Given(Coefficient(4, 2.0, 0.85, ""), Coefficient(4, 6.0, 0.85, ""))
    month = LATE
    share = 0.6
    levers = horizon.levers
    accelerators, rate = replica_rate(horizon, given, "documents", "moe", "h100-sxm", month, levers)
    assert accelerators == 4
    assert rate == pytest.approx(1.5 / ((1.0 - share) / 2.0 + share / 6.0))
    _, plain = replica_rate(horizon, given, "documents", "moe", "h100-sxm", month, levers - {"compression"})
    assert plain == pytest.approx(1.5 * 2.0)


def test_more_ways_never_cost_more_and_whole_replicas_never_less(
    horizon: Horizon, simulated: SimulatedCapacities
) -> None:
    month = day(2026, 11, 1)
    choices = choices_in(horizon, simulated, "documents", month, horizon.levers)
    own = choices.cheapest(with_api=False)
    assert choices.cheapest().usd_per_request <= own.usd_per_request
    assert choices.cheapest(0.3, with_api=False).usd_per_request >= own.usd_per_request - 1e-15
    baseline = choices_in(horizon, simulated, "documents", month, horizon.levers - {"hardware"})
    assert baseline.cheapest(with_api=False).usd_per_request >= own.usd_per_request


def test_a_use_case_that_nothing_serves_costs_infinitely_much(horizon: Horizon) -> None:
    given = Given(Coefficient(0, 0.0, 0.0, ""), Coefficient(0, 0.0, 0.0, ""))
    nothing = choices_in(horizon, given, "consultations", LATE, horizon.levers).cheapest()
    assert math.isinf(nothing.usd_per_request)


def test_no_replica_serves_more_than_its_bound(simulated: SimulatedCapacities) -> None:
    bounds = Bounds(simulated)
    for hardware in ("h100-sxm", "b200-hgx", "mi355x"):
        for case in ("documents", "agents"):
            for pace in (0.57, 1.5):
                asked = replace(service(case), pace=pace)
                found, most = simulated.replica(asked, hardware), bounds.replica(asked, hardware)
                assert found.requests_per_s / found.accelerators > 0.0
                assert found.requests_per_s / found.accelerators <= most.requests_per_s / most.accelerators * (1 + 1e-6)


def test_faster_steps_leave_more_room_below_the_limits(simulated: SimulatedCapacities) -> None:
    served = [simulated.replica(replace(service("agents"), pace=pace), "mi355x").requests_per_s for pace in (0.57, 1.5)]
    assert served[0] < 0.9 * served[1]


def test_slow_motion_is_exact(horizon: Horizon) -> None:
    """Twice the pace and limits half as long are the same trial, so twice as many requests are served."""
    levels = horizon.spec.use_cases["agents"].service_levels or horizon.workloads["agent-200k"].service_levels
    halved = [level.model_dump() | {"limit": f"{level.limit / 2} s"} for level in levels]
    strict = load_horizon("enterprise-2027", {"use_cases.agents.service_levels": halved})
    quick = SimulatedCapacities(strict).replica(replace(service("agents"), pace=2.0), "mi355x")
    calm = SimulatedCapacities(horizon).replica(service("agents"), "mi355x")
    assert quick.requests_per_s == calm.requests_per_s
    assert quick.layout == calm.layout


def test_what_a_replica_serves_is_what_sizing_says(horizon: Horizon, simulated: SimulatedCapacities) -> None:
    """The load of so many replicas, sized, takes that number; one replica less misses a level or the target load."""
    asked = service("agents")
    found = simulated.replica(asked, "mi355x")
    trace = requests_of(horizon, asked, 12.0 * found.requests_per_s, 12_000, SEED, 0.0)
    scenario = trial_scenario(horizon, asked, "mi355x", found.layout, length_s(trace))
    answer = answers_for(
        scenario, POOL, horizon.hardware["mi355x"], target_load=horizon.spec.target_load.value, trace=trace
    ).best
    assert answer is not None
    assert answer.replicas == pytest.approx(12, abs=1.5)


def test_hardware_prefix_and_software_save(horizon: Horizon) -> None:
    coarse = SimulatedCapacities(horizon, FEWER_REPLICAS)
    bounds = Bounds(coarse)
    nothing = serving_usd(coarse, bounds, LATE, frozenset())
    for lever in ("hardware", "prefix_caching", "software", "quantisation"):
        assert serving_usd(coarse, bounds, LATE, frozenset({lever})) < nothing  # type: ignore[arg-type]


def test_the_order_of_bounds_changes_no_cost(horizon: Horizon) -> None:
    coarse = SimulatedCapacities(horizon, FEWER_REPLICAS)
    levers = horizon.levers
    whole = sum(
        choices_in(horizon, coarse, case, LATE, levers).cheapest(with_api=False).usd_per_request
        * requests_in(LATE, described.rate.value * change_factor(described.growth, horizon.spec.start, LATE))
        for case, described in horizon.spec.use_cases.items()
    )
    assert serving_usd(coarse, Bounds(coarse), LATE, levers) == pytest.approx(whole, rel=1e-12)
