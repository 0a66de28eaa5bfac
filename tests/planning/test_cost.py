"""Owning, renting and API prices against worked examples, and what any price must obey."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.planning.cost import (
    HOURS_PER_YEAR,
    OwningTerms,
    api_usd,
    capital_recovery_factor,
    owned,
    owning_cost,
    owning_terms,
    passed_through,
    rent,
    rented_usd,
    yearly_capital_usd,
)
from sim.planning.token_cost import Load
from sim.planning.unit_cost import (
    DAYS_PER_MONTH,
    TokenCosts,
    request_usd,
    task_usd,
    token_costs,
    user_month_usd,
)
from sim.serving.capacity import request_mix
from sim.serving.deployment import deploy
from sim.serving.prefill_share import prefill_share_of_time
from sim.specs.economics import ApiModelSpec, EconomicsSpec
from sim.specs.hardware import PriceBasis
from sim.specs.library import Library, builtin_root
from sim.specs.resolved import load_scenario

LIBRARY = Library((builtin_root(),))
CALIBRATION = OwningTerms(
    cost_of_capital=0.08,
    life_years=5.0,
    residual=0.0,
    power_usage_effectiveness=1.2,
    usd_per_kilowatt_hour=0.0871,
    load_factor=0.8,
    usd_per_kilowatt_month=110.0,
    opex=0.02,
    spares=0.0,
)

rates = st.floats(0.0, 0.3)
lives = st.floats(1.0, 15.0)
money = st.floats(1.0, 1e6)
shares = st.floats(0.0, 1.0)


@pytest.fixture(scope="module")
def reference() -> EconomicsSpec:
    return LIBRARY.economics("reference").spec


# Owning


@pytest.mark.parametrize(
    ("rate", "life", "expected"), [(0.08, 5, 0.2505), (0.10, 5, 0.2638), (0.08, 4, 0.3019), (0.08, 6, 0.2163)]
)
def test_capital_recovery_factors_are_those_of_the_tables(rate: float, life: float, expected: float) -> None:
    assert capital_recovery_factor(rate, life) == pytest.approx(expected, abs=5.1e-5)


@given(rate=rates, life=st.integers(1, 15), purchase=money, residual=shares)
def test_payments_and_resale_are_worth_the_purchase(rate: float, life: int, purchase: float, residual: float) -> None:
    payment = yearly_capital_usd(purchase, rate, life, residual)
    discounted = sum(payment / (1 + rate) ** year for year in range(1, life + 1))
    assert discounted + residual * purchase / (1 + rate) ** life == pytest.approx(purchase, rel=1e-6)


@pytest.mark.parametrize(("rate", "life"), [(-0.01, 5.0), (0.08, 0.0), (0.08, -1.0)])
def test_rates_below_zero_and_lives_of_nothing_are_refused(rate: float, life: float) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        capital_recovery_factor(rate, life)


@pytest.mark.parametrize(
    ("purchase_usd", "it_power_w", "expected"),
    [
        (30_000.0, 1275.0, 1.23),
        (51_000.0, 1736.0, 1.98),
        (60_000.0, 1944.0, 2.31),
        (97_000.0, 2900.0, 3.67),
        (115_000.0, 2900.0, 4.23),
    ],
    ids=["H100", "GB200", "GB300", "VR", "VR street"],
)
def test_the_worked_examples_of_owning_cost_agree_to_the_cent(
    purchase_usd: float, it_power_w: float, expected: float
) -> None:
    assert owning_cost(purchase_usd, it_power_w, CALIBRATION).usd_per_hour == pytest.approx(expected, abs=0.0101)


@pytest.mark.parametrize(
    ("name", "published", "gap"),
    [("h100-sxm", 1.30, 0.06), ("gb200-nvl72", 1.84, 0.09), ("gb300-nvl72", 2.36, 0.035), ("vr200-nvl72", 3.57, 0.20)],
)
def test_library_profiles_come_near_published_owning_costs(name: str, published: float, gap: float) -> None:
    cost = owned(LIBRARY.hardware(name).spec, LIBRARY.economics("calibration").spec)
    assert cost is not None
    assert cost.usd_per_hour == pytest.approx(published, rel=gap)


def test_the_reference_holds_the_numbers_of_the_facts(shared: Path, reference: EconomicsSpec) -> None:
    facts = yaml.safe_load((shared / "facts" / "hardware.yaml").read_text(encoding="utf-8"))["economics"]["defaults"]
    terms = dataclasses.asdict(owning_terms(reference))
    for key, name in {
        "cost_of_capital": "wacc", "life_years": "life_years", "power_usage_effectiveness": "pue",
        "usd_per_kilowatt_hour": "usd_per_kwh", "usd_per_kilowatt_month": "facility_usd_per_kw_month",
        "opex": "opex_frac", "load_factor": "load_factor",
    }.items():  # fmt: skip
        assert terms[key] == pytest.approx(facts[name]["value"]), key


@given(purchase=money, power=st.floats(100.0, 5000.0), factor=st.floats(1.01, 10.0))
def test_owning_cost_scales_with_purchase_and_power_together_and_rises_with_each(
    purchase: float, power: float, factor: float
) -> None:
    once = owning_cost(purchase, power, CALIBRATION).usd_per_hour
    assert owning_cost(factor * purchase, factor * power, CALIBRATION).usd_per_hour == pytest.approx(factor * once)
    assert owning_cost(factor * purchase, power, CALIBRATION).usd_per_hour > once
    assert owning_cost(purchase, factor * power, CALIBRATION).usd_per_hour > once


@pytest.mark.parametrize("field", [each.name for each in dataclasses.fields(OwningTerms)])
def test_each_term_moves_the_cost_its_own_way(field: str) -> None:
    base = dataclasses.replace(CALIBRATION, residual=0.1, spares=0.02)
    raised = dataclasses.replace(base, **{field: 1.1 * getattr(base, field)})
    cheaper = field in ("life_years", "residual")
    before, after = (owning_cost(50_000.0, 2000.0, each).usd_per_hour for each in (base, raised))
    assert (after < before) if cheaper else (after > before)


def test_the_parts_of_owning_cost_are_each_what_the_formula_says() -> None:
    terms = dataclasses.replace(CALIBRATION, spares=0.05)
    cost = owning_cost(40_000.0, 2000.0, terms)
    assert cost.capital_usd_per_hour == pytest.approx(40_000.0 * 0.2504565 / HOURS_PER_YEAR, rel=1e-6)
    assert cost.spares_usd_per_hour == pytest.approx(0.05 * cost.capital_usd_per_hour)
    assert cost.opex_usd_per_hour == pytest.approx(40_000.0 * 1.05 * 0.02 / HOURS_PER_YEAR)
    assert cost.colocation_usd_per_hour == pytest.approx(2.0 * 110.0 * 12.0 / HOURS_PER_YEAR)
    assert cost.electricity_usd_per_hour == pytest.approx(2.0 * 0.8 * 1.2 * 0.0871)
    assert "usd_per_hour" in cost._repr_html_()


def test_the_ends_of_the_ranges_enclose_the_value(reference: EconomicsSpec) -> None:
    hardware = LIBRARY.hardware("vr200-nvl72").spec
    low, value, high = (owned(hardware, reference, end) for end in ("low", "value", "high"))
    assert low is not None
    assert value is not None
    assert high is not None
    assert low.usd_per_hour < value.usd_per_hour < high.usd_per_hour


def test_a_long_life_and_a_high_resale_stand_at_the_cheap_end(reference: EconomicsSpec) -> None:
    cheap, dear = owning_terms(reference, "low"), owning_terms(reference, "high")
    assert (cheap.life_years, cheap.residual, cheap.opex) == pytest.approx((6.0, 0.2, 0.02))
    assert (dear.life_years, dear.residual, dear.opex) == pytest.approx((4.0, 0.0, 0.08))


def test_a_profile_without_purchase_price_has_no_owning_cost(reference: EconomicsSpec) -> None:
    assert owned(LIBRARY.hardware("mi300x").spec, reference) is None


def test_a_chip_priced_alone_gets_its_host_and_network(reference: EconomicsSpec) -> None:
    hardware = LIBRARY.hardware("h100-sxm").spec
    alone = reference.hardware["h100-sxm"].model_copy(update={"chip_alone": True})
    changed = reference.model_copy(update={"hardware": {"h100-sxm": alone}})
    before, after = owned(hardware, reference), owned(hardware, changed)
    assert before is not None
    assert after is not None
    assert after.capital_usd_per_hour == pytest.approx(1.3 * before.capital_usd_per_hour)
    assert after.electricity_usd_per_hour == before.electricity_usd_per_hour


@pytest.mark.parametrize("name", list(LIBRARY.names("economics")))
def test_every_particular_belongs_to_a_hardware_profile_and_every_open_model_to_a_model(name: str) -> None:
    economics = LIBRARY.economics(name).spec
    assert set(economics.hardware) <= set(LIBRARY.names("hardware"))
    assert {each.serves for each in economics.api.values() if each.serves} <= set(LIBRARY.names("model"))


# Rent and API


def test_the_first_known_terms_are_taken_and_never_mixed() -> None:
    hardware = LIBRARY.hardware("h100-sxm").spec
    assert rent(hardware, [PriceBasis.CAPACITY_BLOCK, PriceBasis.SPOT]) == (2.46, PriceBasis.SPOT)
    assert rent(hardware, [PriceBasis.SPOT], "low") == (1.63, PriceBasis.SPOT)
    assert rent(hardware, [PriceBasis.CAPACITY_BLOCK]) is None


def test_a_reservation_is_paid_used_or_not_and_overflow_on_demand() -> None:
    assert rented_usd(50.0, 100.0, 2.0, 4.0) == 200.0
    assert rented_usd(130.0, 100.0, 2.0, 4.0) == 200.0 + 30.0 * 4.0


def test_an_api_charges_by_the_million_and_cached_tokens_at_their_own_price(reference: EconomicsSpec) -> None:
    price = reference.api["mistral-small-4"].prices[0]
    assert api_usd(price, 1e6, 1e6) == pytest.approx(0.15 + 0.60)
    cached = price.model_copy(update={"cached_input": price.input.model_copy(update={"value": 0.05})})
    assert api_usd(cached, 1e6, 0.0, 4e5) == pytest.approx(0.6 * 0.15 + 0.4 * 0.05)
    with pytest.raises(ValueError, match="cached"):
        api_usd(price, 10.0, 1.0, 11.0)


def test_the_price_of_a_day_is_the_last_one_before_it(reference: EconomicsSpec) -> None:
    model = reference.api["deepseek-v4-pro"]
    dates = [
        datetime.date(2025, 12, 31),
        datetime.date(2026, 6, 1),
        datetime.date(2026, 6, 2),
        datetime.date(2027, 1, 1),
    ]
    found = [model.on(day) for day in dates]
    assert [each.input.value if each else None for each in found] == [None, 1.74, 0.435, 1.32]


def test_prices_out_of_order_are_refused(reference: EconomicsSpec) -> None:
    first, second = reference.api["o3"].prices
    with pytest.raises(ValueError, match="in order"):
        ApiModelSpec(prices=(second, first))
    with pytest.raises(ValueError, match="in order"):
        ApiModelSpec(prices=(first, first))


@given(price=money, then=st.floats(0.1, 10.0), now=st.floats(0.1, 10.0), share=shares)
def test_what_is_passed_through_lies_between_nothing_and_all(
    price: float, then: float, now: float, share: float
) -> None:
    assert passed_through(price, then, now, 0.0) == price
    assert passed_through(price, then, now, 1.0) == pytest.approx(price * now / then)
    ends = sorted([price, price * now / then])
    assert ends[0] * (1 - 1e-9) <= passed_through(price, then, now, share) <= ends[1] * (1 + 1e-9)


def test_a_provider_without_cost_has_nothing_to_pass_through() -> None:
    with pytest.raises(ValueError, match="exceed 0"):
        passed_through(1.0, 0.0, 1.0, 0.5)


# Tokens


@given(cost=money, prompt=st.floats(1.0, 1e6), output=st.floats(1.0, 1e6), share=shares, used=shares)
def test_money_in_is_money_out(cost: float, prompt: float, output: float, share: float, used: float) -> None:
    costs = token_costs(cost, prompt, output, share, used)
    assert request_usd(costs, 3600.0 * prompt, 3600.0 * output) == pytest.approx(cost)
    assert costs.usd_per_million_tokens * 3600.0 * (prompt + output) / 1e6 == pytest.approx(cost)
    assert costs.stranded_usd_per_hour == pytest.approx((1.0 - used) * cost)
    stranded = costs.stranded_usd_per_million_tokens * 3600.0 * (prompt + output) / 1e6
    assert stranded == pytest.approx(costs.stranded_usd_per_hour, abs=1e-9 * cost)


@pytest.mark.parametrize(
    ("tokens", "share", "used"),
    [((0.0, 1.0), 0.5, 0.5), ((1.0, 0.0), 0.5, 0.5), ((1.0, 1.0), 1.1, 0.5), ((1.0, 1.0), 0.5, -0.1)],
)
def test_costs_of_no_tokens_and_shares_of_more_than_all_are_refused(
    tokens: tuple[float, float], share: float, used: float
) -> None:
    with pytest.raises(ValueError, match=r"no tokens|\[0, 1\]"):
        token_costs(10.0, *tokens, share, used)


def test_tasks_and_users_pay_for_the_sum_of_their_requests() -> None:
    costs = TokenCosts(2.0, 10.0, 3.0, 100.0, 20.0, 0.5)
    assert request_usd(costs, 1000.0, 100.0) == pytest.approx(0.002 + 0.001)
    calls = [(1000.0, 100.0), (2000.0, 50.0)]
    assert task_usd(costs, calls) == pytest.approx(0.003 + 0.0045)
    assert user_month_usd(costs, 4.0, 1000.0, 100.0, active_days=20.0) == pytest.approx(20 * 4 * 0.003)
    assert user_month_usd(costs, 1.0, 1000.0, 100.0) == pytest.approx(DAYS_PER_MONTH * 0.003)
    assert "stranded_usd_per_million_tokens" in costs._repr_html_()
    assert Load(1.0, 2.0, 0.0, 3.0).requests_per_s == 1.0


@pytest.fixture(scope="module")
def deployment() -> Any:
    return deploy(load_scenario("quickstart").variants()[0])[0]


def test_prompts_bear_more_of_the_cost_the_longer_they_are_and_cached_ones_less(deployment: Any) -> None:
    prompts = (10, 100, 1000, 10_000, 100_000)
    found = [prefill_share_of_time(deployment, request_mix([each], [0], [200]), 32.0) for each in prompts]
    assert 0.0 < found[0] < 0.1
    assert 0.8 < found[-1] < 1.0
    assert all(earlier < later for earlier, later in itertools.pairwise(found))
    cached = prefill_share_of_time(deployment, request_mix([10_000], [9_000], [200]), 32.0)
    assert cached < prefill_share_of_time(deployment, request_mix([10_000], [0], [200]), 32.0)


def test_the_share_is_that_of_the_step_written_out(deployment: Any) -> None:
    mix, running = request_mix([1000], [0], [100]), 40.0
    times = deployment.step_time
    shared = times.linear_s[440]
    prompt = shared * 400 / 440 + 0.4 * mix.pairs * times.pair_s
    answer = shared * 40 / 440 + times.sequence_s[40] + 40 * mix.context * times.context_s
    assert prefill_share_of_time(deployment, mix, running) == pytest.approx(prompt / (prompt + answer))
