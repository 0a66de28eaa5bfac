import pandas as pd
import pytest

from sim.planning.back_test import back_test, typical_factor
from sim.planning.horizon import load_horizon
from sim.planning.viability import NEVER, first_months, holds_from


def rows(values: list[float], path: str = "base") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": "agents",
            "price_path": path,
            "period": [f"2027-{number + 1:02d}" for number in range(len(values))],
            "usd_per_unit": values,
            "own_usd_per_unit": values,
            "api_usd_per_unit": [0.03] * len(values),
        }
    )


@pytest.mark.parametrize(
    ("flags", "month"),
    [
        ([True, True, True], "2027-01"),
        ([False, True, True], "2027-02"),
        ([True, False, True], "2027-03"),
        ([True, True, False], NEVER),
    ],
)
def test_it_pays_from_the_month_after_which_it_always_does(flags: list[bool], month: str) -> None:
    assert holds_from(rows([1.0] * 3), pd.Series(flags)) == month


def test_dearer_cost_and_lower_ceiling_never_pay_earlier() -> None:
    horizon = load_horizon("enterprise-2027")
    falling = [0.06, 0.05, 0.04, 0.035, 0.029, 0.024, 0.02, 0.014]
    every = pd.concat(
        [rows(falling), rows([0.8 * x for x in falling], "low"), rows([1.3 * x for x in falling], "high")]
    )
    found = first_months(every, horizon).set_index("class").loc["agents"]
    assert found["first_month"] == "2027-05"
    assert found["at_low_prices"] == "2027-04"
    assert found["at_high_prices"] == "2027-07"
    assert found["cost_20_higher"] == "2027-06"
    assert found["cost_20_lower"] == "2027-04"
    assert found["at_low_ceiling"] == "2027-08"
    assert found["at_high_ceiling"] == "2027-01"
    assert found["self_host_cheaper_from"] == "2027-05"


def test_the_back_test_projects_each_record_from_the_one_before() -> None:
    """At the rates that could have been expected then, those of no later day."""
    horizon = load_horizon("enterprise-2027")
    found = back_test(horizon)
    assert len(found) == len(horizon.spec.records) - len(horizon.spec.series)
    one_year = found[found["series"] == "h100-one-year"].iloc[0]
    years = 151 / 365.25
    assert one_year["known"] == 1.70
    assert one_year["recorded"] == 2.35
    assert one_year["base"] == pytest.approx(1.70 * 0.7**years)
    assert one_year["low"] == pytest.approx(1.70 * 0.4**years)
    assert one_year["factor"] == pytest.approx(2.35 / one_year["base"])
    assert one_year["verdict"] == "outside"
    assert one_year["rates"] == "expected then"
    owning = found[found["series"] == "gb200-owning"].iloc[0]
    assert (owning["verdict"], owning["rates"]) == ("not comparable", "of the horizon")
    assert (found["low"] <= found["base"] + 1e-12).all()
    assert (found["base"] <= found["high"] + 1e-12).all()


def test_ranges_that_meet_are_inside() -> None:
    found = back_test(load_horizon("enterprise-2027")).set_index("series")
    demand = found.loc["h100-on-demand"]
    assert demand["recorded_low"] <= demand["high"] < demand["recorded"]
    assert demand["verdict"] == "inside"


def test_misses_are_published_and_have_a_reason() -> None:
    found = back_test(load_horizon("enterprise-2027"))
    missed = found[found["verdict"] == "outside"]
    assert len(missed) == 7
    assert missed["note"].str.startswith("A genuine miss").all()
    assert 2.0 < typical_factor(found) < 4.0
