import numpy as np
import pandas as pd
import pytest

from sim.results.flags import few_samples, honesty_flags, near_knee, not_converged, outside_calibration, saturated
from sim.results.metrics import Window
from sim.serving.validity import Validity
from sim.specs.serving_stack import BandSpec

CLOCK = np.linspace(0.0, 600.0, 61)
MIDDLES = (CLOCK[:-1] + CLOCK[1:]) / 2
WINDOW = Window(60.0, 600.0)


def names(flags):
    return [(flag.name, flag.scope) for flag in flags]


def queue_timeline(timeline_of, lindley, rho, customers, seed):
    """Timeline of an M/M/1 queue: time-weighted means of 60 intervals, by the area under each stay."""
    arrivals, waits, services = lindley(rho, customers, np.random.default_rng(seed))
    clock = np.linspace(0.0, arrivals[-1], 61)

    def present(starts, ends):
        area = [np.clip(np.minimum(ends, instant) - starts, 0, None).sum() for instant in clock]
        return np.diff(area) / np.diff(clock)

    running = present(arrivals + waits, arrivals + waits + services)
    timeline = timeline_of(
        clock, waiting=present(arrivals, arrivals + waits), running=running, busy_fraction=np.minimum(running, 1.0)
    )
    return timeline, Window(0.1 * clock[-1], float(clock[-1]))


def test_offered_load_above_capacity_is_saturated_and_says_by_how_much(timeline_of):
    timeline = timeline_of(CLOCK)
    assert saturated({"main": 1.0}, timeline, WINDOW) == []
    (flag,) = saturated({"main": 1.37}, timeline, WINDOW)
    assert (flag.name, flag.scope) == ("saturated", "pool main")
    assert "1.37 times the capacity" in flag.message
    assert "1.37 times the replicas" in flag.message
    # a pool that never got as far as the timeline
    assert names(saturated({"ghost": 2.0}, timeline, WINDOW)) == [("saturated", "pool ghost")]


def test_always_busy_is_saturated_only_with_a_growing_queue(timeline_of):
    for waiting, busy, expected in (
        (20.0 + 0.0 * MIDDLES, 1.0, []),
        (0.1 * MIDDLES, 0.9, []),
        (0.1 * MIDDLES, 1.0, [("saturated", "pool main")]),
    ):
        timeline = timeline_of(CLOCK, waiting=waiting, busy_fraction=busy)
        assert names(saturated({}, timeline, WINDOW)) == expected
        assert names(saturated({"main": 0.9}, timeline, WINDOW)) == expected


def test_a_queue_that_grows_to_the_end_has_not_converged(timeline_of):
    (flag,) = not_converged(timeline_of(CLOCK, waiting=0.1 * MIDDLES), WINDOW)
    assert (flag.name, flag.scope) == ("not_converged", "pool main")
    # means of the middle and the last third of 0.1 t over 600 s
    assert "requests waiting grew from 30 to 50" in flag.message
    assert "run longer" in flag.message


def test_requests_that_grow_with_the_replicas_are_no_growing_queue(timeline_of):
    """Ten requests a replica, and replicas that follow the load: nobody waits longer at the end."""
    replicas = np.linspace(2.0, 12.0, 60)
    followed = timeline_of(CLOCK, waiting=0.0, running=10.0 * replicas, replicas=replicas)
    assert not_converged(followed, WINDOW) == []
    fixed = timeline_of(CLOCK, waiting=0.0, running=10.0 * replicas, replicas=7.0)
    assert names(not_converged(fixed, WINDOW)) == [("not_converged", "pool main")]


def test_a_long_warm_up_does_not_hide_the_growth(timeline_of):
    timeline = timeline_of(CLOCK, waiting=0.1 * MIDDLES)
    assert names(not_converged(timeline, Window(500.0, 600.0))) == [("not_converged", "pool main")]


def test_what_drains_after_the_arrivals_is_not_looked_at(timeline_of):
    clock = np.linspace(0.0, 1200.0, 121)
    middles = (clock[:-1] + clock[1:]) / 2
    timeline = timeline_of(clock, waiting=np.where(middles < 600.0, 0.1 * middles, 0.0))
    assert names(not_converged(timeline, WINDOW)) == [("not_converged", "pool main")]


def test_a_fleet_that_still_fills_up_has_not_converged(timeline_of):
    (flag,) = not_converged(timeline_of(CLOCK, running=0.2 * MIDDLES), WINDOW)
    assert "requests in the system grew from 60 to 100" in flag.message


def test_level_short_and_small_queues_are_left_alone(timeline_of):
    noise = np.random.default_rng(1).exponential(10.0, MIDDLES.size)
    spike = 5.0 + 400.0 * (np.arange(MIDDLES.size) == 55)
    for waiting in (noise, spike, 0.001 * MIDDLES, 50.0 - 0.08 * MIDDLES):
        assert not_converged(timeline_of(CLOCK, waiting=waiting), WINDOW) == []
    # steadily up from 106 to 110, which is not a factor
    assert not_converged(timeline_of(CLOCK, waiting=100.0 + 0.02 * MIDDLES), WINDOW) == []
    # half a request more for each of 40 replicas
    assert not_converged(timeline_of(CLOCK, waiting=0.1 * MIDDLES, replicas=40.0), WINDOW) == []


def test_each_pool_is_judged_by_itself_and_replications_together(timeline_of):
    main = [timeline_of(CLOCK, waiting=0.1 * MIDDLES, replication=number) for number in range(3)]
    side = [timeline_of(CLOCK, pool="side", replication=number) for number in range(3)]
    (flag,) = not_converged(pd.concat([*main, *side]), WINDOW)
    assert (flag.name, flag.scope) == ("not_converged", "pool main")
    assert "from 30 to 50" in flag.message
    opposite = [
        timeline_of(CLOCK, waiting=np.abs(0.1 * MIDDLES - 60.0 * number), replication=number) for number in (0, 1)
    ]
    assert not_converged(pd.concat(opposite), WINDOW) == []


