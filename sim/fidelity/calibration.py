"""Calibration: from points to the parameters of serving stacks, with what the points determine and what they do not."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.fidelity.fitting import LEVELS, Coordinate, Fitted, Model, Observations, fit
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.mean_field import stacked_shapes, traffic
from sim.fidelity.offsets import simulated_logarithms
from sim.fidelity.points import DATA, MeasuredRun, Target
from sim.fidelity.systems import Load, System, UnmappedError
from sim.specs.errors import InputError, Problem
from sim.specs.library import Library
from sim.specs.serving_stack import ServingStackSpec

GROUP_SIZE = 8
"""Numbers of one group (source, framework, accelerator, model, metric) that count fully; more count by their root."""

QUALITY_WEIGHTS = {"A": 1.0, "": 1.0, "B": 0.05}
TTFT_WEIGHT = 0.3
QUEUED = ("NVIDIA lab",)
"""Starts of sources whose first tokens are not fitted: they wait for slots that the source does not count."""

UNSTEADY = ("InferenceX experimental",)
"""Starts of sources whose runs are compared but not fitted: their servers were not warm."""

_OWN_ERROR = 0.05
_CHUNKED = 0.3
"""A median gap below this share of the mean one means that the client saw network chunks, not tokens."""


@dataclass(frozen=True)
class Row:
    """One number of the fit and what it belongs to."""

    system: System
    """The system."""

    target: Target
    """The measured number."""


def stacks_by_framework(library: Library, frameworks: Sequence[str]) -> dict[str, ServingStackSpec]:
    """Return the serving stack of each framework family; one that the library lacks gets `shared`."""
    known = library.names("serving_stack")
    return {name: library.serving_stack(name if name in known else "shared").spec for name in sorted(set(frameworks))}


def fit_rows(runs: Sequence[MeasuredRun], mapper: Mapper) -> list[Row]:
    """Return the numbers that a mean-field fit can use: means and medians that do not hang on queueing.

    A server's throughput under limits is fitted as the load at the limit; its latencies near the knee, and the first
    tokens of closed loops, which arrive in bursts, are left to the simulation.
    """
    rows = []
    for run in runs:
        try:
            system = mapper.system(run)
        except UnmappedError:
            continue
        limited = math.isfinite(system.load.tpot_limit_s) and system.load.kind == "open"
        chunked = chunked_gaps(run)
        if system.source.startswith(UNSTEADY) or system.speculation.drafts:
            continue
        for target in run.targets:
            if not target.kind or target.statistic not in ("mean", "p50", "output"):
                continue
            if chunked and target.metric.startswith("itl"):
                continue
            used = system
            if limited:
                if target.kind != "throughput":
                    continue
                load = Load("limits", 0.0, system.load.ttft_limit_s, system.load.tpot_limit_s)
                used = dataclasses.replace(system, load=load)
            elif (
                (target.kind, system.load.kind) == ("throughput", "open")
                or (target.kind == "ttft" and system.source.startswith(QUEUED))
                or (target.kind != "tpot" and system.prefill is not None)
            ):
                continue
            rows.append(Row(used, target))
    return rows


def chunked_gaps(run: MeasuredRun) -> bool:
    """Return whether a run's gaps are those between network chunks: half of them are near zero."""
    mean = next((each.value for each in run.targets if each.metric == "itl_mean_ms"), None)
    median = next((each.value * 1e-3 for each in run.targets if each.metric == "itl_p50_ms"), None)
    return mean is not None and median is not None and median < _CHUNKED * mean


def observations(rows: Sequence[Row], stacks: Mapping[str, ServingStackSpec], qualities: Sequence[str]) -> Observations:
    """Return rows as arrays, weighted by quality and so that no large group outvotes the rest.

    Parameters
    ----------
    rows : sequence of Row
        m numbers.
    stacks : mapping
        Framework family -> serving stack.
    qualities : sequence of str
        Quality of each row.

    """
    systems = [row.system for row in rows]
    groups = [group_of(row.system, row.target.kind, row.system.source) for row in rows]
    sizes = {group: groups.count(group) for group in set(groups)}
    weights = [
        row.target.weight
        * math.sqrt(GROUP_SIZE / max(GROUP_SIZE, sizes[group]))
        * QUALITY_WEIGHTS.get(quality, 1.0)
        * (TTFT_WEIGHT if row.target.kind == "ttft" else 1.0)
        for row, group, quality in zip(rows, groups, qualities, strict=True)
    ]
    return Observations(
        systems=systems,
        shape=stacked_shapes(systems),
        asked=traffic(systems, [stacks[each.framework].batching for each in systems]),
        index=np.arange(len(rows)),
        kind=np.array([row.target.kind for row in rows]),
        value=np.array([row.target.value for row in rows]),
        weight=np.array(weights),
        offset=np.zeros(len(rows)),
    )


def group_of(system: System, *more: str) -> tuple[str, ...]:
    """Return the group to which a system belongs: accelerator, model, framework and what else is given."""
    return (system.accelerator_name, system.model_name, system.framework, *more)


