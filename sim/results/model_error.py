"""What errors of the step-time model do to a result: a range around each figure that depends on step times.

Beside the confidence interval of a simulation, which is about chance alone, stands the range that held four of five
measured values when systems like this one were predicted. Past the knee no range is given: there a latency hangs on
how long the run lasts, and its row says so.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sim.results.flags import Flag
from sim.results.tables import ALL, Table, labels
from sim.serving.validity import Validity
from sim.specs.serving_stack import BandMetric, BandSpec

Range = tuple[float, float]
"""Measured over predicted: lower and upper end of what held four of five measured values [1]."""

_NO_RANGE = (math.nan, math.nan)
_LATENCIES: Mapping[str, BandMetric] = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2e"}
_SERVED = ("requests_completed_per_s", "input_tokens_completed_per_s", "output_tokens_completed_per_s")
_COSTS = ("usd_per_million_tokens", "usd_per_million_output_tokens")
_MET = "service_level_met_"
PAST_THE_KNEE = "past the knee"
"""Start of the note on every latency that a pool beyond its capacity takes part in."""


@dataclass(frozen=True)
class ModelError:
    """Ranges of the pools, which of them each class met, and which of them are past their knee or still filling."""

    bands: Mapping[str, Mapping[BandMetric, BandSpec]] = field(default_factory=dict)
    """Pool -> metric -> band."""

    pools_of_class: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Class, or all -> pools that took requests of it."""

    past_the_knee: Mapping[str, str] = field(default_factory=dict)
    """Pool -> what its flag says."""

    unsteady: Mapping[str, str] = field(default_factory=dict)
    """The same of pools that did not come to a steady state."""

    load_factors: Mapping[str, float] = field(default_factory=dict)
    """Pool -> offered load over capacity."""

    def ranges(self, class_name: str, metric: BandMetric) -> Range:
        """Return the widest range of a metric over the pools of a class; not a number where one of them has none."""
        found = [self.bands.get(pool, {}).get(metric) for pool in self.pools_of_class.get(class_name, ())]
        known = [each for each in found if each is not None]
        if not known or len(known) < len(found):
            return _NO_RANGE
        return min(each.low for each in known), max(each.high for each in known)


def model_error_of(
    requests: Table, flags: Sequence[Flag], validity: Mapping[str, Validity], load_factors: Mapping[str, float]
) -> ModelError:
    """Return what a run knows about errors of its step times.

    Parameters
    ----------
    requests : table
        Columns `class` and `pool`.
    flags : sequence of Flag
        Flags of the run.
    validity : mapping
        Pool -> validity of its predictions.
    load_factors : mapping
        Pool -> offered load over capacity.

    """
    classes, class_names = labels(requests, "class")
    pools, pool_names = labels(requests, "pool")
    routed = (classes >= 0) & (pools >= 0)
    met: dict[str, list[str]] = {ALL: [pool_names[pool] for pool in np.unique(pools[routed])]}
    for pair in np.unique(classes[routed] * len(pool_names) + pools[routed]).tolist():
        class_number, pool = divmod(pair, len(pool_names))
        met.setdefault(class_names[class_number], []).append(pool_names[pool])
    return ModelError(
        {pool: each.bands for pool, each in validity.items()},
        met,
        _flagged(flags, "saturated"),
        _flagged(flags, "not_converged"),
        dict(load_factors),
    )


def _flagged(flags: Sequence[Flag], name: str) -> dict[str, str]:
    return {flag.scope.removeprefix("pool "): flag.message for flag in flags if flag.name == name}


def annotated(row: Mapping[str, object], error: ModelError) -> dict[str, object]:
    """Return a row of the summary with the range of the model's error, and with a note where it has none.

    Parameters
    ----------
    row : mapping
        Row of the summary.
    error : ModelError
        What is known of the run.

    """
    metric, class_name, pool = (str(row[key]) for key in ("metric", "class", "pool"))
    value = float(str(row["value"]))
    low, high, note = math.nan, math.nan, ""
    if metric in _LATENCIES:
        low, high, note = _latency(value, class_name, _LATENCIES[metric], error)
    elif metric == "load_factor":
        low, high = _load_factor(value, pool, error)
    elif metric in _SERVED and error.past_the_knee:
        low, high = _scaled(value, error.ranges(class_name, "throughput"))
    elif metric in _COSTS and error.past_the_knee:
        band = error.bands.get(pool, {}).get("throughput") if pool != ALL else None
        ends = error.ranges(ALL, "throughput") if band is None else (band.low, band.high)
        low, high = _scaled(value, (1.0 / ends[1], 1.0 / ends[0]))
    notes = "; ".join(part for part in (note, str(row.get("note") or "")) if part)
    return {**row, "model_low": low, "model_high": high, "note": notes or None}


def _latency(value: float, class_name: str, metric: BandMetric, error: ModelError) -> tuple[float, float, str]:
    pools = error.pools_of_class.get(class_name, ())
    beyond = [pool for pool in pools if pool in error.past_the_knee]
    if beyond:
        return math.nan, math.nan, f"{PAST_THE_KNEE} of pool {', '.join(beyond)}: hangs on how long the run lasts"
    rising = [pool for pool in pools if pool in error.unsteady]
    note = f"no steady state in pool {', '.join(rising)}" if rising else ""
    return *_scaled(value, error.ranges(class_name, metric)), note


def _load_factor(value: float, pool: str, error: ModelError) -> Range:
    """Return the range of offered load over capacity; the fleet's is that of its most loaded pool."""
    if pool == ALL and error.load_factors:
        pool = max(error.load_factors, key=lambda name: error.load_factors[name])
    band = error.bands.get(pool, {}).get("throughput")
    return _NO_RANGE if band is None else _scaled(value, (1.0 / band.high, 1.0 / band.low))


def _scaled(value: float, ends: Range) -> Range:
    return value * ends[0], value * ends[1]


def judged_levels(rows: Sequence[dict[str, object]]) -> list[dict[str, object]]:
    """Return annotated rows in which a service level also says whether it is met at both ends of the model's range.

    `model_low` of such a row is 1 where even the slow end keeps the limit, `model_high` where at least the fast one
    does.
    """
    keys = ("class", "metric", "quantile")
    latencies = {tuple(row[key] for key in keys): row for row in rows if str(row["metric"]) in _LATENCIES}
    limits = {tuple(row[key] for key in keys): float(str(row["value"])) for row in rows}
    found = []
    for row in rows:
        metric = str(row["metric"])
        if not metric.startswith(_MET):
            found.append(row)
            continue
        name = metric.removeprefix(_MET)
        latency = latencies.get((row["class"], name, row["quantile"]))
        limit_s = limits.get((row["class"], f"service_level_limit_{name}", row["quantile"]), math.nan)
        ends = _NO_RANGE if latency is None else (float(str(latency[end])) for end in ("model_high", "model_low"))
        kept = [math.nan if math.isnan(end) else float(end <= limit_s) for end in ends]
        found.append({**row, "model_low": kept[0], "model_high": kept[1]})
    return found
