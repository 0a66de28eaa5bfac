"""Whole simulations by the public interface: all accounted for, repeatable, and changing as their input does."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from scipy import stats

import sim
from sim.demand.trace_files import read_trace
from sim.engine.simpy_engine import ReplicaView, RequestView
from sim.simulation import check
from sim.specs.hardware import Status
from sim.specs.library import Library, builtin_root

SMALL = {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 2}
SHORT = {"duration": "3 min", "warm_up": "30 s", "drain": "2 min", "timeline_interval": "5 s"}
TIMES = ["arrival_s", "admitted_s", "first_token_s", "finished_s"]
LENGTHS = ["prompt_tokens", "cached_tokens", "output_tokens"]


def scenario_of(**changes: Any) -> sim.Scenario:
    """Return three minutes of chat and voice on two replicas, with changes by dotted path (`__` for a dot)."""
    written = {
        "alternatives": {},
        "fleet": {"serving": SMALL},
        "traffic": {
            "chat": {"workload": "realtime-chat", "rate": "12 requests/s"},
            "voice": {"workload": "realtime-voice", "rate": "6 requests/s"},
        },
    }
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    return sim.load("quickstart", written | SHORT | dotted)


def trace_file(folder: Path, table: pd.DataFrame) -> str:
    """Write a trace and return its path."""
    path = folder / "trace.csv"
    table.to_csv(path, index=False)
    return str(path)


def chat_trace(count: int = 400, rate_per_s: float = 20.0, seed: int = 3) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "arrival_s": np.round(np.cumsum(generator.exponential(1 / rate_per_s, count)), 6),
            "class": generator.choice(["chat", "voice"], count),
            "prompt_tokens": generator.integers(50, 3000, count),
            "output_tokens": generator.integers(1, 300, count),
        }
    )


def replayed(
    trace: str, fleet: dict[str, Any] | None = None, names: Sequence[str] = ("chat", "voice"), **changes: Any
) -> sim.Scenario:
    """Return a scenario that replays a trace with these classes."""
    traffic: dict[str, Any] = {names[0]: {"trace": trace}}
    traffic |= {name: {"workload": "realtime-voice", "rate": "0.0001 requests/s"} for name in names[1:]}
    # The other classes come from the same file; their own source is as good as silent.
    changes = {"warm_up": "0 s", "duration": "1 s", "drain": "10 min"} | changes
    return scenario_of(traffic=traffic, fleet=fleet or {"serving": SMALL}, **changes)


def instants(result: sim.Result) -> pd.DataFrame:
    return result.requests[[*TIMES, *LENGTHS, "replica", "preemptions"]].reset_index(drop=True)


def value(result: sim.Result, metric: str, class_name: str = "all", quantile: float | None = None) -> float:
    rows = result.summary(metric, class_name)
    rows = rows[rows["pool"] == "all"]
    rows = rows[rows["quantile"].isna()] if quantile is None else rows[rows["quantile"] == quantile]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def same(first: sim.Result, second: sim.Result, tables: Sequence[str] = ("requests", "timeline")) -> bool:
    return all(first.tables[name].equals(second.tables[name]) for name in tables)


@pytest.fixture(scope="module")
def plain() -> sim.Result:
    return sim.simulate(scenario_of())


@pytest.fixture(scope="module")
def quickstart() -> sim.Scenario:
    return sim.load("quickstart", SHORT | {"duration": "90 s", "drain": "30 s"})


@pytest.fixture(scope="module")
def alternatives(quickstart: sim.Scenario) -> sim.Result:
    return sim.simulate(quickstart)


# Every request is accounted for


def test_every_request_has_one_outcome_in_tables_and_in_parquet(tmp_path: Path, alternatives: sim.Result) -> None:
    alternatives.save(tmp_path / "out")
    read = pq.read_table(tmp_path / "out" / "requests.parquet").to_pandas()
    assert len(read) == len(alternatives.requests) == alternatives.manifest["requests"]
    for scenario_id, group in read.groupby("scenario_id", observed=True):
        outcomes = Counter(group["outcome"])
        assert sum(outcomes.values()) == len(group)
        assert set(outcomes) <= {"finished", "unfinished", "rejected"}
        assert group["request_id"].tolist() == list(range(len(group)))
        measured = group[group["arrival_s"] >= 30.0]
        summary = alternatives.summary()
        mine = summary[(summary["scenario_id"] == scenario_id) & (summary["class"] == "all")].set_index("metric")
        assert mine.loc["requests_offered", "value"] == len(measured)
        for outcome in ("finished", "unfinished", "rejected", "timed_out"):
            assert mine.loc[f"requests_{outcome}", "value"] == (measured["outcome"] == outcome).sum()
    finished = read["outcome"] == "finished"
    assert (read["finished_s"].notna() == finished).all()
    assert (read.loc[finished, TIMES].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert read.loc[finished, ["pool", "replica"]].notna().all(axis=None)


def test_the_public_conversation_hour_is_replayed_whole(shared: Path) -> None:
    file = shared / "traces" / "azure2023" / "AzureLLMInferenceTrace_conv.csv"
    changes = {"alternatives": {}, "fleet": {"serving": SMALL | {"replicas": 3}}, "warm_up": "1 min"}
    result = sim.simulate(sim.load("quickstart", changes, replay=(None, str(file))))
    assert len(result.requests) == 19_366
    assert Counter(result.requests["outcome"]) == {"finished": 19_366}
    trace = read_trace(file, "trace")
    assert (result.requests["prompt_tokens"].to_numpy() == trace.prompt_tokens).all()
    assert (result.requests["output_tokens"].to_numpy() == trace.output_tokens).all()
    assert result.requests["arrival_s"].to_numpy() == pytest.approx(trace.arrival_ns * 1e-9)
    assert value(result, "requests_offered") == (trace.arrival_ns >= 60 * 10**9).sum()
    decoded = result.timeline["decode_tokens"].sum() + len(trace.arrival_ns)
    assert decoded == trace.output_tokens.sum()


# Repeatable, and the same on both engines


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_two_runs_write_the_same_bytes(tmp_path: Path, quickstart: sim.Scenario, engine: Any) -> None:
    for run in ("first", "second"):
        scenario = sim.load("quickstart", SHORT | {"duration": "90 s", "drain": "30 s"})
        sim.simulate(scenario, engine=engine).save(tmp_path / run)
    for table in ("requests", "timeline", "summary"):
        first, second = ((tmp_path / run / f"{table}.parquet").read_bytes() for run in ("first", "second"))
        assert first == second


def test_engines_agree_on_every_built_in_scenario(tmp_path: Path) -> None:
    names = sorted(Library((builtin_root(),)).names("scenario"))
    assert "quickstart" in names
    for name in names:
        if any(pool.outages or pool.roll_outs for pool in sim.load(name).spec.fleet.values()):
            continue  # what happens in them comes later than this run is long: tests/test_fleet_scenarios.py
        scenario = sim.load(name, SHORT | {"duration": "90 s", "drain": "30 s"})
        compiled, reference = (sim.simulate(scenario, engine=engine) for engine in ("compiled", "simpy"))
        assert same(compiled, reference, ("requests", "timeline", "summary"))
        assert compiled.manifest["events"] == reference.manifest["events"]
        assert (compiled.manifest["engine"], reference.manifest["engine"]) == ("compiled", "simpy")


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_engines_agree_under_every_router(router: str) -> None:
    scenario = scenario_of(router=router, fleet__serving__replicas=5)
    assert same(sim.simulate(scenario, engine="compiled"), sim.simulate(scenario, engine="simpy"))


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_steps_one_by_one_give_what_spans_give(quickstart: sim.Scenario, engine: Any) -> None:
    """Spans are arithmetic, no approximation: instants are equal to the nanosecond, token counts to the token."""
    duration = "60 s" if engine == "compiled" else "35 s"
    scenario = quickstart.replace("duration", duration).replace("drain", "5 s")
    spans = sim.simulate(scenario, engine="compiled")
    steps = sim.simulate(scenario, engine=engine, max_span=1)
    assert steps.tables["requests"].equals(spans.tables["requests"])
    assert isinstance(steps.manifest["events"], int)
    assert isinstance(spans.manifest["events"], int)
    assert steps.manifest["events"] > 2 * spans.manifest["events"]
    for column in spans.timeline.columns:
        if column != "kv_used_fraction":
            assert steps.timeline[column].equals(spans.timeline[column]), column
    # KV is integrated between whole nanoseconds, which lie elsewhere.
    assert steps.timeline["kv_used_fraction"].to_numpy() == pytest.approx(
        spans.timeline["kv_used_fraction"].to_numpy(), rel=1e-6
    )


# The same customers


def test_alternatives_meet_the_same_requests(alternatives: sim.Result) -> None:
    groups = [group for _, group in alternatives.requests.groupby("scenario_id", observed=True)]
    assert len(groups) == 4
    known = ["request_id", "class", "arrival_s", *LENGTHS]
    for group in groups[1:]:
        assert (
            group[known]
            .astype({"class": str})
            .reset_index(drop=True)
            .equals(groups[0][known].astype({"class": str}).reset_index(drop=True))
        )
        assert not np.array_equal(group["finished_s"], groups[0]["finished_s"])


def test_an_alternative_is_what_it_is_alone(quickstart: sim.Scenario, alternatives: sim.Result) -> None:
    """Side by side or alone, a fleet does the same: nothing leaks from one alternative to the next."""
    alone = sim.simulate(quickstart.variants()[2])
    together = alternatives.requests[alternatives.requests["scenario_id"] == "quickstart/tpu"]
    columns = [*TIMES, *LENGTHS, "replica"]
    assert alone.requests[columns].equals(together[columns].reset_index(drop=True))


def test_the_rate_of_one_class_leaves_the_requests_of_others_alone(plain: sim.Result) -> None:
    busier = sim.simulate(scenario_of(traffic__chat__rate="24 requests/s"))
    before, after = (result.requests[result.requests["class"] == "voice"] for result in (plain, busier))
    known = ["arrival_s", *LENGTHS]
    assert before[known].reset_index(drop=True).equals(after[known].reset_index(drop=True))
    chat = (busier.requests["class"] == "chat").sum() / (plain.requests["class"] == "chat").sum()
    assert chat == pytest.approx(2.0, rel=0.1)


def test_a_class_more_leaves_the_requests_of_others_alone(plain: sim.Result) -> None:
    both = sim.simulate(scenario_of(traffic__late={"workload": "continuous", "rate": "0.2 requests/s"}))
    known = ["arrival_s", *LENGTHS]
    for name in ("chat", "voice"):
        before, after = (result.requests[result.requests["class"] == name] for result in (plain, both))
        assert before[known].reset_index(drop=True).equals(after[known].reset_index(drop=True))
    assert (both.requests["class"] == "late").any()


def test_seeds_and_replications_meet_other_customers() -> None:
    first, other = (sim.simulate(scenario_of(seed=seed)) for seed in (1, 2))
    assert not np.array_equal(first.requests["arrival_s"].head(50), other.requests["arrival_s"].head(50))
    result = sim.simulate(scenario_of(), replications=2)
    one, two = (group for _, group in result.requests.groupby("replication"))
    assert instants(first).equals(one[instants(first).columns].reset_index(drop=True))
    assert not np.array_equal(one["prompt_tokens"].head(50), two["prompt_tokens"].head(50))


def test_intervals_are_over_the_replications() -> None:
    """Offered load of each replication, and Student's t interval of their mean."""
    result = sim.simulate(scenario_of(), replications=5)
    table = result.requests
    measured = table[(table["arrival_s"] >= 30.0) & (table["arrival_s"] < 180.0)]
    rates = measured.groupby("replication").size().to_numpy() / 150.0
    assert len(set(rates)) > 1
    half_width = stats.t.ppf(0.975, 4) * rates.std(ddof=1) / np.sqrt(5)
    rows = result.summary("requests_offered_per_s", "all").iloc[0]
    assert rows["method"] == "replications"
    assert rows["value"] == pytest.approx(rates.mean())
    assert (rows["low"], rows["high"]) == pytest.approx((rates.mean() - half_width, rates.mean() + half_width))
    tail = result.summary("ttft_s", "chat")
    assert set(tail["method"]) == {"replications"}
    assert result.manifest["replications"] == 5


