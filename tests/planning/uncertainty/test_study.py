import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sim.execution.execution import Tally
from sim.execution.executor import InProcess
from sim.execution.processes import LocalProcesses
from sim.execution.store import Store
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.evaluation import evaluate
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.assembly import MOVES_NOTHING
from sim.planning.uncertainty.result import MANIFEST, RUNS, Uncertainty, check_place
from sim.planning.uncertainty.study import uncertainty
from sim.planning.uncertainty.tables import TABLES, columns_markdown
from sim.planning.uncertainty.tasks import horizon_text, read_horizon
from tests.planning.uncertainty.conftest import PAIRS, SAMPLES


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_every_table_has_the_columns_of_its_list(study: Uncertainty) -> None:
    assert list(study.arrow) == list(TABLES)
    for name, columns in TABLES.items():
        assert study.arrow[name].column_names == [each.name for each in columns]
        for each, field in zip(columns, study.arrow[name].schema, strict=True):
            assert field.metadata[b"description"].decode() == each.description
            assert each.nullable or not study.arrow[name][each.name].null_count
            assert f"| `{each.name}` |" in columns_markdown()
    assert set(study.table("fans")["study_id"]) == {"enterprise-2027"}


def test_the_page_has_the_list_of_columns_as_it_is() -> None:
    page = Path(__file__).parents[3] / "docs" / "uncertainty.md"
    assert page.read_text(encoding="utf-8").endswith(f"## Columns\n\n{columns_markdown()}"), "run `make docs`"


def test_as_planned_is_the_plan_of_the_horizon(horizon: Horizon, study: Uncertainty) -> None:
    table = SimulatedCapacities(horizon).table()
    best = evaluate(horizon, table, whole=False).net_present_cost_usd
    whole = study.manifest["plan"]["net_present_cost_usd"]
    rows = study.fans("net_present_cost_usd").drop_duplicates("fleet").set_index("fleet")["base"]
    assert rows["best"] == pytest.approx(best, rel=1e-9)
    assert best <= rows["plan"] <= whole * (1.0 + 1e-9)


def test_fans_rise_and_regret_is_never_negative(study: Uncertainty) -> None:
    rows = study.table("fans")
    for _, mine in rows.groupby(["metric", "fleet", "class", "period"]):
        known = mine["value"].dropna()
        assert known.is_monotonic_increasing
    worlds = study.table("samples")
    regret = worlds[worlds["metric"] == "regret_usd"]["value"]
    assert len(regret) == SAMPLES
    assert (regret >= -1e-3).all()
    shares = worlds[worlds["metric"].isin(["unserved_share", "api_share"])]["value"]
    assert shares.between(-1e-9, 1.0 + 1e-9).all()


def test_fans_are_the_quantiles_of_the_samples(study: Uncertainty) -> None:
    worlds = study.table("samples")
    cost = worlds[(worlds["metric"] == "net_present_cost_usd") & (worlds["fleet"] == "best")]["value"]
    fans = study.fans("net_present_cost_usd", "best")
    expected = np.quantile(cost, [0.1, 0.5, 0.9], method="inverted_cdf")
    assert fans["value"].to_numpy() == pytest.approx(expected)
    assert ((fans["low"] <= fans["value"]) | fans["low"].isna()).all()


def test_draws_are_within_their_ranges_and_every_drawn_input_has_one(study: Uncertainty) -> None:
    inputs, draws = study.inputs(drawn=True), study.table("draws")
    assert set(draws["input"]) == set(inputs["input"])
    assert len(draws) == SAMPLES * len(inputs)
    below = draws.merge(inputs[["input", "low", "high"]], on="input")
    inside = below["value"].between(below["low"] - 1e-9, below["high"] + 1e-9).mean()
    assert 0.7 < inside < 0.95


def test_what_is_not_drawn_or_moves_nothing_is_listed_with_the_reason(study: Uncertainty) -> None:
    assert (study.inputs(drawn=False)["reason"] != "").all()
    reasons = study.inputs(drawn=True).set_index("input")["reason"]
    assert reasons["hardware.b200-hgx.prices.capex"] == ""
    assert reasons["horizon.carbon"] == MOVES_NOTHING


