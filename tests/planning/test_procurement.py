import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from sim.planning.procurement import Procurement, priced, procure, shortfall, solve
from sim.planning.program import Market, build

Maker = Callable[..., Market]


def exact(market: Market) -> Procurement:
    return procure(market, gap=0.0)


def brute_force(market: Market) -> float:
    """Cost of the best of all fleets of one accelerator without resale, by enumeration."""
    months = market.demand_per_s.shape[1]
    best = np.inf
    bought_ranges = [range(int(each) + 1) for each in market.purchase_limit[0]]
    rent_ranges = [range(int(market.rent_limit[0, 0]) + 1)] * (2 * months)
    retire = np.zeros((1, months + 1, months), np.int64)
    how = {"reason": "", "gap": 0.0, "solve_s": 0.0}
    for bought in itertools.product(*bought_ranges):
        for rents in itertools.product(*rent_ranges):
            started = np.array(rents, np.int64).reshape(1, 2, months)
            owned = market.systems_at_start[0] + np.cumsum(bought)
            active = [started[0, 0, t] + started[0, 1, max(0, t - 2) : t + 1].sum() for t in range(months)]
            if any(active[t] > market.rent_limit[0, t] for t in range(months)):
                continue
            if (market.power_w[0] * owned > market.site_power_w).any():
                continue
            replicas = owned + np.array(active)
            served = replicas * market.capacity_per_s[0, 0]
            api = np.maximum(0.0, market.demand_per_s - served[None, :, None])
            answer = priced(market, np.array([bought]), retire, started, replicas.reshape(1, 1, months), api, how)
            out = sum(answer.money_usd[kind] for kind in ("purchase", "running", "rent", "api"))
            if out.sum() > market.budget_usd[0]:
                continue
            best = min(best, answer.net_present_cost_usd)
    return float(best)


def one_accelerator(market: Market) -> Market:
    """The first accelerator alone, which is worth nothing once used, so that nothing is ever sold."""
    kept = {
        name: getattr(market, name)[:1]
        for name in (
            "capacity_per_s", "replica_accelerators", "system_accelerators", "systems_at_start", "purchase_usd",
            "purchase_limit", "running_usd", "rent_usd", "rent_unit", "rent_limit", "rent_tail_usd", "power_w",
        )
    }  # fmt: skip
    return replace(market, accelerators=market.accelerators[:1], resale_usd=market.resale_usd[:1] * 0.0, **kept)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"api_usd": np.full((1, 3, 2), 40.0)},
        {"purchase_usd": np.full((2, 3), 30.0), "api_usd": np.full((1, 3, 2), 40.0)},
        {"purchase_usd": np.full((2, 3), 30.0), "site_power_w": np.array([1.0, 1.0, 2.0])},
        {"purchase_usd": np.full((2, 3), 30.0), "budget_usd": np.array([150.0])},
        {"rent_usd": np.full((2, 2, 3), 6.0), "rent_tail_usd": np.full((2, 2, 3), 2.5)},
        {"systems_at_start": np.array([1, 0]), "demand_per_s": np.array([[[3.0, 1.0], [3.0, 3.0], [7.0, 1.0]]])},
    ],
)
def test_optimum_equals_brute_force(market: Maker, changes: dict[str, object]) -> None:
    small = one_accelerator(market(**({"rent_limit": np.ones((2, 3))} | changes)))
    answer = exact(small)
    assert answer.feasible
    assert answer.retired.sum() == 0
    assert answer.net_present_cost_usd == pytest.approx(brute_force(small), rel=1e-9)


def test_the_objective_in_matrices_is_the_money_added_up_month_by_month(market: Maker) -> None:
    given = market(systems_at_start=np.array([2, 1]), api_usd=np.full((1, 3, 2), 30.0))
    program = build(given)
    answer = solve(program, program.cost, 0.0)
    rng = np.random.default_rng(3)
    for _ in range(20):
        bought = rng.integers(0, 3, answer.bought.shape)
        left = np.concatenate([given.systems_at_start[:, None], bought], axis=1)
        retired = np.zeros((2, 4, 3), np.int64)
        for chip, delivery, month in itertools.product(range(2), range(4), range(3)):
            if month >= delivery:
                retired[chip, delivery, month] = rng.integers(0, left[chip, delivery] + 1)
                left[chip, delivery] -= retired[chip, delivery, month]
        rents = rng.integers(0, 3, answer.rent_started.shape)
        api = rng.random(answer.api_per_s.shape)
        added = priced(given, bought, retired, rents, answer.replicas, api, {"reason": "", "gap": 0, "solve_s": 0})
        x = np.zeros_like(program.cost)
        for name, value in (("buy", bought), ("retire", retired), ("rent", rents), ("api", api)):
            x[program.index[name]] = value
        nothing = priced(
            given, bought * 0, retired * 0, rents * 0, answer.replicas, api * 0, {"reason": "", "gap": 0, "solve_s": 0}
        )
        assert added.net_present_cost_usd == pytest.approx(program.cost @ x + nothing.net_present_cost_usd, rel=1e-9)


