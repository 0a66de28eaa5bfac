import datetime
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from sim.cli import main
from sim.planning.capacities import Coefficient, Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.evaluation import evaluate
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.plan import Plan, _cheapest, plan
from sim.planning.plan_tables import TABLES, table

day = datetime.date
FEW_LEVERS = "levers={compression: false, software: false, speculative_decoding: false, batching: false, moe: true}"
"""Attribution goes over all sets of levers that are on."""


def small(**changes: object) -> Horizon:
    """Consultations and documents on three accelerators over five months."""
    full = load_horizon("enterprise-2027")
    cases = {key: full.raw.data["use_cases"][key] for key in ("documents", "consultations")}
    chips = {key: full.raw.data["hardware"][key] for key in ("h100-sxm", "b200-hgx", "vr200-nvl72")}
    given = {"use_cases": cases, "hardware": chips, "end": day(2027, 4, 1), "policies": ["optimal", "rent_only"]}
    return load_horizon("enterprise-2027", given | changes)


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(small())


def test_the_plan_is_feasible_and_keeps_its_service_levels_with_fresh_seeds(planned: Plan) -> None:
    assert planned.feasible
    latency = planned.latency()
    assert set(latency["hour"]) == {"peak", "shoulder", "trough"}
    assert set(latency["period"]) == {"2026-12", "2027-01", "2027-02", "2027-03", "2027-04"}
    assert latency["met"].all()
    assert (latency["value_s"] <= latency["limit_s"]).all()
    assert (latency["low_s"] <= latency["value_s"]).all()
    assert (latency["samples"] > 1000).all()


def test_accelerators_are_conserved_month_by_month(planned: Plan) -> None:
    for policy in planned.policies()["policy"]:
        fleet, purchases = planned.fleet(policy), planned.purchases(policy)
        if fleet.empty:
            continue
        for (period, chip), rows in fleet.groupby(["period", "accelerator"]):
            assert rows["accelerators"].sum() == rows["owned"].iloc[0] + rows["rented"].iloc[0], (policy, period, chip)
        for chip in fleet["accelerator"].unique():
            stock = 0
            for period in sorted(planned.tables["costs"]["period"].unique()):
                mine = purchases[(purchases["accelerator"] == chip) & (purchases["period"] == period)]
                stock += mine[mine["action"] == "deliver"]["accelerators"].sum()
                stock -= mine[mine["action"] == "retire"]["accelerators"].sum()
                rows = fleet[(fleet["accelerator"] == chip) & (fleet["period"] == period)]
                assert stock == (rows["owned"].iloc[0] if len(rows) else 0)


def test_money_out_is_the_sum_of_its_parts(planned: Plan) -> None:
    """What leaves in a month: deliveries and resale as booked, rent of running contracts, API, running cost."""
    periods = planned.tables["periods"]
    mine = periods[(periods["policy"] == "optimal") & (periods["site"] == "rented")]
    costs, purchases = planned.cost(), planned.purchases()
    for _, row in mine.iterrows():
        api = costs[costs["period"] == row["period"]]["api_usd"].sum()
        rents = purchases[(purchases["action"] == "rent") & (purchases["period"] <= row["period"])]
        running = sum(
            each["usd"]
            for _, each in rents.iterrows()
            if {"on-demand": 1, "one-year": 12, "three-year": 36}[str(each["term"])]
            > (int(row["period"][:4]) - int(each["period"][:4])) * 12 + int(row["period"][5:]) - int(each["period"][5:])
        )
        assert row["money_out_usd"] == pytest.approx(api + running, abs=0.01)


def test_cost_is_shared_out_whole(planned: Plan) -> None:
    costs = planned.cost()
    assert (costs["cost_usd"] >= -1e-9).all()
    np.testing.assert_allclose(costs["cost_usd"], costs["fleet_usd"] + costs["api_usd"])
    served = costs[costs["class"] != "idle"]
    np.testing.assert_allclose(served["usd_per_request"] * served["requests"], served["cost_usd"])
    assert (served["utilisation"].dropna() <= 0.9).all()


def test_attribution_sums_to_the_difference(planned: Plan) -> None:
    found = planned.attribution()
    costs = found[found["kind"] == "cost"].set_index("lever")["usd"]
    shapley = found[found["kind"] == "shapley"]["usd"].sum()
    assert shapley == pytest.approx(costs["none"] - costs["all"], rel=1e-9)
    assert len(found[found["kind"] == "interaction"]) == 28


def test_an_unknown_policy_is_named(planned: Plan) -> None:
    with pytest.raises(ValueError, match="rent_only"):
        planned.fleet("optimum")


def test_it_is_written_whole_and_read_back(planned: Plan, tmp_path: Path) -> None:
    target = tmp_path / "plans" / "small"
    planned.save(target)
    assert sorted(path.name for path in target.iterdir()) == sorted(
        [*(f"{n}.parquet" for n in TABLES), "manifest.json"]
    )
    back = Plan.load(target)
    for name in TABLES:
        pd.testing.assert_frame_equal(back.tables[name], planned.tables[name])
    assert back.feasible
    with pytest.raises(FileExistsError, match="exists already"):
        planned.save(target)
    planned.save(target, overwrite=True)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        planned.save(target, overwrite=True)
    assert (target / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]


def test_the_report_has_every_part(planned: Plan, tmp_path: Path) -> None:
    planned.report(tmp_path / "plan.html")
    page = (tmp_path / "plan.html").read_text()
    assert page.startswith("<!doctype html>")
    for anchor in ("latency", "time", "cost", "purchases", "levers", "dates", "assumptions", "trust", "reproduce"):
        assert f'<h2 id="{anchor}">' in page


