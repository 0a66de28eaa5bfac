"""Which numbers of a horizon have a range: every low and high, drawn or listed with the reason why it is not."""

from __future__ import annotations

import datetime
import fnmatch
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from sim.planning.capacities import Service
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon
from sim.planning.trials import layouts_of
from sim.planning.uncertainty.distributions import FloatArray, quantile
from sim.serving.validity import Validity
from sim.specs.errors import InputError, Problem
from sim.specs.horizon import PathSpec
from sim.specs.records import RecordSpec
from sim.specs.serving_stack import EFFICIENCIES, BandSpec
from sim.specs.spec import Sourced
from sim.specs.uncertainty import QUANTILE_SHAPES, RangeSpec, ShapeName, UncertaintySpec
from sim.specs.units import Dimension

Part = str | int
Place = tuple[Part, ...]
Kind = Literal["number", "whole", "date", "path_factor", "path_progress", "lengths_factor", "band", "replicate"]

BAND_INTERVAL = 0.8
"""Share of measured values that an error band holds, as its spec says [1]."""

REPLICATE = "simulation.replicate"
"""Name of the input that chooses between simulations of the same thing with other requests."""


@dataclass(frozen=True)
class Input:
    """One number with a range."""

    name: str
    """Document and path in it, as in `hardware.h100-sxm.prices.capex`."""

    place: Place
    """The same as parts."""

    kind: Kind
    """What is drawn: the number itself, a factor on a path or on lengths, a model error, or a replicate."""

    unit: str
    """Unit of the numbers."""

    low: float
    """Lower end."""

    value: float
    """Value to plan with; of an error band the geometric mean of its ends."""

    high: float
    """Upper end."""

    shape: ShapeName
    """Form of the distribution."""

    interval: float
    """Probability between the ends of a two-piece form; 1 for forms whose ends are low and high [1]."""

    least: float
    """Smallest number that the field may hold."""

    most: float
    """Largest number that it may hold."""

    group: str
    """Group in the decomposition of variance."""

    source: str
    """Source keys and confidence."""

    reason: str
    """Why it is not drawn; empty where it is."""

    @property
    def drawn(self) -> bool:
        """Return whether it is drawn."""
        return not self.reason

    def at(self, probability: FloatArray, tails: float) -> FloatArray:
        """Return its numbers at some probabilities, within what the field may hold; whole ones are rounded."""
        found = quantile(self.shape, probability, self.low, self.value, self.high, self.interval, tails)
        if self.kind in ("whole", "date"):
            return np.clip(np.rint(found), np.ceil(self.least), np.floor(self.most))
        return np.clip(found, self.least, self.most)


def find_inputs(horizon: Horizon, spec: UncertaintySpec, replicates: int = 1) -> tuple[Input, ...]:
    """Return every number with a range in the documents of a horizon, those that are not drawn with the reason.

    Parameters
    ----------
    horizon : Horizon
        What is planned.
    spec : UncertaintySpec
        How ranges are read.
    replicates : int
        Simulations of each coefficient; more than one makes an input that chooses between them.

    Raises
    ------
    InputError
        A pattern that names no number, a form that a range cannot have, or a drawn number that is in no group.

    """
    found: list[Input] = []
    problems: list[Problem] = []
    judged = judgements(horizon)
    for place, thing in _everything(horizon):
        name = ".".join(map(str, place))
        if isinstance(thing, BandSpec):
            found += _bands(place, thing, judged)
        elif isinstance(thing, Sourced | RecordSpec) and (thing.low is not None or thing.high is not None):
            found += _number(place, thing)
        else:
            given = next((each for each in spec.ranges if _matches(name, each.paths)), None)
            if given is not None:
                factor = _factor(place, thing, given)
                found += [] if _foreign(horizon, factor) else [factor]
    if replicates > 1:
        found.append(_replicate(replicates))
    described = []
    for each in found:
        reason = _foreign(horizon, each) or each.reason or _not_drawn(spec, each.name)
        group = next((key for key, paths in spec.groups.items() if _matches(each.name, paths)), "")
        if not reason and not group:
            problems.append(_problem("is in no group", each.name, "Add its path to one of `groups`."))
        described.append(_formed(replace(each, reason=reason, group=group), spec, problems))
    if problems:
        raise InputError(problems)
    return tuple(described)


