"""Sizing against brute force, and what any planner may count on."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import sim
from sim.cli import main
from sim.engine.preparation import common_trace, plan_run, prepare
from sim.planning.levels import LevelReached, latencies, seconds, worst
from sim.planning.probe import Probe, depths
from sim.planning.sizing import size, size_pool
from sim.planning.sizing_result import Sizing
from sim.results.metrics import LATENCIES
from sim.simulation import simulate
from sim.specs.errors import InputError
from sim.specs.fleet import ParallelismSpec
from sim.specs.library import Library, builtin_root
from sim.specs.resolved import Scenario, load_scenario

TOWN = """\
kind: scenario
name: town
title: Chat on small replicas
duration: 6 min
warm_up: 1 min
drain: 5 min
timeline_interval: 10 s
seed: 3
price_basis: [reserved_3_year, on_demand]
traffic:
  chat: {workload: realtime-chat, rate: 40 requests/s}
fleet:
  main: {hardware: h100-sxm, model: llama-3.3-70b, replicas: 1, weight_format: fp8, parallelism: {tensor: 4}}
service_levels:
  chat:
    - {metric: ttft, quantile: 0.95, limit: 500 ms, source: [assumption], confidence: assumption}
    - {metric: tpot, quantile: 0.95, limit: 30 ms, source: [assumption], confidence: assumption}
