import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.results.flags import Flag
from sim.results.intervals import mean_interval, quantile_of, quantile_sectioning_interval
from sim.results.metrics import PoolCost, Window
from sim.results.summary import summarise
from sim.results.tables import OUTCOMES, SUMMARY, arrow_table

ENDS = ["value", "low", "high"]


def row(summary, metric, quantile=None, class_name="all", pool="all"):
    rows = summary[(summary["metric"] == metric) & (summary["class"] == class_name) & (summary["pool"] == pool)]
    rows = rows[rows["quantile"].isna() if quantile is None else rows["quantile"] == quantile]
    assert len(rows) == 1, (metric, quantile, class_name, pool, len(rows))
    return rows.iloc[0]


def ends(summary, *where, **scope):
    return row(summary, *where, **scope)[ENDS].to_numpy(dtype=float)


def random_requests(requests_of, rows, seed, end_s=1000.0, **columns):
    rng = np.random.default_rng(seed)
    first = rng.exponential(1.0, rows)
    served = rng.random(rows) > 0.02
    return requests_of(
        np.sort(rng.uniform(0.0, end_s, rows)),
        ttft_s=np.where(served, first, math.nan),
        e2e_s=np.where(served, first + rng.exponential(5.0, rows), math.nan),
        prompt_tokens=rng.integers(1, 1000, rows),
        output_tokens=rng.integers(1, 200, rows),
        **{
            "class": rng.choice(["chat", "agent"], rows),
            "outcome": np.where(served, "finished", "rejected"),
            **columns,
        },
    )


@pytest.fixture
def quiet(timeline_of):
    return timeline_of(np.linspace(0.0, 1000.0, 101))


def test_rates_cost_and_goodput_of_a_run_that_one_can_do_by_hand(requests_of, timeline_of):
    # a request a second, from 0.5 s, each with 100 + 11 tokens, served in 2 s; every fourth is late
    table = requests_of(np.arange(100.0) + 0.5, ttft_s=np.tile([1.0, 1.0, 1.0, 1.9], 25))
    summary = summarise(
        table,
        timeline_of(np.arange(0.0, 101.0)),
        [PoolCost("main", 4, 9.0, "rent")],
        [("chat", "ttft_s", 0.75, 1.0)],
        Window(20.0, 100.0),
    )
    assert list(summary.columns) == [column.name for column in SUMMARY]
    for metric, value in {
        "requests_offered_per_s": 1.0,
        "requests_completed_per_s": 1.0,
        "input_tokens_offered_per_s": 100.0,
        "input_tokens_completed_per_s": 100.0,
        "output_tokens_offered_per_s": 11.0,
        "output_tokens_completed_per_s": 11.0,
        "goodput_tokens_per_s": 0.75 * 11.0,
        "goodput_requests_fraction": 0.75,
        # 4 x 9 USD an hour are 0.01 USD a second
        "usd_per_million_tokens": 0.01 / 111 * 1e6,
        "usd_per_million_output_tokens": 0.01 / 11 * 1e6,
        "ttft_s": 1.225,
        "e2e_s": 2.0,
        "utilisation": 0.5,
        "kv_used_fraction": 0.25,
    }.items():
        assert row(summary, metric)["value"] == pytest.approx(value), metric
    assert ends(summary, "ttft_s", 0.5, class_name="chat") == pytest.approx(1.0)
    assert ends(summary, "ttft_s", 0.9, class_name="chat") == pytest.approx(1.9)
    assert row(summary, "decode_tokens_per_s", pool="main")["value"] == pytest.approx(20.0)
    assert row(summary, "prefill_tokens_per_s", pool="main")["value"] == pytest.approx(10.0)
    assert ends(summary, "service_level_limit_ttft_s", 0.75, class_name="chat").tolist() == [1.0] * 3
    assert ends(summary, "service_level_met_ttft_s", 0.75, class_name="chat").tolist() == [1.0] * 3
    assert row(summary, "service_level_attainment_ttft_s", 0.75, class_name="chat")["value"] == 0.75
    assert row(summary, "usd_per_million_tokens")["price_basis"] == "rent"
    levels = summary["metric"].astype(str).str.startswith("service_level")
    assert set(summary.loc[levels, "class"]) == {"chat"}