# Comparisons


def test_common_customers_narrow_a_difference() -> None:
    """Two fleets on the same customers differ by less noise than on customers of their own."""
    first = scenario_of()
    second = first.replace("fleet.serving.hardware", "h200-sxm")
    paired, unpaired = (sim.compare(first, other, replications=8) for other in (second, second.replace("seed", 77)))
    for metric in ("ttft_mean_s", "e2e_mean_s", "e2e_p50_s", "usd_per_million_tokens"):
        common, own = paired.difference(metric), unpaired.difference(metric)
        assert common.high - common.low < 0.8 * (own.high - own.low)
        assert common.high < 0.0 or metric == "usd_per_million_tokens"
    values = paired.values("ttft_mean_s")
    assert values.shape == (8, 2)
    assert paired.difference("ttft_mean_s").value == pytest.approx((values.iloc[:, 1] - values.iloc[:, 0]).mean())


def test_equal_scenarios_do_not_differ() -> None:
    comparison = sim.compare(scenario_of(), scenario_of(), replications=2)
    estimate = comparison.difference("ttft_p99_s")
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no metric 'speed'"):
        comparison.difference("speed")
    with pytest.raises(ValueError, match="at least 2 replications"):
        sim.compare(scenario_of(), scenario_of(), replications=1)
    with pytest.raises(ValueError, match="without alternatives"):
        sim.compare(sim.load("quickstart"), scenario_of(), replications=2)


