"""The fit itself: every parameter as a sum of a shared value, a framework's, an accelerator family's and a client's.

    g(p(parameter, framework, family, client)) = g(start) + shared + framework + family + client

with g the logarithm for latencies and the log odds for efficiencies, which therefore stay below 1 (collectives below 2,
for a switch that sums can spare a link half of the ring's traffic).

Each term is drawn towards nothing (or towards the value that it starts from) with a stated spread, so what the points
do not determine stays where it was. The fit minimises soft_l1 of log errors (Huber-like, scipy `least_squares`); its
derivatives go through the effective parameters, of which every point depends only on its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from sim.fidelity.mean_field import MeanField, Traffic, mean_field
from sim.fidelity.systems import System
from sim.serving.step_time import StepRates, step_rates
from sim.serving.step_work import StepShape
from sim.specs.hardware import NumberFormat
from sim.specs.serving_stack import EFFICIENCIES, ServingStackSpec, StepTimeSpec

FloatArray = NDArray[np.float64]

LEVELS = ("shared", "framework", "family", "client")
REQUEST_OVERHEAD = "request_overhead"
_EFFECTIVE = (*(field.name for field in fields(StepRates)), REQUEST_OVERHEAD)
_STEP = 1e-3
BOUNDS = dict.fromkeys((*EFFICIENCIES, "projection_matmul", "expert_imbalance_exponent"), 1.0) | {"link_bandwidth": 2.0}
"""Effective parameter -> what it cannot exceed [1]."""

_ROOM = 1e-3
_BY_FORMAT = ("matmul", "expert_matmul", "quantisation_latency")


@dataclass(frozen=True)
class Coordinate:
    """One number that the fit may move: the logarithm of a factor."""

    level: str
    """One of LEVELS."""

    member: str
    """Framework or family; empty for a shared value."""

    parameter: str
    """Parameter of `StepTimeSpec`, or several that move together, joined by `+`; a shared value of a format is written
    `matmul.fp8`."""

    spread: float
    """Standard deviation of the prior [1]."""

    centre: float = 0.0
    """Centre of the prior [1]."""


@dataclass(frozen=True)
class Observations:
    """What the fit is to reproduce: n systems, m measured numbers of them."""

    systems: Sequence[System]
    """n systems."""

    shape: StepShape
    """Their work, arrays of shape (n,)."""

    asked: Traffic
    """Their traffic, arrays of shape (n,)."""

    index: NDArray[np.int64]
    """System of each number, shape (m,)."""

    kind: NDArray[np.str_]
    """Metric of each number, shape (m,)."""

    value: FloatArray
    """Measured numbers [s or tokens/s], shape (m,)."""

    weight: FloatArray
    """Weights, shape (m,)."""

    offset: FloatArray
    """Logarithm of simulated over mean-field prediction of each number, near the solution, shape (m,)."""

    def only(self, rows: NDArray[np.bool_]) -> Observations:
        """Return the same systems with some of the numbers, chosen by a mask of shape (m,)."""
        return replace(
            self,
            index=self.index[rows],
            kind=self.kind[rows],
            value=self.value[rows],
            weight=self.weight[rows],
            offset=self.offset[rows],
        )


@dataclass(frozen=True)
class Fitted:
    """Result of a fit."""

    coordinates: Sequence[Coordinate]
    """What was moved, k of them."""

    values: FloatArray
    """Logarithms of factors, shape (k,)."""

    standard_errors: FloatArray
    """Posterior standard deviations, shape (k,)."""

    determined: FloatArray
    """Share of each one that the points determine rather than the prior, `1 - (error / spread)**2`, shape (k,)."""

    singular_values: FloatArray
    """Singular values of the weighted derivatives of the points, in units of the priors, largest first."""

    def shifts(self, level: str, member: str = "") -> dict[str, tuple[float, float]]:
        """Return parameter -> its shift (logarithm or log odds) and the standard error of one level and member."""
        found: dict[str, tuple[float, float]] = {}
        for each, value, error in zip(self.coordinates, self.values, self.standard_errors, strict=True):
            if (each.level, each.member) != (level, member):
                continue
            for parameter in each.parameter.split("+"):
                before = found.get(parameter, (0.0, 0.0))
                found[parameter] = (before[0] + float(value), float(np.hypot(before[1], error)))
        return found


def moved(parameter: str, start: float, shift: float) -> float:
    """Return a parameter after a shift of its logarithm, or of its log odds where it is bounded.

    Parameters
    ----------
    parameter : str
        Name; what follows a dot is a format.
    start : float
        Value before.
    shift : float
        Shift [1].

    """
    most = BOUNDS.get(parameter.partition(".")[0])
    if most is None:
        return float(start * np.exp(shift))
    return float(np.exp(_bounded(np.array(_odds(start, most) + shift), most)))


def _odds(value: float | FloatArray, most: float) -> FloatArray:
    share = np.clip(np.asarray(value) / most, 1e-12, 1.0 - _ROOM)
    return np.asarray(np.log(share / (1.0 - share)))


def _bounded(odds: FloatArray, most: float) -> FloatArray:
    """Return the logarithm of `most / (1 + exp(-odds))`."""
    return np.asarray(np.log(most) - np.logaddexp(0.0, -odds))


class Model:
    """Mean-field predictions of some observations as a function of the coordinates."""

    def __init__(
        self, observations: Observations, starts: Sequence[ServingStackSpec], coordinates: Sequence[Coordinate]
    ) -> None:
        self._seen = observations
        self._coordinates = coordinates
        self._start = _effective(observations.systems, starts)
        self._design = {name: _design(name, observations.systems, coordinates) for name in _EFFECTIVE}

    def predict(self, values: FloatArray) -> MeanField:
        """Return predictions for all systems."""
        return self._evaluate(self._logarithms(values))

    def logarithms(self, values: FloatArray) -> FloatArray:
        """Return the logarithms of the predicted numbers, shape (m,)."""
        return self._numbers(self.predict(values))

    def derivatives(self, values: FloatArray) -> FloatArray:
        """Return their derivatives by the coordinates, shape (m, k)."""
        logarithms = self._logarithms(values)
        before = self._numbers(self._evaluate(logarithms))
        result = np.zeros((len(self._seen.value), len(self._coordinates)))
        for name, design in self._design.items():
            if not design.any():
                continue
            changed = dict(logarithms)
            changed[name] = changed[name] - _STEP
            slope = (before - self._numbers(self._evaluate(changed))) / _STEP
            if name in BOUNDS:
                slope = slope * (1.0 - np.exp(logarithms[name]) / BOUNDS[name])[self._seen.index]
            result += slope[:, None] * design[self._seen.index]
        return result

    def _logarithms(self, values: FloatArray) -> dict[str, FloatArray]:
        found = {}
        for name, start in self._start.items():
            shift = self._design[name] @ values
            most = BOUNDS.get(name)
            found[name] = start + shift if most is None else _bounded(_odds(np.exp(start), most) + shift, most)
        return found

    def _evaluate(self, logarithms: Mapping[str, FloatArray]) -> MeanField:
        plain = {name: np.exp(each) for name, each in logarithms.items()}
        overhead = plain.pop(REQUEST_OVERHEAD)
        return mean_field(self._seen.shape, StepRates(**plain), self._seen.asked, overhead)

    def _numbers(self, predicted: MeanField) -> FloatArray:
        columns = {
            "tpot": predicted.tpot_s,
            "ttft": predicted.ttft_s,
            "e2e": predicted.e2e_s,
            "throughput": predicted.output_tokens_per_s,
        }
        result = self._seen.offset.copy()
        for kind, column in columns.items():
            rows = self._seen.kind == kind
            result[rows] += np.log(column[self._seen.index[rows]])
        return result


def fit(
    observations: Observations,
    starts: Sequence[ServingStackSpec],
    coordinates: Sequence[Coordinate],
    error_spread: float = 0.1,
    first: FloatArray | None = None,
    evaluations: int = 40,
) -> Fitted:
    """Return the coordinates that reproduce the observations best.

    Parameters
    ----------
    observations : Observations
        Measured numbers.
    starts : sequence of ServingStackSpec
        Stack of each system, from which the fit departs.
    coordinates : sequence of Coordinate
        What may move.
    error_spread : float
        Typical error of a good prediction [1]; larger errors count linearly, not squared.
    first : ndarray, optional
        Values to start from; none starts at the stacks.
    evaluations : int
        Most evaluations of the model.

    """
    model = Model(observations, starts, coordinates)
    measured = np.log(observations.value)
    scale = np.sqrt(observations.weight) / error_spread
    spreads = np.array([each.spread for each in coordinates])
    centres = np.array([each.centre for each in coordinates])

    def residuals(values: FloatArray) -> FloatArray:
        return np.concatenate([(model.logarithms(values) - measured) * scale, (values - centres) / spreads])

    def slopes(values: FloatArray) -> FloatArray:
        return np.vstack([model.derivatives(values) * scale[:, None], np.diag(1.0 / spreads)])

    start = centres if first is None else first
    found = least_squares(
        residuals, start, jac=slopes, loss="soft_l1", max_nfev=evaluations, x_scale=spreads, ftol=1e-4, xtol=1e-5
    )
    data = slopes(found.x)[: len(measured)]
    error = residuals(found.x)[: len(measured)]
    data = data / (1.0 + error**2)[:, None] ** 0.25  # the weight that soft_l1 gives to a point
    precision = data.T @ data + np.diag(spreads**-2.0)
    standard_errors = np.sqrt(np.diag(np.linalg.inv(precision)))
    return Fitted(
        coordinates=coordinates,
        values=found.x,
        standard_errors=standard_errors,
        determined=1.0 - (standard_errors / spreads) ** 2,
        singular_values=np.linalg.svd(data * spreads, compute_uv=False),
    )


def _effective(systems: Sequence[System], starts: Sequence[ServingStackSpec]) -> dict[str, FloatArray]:
    rows = []
    known: dict[tuple[int, str], StepTimeSpec] = {}
    for system, stack in zip(systems, starts, strict=True):
        key = (id(stack), system.hardware.family)
        if key not in known:
            known[key] = stack.step_time_on(system.hardware.family)
        rates = step_rates(known[key], system.formats, system.model.architecture.moe is not None)
        plain = {field.name: getattr(rates, field.name) for field in fields(StepRates)}
        rows.append(plain | {REQUEST_OVERHEAD: known[key].request_overhead.value})
    return {name: np.log(np.maximum([row[name] for row in rows], 1e-12)) for name in _EFFECTIVE}


def _design(name: str, systems: Sequence[System], coordinates: Sequence[Coordinate]) -> FloatArray:
    """Return which coordinate moves which system's effective parameter, shape (n, k)."""
    result = np.zeros((len(systems), len(coordinates)))
    for column, each in enumerate(coordinates):
        parameter, number_format = _named(name, each.parameter)
        if not parameter:
            continue
        members = {
            "shared": [""] * len(systems),
            "framework": [system.framework for system in systems],
            "family": [system.hardware.family for system in systems],
            "client": [system.client for system in systems],
        }[each.level]
        for row, (system, member) in enumerate(zip(systems, members, strict=True)):
            used = _format_of(name, system) if parameter in _BY_FORMAT else ""
            if member == each.member and number_format in ("", used):
                result[row, column] = 1.0
    return result


def _named(name: str, written: str) -> tuple[str, str]:
    """Return parameter and format by which a coordinate moves an effective parameter; empty where it does not."""
    wanted = "matmul" if name == "projection_matmul" else name
    for each in written.split("+"):
        parameter, _, number_format = each.partition(".")
        if parameter == wanted:
            return parameter, number_format
    return "", ""


def _format_of(name: str, system: System) -> str:
    if name == "projection_matmul":
        return NumberFormat.BF16.value
    formats = system.formats
    return (formats.expert_arithmetic if name == "expert_matmul" else formats.weight_arithmetic).value
