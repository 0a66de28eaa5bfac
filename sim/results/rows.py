"""One row of the summary, and numbers that need no interval."""

from sim.results.intervals import Estimate
from sim.results.tables import ALL

Row = dict[str, object]


def exact(value: float, samples: int) -> Estimate:
    """A number that is counted or given, not estimated."""
    return Estimate(float(value), float(value), float(value), samples, "exact")


def row(
    metric: str,
    estimate: Estimate,
    unit: str,
    *,
    class_name: str = ALL,
    pool: str = ALL,
    quantile: float | None = None,
    price_basis: str | None = None,
) -> Row:
    """One row of the summary."""
    return {
        "class": class_name,
        "pool": pool,
        "metric": metric,
        "quantile": quantile,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "unit": unit,
        "samples": estimate.samples,
        "method": estimate.method,
        "note": estimate.note or None,
        "price_basis": price_basis,
    }
