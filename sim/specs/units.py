"""Units: YAML writes `3.35 TB/s`, memory holds SI floats; the unit of a field is its type.

A quantity is a finite, non-negative number, a space, and a unit of the field's dimension. A bare number, a
wrong dimension, a negative number, NaN or infinity is an error. GB (1e9 B) and GiB
(2**30 B) are different units.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_TIME = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0,
    "year": 365.25 * 86400.0,
}  # fmt: skip


def _scaled(unit: str, factor: float = 1.0) -> dict[str, float]:
    return {prefix + unit: scale * factor for prefix, scale in _DECIMAL.items()}


_BYTES = _scaled("B") | {prefix + "B": scale for prefix, scale in _BINARY.items()}
_BITS_PER_SECOND = _scaled("b/s", 1.0 / 8.0)
_TOKENS = {"token": 1.0, "tokens": 1.0, "ktokens": 1e3, "Mtokens": 1e6}


@dataclass(frozen=True, eq=False)
class Dimension:
    """A dimension: its SI unit and the units that YAML may write."""

    name: str
    """What is measured, e.g. `bandwidth`."""

    si_unit: str
    """The unit in memory, e.g. `B/s`."""

    factors: Mapping[str, float]
    """Unit as written -> factor to the SI unit."""

    example: str
    """How a user should write it, quoted in errors."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Make the dimension usable as a field's type: `Annotated[float, BYTES]`."""
        return core_schema.no_info_plain_validator_function(partial(parse_quantity, dimension=self))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the written form, so that editors can help."""
        return {
            "type": "string",
            "description": f"{self.name}, in memory [{self.si_unit}]",
            "examples": [self.example],
        }


BYTES = Dimension("data size", "B", _BYTES, "80 GiB")
BANDWIDTH = Dimension(
    "bandwidth",
    "B/s",
    {f"{unit}/s": factor for unit, factor in _BYTES.items()} | _BITS_PER_SECOND,
    "3.35 TB/s",
)
COMPUTE = Dimension("compute rate", "FLOP/s", _scaled("FLOP/s") | _scaled("OP/s"), "989 TFLOP/s")
POWER = Dimension("power", "W", _scaled("W"), "700 W")
DURATION = Dimension("duration", "s", _TIME, "500 ms")
MONEY = Dimension("sum of money", "USD", {"USD": 1.0, "kUSD": 1e3, "MUSD": 1e6}, "30000 USD")
HOURLY_PRICE = Dimension("price per hour", "USD/h", {"USD/h": 1.0, "USD/year": 1.0 / 8766.0}, "2.95 USD/h")
TOKENS = Dimension("number of tokens", "tokens", _TOKENS, "8192 tokens")
RATE = Dimension(
    "request rate", "requests/s",
    {f"{word}/{per}": 1.0 / _TIME[per] for word in ("request", "requests") for per in ("s", "min", "h", "d")},
    "5 requests/s",
)  # fmt: skip
FREQUENCY = Dimension(
    "failure rate", "failures/s",
    {f"{word}/{per}": 1.0 / _TIME[per] for word in ("failure", "failures") for per in ("s", "min", "h", "d", "year")},
    "0.11 failures/year",
)  # fmt: skip
PARAMETERS = Dimension(
    "number of parameters", "parameters", {"parameters": 1.0, "Mparameters": 1e6, "Gparameters": 1e9}, "8 Gparameters"
)
_DIMENSIONS = (BYTES, BANDWIDTH, COMPUTE, POWER, DURATION, MONEY, HOURLY_PRICE, TOKENS, RATE, FREQUENCY, PARAMETERS)

_NUMBER = r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_BARE_NUMBER = re.compile(rf"{_NUMBER}\s*")
_QUANTITY = re.compile(rf"{_NUMBER}(\s*)([^\W\d_].*?)\s*")
_NOT_FINITE = re.compile(r"\s*[-+]?\.?(?:nan|inf|infinity)(?:\s.*)?", re.IGNORECASE)
_COMMA = re.compile(r"\s*[-+]?[\d.]*\d,\d.*")


def parse_quantity(value: object, dimension: Dimension) -> float:
    """Return a written quantity in the SI unit of its dimension.

    Parameters
    ----------
    value : object
        What YAML gave: a string such as `3.35 TB/s`.
    dimension : Dimension
        What is expected.

    Returns
    -------
    float
        Value [dimension.si_unit], finite and not negative.

    Raises
    ------
    ValueError
        Bare number, no number, unknown or wrong unit, negative, NaN or infinite; the message says how
        to write it.

    """
    how = f"write a number and a unit, such as {dimension.example!r}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"a {dimension.name} is needed; {how}")
    if not isinstance(value, str) or _BARE_NUMBER.fullmatch(value):
        raise ValueError(f"a bare number has no unit; {how}")
    if _NOT_FINITE.fullmatch(value):
        raise ValueError(f"a {dimension.name} must be finite; {how}")
    if _COMMA.fullmatch(value):
        raise ValueError(f"a number has no comma; {how}")
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ValueError(f"this is not a {dimension.name}; {how}")
    number, space, unit = float(match[1].replace("_", "")), match[2], match[3].replace("\u03bc", "\u00b5")
    if unit not in dimension.factors:
        raise ValueError(_wrong_unit(unit, dimension))
    if not space:
        raise ValueError(f"a space is missing; write '{match[1]} {unit}'")
    if number < 0:
        raise ValueError(f"a {dimension.name} cannot be negative; {how}")
    factor = dimension.factors[unit]
    # a small unit is one over a whole number: dividing by that rounds once, and 5 us is 5e-6 s to the last bit
    result = number * factor if factor >= 1.0 else number / round(1.0 / factor)
    if not math.isfinite(result):
        raise ValueError(f"a {dimension.name} must be finite; {how}")
    return result


def dimension_of(text: str) -> Dimension | None:
    """Return the dimension of a written quantity, such as `5 requests/s`; None for any other text."""
    match = _QUANTITY.fullmatch(text)
    return None if match is None else next((each for each in _DIMENSIONS if match[3] in each.factors), None)


def more_than_zero(value: float) -> float:
    """Return a value that exceeds zero; ValueError where it does not."""
    if not value > 0.0:
        raise ValueError("must be more than 0")
    return value


def _wrong_unit(unit: str, dimension: Dimension) -> str:
    others = [each.name for each in _DIMENSIONS if unit in each.factors]
    problem = f"{unit!r} is a unit of {others[0]}, not of {dimension.name}" if others else f"unknown unit {unit!r}"
    known = sorted(dimension.factors, key=lambda name: (dimension.factors[name], name))
    near = [name for name in known if name.casefold() == unit.casefold()]
    near = near or difflib.get_close_matches(unit, known, n=2, cutoff=0.7)
    if near and not others:
        return f"{problem}; did you mean {' or '.join(near)}?"
    return f"{problem}; use one of {', '.join(known)}"


Bytes = Annotated[float, BYTES]
BytesPerSecond = Annotated[float, BANDWIDTH]
FlopPerSecond = Annotated[float, COMPUTE]
Watts = Annotated[float, POWER]
Seconds = Annotated[float, DURATION]
Usd = Annotated[float, MONEY]
UsdPerHour = Annotated[float, HOURLY_PRICE]
Tokens = Annotated[float, TOKENS]
RequestsPerSecond = Annotated[float, RATE]
FailuresPerSecond = Annotated[float, FREQUENCY]
Parameters = Annotated[float, PARAMETERS]
PositiveBytes = Annotated[Bytes, AfterValidator(more_than_zero)]
PositiveBytesPerSecond = Annotated[BytesPerSecond, AfterValidator(more_than_zero)]
PositiveFlopPerSecond = Annotated[FlopPerSecond, AfterValidator(more_than_zero)]
PositiveWatts = Annotated[Watts, AfterValidator(more_than_zero)]
PositiveSeconds = Annotated[Seconds, AfterValidator(more_than_zero)]
