"""How far the simulator is from measured systems: every point beside its prediction, and errors by group."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from sim.fidelity.calibration import UNSTEADY, chunked_gaps, stacks_by_framework
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import KINDS, MeasuredRun, Target
from sim.fidelity.prediction import Prediction, predict
from sim.fidelity.systems import System, UnmappedError
from sim.serving.deployment import specification_only
from sim.serving.validity import features_of, formats_used, validity_of
from sim.specs.library import Library
from sim.specs.serving_stack import BandClass, BandMetric, ServingStackSpec

MEASURES = ("n", "median_ape", "mean_ape", "p90_ape", "median_bias", "band_coverage")
"""What is said of a group of numbers; errors are fractions, and null where there is no number."""

GROUPINGS = ("accelerator", "model", "framework", "regime", "source", "statistic")
"""Columns by which errors are grouped."""


@dataclass(frozen=True)
class Compared:
    """One measured number beside its prediction."""

    row_id: str
    line: int
    source: str
    accelerator: str
    model: str
    framework: str
    regime: str
    load: str
    metric: str
    statistic: str
    measured: float
    """Seconds, or per second and accelerator."""

    predicted: float
    """The same."""

    weight: float
    known: BandClass
    """How well the system is known: its accelerator family calibrated, another one, or only specified."""

    band_low: float
    """Lower end of the 80% band [unit of the number]; NaN where the stack states none."""

    band_high: float
    """Upper end."""

    load_factor: float
    """Offered load over capacity; from 1 on latencies are past the knee."""

    hardware: str = ""
    """Hardware profile."""

    family: str = ""
    """Accelerator family."""

    features: tuple[str, ...] = ()
    """Kinds of layers of the model."""

    formats: tuple[str, ...] = ()
    """Arithmetic formats of its matrix products."""

    sequences: float = math.nan
    """Sequences that one replica runs at a time, where the load says so."""

    tokens: float = math.nan
    """Mean prompt and answer together [tokens]."""

    @property
    def error(self) -> float:
        """Return predicted over measured, less one [1]."""
        return self.predicted / self.measured - 1.0

    @property
    def past_the_knee(self) -> bool:
        """Return whether the load exceeds the capacity, so that latencies hang on how long the run lasts."""
        return self.load == "open" and self.load_factor >= 1.0


@dataclass(frozen=True)
class Unscored:
    """A row that is not compared."""

    row_id: str
    line: int
    metric: str
    reason: str
    unmapped: bool
    """Whether the run could not be represented, rather than the row being no evidence of its own."""


@dataclass(frozen=True)
class Validation:
    """All points of a file, compared or with the reason why not."""

    compared: Sequence[Compared]
    """Numbers with predictions."""

    unscored: Sequence[Unscored]
    """Numbers without."""

    def errors(self, rows: Iterable[Compared] | None = None) -> dict[str, dict[str, float | int | None]]:
        """Return metric -> n, errors and coverage of some of the rows, by default all; none where it has no rows."""
        chosen = list(self.compared if rows is None else rows)
        return {
            kind: error_measures(mine) for kind in KINDS if (mine := [each for each in chosen if each.metric == kind])
        }

    def by(self, column: str) -> dict[str, dict[str, dict[str, float | int | None]]]:
        """Return value of a column -> metric -> error measures."""
        groups: dict[str, list[Compared]] = {}
        for each in self.compared:
            groups.setdefault(str(getattr(each, column)), []).append(each)
        return {name: self.errors(rows) for name, rows in sorted(groups.items())}

    def reasons(self, unmapped: bool | None = None) -> dict[str, int]:
        """Return reason -> number of rows that are not compared, most frequent first; all of them or one sort."""
        counts: dict[str, int] = {}
        for each in self.unscored:
            if unmapped is not None and each.unmapped is not unmapped:
                continue
            counts[each.reason] = counts.get(each.reason, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> dict[str, object]:
        """Return the answer of `fleetcast validate --json`; errors are fractions."""
        none = dict.fromkeys(MEASURES) | {"n": 0}
        result: dict[str, object] = {"overall": dict.fromkeys(KINDS, none) | self.errors()}
        result |= {f"by_{column}": self.by(column) for column in GROUPINGS}
        result["past_the_knee"] = sum(each.past_the_knee for each in self.compared)
        for name, unmapped in (("unmapped", True), ("not_scored", False)):
            rows = [asdict(each) for each in self.unscored if each.unmapped is unmapped]
            result[name] = {"n": len(rows), "reasons": self.reasons(unmapped), "rows": rows}
        return result


def validate(
    runs: Sequence[MeasuredRun],
    library: Library | None = None,
    progress: Callable[[float], None] | None = None,
    at_given_rate: bool = False,
    clients: Mapping[str, float] | None = None,
) -> Validation:
    """Compare measured runs with what the simulator predicts for them.

    Parameters
    ----------
    runs : sequence of MeasuredRun
        Runs of a points file.
    library : Library, optional
        Where hardware, models and serving stacks are looked up.
    progress : callable, optional
        Told the fraction that is done.
    at_given_rate, clients
        See `sim.fidelity.prediction.predict`.

    """
    found = library or fidelity_library()
    mapper = Mapper(found)
    stacks: dict[str, ServingStackSpec] = {}
    compared: list[Compared] = []
    unscored: list[Unscored] = []
    for number, run in enumerate(runs):
        try:
            system = mapper.system(run)
            if system.framework not in stacks:
                stacks |= stacks_by_framework(found, [system.framework])
            stack = stacks[system.framework]
            predicted: Prediction | str = predict(system, stack, at_given_rate, clients)
        except UnmappedError as error:
            predicted = str(error)
        for target in run.targets:
            reason = predicted if isinstance(predicted, str) else _why_not(run, target, system, predicted)
            if reason:
                unscored.append(Unscored(target.row_id, target.line, target.metric, reason, isinstance(predicted, str)))
            elif not isinstance(predicted, str):
                compared.append(_compared(system, stack, target, predicted))
        if progress is not None:
            progress((number + 1) / len(runs))
    return Validation(compared, unscored)


def _why_not(run: MeasuredRun, target: Target, system: System, predicted: Prediction) -> str:
    if target.why_not:
        return target.why_not
    if target.metric.startswith("itl") and chunked_gaps(run):
        return "gaps between network chunks that hold several tokens, not between tokens"
    given_rate = system.load.kind == "open" and not math.isfinite(system.load.tpot_limit_s)
    if target.kind == "throughput" and given_rate:
        return "tokens per second at a given rate is the rate itself"
    if (target.kind, target.statistic) not in predicted.values:
        return f"no {target.kind} {target.statistic} for a load of kind {system.load.kind}"
    return ""


def _sequences(system: System, predicted: Prediction) -> float:
    """Return the sequences of one replica: its users, or by Little's law those of a rate that it keeps up with."""
    if system.load.kind in ("closed", "batch"):
        return system.load.amount / system.replicas
    if system.load.kind == "open" and predicted.load_factor < 1.0:
        return system.load.amount / system.replicas * predicted.values["e2e", "mean"]
    return math.nan


