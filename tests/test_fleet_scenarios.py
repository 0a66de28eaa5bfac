"""The shipped scenarios of fleets in motion: each shows what its mechanism does, on both engines alike."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest

import sim
from sim.serving.deployment import deploy
from sim.theory.breakdowns import fifo_with_outages

SHORT = {"warm_up": "10 s", "drain": "5 min", "timeline_interval": "30 s", "alternatives": {}}
SHORT_OF = {
    "agents-and-caches": {
        "duration": "2 min",
        "fleet.agents.prefix_cache.host_memory": {"size": "1 TB", "bandwidth": "100 GB/s"},
    },
    "model-roll-out": {
        "duration": "4 min",
        "fleet.serving.roll_outs": [
            {"start": "20 s", "drain": "5 s", "duration": "10 s", "interval": "50 s", "at_once": 2}
        ],
    },
    "morning-ramp": {"duration": "10 min", "start_hour": 14, "fleet.serving.autoscaling.warm_spares": 1},
    "power-cap": {"duration": "1 min", "fleet.serving.power.rack_cap": "7 kW"},
    "prefill-and-decode": {"duration": "2 min"},
    "rack-failure": {
        "duration": "3 min",
        "fleet.serving.outages": [{"kind": "rack", "start": "40 s", "duration": "50 s", "replicas": [0, 1]}],
    },
    "spill-over": {"duration": "90 s", "traffic.chat.rate": "40 requests/s", "traffic.chat.timeout.first_token": "1 s"},
    "voice-and-batch": {"duration": "4 min"},
}


@cache
def result(name: str) -> sim.Result:
    return sim.simulate(sim.load(name))


def value(
    name: str, alternative: str, metric: str, class_name: str = "all", pool: str = "all", quantile: float | None = None
) -> float:
    rows = result(name).summary(metric, class_name)
    rows = rows[(rows["scenario_id"] == f"{name}/{alternative}") & (rows["pool"] == pool)]
    rows = rows[rows["quantile"].isna() if quantile is None else rows["quantile"] == quantile]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def requests(name: str, alternative: str) -> pd.DataFrame:
    rows = result(name).requests
    return rows[rows["scenario_id"] == f"{name}/{alternative}"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT_OF))
def test_both_engines_give_the_same_life(name: str) -> None:
    """Requests, timeline and headroom, to the last bit."""
    scenario = sim.load(name, SHORT | SHORT_OF[name])
    compiled, reference = (sim.simulate(scenario, engine=engine) for engine in ("compiled", "simpy"))
    for table in ("requests", "timeline", "headroom"):
        pd.testing.assert_frame_equal(getattr(compiled, table), getattr(reference, table))


@pytest.mark.parametrize("name", sorted(SHORT_OF))
def test_as_shipped_it_raises_no_flag_of_its_own_making(name: str) -> None:
    assert not {flag.name for flag in result(name).flags} & {"saturated", "not_converged", "few_samples", "no_price"}


@pytest.mark.parametrize("name", sorted(SHORT_OF))
def test_every_request_ends_in_one_of_four_ways_and_all_paid_time_is_borne(name: str) -> None:
    for scenario_id, rows in result(name).requests.groupby("scenario_id", observed=True):
        assert rows["request_id"].is_unique
        finished = rows["outcome"] == "finished"
        assert (rows["finished_s"].notna() == finished).all()
        timeline = result(name).timeline
        timeline = timeline[timeline["scenario_id"] == scenario_id]
        seconds = timeline["interval_end_s"] - timeline["interval_start_s"]
        paid = timeline[["replicas", "starting_replicas", "spare_replicas", "failed_replicas"]].sum(axis=1) * seconds
        headroom = result(name).headroom
        headroom = (
            headroom[headroom["scenario_id"] == scenario_id].groupby("pool", observed=True)["accelerator_s"].sum()
        )
        paid = paid.groupby(timeline["pool"].astype(str)).sum()
        ratio = headroom.rename(str) / paid
        assert np.allclose(ratio, np.round(ratio)), "the paid replica time, times the accelerators of a replica"


def test_a_fleet_that_follows_the_morning_is_paid_less_and_is_late() -> None:
    cost = {
        each: value("morning-ramp", each, "usd_per_million_tokens") for each in ("fixed", "scaled", "spare", "schedule")
    }
    assert cost["scaled"] < cost["schedule"] < cost["spare"] < cost["fixed"]
    assert cost["scaled"] < 0.75 * cost["fixed"]
    late = {each: value("morning-ramp", each, "ttft_s", "agent", quantile=0.99) for each in cost}
    assert late["fixed"] < late["schedule"] < late["spare"] < late["scaled"]
    parts = result("morning-ramp").headroom.groupby(["scenario_id", "part"], observed=True)["accelerator_s"].sum()
    assert parts["morning-ramp/spare", "spare"] > 0.0 == parts["morning-ramp/scaled", "spare"]
    assert parts["morning-ramp/scaled", "starting"] > 0.0 == parts["morning-ramp/fixed", "starting"]


def test_a_dead_rack_takes_what_ran_there_elsewhere_and_half_of_the_fleet_away() -> None:
    # Two of four replicas are away for 25 of the 50 minutes that are measured.
    assert value("rack-failure", "failure", "availability", pool="serving") == pytest.approx(0.75, abs=1e-6)
    assert value("rack-failure", "calm", "availability", pool="serving") == 1.0
    lost = requests("rack-failure", "failure")
    assert not requests("rack-failure", "calm")["retries"].any()
    again = lost[lost["retries"] > 0]
    assert len(again) > 0
    # Those that start again are exactly those that were on the two replicas when the rack died.
    calm = requests("rack-failure", "calm").set_index("request_id")
    there = calm[(calm["arrival_s"] < 1200.0) & (calm["finished_s"] > 1200.0) & (calm["replica"].isin([0, 1]))]
    assert abs(len(there) - len(again)) <= 2
    away = lost[(lost["arrival_s"] > 1200.0) & (lost["arrival_s"] < 2700.0)]
    assert set(away["replica"]) == {2, 3}
    worst = {
        each: value("rack-failure", each, "e2e_s", "chat", quantile=0.99)
        for each in ("calm", "failure", "failure-with-two-more")
    }
    assert worst["failure"] > 1.3 * worst["calm"] > 1.3 * worst["failure-with-two-more"]


def test_a_roll_out_reaches_every_replica_and_is_felt_where_it_takes_half_at_once() -> None:
    # Each of four replicas is away for one of the 35 minutes that are measured.
    for each in ("one-by-one", "two-by-two"):
        assert value("model-roll-out", each, "availability", pool="serving") == pytest.approx(34 / 35, abs=1e-6)
        assert set(requests("model-roll-out", each)["outcome"]) == {"finished"}
    slow = {
        each: value("model-roll-out", each, "tpot_s", "chat", quantile=0.99)
        for each in ("none", "one-by-one", "two-by-two")
    }
    assert slow["none"] < slow["one-by-one"] < 0.7 * slow["two-by-two"]


def test_voice_does_not_wait_for_the_jobs_that_yield_to_it() -> None:
    voice = {
        each: value("voice-and-batch", each, "ttft_s", "voice", quantile=0.99)
        for each in ("no-classes", "priority", "apart")
    }
    assert voice["apart"] < voice["priority"] < 0.5 * voice["no-classes"]
    jobs = {each: value("voice-and-batch", each, "ttft_s", "jobs", quantile=0.99) for each in voice}
    assert jobs["no-classes"] < jobs["priority"] < jobs["apart"]


def test_the_cache_is_warm_where_the_session_was_before() -> None:
    found = {}
    for each in ("affinity", "affinity-with-host-memory", "by-load"):
        rows = requests("agents-and-caches", each)
        found[each] = rows["cached_tokens"].sum() / rows["prompt_tokens"].sum()
    assert found["by-load"] < found["affinity"] - 0.2
    assert found["affinity"] <= found["affinity-with-host-memory"]
    first = {each: value("agents-and-caches", each, "ttft_s", "agent", quantile=0.5) for each in found}
    assert first["affinity"] < 0.25 * first["by-load"]


def test_answers_run_evenly_where_no_prompt_comes_between() -> None:
    even = {each: value("prefill-and-decode", each, "tpot_s", "chat", quantile=0.99) for each in ("together", "apart")}
    assert even["apart"] < 0.7 * even["together"]
    first = {each: value("prefill-and-decode", each, "ttft_s", "chat", quantile=0.5) for each in even}
    assert first["together"] < first["apart"]
    # The pool that answers has them all, and bears the cost of both.
    assert set(requests("prefill-and-decode", "apart")["pool"]) == {"answers"}
    both = [
        value("prefill-and-decode", "apart", "usd_per_million_tokens", pool=pool) for pool in ("prompts", "answers")
    ]
    assert sum(both) == pytest.approx(value("prefill-and-decode", "apart", "usd_per_million_tokens"))


def test_a_power_cap_is_kept_and_costs_little_speed() -> None:
    rows = result("power-cap").timeline
    late = rows["interval_start_s"] >= 60.0
    for each, cap_w in (("cap-9-kw", 9000.0), ("cap-7-kw", 7000.0)):
        power = rows[late & (rows["scenario_id"] == f"power-cap/{each}")]["power_w"]
        assert 0.9 * cap_w < power.mean() < 1.001 * cap_w
    energy = {
        each: value("power-cap", each, "energy_per_million_tokens") for each in ("uncapped", "cap-9-kw", "cap-7-kw")
    }
    assert energy["cap-7-kw"] < 0.8 * energy["cap-9-kw"] < 0.8 * energy["uncapped"]
    slow = {each: value("power-cap", each, "tpot_s", "chat", quantile=0.5) for each in energy}
    assert slow["uncapped"] < slow["cap-9-kw"] < slow["cap-7-kw"] < 1.3 * slow["uncapped"]


def test_what_does_not_fit_goes_elsewhere_or_comes_again() -> None:
    api = requests("spill-over", "api")
    sent = api[api["pool"] == "rented-model"]
    assert 0 < len(sent) < 0.1 * len(api)
    assert sent["replica"].isna().all()
    assert (sent["first_token_s"] - sent["arrival_s"]).to_numpy() == pytest.approx(0.7)
    expected = (sent["prompt_tokens"] * 0.6 + sent["output_tokens"] * 2.0).sum() / (
        sent["prompt_tokens"] + sent["output_tokens"]
    ).sum()
    assert value("spill-over", "api", "usd_per_million_tokens", pool="rented-model") == pytest.approx(expected, rel=0.1)
    assert set(requests("spill-over", "rented-pool")["pool"]) == {"owned", "rented"}
    refused = requests("spill-over", "refused")
    assert (refused["retries"] > 0).any()
    assert set(refused.loc[refused["outcome"] == "rejected", "retries"]) <= {2}


@pytest.mark.parametrize("engine", ["compiled", "simpy"])
def test_every_request_through_a_known_schedule_of_outages_is_the_queue_of_theory(engine: str) -> None:
    """One request at a time on one replica that is away at known times: each finish, against the exact path.

    A service that is interrupted begins anew. Service times are those of the same requests without outages.
    """
    changes: dict[str, object] = {
        "alternatives": {},
        "duration": "20 min",
        "warm_up": "1 min",
        "drain": "1 h",
        "traffic": {"chat": {"workload": "realtime-chat", "rate": "0.4 requests/s"}},
        "fleet": {"one": {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 1, "max_sequences": 1}},
    }
    away = [(100, 20), (150, 7), (400, 90), (500, 3), (1000, 40)]
    outages = [{"kind": "system", "start": f"{at} s", "duration": f"{long} s", "replicas": [0]} for at, long in away]
    calm, broken = (
        sim.simulate(sim.load("quickstart", changes | {"fleet.one.outages": each}), engine=engine).requests  # type: ignore[arg-type]
        for each in ([], outages)
    )
    (deployment,) = deploy(sim.load("quickstart", changes))
    service_s = (calm["finished_s"] - deployment.request_overhead_s - calm["admitted_s"]).to_numpy()
    done_s, lost = fifo_with_outages(
        calm["arrival_s"], service_s, [[(at, at + long) for at, long in away]], repeat=True
    )
    assert lost.sum() >= 2
    assert (broken["retries"].to_numpy() >= lost).all()
    assert broken["finished_s"].to_numpy() - deployment.request_overhead_s == pytest.approx(done_s, abs=1e-6)
