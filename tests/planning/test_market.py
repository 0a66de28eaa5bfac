import datetime
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.alternatives import alternatives, signature
from sim.planning.capacities import CapacityTable
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.market import PlannedMarket, demands, planned_market, under_policy
from sim.planning.procurement import procure
from sim.planning.program import build
from sim.specs.horizon import POLICIES

day = datetime.date


@pytest.fixture(scope="module")
def horizon() -> Horizon:
    """Documents and agents on three accelerators, to the middle of 2027."""
    full = load_horizon("enterprise-2027")
    cases = {key: full.raw.data["use_cases"][key] for key in ("documents", "agents")}
    chips = {key: full.raw.data["hardware"][key] for key in ("h100-sxm", "b200-hgx", "vr200-nvl72")}
    return load_horizon("enterprise-2027", {"use_cases": cases, "hardware": chips, "end": day(2027, 8, 1)})


@pytest.fixture(scope="module")
def capacities(horizon: Horizon) -> CapacityTable:
    return SimulatedCapacities(horizon).table()


@pytest.fixture(scope="module")
def planned(horizon: Horizon, capacities: CapacityTable) -> PlannedMarket:
    return planned_market(horizon, capacities, demands(horizon, capacities))


def test_nothing_is_delivered_before_its_lead_time(horizon: Horizon, planned: PlannedMarket) -> None:
    limit = planned.market.purchase_limit
    for chip, (name, offer) in enumerate(horizon.spec.hardware.items()):
        lead = offer.lead_time_months.value
        assert limit[chip, :lead].sum() == 0, name
        assert (limit[chip, lead:] == offer.supply.value).all(), name


def test_demand_is_that_of_the_busiest_hour_of_a_busy_day(horizon: Horizon, planned: PlannedMarket) -> None:
    row = [stream.name for stream in planned.streams].index("documents/moe")
    expected = planned.demands["documents"][0].rate_per_s * 1.14
    np.testing.assert_allclose(planned.market.demand_per_s[row, 0], expected)


def test_the_api_bill_is_for_the_requests_of_the_hour_and_not_for_its_peak(
    horizon: Horizon, capacities: CapacityTable, planned: PlannedMarket
) -> None:
    """All demand of a month left to the API costs as many requests as the month has."""
    from sim.planning.service_cost import api_usd_per_request

    for row, stream in enumerate(planned.streams):
        price = api_usd_per_request(horizon, capacities, stream.case, day(2027, 3, 1))
        assert price is not None
        bill = (planned.market.api_usd[row, 3] * planned.market.demand_per_s[row, 3]).sum()
        requests = planned.demands[stream.case][3].rate_per_s * 31 * 86400
        assert bill == pytest.approx(price * requests, rel=1e-9)


def test_book_value_falls_straight_over_the_life_and_a_sale_fetches_less(
    horizon: Horizon, planned: PlannedMarket
) -> None:
    market = planned.market
    months = len(planned.months)
    chip = market.accelerators.index("b200-hgx")
    price = market.purchase_usd[chip, 3]
    assert market.resale_usd[chip, 4, months] == pytest.approx(price * (1.0 - (months - 3) / 60.0))
    assert market.resale_usd[chip, 4, 6] == pytest.approx(price * (1.0 - 3 / 60.0) * 0.7)
    assert (market.resale_usd[:, 1:, :] <= market.purchase_usd[:, :, None] + 1e-9).all()


def test_derating_lowers_what_a_stream_is_served(
    horizon: Horizon, capacities: CapacityTable, planned: PlannedMarket
) -> None:
    factors = np.full(len(planned.months), 0.9)
    lower = planned_market(horizon, capacities, planned.demands, derating={"agents/moe": factors})
    row = lower.market.streams.index("agents/moe")
    np.testing.assert_allclose(lower.market.capacity_per_s[:, row], 0.9 * planned.market.capacity_per_s[:, row])
    other = lower.market.streams.index("documents/moe")
    np.testing.assert_array_equal(lower.market.capacity_per_s[:, other], planned.market.capacity_per_s[:, other])


def test_no_policy_beats_the_optimum(horizon: Horizon, planned: PlannedMarket) -> None:
    best = procure(planned.market, gap=1e-3)
    assert best.feasible
    for policy in POLICIES:
        found = procure(under_policy(planned, policy, horizon), gap=1e-3)
        if found.feasible:
            assert found.net_present_cost_usd >= best.net_present_cost_usd * (1.0 - 1.1e-3)


def test_policies_do_what_they_say(horizon: Horizon, planned: PlannedMarket) -> None:
    wait = procure(under_policy(planned, "wait", horizon), gap=0.01)
    others = [chip for chip, name in enumerate(planned.market.accelerators) if name != horizon.spec.waits_for]
    assert wait.bought[others].sum() == 0
    rent = procure(under_policy(planned, "rent_only", horizon), gap=0.01)
    assert rent.bought.sum() == 0
    api = procure(under_policy(planned, "api_only", horizon), gap=0.01)
    if api.feasible:
        assert api.replicas.sum() == 0
        np.testing.assert_allclose(api.api_per_s, planned.market.demand_per_s)
    now = procure(under_policy(planned, "buy_now", horizon), gap=0.01)
    for chip, offer in enumerate(horizon.spec.hardware.values()):
        assert now.bought[chip, offer.lead_time_months.value + 3 :].sum() == 0


def test_alternatives_are_near_and_different(planned: PlannedMarket) -> None:
    program = build(planned.market)
    best = procure(planned.market, gap=1e-3, program=program)
    found = alternatives(program, best, slack=0.05, count=2)
    assert found
    signatures = [signature(program, best)]
    for each in found:
        assert each.dearer <= 0.05 + 1e-6
        mine = signature(program, each.procurement)
        assert min(np.abs(mine - other).sum() for other in signatures) == pytest.approx(each.difference)
        assert each.difference > 0.02
        signatures.append(mine)


def test_an_infeasible_optimum_has_no_alternatives(planned: PlannedMarket) -> None:
    nothing = replace(
        planned.market,
        purchase_limit=np.zeros_like(planned.market.purchase_limit),
        rent_usd=np.full_like(planned.market.rent_usd, np.nan),
        api_usd=np.full_like(planned.market.api_usd, np.nan),
    )
    program = build(nothing)
    answer = procure(nothing, program=program)
    assert not answer.feasible
    assert alternatives(program, answer) == []