def coordinates(systems: Sequence[System], levels: Sequence[str] = LEVELS) -> list[Coordinate]:
    """Return what a fit may move for some systems, as `data/priors.csv` has it; rows that name a member go first."""
    with (DATA / "priors.csv").open(encoding="utf-8") as file:
        priors = list(csv.DictReader(file))
    special = {(row["level"], row["member"], row["parameter"]) for row in priors}
    members = {
        "shared": [""],
        "framework": sorted({each.framework for each in systems}),
        "family": sorted({each.hardware.family for each in systems}),
        "client": sorted({each.client for each in systems} - {""}),
    }
    return [
        Coordinate(level, member, row["parameter"], float(row["spread"]), float(row["centre"]))
        for level in levels
        for member in members[level]
        for row in priors
        if row["level"] == level and row["member"] == (member if (level, member, row["parameter"]) in special else "")
    ]


@dataclass(frozen=True)
class Calibration:
    """A fit of a user's points, with what a user has to know about it."""

    base: ServingStackSpec
    """The stack from which it departs."""

    fitted: Fitted
    """Factors on its parameters."""

    rows: Sequence[Row]
    """Numbers used."""

    before: NDArray[np.float64]
    """Log errors of the base stack, shape (m,)."""

    after: NDArray[np.float64]
    """Log errors of the fit, shape (m,)."""

    left_out: NDArray[np.float64]
    """Log errors of each number by a fit without its group; NaN where there is only one group, shape (m,)."""

    unmapped: Sequence[tuple[str, int]]
    """Reasons for which runs were left out, and how many."""


def calibrate(
    runs: Sequence[MeasuredRun],
    file: str,
    library: Library | None = None,
    progress: Callable[[float], None] | None = None,
) -> Calibration:
    """Return the parameters that a user's points earn, drawn towards those of her framework's stack.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        Her runs.
    file : str
        Where they come from, for errors.
    library : Library, optional
        Where hardware, models and stacks are looked up.
    progress : callable, optional
        Told the fraction that is done.

    Raises
    ------
    InputError
        No run can be used.

    """
    found = library or fidelity_library()
    mapper = Mapper(found)
    rows = fit_rows(runs, mapper)
    unmapped = _reasons(runs, mapper)
    if not rows:
        reasons = "; ".join(f"{count} x {reason}" for reason, count in unmapped) or "no usable metric"
        raise InputError([Problem(f"no point can be used: {reasons}", file, remedy="See `fleetcast validate`.")])
    names = [row.system.framework for row in rows]
    framework = max(sorted(set(names)), key=names.count)
    known = found.names("serving_stack")
    base = found.serving_stack(framework if framework in known else "shared").spec
    stacks = dict.fromkeys(set(names), base)
    seen = observations(rows, stacks, ["A"] * len(rows))
    moved = [
        Coordinate("shared", "", each.parameter, each.spread)
        for each in coordinates(seen.systems[:1], ("framework",))
        if each.centre == 0.0
    ]
    starts = [base] * len(rows)
    # Once, at the base stack: how far mean field is from simulation changes little with its parameters.
    offset = simulated_logarithms([(row.system, row.target) for row in rows], stacks)
    offset -= Model(seen, starts, moved).logarithms(np.zeros(len(moved)))
    there = np.isfinite(offset)
    seen = dataclasses.replace(seen, offset=np.where(there, offset, 0.0), weight=np.where(there, seen.weight, 1e-6))
    fitted = fit(seen, starts, moved, error_spread=_OWN_ERROR)
    model = Model(seen, starts, moved)
    measured = np.log(seen.value)
    left_out = np.full(len(rows), np.nan)
    groups = [group_of(row.system) for row in rows]
    distinct = sorted(set(groups))
    for number, group in enumerate(distinct if len(distinct) > 1 else []):
        mine = np.array([each == group for each in groups])
        without = fit(seen.only(~mine), starts, moved, _OWN_ERROR, fitted.values, 8)
        left_out[mine] = (model.logarithms(without.values) - measured)[mine]
        if progress is not None:
            progress((number + 1) / len(distinct))
    return Calibration(
        base=base,
        fitted=fitted,
        rows=rows,
        before=model.logarithms(np.zeros(len(moved))) - measured,
        after=model.logarithms(fitted.values) - measured,
        left_out=left_out,
        unmapped=unmapped,
    )


def _reasons(runs: Sequence[MeasuredRun], mapper: Mapper) -> list[tuple[str, int]]:
    counts: dict[str, int] = {}
    for run in runs:
        try:
            mapper.system(run)
        except UnmappedError as error:
            counts[str(error)] = counts.get(str(error), 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])


def summary(calibration: Calibration) -> dict[str, object]:
    """Return the answer of `fleetcast calibrate --json`."""
    fitted = calibration.fitted
    known = calibration.left_out[np.isfinite(calibration.left_out)]
    return {
        "base": calibration.base.name,
        "numbers": len(calibration.rows),
        "median_ape": {
            "before": float(np.median(np.abs(np.expm1(calibration.before)))),
            "after": float(np.median(np.abs(np.expm1(calibration.after)))),
            "left_out": float(np.median(np.abs(np.expm1(known)))) if known.size else None,
        },
        "parameters": {
            each.parameter: {
                "factor": float(np.exp(value)),
                "standard_error": float(error),
                "determined_by_points": float(share),
            }
            for each, value, error, share in zip(
                fitted.coordinates, fitted.values, fitted.standard_errors, fitted.determined, strict=True
            )
        },
        "singular_values": [float(each) for each in fitted.singular_values],
        "unmapped": dict(calibration.unmapped),
    }
