"""State-dependent processor sharing against its special cases and an exact simulation of the fluid."""

import heapq
import math
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from sim.theory.processor_sharing import (
    affine_mean_response,
    capped_processor_sharing,
    mg1_ps_mean_response,
    state_dependent_processor_sharing,
)
from sim.theory.queues import (
    birth_death_distribution,
    erlang_c,
    mg_infinity_mean_in_system,
    mmc_mean_wait,
    mmc_wait_tail,
)

Array = NDArray[np.float64]
loads = st.floats(0.02, 0.97)
times_s = st.floats(1e-3, 1.0)

# A replica of the simulated examples: seconds of a step, seconds each job adds, mean steps of a job.
BASE_S, PER_JOB_S, WORK = 0.01, 0.002, 50.0


def mean_interval(samples: list[float], confidence: float = 0.99) -> tuple[float, float]:
    """Mean and half width of its Student interval, from independent replications."""
    values = np.asarray(samples)
    half = stats.t.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean()), float(half)


def share(arrivals_s: Array, work: Array, base_s: float, per_job_s: float, cap: float) -> tuple[Array, Array]:
    """Waits and sojourns [s] when n <= cap jobs advance one step per base_s + per_job_s n, work divisible."""
    now_s, steps_done, upcoming = 0.0, 0.0, 0
    inside: list[tuple[float, int]] = []
    outside: deque[int] = deque()
    started_s, left_s = np.zeros(work.size), np.zeros(work.size)
    arrival_list, work_list = arrivals_s.tolist(), work.tolist()
    while inside or upcoming < work.size:
        step_s = base_s + per_job_s * len(inside)
        finish_s = now_s + (inside[0][0] - steps_done) * step_s if inside else math.inf
        if upcoming < work.size and arrival_list[upcoming] <= finish_s:
            steps_done += (arrival_list[upcoming] - now_s) / step_s if inside else 0.0
            now_s = arrival_list[upcoming]
            outside.append(upcoming)
            upcoming += 1
        else:
            now_s = finish_s
            steps_done, job = heapq.heappop(inside)
            left_s[job] = now_s
        while outside and len(inside) < cap:
            job = outside.popleft()
            started_s[job] = now_s
            heapq.heappush(inside, (steps_done + work_list[job], job))
    return started_s - arrivals_s, left_s - arrivals_s


def whole_steps(arrivals_s: Array, work: NDArray[np.int64], base_s: float, per_job_s: float) -> Array:
    """Sojourns [s] of a batch that moves in whole steps and takes in arrivals between two steps."""
    now_s, steps_done, upcoming = 0.0, 0, 0
    inside: list[tuple[int, int]] = []
    left_s = np.zeros(work.size)
    while inside or upcoming < work.size:
        if not inside:
            now_s = max(now_s, arrivals_s[upcoming])
        while upcoming < work.size and arrivals_s[upcoming] <= now_s:
            heapq.heappush(inside, (steps_done + int(work[upcoming]), upcoming))
            upcoming += 1
        now_s += base_s + per_job_s * len(inside)
        steps_done += 1
        while inside and inside[0][0] == steps_done:
            left_s[heapq.heappop(inside)[1]] = now_s
    return left_s - arrivals_s


# --- special cases ---


def test_slowdown_of_a_half_loaded_server_is_two_for_every_size() -> None:
    # Harchol-Balter ch. 30: in M/G/1 processor sharing every job has mean slowdown 1 / (1 - rho).
    assert mg1_ps_mean_response(0.25, 2.0, 0.5) == pytest.approx(1.0)
    assert mg1_ps_mean_response(0.25, 2.0, 70.0) == pytest.approx(140.0)


@given(loads, times_s, st.floats(1.0, 1e4))
def test_tau_proportional_to_n_is_mg1_processor_sharing(load: float, per_job_s: float, work: float) -> None:
    arrival_rate = load / (work * per_job_s)
    state = state_dependent_processor_sharing(arrival_rate, work, [per_job_s], per_job_s)
    numbers = np.arange(min(50, state.probabilities.size))
    np.testing.assert_allclose(state.probabilities[numbers], (1 - load) * load**numbers, rtol=1e-7)
    service_s = work * per_job_s
    assert state.mean_sojourn_s == pytest.approx(mg1_ps_mean_response(arrival_rate, service_s, service_s))
    assert state.load == pytest.approx(load)
    assert state.saturation_rate == pytest.approx(1 / service_s)


