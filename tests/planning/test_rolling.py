from collections.abc import Callable

import numpy as np
import pytest

from sim.planning.procurement import procure
from sim.planning.program import Market
from sim.planning.rolling import roll, until

Maker = Callable[..., Market]
LEAD = np.array([0, 1])


def test_who_sees_everything_pays_the_optimum(market: Maker) -> None:
    given = market(api_usd=np.full((1, 3, 2), 40.0))
    best = procure(given, gap=0.0)
    found = roll(given, LEAD, 3, 0.8, gap=0.0, nodes=1000)
    assert found.feasible
    assert found.net_present_cost_usd == pytest.approx(best.net_present_cost_usd, rel=1e-9)


@pytest.mark.parametrize("foresight", [1, 2])
def test_who_sees_less_never_pays_less_and_conserves_stocks(market: Maker, foresight: int) -> None:
    given = market(api_usd=np.full((1, 3, 2), 40.0), systems_at_start=np.array([1, 0]))
    best = procure(given, gap=0.0)
    found = roll(given, LEAD, foresight, 0.8, gap=0.0, nodes=1000)
    assert found.net_present_cost_usd >= best.net_present_cost_usd - 1e-9
    before = given.systems_at_start
    for month in range(3):
        after = before + found.bought[:, month] - found.retired[:, month]
        np.testing.assert_array_equal(after, found.owned[:, month])
        used = (found.replicas[:, :, month] * given.replica_accelerators).sum(axis=1)
        assert (used <= after * given.system_accelerators + found.rented[:, month]).all()
        before = after
    assert (found.bought <= given.purchase_limit).all()


def test_nothing_is_ordered_whose_delivery_nobody_sees(market: Maker) -> None:
    found = roll(market(api_usd=np.full((1, 3, 2), 400.0)), np.array([1, 2]), 1, 0.8, gap=0.0, nodes=1000)
    assert found.bought.sum() == 0


def test_a_surprise_costs_regret(market: Maker) -> None:
    """The API is free from the second month on, and a used system fetches a tenth: who does not see it buys."""
    api = np.zeros((1, 3, 2))
    api[:, 0] = 20.0
    given = market(
        api_usd=api,
        rent_usd=np.full((2, 2, 3), 900.0),
        purchase_limit=np.array([[9, 9, 9], [0, 0, 0]]),
        resale_usd=np.broadcast_to(np.array([100.0, 9.0, 0.0, 0.0]), (2, 4, 4)).copy(),
    )
    best = procure(given, gap=0.0)
    blind = roll(given, np.array([0, 0]), 1, 0.1, gap=0.0, nodes=1000)
    assert best.bought[:, 0].sum() == 0 < blind.bought[:, 0].sum()
    assert blind.net_present_cost_usd > 1.05 * best.net_present_cost_usd


def test_a_shorter_market_is_the_beginning_of_the_whole(market: Maker) -> None:
    given = market()
    short = until(given, 2, 0.8)
    assert short.demand_per_s.shape == (1, 2, 2)
    assert short.resale_usd.shape == (2, 3, 3)
    np.testing.assert_allclose(short.resale_usd[:, :, 2] * 0.8, given.resale_usd[:, :3, 2])
    assert len(short.discount) == 3
    assert until(given, 3, 0.8) is given


def test_what_cannot_be_served_is_infeasible(market: Maker) -> None:
    given = market(
        api_usd=np.full((1, 3, 2), np.nan),
        purchase_limit=np.zeros((2, 3), np.int64),
        rent_limit=np.zeros((2, 3)),
    )
    found = roll(given, LEAD, 2, 0.8)
    assert not found.feasible
    assert "month 1" in found.reason