# Metamorphic laws


def test_the_name_of_a_pool_changes_no_number(plain: sim.Result) -> None:
    renamed = sim.simulate(scenario_of(fleet={"another-name": SMALL}))
    assert instants(plain).equals(instants(renamed))
    columns = ["class", "metric", "quantile", "value", "low", "high"]
    before, after = (result.summary()[columns].astype({"class": str, "metric": str}) for result in (plain, renamed))
    pd.testing.assert_frame_equal(before, after)


def test_the_names_of_classes_change_no_number(tmp_path: Path) -> None:
    """Of a recorded trace: synthetic classes draw from streams of their own name."""
    table = chat_trace()
    first = sim.simulate(replayed(trace_file(tmp_path, table)))
    table["class"] = table["class"].map({"chat": "zebra", "voice": "ant"})
    second = sim.simulate(replayed(trace_file(tmp_path, table), names=("zebra", "ant")))
    assert instants(first).equals(instants(second))
    for metric, quantile in (("ttft_s", 0.99), ("e2e_s", 0.5), ("usd_per_million_tokens", None)):
        assert value(first, metric, quantile=quantile) == value(second, metric, quantile=quantile)
    assert value(first, "e2e_s", "chat", 0.9) == value(second, "e2e_s", "zebra", 0.9)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_two_equal_pools_are_one_pool(router: str) -> None:
    whole = sim.simulate(scenario_of(router=router, fleet__serving__replicas=4))
    parts = sim.simulate(scenario_of(router=router, fleet={"one": SMALL, "two": SMALL}))
    columns = [*TIMES, *LENGTHS]
    assert whole.requests[columns].equals(parts.requests[columns])
    place = parts.requests["replica"] + 2 * (parts.requests["pool"] == "two")
    assert (place == whole.requests["replica"]).all()
    summed = parts.timeline.groupby("interval_start_s")[["waiting", "running", "decode_tokens", "arrivals"]].sum()
    for column in summed:
        assert summed[column].to_numpy() == pytest.approx(whole.timeline[column].to_numpy())
    for metric in ("utilisation", "usd_per_million_tokens", "kv_used_fraction"):
        assert value(parts, metric) == pytest.approx(value(whole, metric))