def test_an_interval_does_not_reach_below_zero(requests_of, timeline_of):
    # all in the first of ten batches: mean 1, standard error 1, and t would go to -1.26
    summary = summarise(requests_of(np.linspace(0.0, 9.0, 100)), timeline_of([0.0, 100.0]), [], [], Window(0.0, 100.0))
    value, low, high = ends(summary, "requests_offered_per_s")
    assert (value, low) == (1.0, 0.0)
    assert high == pytest.approx(1.0 + stats.t.ppf(0.975, 9))


def test_every_metric_that_ends_in_a_unit_has_it(requests_of, quiet):
    summary = summarise(random_requests(requests_of, 500, 1), quiet, [], [], Window(0.0, 1000.0))
    for metric, unit in zip(summary["metric"], summary["unit"], strict=True):
        if metric.endswith("_per_s"):
            assert unit in ("requests/s", "tokens/s")
        elif metric.endswith("_s"):
            assert unit == "s"
        elif metric.endswith("_fraction"):
            assert unit == "1"


def test_latency_counts_who_arrives_in_the_window_and_throughput_who_finishes_in_it(requests_of, timeline_of):
    # before the window; arrives before and finishes in it; in it; arrives in it and finishes after; after it
    table = requests_of([0.0, 9.0, 12.0, 19.0, 20.0], e2e_s=[1.0, 2.0, 3.0, 4.0, 5.0], ttft_s=0.5)
    summary = summarise(table, timeline_of([0.0, 30.0]), [], [], Window(10.0, 20.0))
    assert row(summary, "requests_offered")["value"] == 2
    assert row(summary, "e2e_s")["value"] == 3.5
    assert row(summary, "requests_offered_per_s")["value"] == pytest.approx(0.2)
    assert row(summary, "requests_completed_per_s")["value"] == pytest.approx(0.2)
    assert row(summary, "input_tokens_completed_per_s")["samples"] == 2


def test_a_request_that_is_not_served_is_infinite_and_never_left_out(requests_of, quiet):
    for rejected, expected in ((9, 1.0), (11, math.inf)):
        served = np.repeat([1.0, math.nan], [1000 - rejected, rejected])
        table = requests_of(
            np.random.default_rng(2).permutation(1000.0 * np.arange(1000) / 1000),
            ttft_s=served,
            e2e_s=served,
            outcome=np.where(np.isnan(served), "rejected", "finished"),
        )
        summary = summarise(table, quiet, [], [], Window(0.0, 1000.0))
        for metric in ("ttft_s", "e2e_s"):
            p99 = row(summary, metric, 0.99)
            assert p99["value"] == expected
            assert p99["samples"] == 1000
            assert (p99["high"] == math.inf) >= (expected == math.inf)
            assert row(summary, metric)["value"] == math.inf
            assert f"{rejected} of 1000 requests were not served" in row(summary, metric)["note"]
        assert row(summary, "requests_rejected")["value"] == rejected
        assert row(summary, "goodput_requests_fraction")["value"] == pytest.approx(1 - rejected / 1000)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(20, 200))
def test_outcomes_add_up_by_class_and_over_classes(requests_of, timeline_of, seed, rows):
    rng = np.random.default_rng(seed)
    outcomes = rng.choice(OUTCOMES, rows)
    times = np.where(outcomes == "finished", 1.0, math.nan)
    table = requests_of(
        rng.uniform(0.0, 100.0, rows),
        ttft_s=times,
        e2e_s=times,
        outcome=outcomes,
        **{"class": rng.choice(["a", "b"], rows)},
    )
    summary = summarise(table, timeline_of([0.0, 100.0]), [], [], Window(30.0, 100.0))
    counts = summary[summary["unit"] == "requests"].pivot(index="metric", columns="class", values="value")
    names = [f"requests_{outcome}" for outcome in OUTCOMES]
    assert (counts.loc[names].sum() == counts.loc["requests_offered"]).all()
    assert (counts.drop(columns="all").sum(axis=1) == counts["all"]).all()
    assert counts.loc["requests_offered", "all"] == (table["arrival_s"] >= 30.0).sum()


