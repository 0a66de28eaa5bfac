"""Little's law as an identity of any sample path: the mean number present, from two columns of instants."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.theory.domain import finite_array


def mean_number_in_system(arrival_s: ArrayLike, departure_s: ArrayLike, edges_s: ArrayLike) -> NDArray[np.float64]:
    """Time average of the number present N(t) over each interval between consecutive edges.

    Parameters:
        arrival_s: instants of arrival, in any order, shape [n] [s].
        departure_s: instants of departure of the same customers, shape [n] [s].
        edges_s: strictly increasing edges of m intervals, shape [m + 1] [s].

    Returns:
        (1 / (t1 - t0)) integral_{t0}^{t1} N(t) dt per interval, shape [m] [1], where N(t) counts arrival <= t
        < departure, by a sweep over the events. Over an interval that starts and ends empty the integral is
        the sum of the sojourns departure - arrival, which is Little's law L = lambda W as an identity: no
        assumption on the process.

    Raises:
        ValueError: shapes that differ, a customer who departs before arriving, edges that do not increase.

    Source: J. Little, A proof for the queuing formula L = lambda W, Operations Research 9 (1961); S. Stidham,
    A last word on L = lambda W, Operations Research 22 (1974), for the sample-path form.
    """
    arrivals = finite_array("arrival_s", arrival_s)
    departures = finite_array("departure_s", departure_s)
    edges = finite_array("edges_s", edges_s)
    if arrivals.ndim != 1 or arrivals.shape != departures.shape:
        raise ValueError(f"arrival_s and departure_s must be [n], got {arrivals.shape} and {departures.shape}")
    if (departures < arrivals).any():
        customer = int(np.argmax(departures < arrivals))
        raise ValueError(
            f"customer {customer} departs at {departures[customer]} s, before arriving at {arrivals[customer]} s"
        )
    if edges.ndim != 1 or edges.size < 2 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges_s must be [m + 1] with m >= 1 and strictly increasing, got {edges.tolist()}")

    # An edge is an event that changes nothing, so that no stretch between events crosses one.
    instants = np.concatenate((arrivals, departures, edges))
    changes = np.concatenate((np.ones(arrivals.size), -np.ones(departures.size), np.zeros(edges.size)))
    order = np.argsort(instants, kind="stable")
    instants = instants[order]
    present = np.cumsum(changes[order])[:-1]
    areas = present * np.diff(instants)
    interval = np.searchsorted(edges, instants[:-1], side="right") - 1
    inside = (interval >= 0) & (interval < edges.size - 1)
    integrals = np.bincount(interval[inside], weights=areas[inside], minlength=edges.size - 1)
    return integrals / np.diff(edges)
