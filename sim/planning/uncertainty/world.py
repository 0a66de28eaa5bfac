"""A drawn world: the horizon with other numbers in it, and what is drawn beside its documents."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sim.planning.horizon import Horizon
from sim.planning.uncertainty.inputs import Input, Place
from sim.specs.horizon import PathSpec
from sim.specs.serving_stack import BandMetric
from sim.specs.spec import Spec


@dataclass(frozen=True)
class World:
    """One world."""

    horizon: Horizon
    """The horizon with drawn numbers."""

    lengths: Mapping[tuple[str, str], float]
    """(Workload, `prompt_tokens` or `output_tokens`) -> factor on these lengths [1]."""

    errors: Mapping[tuple[BandMetric, str], float]
    """(Metric, accelerator) -> measured over predicted [1]."""

    replicate: int
    """Which of the simulations of every coefficient holds."""


def drawn_world(horizon: Horizon, inputs: Iterable[Input], values: Mapping[str, float]) -> World:
    """Return the world of some numbers by the names of their inputs; inputs without a number keep their value.

    An error band without a number keeps a ratio of 1: predictions are taken as they are, as a plan takes them.
    """
    tree: dict[str, Any] = {}
    lengths: dict[tuple[str, str], float] = {}
    errors: dict[tuple[BandMetric, str], float] = {}
    replicate = 0
    for each in inputs:
        value = values.get(each.name)
        if value is None:
            continue
        if each.kind == "lengths_factor":
            lengths[str(each.place[1]), str(each.place[2])] = value
        elif each.kind == "band":
            metric: BandMetric = each.place[each.place.index("bands") + 1]  # type: ignore[assignment]
            errors[metric, str(each.place[-1])] = value
        elif each.kind == "replicate":
            replicate = int(value)
        else:
            _plant(tree, each.place, _Leaf(each, value))
    return World(_changed(horizon, tree), lengths, errors, replicate)


@dataclass(frozen=True)
class _Leaf:
    """A number to be put in."""

    given: Input
    value: float


def _plant(tree: dict[Any, Any], place: Place, leaf: _Leaf) -> None:
    for part in place[:-1]:
        tree = tree.setdefault(part, {})
    tree[place[-1]] = leaf


def _changed(horizon: Horizon, tree: Mapping[str, Any]) -> Horizon:
    planned_from = horizon.spec.plan_from
    documents: dict[str, Any] = {}
    for key, field in (("horizon", "spec"), ("economics", "economics"), ("stack", "serving_stack")):
        if key in tree:
            documents[field] = _rebuilt(getattr(horizon, field), tree[key], planned_from)
    for key, field in (("hardware", "hardware"), ("model", "models"), ("workload", "workloads")):
        if key in tree:
            documents[field] = _rebuilt(getattr(horizon, field), tree[key], planned_from)
    return replace(horizon, **documents)


def _rebuilt(thing: Any, tree: Any, planned_from: datetime.date) -> Any:
    """Return a described thing in which the leaves of a tree are put; all else is shared with the original."""
    if isinstance(tree, _Leaf):
        return _put(thing, tree, planned_from)
    if isinstance(thing, Spec):
        return thing.model_copy(
            update={name: _rebuilt(getattr(thing, name), below, planned_from) for name, below in tree.items()}
        )
    if isinstance(thing, Mapping):
        # Keys such as number formats are texts in a place and enumerated in the document; they are equal.
        return {**thing, **{key: _rebuilt(thing[key], below, planned_from) for key, below in tree.items()}}
    parts = list(thing)
    for position, below in tree.items():
        parts[position] = _rebuilt(parts[position], below, planned_from)
    return tuple(parts)


def _put(thing: Any, leaf: _Leaf, planned_from: datetime.date) -> Any:
    if isinstance(thing, PathSpec):
        return thing.model_copy(update={"points": _moved(thing, leaf, planned_from)})
    value: object = leaf.value
    if leaf.given.kind == "whole":
        value = round(leaf.value)
    elif leaf.given.kind == "date":
        value = datetime.date.fromordinal(round(leaf.value))
    return thing.model_copy(update={"value": value})


def _moved(path: PathSpec, leaf: _Leaf, planned_from: datetime.date) -> dict[datetime.date, float]:
    """Return the points of a path times a factor, or with another progress from the start of planning on.

    factor     v(t) f
    progress   v(t) for t up to the start s, v(s) + f (v(t) - v(s)) after it

    """
    if leaf.given.kind == "path_factor":
        return {day: value * leaf.value for day, value in path.points.items()}
    then = path.at(planned_from)
    moved = {day: value for day, value in path.points.items() if day < planned_from} | {planned_from: then}
    gained = {day: value - then for day, value in path.points.items() if day > planned_from}
    return moved | {day: max(0.0, then + leaf.value * gain) for day, gain in gained.items()}
