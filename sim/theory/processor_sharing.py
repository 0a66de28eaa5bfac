"""Processor sharing whose rate depends on the number present: the queueing theory of continuous batching.

A server with n jobs present gives every one of them one step per tau(n) seconds; a job needs L steps (in
decode: output tokens). Jobs arrive in a Poisson stream of rate lambda. With R = lambda E[L], the rate of
steps asked for,

    p(n) = p(0) prod_{i=1..n} R tau(i) / i                                                    (1)

whatever the distribution of L: the discipline is symmetric (Kelly), so only E[L] matters, and a job of x
steps stays on average x / E[L] times the mean sojourn (Cohen). The theory is fluid: work is divisible and an
arrival begins at once. A real batch moves in whole steps and an arrival waits for the running one to end,
which adds of the order of one step to a mean sojourn of E[L] steps.

References, by short name:
    Cohen: J. W. Cohen, The multiple phase service network with generalized processor sharing, Acta
        Informatica 12 (1979).
    Kelly: F. P. Kelly, Reversibility and Stochastic Networks, Wiley 1979, ch. 3 (symmetric queues).
    Harchol-Balter: M. Harchol-Balter, Performance Modeling and Design of Computer Systems, Cambridge 2013,
        ch. 30.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.theory.domain import finite_array, require_non_negative, require_positive, require_stable

# Share of the mean number that cutting off the tail of (1) may lose, and the most states kept.
TAIL_TOLERANCE = 1e-13
MOST_STATES = 1 << 22


@dataclass(frozen=True, eq=False)
class ProcessorSharingEquilibrium:
    """The steady state of a server shared by the jobs present.

    Parameters:
        probabilities: p(0..m), shape [m + 1] [1].
        tail_ratio: p(n + 1) / p(n) for n >= m; 0 where what lies above m is below rounding [1].
        load: rho, the limit of R tau(n) / n for many jobs; stable means rho < 1 [1].
        saturation_rate: the arrival rate at which rho reaches 1, infinite without a limit [1/s].
        mean_in_system: E[N], in service and waiting [1].
        mean_waiting: the mean number that waits outside the server; 0 without a cap [1].
        wait_probability: the probability that an arrival has to wait outside; 0 without a cap [1].
        mean_sojourn_s: E[N] / lambda, by Little's law [s].
        mean_wait_s: mean_waiting / lambda, over all jobs, by Little's law [s].
    """

    probabilities: NDArray[np.float64]
    tail_ratio: float
    load: float
    saturation_rate: float
    mean_in_system: float
    mean_waiting: float
    wait_probability: float
    mean_sojourn_s: float
    mean_wait_s: float


def mg1_ps_mean_response(arrival_rate: float, mean_service_s: float, service_s: float) -> float:
    """Mean time in system of a job that needs x seconds of the whole server, in M/G/1 processor sharing [s].

    Parameters:
        arrival_rate: lambda [1/s].
        mean_service_s: E[S], service time of a job alone [s].
        service_s: x, service time of this job alone [s].

    E[T | x] = x / (1 - rho), rho = lambda E[S]; insensitive to the distribution of S.

    Raises:
        ValueError: a negative arrival rate or x, E[S] not above zero, or rho >= 1.

    Source: Harchol-Balter ch. 30; Kleinrock, Queueing Systems, Volume 2, Wiley 1976, ch. 4.
    """
    require_non_negative(arrival_rate=arrival_rate, service_s=service_s)
    require_positive(mean_service_s=mean_service_s)
    load = arrival_rate * mean_service_s
    require_stable(load, arrival_rate=arrival_rate, mean_service_s=mean_service_s)
    return service_s / (1 - load)


def affine_mean_response(
    arrival_rate: float, mean_work: float, step_base_s: float, step_per_job_s: float, work: float
) -> float:
    """Mean time in system of a job of x steps when a step takes tau(n) = a + b n, in closed form [s].

    Parameters:
        arrival_rate: lambda [1/s].
        mean_work: E[L], steps per job [1].
        step_base_s: a, seconds per step whatever the number of jobs [s].
        step_per_job_s: b, seconds that each job adds to a step [s].
        work: x, steps of this job; x = E[L] gives the mean over jobs, x = 1 the mean seconds per step [1].

    With affine tau, (1) is the negative binomial distribution of size a/b + 1 and ratio rho = lambda E[L] b,
    so E[N] = R (a + b) / (1 - rho) and E[T | x] = x (a + b) / (1 - rho). a = 0 is M/G/1 processor sharing,
    b = 0 is M/G/infinity. No cap on the number present; insensitive to the distribution of L.

    Raises:
        ValueError: a negative a, b, x or arrival rate, a + b or E[L] not above zero, or rho >= 1.

    Source: equation (1), summed; Cohen for the proportionality to x.
    """
    require_non_negative(arrival_rate=arrival_rate, step_base_s=step_base_s, step_per_job_s=step_per_job_s, work=work)
    require_positive(mean_work=mean_work, step_of_one_job_s=step_base_s + step_per_job_s)
    load = arrival_rate * mean_work * step_per_job_s
    require_stable(load, arrival_rate=arrival_rate, mean_work=mean_work, step_per_job_s=step_per_job_s)
    return work * (step_base_s + step_per_job_s) / (1 - load)


def state_dependent_processor_sharing(
    arrival_rate: float, mean_work: float, step_times_s: ArrayLike, step_per_extra_job_s: float
) -> ProcessorSharingEquilibrium:
    """Steady state of a server that takes in every job at once and gives each one step per tau(n) seconds.

    Parameters:
        arrival_rate: lambda [1/s].
        mean_work: E[L], steps per job [1].
        step_times_s: tau(1..m), seconds per step with n jobs present, of any shape of curve; shape [m] [s].
        step_per_extra_job_s: g, so that tau(n) = tau(m) + g (n - m) for n > m [s].

    Equation (1), evaluated in logarithms up to the n beyond which a geometric bound on the rest is below
    rounding. Affine tau(n) = a + b n is step_times_s=[a + b], step_per_extra_job_s=b. Stable if and only if
    rho = lambda E[L] g < 1. Insensitive to the distribution of L; E[T | x] = mean_sojourn_s x / E[L].

    Raises:
        ValueError: rates, work or step times not above zero, a negative g, rho >= 1, or a rho so near 1 that
            more than 4 million states carry weight.

    Source: Cohen; Kelly; the proportionality to x is Cohen's.
    """
    demand, steps_s = _read(arrival_rate, mean_work, step_times_s)
    require_non_negative(step_per_extra_job_s=step_per_extra_job_s)
    load = demand * step_per_extra_job_s
    require_stable(load, arrival_rate=arrival_rate, mean_work=mean_work, step_per_extra_job_s=step_per_extra_job_s)
    states = steps_s.size
    while states <= MOST_STATES:
        extra = np.arange(1, states - steps_s.size + 1)
        all_steps_s = np.concatenate((steps_s, steps_s[-1] + step_per_extra_job_s * extra))
        probabilities = _distribution(demand, all_steps_s, 0.0)
        mean = float(np.arange(states + 1) @ probabilities)
        # Beyond m, R tau(n) / n moves monotonically to rho: the larger of both bounds every later ratio.
        bound = max(demand * (all_steps_s[-1] + step_per_extra_job_s) / (states + 1), load)
        if bound < 1:
            rest = probabilities[-1] * bound * (states / (1 - bound) + 1 / (1 - bound) ** 2)
            if rest <= TAIL_TOLERANCE * mean:
                return ProcessorSharingEquilibrium(
                    probabilities=probabilities,
                    tail_ratio=0.0,
                    load=load,
                    saturation_rate=arrival_rate / load if load > 0 else math.inf,
                    mean_in_system=mean,
                    mean_waiting=0.0,
                    wait_probability=0.0,
                    mean_sojourn_s=mean / arrival_rate,
                    mean_wait_s=0.0,
                )
        states = max(2 * states, 1024)
    raise ValueError(
        f"more than {MOST_STATES} states carry weight at load rho = {load:.9g} "
        f"(arrival_rate={arrival_rate!r}, mean_work={mean_work!r}, "
        f"step_per_extra_job_s={step_per_extra_job_s!r})"
    )


def capped_processor_sharing(
    arrival_rate: float, mean_work: float, step_times_s: ArrayLike
) -> ProcessorSharingEquilibrium:
    """Steady state of a server that holds at most m jobs; the others wait outside, first come first served.

    Parameters:
        arrival_rate: lambda [1/s].
        mean_work: E[L], steps per job [1].
        step_times_s: tau(1..m), seconds per step with n jobs in the server, so the cap is its length; shape
            [m] [s].

    p(n) by (1) up to m, then p(n) = p(m) rho^(n - m) with rho = R tau(m) / m, since above the cap jobs leave
    at the rate m / (E[L] tau(m)) of the full server. Exact for exponential L only (nearly so for geometric L
    of large mean): with a queue the discipline is no longer symmetric and the distribution of L matters.
    Constant tau is M/M/m. P(wait > t) = wait_probability exp(-(saturation_rate - lambda) t). Stable if and
    only if rho < 1.

    Raises:
        ValueError: rates, work or step times not above zero, or rho >= 1.

    Source: birth-death chain (Kleinrock sec. 3.1) with the rates of Cohen; the tail is that of M/M/c (Gross &
    Harris).
    """
    demand, steps_s = _read(arrival_rate, mean_work, step_times_s)
    cap = steps_s.size
    load = demand * float(steps_s[-1]) / cap
    require_stable(load, arrival_rate=arrival_rate, mean_work=mean_work, cap=cap, step_at_cap_s=float(steps_s[-1]))
    probabilities = _distribution(demand, steps_s, load)
    at_cap = float(probabilities[-1])
    waiting = at_cap * load / (1 - load) ** 2
    mean = float(np.arange(cap + 1) @ probabilities) + at_cap * load * cap / (1 - load) + waiting
    return ProcessorSharingEquilibrium(
        probabilities=probabilities,
        tail_ratio=load,
        load=load,
        saturation_rate=arrival_rate / load,
        mean_in_system=mean,
        mean_waiting=waiting,
        wait_probability=at_cap / (1 - load),
        mean_sojourn_s=mean / arrival_rate,
        mean_wait_s=waiting / arrival_rate,
    )


def _read(arrival_rate: float, mean_work: float, step_times_s: ArrayLike) -> tuple[float, NDArray[np.float64]]:
    """Check the inputs and return the step rate R = lambda E[L] [1/s] and the step times [s]."""
    require_positive(arrival_rate=arrival_rate, mean_work=mean_work)
    steps_s = finite_array("step_times_s", step_times_s)
    if steps_s.ndim != 1 or steps_s.size == 0:
        raise ValueError(f"step_times_s must be [m] with m >= 1, got shape {steps_s.shape}")
    if (steps_s <= 0).any():
        raise ValueError(f"step_times_s must be above zero, got {float(steps_s.min())!r}")
    return arrival_rate * mean_work, steps_s


def _distribution(demand: float, steps_s: NDArray[np.float64], tail_ratio: float) -> NDArray[np.float64]:
    """Return p(0..m) of (1) [1] when each state above m has tail_ratio times the weight of the one below."""
    numbers = np.arange(1, steps_s.size + 1)
    log_weights = np.concatenate(([0.0], np.cumsum(np.log(demand * steps_s / numbers))))
    weights: NDArray[np.float64] = np.exp(log_weights - log_weights.max())
    total = float(weights.sum() + weights[-1] * tail_ratio / (1 - tail_ratio))
    return weights / total