def test_a_coarse_timeline_is_judged_by_size_alone(timeline_of):
    assert names(not_converged(timeline_of([0, 200, 400, 600], waiting=[0.0, 5.0, 10.0]), WINDOW)) != []
    assert not_converged(timeline_of([0, 200, 400, 600], waiting=[5.0, 5.0, 6.0]), WINDOW) == []
    assert not_converged(timeline_of([0, 600], waiting=[5.0]), WINDOW) == []


@pytest.mark.parametrize(
    ("rho", "customers", "least", "most"), [(0.7, 5000, 0, 1), (0.9, 20_000, 0, 1), (1.2, 5000, 20, 20)]
)
def test_queues_are_flagged_beyond_capacity_and_not_below(timeline_of, lindley, rho, customers, least, most):
    raised = {"not_converged": 0, "saturated": 0}
    for seed in range(20):
        timeline, window = queue_timeline(timeline_of, lindley, rho, customers, seed)
        for flag in [*not_converged(timeline, window), *saturated({}, timeline, window)]:
            raised[flag.name] += 1
    assert least <= raised["not_converged"] <= most
    assert least <= raised["saturated"] <= most


def test_ten_requests_must_lie_beyond_the_quantile():
    window = Window(60.0, 600.0)
    assert few_samples({"chat": 1000}, [0.5, 0.99], window) == []
    (flag,) = few_samples({"chat": 999}, [0.5, 0.99], window)
    assert (flag.name, flag.scope) == ("few_samples", "class chat")
    assert "999 requests measured, 1000 needed for p99" in flag.message
    (flag,) = few_samples({"chat": 100}, [0.99, 0.95, 0.5], window)
    assert "1000 needed for p95, p99" in flag.message
    assert "lengthen the run 10.0 times" in flag.message
    assert "lengthen the run" in few_samples({"chat": 0}, [0.5], window)[0].message


def test_a_warm_up_may_not_take_half_of_the_run():
    assert few_samples({}, [0.99], Window(299.0, 600.0)) == []
    (flag,) = few_samples({}, [0.99], Window(300.0, 600.0))
    assert (flag.name, flag.scope) == ("few_samples", "run")
    assert "50%" in flag.message
    assert "at least 600 s" in flag.message


def test_all_flags_count_only_what_is_measured(requests_of, timeline_of):
    table = requests_of(np.linspace(0.0, 599.0, 1050), **{"class": np.repeat(["chat", "agent"], 525)})
    flags = honesty_flags(table, timeline_of(CLOCK, waiting=0.1 * MIDDLES), WINDOW, {"main": 2.0}, [0.9, 0.98])
    assert names(flags) == [("saturated", "pool main"), ("not_converged", "pool main"), ("few_samples", "class chat")]
    # the warm-up took 106 of 525 requests of the class that came first
    assert "419 requests measured, 500 needed for p98" in flags[2].message


BAND = BandSpec(low=0.8, high=1.25, points=50)
JUDGED = Validity("calibrated", {"throughput": BAND}, most_sequences=8.0, most_tokens=500.0)


def test_near_the_knee_is_within_the_error_of_the_capacity_and_says_how_far():
    assert near_knee({"main": 0.8}, {"main": JUDGED}) == []
    (flag,) = near_knee({"main": 0.84}, {"main": JUDGED})
    assert (flag.name, flag.scope) == ("near_knee", "pool main")
    assert "0.84 of the capacity, which leaves 19% more to the knee" in flag.message
    assert "1.05 times the replicas" in flag.message
    # beyond it is another flag; so is a queue that grew although the load seemed to fit
    assert near_knee({"main": 1.2}, {"main": JUDGED}) == []
    assert near_knee({"main": 0.95}, {"main": JUDGED}, ["pool main"]) == []


def test_without_a_band_near_the_knee_is_a_rule_of_thumb():
    assert near_knee({"main": 0.89}, {}) == []
    (flag,) = near_knee({"main": 0.95}, {})
    assert "5% more to the knee" in flag.message
    assert "measured" not in flag.message


def test_outside_of_what_was_measured_is_flagged_with_what_and_by_how_much(requests_of, timeline_of):
    requests = requests_of(np.arange(100.0), prompt_tokens=100, output_tokens=11)
    assert outside_calibration(requests, timeline_of(CLOCK, running=8.0), WINDOW, {"main": JUDGED}) == []
    long = requests_of(np.arange(100.0), prompt_tokens=np.where(np.arange(100) < 6, 900, 100))
    (flag,) = outside_calibration(long, timeline_of(CLOCK, running=9.5), WINDOW, {"main": JUDGED})
    assert (flag.name, flag.scope) == ("outside_calibration", "pool main")
    assert "10 sequences on a replica at a time, measured were at most 8" in flag.message
    assert "one of 20 requests has" in flag.message
    strange = Validity("transferred", outside=("no accelerator of family x was measured",))
    (flag,) = outside_calibration(requests, timeline_of(CLOCK), WINDOW, {"main": strange})
    assert flag.message.startswith("no accelerator of family x was measured (")


def test_the_batch_is_that_of_one_replica_within_the_window(requests_of, timeline_of):
    requests = requests_of(np.arange(10.0))
    early = timeline_of(CLOCK, running=np.where(MIDDLES < 60.0, 100.0, 12.0), replicas=2.0)
    assert outside_calibration(requests, early, WINDOW, {"main": JUDGED}) == []