def test_two_runs_say_the_same_of_all_policies(planned: Plan) -> None:
    """The solver stops at a gap or a number of nodes, never at a time."""
    again = plan(small())
    for name in TABLES:
        first, second = (each.tables[name].drop(columns="solve_s", errors="ignore") for each in (planned, again))
        pd.testing.assert_frame_equal(first, second)


def overrated(factor: float, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Plan agents on one accelerator whose replicas are taken to serve too much."""
    full = load_horizon("enterprise-2027")
    horizon = load_horizon(
        "enterprise-2027",
        {
            "use_cases": {"agents": full.raw.data["use_cases"]["agents"]},
            "hardware": {"h200-sxm": full.raw.data["hardware"]["h200-sxm"]},
            "baseline.hardware": ["h200-sxm"],
            "waits_for": "h200-sxm",
            "end": day(2026, 12, 1),
            "policies": ["optimal"],
            "software.points": {day(2025, 1, 1): 1.0},
            "speculation.points": {day(2025, 1, 1): 1.0},
            "use_cases.agents.api": None,
        },
    )
    honest = SimulatedCapacities.replica

    def flattered(self: SimulatedCapacities, service: Service, hardware: str) -> Coefficient:
        true = honest(self, service, hardware)
        return replace(true, requests_per_s=factor * true.requests_per_s)

    monkeypatch.setattr(SimulatedCapacities, "replica", flattered)
    return plan(horizon)


def test_a_plan_whose_service_levels_do_not_hold_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, repaired = overrated(1.0, monkeypatch), overrated(1.4, monkeypatch)
    assert honest.manifest["repairs"] == 0
    for plan_made in (honest, repaired):
        served = plan_made.fleet().query("replicas > 0")
        judged = {(each["model"], each["accelerator"]) for each in plan_made.manifest["validity"]}
        assert judged == set(zip(served["model"], served["accelerator"], strict=True))
        kept = plan_made.latency().query("not past_the_knee")
        assert (kept["model_low_s"] < kept["model_high_s"]).all()
        beyond = plan_made.latency().query("past_the_knee")
        assert beyond["model_high_s"].isna().all()
        assert bool(len(beyond)) == any(flag["name"] == "saturated" for flag in plan_made.manifest["flags"])
    assert repaired.manifest["repairs"] >= 1
    assert repaired.feasible
    assert repaired.latency()["met"].all()


def test_what_repairs_cannot_mend_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    found = overrated(30.0, monkeypatch)
    assert not found.feasible
    assert "agents" in found.manifest["missed"][0]
    assert not found.latency()["met"].all()


def test_an_impossible_plan_says_which_demand_and_exits_with_1(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "plan", "enterprise-2027", "--json", "--quiet", "-o", str(tmp_path / "plan"),
            "--set", "end=2026-12-01", "--set", "hardware.h100-sxm.rent_supply.value=0",
            "--set", "hardware.h200-sxm.rent_supply.value=0", "--set", "hardware.b200-hgx.rent_supply.value=0",
            "--set", "hardware.mi355x.rent_supply.value=0", "--set", "hardware.vr200-nvl72.rent_supply.value=0",
            "--set", "policies=[optimal]", "--set", FEW_LEVERS,
        ],
    )  # fmt: skip
    assert result.exit_code == 1, result.output
    answer = json.loads(result.stdout)
    assert not answer["feasible"]
    assert "consultations" in answer["reasons"][0]
    assert (tmp_path / "plan" / "manifest.json").exists()


def test_tables_have_the_columns_of_their_list() -> None:
    with pytest.raises(ValueError, match="differ"):
        table("policies", [{"plan_id": "x"}])
    for columns in TABLES.values():
        assert len({column.name for column in columns}) == len(columns)


def test_the_command_prints_the_plan_and_writes_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main,
        [
            "plan", "enterprise-2027", "--quiet", "-o", str(tmp_path / "plan"), "--set", "end=2027-01-01",
            "--set", "policies=[optimal, api_only]",
            "--set", "yearly_budget=null", "--set", FEW_LEVERS,
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    for words in ("Policies", "The fleet", "Service levels", "From which month", "Shapley", "Expectations", "Written"):
        assert words in result.stdout
    assert Plan.load(tmp_path / "plan").feasible
    costs = Plan.load(tmp_path / "plan").policies().set_index("policy")["net_present_cost_usd"]
    assert costs["optimal"] <= costs["api_only"]
    again = CliRunner().invoke(main, ["plan", "enterprise-2027", "-o", str(tmp_path / "plan")])
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_a_cheaper_fleet_of_a_policy_becomes_the_optimum(planned: Plan) -> None:
    """The solver may stop before it has proven anything: what a policy found is open to the optimum too."""
    simulated = SimulatedCapacities(small())
    found = evaluate(simulated.horizon, simulated, gap=0.005)
    market, good = found.planned, found.fleet
    poor = replace(good, net_present_cost_usd=1.02 * good.net_present_cost_usd, gap=0.03)
    best, rehearsed = _cheapest(simulated, simulated.table(), market, {"optimal": poor, "rent_only": good}, [])
    assert best.net_present_cost_usd == good.net_present_cost_usd
    assert best.gap == pytest.approx((1.0 - 1.02 * 0.97), abs=1e-9)
    assert rehearsed
    assert _cheapest(simulated, simulated.table(), market, {"optimal": good, "rent_only": poor}, [])[0] is good
