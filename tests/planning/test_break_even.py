"""Own replicas against an API, checked against brute force over volumes."""

from __future__ import annotations

import datetime
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sim.planning.break_even import (
    BreakEven,
    SelfHosting,
    api_price,
    break_even,
    break_even_by_month,
    cost_by_volume,
    hosting_of,
)
from sim.planning.cost import api_usd
from sim.planning.sizing_result import Sizing
from sim.planning.token_cost import Load
from sim.specs.errors import InputError
from sim.specs.library import Library, builtin_root
from sim.specs.resolved import load_scenario

ECONOMICS = Library((builtin_root(),)).economics("reference").spec

hostings = st.builds(
    SelfHosting,
    capacity_per_s=st.floats(0.1, 50.0),
    usd_per_replica_hour=st.floats(0.1, 100.0),
    fixed_usd_per_hour=st.just(0.0) | st.floats(0.1, 200.0),
    least_replicas=st.integers(1, 4),
    mean_over_peak=st.floats(0.2, 1.0),
)


def own_is_cheaper(hosting: SelfHosting, volume: float, charge: float, tolerance: float) -> bool:
    return hosting.usd_per_hour(volume) <= volume * charge * 3600.0 * (1.0 + tolerance)


@given(hosting=hostings, charge=st.floats(1e-4, 1e-1))
def test_break_even_is_where_brute_force_finds_it(hosting: SelfHosting, charge: float) -> None:
    found = break_even(hosting, charge)
    unit = hosting.mean_capacity_per_s
    if not found.ever:
        assert found.utilisation >= 1.0 - 1e-9
        assert not any(own_is_cheaper(hosting, each * unit, charge, -1e-9) for each in np.linspace(0.01, 50.0, 2000))
        return
    assume(found.always_per_s < 1e4 * unit)
    assert own_is_cheaper(hosting, found.first_per_s * (1 + 1e-9), charge, 1e-6)
    below = found.first_per_s * np.linspace(0.001, 0.999, 200)
    assert not any(own_is_cheaper(hosting, float(each), charge, -1e-9) for each in below)
    above = found.always_per_s * np.linspace(1.0 + 1e-9, 5.0, 400)
    assert all(own_is_cheaper(hosting, float(each), charge, 1e-6) for each in above)
    assert found.first_per_s <= found.always_per_s * (1 + 1e-12)


@given(hosting=hostings, margin=st.floats(1.02, 1.5))
def test_just_below_always_the_api_is_cheaper_once_more(hosting: SelfHosting, margin: float) -> None:
    charge = margin * hosting.usd_per_replica_hour / hosting.mean_capacity_per_s / 3600.0
    found = break_even(hosting, charge)
    assume(found.first_per_s < found.always_per_s * 0.999)
    filled = (math.ceil(found.always_per_s / hosting.mean_capacity_per_s) - 1) * hosting.mean_capacity_per_s
    assume(found.always_per_s - filled > 1e-6 * filled)
    assert not own_is_cheaper(hosting, 0.5 * (filled + found.always_per_s), charge, -1e-12)


@given(hosting=hostings, charge=st.floats(1e-4, 1e-1), factor=st.floats(1.0, 5.0))
def test_a_dearer_api_never_puts_off_the_day_on_which_own_replicas_pay(
    hosting: SelfHosting, charge: float, factor: float
) -> None:
    cheap, dear = break_even(hosting, charge), break_even(hosting, factor * charge)
    assert dear.utilisation <= cheap.utilisation
    assert dear.first_per_s <= cheap.first_per_s * (1 + 1e-9)
    assert dear.always_per_s <= cheap.always_per_s * (1 + 1e-9)


def test_the_break_even_use_of_capacity_is_cost_over_what_an_api_would_charge_for_it() -> None:
    found = break_even(SelfHosting(10.0, 18.0), 0.001)
    assert found == BreakEven(utilisation=0.5, first_per_s=5.0, always_per_s=5.0)
    assert break_even(SelfHosting(10.0, 18.0, mean_over_peak=0.5), 0.001).utilisation == 1.0
    assert break_even(SelfHosting(10.0, 40.0), 0.001) == BreakEven(40.0 / 36.0, math.inf, math.inf)


def test_a_free_api_is_never_beaten() -> None:
    assert not break_even(SelfHosting(10.0, 1.0), 0.0).ever


@pytest.mark.parametrize(
    "wrong", [{"capacity_per_s": 0.0}, {"mean_over_peak": 0.0}, {"mean_over_peak": 1.1}, {"least_replicas": 0}]
)
def test_hosting_without_meaning_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="capacity must exceed 0"):
        SelfHosting(**{"capacity_per_s": 1.0, "usd_per_replica_hour": 1.0, **wrong})  # type: ignore[arg-type]


def test_costs_by_volume_step_with_replicas_and_use_is_at_most_the_mean_over_the_peak() -> None:
    hosting = SelfHosting(10.0, 18.0, fixed_usd_per_hour=2.0, least_replicas=2, mean_over_peak=0.5)
    table = cost_by_volume(hosting, 0.001, [1.0, 10.0, 10.1, 50.0])
    assert table["replicas"].tolist() == [2, 2, 3, 10]
    assert table["self_host_usd_per_hour"].tolist() == [38.0, 38.0, 56.0, 182.0]
    assert table["api_usd_per_hour"].tolist() == pytest.approx([3.6, 36.0, 36.36, 180.0])
    assert (table["utilisation"] <= 0.5).all()
    assert table["self_host_usd_per_request"].iloc[1] == pytest.approx(38.0 / 36_000.0)


def test_by_month_the_price_of_the_month_counts_and_months_before_the_first_are_left_out() -> None:
    months = [
        datetime.date(2025, 12, 1),
        datetime.date(2026, 5, 1),
        datetime.date(2026, 7, 1),
        datetime.date(2026, 10, 1),
    ]
    load = Load(1.0, 2000.0, 0.0, 500.0)
    model = ECONOMICS.api["deepseek-v4-pro"]
    table = break_even_by_month(model, months, lambda month: SelfHosting(10.0, 20.0), load)
    assert [each.date() for each in table["month"]] == months[1:]
    assert table["api_usd_per_request"].tolist() == [api_usd(price, 2000.0, 500.0) for price in model.prices]
    order = np.argsort(table["api_usd_per_request"].to_numpy())
    assert (np.diff(table["utilisation"].to_numpy()[order]) < 0.0).all()


def test_an_unknown_model_and_a_day_without_price_are_bad_input() -> None:
    assert api_price(ECONOMICS, "gpt-5.5", datetime.date(2026, 5, 1)).input.value == 5.0
    with pytest.raises(InputError, match="no API price of this model"):
        api_price(ECONOMICS, "gpt-55", datetime.date(2026, 5, 1))
    with pytest.raises(InputError, match="no API price on this day"):
        api_price(ECONOMICS, "gpt-5.5", datetime.date(2026, 1, 1))


def test_an_infeasible_sizing_hosts_nothing() -> None:
    scenario = load_scenario("quickstart").variants()[0]
    with pytest.raises(ValueError, match="feasible"):
        hosting_of(Sizing.infeasible(scenario, "serving", "h100-sxm", "because"))
