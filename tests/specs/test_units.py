"""Units: what is written is what is meant, to the last bit, and each wrong quantity is told how to be written."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sim.specs import units
from sim.specs.units import (
    BANDWIDTH,
    BYTES,
    COMPUTE,
    DURATION,
    FREQUENCY,
    HOURLY_PRICE,
    MONEY,
    PARAMETERS,
    POWER,
    RATE,
    TOKENS,
    Dimension,
    parse_quantity,
)

DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
DAY = 86400
EXACT: dict[Dimension, dict[str, Fraction | int]] = {
    BYTES: {f"{prefix}B": scale for prefix, scale in (DECIMAL | BINARY).items()},
    BANDWIDTH: {f"{prefix}B/s": scale for prefix, scale in (DECIMAL | BINARY).items()}
    | {f"{prefix}b/s": Fraction(scale, 8) for prefix, scale in DECIMAL.items()},
    COMPUTE: {f"{prefix}{word}/s": scale for word in ("FLOP", "OP") for prefix, scale in DECIMAL.items()},
    POWER: {f"{prefix}W": scale for prefix, scale in DECIMAL.items()},
    DURATION: {
        "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6), "ms": Fraction(1, 1000),
        "s": 1, "min": 60, "h": 3600, "d": DAY, "year": Fraction(36525 * DAY, 100),
    },
    MONEY: {"USD": 1, "kUSD": 1000, "MUSD": 10**6},
    HOURLY_PRICE: {"USD/h": 1, "USD/year": Fraction(1, 8766)},
    TOKENS: {"token": 1, "tokens": 1, "ktokens": 1000, "Mtokens": 10**6},
    RATE: {
        f"{word}/{per}": Fraction(1, seconds)
        for word in ("request", "requests") for per, seconds in (("s", 1), ("min", 60), ("h", 3600), ("d", DAY))
    },
    FREQUENCY: {
        f"{word}/{per}": Fraction(1, seconds)
        for word in ("failure", "failures")
        for per, seconds in (("s", 1), ("min", 60), ("h", 3600), ("d", DAY), ("year", 36525 * DAY // 100))
    },
    PARAMETERS: {"parameters": 1, "Mparameters": 10**6, "Gparameters": 10**9},
}  # fmt: skip
EVERY_UNIT = [(dimension, unit) for dimension, factors in EXACT.items() for unit in factors]
EVERY_DIMENSION = list(EXACT)
ids = [f"{dimension.si_unit} as {unit}" for dimension, unit in EVERY_UNIT]


def message(value: object, dimension: Dimension) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_quantity(value, dimension)
    return str(caught.value)


def how(dimension: Dimension) -> str:
    return f"write a number and a unit, such as {dimension.example!r}"


def test_the_tables_hold_these_units_and_no_others() -> None:
    declared = [each for each in vars(units).values() if isinstance(each, Dimension)]
    assert set(declared) == set(EXACT)
    for dimension, factors in EXACT.items():
        assert set(dimension.factors) == set(factors)


@pytest.mark.parametrize(("dimension", "unit"), EVERY_UNIT, ids=ids)
def test_one_of_each_unit_is_its_exact_si_value(dimension: Dimension, unit: str) -> None:
    assert parse_quantity(f"1 {unit}", dimension) == float(Fraction(EXACT[dimension][unit]))


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
@given(number=st.floats(min_value=1e-200, max_value=1e200))
def test_a_number_in_any_unit_is_its_si_value_to_the_last_bit(dimension: Dimension, number: float) -> None:
    for unit, factor in EXACT[dimension].items():
        parsed = parse_quantity(f"{number!r} {unit}", dimension)
        assert parsed == float(Fraction(number) * Fraction(factor))


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
@given(number=st.floats(min_value=0.0, allow_infinity=False))
def test_a_quantity_written_in_the_si_unit_comes_back_to_the_last_bit(dimension: Dimension, number: float) -> None:
    assert parse_quantity(f"{number!r} {dimension.si_unit}", dimension) == number


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
def test_the_example_of_each_dimension_can_be_written(dimension: Dimension) -> None:
    assert parse_quantity(dimension.example, dimension) > 0.0
    assert dimension.factors[dimension.si_unit] == 1.0


def test_gb_and_gib_are_different_units() -> None:
    assert parse_quantity("80 GB", BYTES) == 80e9
    assert parse_quantity("80 GiB", BYTES) == 85899345920.0
    assert parse_quantity("400 Gb/s", BANDWIDTH) == 50e9 == parse_quantity("50 GB/s", BANDWIDTH)


@pytest.mark.parametrize(
    ("written", "value"),
    [("3.35 TB/s", 3.35e12), ("1_000 GB/s", 1e12), ("  8e11   B/s ", 8e11), (".5 TB/s", 5e11), ("5. GB/s", 5e9),
     ("+1 GB/s", 1e9), ("1E3 GB/s", 1e12), ("0 GB/s", 0.0)],
)  # fmt: skip
def test_ways_to_write_a_number(written: str, value: float) -> None:
    assert parse_quantity(written, BANDWIDTH) == value


def test_both_signs_for_micro_are_read() -> None:
    assert parse_quantity("5 \u00b5s", DURATION) == parse_quantity("5 \u03bcs", DURATION) == 5e-6


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
@pytest.mark.parametrize("bare", [5, 5.0, 0, -1, math.nan, "5", " 5.5 ", "1e3"])
def test_a_bare_number_is_told_to_have_a_unit(dimension: Dimension, bare: object) -> None:
    assert message(bare, dimension) == f"a bare number has no unit; {how(dimension)}"


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
@pytest.mark.parametrize("value", [None, True, False, [], ["5 s"], {}, {"value": "5 s"}, object()])
def test_what_is_no_quantity_at_all_is_told_what_is_needed(dimension: Dimension, value: object) -> None:
    assert message(value, dimension) == f"a {dimension.name} is needed; {how(dimension)}"


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
@pytest.mark.parametrize("text", ["", "  ", "fast", "-", "5 % of it", "1.2.3 s", "5-6 s", "nano", "information"])
def test_text_without_a_quantity_shows_how_to_write_one(dimension: Dimension, text: str) -> None:
    assert message(text, dimension) == f"this is not a {dimension.name}; {how(dimension)}"


@pytest.mark.parametrize(("dimension", "unit"), EVERY_UNIT, ids=ids)
def test_negative_infinite_and_nan_quantities_are_refused_in_every_unit(dimension: Dimension, unit: str) -> None:
    assert message(f"-1 {unit}", dimension).startswith(f"a {dimension.name} cannot be negative; write a number")
    assert message(f"-1e-9 {unit}", dimension).startswith(f"a {dimension.name} cannot be negative; write a number")
    for number in ("nan", "NaN", ".nan", "inf", "-inf", ".inf", "-.inf", "Infinity", "1e400"):
        assert message(f"{number} {unit}", dimension).startswith(f"a {dimension.name} must be finite; write a number")


def test_a_number_that_overflows_only_in_the_si_unit_is_refused() -> None:
    assert parse_quantity("1e300 B", BYTES) == 1e300
    assert "must be finite" in message("1e300 EB", BYTES)


@pytest.mark.parametrize(("dimension", "unit"), EVERY_UNIT, ids=ids)
def test_a_missing_space_is_named_and_the_right_text_shown(dimension: Dimension, unit: str) -> None:
    assert message(f"5{unit}", dimension) == f"a space is missing; write '5 {unit}'"


@pytest.mark.parametrize("text", ["1,000 W", "1,5 W", "-1,000.5 kW"])
def test_a_comma_in_a_number_is_named(text: str) -> None:
    assert message(text, POWER).startswith("a number has no comma; write a number and a unit, such as '700 W'")


@pytest.mark.parametrize("dimension", EVERY_DIMENSION, ids=lambda each: each.name)
def test_a_unit_of_another_dimension_is_named_and_the_right_ones_are_listed(dimension: Dimension) -> None:
    for other, factors in EXACT.items():
        for unit in set(factors) - set(dimension.factors):
            said = message(f"5 {unit}", dimension)
            assert said.startswith(f"{unit!r} is a unit of {other.name}, not of {dimension.name}; use one of ")
            assert set(said.split("; use one of ")[1].split(", ")) == set(dimension.factors)


@pytest.mark.parametrize(
    ("dimension", "unit", "near"),
    [(BANDWIDTH, "tb/s", "Tb/s or TB/s"), (BYTES, "gib", "GiB"), (BYTES, "Gib", "GiB"), (RATE, "req/s", "request/s"),
     (RATE, "Requests/s", "requests/s"), (RATE, "requests / s", "requests/s or request/s"),
     (TOKENS, "token s", "tokens"),
     (COMPUTE, "TFLOPS/s", "TFLOP/s"), (COMPUTE, "TFlop/s", "TFLOP/s"), (POWER, "w", "W"), (MONEY, "usd", "USD"),
     (HOURLY_PRICE, "usd/h", "USD/h"), (PARAMETERS, "gparameters", "Gparameters")],
)  # fmt: skip
def test_a_unit_written_wrong_suggests_the_right_one(dimension: Dimension, unit: str, near: str) -> None:
    assert message(f"5 {unit}", dimension).startswith(f"unknown unit {unit!r}; did you mean {near}")


def test_a_unit_like_no_other_lists_all_from_small_to_large() -> None:
    said = message("5 fortnights", DURATION)
    assert said == "unknown unit 'fortnights'; use one of ns, us, µs, ms, s, min, h, d, year"


@pytest.mark.parametrize(
    ("annotation", "zero"),
    [(units.PositiveBytes, "0 B"), (units.PositiveBytesPerSecond, "0 B/s"), (units.PositiveFlopPerSecond, "0 FLOP/s"),
     (units.PositiveWatts, "0 W"), (units.PositiveSeconds, "0 s")],
)  # fmt: skip
def test_positive_quantities_exclude_zero(annotation: Any, zero: str) -> None:
    adapter = TypeAdapter(annotation)
    assert adapter.validate_python(zero.replace("0", "1")) == 1.0
    with pytest.raises(ValidationError, match="must be more than 0"):
        adapter.validate_python(zero)


def test_the_json_schema_of_a_quantity_says_text_and_gives_an_example() -> None:
    schema = TypeAdapter(units.BytesPerSecond).json_schema()
    assert schema == {
        "type": "string", "description": "bandwidth, in memory [B/s]", "examples": ["3.35 TB/s"],
    }  # fmt: skip