def test_the_quantile_is_that_of_the_sectioning_interval_in_order_of_arrival(requests_of, quiet):
    table = random_requests(requests_of, 4000, 3)
    shuffled = table.sample(frac=1.0, random_state=1)
    summary = summarise(shuffled, quiet, [], [], Window(100.0, 1000.0))
    chosen = table[(table["class"] == "chat") & (table["arrival_s"] >= 100.0)]
    waits = (chosen["first_token_s"] - chosen["arrival_s"]).fillna(math.inf).to_numpy()
    expected = quantile_sectioning_interval(waits, 0.9, 10)
    assert ends(summary, "ttft_s", 0.9, class_name="chat").tolist() == [expected.value, expected.low, expected.high]
    assert row(summary, "ttft_s", 0.9, class_name="chat")["method"] == "sectioning"


def test_row_order_and_form_of_the_tables_do_not_matter(requests_of, quiet):
    table = random_requests(requests_of, 2000, 4)
    arguments = [PoolCost("main", 8, 2.0, "rent")], [("chat", "e2e_s", 0.95, 20.0)], Window(100.0, 1000.0)
    expected = summarise(table, quiet, *arguments)
    for requests, timeline in (
        (table.sample(frac=1.0, random_state=2), quiet.sample(frac=1.0, random_state=3)),
        (arrow_table("requests", table), arrow_table("timeline", quiet)),
    ):
        pd.testing.assert_frame_equal(summarise(requests, timeline, *arguments), expected, rtol=1e-12)


def test_twice_as_slow_doubles_latencies_halves_rates_and_leaves_fractions(requests_of, timeline_of):
    def slowed(factor):
        table = random_requests(requests_of, 3000, 5)
        times = ["arrival_s", "admitted_s", "first_token_s", "finished_s"]
        table[times] *= factor
        return summarise(
            table,
            timeline_of(factor * np.linspace(0.0, 1000.0, 101)),
            [PoolCost("main", 8, 2.0, "rent")],
            [("chat", "e2e_s", 0.95, 20.0 * factor)],
            Window(100.0 * factor, 1000.0 * factor),
        )

    once, twice = slowed(1.0), slowed(2.0)
    for unit, factor in {"s": 2.0, "requests/s": 0.5, "tokens/s": 0.5, "1": 1.0, "USD per million tokens": 2.0}.items():
        rows = once["unit"] == unit
        assert rows.any()
        np.testing.assert_allclose(
            twice.loc[rows, ENDS].to_numpy(dtype=float), factor * once.loc[rows, ENDS].to_numpy(dtype=float), rtol=1e-9
        )


def test_renaming_or_splitting_a_class_changes_no_number_of_the_whole(requests_of, quiet):
    table = random_requests(requests_of, 3000, 6)
    split = table.assign(**{"class": np.where(np.arange(3000) % 2, table["class"], "zebra")})
    renamed = table.assign(**{"class": table["class"].map({"chat": "aardvark", "agent": "worker"})})
    before, after, other = (summarise(each, quiet, [], [], Window(0.0, 1000.0)) for each in (table, split, renamed))
    for changed in (after, other):
        pd.testing.assert_frame_equal(
            before[before["class"] == "all"][["metric", *ENDS]].astype({"metric": str}).reset_index(drop=True),
            changed[changed["class"] == "all"][["metric", *ENDS]].astype({"metric": str}).reset_index(drop=True),
        )
    for old, new in {"chat": "aardvark", "agent": "worker"}.items():
        np.testing.assert_array_equal(
            before.loc[before["class"] == old, ENDS].to_numpy(dtype=float),
            other.loc[other["class"] == new, ENDS].to_numpy(dtype=float),
        )


