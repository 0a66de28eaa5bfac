from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.procurement import procure
from sim.planning.program import Market
from sim.planning.uncertainty.fleets import Decided, cheapest_fleet, decided, decided_fleet, delivered, unserved_usd

PRICE = 5.0
LEAD = np.array([0, 1])


def test_the_cheapest_fleet_is_the_optimum_of_the_program_with_fractions(market: Callable[..., Market]) -> None:
    given = market()
    found = cheapest_fleet(given, PRICE)
    assert found.net_present_cost_usd == pytest.approx(procure(given, whole=False).net_present_cost_usd, rel=1e-9)
    assert found.unserved_per_s.sum() == pytest.approx(0.0)
    assert found.fleet.net_present_cost_usd == pytest.approx(found.net_present_cost_usd)


def test_what_nothing_serves_is_left_at_the_stated_price(market: Callable[..., Market]) -> None:
    given = market(capacity_per_s=np.zeros((2, 1, 3)), api_usd=np.full((1, 3, 2), np.nan))
    found = cheapest_fleet(given, PRICE)
    assert found.unserved_per_s == pytest.approx(given.demand_per_s)
    usd = unserved_usd(given, PRICE)[:, :, None]
    assert found.penalty_usd == pytest.approx((given.demand_per_s * usd).sum(axis=(0, 2)))
    assert found.net_present_cost_usd == pytest.approx(float(found.penalty_usd @ given.discount[:3]))


def test_a_budget_that_pays_no_api_leaves_demand_unserved_and_still_has_an_answer(
    market: Callable[..., Market],
) -> None:
    given = market(budget_usd=np.array([10.0]))
    found = cheapest_fleet(given, PRICE)
    spent = sum(found.fleet.money_usd[kind].sum() for kind in ("purchase", "running", "rent", "api"))
    assert spent <= 10.0 + 1e-6
    assert found.unserved_per_s.sum() > 1.0


def test_the_price_of_unserved_demand_is_a_multiple_of_the_cheapest_rent(market: Callable[..., Market]) -> None:
    # 20 USD by the month for an accelerator that serves 5 requests/s; 12 in a longer contract.
    assert unserved_usd(market(), PRICE) == pytest.approx(np.full((1, 3), PRICE * 20.0 / 5.0))


@pytest.mark.parametrize("seed", range(12))
def test_the_decided_fleet_never_costs_less_than_the_cheapest(market: Callable[..., Market], seed: int) -> None:
    generator = np.random.default_rng(seed)
    whole = procure(market(), gap=0.0)
    plan = decided(whole, LEAD)
    given = market()
    drawn = replace(
        given,
        demand_per_s=given.demand_per_s * generator.uniform(0.4, 2.5),
        purchase_usd=given.purchase_usd * generator.uniform(0.7, 1.4),
        rent_usd=given.rent_usd * generator.uniform(0.5, 2.0),
        capacity_per_s=given.capacity_per_s * generator.uniform(0.5, 1.5, (2, 1, 1)),
    )
    best, ours = cheapest_fleet(drawn, PRICE), decided_fleet(drawn, plan, LEAD, PRICE)
    assert ours.net_present_cost_usd >= best.net_present_cost_usd - 1e-6 * abs(best.net_present_cost_usd)
    assert ours.fleet.bought == pytest.approx(delivered(plan, drawn, LEAD))


def test_the_decided_fleet_in_its_own_world_costs_no_more_than_planned(market: Callable[..., Market]) -> None:
    given = market()
    whole = procure(given, gap=0.0)
    ours = decided_fleet(given, decided(whole, LEAD), LEAD, PRICE)
    best = cheapest_fleet(given, PRICE)
    assert best.net_present_cost_usd - 1e-9 <= ours.net_present_cost_usd <= whole.net_present_cost_usd + 1e-9


def plan_of(ordered: list[list[int]]) -> Decided:
    return Decided(np.array(ordered), np.zeros((2, 2, 3), np.int64), LEAD)


def test_orders_come_as_much_later_or_earlier_as_lead_times_differ(market: Callable[..., Market]) -> None:
    given = market(purchase_limit=np.full((2, 3), 9))
    plan = plan_of([[1, 2, 3], [0, 4, 5]])
    assert delivered(plan, given, np.array([1, 1])).tolist() == [[0, 1, 2], [0, 4, 5]]
    assert delivered(plan, given, np.array([0, 0])).tolist() == [[1, 2, 3], [4, 5, 0]]
    assert delivered(plan, given, np.array([3, 1])).tolist() == [[0, 0, 0], [0, 4, 5]]


def test_what_a_month_cannot_supply_comes_in_the_next(market: Callable[..., Market]) -> None:
    given = market(purchase_limit=np.array([[2, 2, 2], [0, 0, 0]]))
    assert delivered(plan_of([[5, 0, 0], [1, 1, 1]]), given, LEAD).tolist() == [[2, 2, 1], [0, 0, 0]]


def test_contracts_that_were_signed_are_paid_and_used_whatever_the_world(market: Callable[..., Market]) -> None:
    contracts = np.zeros((2, 2, 3), np.int64)
    contracts[0, 1, 0] = 7
    plan = Decided(np.zeros((2, 3), np.int64), contracts, LEAD)
    ours = decided_fleet(market(demand_per_s=np.zeros((1, 3, 2))), plan, LEAD, PRICE)
    assert ours.fleet.rented[0].tolist() == [7.0, 7.0, 7.0]
    assert ours.fleet.money_usd["rent"] == pytest.approx([84.0, 84.0, 84.0])
