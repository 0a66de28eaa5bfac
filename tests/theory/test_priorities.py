"""Priority queues against one class, against each other, and against an exact sample path."""

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.theory.priorities import nonpreemptive_mean_waits, preemptive_mean_waits
from sim.theory.queues import mg1_mean_wait

loads = st.lists(st.tuples(st.floats(0.01, 1.0), st.floats(0.1, 5.0), st.floats(1.0, 4.0)), min_size=1, max_size=5)


def classes(rows: list[tuple[float, float, float]]) -> tuple[NDArray[np.float64], ...]:
    share, mean, spread = (np.array(column) for column in zip(*rows, strict=True))
    return 0.9 * share / share.sum() / mean, mean, spread * mean**2


def test_one_class_is_pollaczek_and_khinchine() -> None:
    assert nonpreemptive_mean_waits([0.5], [1.0], [3.0]) == pytest.approx([mg1_mean_wait(0.5, 1.0, 3.0)])
    assert preemptive_mean_waits([0.5], [1.0], [3.0]) == pytest.approx([mg1_mean_wait(0.5, 1.0, 3.0)])


@given(rows=loads)
def test_work_is_conserved_whatever_the_order(rows: list[tuple[float, float, float]]) -> None:
    """sum rho(k) W(k) is that of first come, first served: Kleinrock's conservation law."""
    rates, means, moments = classes(rows)
    waits = nonpreemptive_mean_waits(rates, means, moments)
    together = mg1_mean_wait(
        float(rates.sum()), float(rates @ means / rates.sum()), float(rates @ moments / rates.sum())
    )
    assert float((rates * means) @ waits) == pytest.approx(0.9 * together)


@given(rows=loads)
def test_who_goes_first_does_not_feel_the_rest_when_it_preempts(rows: list[tuple[float, float, float]]) -> None:
    rates, means, moments = classes(rows)
    waits = preemptive_mean_waits(rates, means, moments)
    assert waits[0] == pytest.approx(mg1_mean_wait(float(rates[0]), float(means[0]), float(moments[0])))
    assert (
        waits[:-1] == pytest.approx(preemptive_mean_waits(rates[:-1], means[:-1], moments[:-1]))
        if len(rows) > 1
        else True
    )
    assert (waits[:1] <= nonpreemptive_mean_waits(rates, means, moments)[:1] * (1 + 1e-12)).all()


def sample_path(rates: list[float], means: list[float], preemptive: bool, horizon: float, seed: int) -> list[float]:
    """Return the mean delay (time in system less service) by class of one long path of M/M/1 with priorities."""
    random = np.random.default_rng(seed)
    arrivals = []
    for index, (rate, mean) in enumerate(zip(rates, means, strict=True)):
        at = np.cumsum(random.exponential(1 / rate, int(horizon * rate * 1.2)))
        at = at[at < horizon]
        arrivals += [
            (float(time), index, float(length))
            for time, length in zip(at, random.exponential(mean, len(at)), strict=True)
        ]
    arrivals.sort()
    delays: list[list[float]] = [[] for _ in rates]
    queue: list[tuple[int, float, float, float]] = []  # class, arrival, service left, whole service
    now, place = 0.0, 0
    current: tuple[int, float, float, float] | None = None
    while place < len(arrivals) or queue or current:
        if current is None and not queue:
            now = arrivals[place][0]
        if current is None and queue:
            current = heapq.heappop(queue)
        arrival = arrivals[place][0] if place < len(arrivals) else np.inf
        if current is not None and now + current[2] <= arrival:
            now += current[2]
            delays[current[0]].append(now - current[1] - current[3])
            current = None
            continue
        if current is not None:
            current = (current[0], current[1], current[2] - (arrival - now), current[3])
        now = arrival
        at, index, length = arrivals[place]
        place += 1
        heapq.heappush(queue, (index, at, length, length))
        if preemptive and current is not None and index < current[0]:
            heapq.heappush(queue, current)
            current = None
    return [float(np.mean(each)) for each in delays]


@pytest.mark.parametrize("preemptive", [False, True])
def test_against_sample_paths_of_two_classes(preemptive: bool) -> None:
    rates, means = [0.3, 0.35], [1.0, 1.0]
    paths = np.array([sample_path(rates, means, preemptive, 6000.0, seed) for seed in range(20, 32)])
    formula = preemptive_mean_waits if preemptive else nonpreemptive_mean_waits
    expected = formula(rates, means, [2.0, 2.0])
    half = 3.1 * paths.std(axis=0, ddof=1) / np.sqrt(len(paths))
    assert (np.abs(paths.mean(axis=0) - expected) < half).all()
    assert (half < 0.12 * expected).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.6, 0.5], [1.0, 1.0], [2.0, 2.0]), "no steady state"),
        (([0.1], [1.0], [0.5]), "square of its mean"),
        (([0.1, 0.1], [1.0], [2.0]), "one rate"),
    ],
)
def test_outside_the_domain_is_refused(arguments: tuple[list[float], ...], message: str) -> None:
    for formula in (nonpreemptive_mean_waits, preemptive_mean_waits):
        with pytest.raises(ValueError, match=message):
            formula(*arguments)
