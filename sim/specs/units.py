"""Units: YAML writes `3.35 TB/s`, memory holds SI floats; the unit of a field is its type.

A quantity is a finite, non-negative number, a space, and a unit of the field's dimension. A bare number, a
wrong dimension, a negative number, NaN or infinity is an error. GB (1e9 B) and GiB
(2**30 B) are different units.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
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
MONEY = Dimension("money", "USD", {"USD": 1.0, "kUSD": 1e3, "MUSD": 1e6}, "30000 USD")
HOURLY_PRICE = Dimension("price per hour", "USD/h", {"USD/h": 1.0, "USD/year": 1.0 / 8766.0}, "2.95 USD/h")
TOKENS = Dimension("tokens", "tokens", _TOKENS, "8192 tokens")
RATE = Dimension(
    "request rate", "requests/s",
    {f"{word}/{per}": 1.0 / _TIME[per] for word in ("request", "requests") for per in ("s", "min", "h", "d")},
    "5 requests/s",
)  # fmt: skip
PARAMETERS = Dimension(
    "parameters", "parameters", {"parameters": 1.0, "Mparameters": 1e6, "Gparameters": 1e9}, "8 Gparameters"
)

_QUANTITY = re.compile(r"^\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s+(\S.*?)\s*$")


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
    if isinstance(value, bool) or value is None:
        raise ValueError(f"a {dimension.name} is needed; {how}")
    if isinstance(value, (int, float)):
        raise ValueError(f"a bare number has no unit; {how}")
    if not isinstance(value, str):
        raise ValueError(f"a {dimension.name} is needed; {how}")
    match = _QUANTITY.match(value)
    if match is None:
        raise ValueError(f"this is not a {dimension.name}; {how}")
    number, unit = float(match.group(1).replace("_", "")), match.group(2)
    if unit not in dimension.factors:
        known = ", ".join(sorted(dimension.factors, key=lambda name: (dimension.factors[name], name)))
        raise ValueError(f"unit {unit!r} does not measure {dimension.name}; use one of {known}")
    if not math.isfinite(number):
        raise ValueError(f"a {dimension.name} must be finite; {how}")
    if number < 0:
        raise ValueError(f"a {dimension.name} cannot be negative; {how}")
    return number * dimension.factors[unit]


Bytes = Annotated[float, BYTES]
BytesPerSecond = Annotated[float, BANDWIDTH]
FlopPerSecond = Annotated[float, COMPUTE]
Watts = Annotated[float, POWER]
Seconds = Annotated[float, DURATION]
Usd = Annotated[float, MONEY]
UsdPerHour = Annotated[float, HOURLY_PRICE]
Tokens = Annotated[float, TOKENS]
RequestsPerSecond = Annotated[float, RATE]
Parameters = Annotated[float, PARAMETERS]