@given(st.floats(0.01, 200.0), times_s, st.floats(1.0, 1e4))
def test_constant_tau_is_mg_infinity(offered: float, step_s: float, work: float) -> None:
    arrival_rate = offered / (work * step_s)
    state = state_dependent_processor_sharing(arrival_rate, work, [step_s], 0.0)
    assert state.mean_in_system == pytest.approx(mg_infinity_mean_in_system(arrival_rate, work * step_s))
    poisson = stats.poisson(offered).pmf(np.arange(state.probabilities.size))
    np.testing.assert_allclose(state.probabilities, poisson, rtol=1e-7, atol=1e-14)
    assert state.load == 0.0
    assert math.isinf(state.saturation_rate)


@given(loads, times_s, times_s, st.floats(1.0, 1e4))
def test_affine_tau_is_negative_binomial(load: float, base_s: float, per_job_s: float, work: float) -> None:
    arrival_rate = load / (work * per_job_s)
    state = state_dependent_processor_sharing(arrival_rate, work, [base_s + per_job_s], per_job_s)
    closed = affine_mean_response(arrival_rate, work, base_s, per_job_s, work)
    assert state.mean_sojourn_s == pytest.approx(closed, rel=1e-9)
    numbers = np.arange(state.probabilities.size)
    binomial = stats.nbinom(base_s / per_job_s + 1, 1 - load).pmf(numbers)
    np.testing.assert_allclose(state.probabilities, binomial, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("load", [0.99, 0.999, 0.9999])
def test_near_saturation_the_long_tail_is_kept(load: float) -> None:
    state = state_dependent_processor_sharing(load / (50.0 * PER_JOB_S), 50.0, [BASE_S + PER_JOB_S], PER_JOB_S)
    closed = affine_mean_response(load / (50.0 * PER_JOB_S), 50.0, BASE_S, PER_JOB_S, 50.0)
    assert state.mean_sojourn_s == pytest.approx(closed, rel=1e-9)


def test_affine_ends_are_processor_sharing_and_infinite_server() -> None:
    assert affine_mean_response(2.0, 10.0, 0.0, 0.04, 30.0) == pytest.approx(mg1_ps_mean_response(2.0, 0.4, 30 * 0.04))
    assert affine_mean_response(2.0, 10.0, 0.04, 0.0, 30.0) == pytest.approx(30 * 0.04)


def test_a_tabulated_curve_and_its_linear_end_are_one_curve() -> None:
    table_s = 0.01 + 0.002 * np.arange(1, 38)
    short = state_dependent_processor_sharing(6.0, 50.0, table_s[:1], 0.002)
    long = state_dependent_processor_sharing(6.0, 50.0, table_s, 0.002)
    np.testing.assert_allclose(short.probabilities[:200], long.probabilities[:200], rtol=1e-10)
    assert short.mean_in_system == pytest.approx(long.mean_in_system, rel=1e-11)


@pytest.mark.parametrize("per_extra_job_s", [0.0019, 0.0008])
def test_a_convex_or_concave_end_keeps_the_whole_tail(per_extra_job_s: float) -> None:
    # The same chain as a birth-death chain cut far beyond where it has weight.
    steps_s = np.concatenate(([0.004] * 5, 0.004 + per_extra_job_s * np.arange(1, 6_000)))
    numbers = np.arange(1, steps_s.size + 1)
    chain = birth_death_distribution(np.full(steps_s.size, 10.0), numbers / (50.0 * steps_s))
    state = state_dependent_processor_sharing(10.0, 50.0, [0.004] * 5, per_extra_job_s)
    assert state.mean_in_system == pytest.approx(float(np.arange(steps_s.size + 1) @ chain), rel=1e-9)


@given(st.integers(1, 40), loads, times_s)
def test_capped_constant_tau_is_erlang_c(cap: int, load: float, step_s: float) -> None:
    work = 20.0
    service_rate = 1 / (work * step_s)
    arrival_rate = load * cap * service_rate
    state = capped_processor_sharing(arrival_rate, work, [step_s] * cap)
    assert state.wait_probability == pytest.approx(erlang_c(cap, load * cap), rel=1e-9)
    assert state.mean_wait_s == pytest.approx(mmc_mean_wait(arrival_rate, service_rate, cap), rel=1e-9)
    assert state.mean_sojourn_s == pytest.approx(state.mean_wait_s + 1 / service_rate, rel=1e-9)
    tail = state.wait_probability * math.exp(-(state.saturation_rate - arrival_rate))
    assert tail == pytest.approx(mmc_wait_tail(arrival_rate, service_rate, cap, 1.0), rel=1e-6, abs=1e-300)


def test_a_cap_out_of_reach_changes_nothing() -> None:
    steps_s = 0.01 + 0.002 * np.arange(1, 401)
    capped = capped_processor_sharing(6.0, 50.0, steps_s)
    assert capped.mean_sojourn_s == pytest.approx(affine_mean_response(6.0, 50.0, 0.01, 0.002, 50.0), rel=1e-9)
    assert capped.wait_probability < 1e-50


# --- properties ---


@given(loads, times_s, times_s, st.integers(1, 30))
def test_capped_distribution_sums_to_one_and_gives_its_means(
    load: float, base_s: float, per_job_s: float, cap: int
) -> None:
    steps_s = base_s + per_job_s * np.arange(1, cap + 1)
    arrival_rate = load * cap / (10.0 * steps_s[-1])
    state = capped_processor_sharing(arrival_rate, 10.0, steps_s)
    tail = state.probabilities[-1] * state.tail_ratio ** np.arange(1, 2_000)
    everything = np.concatenate((state.probabilities, tail))
    numbers = np.arange(everything.size)
    assert everything.sum() == pytest.approx(1.0)
    assert numbers @ everything == pytest.approx(state.mean_in_system)
    assert np.maximum(numbers - cap, 0) @ everything == pytest.approx(state.mean_waiting)
    assert everything[cap:].sum() == pytest.approx(state.wait_probability)
    # The flow through the server is the flow that arrives.
    flow = np.minimum(numbers, cap) / (10.0 * steps_s[np.clip(numbers, 1, cap) - 1]) @ everything
    assert flow == pytest.approx(arrival_rate)


@given(loads, loads, times_s, times_s)
def test_sojourn_grows_with_load(one: float, other: float, base_s: float, per_job_s: float) -> None:
    low, high = sorted((one / (10.0 * per_job_s), other / (10.0 * per_job_s)))
    steps = [base_s + per_job_s]
    slow = state_dependent_processor_sharing(high, 10.0, steps, per_job_s)
    fast = state_dependent_processor_sharing(low, 10.0, steps, per_job_s)
    assert fast.mean_sojourn_s <= slow.mean_sojourn_s * (1 + 1e-9)
    assert slow.probabilities.sum() == pytest.approx(1.0)


# --- the fluid, simulated ---


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda stream, n: np.full(n, WORK), id="deterministic"),
        pytest.param(lambda stream, n: stream.exponential(WORK, n), id="exponential"),
        pytest.param(lambda stream, n: np.where(stream.random(n) < 0.8, 10.0, 210.0), id="bimodal"),
    ],
)
def test_only_the_mean_work_matters(draw: Callable[[np.random.Generator, int], Array]) -> None:
    stream = np.random.default_rng(7)
    samples = []
    for _ in range(12):
        arrivals_s = np.cumsum(stream.exponential(1 / 6.0, 40_000))
        _, sojourns_s = share(arrivals_s, draw(stream, 40_000), BASE_S, PER_JOB_S, math.inf)
        samples.append(float(sojourns_s[1_000:].mean()))
    theory = state_dependent_processor_sharing(6.0, WORK, [BASE_S + PER_JOB_S], PER_JOB_S).mean_sojourn_s
    mean, half = mean_interval(samples)
    assert abs(mean - theory) <= half
    assert half <= 0.03 * theory


