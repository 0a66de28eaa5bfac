"""Closed forms against textbooks, against each other, and against exact sample paths."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sim.theory.queues import (
    birth_death_distribution,
    erlang_b,
    erlang_c,
    lindley_waits,
    md1_mean_wait,
    mg1_mean_wait,
    mg_infinity_mean_in_system,
    mmc_mean_wait,
    mmc_wait_quantile,
    mmc_wait_tail,
    mmck_blocking,
    mmck_distribution,
    multi_server_fifo,
)

loads = st.floats(0.02, 0.98)
rates = st.floats(0.01, 100.0)
server_counts = st.integers(1, 60)
times = st.floats(0.0, 1e3)


def mean_interval(samples: list[float], confidence: float = 0.99) -> tuple[float, float]:
    """Mean and half width of its Student interval, from independent replications."""
    values = np.asarray(samples)
    half = stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), float(half)


# --- textbook values ---


@pytest.mark.parametrize(
    ("servers", "offered", "blocking"),
    [
        # Erlang B traffic tables, 1 % and 5 % grades of service (Boucher, Traffic System Design Handbook).
        (5, 1.361, 0.01),
        (10, 4.461, 0.01),
        (15, 8.108, 0.01),
        (20, 12.03, 0.01),
        (100, 84.06, 0.01),
        (10, 6.216, 0.05),
    ],
)
def test_erlang_b_agrees_with_the_traffic_tables(servers: int, offered: float, blocking: float) -> None:
    assert erlang_b(servers, offered) == pytest.approx(blocking, rel=1e-3)


def test_one_server_textbook_barber() -> None:
    # Gross & Harris, the M/M/1 hair-cutting example: 5 arrivals and 6 services an hour.
    assert mmc_mean_wait(5.0, 6.0, 1) == pytest.approx(5 / 6)
    assert 5.0 * mmc_mean_wait(5.0, 6.0, 1) == pytest.approx(25 / 6)


def test_three_servers_textbook_eye_clinic() -> None:
    # Gross & Harris, the M/M/c eye clinic: 6 patients an hour, 3 doctors, 20 minutes a test.
    assert mmck_distribution(6.0, 3.0, 3, 400)[0] == pytest.approx(1 / 9)
    assert 6.0 * mmc_mean_wait(6.0, 3.0, 3) == pytest.approx(8 / 9)
    assert erlang_c(3, 2.0) == pytest.approx(4 / 9)


def test_finite_room_textbook_emission_inspection() -> None:
    # Gross & Harris, the M/M/c/K car inspection: 3 stalls, room for 7 cars, 1 car a minute, 6 minutes each.
    distribution = mmck_distribution(1.0, 1 / 6, 3, 7)
    assert distribution[0] == pytest.approx(1 / 1141)
    assert np.arange(8) @ distribution == pytest.approx(6.06, abs=0.005)
    assert 60 * mmck_blocking(1.0, 1 / 6, 3, 7) == pytest.approx(30.3, abs=0.05)


def test_variable_service_makes_a_half_loaded_server_slow() -> None:
    # Harchol-Balter ch. 23: E[T_Q] = rho / (1 - rho) x (C^2 + 1) E[S] / 2; here rho = 1/2, C^2 = 25.
    assert mg1_mean_wait(0.5, 1.0, 26.0) == pytest.approx(13.0)


# --- formulas against each other ---


@given(server_counts, loads)
def test_erlang_b_is_the_last_state_of_a_birth_death_chain(servers: int, load: float) -> None:
    offered = servers * load
    chain = birth_death_distribution([offered] * servers, list(range(1, servers + 1)))
    assert erlang_b(servers, offered) == pytest.approx(chain[-1], rel=1e-9)


@given(st.integers(1, 20), st.floats(0.02, 0.9), rates)
def test_erlang_c_and_mean_wait_follow_from_a_long_birth_death_chain(
    servers: int, load: float, service_rate: float
) -> None:
    arrival_rate = load * servers * service_rate
    capacity = servers + 400  # 0.9^400 is below 1e-18
    chain = mmck_distribution(arrival_rate, service_rate, servers, capacity)
    assert chain[servers:].sum() == pytest.approx(erlang_c(servers, arrival_rate / service_rate), rel=1e-9)
    queue = np.maximum(np.arange(capacity + 1) - servers, 0) @ chain
    assert queue / arrival_rate == pytest.approx(mmc_mean_wait(arrival_rate, service_rate, servers), rel=1e-9)


@given(loads, rates)
def test_one_server_special_cases(load: float, service_rate: float) -> None:
    arrival_rate = load * service_rate
    wait = load / (service_rate - arrival_rate)
    assert erlang_c(1, load) == pytest.approx(load)
    assert mmc_mean_wait(arrival_rate, service_rate, 1) == pytest.approx(wait)
    assert mg1_mean_wait(arrival_rate, 1 / service_rate, 2 / service_rate**2) == pytest.approx(wait)
    assert md1_mean_wait(arrival_rate, 1 / service_rate) == pytest.approx(wait / 2)
    assert md1_mean_wait(arrival_rate, 1 / service_rate) == pytest.approx(
        mg1_mean_wait(arrival_rate, 1 / service_rate, 1 / service_rate**2)
    )


@given(st.floats(0.05, 3.0).filter(lambda load: abs(load - 1) > 1e-3), st.integers(1, 50))
def test_one_server_with_a_cap_is_a_truncated_geometric(load: float, capacity: int) -> None:
    expected = (1 - load) * load ** np.arange(capacity + 1) / (1 - load ** (capacity + 1))
    np.testing.assert_allclose(mmck_distribution(load, 1.0, 1, capacity), expected, rtol=1e-9)


def test_at_load_one_a_capped_server_is_uniform() -> None:
    np.testing.assert_allclose(mmck_distribution(2.0, 2.0, 1, 4), np.full(5, 0.2), rtol=1e-12)


@given(server_counts, loads, rates, st.floats(0.0, 0.999))
def test_wait_quantile_inverts_the_tail(servers: int, load: float, service_rate: float, quantile: float) -> None:
    arrival_rate = load * servers * service_rate
    time_s = mmc_wait_quantile(arrival_rate, service_rate, servers, quantile)
    tail = mmc_wait_tail(arrival_rate, service_rate, servers, time_s)
    if time_s > 0:
        assert tail == pytest.approx(1 - quantile, rel=1e-9)
    else:
        assert tail <= (1 - quantile) * (1 + 1e-12)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (3, 0.9), (40, 0.95)])
def test_mean_wait_is_the_integral_of_the_tail(servers: int, load: float) -> None:
    arrival_rate = load * servers * 0.5
    grid_s = np.linspace(0.0, 40 / (servers * 0.5 - arrival_rate), 40_001)
    tail = [mmc_wait_tail(arrival_rate, 0.5, servers, float(time_s)) for time_s in grid_s]
    assert np.trapezoid(tail, grid_s) == pytest.approx(mmc_mean_wait(arrival_rate, 0.5, servers), rel=1e-5)


def test_many_servers_never_overflow() -> None:
    # a^c / c! overflows here; the largest blocking probability of c = a is sqrt(2 / (pi c)) (Jagerman 1974).
    assert erlang_b(10_000, 10_000.0) == pytest.approx(math.sqrt(2 / (math.pi * 10_000)), rel=0.02)
    chain = birth_death_distribution(np.full(5_000, 4_900.0), np.arange(1, 5_001))
    assert chain[-1] == pytest.approx(erlang_b(5_000, 4_900.0), rel=1e-8)


def test_infinitely_many_servers_are_the_limit_of_many() -> None:
    chain = mmck_distribution(12.0, 2.0, 80, 80)
    np.testing.assert_allclose(chain[:20], stats.poisson(6.0).pmf(np.arange(20)), rtol=1e-9)
    assert mg_infinity_mean_in_system(12.0, 0.5) == pytest.approx(np.arange(81) @ chain)


def test_no_arrivals_no_waiting() -> None:
    assert erlang_b(3, 0.0) == 0.0
    assert erlang_b(0, 2.0) == 1.0
    assert mmc_mean_wait(0.0, 1.0, 2) == 0.0
    assert mmc_wait_quantile(0.0, 1.0, 2, 0.99) == 0.0
    assert mmck_distribution(0.0, 1.0, 2, 4).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


# --- properties ---


@given(st.lists(st.tuples(st.floats(0.0, 1e6), st.floats(1e-6, 1e6)), min_size=1, max_size=80))
def test_birth_death_sums_to_one_and_is_in_detailed_balance(pairs: list[tuple[float, float]]) -> None:
    births, deaths = np.array(pairs).T
    chain = birth_death_distribution(births, deaths)
    assert chain.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(chain[:-1] * births, chain[1:] * deaths, rtol=1e-7, atol=1e-290)


@given(server_counts, loads, loads)
def test_waiting_and_losing_grow_with_load(servers: int, one: float, other: float) -> None:
    low, high = sorted((one * servers, other * servers))
    assert erlang_b(servers, low) <= erlang_b(servers, high) * (1 + 1e-12)
    assert erlang_c(servers, low) <= erlang_c(servers, high) * (1 + 1e-12)
    assert mmc_mean_wait(low, 1.0, servers) <= mmc_mean_wait(high, 1.0, servers) * (1 + 1e-12)


@given(server_counts, loads)
def test_another_server_never_hurts_and_waiting_is_likelier_than_loss(servers: int, load: float) -> None:
    offered = servers * load
    assert mmc_mean_wait(offered, 1.0, servers + 1) < mmc_mean_wait(offered, 1.0, servers)
    assert erlang_b(servers, offered) <= erlang_c(servers, offered)


@given(server_counts, loads, rates)
def test_waits_scale_with_the_unit_of_time(servers: int, load: float, scale: float) -> None:
    offered = servers * load
    expected = mmc_mean_wait(offered, 1.0, servers) / scale
    assert mmc_mean_wait(offered * scale, scale, servers) == pytest.approx(expected, rel=1e-9)


# --- sample paths ---


def test_lindley_by_hand() -> None:
    waits = lindley_waits([1.0, 1.0, 10.0, 0.5], [3.0, 2.0, 1.0, 1.0, 4.0])
    assert waits.tolist() == [0.0, 2.0, 3.0, 0.0, 0.5]


def test_two_servers_by_hand() -> None:
    starts = multi_server_fifo([0.0, 0.0, 1.0, 2.0, 2.0], [5.0, 2.0, 4.0, 1.0, 1.0], 2)
    assert starts.tolist() == [0.0, 0.0, 2.0, 5.0, 6.0]
    assert multi_server_fifo([-5.0, -4.0], [3.0, 1.0], 1).tolist() == [-5.0, -2.0]


@given(st.lists(st.tuples(times, times), min_size=1, max_size=200))
def test_lindley_is_its_recursion_and_kiefer_wolfowitz_of_one_server(
    path: list[tuple[float, float]],
) -> None:
    gaps_s, services_s = np.array(path).T
    waits = [0.0]
    for gap_s, service_s in zip(gaps_s[1:], services_s[:-1], strict=True):
        waits.append(max(0.0, waits[-1] + service_s - gap_s))
    np.testing.assert_allclose(lindley_waits(gaps_s[1:], services_s), waits, rtol=0, atol=1e-8)
    arrivals_s = np.cumsum(gaps_s)
    starts_s = multi_server_fifo(arrivals_s, services_s, 1)
    np.testing.assert_allclose(starts_s - arrivals_s, waits, rtol=0, atol=1e-8)


@given(st.lists(st.tuples(times, times), min_size=1, max_size=100), st.integers(1, 8))
def test_several_servers_keep_order_capacity_and_never_idle(path: list[tuple[float, float]], servers: int) -> None:
    gaps_s, services_s = np.array(path).T
    arrivals_s = np.cumsum(gaps_s)
    starts_s = multi_server_fifo(arrivals_s, services_s, servers)
    ends_s = starts_s + services_s
    assert (starts_s >= arrivals_s).all()
    assert (np.diff(starts_s) >= 0).all()
    for customer, start_s in enumerate(starts_s):
        earlier_busy = np.count_nonzero(ends_s[:customer] > start_s)
        assert earlier_busy < servers
        if start_s > arrivals_s[customer]:
            # Who waits starts at the end of someone's service, and found every server busy.
            assert start_s in ends_s[:customer]
            assert np.count_nonzero(ends_s[:customer] > arrivals_s[customer]) >= servers


def test_many_paths_at_once_are_the_paths_one_by_one() -> None:
    stream = np.random.default_rng(5)
    gaps_s, services_s = stream.exponential(1.0, (3, 49)), stream.exponential(0.8, (3, 50))
    together = lindley_waits(gaps_s, services_s)
    for row in range(3):
        assert together[row].tolist() == lindley_waits(gaps_s[row], services_s[row]).tolist()
    assert lindley_waits([], [2.0]).tolist() == [0.0]


def test_sample_paths_of_poisson_arrivals_wait_as_the_closed_forms_say() -> None:
    stream = np.random.default_rng(20_240)
    single, several, several_tail = [], [], []
    for _ in range(20):
        gaps_s = stream.exponential(1 / 0.7, 40_000)
        single.append(float(lindley_waits(gaps_s[1:], np.ones(40_000))[1_000:].mean()))
        arrivals_s = np.cumsum(stream.exponential(1 / 3.2, 40_000))
        waits_s = multi_server_fifo(arrivals_s, stream.exponential(1.0, 40_000), 4) - arrivals_s
        several.append(float(waits_s[1_000:].mean()))
        several_tail.append(float((waits_s[1_000:] > 1.0).mean()))
    for samples, theory in (
        (single, md1_mean_wait(0.7, 1.0)),
        (several, mmc_mean_wait(3.2, 1.0, 4)),
        (several_tail, mmc_wait_tail(3.2, 1.0, 4, 1.0)),
    ):
        mean, half = mean_interval(samples)
        assert abs(mean - theory) <= half
        assert half <= 0.05 * theory


# --- domain ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: erlang_c(3, 3.0), r"rho = 1 .*offered=3\.0, servers=3"),
        (lambda: mmc_mean_wait(9.0, 2.0, 4), r"rho = 1\.125 .*servers=4"),
        (lambda: mg1_mean_wait(2.0, 0.5, 0.5), r"rho = 1 .*arrival_rate=2\.0, mean_service_s=0\.5"),
        (lambda: md1_mean_wait(2.0, 0.6), r"rho = 1\.2 "),
        (lambda: erlang_b(-1, 1.0), r"servers .*at least 0, got -1"),
        (lambda: erlang_b(2.5, 1.0), r"servers .*whole number .*got 2\.5"),  # type: ignore[arg-type]
        (lambda: erlang_b(2, math.inf), r"offered .*got inf"),
        (lambda: mmc_mean_wait(1.0, math.inf, 2), r"service_rate .*got inf"),
        (lambda: erlang_b(2, -0.5), r"offered .*got -0\.5"),
        (lambda: erlang_c(0, 0.0), r"servers .*at least 1, got 0"),
        (lambda: mmc_mean_wait(-1.0, 2.0, 4), r"arrival_rate .*got -1\.0"),
        (lambda: mmc_mean_wait(1.0, 0.0, 4), r"service_rate .*got 0\.0"),
        (lambda: mmc_mean_wait(math.nan, 1.0, 4), r"arrival_rate .*got nan"),
        (lambda: mmc_wait_tail(1.0, 2.0, 1, -3.0), r"time_s .*got -3\.0"),
        (lambda: mmc_wait_quantile(1.0, 2.0, 1, 1.0), r"quantile .*got 1\.0"),
        (lambda: mmck_blocking(1.0, 2.0, 3, 2), r"capacity .*at least 3, got 2"),
        (lambda: mg1_mean_wait(0.1, 2.0, 3.9), r"second_moment_s2 .*4\.0.* got 3\.9"),
        (lambda: mg_infinity_mean_in_system(1.0, -2.0), r"mean_service_s .*got -2\.0"),
        (lambda: birth_death_distribution([1.0, -2.0], [1.0, 1.0]), r"arrival_rates .*got -2\.0"),
        (lambda: birth_death_distribution([1.0, 1.0], [1.0, 0.0]), r"service_rates .*got 0\.0 at state 2"),
        (lambda: birth_death_distribution([1.0], [1.0, 1.0]), r"\(1,\) and \(2,\)"),
        (lambda: lindley_waits([1.0, 1.0], [1.0, 1.0]), r"\(2,\) and \(2,\)"),
        (lambda: lindley_waits([], []), r"n >= 1"),
        (lambda: lindley_waits([-1.0], [1.0, 1.0]), r"interarrival_s .*got -1\.0"),
        (lambda: multi_server_fifo([0.0, 2.0, 1.0], [1.0, 1.0, 1.0], 2), r"customer 2 does"),
        (lambda: multi_server_fifo([0.0], [-1.0], 2), r"services_s .*got -1\.0"),
        (lambda: multi_server_fifo([0.0], [1.0], 0), r"servers .*got 0"),
    ],
)
def test_outside_its_domain_a_formula_says_why(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@settings(max_examples=30)
@given(st.floats(1.0, 1e6))
def test_an_overloaded_queue_has_no_mean(load: float) -> None:
    with pytest.raises(ValueError, match="no steady state"):
        mmc_mean_wait(load * 5, 1.0, 5)