def test_replications_give_the_pooled_value_and_an_interval_from_their_own_values(requests_of, timeline_of):
    parts = [random_requests(requests_of, 500 + 50 * seed, seed, replication=seed) for seed in range(5)]
    window = Window(0.0, 1000.0)
    clock = np.linspace(0.0, 1000.0, 11)
    busy = [0.1, 0.2, 0.4, 0.5, 0.8]
    timeline = pd.concat([timeline_of(clock, replication=seed, busy_fraction=busy[seed]) for seed in range(5)])
    summary = summarise(pd.concat(parts), timeline, [], [], window)
    own = [len(part) / 1000.0 for part in parts]
    expected = mean_interval(own)
    assert ends(summary, "requests_offered_per_s") == pytest.approx([expected.value, expected.low, expected.high])
    expected = mean_interval(busy)
    assert ends(summary, "utilisation") == pytest.approx([expected.value, max(0, expected.low), expected.high])
    assert row(summary, "requests_offered_per_s")["method"] == "replications"
    for class_name in ("all", "chat"):
        chosen = [part if class_name == "all" else part[part["class"] == class_name] for part in parts]
        waits = [(part["first_token_s"] - part["arrival_s"]).fillna(math.inf) for part in chosen]
        p90 = row(summary, "ttft_s", 0.9, class_name=class_name)
        assert p90["value"] == quantile_of(np.concatenate(waits), 0.9)
        spread = sum((quantile_of(wait, 0.9) - p90["value"]) ** 2 for wait in waits)
        half_width = stats.t.ppf(0.975, 4) * math.sqrt(spread / 4 / 5)
        assert p90["high"] - p90["value"] == pytest.approx(half_width)
        assert p90["samples"] == sum(map(len, chosen))
    assert row(summary, "requests_offered")["value"] == sum(map(len, parts))


def test_identical_replications_leave_no_doubt(requests_of, timeline_of):
    part = random_requests(requests_of, 1000, 7)
    clock = np.linspace(0.0, 1000.0, 11)
    once = summarise(part, timeline_of(clock), [], [], Window(0.0, 1000.0))
    copies = pd.concat([part.assign(replication=number) for number in range(3)])
    timelines = pd.concat([timeline_of(clock, replication=number) for number in range(3)])
    summary = summarise(copies, timelines, [], [], Window(0.0, 1000.0))
    estimated = summary[(summary["method"] == "replications") & np.isfinite(summary["value"])]
    assert len(estimated) > 50
    np.testing.assert_allclose(estimated["low"], estimated["high"], rtol=1e-9)
    same = once.loc[estimated.index, "value"]
    np.testing.assert_allclose(estimated["value"], same, rtol=1e-9)


def test_a_replication_without_any_request_counts_as_zero(requests_of, timeline_of):
    timeline = pd.concat([timeline_of([0.0, 100.0], replication=number) for number in range(2)])
    summary = summarise(requests_of(np.arange(100.0), replication=1), timeline, [], [], Window(0.0, 100.0))
    assert row(summary, "requests_offered_per_s")["value"] == pytest.approx(0.5)
    assert "1 of 2 replications had no observations" in row(summary, "ttft_s", 0.5)["note"]


def test_batch_means_of_a_queue_cover_the_mean_sojourn(requests_of, timeline_of, lindley):
    rho = 0.7
    arrivals, waits, services = lindley(rho, 200_000, np.random.default_rng(8))
    # M/M/1: the mean time in the system is 1 / (1 - rho), the rate that of the arrivals
    table = requests_of(arrivals, ttft_s=waits, e2e_s=waits + services)
    window = Window(2000.0, float(arrivals[-1]))
    summary = summarise(table, timeline_of([0.0, window.end_s]), [], [], window)
    for metric, truth, width in (("e2e_s", 1 / (1 - rho), 0.15), ("requests_completed_per_s", rho, 0.03)):
        value, low, high = ends(summary, metric)
        assert low <= truth <= high, (metric, value, low, high)
        assert high - low < width * truth


def test_a_limit_inside_the_interval_is_neither_met_nor_missed(requests_of, quiet):
    table = random_requests(requests_of, 4000, 9)
    first = summarise(table, quiet, [], [], Window(0.0, 1000.0))
    value, low, high = ends(first, "ttft_s", 0.9, class_name="chat")
    expected = {
        low / 2: [0.0, 0.0, 0.0],
        (low + value) / 2: [0.0, 0.0, 1.0],
        (value + high) / 2: [1.0, 0.0, 1.0],
        2 * high: [1.0, 1.0, 1.0],
    }
    for limit_s, met in expected.items():
        summary = summarise(table, quiet, [], [("chat", "ttft_s", 0.9, limit_s)], Window(0.0, 1000.0))
        assert ends(summary, "service_level_met_ttft_s", 0.9, class_name="chat").tolist() == met
        attained = row(summary, "service_level_attainment_ttft_s", 0.9, class_name="chat")["value"]
        assert (attained >= 0.9) == bool(met[0])


