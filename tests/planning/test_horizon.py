import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.planning.horizon import Horizon, load_horizon
from sim.planning.months import change_factor, later, months_apart, months_between
from sim.planning.terms import available_from, hardware_on_offer, owning, rent_usd_per_hour
from sim.planning.usage import hour_groups, model_shares, speed
from sim.specs.errors import InputError
from sim.specs.paths import ChangeSpec

day = datetime.date


@pytest.fixture(scope="module")
def horizon() -> Horizon:
    return load_horizon("enterprise-2027")


def change(since: day, yearly: float, low: float | None = None, high: float | None = None) -> ChangeSpec:
    number: dict[str, Any] = {"value": yearly, "source": ["assumption"], "confidence": "assumption"}
    return ChangeSpec.model_validate({"since": since, "yearly": number | {"low": low, "high": high}})


@pytest.mark.parametrize("name", ["enterprise-2027", "provider-2027", "article-2026"])
def test_built_in_horizons_are_in_order(name: str) -> None:
    found = load_horizon(name)
    assert found.spec.end == day(2027, 12, 1)
    assert found.spec.start == day(2025, 1, 1)
    assert found.planned[-1] == found.months[-1]


def test_months() -> None:
    found = months_between(day(2025, 11, 1), day(2026, 2, 1))
    assert found == (day(2025, 11, 1), day(2025, 12, 1), day(2026, 1, 1), day(2026, 2, 1))
    assert later(day(2025, 11, 1), 14) == day(2027, 1, 1)
    assert months_apart(day(2025, 11, 30), day(2027, 1, 1)) == 14


def test_a_change_compounds_from_its_day_on_and_pieces_multiply() -> None:
    changes = (change(day(2026, 1, 1), 0.5), change(day(2027, 1, 1), -0.5))
    assert change_factor(changes, day(2020, 1, 1), day(2026, 1, 1)) == 1.0
    assert change_factor(changes, day(2026, 1, 1), day(2027, 1, 1)) == pytest.approx(1.5 ** (365 / 365.25))
    whole = change_factor(changes, day(2025, 6, 1), day(2027, 7, 1))
    parts = change_factor(changes, day(2025, 6, 1), day(2026, 9, 1)) * change_factor(
        changes, day(2026, 9, 1), day(2027, 7, 1)
    )
    assert whole == pytest.approx(parts, rel=1e-12)
    assert change_factor(changes, day(2027, 1, 1), day(2026, 1, 1)) == 1.0


def test_price_paths_take_the_ends_of_the_ranges() -> None:
    changes = (change(day(2026, 1, 1), 0.0, -0.3, 0.1),)
    low, base, high = (
        change_factor(changes, day(2026, 1, 1), day(2027, 1, 1), each) for each in ("low", "base", "high")
    )
    assert low < base < high
    assert base == 1.0
    assert low == pytest.approx(0.7 ** (365 / 365.25))


def test_the_representative_hours_hold_the_whole_day(horizon: Horizon) -> None:
    for case in horizon.spec.use_cases:
        groups = hour_groups(horizon, case)
        assert sum(group.hours_per_day for group in groups) == 24
        assert sum(group.hours_per_day * group.mean for group in groups) == pytest.approx(24.0)
        assert all(group.highest >= group.mean - 1e-12 for group in groups)


def test_hardware_comes_when_it_is_available(horizon: Horizon) -> None:
    since = available_from(horizon, "vr200-nvl72")
    assert since == day(2026, 8, 26)
    assert "vr200-nvl72" not in hardware_on_offer(horizon, day(2026, 7, 1), horizon.levers)
    assert "vr200-nvl72" in hardware_on_offer(horizon, day(2026, 8, 1), horizon.levers)
    assert hardware_on_offer(horizon, day(2027, 1, 1), frozenset()) == ("h100-sxm",)
    assert rent_usd_per_hour(horizon, "vr200-nvl72", "three-year", day(2026, 7, 1), "base") is None


def test_shares_sum_to_one_and_go_over_in_time(horizon: Horizon) -> None:
    for month in horizon.months:
        shares = model_shares(horizon, "documents", month, horizon.levers)
        assert sum(shares.values()) == pytest.approx(1.0)
    assert model_shares(horizon, "documents", day(2026, 2, 1), horizon.levers) == {"dense": 1.0}
    assert model_shares(horizon, "documents", day(2026, 10, 1), horizon.levers) == {"moe": 1.0}
    assert model_shares(horizon, "documents", day(2026, 10, 1), frozenset()) == {"dense": 1.0}


def test_levers_hold_software_back(horizon: Horizon) -> None:
    month = day(2027, 12, 1)
    assert speed(horizon, month, frozenset()) == pytest.approx(0.57)
    assert speed(horizon, month, frozenset({"software"})) == pytest.approx(1.25)
    assert speed(horizon, month, frozenset({"software", "speculative_decoding"})) == pytest.approx(1.5)


