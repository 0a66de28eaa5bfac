"""Run a study: simulate what it names, sample what is uncertain, judge what is claimed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.execution.executor import Executor
from sim.execution.store import Store
from sim.planning.claims.fleets import attribution_figures, whole_fleet
from sim.planning.claims.formula import FloatArray, evaluate, names_in
from sim.planning.claims.inputs import SAMPLES, Marginal, marginals, sampled
from sim.planning.claims.months import length_figures, month_figures
from sim.planning.claims.simulations import named_fleets, placed, placed_figures, simulate_fleets
from sim.planning.claims.verdict import PartFound, Verdict, judge, quantiles, together, turning_point
from sim.planning.claims.wording import reason_of
from sim.specs.claim import ClaimSpec
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.library import Library, default_library

Told = Callable[[str, float], None]
"""Told what is computed and how far the work is."""


@dataclass(frozen=True)
class FigureFound:
    """A number of a study with its interval."""

    name: str
    """Name in the study, as in `rubin.usd_per_request`."""

    text: str
    """What it is."""

    unit: str
    """Unit."""

    p10: float
    """10th percentile."""

    p50: float
    """Median."""

    p90: float
    """90th percentile."""


@dataclass(frozen=True)
class ConditionFound:
    """Under which condition a part would hold."""

    text: str
    """What would have to change."""

    unit: str
    """Unit of the value."""

    planned: float
    """Median with which the study computes."""

    value: float | None
    """Value from which the median holds; none where it does not, or does anyway."""

    above: bool
    """Whether it holds above the value, and not below."""

    anyway: bool
    """Whether the median holds over the whole range."""

    between: tuple[float, float]
    """Range that was searched."""


@dataclass(frozen=True)
class ClaimFound:
    """What a study found."""

    spec: ClaimSpec
    """The study."""

    parts: tuple[PartFound, ...]
    """Statements, the first being the headline."""

    inputs: tuple[FigureFound, ...]
    """What was varied."""

    figures: tuple[FigureFound, ...]
    """Numbers on the way."""

    simulated: Mapping[str, Mapping[str, float]]
    """Fleets, months, lengths and attributions with their figures."""

    conditions: tuple[ConditionFound, ...]
    """Under which conditions it would hold."""

    verdict: Verdict
    """What follows."""

    reason: str
    """Why."""

    @property
    def measurements(self) -> tuple[str, ...]:
        """Return what would decide an undecided part."""
        return tuple(dict.fromkeys(each for part in self.parts for each in part.measurements))

    def to_json(self) -> dict[str, object]:
        """Return the answer as the command prints it."""
        first = self.parts[0]
        return {
            "id": self.spec.id,
            "claim": self.spec.claim,
            "claimed": self.spec.claimed,
            "computed": {"p10": first.p10, "p50": first.p50, "p90": first.p90, "unit": first.spec.unit},
            "verdict": self.verdict.value,
            "reason": self.reason,
        }


def load_claims(wanted: Iterable[str] = (), library: Library | None = None) -> list[ClaimSpec]:
    """Return studies by the numbers of their claims, or all of them in order.

    Raises
    ------
    InputError
        No such claim, two studies of one claim, or a study that is invalid; all problems at once.

    """
    library = library or default_library()
    found: dict[str, ClaimSpec] = {}
    problems: list[Problem] = []
    for name, path in library.names("claim").items():
        try:
            spec: ClaimSpec = library.load("claim", name).spec
        except InputError as error:
            problems += error.problems
            continue
        if spec.id in found:
            problems.append(Problem("this claim has a study already", str(path), "id", spec.id))
        found[spec.id] = spec
    asked = [each.upper() for each in wanted]
    problems += [Problem("there is no study of this claim", value=each, remedy=suggest(each, found))
                 for each in asked if each not in found]  # fmt: skip
    if problems:
        raise InputError(problems)
    return [found[each] for each in dict.fromkeys(asked or sorted(found))]


def run_claims(
    specs: Sequence[ClaimSpec],
    library: Library | None = None,
    progress: Told | None = None,
    executor: Executor | None = None,
    store: Store | None = None,
) -> list[ClaimFound]:
    """Return what some studies find, in order.

    Parameters
    ----------
    specs : sequence of ClaimSpec
        Studies.
    library : Library, optional
        Where names are looked up.
    progress : callable, optional
        Told what is computed and how far the work is.
    executor : Executor, optional
        Where their fleets are simulated; here and one by one without it.
    store : Store, optional
        Where an executor keeps fleets for the next time.

    Raises
    ------
    InputError
        As `run_claim`.

    """
    library = library or default_library()
    for spec in specs:
        _check_formulas(spec)
    if executor is not None:
        simulate_fleets(specs, library, executor, store, progress)
    found = []
    for position, spec in enumerate(specs):

        def told(what: str, fraction: float, position: int = position, number: str = spec.id) -> None:
            if progress is not None:
                progress(f"{number} {what}", (position + fraction) / len(specs))

        found.append(run_claim(spec, library, told))
    return found


def run_claim(spec: ClaimSpec, library: Library | None = None, progress: Told | None = None) -> ClaimFound:
    """Return what a study finds: fleets simulated once, formulas over samples of the inputs.

    Raises
    ------
    InputError
        A name that is not there, a fleet that meets no service level, a formula that is none.

    """
    library = library or default_library()
    simulated = _simulated(spec, library, progress)
    distributions = marginals(spec.inputs, library)
    samples = sampled(distributions)

    def values(held: Mapping[str, float]) -> dict[str, float | FloatArray | Mapping[str, float]]:
        known: dict[str, float | FloatArray | Mapping[str, float]] = {**simulated, **samples, **held}
        for name, figure in spec.figures.items():
            known[name] = _evaluated(spec, f"figures.{name}", figure.formula, known)
        return known

    base = values({})
    figures = tuple(_figure(name, each.text, each.unit, np.asarray(base[name])) for name, each in spec.figures.items())
    inputs = tuple(_figure(name, "", each.unit, samples[name]) for name, each in distributions.items())
    parts = []
    for name, part in spec.parts.items():

        def of_part(held: Mapping[str, float], place: str = f"parts.{name}", formula: str = part.formula) -> FloatArray:
            found = _evaluated(spec, place, formula, values(held) if held else base)
            return np.broadcast_to(np.asarray(found, np.float64), (SAMPLES,))

        try:
            parts.append(judge(name, part, of_part, distributions, spec.surely))
        except ValueError as error:
            raise InputError([Problem(str(error), f"{spec.name}.yaml", f"parts.{name}")]) from None
    conditions = tuple(_conditions(spec, distributions, values))
    verdict = together(parts)
    known = {each.name: (each.p50, each.unit) for each in (*inputs, *figures)}
    known |= {each.name: (each.p50, each.spec.unit) for each in parts}
    known |= {f"{name}.{key}": (value, "") for name, group in simulated.items() for key, value in group.items()}
    reason = reason_of(spec, parts, verdict, known)
    return ClaimFound(spec, tuple(parts), inputs, figures, simulated, conditions, verdict, reason)


def _simulated(spec: ClaimSpec, library: Library, progress: Told | None) -> dict[str, Mapping[str, float]]:
    found: dict[str, Mapping[str, float]] = {}
    count = len(spec.fleets) + len(spec.months) + len(spec.lengths) + len(spec.attributions) + 1

    def told(what: str) -> None:
        if progress is not None:
            progress(what, len(found) / count)

    _check_formulas(spec)
    for name in named_fleets(spec):
        told(f"fleet {name}")
        found[name] = placed_figures(spec, f"fleets.{name}", whole_fleet(spec.fleets, name), library)
    for name, month in spec.months.items():
        told(f"month {name}")
        found[name] = month_figures(month)
    for name, length in spec.lengths.items():
        found[name] = length_figures(length, library)
    for name, attribution in spec.attributions.items():
        try:
            found[name] = attribution_figures(attribution, spec.fleets, library, told)
        except InputError as error:
            raise InputError(placed(spec, f"attributions.{name}", error)) from None
    return found


def _check_formulas(spec: ClaimSpec) -> None:
    for place, formulas in (("figures", spec.figures), ("parts", spec.parts)):
        for name, each in formulas.items():
            try:
                names_in(each.formula)
            except ValueError as error:
                raise InputError([Problem(str(error), f"{spec.name}.yaml", f"{place}.{name}")]) from None


def _evaluated(
    spec: ClaimSpec, place: str, formula: str, known: Mapping[str, float | FloatArray | Mapping[str, float]]
) -> float | FloatArray:
    try:
        return evaluate(formula, known)
    except ValueError as error:
        raise InputError([Problem(str(error), f"{spec.name}.yaml", place)]) from None


def _figure(name: str, text: str, unit: str, samples: FloatArray) -> FigureFound:
    return FigureFound(name, text, unit, *quantiles(np.atleast_1d(samples)))


def _conditions(
    spec: ClaimSpec,
    distributions: Mapping[str, Marginal],
    values: Callable[[Mapping[str, float]], Mapping[str, float | FloatArray | Mapping[str, float]]],
) -> Iterable[ConditionFound]:
    for position, condition in enumerate(spec.conditions):
        name = condition.part or next(iter(spec.parts))
        if condition.vary not in distributions or name not in spec.parts:
            raise InputError([Problem("a condition varies an input for a part of the study", f"{spec.name}.yaml",
                                      f"conditions.{position}", condition.vary)])  # fmt: skip
        part = spec.parts[name]

        def median(value: float, vary: str = condition.vary, formula: str = part.formula, place: str = name) -> float:
            found = _evaluated(spec, f"parts.{place}", formula, values({vary: value}))
            return quantiles(np.atleast_1d(np.asarray(found, np.float64)))[1]

        turn = turning_point(part, median, condition.between)
        planned = distributions[condition.vary]
        anyway = turn is None and turning_point(part, median, condition.between) is None and (
            (part.at_least is None or median(condition.between[0]) >= part.at_least)
            and (part.at_most is None or median(condition.between[0]) <= part.at_most)
        )  # fmt: skip
        yield ConditionFound(
            condition.text, planned.unit, planned.median, None if turn is None else turn[0],
            turn is not None and turn[1], anyway, condition.between,
        )  # fmt: skip
