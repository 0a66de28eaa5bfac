"""First-come first-served queues: Erlang, birth-death chains, Pollaczek-Khinchine, exact sample paths.

Rates are per second [1/s]; a load is rho, an offered load is in erlangs [1].

References, by short name:
    Kleinrock: L. Kleinrock, Queueing Systems, Volume 1: Theory, Wiley 1975.
    Gross & Harris: D. Gross, J. Shortle, J. Thompson, C. Harris, Fundamentals of Queueing Theory, Wiley.
    Harchol-Balter: M. Harchol-Balter, Performance Modeling and Design of Computer Systems, Cambridge 2013.
"""

import heapq
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.theory.domain import (
    finite_array,
    require_non_negative,
    require_positive,
    require_stable,
    require_whole,
)


def erlang_b(servers: int, offered: float) -> float:
    """Probability that an arrival to M/G/c/c (no waiting room) is lost.

    Parameters:
        servers: c, the number of servers [1].
        offered: a = arrival rate x mean service time [erlang].

    B(c) = (a^c / c!) / sum_{k=0..c} a^k / k!, by the recursion B(k) = a B(k-1) / (k + a B(k-1)), B(0) = 1,
    which neither overflows nor cancels. Insensitive to the service time distribution.

    Raises:
        ValueError: servers below 0 or not whole, offered below 0 or not finite.

    Source: Gross & Harris, Erlang's loss formula M/M/c/c; Harchol-Balter ch. 14; Kleinrock sec. 3.7.
    """
    require_whole(0, servers=servers)
    require_non_negative(offered=offered)
    blocking = 1.0
    for count in range(1, servers + 1):
        blocking = offered * blocking / (count + offered * blocking)
    return blocking


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival to M/M/c has to wait.

    Parameters:
        servers: c, the number of servers [1].
        offered: a = arrival rate / service rate [erlang].

    C = B / (1 - rho (1 - B)), with B = erlang_b(c, a) and rho = a / c.

    Raises:
        ValueError: servers below 1 or not whole, offered below 0, or rho >= 1.

    Source: Gross & Harris, M/M/c; Harchol-Balter ch. 14; Kleinrock sec. 3.5.
    """
    require_whole(1, servers=servers)
    require_non_negative(offered=offered)
    load = offered / servers
    require_stable(load, offered=offered, servers=servers)
    blocking = erlang_b(servers, offered)
    return blocking / (1 - load * (1 - blocking))


def mmc_mean_wait(arrival_rate: float, service_rate: float, servers: int) -> float:
    """Mean time in queue, before service, of M/M/c [s].

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu, of one server [1/s].
        servers: c [1].

    E[W] = C(c, lambda/mu) / (c mu - lambda).

    Raises:
        ValueError: a negative arrival rate, a service rate not above zero, servers below 1, or rho >= 1.

    Source: Gross & Harris, M/M/c; Kleinrock sec. 3.5.
    """
    return mmc_wait_tail(arrival_rate, service_rate, servers, 0.0) / (servers * service_rate - arrival_rate)


def mmc_wait_tail(arrival_rate: float, service_rate: float, servers: int, time_s: float) -> float:
    """Probability that the time in queue of first-come first-served M/M/c exceeds a given time.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu, of one server [1/s].
        servers: c [1].
        time_s: t, not negative [s].

    P(W > t) = C(c, lambda/mu) exp(-(c mu - lambda) t).

    Raises:
        ValueError: a negative arrival rate or time, a service rate not above zero, servers below 1, or rho >=
            1.

    Source: Gross & Harris, M/M/c waiting-time distribution; Harchol-Balter ch. 14.
    """
    require_non_negative(arrival_rate=arrival_rate, time_s=time_s)
    require_positive(service_rate=service_rate)
    wait_probability = erlang_c(servers, arrival_rate / service_rate)
    return wait_probability * math.exp(-(servers * service_rate - arrival_rate) * time_s)


def mmc_wait_quantile(arrival_rate: float, service_rate: float, servers: int, quantile: float) -> float:
    """Quantile of the time in queue of first-come first-served M/M/c [s].

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu, of one server [1/s].
        servers: c [1].
        quantile: q, from 0 to below 1 [1].

    The smallest t with P(W <= t) >= q: max(0, ln(C / (1 - q)) / (c mu - lambda)).

    Raises:
        ValueError: a quantile outside [0, 1), a negative arrival rate, a service rate not above zero, servers
            below 1, or rho >= 1.

    Source: the inverse of `mmc_wait_tail`.
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"quantile must be at least 0 and below 1, got {quantile!r}")
    wait_probability = mmc_wait_tail(arrival_rate, service_rate, servers, 0.0)
    if wait_probability <= 1 - quantile:
        return 0.0
    return math.log(wait_probability / (1 - quantile)) / (servers * service_rate - arrival_rate)