def test_twice_the_customers_on_twice_the_fleet_see_the_same(tmp_path: Path) -> None:
    """Every request twice at the same instant, dealt in turn to twice the replicas: each copy meets the old fleet."""
    # Classes have turns of their own, so all are of one class.
    table = chat_trace(rate_per_s=60.0).assign(**{"class": "chat"})
    doubled = table.loc[table.index.repeat(2)]
    fleet = {"serving": SMALL | {"replicas": 4}}
    single = sim.simulate(replayed(trace_file(tmp_path, table), router="round_robin"))
    double = sim.simulate(replayed(trace_file(tmp_path, doubled), fleet, router="round_robin"))
    for copy in (0, 1):
        assert double.requests[TIMES].iloc[copy::2].reset_index(drop=True).equals(single.requests[TIMES])
    rate = value(double, "output_tokens_completed_per_s") / value(single, "output_tokens_completed_per_s")
    assert rate == pytest.approx(2.0)
    assert value(double, "usd_per_million_tokens") == pytest.approx(value(single, "usd_per_million_tokens"))


def test_prices_scale_costs_and_nothing_else(plain: sim.Result) -> None:
    basis = plain.summary("usd_per_million_tokens", "all").iloc[0]
    assert basis["price_basis"] == "reserved_3_year"
    price = Library((builtin_root(),)).hardware("h100-sxm").spec.prices.hourly
    hourly = next(quoted.value for name, quoted in price.items() if name.value == "reserved_3_year")
    dearer = sim.simulate(scenario_of(fleet__serving__price=f"{3 * hourly} USD/h"))
    assert instants(plain).equals(instants(dearer))
    for metric in ("usd_per_million_tokens", "usd_per_million_output_tokens"):
        assert value(dearer, metric) == pytest.approx(3 * value(plain, metric))
    # accelerators x price x hours, over the tokens of what finished in the window
    done = plain.requests[(plain.requests["finished_s"] >= 30.0) & (plain.requests["finished_s"] < 180.0)]
    tokens = (done["prompt_tokens"] + done["output_tokens"]).sum()
    assert value(plain, "usd_per_million_tokens") == pytest.approx(2 * hourly * 150 / 3600 / tokens * 1e6)


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
def test_more_replicas_never_hurt(router: str) -> None:
    """At loads from 60% of capacity downwards the slowest of a hundred gains from every replica."""
    latency: dict[str, list[float]] = {"ttft_s": [], "e2e_s": []}
    for replicas in (1, 2, 4, 8):
        result = sim.simulate(
            scenario_of(router=router, fleet__serving__replicas=replicas, traffic__chat__rate="16 requests/s")
        )
        for metric, values in latency.items():
            values.append(value(result, metric, quantile=0.99))
    for values in latency.values():
        assert all(later <= 1.02 * earlier for earlier, later in itertools.pairwise(values))
        assert values[-1] < 0.8 * values[0]