def _everything(horizon: Horizon) -> Iterator[tuple[Place, Any]]:
    """Yield every described thing of the documents that the horizon uses, with its place."""
    yield from _walk(("horizon",), horizon.spec)
    yield from _walk(("economics",), horizon.economics)
    yield from _walk(("stack",), horizon.serving_stack)
    documents: Iterable[tuple[str, Mapping[str, Any]]] = (
        ("hardware", horizon.hardware),
        ("model", horizon.models),
        ("workload", horizon.workloads),
        ("compression", horizon.methods),
    )
    for kind, specs in documents:
        for name, spec in specs.items():
            yield from _walk((kind, name), spec)


def _walk(place: Place, thing: Any) -> Iterator[tuple[Place, Any]]:
    if isinstance(thing, BaseModel):
        yield place, thing
        if not isinstance(thing, Sourced | PathSpec):
            for name in type(thing).model_fields:
                yield from _walk((*place, name), getattr(thing, name))
    elif isinstance(thing, Mapping):
        for key, each in thing.items():
            yield from _walk((*place, str(key)), each)
    elif isinstance(thing, tuple):
        for position, each in enumerate(thing):
            yield from _walk((*place, position), each)


def _number(place: Place, thing: Sourced[Any] | RecordSpec) -> Iterator[Input]:
    """Yield a number or a date with its range; dates count as days."""
    numbers: list[Any] = [thing.value if end is None else end for end in (thing.low, thing.value, thing.high)]
    kind: Kind = "whole" if isinstance(thing.value, int) else "number"
    unit = _unit(thing)
    if isinstance(thing.value, datetime.date):
        kind, unit = "date", "days"
        numbers = [each.toordinal() for each in numbers]
    elif not isinstance(thing.value, int | float):
        return
    low, value, high = (float(each) for each in numbers)
    least, most = _bounds(place, thing, value)
    reason = "its range is a point" if low == high else ""
    yield Input(
        ".".join(map(str, place)), place, kind, unit, low, value, high, "two_piece_normal", 0.0, least, most, "",
        f"{', '.join(thing.source)} ({thing.confidence.value})", reason,
    )  # fmt: skip


def _bands(place: Place, band: BandSpec, judged: Mapping[str, Validity]) -> Iterator[Input]:
    """Yield an error band once for every accelerator whose predictions have it."""
    names = [name for name, validity in judged.items() if any(band is each for each in validity.bands.values())]
    if not names:
        yield _band(place, band, "no accelerator on offer is judged by this band")
    for name in names:
        yield _band((*place, name), band, "")


def judgements(horizon: Horizon) -> dict[str, Validity]:
    """Return how far predictions for every accelerator on offer can be trusted; those that serve nothing have none."""
    simulated = SimulatedCapacities(horizon)
    found: dict[str, Validity] = {}
    for case, described in horizon.spec.use_cases.items():
        for model in described.models:
            service = Service(case, model, True, True, True, False)
            for layout in layouts_of(horizon, service):
                for name in horizon.spec.hardware:
                    if name not in found:
                        try:
                            found[name] = simulated.deployment(service, name, layout).validity
                        except InputError:
                            continue
    return {name: found[name] for name in horizon.spec.hardware if name in found}


def _band(place: Place, band: BandSpec, reason: str) -> Input:
    return Input(
        ".".join(map(str, place)), place, "band", "1", band.low, math.sqrt(band.low * band.high), band.high,
        "two_piece_lognormal", BAND_INTERVAL, 0.0, math.inf, "",
        f"{band.points} measured points" if band.points else "assumption", reason,
    )  # fmt: skip