"""

LEVEL = {"quantile": 0.95, "source": ["assumption"], "confidence": "assumption"}


def levels(**limits: str) -> list[dict[str, object]]:
    return [{"metric": metric, "limit": limit, **LEVEL} for metric, limit in limits.items()]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    path = tmp_path_factory.mktemp("sizing") / "town.yaml"
    path.write_text(TOWN, encoding="utf-8")
    return load_scenario(str(path))


@pytest.fixture(scope="module")
def sized(town: Scenario) -> Sizing:
    return size_pool(town)


def probe_of(scenario: Scenario) -> Probe:
    prepared = prepare([scenario])[0]
    plan = plan_run(prepared, common_trace([prepared], 0), 0)
    return Probe(scenario, plan, 0, depths(scenario, plan))


def alone_s(scenario: Scenario) -> dict[str, float]:
    """Quantile of each metric of requests that meet nobody [s]: what limits are set by, whatever the step times."""
    return {level.metric: level.value_s for level in probe_of(scenario).alone()}


def meets(scenario: Scenario, replicas: int) -> bool:
    """Whether a simulation of the whole finds all levels met, read from its summary."""
    table = simulate(scenario.replace("fleet.main.replicas", replicas)).summary()
    return bool((table[table["metric"].str.startswith("service_level_met")]["value"] == 1.0).all())


# The answer


def test_the_answer_is_the_smallest_number_that_brute_force_finds(town: Scenario, sized: Sizing) -> None:
    found = [meets(town, replicas) for replicas in range(1, sized.replicas + 3)]
    assert sized.feasible
    assert found == [replicas >= sized.replicas for replicas in range(1, sized.replicas + 3)]
    assert sized.replicas > 1


def test_the_answer_holds_what_a_simulation_at_that_size_says(town: Scenario, sized: Sizing) -> None:
    result = simulate(town.replace("fleet.main.replicas", sized.replicas))
    latency = result.latency().set_index("class").loc["chat"]
    assert [level.value_s for level in sized.levels] == [latency["ttft_p95_s"], latency["tpot_p95_s"]]
    assert all(level.met for level in sized.levels)
    assert sized.flags == tuple(result.flags)
    rows = result.summary("ttft_s", "chat").set_index("quantile")
    assert sized.levels[0].model_high_s == rows["model_high"].loc[0.95] > sized.levels[0].value_s
    fewest, most = sized.replicas_within_model_error() or (0, 0)
    assert fewest <= sized.replicas <= most
    assert (sized.row()["replicas_model_low"], sized.row()["replicas_model_high"]) == (fewest, most)
    assert sized.accelerators == 4 * sized.replicas
    assert sized.cost_usd_per_hour == pytest.approx(4 * sized.replicas * 1.30)
    assert sized.load is not None
    assert sized.load.requests_per_s == pytest.approx(len(result.requests.query("arrival_s >= 60")) / 300.0)
    assert sized.token_costs is not None
    whole = result.summary("usd_per_million_tokens", "all").query("pool == 'main'")["value"].iloc[0]
    assert sized.token_costs.usd_per_million_tokens == pytest.approx(whole)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_customers_that_sizing_never_saw_find_their_levels_met_within_the_interval(sized: Sizing, seed: int) -> None:
    table = simulate(sized.scenario.replace("seed", seed)).summary()
    met = table[table["metric"].str.startswith("service_level_met")]
    assert len(met) == 2
    assert (met["high"] == 1.0).all()


@pytest.mark.parametrize("metric", ["ttft", "tpot"])
def test_a_looser_level_never_needs_more_replicas(town: Scenario, metric: str) -> None:
    alone = alone_s(town)
    limits = alone[metric] * np.geomspace(1.1, 10.0, 6)
    loose = {other: f"{10.0 * value} s" for other, value in alone.items() if other != metric}
    found = [
        size_pool(town.replace("service_levels.chat", levels(**loose, **{metric: f"{limit} s"}))) for limit in limits
    ]
    sizes = [each.replicas if each.feasible else math.inf for each in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_more_load_never_needs_fewer_replicas(town: Scenario) -> None:
    sizes = [
        size_pool(town.replace("traffic.chat.rate", f"{rate} requests/s")).replicas for rate in (5, 20, 40, 60, 90)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_a_lower_price_never_costs_more_and_changes_no_size(town: Scenario, sized: Sizing) -> None:
    cheaper = size_pool(town.replace("fleet.main.price", "0.65 USD/h"))
    assert cheaper.replicas == sized.replicas
    assert cheaper.cost_usd_per_hour == pytest.approx(0.5 * (sized.cost_usd_per_hour or 0.0))


def test_sizing_twice_gives_the_same_answer(town: Scenario, sized: Sizing) -> None:
    again = size_pool(town)
    assert again.row() == sized.row()
    assert again.points == sized.points


def test_other_pools_keep_their_sizes_and_only_the_pool_s_own_levels_count(town: Scenario) -> None:
    data = {
        "main": {**town.raw.data["fleet"]["main"], "serves": ["chat"]},
        "side": {"hardware": "h200-sxm", "model": "llama-3.1-8b", "replicas": 3, "serves": ["voice"]},
    }
    voice = town.replace("traffic.voice", {"workload": "realtime-voice", "rate": "40 requests/s"}).replace(
        "fleet", data
    )
    sizing = size_pool(voice, "main")
    assert sizing.replicas == size_pool(town).replicas
    assert sizing.scenario.spec.fleet["side"].replicas == 3
    assert {level.class_name for level in sizing.levels} == {"chat"}


def test_a_pool_that_shares_its_classes_may_be_smaller_than_their_load(town: Scenario) -> None:
    main_pool = town.raw.data["fleet"]["main"]
    shared = town.replace("fleet", {"main": main_pool, "side": {**main_pool, "replicas": 12}})
    shared = shared.replace("traffic.chat.rate", "80 requests/s")
    probe = probe_of(shared)
    assert probe.least_replicas() == 1
    assert probe.estimated_replicas() > 1
    assert size_pool(shared, "main").replicas == 1


def test_an_answer_that_a_part_of_the_requests_was_too_kind_to_is_repaired_on_the_whole(
    town: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1.15 * alone_s(town)["ttft"]
    tight = town.replace("service_levels.chat", levels(ttft=f"{limit} s"))
    careful = size_pool(tight).replicas
    monkeypatch.setattr("sim.planning.search.depths", lambda scenario, plan: (60.3,))
    hasty = size_pool(tight, confirm=False)
    assert hasty.replicas < careful
    assert hasty.result is None
    assert size_pool(tight).replicas == careful


def test_classes_share_the_bill_without_rest() -> None:
    sizing = size_pool(load_scenario("quickstart").variants()[0])
    table = sizing.class_costs
    assert table is not None
    assert set(table["class"]) == {"chat", "voice", "agent", "documents"}
    assert table["usd_per_hour"].sum() == pytest.approx(sizing.cost_usd_per_hour)
    by_class = table.set_index("class")["usd_per_request"]
    assert by_class["agent"] > by_class["chat"] > by_class["voice"] > 0.0


# No answer


def test_a_level_below_what_one_request_alone_takes_is_infeasible_and_named(town: Scenario) -> None:
    sizing = size_pool(town.replace("service_levels.chat", levels(ttft="2 s", tpot="1 ms")))
    assert not sizing.feasible
    assert sizing.replicas == 0
    assert sizing.cost_usd_per_hour is None
    assert "chat TPOT p95" in sizing.reason
    assert "limit of 1 ms" in sizing.reason
    assert "no number of replicas helps" in sizing.reason
    assert "infeasible" in sizing._repr_html_()


def test_requests_that_meet_nobody_are_as_fast_as_on_a_fleet_that_is_never_busy(town: Scenario) -> None:
    alone = probe_of(town).alone()
    crowd = probe_of(town).trial(200).levels
    for best, many in zip(alone, crowd, strict=True):
        assert best.value_s <= many.value_s
        assert best.value_s == pytest.approx(many.value_s, rel=0.2)


def test_too_few_replicas_allowed_is_infeasible_and_says_so(town: Scenario, sized: Sizing) -> None:
    sizing = size_pool(town, most_replicas=sized.replicas - 1)
    assert not sizing.feasible
    assert f"{sized.replicas - 1}" in sizing.reason


def test_hardware_that_cannot_serve_is_infeasible_with_its_reason(town: Scenario) -> None:
    sizing = size_pool(town.replace("fleet.main.weight_format", "fp8"), hardware="maia-100")
    assert not sizing.feasible
    assert "maia-100" in sizing.reason


def test_requests_that_are_never_served_are_told_apart_from_slow_ones(town: Scenario) -> None:
    small = town.replace("oversized_requests", "reject").replace("fleet.main.model", "qwen3-8b")
    small = small.replace("traffic.chat.workload", "agent").replace("traffic.chat.rate", "1 requests/s")
    sizing = size_pool(small)
    assert not sizing.feasible
    assert "never served" in sizing.reason


def test_a_class_of_which_no_request_is_measured_meets_nothing(town: Scenario) -> None:
    rare = town.replace("traffic.voice", {"workload": "realtime-voice", "rate": "0.001 requests/h"})
    sizing = size_pool(rare)
    assert not sizing.feasible
    assert "voice TTFT p95: no such request was measured" in sizing.reason


def test_a_pool_without_service_levels_and_an_unknown_pool_are_bad_input(town: Scenario) -> None:
    with pytest.raises(InputError, match="service level"):
        size_pool(town.replace("service_levels.chat", []))
    with pytest.raises(InputError, match="pool"):
        size_pool(town, "nowhere")
    with pytest.raises(InputError, match="alternatives"):
        size_pool(load_scenario("quickstart"))
    with pytest.raises(InputError, match="hardware"):
        size(town, ["no-such-chip"])


# Choices


def test_the_cheapest_of_the_stated_choices_is_taken(town: Scenario) -> None:
    single = [size_pool(town, layouts=[ParallelismSpec(tensor=tensor)]) for tensor in (2, 4, 8)]
    both = size_pool(town, layouts=[ParallelismSpec(tensor=tensor) for tensor in (2, 4, 8)])
    assert both.cost_usd_per_hour == min(each.cost_usd_per_hour or math.inf for each in single)


def test_the_layout_with_the_smaller_bound_does_not_win_for_that(town: Scenario) -> None:
    limit = 1.2 * alone_s(town.replace("fleet.main.parallelism.tensor", 2))["tpot"]
    tight = town.replace("service_levels.chat", levels(ttft="2 s", tpot=f"{limit} s"))
    narrow, wide = ParallelismSpec(tensor=2), ParallelismSpec(tensor=4)
    sizes = [size_pool(tight, layouts=[each]).accelerators for each in (narrow, wide)]
    assert sizes[0] > sizes[1] > 0
    assert size_pool(tight, layouts=[narrow, wide]).layout == wide


def test_a_batch_limit_is_what_keeps_the_time_between_tokens(town: Scenario) -> None:
    sizing = size_pool(town, batch_limits=[8, 256])
    assert sizing.max_sequences in (8, 256)
    assert sizing.cost_usd_per_hour == min(
        size_pool(town, batch_limits=[limit]).cost_usd_per_hour or math.inf for limit in (8, 256)
    )


def test_economics_price_accelerators_at_the_cost_of_owning_an_available_hour(town: Scenario) -> None:
    economics = Library((builtin_root(),)).economics("reference").spec
    sizing = size_pool(town, economics=economics)
    assert sizing.price_basis == "owning, reference"
    assert sizing.price_usd_per_hour == pytest.approx(1.29, abs=0.03)
    assert "not known" in size_pool(town, hardware="mi300x", economics=economics).reason


# The search


def test_trials_on_a_part_of_the_requests_agree_with_the_whole_where_they_are_sure(town: Scenario) -> None:
    long = town.replace("duration", "40 min")
    probe = probe_of(long)
    assert len(probe.depths_s) > 1
    assert probe.depths_s[-1] == 2400.0
    for replicas in (1, 2, 20):
        part = probe.trial(replicas)
        whole = dataclasses.replace(probe, depths_s=probe.depths_s[-1:]).trial(replicas)
        assert part.met == whole.met
        assert part.simulated_s <= whole.simulated_s
    assert probe.trial(20).simulated_s < 2400.0


def test_a_rate_that_changes_in_the_run_is_simulated_as_a_whole(town: Scenario) -> None:
    probe = probe_of(
        town.replace("duration", "6 h").replace("start_hour", 4).replace("traffic.chat.rate", "2 requests/s")
    )
    assert probe.depths_s == (21600.0,)


def test_a_trial_of_the_whole_is_what_the_summary_says(town: Scenario, sized: Sizing) -> None:
    probe = probe_of(town)
    whole = dataclasses.replace(probe, depths_s=probe.depths_s[-1:]).trial(sized.replicas)
    for mine, theirs in zip(whole.levels, sized.levels, strict=True):
        assert mine.samples == theirs.samples
        assert mine.value_s == pytest.approx(theirs.value_s)
        assert mine.high_s - mine.low_s == pytest.approx(theirs.high_s - theirs.low_s, rel=0.5)


def test_latencies_of_the_probe_are_those_of_the_summary(town: Scenario) -> None:
    from sim.engine.run import run

    probe = probe_of(town)
    records = run(probe.plan).requests
    table = simulate(town).tables["requests"]
    for metric in ("ttft", "tpot", "e2e"):
        expected = LATENCIES[f"{metric}_s"](table)
        found = latencies(records, metric, probe.deployment.request_overhead_s)
        assert np.sort(found) == pytest.approx(np.sort(expected[~np.isnan(expected)]))


def test_a_level_knows_when_it_is_sure() -> None:
    level = LevelReached("chat", "ttft", 0.99, 1.0, 0.9, 0.8, 1.1, 1000, 0)
    assert (level.met, level.surely_met, level.surely_missed) == (True, False, False)
    slow = dataclasses.replace(level, value_s=1.2, low_s=1.1, high_s=1.3)
    assert (slow.met, slow.surely_met, slow.surely_missed) == (False, False, True)
    fast = dataclasses.replace(level, high_s=0.95)
    assert (fast.met, fast.surely_met, fast.surely_missed) == (True, True, False)
    few = dataclasses.replace(level, low_s=math.nan, high_s=math.nan)
    assert (few.met, few.surely_met, few.surely_missed) == (True, False, False)
    nobody = dataclasses.replace(level, value_s=math.nan, low_s=math.nan, high_s=math.nan, samples=0)
    assert (nobody.met, nobody.surely_met, nobody.surely_missed) == (False, False, False)
    assert "no such request was measured" in nobody.in_words()
    assert worst([slow, nobody]) is nobody
    assert worst([fast, slow]) is slow
    assert slow.in_words() == "chat TTFT p99 is 1.2 s, above the limit of 1 s"
    assert (seconds(0.0123), seconds(12.5)) == ("12.3 ms", "12.5 s")


# Accelerators side by side


def test_the_frontier_falls_in_latency_as_it_rises_in_cost(town: Scenario) -> None:
    comparison = sim.size(town, ["h100-sxm", "h200-sxm"], layouts=[ParallelismSpec(tensor=4)])
    table = comparison.frontier()
    assert comparison.feasible
    assert set(table["hardware"]) == {"h100-sxm", "h200-sxm"}
    for _, group in table[table["efficient"]].groupby("hardware"):
        ordered = group.sort_values("cost_usd_per_hour")
        assert ordered["tightness"].is_monotonic_decreasing
        assert len(ordered) >= 3
    best = comparison.best
    assert best is not None
    assert best.cost_usd_per_hour == comparison.table()["cost_usd_per_hour"].min()
    figure: Any = comparison.figure()
    assert [len(trace["x"]) == len(trace["y"]) for trace in figure["data"]] == [True, True]
    assert "h200-sxm" in comparison._repr_html_()
    assert list(comparison.to_json()) == ["sizings", "frontier"]


# The command


@pytest.fixture
def called(town: Scenario) -> Callable[..., Any]:
    def call(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["size", town.raw.file, *arguments])

    return call


def test_the_command_prints_sizes_levels_and_frontier(called: Callable[..., Any]) -> None:
    result = called("--hardware", "h100-sxm", "--api", "mistral-small-4", "--on", "2026-11-01", "--quiet")
    assert result.exit_code == 0, result.output
    for words in ("Smallest fleets", "chat TTFT p95", "Cost against latency", "API price of mistral-small-4"):
        assert words in result.stdout


def test_the_command_speaks_json(called: Callable[..., Any], sized: Sizing) -> None:
    answer = json.loads(called("--json").stdout)
    assert answer["sizings"][0]["replicas"] == sized.replicas
    assert answer["sizings"][0]["levels"][0]["met"] is True


def test_the_command_ends_with_1_where_nothing_will_do_and_says_why(called: Callable[..., Any]) -> None:
    level = "[{metric: tpot, quantile: 0.5, limit: 1 ms, source: [assumption], confidence: assumption}]"
    result = called("--set", f"service_levels.chat={level}")
    assert result.exit_code == 1
    assert "no number of replicas helps" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [("--pool", "nowhere"), ("--layout", "two"), ("--layout", "tensor=0"), ("--layout", "tensor=1,data=8"),
     ("--batch-limit", "x"), ("--batch-limit", "0"), ("--hardware", "h100"), ("--economics", "none"),
     ("--api", "gpt-5.5"), ("--api", "none", "--on", "2026-11-01"), ("--api", "gpt-5.5", "--on", "2020-01-01")],
)  # fmt: skip
def test_bad_input_ends_the_command_with_2(called: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    assert called(*arguments).exit_code == 2


def test_the_library_of_a_scenario_s_own_folder_is_searched_for_economics(
    town: Scenario, tmp_path: Path, called: Callable[..., Any]
) -> None:
    folder = Path(town.raw.file).parent / "economics"
    folder.mkdir(exist_ok=True)
    text = "kind: economics\nname: ours\nextends: reference\ntitle: Ours\n"
    (folder / "ours.yaml").write_text(text, encoding="utf-8")
    result = called("--economics", "ours")
    assert result.exit_code == 0, result.output
    assert "owning, ours" in result.stdout


# Models and pages


def test_models_are_an_axis_beside_accelerators(town: Scenario) -> None:
    found = size(town, ["h100-sxm", "b200-hgx"], ["llama-3.3-70b", "qwen3-32b"])
    table = found.table()
    assert list(zip(table["model"], table["hardware"], strict=True)) == [
        ("llama-3.3-70b", "h100-sxm"),
        ("llama-3.3-70b", "b200-hgx"),
        ("qwen3-32b", "h100-sxm"),
        ("qwen3-32b", "b200-hgx"),
    ]
    names = [trace["name"] for trace in found.figure()["data"]]  # type: ignore[attr-defined]
    assert len(set(names)) == 4
    alone = size_pool(town.replace("fleet.main.model", "qwen3-32b"), hardware="b200-hgx")
    assert table["replicas"].iloc[3] == alone.replicas
    with pytest.raises(InputError, match="qwen3-33b"):
        size(town, (), ["qwen3-33b"])


def test_a_target_load_leaves_room(town: Scenario) -> None:
    full, half = size_pool(town, confirm=False), size_pool(town, confirm=False, target_load=0.3)
    assert half.replicas > full.replicas
    assert half.levels[0].value_s <= full.levels[0].value_s


def test_the_command_writes_a_page(town: Scenario, tmp_path: Path) -> None:
    page = tmp_path / "sizes.html"
    result = CliRunner().invoke(
        main, ["size", str(town.raw.file), "--model", "llama-3.3-70b", "--quiet", "-o", str(page)]
    )
    assert result.exit_code == 0, result.output
    text = page.read_text()
    assert "llama-3.3-70b on h100-sxm" in text
    assert "All sizes that were tried" in text


@pytest.mark.parametrize("pool", ["main", "answers"])
def test_a_pair_of_pools_has_no_size_of_its_own(town: Scenario, pool: str) -> None:
    """Prefill that hands over: the number of one pool says nothing without that of the other."""
    answers = {**town.raw.data["fleet"]["main"]}
    hand_over = {"to": "answers", "bandwidth": "50 GB/s", "latency": "1 ms"}
    pair = town.replace("fleet", {"main": {**answers, "hand_over": hand_over}, "answers": answers})
    with pytest.raises(InputError, match="hands its prompts over"):
        size_pool(pair, pool)
