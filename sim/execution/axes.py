"""What a sweep changes: lists and ranges of values at dotted paths, and the points that they make."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from sim.demand.streams import stream
from sim.specs.errors import Problem

Point = dict[str, object]
"""Dotted path -> value, written as in YAML."""

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_UNIT = r"(?: ([^\d\s.:][^\s.:]*))?"
_RANGE = re.compile(rf"\s*({_NUMBER}){_UNIT}\s*\.\.\s*({_NUMBER}){_UNIT}(?:\s*:\s*(\d+){_UNIT})?\s*")
_BARE = re.compile(rf"\s*({_NUMBER})\s*")
_WITH_UNIT = re.compile(rf"\s*{_NUMBER} (\D\S*)\s*")
_DIGITS = 6  # significant, of values between the ends of a range: enough, and readable
_HOW = "Write values as in fleet.serving.replicas=4,8,16 or traffic.chat.rate=10..40:4 requests/s."


@dataclass(frozen=True)
class Span:
    """Values between two ends, of which a Latin hypercube draws."""

    low: float
    """Lower end [unit]."""

    high: float
    """Upper end [unit]."""

    unit: str
    """Unit as YAML writes it; empty for a plain number."""

    is_whole: bool
    """Whether only whole numbers are meant: both ends are, and there is no unit."""

    def at(self, share: float) -> object:
        """Return the value at a share in [0, 1) of the way from one end to the other."""
        if self.is_whole:
            return int(self.low) + math.floor(share * (self.high - self.low + 1.0))
        return written(self.low + share * (self.high - self.low), self.unit)


@dataclass(frozen=True)
class Axis:
    """One path and what is tried there."""

    path: str
    """Dotted path in the scenario."""

    values: tuple[object, ...]
    """Values as YAML writes them; the two ends of a span."""

    span: Span | None = None
    """Where given, all between the ends is meant."""


def parse_axis(path: str, text: str) -> Axis:
    """Return the axis of `--set PATH=TEXT`.

    TEXT is a list `a,b,c`, a range `low..high:count` of evenly spaced values with both ends, or `low..high`: all whole
    numbers between two, or what a Latin hypercube draws from. A unit stands at each value or, once, at the end.

    Raises
    ------
    ValueError
        Not one of these; the message says how to write it.

    """
    match = _RANGE.fullmatch(text)
    if match is None:
        return Axis(path, _listed(text))
    low_text, low_unit, high_text, high_unit, count, last_unit = match.groups()
    units = {unit for unit in (low_unit, high_unit, last_unit) if unit}
    if len(units) > 1:
        raise ValueError(f"the ends of a range have one unit, not {' and '.join(sorted(units))}")
    unit = units.pop() if units else ""
    low, high = (float(each.replace("_", "")) for each in (low_text, high_text))
    if not low < high:
        raise ValueError("a range goes from a lower to a higher value")
    is_whole = not unit and all(re.fullmatch(r"[-+]?[\d_]+", each) for each in (low_text, high_text))
    span = Span(low, high, unit, is_whole)
    if count is None:
        ends = (int(low), int(high)) if is_whole else (written(low, unit), written(high, unit))
        return Axis(path, ends, span)
    if int(count) < 2:
        raise ValueError("a range has at least two values, its ends")
    step = (high - low) / (int(count) - 1)
    numbers = [low + step * index for index in range(int(count) - 1)] + [high]
    if is_whole and all(each == int(each) for each in numbers):
        return Axis(path, tuple(int(each) for each in numbers))
    return Axis(path, tuple(written(each, unit) for each in numbers))


def axes_of(
    settings: Mapping[str, str | Sequence[object]], is_drawn: bool
) -> tuple[tuple[Axis, ...], tuple[Problem, ...]]:
    """Return the axes of a sweep, and what is wrong with those that are missing.

    Parameters
    ----------
    settings : mapping
        Dotted path -> values, or text as after `--set PATH=`.
    is_drawn : bool
        Whether a Latin hypercube draws, so that ranges need no count.

    """
    axes: list[Axis] = []
    problems: list[Problem] = []
    for path, setting in settings.items():
        try:
            axis = parse_axis(path, setting) if isinstance(setting, str) else Axis(path, tuple(setting))
            axes.append(axis if is_drawn else _in_steps(axis))
            _check_distinct(axis)
        except ValueError as error:
            problems.append(Problem(str(error), "--set", path, setting, _HOW))
    return tuple(axes), tuple(problems)


def _in_steps(axis: Axis) -> Axis:
    """Return an axis of single values; ValueError where nothing says which ones are meant."""
    if axis.span is None:
        return axis
    if not axis.span.is_whole:
        raise ValueError("a grid needs to know how many values of the range to try")
    return Axis(axis.path, tuple(range(int(axis.span.low), int(axis.span.high) + 1)))


def _check_distinct(axis: Axis) -> None:
    texts = [json.dumps(value, sort_keys=True, default=str) for value in axis.values]
    if not texts:
        raise ValueError("there is no value")
    if len(set(texts)) < len(texts):
        raise ValueError("a value is given twice")


def grid(axes: Sequence[Axis]) -> Iterator[Point]:
    """Yield all combinations; the last axis changes fastest."""
    for values in itertools.product(*(axis.values for axis in axes)):
        yield {axis.path: value for axis, value in zip(axes, values, strict=True)}


def latin_hypercube(axes: Sequence[Axis], count: int, seed: int) -> Iterator[Point]:
    """Yield points of which each has a part of each axis to itself (McKay, Beckman and Conover 1979).

    The range of an axis is cut into `count` equal parts; each is drawn from once, in an order of its own. A list is a
    range in which every value has an equal share. Axes draw from streams of their own, so another one changes none.

    Parameters
    ----------
    axes : sequence of Axis
        What is varied.
    count : int
        Points, at least 1.
    seed : int
        Seed of the streams.

    """
    shares = []
    for axis in axes:
        draws = stream(seed, "sweep", "latin-hypercube", axis.path)
        shares.append((draws.permutation(count) + draws.random(count)) / count)
    for row in np.array(shares).T.reshape(count, len(axes)):
        yield {axis.path: _drawn(axis, float(share)) for axis, share in zip(axes, row, strict=True)}


def written(number: float, unit: str) -> object:
    """Return a number as YAML writes it, to six significant digits, with its unit if it has one."""
    rounded = float(f"{number:.{_DIGITS}g}")
    return f"{rounded:.{_DIGITS}g} {unit}" if unit else rounded


def _drawn(axis: Axis, share: float) -> object:
    if axis.span is not None:
        return axis.span.at(share)
    return axis.values[math.floor(share * len(axis.values))]


def _listed(text: str) -> tuple[object, ...]:
    """Return the values of a list; a unit at the last of plain numbers is that of all."""
    parts = list(_parts(text))
    last = _WITH_UNIT.fullmatch(parts[-1])
    if last is not None and all(_BARE.fullmatch(part) for part in parts[:-1]):
        parts = [*(f"{part.strip()} {last[1]}" for part in parts[:-1]), parts[-1]]
    values = []
    for part in parts:
        if not part.strip():
            raise ValueError("a value is missing")
        try:
            values.append(yaml.safe_load(part))
        except yaml.YAMLError:
            raise ValueError("a value is not valid YAML") from None
    return tuple(values)


def _parts(text: str) -> Iterator[str]:
    """Yield what stands between the commas outside of brackets and quotes."""
    depth, quote, start = 0, "", 0
    for position, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in "[{":
            depth += 1
        elif sign in "]}":
            depth -= 1
        elif sign == "," and depth == 0:
            yield text[start:position]
            start = position + 1
    yield text[start:]