def test_faster_hardware_is_faster(plain: sim.Result) -> None:
    faster = sim.simulate(scenario_of(fleet__serving__hardware="b200-hgx"))
    for metric in ("ttft_s", "tpot_s", "e2e_s"):
        for quantile in (0.5, 0.99):
            assert value(faster, metric, quantile=quantile) < value(plain, metric, quantile=quantile)


# Recorded traffic


def test_a_trace_is_replayed_faster(tmp_path: Path) -> None:
    file = trace_file(tmp_path, chat_trace())
    scenario = replayed(file)
    slow, fast = (sim.simulate(scenario.replace("traffic.chat.trace_speed", speed)) for speed in (1.0, 4.0))
    arrivals = slow.requests["arrival_s"].to_numpy()
    assert fast.requests["arrival_s"].to_numpy() == pytest.approx(arrivals / 4, abs=1e-9)
    assert fast.requests[LENGTHS].equals(slow.requests[LENGTHS])
    assert value(fast, "requests_offered_per_s") == pytest.approx(4 * value(slow, "requests_offered_per_s"), rel=1e-6)
    assert value(fast, "ttft_s") > value(slow, "ttft_s")


def test_recorded_and_synthetic_classes_meet(tmp_path: Path) -> None:
    recorded = chat_trace().assign(**{"class": "chat"})
    traffic = {
        "chat": {"trace": trace_file(tmp_path, recorded)},
        "voice": {"workload": "realtime-voice", "rate": "6 requests/s"},
    }
    result = sim.simulate(scenario_of(traffic=traffic))
    counts = result.requests["class"].value_counts()
    assert counts["chat"] == len(recorded)
    assert counts["voice"] > 600
    assert result.requests["arrival_s"].is_monotonic_increasing