def _compared(system: System, stack: ServingStackSpec, target: Target, predicted: Prediction) -> Compared:
    """Return a number beside its prediction; a server that was not warm is known no better than by specification."""
    value = predicted.values[target.kind, target.statistic]
    unmeasured = specification_only(system.hardware, system.formats)
    validity = validity_of(stack, system.hardware, system.model.architecture, system.formats, unmeasured)
    metrics: Mapping[str, BandMetric] = {"throughput": "throughput", "tpot": "tpot", "e2e": "e2e", "ttft": "ttft"}
    known, band = validity.known, validity.bands.get(metrics[target.kind])
    if system.source.startswith(UNSTEADY):
        known, band = "specification", stack.bands.get(metrics[target.kind], {}).get("specification")
    return Compared(
        row_id=target.row_id,
        line=target.line,
        source=system.source,
        accelerator=system.accelerator_name,
        model=system.model_name,
        framework=system.framework,
        regime=system.regime,
        load=system.load.kind,
        metric=target.kind,
        statistic=target.statistic,
        measured=target.value,
        predicted=value,
        weight=target.weight,
        known=known,
        band_low=math.nan if band is None else value * band.low,
        band_high=math.nan if band is None else value * band.high,
        load_factor=predicted.load_factor,
        hardware=system.hardware.name,
        family=system.hardware.family,
        features=features_of(system.model.architecture),
        formats=tuple(sorted(formats_used(system.model.architecture, system.formats))),
        sequences=_sequences(system, predicted),
        tokens=system.lengths.prompt_tokens + system.lengths.output_tokens,
    )


def error_measures(rows: Sequence[Compared]) -> dict[str, float | int | None]:
    """Return n and the weighted errors of some rows.

    The error of a prediction p of a measured m is `p / m - 1`: absolute for median, mean and 90th percentile, signed
    for the bias. Coverage is the share of measured values inside the stated 80% bands.
    """
    ratio = np.array([each.predicted / each.measured - 1.0 for each in rows])
    weight = np.array([each.weight for each in rows])
    inside = np.array([each.band_low <= each.measured <= each.band_high for each in rows])
    stated = np.array([math.isfinite(each.band_low) for each in rows])
    absolute = np.abs(ratio)
    return {
        "n": len(rows),
        "median_ape": weighted_quantile(absolute, weight, 0.5),
        "mean_ape": float((absolute * weight).sum() / weight.sum()),
        "p90_ape": weighted_quantile(absolute, weight, 0.9),
        "median_bias": weighted_quantile(ratio, weight, 0.5),
        "band_coverage": float((inside * weight)[stated].sum() / weight[stated].sum()) if stated.any() else None,
    }


def weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], quantile: float) -> float:
    """Return the smallest value with at least this share of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    place = int(np.searchsorted(share, quantile * share[-1] * (1.0 - 1e-12)))
    return float(values[order][min(place, len(order) - 1)])


def worst_groups(
    validation: Validation, count: int = 10, fewest: int = 3
) -> list[tuple[str, str, str, str, dict[str, float | int | None]]]:
    """Return the groups of source, accelerator, model and metric with the largest median error, largest first."""
    groups: dict[tuple[str, str, str, str], list[Compared]] = {}
    for each in validation.compared:
        groups.setdefault((each.source, each.accelerator, each.model, each.metric), []).append(each)
    measured = [(*key, error_measures(rows)) for key, rows in groups.items() if len(rows) >= fewest]
    return sorted(measured, key=lambda item: -float(item[4]["median_ape"] or 0.0))[:count]
