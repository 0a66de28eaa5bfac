"""The domain of a formula: checks that name the offending value, shared by every closed form."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def require_positive(**values: float) -> None:
    """Check that each named value is finite and above zero.

    Parameters:
        values: the values to check, by the name to show [any unit].

    Raises:
        ValueError: naming the first value that is not finite and above zero.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and above zero, got {value!r}")


def require_non_negative(**values: float) -> None:
    """Check that each named value is finite and not below zero.

    Parameters:
        values: the values to check, by the name to show [any unit].

    Raises:
        ValueError: naming the first value that is not finite or is below zero.
    """
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not below zero, got {value!r}")


def require_whole(minimum: int, **values: int) -> None:
    """Check that each named value is a whole number of at least `minimum`.

    Parameters:
        minimum: the smallest admitted value [1].
        values: the values to check, by the name to show [1].

    Raises:
        ValueError: naming the first value that is not whole or is below the minimum.
    """
    for name, value in values.items():
        if value != math.floor(value) or value < minimum:
            raise ValueError(f"{name} must be a whole number of at least {minimum}, got {value!r}")


def require_stable(load: float, **values: float) -> None:
    """Check that the load per unit of capacity is below one, so that a steady state exists.

    Parameters:
        load: rho, the work that arrives per unit of the largest rate of service [1].
        values: what the load was computed from, to be shown [any unit].

    Raises:
        ValueError: naming rho and the values when rho >= 1.
    """
    if not load < 1:
        given = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise ValueError(f"no steady state: load rho = {load:.6g} is not below 1 ({given})")


def finite_array(name: str, values: ArrayLike, *, minimum: float | None = None) -> NDArray[np.float64]:
    """Read an array of finite numbers, each at least `minimum`.

    Parameters:
        name: the name to show in the error.
        values: numbers of any shape [any unit].
        minimum: the smallest admitted value, or None for no bound.

    Returns:
        The values as float64, of the same shape.

    Raises:
        ValueError: naming the first value that is not finite or is below the minimum.
    """
    array = np.asarray(values, dtype=np.float64)
    wrong = ~np.isfinite(array) if minimum is None else ~(np.isfinite(array) & (array >= minimum))
    if wrong.any():
        bound = "" if minimum is None else f" and at least {minimum:g}"
        raise ValueError(f"{name} must be finite{bound}, got {float(array[wrong][0])!r}")
    return array
