"""Every metric with its interval: the one place where tables of a run become rows of the summary."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from sim.results.class_work import ClassWork, class_costs, class_rows
from sim.results.flags import Flag
from sim.results.fleet_rows import fleet_rows
from sim.results.intervals import Estimate, sectioned_quantile_interval
from sim.results.metrics import (
    Array,
    Mask,
    PoolCost,
    ServiceLevel,
    Window,
    check_service_levels,
)
from sim.results.model_error import annotated, judged_levels, model_error_of
from sim.results.observed import Blocks, ObservedRequests, observe, scenario_of
from sim.results.rows import Row, exact, row
from sim.results.tables import ALL, OUTCOMES, Table, arrow_table, frame, numbers
from sim.serving.validity import Validity

QUANTILES = (0.5, 0.9, 0.95, 0.99)
BATCHES = 10
"""Batches or sections of a single run: few enough to be long, as Schmeiser (1982) advises (10 to 30)."""


def summarise(
    requests: Table,
    timeline: Table,
    pools: Sequence[PoolCost],
    service_levels: Sequence[ServiceLevel],
    window: Window,
    confidence: float = 0.95,
    *,
    batches: int = BATCHES,
    quantiles: Sequence[float] = QUANTILES,
    flags: Sequence[Flag] = (),
    load_factors: Mapping[str, float] | None = None,
    work: Mapping[str, ClassWork] | None = None,
    validity: Mapping[str, Validity] | None = None,
) -> pd.DataFrame:
    """Summary of one scenario: each metric by class, pool and quantile with its interval; columns `SUMMARY`.

    With two or more replications the value is that of all together and its interval comes from the values of
    the replications; with one, from `batches` consecutive parts of the window (batch means, sectioning).
    Counts are totals over all replications, and exact. Intervals are cut to what is possible: no negative
    rate.

    Parameters: `requests` and `timeline` hold the columns of `REQUESTS` and `TIMELINE`; `pools` gives prices;
    `window` [s] is the same in every replication; `confidence` in (0, 1); `flags` and
    `load_factors` (offered load / capacity by pool) become rows of their own; `validity` by pool gives the error
    bands of its step times.
    Raises ValueError for no request, several scenarios, a class or pool named "all", or contradictory rows.
    """
    check_service_levels(service_levels)
    scenario_id = scenario_of(requests)
    requests_from, timeline_from = numbers(requests, "replication"), numbers(timeline, "replication")
    names = np.unique(np.concatenate([requests_from, timeline_from]))
    replicated = names.size > 1
    blocks = Blocks(window, int(names.size) if replicated else batches, replicated, confidence)
    ended_s = float(numbers(timeline, "interval_end_s").max(initial=window.end_s))
    observed = observe(requests, np.searchsorted(names, requests_from), service_levels, blocks, ended_s)
    class_names = sorted({*observed.class_names, *(level[0] for level in service_levels)} - {ALL})
    rows: list[Row] = []
    for class_name in [ALL, *class_names]:
        members = observed.members(class_name)
        levels = [level for level in service_levels if level[0] == class_name]
        rows += _outcome_rows(observed, members, class_name)
        rows += _rate_rows(observed, members, class_name, blocks)
        rows += _latency_rows(observed, members, class_name, levels, quantiles, blocks)
        if class_name != ALL:
            about = (work or {}).get(class_name, ClassWork())
            rows += _work_rows(observed, members, class_name, about, pools, quantiles, blocks)
    rows += fleet_rows(observed, timeline, np.searchsorted(names, timeline_from), pools, blocks)
    rows += _load_rows(load_factors or {})
    rows += [_flag_row(flag) for flag in flags]
    error = model_error_of(requests, flags, validity or {}, load_factors or {})
    rows = judged_levels([annotated(row, error) for row in rows])
    table = pd.DataFrame(rows).assign(scenario_id=scenario_id, confidence=confidence)
    return frame("summary", arrow_table("summary", table))


def _outcome_rows(observed: ObservedRequests, members: Mask, class_name: str) -> list[Row]:
    """Counts of the requests that arrived in the window, by outcome: they add up to the offered ones."""
    chosen = observed.outcomes[members & observed.offered]
    counts = dict(zip(OUTCOMES, np.bincount(chosen, minlength=len(OUTCOMES)).tolist(), strict=True))
    counts = {"offered": chosen.size, **counts}
    return [
        row(f"requests_{name}", exact(count, counts["offered"]), "requests", class_name=class_name)
        for name, count in counts.items()
    ]


def _rate_rows(observed: ObservedRequests, members: Mask, class_name: str, blocks: Blocks) -> list[Row]:
    """Offered, completed and good load, in requests and tokens per second."""
    offered, completed = members & observed.offered, members & observed.completed
    good = completed & observed.good
    arrival, finish = observed.arrival_blocks, observed.finish_blocks
    prompt, output = observed.prompt_tokens, observed.output_tokens
    offered_counts = blocks.total(arrival, offered)
    rates: list[tuple[str, str, Array, Mask]] = [
        ("requests_offered_per_s", "requests/s", offered_counts, offered),
        ("requests_completed_per_s", "requests/s", blocks.total(finish, completed), completed),
        ("input_tokens_offered_per_s", "tokens/s", blocks.total(arrival, offered, prompt), offered),
        ("input_tokens_completed_per_s", "tokens/s", blocks.total(finish, completed, prompt), completed),
        ("output_tokens_offered_per_s", "tokens/s", blocks.total(arrival, offered, output), offered),
        ("output_tokens_completed_per_s", "tokens/s", blocks.total(finish, completed, output), completed),
        ("goodput_tokens_per_s", "tokens/s", blocks.total(finish, good, output), good),
    ]
    rows = [
        row(metric, replace(blocks.rate(totals), samples=int(counted.sum())), unit, class_name=class_name)
        for metric, unit, totals, counted in rates
    ]
    met = blocks.total(arrival, offered & observed.good)
    fraction = replace(blocks.ratio(met, offered_counts).within(0.0, 1.0), samples=int(offered.sum()))
    return [*rows, row("goodput_requests_fraction", fraction, "1", class_name=class_name)]


def _latency_rows(
    observed: ObservedRequests,
    members: Mask,
    class_name: str,
    levels: Sequence[ServiceLevel],
    quantiles: Sequence[float],
    blocks: Blocks,
) -> list[Row]:
    """Mean and quantiles of each latency, and whether the service levels of the class are met."""
    rows: list[Row] = []
    for metric, latency in observed.latencies.items():
        chosen = members & observed.offered & ~np.isnan(latency)
        sections = blocks.sections(observed.replications[chosen], latency[chosen])
        unserved = int(np.isinf(latency[chosen]).sum())
        rows.append(row(metric, _with_unserved(_mean(sections, blocks), unserved), "s", class_name=class_name))
        own = [level for level in levels if level[1] == metric]
        estimates = {
            quantile: _with_unserved(_quantile(sections, quantile, blocks), unserved)
            for quantile in sorted({*quantiles, *(level[2] for level in own)})
        }
        rows += [
            row(metric, estimate, "s", class_name=class_name, quantile=quantile)
            for quantile, estimate in estimates.items()
        ]
        for _, _, quantile, limit_s in own:
            parts = {
                "limit": (exact(limit_s, 0), "s"),
                "met": (_met(estimates[quantile], limit_s), "1"),
                "attainment": (_attainment(sections, limit_s, blocks), "1"),
            }
            rows += [
                row(f"service_level_{part}_{metric}", estimate, unit, class_name=class_name, quantile=quantile)
                for part, (estimate, unit) in parts.items()
            ]
    return rows


def _work_rows(
    observed: ObservedRequests,
    members: Mask,
    class_name: str,
    about: ClassWork,
    pools: Sequence[PoolCost],
    quantiles: Sequence[float],
    blocks: Blocks,
) -> list[Row]:
    """Tasks, units of work, deadlines and users of a class, and what they cost."""
    costs = class_costs(observed, members, pools, blocks)
    return [
        row(each.metric, each.estimate, each.unit, class_name=class_name, quantile=each.quantile,
             price_basis=costs.basis if each.priced else None)
        for each in class_rows(observed, members, about, costs, blocks, quantiles)
    ]  # fmt: skip


def _quantile(sections: Sequence[Array], quantile: float, blocks: Blocks) -> Estimate:
    """Quantile of a latency, which is never negative."""
    method = "replications" if blocks.replicated else "sectioning"
    return sectioned_quantile_interval(sections, quantile, blocks.confidence, method).within(0.0, math.inf)


def _mean(sections: Sequence[Array], blocks: Blocks) -> Estimate:
    """Mean over all sections: ratio of the sums of values and of counts."""
    counts = np.array([section.size for section in sections], dtype=np.float64)
    estimate = blocks.ratio(np.array([section.sum() for section in sections]), counts)
    return replace(estimate, samples=int(counts.sum()))


def _attainment(sections: Sequence[Array], limit_s: float, blocks: Blocks) -> Estimate:
    """Fraction of the requests within the limit."""
    counts = np.array([section.size for section in sections], dtype=np.float64)
    within = np.array([np.count_nonzero(section <= limit_s) for section in sections], dtype=np.float64)
    return replace(blocks.ratio(within, counts).within(0.0, 1.0), samples=int(counts.sum()))


def _met(estimate: Estimate, limit_s: float) -> Estimate:
    """1 if the quantile keeps the limit, else 0; low and high differ if the interval contains the limit."""

    def keeps(value: float) -> float:
        return math.nan if math.isnan(value) else float(value <= limit_s)

    return replace(estimate, value=keeps(estimate.value), low=keeps(estimate.high), high=keeps(estimate.low))


def _with_unserved(estimate: Estimate, unserved: int) -> Estimate:
    """The estimate with a note of how many of its observations are infinite, where that makes it infinite."""
    if not math.isinf(estimate.value):
        return estimate
    note = f"{unserved} of {estimate.samples} requests were not served and count as infinite"
    return replace(estimate, note="; ".join(filter(None, [note, estimate.note])))


def _load_rows(load_factors: Mapping[str, float]) -> list[Row]:
    """Offered load over mean-field capacity of each pool; of the fleet, that of its most loaded pool."""
    worst = {ALL: max(load_factors.values())} if load_factors else {}
    return [
        row("load_factor", replace(exact(factor, 0), method="mean field"), "1", pool=pool)
        for pool, factor in {**worst, **load_factors}.items()
    ]


def _flag_row(flag: Flag) -> Row:
    """A raised flag as a row: value 1, the message as its note."""
    kind, _, name = flag.scope.partition(" ")
    estimate = replace(exact(1.0, 0), note=flag.message)
    class_name, pool = (name if kind == "class" else ALL), (name if kind == "pool" else ALL)
    return row(f"flag_{flag.name}", estimate, "1", class_name=class_name, pool=pool)