def birth_death_distribution(arrival_rates: ArrayLike, service_rates: ArrayLike) -> NDArray[np.float64]:
    """Stationary distribution of a finite birth-death chain on 0..K.

    Parameters:
        arrival_rates: lambda(n), from n to n + 1, for n = 0..K-1; shape [K] [1/s].
        service_rates: mu(n), from n to n - 1, for n = 1..K; shape [K] [1/s].

    Returns:
        p(0..K), shape [K + 1], with p(n) = p(0) prod_{i=1..n} lambda(i-1) / mu(i), computed in logarithms.
        States above a zero arrival rate have probability zero.

    Raises:
        ValueError: shapes that differ or are not one-dimensional, a negative arrival rate, a service rate not
            above zero.

    Source: Kleinrock sec. 3.1; Gross & Harris, birth-death processes.
    """
    births = finite_array("arrival_rates", arrival_rates, minimum=0.0)
    deaths = finite_array("service_rates", service_rates, minimum=0.0)
    if births.ndim != 1 or births.shape != deaths.shape:
        raise ValueError(f"arrival_rates and service_rates must be [K], got {births.shape} and {deaths.shape}")
    if (deaths == 0).any():
        raise ValueError(f"service_rates must be above zero, got 0.0 at state {int(np.argmin(deaths)) + 1}")
    with np.errstate(divide="ignore"):
        log_weights = np.concatenate(([0.0], np.cumsum(np.log(births) - np.log(deaths))))
    weights: NDArray[np.float64] = np.exp(log_weights - log_weights.max())
    return weights / float(weights.sum())


def mmck_distribution(arrival_rate: float, service_rate: float, servers: int, capacity: int) -> NDArray[np.float64]:
    """Stationary distribution of the number in M/M/c/K, where arrivals that find K present are lost.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu, of one server [1/s].
        servers: c [1].
        capacity: K, in service and waiting together, at least c [1].

    Returns:
        p(0..K), shape [K + 1]: the birth-death chain with lambda(n) = lambda and mu(n) = min(n, c) mu. It
        exists at any load. servers=1 is M/M/1/K, capacity=servers is M/M/c/c.

    Raises:
        ValueError: a negative arrival rate, a service rate not above zero, servers below 1, capacity below
            servers.

    Source: Gross & Harris, M/M/c/K.
    """
    require_non_negative(arrival_rate=arrival_rate)
    require_positive(service_rate=service_rate)
    require_whole(1, servers=servers)
    require_whole(servers, capacity=capacity)
    busy = np.minimum(np.arange(1, capacity + 1), servers)
    return birth_death_distribution(np.full(capacity, arrival_rate), busy * service_rate)


def mmck_blocking(arrival_rate: float, service_rate: float, servers: int, capacity: int) -> float:
    """Probability that an arrival to M/M/c/K is lost: p(K), because Poisson arrivals see time averages.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu, of one server [1/s].
        servers: c [1].
        capacity: K, in service and waiting together, at least c [1].

    Raises:
        ValueError: as `mmck_distribution`.

    Source: Gross & Harris, M/M/c/K; R. Wolff, Poisson arrivals see time averages, Operations Research 30
    (1982).
    """
    return float(mmck_distribution(arrival_rate, service_rate, servers, capacity)[-1])


def mg1_mean_wait(arrival_rate: float, mean_service_s: float, second_moment_s2: float) -> float:
    """Mean time in queue of M/G/1 under any order of service that does not look at service times [s].

    Parameters:
        arrival_rate: lambda [1/s].
        mean_service_s: E[S] [s].
        second_moment_s2: E[S^2], at least E[S]^2 [s^2].

    E[W] = lambda E[S^2] / (2 (1 - rho)), rho = lambda E[S] (Pollaczek-Khinchine), not pre-emptive.

    Raises:
        ValueError: a negative arrival rate, a moment not above zero, E[S^2] below E[S]^2, or rho >= 1.

    Source: Kleinrock sec. 5.6; Gross & Harris, M/G/1; Harchol-Balter ch. 23.
    """
    require_non_negative(arrival_rate=arrival_rate)
    require_positive(mean_service_s=mean_service_s, second_moment_s2=second_moment_s2)
    # Moments estimated from equal samples may miss the bound by rounding alone.
    if second_moment_s2 < mean_service_s**2 * (1 - 1e-12):
        raise ValueError(
            f"second_moment_s2 must be at least mean_service_s**2 = {mean_service_s**2!r}, got {second_moment_s2!r}"
        )
    load = arrival_rate * mean_service_s
    require_stable(load, arrival_rate=arrival_rate, mean_service_s=mean_service_s)
    return arrival_rate * second_moment_s2 / (2 * (1 - load))