def test_a_service_level_may_ask_for_another_quantile_and_a_class_that_did_not_come(requests_of, quiet):
    levels = [("chat", "ttft_s", 0.8, 5.0), ("voice", "tpot_s", 0.9, 1.0)]
    summary = summarise(random_requests(requests_of, 1000, 10), quiet, [], levels, Window(0.0, 1000.0))
    assert row(summary, "ttft_s", 0.8, class_name="chat")["samples"] > 0
    absent = row(summary, "service_level_met_tpot_s", 0.9, class_name="voice")
    assert absent[ENDS].isna().all()
    assert absent["note"] == "no observations"
    assert row(summary, "requests_offered", class_name="voice")["value"] == 0


def test_costs_of_pools_add_up_and_follow_the_price(requests_of, timeline_of, quiet):
    table = random_requests(requests_of, 1000, 11)
    table["pool"] = np.where(np.arange(1000) % 3, "big", "small")
    both = pd.concat([quiet.assign(pool="big"), quiet.assign(pool="small")])

    def costs(*pools):
        return summarise(table, both, pools, [], Window(0.0, 1000.0))

    big, small = PoolCost("big", 64, 4.0, "rent"), PoolCost("small", 8, 1.0, "owned")
    summary, dear = costs(big, small), costs(PoolCost("big", 64, 8.0, "rent"), small)
    metric = "usd_per_million_output_tokens"
    np.testing.assert_allclose(ends(dear, metric, pool="big"), 2 * ends(summary, metric, pool="big"))
    np.testing.assert_array_equal(ends(dear, metric, pool="small"), ends(summary, metric, pool="small"))
    done = table[table["finished_s"] < 1000.0].groupby("pool")["output_tokens"].sum()
    hours = 1000.0 / 3600.0
    assert row(summary, metric, pool="small")["value"] == pytest.approx(8 * 1.0 * hours / done["small"] * 1e6)
    assert row(summary, metric)["value"] == pytest.approx((64 * 4.0 + 8 * 1.0) * hours / done.sum() * 1e6)
    assert row(summary, metric)["price_basis"] == "owned; rent"


def test_cost_follows_the_replicas_that_are_paid_and_off_ones_cost_nothing(requests_of, timeline_of):
    """By hand: ten replicas for 500 s, then four, of which one is spare, one starts and one has failed."""
    late = np.arange(100) >= 50
    scaled = timeline_of(
        np.linspace(0.0, 1000.0, 101),
        replicas=np.where(late, 1.0, 10.0),
        spare_replicas=np.where(late, 1.0, 0.0),
        starting_replicas=np.where(late, 1.0, 0.0),
        failed_replicas=np.where(late, 1.0, 0.0),
        power_w=np.where(late, 2000.0, 7000.0),
    )
    table = requests_of(np.arange(1000.0) + 0.5)
    window = Window(200.0, 1000.0)
    replica_s = 300.0 * 10 + 500.0 * 4
    summary = summarise(table, scaled, [PoolCost("main", 2 * replica_s / 800.0, 9.0, "rent")], [], window)
    tokens = 111 * 800
    found = row(summary, "usd_per_million_tokens", pool="main")["value"]
    assert found == pytest.approx(replica_s * 2 * 9.0 / 3600 / tokens * 1e6, rel=1e-12)
    # Tokens come evenly and the cost does not: the interval tells it.
    even = scaled.assign(replicas=1.0, spare_replicas=0.0, starting_replicas=0.0, failed_replicas=0.0)
    steady = summarise(table, even, [PoolCost("main", 12.5, 9.0, "rent")], [], window)
    found_both = [row(each, "usd_per_million_tokens", pool="main") for each in (summary, steady)]
    widths = [each["high"] - each["low"] for each in found_both]
    assert widths[0] > 2 * widths[1]
    assert row(summary, "paid_replicas", pool="main")["value"] == pytest.approx(replica_s / 800)
    assert row(summary, "availability", pool="main")["value"] == pytest.approx(1 - 500 / replica_s)
    energy = row(summary, "energy_per_million_tokens", pool="main")["value"]
    assert energy == pytest.approx((300 * 7000 + 500 * 2000) / 3.6e6 / tokens * 1e6)
    assert row(summary, "energy_per_million_tokens")["value"] == pytest.approx(energy)