def _factor(place: Place, thing: Any, spec: RangeSpec) -> Input:
    kind: Kind = "number"
    value, least, most = 1.0, 0.0, math.inf
    unit = "1"
    if isinstance(thing, PathSpec):
        kind = "path_progress" if spec.how == "progress" else "path_factor"
    elif hasattr(thing, "distribution"):
        kind = "lengths_factor"
    elif isinstance(thing, Sourced):
        value = float(thing.value)
        unit = _unit(thing)
        least, most = _bounds(place, thing, value)
    low, high = value * spec.low, value * spec.high
    return Input(
        ".".join(map(str, place)), place, kind, unit, low, value, high, "two_piece_normal", 0.0, least, most, "",
        f"{', '.join(spec.source)} ({spec.confidence.value})", "" if low < high else "its range is a point",
    )  # fmt: skip


def _replicate(count: int) -> Input:
    return Input(
        REPLICATE, ("simulation", "replicate"), "replicate", "1", 0.0, 0.0, float(count), "uniform", 1.0, 0.0,
        math.nextafter(float(count), 0.0), "", "simulated with other requests", "",
    )  # fmt: skip


def _formed(each: Input, spec: UncertaintySpec, problems: list[Problem]) -> Input:
    """Return an input with the distribution that holds for its path."""
    if each.kind in ("band", "replicate"):
        return each
    stated = next((one for one in spec.distributions if _matches(each.name, one.paths)), None)
    shape: ShapeName = "two_piece_lognormal" if each.low > 0.0 and each.kind != "date" else "two_piece_normal"
    interval = spec.interval.value
    if stated is not None:
        shape = stated.shape
        interval = stated.interval or interval
        if shape == "two_piece_lognormal" and each.low <= 0.0:
            problems.append(_problem("a log-normal needs a low above 0", each.name, "Choose another shape for it."))
    return replace(each, shape=shape, interval=interval if shape in QUANTILE_SHAPES else 1.0)


def _foreign(horizon: Horizon, each: Input) -> str:
    """Return why a number of a document that the horizon uses is about something that it does not use."""
    place = each.place
    if place[:2] in (("stack", "families"), ("stack", "coverage")):
        families = {hardware.family for hardware in horizon.hardware.values()}
        return "" if place[2] in families else f"no accelerator of the family {place[2]} is on offer"
    if place[:2] == ("economics", "hardware"):
        return "" if place[2] in horizon.spec.hardware else f"{place[2]} is not on offer"
    if place[:2] == ("economics", "api"):
        used = {case.api for case in horizon.spec.use_cases.values()}
        return "" if place[2] in used else "no use case may be left to this API"
    if place[0] == "hardware" and place[2:4] == ("prices", "hourly"):
        bases = {term.basis.value for term in horizon.spec.terms.values()}
        return "" if place[4] in bases else "no rental term of the horizon is on this basis"
    return ""


def _not_drawn(spec: UncertaintySpec, name: str) -> str:
    return next((each.reason for each in spec.not_drawn if _matches(name, each.paths)), "")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _bounds(place: Place, thing: Sourced[Any] | RecordSpec, value: float) -> tuple[float, float]:
    """Return what a field may hold, from the limits of its type; efficiencies do not exceed 1."""
    least, most = -math.inf, math.inf
    for limit in type(thing).model_fields["value"].metadata:
        least = max(least, getattr(limit, "ge", -math.inf), math.nextafter(getattr(limit, "gt", -math.inf), math.inf))
        most = min(most, getattr(limit, "le", math.inf), math.nextafter(getattr(limit, "lt", math.inf), -math.inf))
        if isinstance(limit, Dimension):
            least = max(least, 0.0)
    if place[:2] == ("stack", "step_time") and place[2] in EFFICIENCIES:
        most = min(most, max(1.0, value))
    return least, most


def _unit(thing: Sourced[Any] | RecordSpec) -> str:
    return next(
        (each.si_unit for each in type(thing).model_fields["value"].metadata if isinstance(each, Dimension)), "1"
    )


def _problem(message: str, name: str, remedy: str) -> Problem:
    return Problem(message, value=name, remedy=remedy)


def matching(inputs: Iterable[Input], patterns: Iterable[str]) -> list[Input]:
    """Return the drawn inputs whose names match one of some patterns."""
    wanted = tuple(patterns)
    return [each for each in inputs if each.drawn and _matches(each.name, wanted)]
