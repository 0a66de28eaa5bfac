"""Queues whose customers give up: M/M/c with patience that is exponential, fixed, or of any distribution.

References, by short name:
    Zeltyn & Mandelbaum: S. Zeltyn, A. Mandelbaum, Call centers with impatient customers: many-server asymptotics of
        the M/M/n+G queue, Queueing Systems 51 (2005), section on exact formulae.
    Baccelli & Hebuterne: F. Baccelli, G. Hebuterne, On queues with impatient customers, Performance 1981.
    Palm: C. Palm, Research on telephone traffic carried by full availability groups, Tele 1 (1957), Erlang A.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.theory.domain import require_positive, require_whole


@dataclass(frozen=True)
class Abandonment:
    """Steady state of a queue with impatient customers."""

    waits: float
    """Probability that an arrival finds all servers busy [1]."""

    abandons: float
    """Probability that a customer gives up before service [1]."""

    mean_wait_s: float
    """Mean time in queue of all customers, those who give up included [s]."""


def mmc_fixed_patience(arrival_rate: float, service_rate: float, servers: int, patience_s: float) -> Abandonment:
    """Steady state of M/M/c+D: each customer gives up after the same time in queue.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu of each server [1/s].
        servers: c [1].
        patience_s: time in queue after which a customer leaves [s].

    As `mmc_patience` with survival 1 up to the patience and 0 beyond, whose integrals are elementary. There is a
    steady state at any load.

    Raises:
        ValueError: a rate or the patience that is not above zero, servers below 1.

    Source: Baccelli & Hebuterne; Zeltyn & Mandelbaum.
    """
    require_positive(patience_s=patience_s)
    drift = arrival_rate - servers * service_rate
    rate = servers * service_rate
    until = patience_s
    # J and J_H below and above the patience; the virtual wait decays at the full rate beyond it.
    below = until if drift == 0.0 else math.expm1(drift * until) / drift
    moment = until**2 / 2.0 if drift == 0.0 else (until * math.exp(drift * until) - below) / drift
    beyond = math.exp(drift * until) / rate
    return _abandonment(arrival_rate, service_rate, servers, below + beyond, moment + until * beyond)


def mmc_exponential_patience(
    arrival_rate: float, service_rate: float, servers: int, mean_patience_s: float
) -> Abandonment:
    """Steady state of M/M/c+M, Erlang A: customers give up at a rate of 1 / mean patience each.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu of each server [1/s].
        servers: c [1].
        mean_patience_s: mean time in queue after which a customer leaves [s].

    A birth-death chain with deaths min(n, c) mu + max(0, n - c) / patience, summed until its terms vanish.

    Raises:
        ValueError: a rate or the patience that is not above zero, servers below 1.

    Source: Palm.
    """
    require_positive(arrival_rate=arrival_rate, service_rate=service_rate, mean_patience_s=mean_patience_s)
    require_whole(1, servers=servers)
    leaving = 1.0 / mean_patience_s
    weight, total, queued, busy = 1.0, 0.0, 0.0, 0.0
    count = 0
    while True:
        total += weight
        if count >= servers:
            busy += weight
            queued += weight * (count - servers)
        count += 1
        weight *= arrival_rate / (min(count, servers) * service_rate + max(0, count - servers) * leaving)
        if total > 1e250:
            weight, total, queued, busy = (each / total for each in (weight, total, queued, busy))
        falling = count > servers and arrival_rate < servers * service_rate + (count - servers) * leaving
        if falling and weight * count < 1e-17 * total:
            break
    mean_queue = queued / total
    return Abandonment(busy / total, leaving * mean_queue / arrival_rate, mean_queue / arrival_rate)


def mmc_patience(
    arrival_rate: float, service_rate: float, servers: int, survival: Callable[[float], float], longest_s: float
) -> Abandonment:
    """Steady state of M/M/c+G, where customers have independent patience of any distribution.

    Parameters:
        arrival_rate: lambda [1/s].
        service_rate: mu of each server [1/s].
        servers: c [1].
        survival: probability that the patience exceeds a time, as a function of it [s -> 1].
        longest_s: time beyond which nobody waits, or to which integrals are taken [s].

    With H(x) = integral of the survival to x, J = integral of exp(lambda H(x) - c mu x) and J_H that of H(x) times
    the same, and E = sum_{j<c} (a^j / j!) / (a^(c-1) / (c-1)!) at a = lambda / mu:
    P(wait) = lambda J / (E + lambda J), P(abandon) = (1 + (lambda - c mu) J) / (E + lambda J),
    E[W] = lambda J_H / (E + lambda J).

    Raises:
        ValueError: a rate or the longest time that is not above zero, servers below 1.

    Source: Zeltyn & Mandelbaum.
    """
    require_positive(longest_s=longest_s)
    rate = servers * service_rate
    grid = np.linspace(0.0, longest_s, 20_001)
    alive = np.array([survival(float(each)) for each in grid])
    step = longest_s / (len(grid) - 1)
    patience = np.concatenate([[0.0], np.cumsum((alive[1:] + alive[:-1]) / 2.0) * step])
    density = np.exp(arrival_rate * patience - rate * grid)
    beyond = float(density[-1]) / rate
    inside = float(_trapezoid(density, step)) + beyond
    moment = float(_trapezoid(patience * density, step)) + float(patience[-1]) * beyond
    return _abandonment(arrival_rate, service_rate, servers, inside, moment)


def _trapezoid(values: NDArray[np.float64], step: float) -> float:
    return float((values[1:] + values[:-1]).sum()) * step / 2.0


def _abandonment(arrival_rate: float, service_rate: float, servers: int, integral: float, moment: float) -> Abandonment:
    require_positive(arrival_rate=arrival_rate, service_rate=service_rate)
    require_whole(1, servers=servers)
    offered = arrival_rate / service_rate
    # sum over j < c of (a^j / j!) / (a^(c-1) / (c-1)!), from j = c - 1 down
    ratio = term = 1.0
    for count in range(servers - 1, 0, -1):
        term *= count / offered
        ratio += term
    total = ratio + arrival_rate * integral
    abandons = (1.0 + (arrival_rate - servers * service_rate) * integral) / total
    return Abandonment(arrival_rate * integral / total, max(0.0, abandons), arrival_rate * moment / total)