def test_availability_has_an_interval_that_covers_it_and_is_narrow(requests_of, timeline_of):
    """Replicas that fail at random: the share of the time in which they are there, over 20 replications."""
    random = np.random.default_rng(5)
    runs = [
        timeline_of(np.linspace(0.0, 1000.0, 101), replication=number, replicas=10.0 - lost, failed_replicas=lost)
        for number, lost in enumerate(random.binomial(10, 0.03, (20, 100)).astype(float))
    ]
    table = pd.concat([requests_of(np.arange(100.0) * 10, replication=number) for number in range(20)])
    summary = summarise(table, pd.concat(runs), [], [], Window(0.0, 1000.0))
    found = row(summary, "availability", pool="main")
    assert found["low"] < 0.97 < found["high"]
    assert found["high"] - found["low"] < 0.008
    assert found["method"] == "replications"


def test_where_no_power_is_known_there_is_no_energy(requests_of, quiet):
    summary = summarise(random_requests(requests_of, 500, 12), quiet, [], [], Window(0.0, 1000.0))
    unknown = row(summary, "energy_per_million_tokens", pool="main")
    assert (math.isnan(unknown["value"]), unknown["note"]) == (True, "no power is known")


def test_a_cost_without_price_or_tokens_says_so(requests_of, quiet):
    pools = [PoolCost("main", 8, None, "internal"), PoolCost("idle", 8, 2.0, "rent")]
    both = pd.concat([quiet, quiet.assign(pool="idle")])
    summary = summarise(random_requests(requests_of, 500, 12), both, pools, [], Window(0.0, 1000.0))
    for pool in ("main", "all"):
        unpriced = row(summary, "usd_per_million_tokens", pool=pool)
        assert unpriced[ENDS].isna().all()
        assert unpriced["note"] == "no price for pool main"
    idle = row(summary, "usd_per_million_tokens", pool="idle")
    assert (idle["value"], idle["note"]) == (math.inf, "no token was completed in the window")


def test_utilisation_is_weighted_by_replicas_and_by_the_part_inside_the_window(requests_of, timeline_of):
    main = timeline_of([0.0, 10.0, 30.0], busy_fraction=[1.0, 0.25], decode_tokens=[50.0, 60.0])
    side = timeline_of([0.0, 10.0, 30.0], pool="side", replicas=3.0, busy_fraction=[0.0, 0.5])
    summary = summarise(requests_of([6.0]), pd.concat([main, side]), [], [], Window(5.0, 20.0))
    assert row(summary, "utilisation", pool="main")["value"] == pytest.approx((5 * 1.0 + 10 * 0.25) / 15)
    assert row(summary, "utilisation")["value"] == pytest.approx((5 * 1.0 + 10 * (0.25 + 3 * 0.5)) / (15 * 4))
    assert row(summary, "decode_tokens_per_s", pool="main")["value"] == pytest.approx((25 + 30) / 15)


def test_flags_stand_in_the_summary(requests_of, quiet):
    flags = [Flag("saturated", "pool main", "too much"), Flag("few_samples", "class chat", "too few")]
    summary = summarise(requests_of([6.0]), quiet, [], [], Window(5.0, 20.0), flags=flags)
    assert row(summary, "flag_saturated", pool="main")["note"] == "too much"
    assert row(summary, "flag_few_samples", class_name="chat")["value"] == 1.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"scenario_id": ["a", "b"]}, "exactly one scenario are needed, not of 2: a, b"),
        ({"class": ["all", "chat"]}, "a class is named 'all'"),
        ({"pool": ["all", "main"]}, "a pool is named 'all'"),
        ({"outcome": ["rejected", "finished"]}, "1 requests contradict themselves"),
        ({"e2e_s": [math.nan, 2.0], "outcome": "finished"}, "1 requests contradict themselves"),
    ],
)
def test_contradictory_tables_are_refused(requests_of, quiet, columns, message):
    with pytest.raises(ValueError, match=message):
        summarise(requests_of([0.0, 1.0], **columns), quiet, [], [], Window(0.0, 10.0))


def test_no_request_at_all_is_refused(requests_of, quiet):
    with pytest.raises(ValueError, match="exactly one scenario"):
        summarise(requests_of([]), quiet, [], [], Window(0.0, 10.0))