def test_owning_adds_up(horizon: Horizon) -> None:
    """Annuity of the purchase and running cost are the total; power at the meter contains cooling."""
    found = owning(horizon, "h100-sxm", day(2026, 11, 1), "base")
    assert found is not None
    rate, years = horizon.economics.cost_of_capital.value, 5.0
    annuity = rate / (1.0 - (1.0 + rate) ** -years) / 8760.0
    assert found.total_usd_per_hour == pytest.approx(
        found.purchase_usd * annuity + found.running_usd_per_hour, rel=1e-9
    )
    assert found.purchase_usd == pytest.approx(30_000.0, rel=1e-9)
    assert found.provisioned_w == pytest.approx(1275.0, rel=1e-9)
    assert found.drawn_w == pytest.approx(1275.0 * 0.8 * 1.2, rel=1e-9)


def test_purchase_prices_follow_their_path(horizon: Horizon) -> None:
    low, base, high = (owning(horizon, "b200-hgx", day(2027, 11, 1), each) for each in ("low", "base", "high"))
    assert low is not None
    assert base is not None
    assert high is not None
    assert low.purchase_usd < base.purchase_usd < high.purchase_usd
    assert base.purchase_usd == pytest.approx(40_000.0)


def test_a_wrong_horizon_names_all_that_is_wrong() -> None:
    with pytest.raises(InputError) as caught:
        load_horizon("enterprise-2027", {"use_cases.agents.workload": "agents", "use_cases.documents.api": "gpt-9"})
    text = str(caught.value)
    assert "agents" in text
    assert "gpt-9" in text


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("hours", {"day": [0, 1, 2]}, "every hour"),
        ("plan_from", day(2024, 1, 1), "in this order"),
        ("plan_from", day(2026, 12, 5), "first day of a month"),
        ("waits_for", "vr300", "not described here"),
        ("use_cases.documents.baseline_model", "sparse", "none of the models"),
    ],
)
def test_impossible_horizons_are_refused(path: str, value: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_horizon("enterprise-2027", {path: value})


def test_replace_gives_a_new_horizon(horizon: Horizon) -> None:
    changed = horizon.replace("target_load.value", 0.8)
    assert changed.spec.target_load.value == 0.8
    assert horizon.spec.target_load.value == 0.85


def test_a_path_is_straight_between_its_points_and_constant_outside(horizon: Horizon) -> None:
    path = horizon.spec.software
    assert path.at(day(2020, 1, 1)) == 0.57
    assert path.at(day(2030, 1, 1)) == 1.25
    middle = path.at(day(2025, 12, 16))
    assert middle == pytest.approx(np.interp((day(2025, 12, 16) - day(2025, 9, 1)).days, [0, 212], [0.57, 1.0]))


@pytest.mark.parametrize(
    ("path", "number", "read"),
    [
        ("site_power", 3e6, lambda found: found.spec.site_power.value),
        ("use_cases.agents.elasticity", -0.5, lambda found: found.spec.use_cases["agents"].elasticity.value),
        ("rent_change.0.yearly", -0.2, lambda found: found.spec.rent_change[0].yearly.value),
        ("software.points.2027-12-01", 1.5, lambda found: found.spec.software.at(day(2027, 12, 1))),
        ("hardware.h100-sxm.lead_time_months", 5, lambda found: found.spec.hardware["h100-sxm"].lead_time_months.value),
        ("economics.cost_of_capital", 0.15, lambda found: found.economics.cost_of_capital.value),
        ("profiles.h100-sxm.prices.capex", 31e3, lambda found: found.hardware["h100-sxm"].prices.capex.value),
    ],
)
def test_numbers_are_put_in_without_reading_anything_again(
    horizon: Horizon, path: str, number: float, read: Callable[[Horizon], float]
) -> None:
    before = read(horizon)
    changed = horizon.with_numbers({path: number})
    assert read(changed) == number != before
    assert read(horizon) == before
    assert type(read(changed)) is type(before)


@pytest.mark.parametrize(
    "path", ["site_powr", "use_cases.agents", "rent_change.7.yearly", "economics.nothing", "hours.peak"]
)
def test_numbers_have_a_place(horizon: Horizon, path: str) -> None:
    with pytest.raises(ValueError, match="there is no"):
        horizon.with_numbers({path: 1.0})


def test_what_is_written_of_a_horizon_is_that_horizon(tmp_path: Path) -> None:
    horizon = load_horizon("enterprise-2027", {"end": datetime.date(2027, 6, 1)})
    (tmp_path / "again.yaml").write_text(json.dumps(horizon.as_written()), encoding="utf-8")
    assert load_horizon(str(tmp_path / "again.yaml")).spec == horizon.spec
    documents = json.loads(json.dumps(horizon.documents(), allow_nan=False))
    assert set(documents["hardware"]) == set(horizon.hardware)
    assert documents["economics"]["reference"]["kind"] == "economics"