def test_a_job_stays_in_proportion_to_its_work() -> None:
    stream = np.random.default_rng(8)
    short, long = [], []
    for _ in range(12):
        arrivals_s = np.cumsum(stream.exponential(1 / 6.0, 40_000))
        work = np.where(stream.random(40_000) < 0.8, 10.0, 210.0)
        _, sojourns_s = share(arrivals_s, work, BASE_S, PER_JOB_S, math.inf)
        short.append(float(sojourns_s[1_000:][work[1_000:] == 10.0].mean()))
        long.append(float(sojourns_s[1_000:][work[1_000:] == 210.0].mean()))
    for samples, steps in ((short, 10.0), (long, 210.0)):
        theory = affine_mean_response(6.0, WORK, BASE_S, PER_JOB_S, steps)
        mean, half = mean_interval(samples)
        assert abs(mean - theory) <= half
        assert half <= 0.03 * theory


def test_capped_form_is_exact_for_exponential_work_and_only_for_it() -> None:
    stream = np.random.default_rng(9)
    waits, sojourns, late, even = [], [], [], []
    for _ in range(16):
        arrivals_s = np.cumsum(stream.exponential(1 / 5.0, 60_000))
        waits_s, sojourns_s = share(arrivals_s, stream.exponential(WORK, 60_000), BASE_S, PER_JOB_S, 8)
        waits.append(float(waits_s[1_000:].mean()))
        late.append(float((waits_s[1_000:] > 1.0).mean()))
        sojourns.append(float(sojourns_s[1_000:].mean()))
        same = np.full(10_000, WORK)
        even.append(float(share(arrivals_s[:10_000], same, BASE_S, PER_JOB_S, 8)[0][1_000:].mean()))
    state = capped_processor_sharing(5.0, WORK, BASE_S + PER_JOB_S * np.arange(1, 9))
    for samples, theory in (
        (waits, state.mean_wait_s),
        (sojourns, state.mean_sojourn_s),
        (late, state.wait_probability * math.exp(-(state.saturation_rate - 5.0))),
    ):
        mean, half = mean_interval(samples)
        assert abs(mean - theory) <= half
        assert half <= 0.08 * theory
    mean, half = mean_interval(even)
    assert mean + half < 0.8 * state.mean_wait_s


