"""Servers that break down and are repaired: closed forms, matrix-geometric numerics, and exact sample paths.

References, by short name:
    White & Christie: H. White, L. Christie, Queuing with preemptive priorities or with breakdown, Operations
        Research 6 (1958).
    Mitrany & Avi-Itzhak: I. Mitrany, B. Avi-Itzhak, A many-server queue with service interruptions, Operations
        Research 16 (1968).
    Avi-Itzhak & Naor: B. Avi-Itzhak, P. Naor, Some queuing problems with the service station subject to breakdown,
        Operations Research 11 (1963).
    Neuts: M. Neuts, Matrix-Geometric Solutions in Stochastic Models, Johns Hopkins 1981.
"""

import heapq
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.theory.domain import finite_array, require_positive, require_stable, require_whole


def mm1_breakdowns_mean_in_system(
    arrival_rate: float, service_rate: float, failure_rate: float, repair_rate: float
) -> float:
    """Mean number in M/M/1 whose server fails at any time, busy or idle, and then resumes where it was.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu [1/s].
        failure_rate: xi, of a server that is up [1/s].
        repair_rate: eta, of a server that is down [1/s].

    L = lambda ((xi + eta)^2 + xi mu) / ((xi + eta) (eta (mu - lambda) - xi lambda)). As services are exponential, a
    service that begins anew with a new length has the same law.

    Raises:
        ValueError: a rate that is not above zero, or lambda >= mu eta / (xi + eta).

    Source: White & Christie.
    """
    require_positive(
        arrival_rate=arrival_rate, service_rate=service_rate, failure_rate=failure_rate, repair_rate=repair_rate
    )
    both = failure_rate + repair_rate
    require_stable(arrival_rate * both / (service_rate * repair_rate), arrival_rate=arrival_rate)
    spare = repair_rate * (service_rate - arrival_rate) - failure_rate * arrival_rate
    return arrival_rate * (both**2 + failure_rate * service_rate) / (both * spare)


def repeated_completion_moments(service_rate: float, failure_rate: float, repair_rate: float) -> tuple[float, float]:
    """First two moments of the time from a first start to a completion, where each failure loses all work.

    Parameters:
        service_rate: mu of the exponential length, which stays the same from try to try [1/s].
        failure_rate: xi [1/s].
        repair_rate: eta [1/s].

    Returns:
        E[C] [s] and E[C^2] [s^2]. Given the length s, C = s + a geometric number N of lost tries, each of a failure
        time below s and a repair: E[C | s] = (e^(xi s) - 1) (1 / xi + 1 / eta), and the second moment follows from
        P(N = n) = e^(-xi s) (1 - e^(-xi s))^n. Expectations over s need xi < mu, for the second moment 2 xi < mu.

    Raises:
        ValueError: a rate that is not above zero, or 2 xi >= mu.

    Source: Avi-Itzhak & Naor, repetition; derived here for identical repetition.
    """
    require_positive(service_rate=service_rate, failure_rate=failure_rate, repair_rate=repair_rate)
    if 2.0 * failure_rate >= service_rate:
        raise ValueError(f"2 xi must be below mu, got xi={failure_rate!r} and mu={service_rate!r}")
    mean_cycle = 1.0 / failure_rate + 1.0 / repair_rate
    mean = mean_cycle * failure_rate / (service_rate - failure_rate)
    return mean, _second_moment(service_rate, failure_rate, repair_rate)


def _second_moment(mu: float, xi: float, eta: float) -> float:
    """Return E[C^2]: E over s of Var(C | s) + E[C | s]^2, each a sum of terms s^i e^(k xi s) with k <= 2.

    With D a lost try cut at s plus a repair and p = e^(-xi s), N geometric: E[N] = (1 - p) / p,
    E[N (N - 1)] = 2 (1 - p)^2 / p^2, so E[C^2 | s] = s^2 + 2 s E[N] E[D] + E[N] E[D^2] + E[N (N - 1)] E[D]^2.
    (1 - p) E[D] = (1 - p) / xi - s p + (1 - p) / eta and likewise for E[D^2].
    """

    def moment(power: int, growth: float) -> float:
        return mu * math.factorial(power) / (mu - growth) ** (power + 1)

    cycle = 1.0 / xi + 1.0 / eta
    # E[N] E[D] = cycle (e^{xi s} - 1) - s
    first = 2.0 * (cycle * (moment(1, xi) - moment(1, 0.0)) - moment(2, 0.0))
    # (1 - p) E[X^2] = 2 / xi^2 (1 - p) - (s^2 + 2 s / xi) p for a failure time X cut at s
    cut = (2.0 / xi**2) * (moment(0, xi) - 1.0) - moment(2, 0.0) - (2.0 / xi) * moment(1, 0.0)
    cross = (2.0 / eta) * ((1.0 / xi) * (moment(0, xi) - 1.0) - moment(1, 0.0))
    repair = (2.0 / eta**2) * (moment(0, xi) - 1.0)
    square = cycle**2 * (moment(0, 2.0 * xi) - 2.0 * moment(0, xi) + 1.0)
    square += -2.0 * cycle * (moment(1, xi) - moment(1, 0.0)) + moment(2, 0.0)
    return moment(2, 0.0) + first + cut + cross + repair + 2.0 * square


