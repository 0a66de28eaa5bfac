"""Specs are frozen and know their keys, and no number stands without its source and in the right order."""

from __future__ import annotations

import datetime
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sim.specs.library import KINDS, spec_type
from sim.specs.spec import (
    ASSUMPTION_SOURCE,
    EVERYTHING,
    Confidence,
    Date,
    Document,
    Fraction,
    Key,
    Name,
    NonNegativeInteger,
    OwnKey,
    PositiveFraction,
    PositiveInteger,
    PositiveNumber,
    Provenance,
    Sourced,
    Spec,
)
from sim.specs.units import BytesPerSecond

MEASURED: dict[str, Any] = {"source": ["REPORT"], "confidence": "measured"}
NUMBERS = (Fraction, PositiveFraction, PositiveNumber)


def accepted(annotation: Any, value: object) -> bool:
    try:
        TypeAdapter(annotation).validate_python(value)
    except ValidationError:
        return False
    return True


def refusal(spec: type[Spec], data: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        spec.model_validate(data)
    return str(caught.value)


finite = st.floats(-1e9, 1e9)


@example(low=0.0, value=-1.0, high=None)
@example(low=None, value=1.0, high=0.0)
@given(low=st.none() | finite, value=finite, high=st.none() | finite)
def test_a_sourced_number_exists_exactly_when_low_value_and_high_are_in_order(
    low: float | None, value: float, high: float | None
) -> None:
    ordered = (low is None or low <= value) and (high is None or value <= high)
    data = {"value": value, "low": low, "high": high} | MEASURED
    if ordered:
        sourced = Sourced[float].model_validate(data)
        assert (sourced.low, sourced.value, sourced.high) == (low, value, high)
    else:
        assert "low, value and high must be in this order" in refusal(Sourced[float], data)


@given(value=finite)
def test_a_range_may_touch_its_value(value: float) -> None:
    touching = Sourced[float].model_validate({"value": value, "low": value, "high": value} | MEASURED)
    assert touching.low == touching.value == touching.high


def test_low_and_high_are_compared_in_si_units_and_not_as_written() -> None:
    data = {"value": "1 TB/s", "low": "900 GB/s", "high": "1.1 TB/s"} | MEASURED
    assert Sourced[BytesPerSecond].model_validate(data).low == 9e11
    assert "in this order" in refusal(Sourced[BytesPerSecond], data | {"low": "1001 GB/s"})
    assert "a bare number has no unit" in refusal(Sourced[BytesPerSecond], data | {"high": 2})


@pytest.mark.parametrize("key", ["value", "source", "confidence"])
def test_a_number_without_value_source_or_confidence_is_refused(key: str) -> None:
    data = {"value": 1.0} | MEASURED
    del data[key]
    assert f"{key}\n  Field required" in refusal(Sourced[float], data)


@pytest.mark.parametrize("source", [[], None, "REPORT", [None], [["REPORT"]], {"REPORT": 1}])
def test_a_source_is_a_list_of_at_least_one_key(source: object) -> None:
    assert "source" in refusal(Provenance, {"source": source, "confidence": "measured"})


def test_confidence_is_one_of_the_scale_of_the_fact_tables() -> None:
    assert [each.value for each in Confidence] == [
        "published_spec", "published_spec_via_secondary", "measured", "vendor_claim", "analyst_estimate", "derived",
        "assumption",
    ]  # fmt: skip
    assert "confidence" in refusal(Provenance, {"source": ["REPORT"], "confidence": "certain"})


@pytest.mark.parametrize("confidence", list(Confidence))
@pytest.mark.parametrize("source", [["assumption"], ["REPORT", "assumption"], ["REPORT"]])
def test_only_what_is_marked_as_an_assumption_may_name_it_as_its_source(source: list[str], confidence: Any) -> None:
    data = {"source": source, "confidence": confidence.value}
    if ASSUMPTION_SOURCE in source and confidence is not Confidence.ASSUMPTION:
        assert "a number whose source is an assumption has confidence 'assumption'" in refusal(Provenance, data)
    else:
        assert Provenance.model_validate(data).source == tuple(source)


def test_a_spec_cannot_be_changed_in_place() -> None:
    provenance = Provenance.model_validate(MEASURED)
    with pytest.raises(ValidationError, match="frozen"):
        provenance.note = "changed"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        del provenance.source
    assert provenance == Provenance.model_validate(MEASURED)


def all_specs(spec: type[Spec]) -> set[type[Spec]]:
    return {spec}.union(*(all_specs(each) for each in spec.__subclasses__()))


def test_every_spec_is_frozen_forbids_unknown_keys_and_nan_and_describes_its_fields() -> None:
    documents = {spec_type(kind) for kind in KINDS}  # specs are read in when their kind is asked for
    specs = all_specs(Spec)
    assert documents < specs
    for spec in specs:
        assert spec.model_config["frozen"]
        assert spec.model_config["extra"] == "forbid"
        assert spec.model_config["allow_inf_nan"] is False
        assert spec.model_config["validate_default"]
        for name, field in spec.model_fields.items():
            assert field.description, f"{spec.__name__}.{name} is not described"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, "nan", "inf"])