def test_whole_steps_cost_less_than_one_step_more_than_the_fluid() -> None:
    stream = np.random.default_rng(10)
    samples = []
    for _ in range(10):
        arrivals_s = np.cumsum(stream.exponential(1 / 60.0, 30_000))
        samples.append(float(whole_steps(arrivals_s, np.full(30_000, 5), BASE_S, PER_JOB_S)[1_000:].mean()))
    fluid_s = affine_mean_response(60.0, 5.0, BASE_S, PER_JOB_S, 5.0)
    step_s = BASE_S + PER_JOB_S * (60.0 * fluid_s + 1)
    mean, half = mean_interval(samples)
    assert half < 0.1 * step_s
    assert fluid_s + half < mean < fluid_s + step_s - half


# --- domain ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mg1_ps_mean_response(2.0, 0.5, 1.0), r"rho = 1 .*mean_service_s=0\.5"),
        (lambda: mg1_ps_mean_response(1.0, 0.5, -1.0), r"service_s .*got -1\.0"),
        (lambda: affine_mean_response(10.0, 50.0, 0.01, 0.002, 50.0), r"rho = 1 .*mean_work=50\.0"),
        (lambda: affine_mean_response(1.0, 50.0, 0.0, 0.0, 50.0), r"step_of_one_job_s .*got 0\.0"),
        (lambda: state_dependent_processor_sharing(11.0, 50.0, [0.1], 0.002), r"rho = 1\.1 "),
        (
            lambda: state_dependent_processor_sharing(1.0, 1.0, [0.1], -0.1),
            r"step_per_extra_job_s .*got -0\.1",
        ),
        (lambda: state_dependent_processor_sharing(0.0, 1.0, [0.1], 0.1), r"arrival_rate .*got 0\.0"),
        (lambda: state_dependent_processor_sharing(1.0 - 1e-9, 1.0, [1.0], 1.0), r"states .*0\.999999999"),
        (
            lambda: capped_processor_sharing(7.0, 50.0, [0.02, 0.03]),
            r"rho = 5\.25 .*cap=2, step_at_cap_s=0\.03",
        ),
        (lambda: capped_processor_sharing(1.0, 1.0, [0.1, 0.0]), r"step_times_s .*got 0\.0"),
        (lambda: capped_processor_sharing(1.0, 1.0, []), r"m >= 1, got shape \(0,\)"),
        (lambda: capped_processor_sharing(1.0, -3.0, [0.1]), r"mean_work .*got -3\.0"),
    ],
)
def test_outside_its_domain_a_formula_says_why(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