def mm1_repeat_mean_wait(arrival_rate: float, service_rate: float, failure_rate: float, repair_rate: float) -> float:
    """Mean time in queue before the first start in M/M/1 whose server fails at any time and then begins anew.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu of the length, which stays the same from try to try [1/s].
        failure_rate: xi, of a server that is up [1/s].
        repair_rate: eta, of a server that is down [1/s].

    M/G/1 on completion times C, in which the first customer of a busy period may have to wait for a repair D:
    W = lambda E[C^2] / (2 (1 - lambda E[C])) + (2 E[D] + lambda E[D^2]) / (2 (1 + lambda E[D])). An idle period begins
    with the server up, and ends with it down with probability q = xi / (xi + eta + lambda): E[D] = q / eta.

    Raises:
        ValueError: a rate that is not above zero, 2 xi >= mu, or rho >= 1.

    Source: Avi-Itzhak & Naor; M/G/1 with an exceptional first service, P. Welch, Operations Research 12 (1964).
    """
    require_positive(arrival_rate=arrival_rate)
    mean, second = repeated_completion_moments(service_rate, failure_rate, repair_rate)
    load = arrival_rate * mean
    require_stable(load, arrival_rate=arrival_rate, service_rate=service_rate)
    down = failure_rate / (failure_rate + repair_rate + arrival_rate)
    delay, delay_square = down / repair_rate, down * 2.0 / repair_rate**2
    served = arrival_rate * second / (2.0 * (1.0 - load))
    return served + (arrival_rate * delay_square / 2.0 + delay) / (1.0 + arrival_rate * delay)


def mmc_breakdowns_mean_in_system(
    arrival_rate: float,
    service_rate: float,
    servers: int,
    failure_rate: float,
    repair_rate: float,
    together: bool = False,
) -> float:
    """Mean number in M/M/c whose servers fail, and whose interrupted services go on at another server.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu of each server [1/s].
        servers: c [1].
        failure_rate: xi of a server that is up, busy or idle [1/s]; with `together`, of all of them at once.
        repair_rate: eta of each server that is down [1/s]; with `together`, of all of them at once.
        together: whether the servers stand in one system that fails as a whole.

    States (n, u) of customers and servers up are a quasi-birth-death process; beyond n = c its levels are
    pi(n+1) = pi(n) R, where R is the least solution of A0 + R A1 + R^2 A2 = 0.

    Raises:
        ValueError: a rate that is not above zero, servers below 1, or lambda >= mu E[servers up].

    Source: Mitrany & Avi-Itzhak; Neuts ch. 1 and 3.
    """
    require_positive(
        arrival_rate=arrival_rate, service_rate=service_rate, failure_rate=failure_rate, repair_rate=repair_rate
    )
    require_whole(1, servers=servers)
    up_share = repair_rate / (failure_rate + repair_rate)
    require_stable(arrival_rate / (servers * service_rate * up_share), arrival_rate=arrival_rate, servers=servers)
    capacity, phases = _phases(servers, failure_rate, repair_rate, together)
    size = len(capacity)
    births = arrival_rate * np.eye(size)

    def deaths(count: int) -> NDArray[np.float64]:
        return np.diag(service_rate * np.minimum(capacity, count))

    def within(count: int) -> NDArray[np.float64]:
        leaving = phases.sum(axis=1) + arrival_rate + service_rate * np.minimum(capacity, count)
        return phases - np.diag(leaving)

    rate = _rate_matrix(births, within(servers), deaths(servers))
    # Balance of levels 0..c, the last of which stands for all beyond it.
    levels = servers + 1
    balance = np.zeros((levels * size, levels * size))
    for level in range(levels):
        here = slice(level * size, (level + 1) * size)
        balance[here, here] = within(level)
        if level > 0:
            balance[here, slice((level - 1) * size, level * size)] = deaths(level)
            balance[slice((level - 1) * size, level * size), here] = births
    last = slice(servers * size, levels * size)
    balance[last, last] += rate @ deaths(servers)
    beyond = np.linalg.inv(np.eye(size) - rate)
    weights = np.ones(levels * size)
    weights[last] = beyond @ np.ones(size)
    system = np.vstack([balance.T, weights])
    target = np.zeros(levels * size + 1)
    target[-1] = 1.0
    state = np.linalg.lstsq(system, target, rcond=None)[0].reshape(levels, size)
    below = float(np.arange(servers) @ state[:-1].sum(axis=1))
    tail = state[-1] @ (servers * beyond + rate @ beyond @ beyond)
    return below + float(tail.sum())