def test_the_tornado_puts_the_widest_bar_first(study: Uncertainty) -> None:
    bars = study.tornado()
    swing = (bars["at_high"] - bars["at_low"]).abs()
    assert swing.is_monotonic_decreasing
    assert bars["rank"].tolist() == list(range(1, len(bars) + 1))
    dearer = bars.set_index("input").loc["hardware.b200-hgx.prices.hourly.reserved_3_year"]
    assert dearer["at_low"] <= dearer["base"] <= dearer["at_high"]


def test_noise_and_inputs_share_the_variance(study: Uncertainty) -> None:
    rows = study.noise().dropna()
    assert len(rows) > 3
    assert (rows["from_inputs"] + rows["from_simulation"]).to_numpy() == pytest.approx(1.0)
    assert (rows["at_base"] >= 0.0).all()
    indices = study.sobol()
    assert set(indices["order"]) == {"first", "total"}
    assert "simulation" in set(indices["group"])


def test_too_few_worlds_are_flagged_and_said(study: Uncertainty) -> None:
    assert any(each.startswith(f"few_samples: {SAMPLES} worlds") for each in study.flags)
    assert any(each.startswith(f"few_pairs: {PAIRS} pairs") for each in study.flags)
    assert not study.fans("net_present_cost_usd", "best")["enough"].any()


def test_the_response_was_checked_against_simulation(study: Uncertainty) -> None:
    rows = study.table("response")
    assert len(rows) == study.manifest["response"]["replicas"] > 1
    assert study.manifest["response"]["median"] < 0.1


def test_viability_is_a_month_or_never(study: Uncertainty) -> None:
    found = study.viability()
    assert list(found.columns) == ["class", "p10", "p50", "p90"]
    assert found["class"].tolist() == ["documents"]
    assert all(len(word) == 7 or word == "never" for word in found.iloc[0, 1:])


def test_an_unknown_metric_names_the_known_ones(study: Uncertainty) -> None:
    with pytest.raises(ValueError, match="net_present_cost_usd"):
        study.tornado("costs")


def test_a_horizon_is_the_same_where_a_worker_reads_it(horizon: Horizon) -> None:
    again = read_horizon(horizon_text(horizon))
    assert again.spec == horizon.spec
    assert list(again.spec.hardware) == list(horizon.spec.hardware)
    assert again.serving_stack == horizon.serving_stack


def test_a_worker_with_other_files_refuses(horizon: Horizon) -> None:
    plain = json.loads(horizon_text(horizon))
    file = next(each for each in plain["fingerprints"] if each.startswith("economics/"))
    plain["fingerprints"][file] = "0" * 64
    with pytest.raises(RuntimeError, match=file):
        read_horizon(json.dumps(plain))


def test_two_workers_give_the_same_bytes_and_what_is_finished_is_not_run_again(
    horizon: Horizon, few_ranges: Path, tmp_path: Path
) -> None:
    few: dict[str, Any] = {"samples": 12, "pairs": 0, "replicates": 1, "checks": 0, "ranges": str(few_ranges)}
    uncertainty(horizon, **few, executor=InProcess()).save(tmp_path / "one")
    store, first, second = Store(tmp_path / "two" / RUNS), Tally(), Tally()
    with LocalProcesses(2) as executor:
        found = uncertainty(horizon, **few, executor=executor, store=store, tally=first)
    found.save(tmp_path / "two")
    one = contents(tmp_path / "one")
    assert set(one) == {MANIFEST, *(f"{name}.parquet" for name in TABLES)}
    assert contents(tmp_path / "two") == one
    assert (first.skipped, first.ran > 5) == (0, True)
    again = uncertainty(horizon, **few, executor=InProcess(), store=store, tally=second)
    assert (second.skipped, second.ran) == (first.ran, 0)
    again.save(tmp_path / "two")
    assert contents(tmp_path / "two") == one
    assert Uncertainty.load(tmp_path / "two").manifest == json.loads(one[MANIFEST])
    frame = Uncertainty.load(tmp_path / "two").fans("net_present_cost_usd", "best")
    pd.testing.assert_frame_equal(frame, found.fans("net_present_cost_usd", "best"))
    assert math.isfinite(frame["base"].iloc[0])


def test_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    check_place(tmp_path / "new")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        check_place(tmp_path)
    with pytest.raises(ValueError, match="not an uncertainty study"):
        Uncertainty.load(tmp_path)