def problems(scenario: sim.Scenario) -> list[Any]:
    with pytest.raises(sim.InputError) as caught:
        sim.simulate(scenario)
    with pytest.raises(sim.InputError) as checked:
        check(scenario)
    assert list(map(str, checked.value.problems)) == list(map(str, caught.value.problems))
    return list(caught.value.problems)


def test_a_trace_that_is_all_warm_up_is_bad_input(tmp_path: Path) -> None:
    file = trace_file(tmp_path, chat_trace().assign(**{"class": "chat"}))
    (problem,) = problems(scenario_of(traffic={"chat": {"trace": file}}, warm_up="5 min"))
    assert problem.path == "warm_up"
    assert "all of it warm-up" in problem.message


def test_no_request_at_all_is_bad_input() -> None:
    traffic = {"chat": {"workload": "realtime-chat", "rate": "0.000001 requests/s"}}
    (problem,) = problems(scenario_of(traffic=traffic))
    assert problem.path == "traffic"
    assert "no request arrives at all" in problem.message


def test_classes_of_a_trace_must_be_known(tmp_path: Path) -> None:
    table = chat_trace()
    table["class"] = table["class"].replace("voice", "fax")
    (problem,) = problems(replayed(trace_file(tmp_path, table)))
    assert (problem.path, problem.value) == ("traffic", "fax")


def test_all_broken_traces_are_told_at_once(tmp_path: Path) -> None:
    traffic = {name: {"trace": str(tmp_path / f"{name}.csv")} for name in ("chat", "voice")}
    told = problems(scenario_of(traffic=traffic))
    assert [problem.file for problem in told] == [entry["trace"] for entry in traffic.values()]


# Requests that no replica can ever hold


def test_oversized_requests_are_an_error_or_rejected(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "arrival_s": [0.0, 1.0, 2.0, 3.0],
            "prompt_tokens": [100, 131_071, 131_072, 10],
            "output_tokens": [10, 1, 1, 200_000],
        }
    )
    scenario = replayed(trace_file(tmp_path, table), names=("chat",), timeline_interval="1 s")
    (problem,) = problems(scenario)
    assert problem.path == "traffic.chat"
    assert problem.message.startswith("2 of 4 requests can never be served: the longest has 200010 tokens")
    assert "pool serving" in problem.message
    assert "holds 131072" in problem.message
    result = sim.simulate(scenario.replace("oversized_requests", "reject"))
    assert result.requests["outcome"].tolist() == ["finished", "finished", "rejected", "rejected"]
    rejected = result.requests[result.requests["outcome"] == "rejected"]
    assert rejected[["pool", "replica", "admitted_s", "first_token_s", "finished_s"]].isna().all(axis=None)
    assert (rejected["model"] == "llama-3.1-8b").all()
    assert value(result, "requests_rejected") == 2
    # A rejected request has waited for ever.
    assert value(result, "ttft_s", quantile=0.5) < 60.0
    assert value(result, "ttft_s", quantile=0.9) == np.inf
    assert result.timeline["arrivals"].sum() == 2


def test_a_fleet_that_is_too_small_for_every_request_is_bad_input(tmp_path: Path) -> None:
    """A request must fit whichever replica its router may choose, so the smallest pool counts."""
    table = pd.DataFrame({"arrival_s": [0.0], "prompt_tokens": [50_000], "output_tokens": [10]})
    tight = {"hardware": "tpu-v5e", "model": "llama-3.1-8b", "replicas": 1, "parallelism": {"tensor": 2}}
    fleet = {"large": SMALL, "small": tight}
    file = trace_file(tmp_path, table)
    (problem,) = problems(replayed(file, fleet, names=("chat",)))
    assert "1 of 1 requests" in problem.message
    alone = sim.simulate(replayed(file, {"large": SMALL}, names=("chat",)))
    assert alone.requests["outcome"].tolist() == ["finished"]