def _phases(
    servers: int, failure_rate: float, repair_rate: float, together: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the servers up in each phase, and the rates from phase to phase."""
    if together:
        return np.array([0.0, servers]), np.array([[0.0, repair_rate], [failure_rate, 0.0]])
    up = np.arange(servers + 1, dtype=np.float64)
    return up, np.diag(up[1:] * failure_rate, -1) + np.diag((servers - up[:-1]) * repair_rate, 1)


def _rate_matrix(
    births: NDArray[np.float64], within: NDArray[np.float64], deaths: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the least solution of births + R within + R^2 deaths = 0, by logarithmic reduction (Latouche, 1993)."""
    inverse = -np.linalg.inv(within)
    up, down = inverse @ births, inverse @ deaths
    first, carried = down.copy(), up.copy()
    identity = np.eye(len(within))
    while np.abs(1.0 - first.sum(axis=1)).max() > 1e-13 and np.abs(carried).max() > 1e-300:
        both = np.linalg.inv(identity - up @ down - down @ up)
        up, down = both @ up @ up, both @ down @ down
        first = first + carried @ down
        carried = carried @ up
    return np.asarray(births @ np.linalg.inv(-within - births @ first), dtype=np.float64)


def fifo_with_outages(
    arrivals_s: ArrayLike, services_s: ArrayLike, outages_s: list[list[tuple[float, float]]], repeat: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Completion of every customer of a first-come first-served queue whose servers are away at known times.

    Parameters:
        arrivals_s: instants of arrival, not decreasing, shape [n] [s].
        services_s: service times, shape [n] [s].
        outages_s: for each server, disjoint (start, end) in order [s].
        repeat: whether an interrupted service begins anew (elsewhere, if another server is free), or goes on.

    Returns:
        Completion instants, shape [n] [s], and interruptions, shape [n]. The earliest arrived customer who is not
        in service takes the first free server, the one of the lowest number. A service that ends at the very instant
        of an outage has ended; a server is free again at the very end of its outage.

    Raises:
        ValueError: shapes that differ, arrivals that decrease, no server.

    Source: the definition, step by step; no distribution is assumed.
    """
    arrivals = finite_array("arrivals_s", arrivals_s)
    services = finite_array("services_s", services_s, minimum=0.0)
    if arrivals.ndim != 1 or arrivals.shape != services.shape or (np.diff(arrivals) < 0).any() or not outages_s:
        raise ValueError("give arrivals in order, as many services, and at least one server")
    left = services.tolist()
    done = np.full(len(left), np.inf)
    lost = np.zeros(len(left), np.int64)
    changes: list[tuple[float, int, int, int]] = []  # instant, order at one instant, kind of change, number
    for server, times in enumerate(outages_s):
        for start, end in times:
            changes += [(start, 2, 1, server), (end, 1, 0, server)]
    changes += [(at, 3, 2, customer) for customer, at in enumerate(arrivals.tolist())]
    heapq.heapify(changes)
    serving: dict[int, tuple[int, float]] = {}
    away: set[int] = set()
    waiting: list[int] = []
    while changes:
        now = changes[0][0]
        while changes and changes[0][0] == now:
            _, order, kind, number = heapq.heappop(changes)
            if order == 0:
                if number in serving and serving[number][1] == now:
                    done[serving.pop(number)[0]] = now
            elif kind == 0:
                away.discard(number)
            elif kind == 1:
                away.add(number)
                if number in serving:
                    customer, end = serving.pop(number)
                    left[customer] = services[customer] if repeat else end - now
                    lost[customer] += 1
                    heapq.heappush(waiting, customer)
            else:
                heapq.heappush(waiting, number)
        for server in range(len(outages_s)):
            if waiting and server not in serving and server not in away:
                customer = heapq.heappop(waiting)
                serving[server] = (customer, now + left[customer])
                heapq.heappush(changes, (now + left[customer], 0, 0, server))
    return done, lost
