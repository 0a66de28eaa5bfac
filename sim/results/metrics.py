"""What a metric is: latencies, outcomes, goodput and cost as pure functions of the tables of a run.

The population of a latency is every request that *arrives* in the measurement window. None is left out: a
request without a first token has an infinite TTFT, one that did not finish an infinite E2E and TPOT. Rates
count what *finishes* in the window.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.results.tables import ALL, OUTCOMES, Table, labels, numbers

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ServiceLevel = tuple[str, str, float, float]
"""Class (or "all"), metric (a key of `LATENCIES`), quantile, limit [s]."""

SECONDS_PER_HOUR = 3600.0
TOKENS_PER_MILLION = 1e6


@dataclass(frozen=True)
class Window:
    """Measurement window [s]: from the end of the warm-up to the end of the arrivals, half open.

    What happens after `end_s`, while the last requests are served, counts for their latencies but not for
    rates, utilisation or cost. Raises ValueError unless 0 <= warm_up_s < end_s < infinity.
    """

    warm_up_s: float
    end_s: float

    def __post_init__(self) -> None:
        """Refuse a window that is empty or not finite."""
        if not 0 <= self.warm_up_s < self.end_s < np.inf:
            raise ValueError(
                f"measurement window from {self.warm_up_s} s to {self.end_s} s is empty or infinite: "
                "shorten the warm-up or lengthen the run"
            )

    @property
    def duration_s(self) -> float:
        """Length of the window [s]."""
        return self.end_s - self.warm_up_s

    def holds(self, times_s: Array) -> Mask:
        """Whether each time of shape (n,) [s] is in the window; a missing time (NaN) is not."""
        return np.asarray((times_s >= self.warm_up_s) & (times_s < self.end_s))

    def overlap_s(self, starts_s: Array, ends_s: Array) -> Array:
        """Part of each interval [s] that lies in the window, shape (n,)."""
        inside = np.minimum(ends_s, self.end_s) - np.maximum(starts_s, self.warm_up_s)
        return np.asarray(np.maximum(inside, 0.0))


@dataclass(frozen=True)
class TokenPrices:
    """List prices of an API [USD per million tokens]."""

    input: float
    """Prompt tokens that the trace does not say are cached."""

    cached_input: float
    """Those that it says are."""

    output: float
    """Generated tokens."""


@dataclass(frozen=True)
class PoolCost:
    """What a pool costs: `accelerators` at `price_usd_per_hour` [USD per accelerator-hour] on a stated basis.

    The price is None where none is known; the cost is then missing, never zero. In the summary,
    usd_per_million_tokens = 1e6 x cost / tokens, where cost is accelerators (those that are paid, as a mean over the
    window) x price x hours of the window, busy or idle, and tokens are prompt (cached part included) plus output of
    the requests that finished in the window; in usd_per_million_output_tokens the output bears the whole cost.
    Infinite if no token was completed.
    """

    pool: str
    accelerators: float
    price_usd_per_hour: float | None
    price_basis: str
    prefill_share: float = 0.5
    """Part of the cost that prompts cause, by which classes share it [1]."""
    token_prices: TokenPrices | None = None
    """Of an API, which is paid by what it answers and not by the hour."""
    borne_by: str | None = None
    """Pool whose requests bear the cost, where it is another: this one computes prompts for it."""

    @property
    def serves(self) -> str:
        """Pool that the requests name which are served here."""
        return self.borne_by or self.pool


PAID_REPLICAS = ("replicas", "starting_replicas", "spare_replicas", "failed_replicas")
"""Columns of the timeline that add up to the replicas that are paid: all but those that are off."""


def ttft_s(requests: Table) -> Array:
    """Time to first token [s], first_token_s - arrival_s; infinite if there was none. Shape (rows,)."""
    return _or_infinite(numbers(requests, "first_token_s") - numbers(requests, "arrival_s"))


def e2e_s(requests: Table) -> Array:
    """End-to-end latency [s], finished_s - arrival_s; infinite if not finished. Shape (rows,)."""
    return _or_infinite(numbers(requests, "finished_s") - numbers(requests, "arrival_s"))


def tpot_s(requests: Table) -> Array:
    """Time per output token after the first [s], shape (rows,).

    (finished_s - first_token_s) / (output_tokens - 1); infinite if not finished; NaN for answers of one
    token, which have no such time and are no part of the population.
    """
    tokens = numbers(requests, "output_tokens")
    spacing = (numbers(requests, "finished_s") - numbers(requests, "first_token_s")) / np.maximum(tokens - 1, 1)
    return np.asarray(np.where(tokens > 1, _or_infinite(spacing), np.nan))


LATENCIES: dict[str, Callable[[Table], Array]] = {"ttft_s": ttft_s, "tpot_s": tpot_s, "e2e_s": e2e_s}
"""The latency metrics, by the name that summary and service levels use."""


def outcome_codes(requests: Table) -> npt.NDArray[np.intp]:
    """Outcome of each request as index into `OUTCOMES`, shape (rows,); raises ValueError for any other."""
    codes, names = labels(requests, "outcome")
    unknown = [repr(name) for name in names if name not in OUTCOMES] + ["null"] * bool((codes < 0).any())
    if unknown:
        raise ValueError(f"unknown outcome {', '.join(unknown)}; known outcomes: {', '.join(OUTCOMES)}")
    return np.array([OUTCOMES.index(name) for name in names], dtype=np.intp)[codes]


def outcome_counts(requests: Table) -> dict[str, int]:
    """Requests by outcome, adding up to the rows; raises ValueError for an outcome that is not known."""
    counts = np.bincount(outcome_codes(requests), minlength=len(OUTCOMES))
    return dict(zip(OUTCOMES, counts.tolist(), strict=True))


def check_service_levels(service_levels: Sequence[ServiceLevel]) -> None:
    """Raise ValueError for a metric that is no latency, a quantile outside (0, 1), or a limit of nothing."""
    for class_name, metric, quantile, limit_s in service_levels:
        where = f"service level of class {class_name!r}"
        if metric not in LATENCIES:
            raise ValueError(f"{where}: unknown metric {metric!r}; known metrics: {', '.join(LATENCIES)}")
        if not 0 < quantile < 1:
            raise ValueError(f"{where}: quantile of {metric} must be between 0 and 1, not {quantile}")
        if not limit_s > 0:
            raise ValueError(f"{where}: limit of {metric} must be positive, not {limit_s} s")


def meets_service_levels(
    requests: Table, service_levels: Sequence[ServiceLevel], latencies: Mapping[str, Array] | None = None
) -> Mask:
    """Whether each request finished within every limit of its class, shape (rows,).

    The quantile of a service level says how many requests must keep the limit; whether one request keeps it
    does not depend on it. A latency that is not defined (TPOT of one token) keeps its limit; a class without
    service levels only has to finish. `latencies` may bring the arrays of `LATENCIES` if they are there
    already.
    """
    check_service_levels(service_levels)
    known = latencies or {metric: latency(requests) for metric, latency in LATENCIES.items()}
    codes, names = labels(requests, "class")
    good = np.isfinite(known["e2e_s"])
    for class_name, metric, _, limit_s in service_levels:
        if class_name == ALL:
            good &= ~(known[metric] > limit_s)
        elif class_name in names:
            good &= ~((codes == names.index(class_name)) & (known[metric] > limit_s))
    return good


def pool_cost_usd(pool: PoolCost, duration_s: float) -> float:
    """Cost of a pool over a time [s]: accelerators x price x hours [USD], busy or idle.

    NaN if the price is not known.
    """
    if pool.price_usd_per_hour is None:
        return float("nan")
    return pool.accelerators * pool.price_usd_per_hour * duration_s / SECONDS_PER_HOUR


def _or_infinite(values: Array) -> Array:
    """The same values with infinity in place of NaN: what has not happened yet."""
    return np.asarray(np.where(np.isnan(values), np.inf, values))