# Honesty


def flags(result: sim.Result) -> set[tuple[str, str]]:
    return {(flag.name, flag.scope) for flag in result.flags}


def test_a_calm_long_run_raises_no_flag() -> None:
    assert flags(sim.simulate(scenario_of(duration="20 min", warm_up="2 min"))) == set()


def test_a_short_run_has_few_samples() -> None:
    result = sim.simulate(scenario_of(duration="40 s", warm_up="30 s"))
    assert flags(result) == {("few_samples", "run"), ("few_samples", "class chat"), ("few_samples", "class voice")}
    assert value(result, "flag_few_samples", "chat") == 1.0
    # Replications bring the samples, but no longer run.
    assert flags(sim.simulate(scenario_of(duration="40 s", warm_up="30 s"), replications=20)) == {
        ("few_samples", "run")
    }


def test_overload_is_saturated_and_does_not_converge() -> None:
    result = sim.simulate(scenario_of(fleet__serving__replicas=1, traffic__chat__rate="200 requests/s", drain="0 s"))
    assert {("saturated", "pool serving"), ("not_converged", "pool serving")} <= flags(result)
    assert value(result, "requests_offered_per_s") > 3 * value(result, "requests_completed_per_s")
    assert value(result, "load_factor") > 3
    assert value(result, "e2e_s", quantile=0.99) == np.inf


def test_the_load_factor_is_the_load_at_which_queues_grow() -> None:
    """Below one nothing is flagged, a good part above one it is; what offered load needs is what the flag says."""
    factors = {}
    for rate in (20, 80):
        scenario = scenario_of(
            duration="10 min",
            warm_up="1 min",
            fleet__serving__replicas=2,
            traffic__chat__rate=f"{rate} requests/s",
        )
        result = sim.simulate(scenario)
        factors[rate] = value(result, "load_factor")
        assert (("saturated", "pool serving") in flags(result)) == (factors[rate] > 1.0)
        needed = int(np.ceil(2 * factors[rate]))
        if factors[rate] > 1.0:
            enough = sim.simulate(scenario.replace("fleet.serving.replicas", needed))
            assert ("saturated", "pool serving") not in flags(enough)
    assert factors[20] < 0.9
    assert factors[80] > 1.2


def test_parts_that_nobody_could_measure_are_flagged_and_so_is_a_missing_price() -> None:
    result = sim.simulate(scenario_of(fleet__serving__hardware="maia-200", duration="20 min", warm_up="2 min"))
    assert flags(result) == {
        (name, "pool serving") for name in ("specification_only", "outside_calibration", "no_price")
    }
    assert Library((builtin_root(),)).hardware("maia-200").spec.availability.status is Status.INTERNAL
    row = result.summary("usd_per_million_tokens", "all").iloc[0]
    assert np.isnan(row["value"])
    assert "no price for pool serving" in row["note"]
    assert value(result, "ttft_s", quantile=0.99) < 10.0


def test_flags_name_the_alternative_that_they_are_about(alternatives: sim.Result) -> None:
    scopes = {flag.scope for flag in alternatives.flags if flag.name == "few_samples"}
    assert {
        f"class documents of quickstart/{name}" for name in ("blackwell", "vera-rubin", "tpu", "trainium")
    } <= scopes


# Routers of one's own, engines and progress


def first_replica(request: RequestView, replicas: Sequence[ReplicaView]) -> int:
    return replicas[0].index


def shortest_queue(request: RequestView, replicas: Sequence[ReplicaView]) -> int:
    return min(replicas, key=lambda replica: (replica.outstanding, replica.index)).index


