"""One server and classes that go before each other: mean waits with and without preemption.

Classes are in order of priority, the first one first. Rates are per second [1/s].

References, by short name:
    Cobham: A. Cobham, Priority assignment in waiting line problems, Operations Research 2 (1954).
    Kleinrock 2: L. Kleinrock, Queueing Systems, Volume 2: Computer Applications, Wiley 1976.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.theory.domain import finite_array, require_stable


def nonpreemptive_mean_waits(
    arrival_rates: ArrayLike, mean_service_s: ArrayLike, second_moments_s2: ArrayLike
) -> NDArray[np.float64]:
    """Mean time in queue by class in M/G/1 where no service is interrupted [s].

    Parameters:
        arrival_rates: lambda(k) of each class, shape [K] [1/s].
        mean_service_s: E[S(k)], shape [K] [s].
        second_moments_s2: E[S(k)^2], shape [K] [s^2].

    W(k) = W0 / ((1 - sigma(k-1)) (1 - sigma(k))), with W0 = sum_j lambda(j) E[S(j)^2] / 2 over all classes and
    sigma(k) = sum_{j<=k} lambda(j) E[S(j)]. Within a class, first come first served.

    Raises:
        ValueError: shapes that differ, negative values, sigma(K) >= 1, or a second moment below the squared mean.

    Source: Cobham; Kleinrock 2 sec. 3.2.
    """
    rates, _, moments, load = _classes(arrival_rates, mean_service_s, second_moments_s2)
    residual = float((rates * moments).sum()) / 2.0
    return residual / ((1.0 - _before(load)) * (1.0 - load))


def preemptive_mean_waits(
    arrival_rates: ArrayLike, mean_service_s: ArrayLike, second_moments_s2: ArrayLike
) -> NDArray[np.float64]:
    """Mean time in the system less the service itself, by class in preemptive-resume M/G/1 [s].

    Parameters:
        arrival_rates: lambda(k) of each class, shape [K] [1/s].
        mean_service_s: E[S(k)], shape [K] [s].
        second_moments_s2: E[S(k)^2], shape [K] [s^2].

    T(k) = E[S(k)] / (1 - sigma(k-1)) + W0(k) / ((1 - sigma(k-1)) (1 - sigma(k))), with
    W0(k) = sum_{j<=k} lambda(j) E[S(j)^2] / 2; returned is T(k) - E[S(k)]. A class does not feel those behind it.

    Raises:
        ValueError: as `nonpreemptive_mean_waits`.

    Source: Kleinrock 2 sec. 3.4.
    """
    rates, means, moments, load = _classes(arrival_rates, mean_service_s, second_moments_s2)
    before = _before(load)
    residual = np.cumsum(rates * moments) / 2.0
    return means / (1.0 - before) - means + residual / ((1.0 - before) * (1.0 - load))


def _classes(
    arrival_rates: ArrayLike, mean_service_s: ArrayLike, second_moments_s2: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rates = finite_array("arrival_rates", arrival_rates, minimum=0.0)
    means = finite_array("mean_service_s", mean_service_s, minimum=0.0)
    moments = finite_array("second_moments_s2", second_moments_s2, minimum=0.0)
    if rates.ndim != 1 or rates.size == 0 or not rates.shape == means.shape == moments.shape:
        raise ValueError(
            f"give one rate, mean and second moment a class, got {rates.shape}, {means.shape}, {moments.shape}"
        )
    if (moments < means**2 * (1.0 - 1e-12)).any():
        raise ValueError("a second moment is at least the square of its mean")
    load = np.cumsum(rates * means)
    require_stable(float(load[-1]))
    return rates, means, moments, load


def _before(load: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[0.0], load[:-1]])