def md1_mean_wait(arrival_rate: float, service_s: float) -> float:
    """Mean time in queue of M/D/1, where every service takes the same time [s].

    Parameters:
        arrival_rate: lambda [1/s].
        service_s: D [s].

    E[W] = rho D / (2 (1 - rho)), rho = lambda D: half of M/M/1 at the same load.

    Raises:
        ValueError: a negative arrival rate, a service time not above zero, or rho >= 1.

    Source: Kleinrock sec. 5.6; Gross & Harris, M/D/1.
    """
    require_non_negative(arrival_rate=arrival_rate)
    require_positive(service_s=service_s)
    load = arrival_rate * service_s
    require_stable(load, arrival_rate=arrival_rate, service_s=service_s)
    return load * service_s / (2 * (1 - load))


def mg_infinity_mean_in_system(arrival_rate: float, mean_service_s: float) -> float:
    """Mean number in M/G/infinity, whose number in system is Poisson whatever the service time distribution.

    Parameters:
        arrival_rate: lambda [1/s].
        mean_service_s: E[S] [s].

    E[N] = lambda E[S].

    Raises:
        ValueError: a negative arrival rate or mean service time.

    Source: Gross & Harris, M/G/infinity; Kleinrock sec. 3.4 for M/M/infinity.
    """
    require_non_negative(arrival_rate=arrival_rate, mean_service_s=mean_service_s)
    return arrival_rate * mean_service_s


def lindley_waits(interarrival_s: ArrayLike, service_s: ArrayLike) -> NDArray[np.float64]:
    """Time in queue of every customer of first-come first-served G/G/1 that starts empty, on any path.

    Parameters:
        interarrival_s: A(k), from arrival k to arrival k + 1, for k = 0..n-2; shape [..., n - 1] [s].
        service_s: S(k), for k = 0..n-1; shape [..., n] [s].

    Returns:
        W(0..n-1), shape [..., n] [s]: W(0) = 0 and W(k+1) = max(0, W(k) + S(k) - A(k)), which unfolds to
        W(k) = U(k) - min_{j<=k} U(j) with U(k) = sum_{i<k} (S(i) - A(i)). No assumption on the distributions.
        Rounding is about 1e-16 of the length of the path.

    Raises:
        ValueError: no customer, shapes that do not fit, or a negative or not finite time.

    Source: D. Lindley, The theory of queues with a single server, Proc. Cambridge Phil. Soc. 48 (1952);
    Kleinrock sec. 8.1.
    """
    gaps = finite_array("interarrival_s", interarrival_s, minimum=0.0)
    services = finite_array("service_s", service_s, minimum=0.0)
    expected = (*services.shape[:-1], services.shape[-1] - 1) if services.ndim and services.size else None
    if gaps.shape != expected:
        raise ValueError(
            "service_s must be [..., n] with n >= 1 and interarrival_s [..., n - 1], "
            f"got {services.shape} and {gaps.shape}"
        )
    walk = np.zeros_like(services)
    np.cumsum(services[..., :-1] - gaps, axis=-1, out=walk[..., 1:])
    return walk - np.minimum.accumulate(walk, axis=-1)


def multi_server_fifo(arrivals_s: ArrayLike, services_s: ArrayLike, servers: int) -> NDArray[np.float64]:
    """Start of service of every customer of first-come first-served G/G/c that starts empty, on any path.

    Parameters:
        arrivals_s: instants of arrival, not decreasing; customers who arrive together start in array order;
            shape [n] [s].
        services_s: service times, shape [n] [s].
        servers: c [1].

    Returns:
        Start instants, shape [n] [s]: start(k) = max(arrival(k), the earliest instant at which one of the c
        servers is free), kept in a heap. The sorted differences are the Kiefer-Wolfowitz workload vector.

    Raises:
        ValueError: shapes that differ, arrivals that decrease, a negative service time, servers below 1.

    Source: J. Kiefer, J. Wolfowitz, On the theory of queues with many servers, Trans. AMS 78 (1955).
    """
    arrivals = finite_array("arrivals_s", arrivals_s)
    services = finite_array("services_s", services_s, minimum=0.0)
    require_whole(1, servers=servers)
    if arrivals.ndim != 1 or arrivals.shape != services.shape:
        raise ValueError(f"arrivals_s and services_s must be [n], got {arrivals.shape} and {services.shape}")
    if (np.diff(arrivals) < 0).any():
        raise ValueError(f"arrivals_s must not decrease, but customer {int(np.argmax(np.diff(arrivals) < 0)) + 1} does")
    free_at = [-math.inf] * servers
    starts = []
    for arrival, service in zip(arrivals.tolist(), services.tolist(), strict=True):
        start = max(arrival, free_at[0])
        heapq.heapreplace(free_at, start + service)
        starts.append(start)
    return np.asarray(starts, dtype=np.float64)