@pytest.mark.parametrize("key", ["value", "low", "high"])
def test_no_number_is_nan_or_infinite(key: str, number: object) -> None:
    assert f"{key}\n  Input should be a finite number" in refusal(
        Sourced[float], {"value": 1.0, key: number} | MEASURED
    )


def test_fractions_positive_numbers_and_whole_numbers_end_where_they_say() -> None:
    assert [value for value in (-1e-9, 0, 0.0, 0.5, 1, 1.0, 1.0000001) if accepted(Fraction, value)] == [
        0,
        0.0,
        0.5,
        1,
        1.0,
    ]
    assert [value for value in (-1e-9, 0, 0.0, 1e-300, 1, 1.1) if accepted(PositiveFraction, value)] == [1e-300, 1]
    assert [value for value in (-1, 0, 1e-300, 1e300) if accepted(PositiveNumber, value)] == [1e-300, 1e300]
    assert [value for value in (-1, 0, 1, 1.0, 1.5, "1", True, None) if accepted(PositiveInteger, value)] == [1]
    assert [
        value for value in (-1, 0, 1, 0.0, "0", False) if accepted(NonNegativeInteger, value) and value is not False
    ] == [0, 1]
    assert not accepted(NonNegativeInteger, False)


@pytest.mark.parametrize("annotation", NUMBERS)
def test_true_is_not_the_number_one(annotation: Any) -> None:
    assert accepted(annotation, 1)
    assert not accepted(annotation, True)
    with pytest.raises(ValidationError, match="must be a number, not true or false"):
        TypeAdapter(annotation).validate_python(True)


@pytest.mark.parametrize("annotation", NUMBERS)
def test_what_yaml_reads_as_text_but_is_a_number_is_a_number(annotation: Any) -> None:
    assert TypeAdapter(annotation).validate_python("1e-3") == 0.001


def test_a_date_is_a_day_of_the_calendar_and_not_a_count_of_seconds() -> None:
    assert TypeAdapter(Date).validate_python("2025-05-15") == datetime.date(2025, 5, 15)
    assert accepted(Date, datetime.date(2025, 5, 15))
    for wrong in (2025, 0, 86400, 20250515, True, 2025.5, "2025", "May 2025", "2025-13-01", ""):
        assert not accepted(Date, wrong), wrong


def test_names_are_lower_case_and_only_the_name_of_everything_is_taken() -> None:
    for annotation in (Name, Key, OwnKey):
        assert all(accepted(annotation, name) for name in ("a", "chat", "h100-sxm", "8b", "a_b", "alls", "al"))
        assert not any(
            accepted(annotation, name) for name in ("", "Chat", "-a", "_a", "a b", "a/b", "ä", 7, None, True)
        )
    assert accepted(Name, "llama-3.1-8b")
    assert not accepted(Key, "llama-3.1-8b")
    assert accepted(Key, EVERYTHING)
    with pytest.raises(ValidationError, match="the name 'all' stands for everything in results; choose another"):
        TypeAdapter(OwnKey).validate_python("all")
    assert (accepted(Name, "a" * 80), accepted(Name, "a" * 81)) == (True, False)
    assert (accepted(Key, "a" * 60), accepted(Key, "a" * 61)) == (True, False)


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_is_a_document_that_says_its_kind_and_has_a_schema_for_editors(kind: str) -> None:
    spec = spec_type(kind)
    assert issubclass(spec, Document)
    schema = spec.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"]["const"] == kind
    assert {"kind", "name", "title"} <= set(schema["required"])
    assert all("description" in field for field in schema["properties"].values())