def test_a_router_of_ones_own_runs_on_simpy_and_the_manifest_says_why(plain: sim.Result) -> None:
    result = sim.simulate(scenario_of(duration="40 s"), router=first_replica)
    assert result.manifest["engine"] == "simpy"
    assert result.manifest["engine_reason"] == "the router is the user's own Python"
    assert set(result.requests["replica"]) == {0}
    assert plain.manifest["engine"] == "compiled"
    assert plain.manifest["engine_reason"] == "router and policies are built in"
    asked = sim.simulate(scenario_of(duration="40 s"), engine="simpy")
    assert asked.manifest["engine_reason"] == "asked for"


def test_the_built_in_router_in_python_gives_the_same(plain: sim.Result) -> None:
    assert same(sim.simulate(scenario_of(), router=shortest_queue), plain, ("requests", "timeline", "summary"))


def test_the_compiled_engine_refuses_a_python_router() -> None:
    with pytest.raises(ValueError, match="use engine='simpy' for a Python router"):
        sim.simulate(scenario_of(), engine="compiled", router=first_replica)


def test_a_router_must_choose_what_it_is_shown() -> None:
    with pytest.raises(ValueError, match="router chose replica 99"):
        sim.simulate(scenario_of(duration="40 s"), router=lambda request, replicas: 99)


def test_replications_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sim.simulate(scenario_of(), replications=0)


def test_progress_rises_to_one_over_all_runs(quickstart: sim.Scenario) -> None:
    told: list[tuple[str, float]] = []
    sim.simulate(quickstart, replications=2, progress=lambda name, fraction: told.append((name, fraction)))
    fractions = [fraction for _, fraction in told]
    assert all(later >= earlier for earlier, later in itertools.pairwise(fractions))
    assert fractions[0] > 0.0
    assert fractions[-1] == 1.0
    assert len({name for name, _ in told}) == 4


def test_check_returns_the_pools_of_every_variant(quickstart: sim.Scenario) -> None:
    pools = check(quickstart)
    assert [each[0].hardware for each in pools] == ["gb200-nvl72", "vr200-nvl72", "tpu-v7-ironwood", "trainium2"]
    broken = quickstart.replace("alternatives.tpu", {"fleet.serving.parallelism": {"tensor": 3}})
    with pytest.raises(sim.InputError, match="attention heads"):
        check(broken)


def test_repetitions_of_one_recorded_trace_are_refused(tmp_path: Path) -> None:
    """They would be the same run and promise an interval of zero width."""
    trace = tmp_path / "trace.csv"
    rows = "".join(f"{second},100,10\n" for second in range(300))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows, encoding="utf-8")
    scenario = sim.load("quickstart", {"warm_up": "10 s"}, (None, str(trace)))
    assert len(sim.simulate(scenario).requests) == 4 * 300
    with pytest.raises(sim.InputError, match="are one run, repeated"):
        sim.simulate(scenario, replications=2)


def test_a_class_without_a_single_request_is_flagged() -> None:
    scenario = sim.load("quickstart", {"traffic.voice.rate": "0.0000001 requests/s", "duration": "10 min"})
    flags = sim.simulate(scenario).flags
    assert any(flag.name == "few_samples" and "voice" in flag.scope and "no request" in flag.message for flag in flags)


def test_a_comparison_carries_the_flags_of_both_sides() -> None:
    scenario = sim.load("quickstart", {"duration": "6 min", "warm_up": "1 min", "alternatives": {}})
    weak = scenario.replace("fleet.serving.replicas", 1).replace("fleet.serving.hardware", "trainium2")
    comparison = sim.compare(scenario.replace("fleet.serving.replicas", 12), weak, replications=2)
    assert "saturated" in {flag.name for flag in comparison.flags[1]}
    assert "saturated" not in {flag.name for flag in comparison.flags[0]}
    assert "saturated" in comparison._repr_html_()


def test_more_requests_than_memory_holds_are_refused_before_any_is_drawn() -> None:
    scenario = sim.load("quickstart", {"traffic.chat.rate": "1000000000 requests/s"})
    with pytest.raises(sim.InputError, match="GiB of memory"):
        sim.simulate(scenario)