def test_stocks_and_money_are_conserved_month_by_month(market: Maker) -> None:
    given = market(
        systems_at_start=np.array([3, 0]),
        demand_per_s=np.array([[[9.0, 2.0], [4.0, 3.0], [12.0, 4.0]]]),
        api_usd=np.full((1, 3, 2), 60.0),
    )
    answer = exact(given)
    before = given.systems_at_start
    for month in range(3):
        after = before + answer.bought[:, month] - answer.retired[:, month]
        np.testing.assert_array_equal(after, answer.owned[:, month])
        used = (answer.replicas[:, :, month] * given.replica_accelerators).sum(axis=1)
        have = after * given.system_accelerators + answer.rented[:, month]
        assert (used <= have).all()
        before = after
    served = np.einsum("hst,hst->st", given.capacity_per_s, answer.replicas.astype(float))[:, :, None]
    assert (served + answer.api_per_s >= given.demand_per_s - 1e-6).all()
    money = answer.money_usd
    out = money["purchase"] + money["running"] + money["rent"] + money["api"] - money["resale"]
    total = out @ given.discount[:3] - answer.end_usd * given.discount[3]
    assert answer.net_present_cost_usd == pytest.approx(total, rel=1e-12)


def test_a_minimum_term_is_paid_to_its_end(market: Maker) -> None:
    """One month of need: the three-month contract is cheaper by the month and dearer in sum."""
    given = one_accelerator(
        market(demand_per_s=np.array([[[2.0, 2.0], [0.0, 0.0], [0.0, 0.0]]]), api_usd=np.full((1, 3, 2), np.nan))
    )
    answer = exact(replace(given, purchase_limit=np.zeros((1, 3), np.int64)))
    assert answer.rent_started[0, 0].tolist() == [1, 0, 0]
    assert answer.rent_started[0, 1].sum() == 0
    assert answer.net_present_cost_usd == pytest.approx(20.0)


def test_a_contract_that_runs_past_the_end_is_charged_for_it(market: Maker) -> None:
    given = one_accelerator(market(api_usd=np.full((1, 3, 2), np.nan), purchase_limit=np.full((2, 3), 9)))
    free = exact(replace(given, rent_limit=np.full((1, 3), 9.0)))
    dear = exact(replace(given, rent_limit=np.full((1, 3), 9.0), rent_tail_usd=np.full((1, 2, 3), 100.0)))
    assert free.rent_started.sum() > 0
    assert dear.net_present_cost_usd > free.net_present_cost_usd


def test_a_dearer_price_never_lowers_cost_and_more_supply_never_raises_it(market: Maker) -> None:
    given = market(api_usd=np.full((1, 3, 2), 25.0))
    cost = exact(given).net_present_cost_usd
    for name in ("purchase_usd", "running_usd", "rent_usd", "api_usd"):
        dearer = replace(given, **{name: getattr(given, name) * 1.3})
        assert exact(dearer).net_present_cost_usd >= cost - 1e-9
    for name in ("purchase_limit", "rent_limit"):
        more = replace(given, **{name: getattr(given, name) * 2})
        assert exact(more).net_present_cost_usd <= cost + 1e-9
    tight = replace(given, site_power_w=np.full(3, 1.0))
    assert exact(tight).net_present_cost_usd >= cost - 1e-9


def test_what_is_no_longer_needed_is_sold_when_that_pays(market: Maker) -> None:
    given = market(
        systems_at_start=np.array([3, 0]),
        demand_per_s=np.array([[[6.0, 6.0], [2.0, 2.0], [2.0, 2.0]]]),
        running_usd=np.full((2, 3), 30.0),
    )
    answer = exact(given)
    assert answer.retired[0].sum() >= 2
    assert answer.money_usd["resale"].sum() > 0.0


def test_without_any_way_to_serve_it_says_so_and_how_much_is_missing(market: Maker) -> None:
    given = market(
        api_usd=np.full((1, 3, 2), np.nan),
        purchase_limit=np.zeros((2, 3), np.int64),
        rent_limit=np.array([[1.0] * 3, [0.0] * 3]),
    )
    answer = exact(given)
    assert not answer.feasible
    assert "no fleet" in answer.reason
    np.testing.assert_allclose(shortfall(given), given.demand_per_s - np.minimum(given.demand_per_s, 2.0), atol=1e-6)
