"""Formulas of a study: plain arithmetic over named numbers and samples, and nothing else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Values = Mapping[str, "float | FloatArray | Mapping[str, float]"]
"""Name -> number, samples, or the figures of a fleet, month and so on."""

_BINARY: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "min": np.minimum,
    "max": np.maximum,
    "log": np.log,
    "exp": np.exp,
    "ceil": np.ceil,
    "pick": lambda place, *numbers: _picked(place, numbers),
}


def evaluate(formula: str, values: Values) -> float | FloatArray:
    """Return what a formula comes to.

    Allowed are numbers, names, `name.figure`, + - * / **, brackets, min, max, log, exp and ceil, and
    `pick(place, a, b, c)`, which takes a where place is 0, b where it is 1, and so on.

    Parameters
    ----------
    formula : str
        The formula, as in `old.usd_per_request / new.usd_per_request * price`.
    values : mapping
        What names stand for; samples are arrays of one shape.

    Raises
    ------
    ValueError
        Not a formula, or a name that stands for nothing.

    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found: float | FloatArray = _value(_parsed(formula), values)
    return found


def _picked(place: float | FloatArray, numbers: tuple[float | FloatArray, ...]) -> FloatArray:
    index = np.asarray(np.rint(place), np.int64)
    if not numbers or index.min() < 0 or index.max() >= len(numbers):
        raise ValueError(f"pick has no number at place {index.max()}: it has {len(numbers)}")
    shape = np.broadcast_shapes(index.shape, *(np.shape(each) for each in numbers))
    columns = np.stack([np.broadcast_to(np.asarray(each, np.float64), shape) for each in numbers])
    return np.asarray(np.take_along_axis(columns, np.broadcast_to(index, shape)[None], axis=0)[0])


def names_in(formula: str) -> frozenset[str]:
    """Return the names in a formula, without figures and functions; ValueError where it is none."""
    tree = _parsed(formula)
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)) - called


def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not a formula: {formula!r}: {error.msg}") from None


def _value(node: ast.expr, values: Values) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        found = _looked_up(node.id, values)
        if isinstance(found, Mapping):
            raise ValueError(f"{node.id} has figures: write {node.id}.{next(iter(found), 'figure')}")
        return found
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        figures = _looked_up(node.value.id, values)
        if not isinstance(figures, Mapping) or node.attr not in figures:
            known = ", ".join(figures) if isinstance(figures, Mapping) else "none"
            raise ValueError(f"{node.value.id} has no figure {node.attr!r}; it has {known}")
        return figures[node.attr]
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        # numbers of numpy, for plain ones raise an error where a division by zero is an answer (never)
        left, right = (np.asarray(_value(each, values), np.float64)[()] for each in (node.left, node.right))
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
        return _FUNCTIONS[node.func.id](*(_value(each, values) for each in node.args))
    raise ValueError(f"a formula may not hold {ast.unparse(node)!r}")


def _looked_up(name: str, values: Values) -> Any:
    if name not in values:
        raise ValueError(f"{name!r} stands for nothing; known are {', '.join(values)}")
    return values[name]
