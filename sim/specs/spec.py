"""The frozen spec that every described thing is, and the number that carries its source."""

from __future__ import annotations

import datetime
import enum
from typing import Annotated, Generic, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

EVERYTHING = "all"
"""The name that stands for all classes and all pools in results, and that none of them may have."""


def _no_truth(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")
    return value


def _no_number(value: object) -> object:
    if isinstance(value, int | float):
        raise ValueError("must be a date of the calendar, such as 2025-05-15")
    return value


def _not_everything(name: str) -> str:
    if name == EVERYTHING:
        raise ValueError(f"the name {EVERYTHING!r} stands for everything in results; choose another")
    return name


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=80)]
Number = Annotated[float, BeforeValidator(_no_truth)]
Fraction = Annotated[Number, Field(ge=0.0, le=1.0)]
PositiveFraction = Annotated[Number, Field(gt=0.0, le=1.0)]
PositiveInteger = Annotated[int, Field(gt=0, strict=True)]
NonNegativeInteger = Annotated[int, Field(ge=0, strict=True)]
PositiveNumber = Annotated[Number, Field(gt=0.0)]
Date = Annotated[datetime.date, BeforeValidator(_no_number)]
Key = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=60)]
OwnKey = Annotated[Key, AfterValidator(_not_everything)]


class Spec(BaseModel):
    """A described thing: frozen, no unknown keys, no NaN; a change is a new spec."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,
    )


class Confidence(enum.StrEnum):
    """How far a number can be trusted; the scale of the fact tables."""

    PUBLISHED_SPEC = "published_spec"
    PUBLISHED_SPEC_VIA_SECONDARY = "published_spec_via_secondary"
    MEASURED = "measured"
    VENDOR_CLAIM = "vendor_claim"
    ANALYST_ESTIMATE = "analyst_estimate"
    DERIVED = "derived"
    ASSUMPTION = "assumption"


ASSUMPTION_SOURCE = "assumption"
"""The one source key that needs no citation: the number is ours and marked as such."""


class Provenance(Spec):
    """Where numbers come from."""

    source: Annotated[tuple[str, ...], Field(min_length=1)]
    """Keys into the file's `sources`, or `assumption`."""

    confidence: Confidence
    """How far the numbers can be trusted."""

    note: str = ""
    """Conflicts, scope, and what a reader has to know."""

    @model_validator(mode="after")
    def _assumptions_are_marked(self) -> Self:
        if ASSUMPTION_SOURCE in self.source and self.confidence is not Confidence.ASSUMPTION:
            raise ValueError("a number whose source is an assumption has confidence 'assumption'")
        return self


Value = TypeVar("Value")


class Sourced(Provenance, Generic[Value]):
    """A number with its source and, where it is disputed, its range."""

    value: Value
    """The value to plan with."""

    low: Value | None = None
    """Lower end where the number is disputed or uncertain."""

    high: Value | None = None
    """Upper end where the number is disputed or uncertain."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        if not low <= self.value <= high:  # type: ignore[operator]
            raise ValueError("low, value and high must be in this order")
        return self


class Document(Spec):
    """What every YAML file of the library has."""

    name: Name
    """Name by which other files refer to it; the file is `<name>.yaml`."""

    title: str
    """One line for tables."""

    description: str = ""
    """What a reader should know before using it."""

    sources: dict[str, str] = Field(default_factory=dict)
    """Source key -> citation; every `source` in the file refers to one of these keys."""
