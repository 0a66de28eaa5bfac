"""What is uncertain in a study of a claim, and where its numbers come from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.spec import Number, PositiveNumber, Provenance, Spec

Symbol = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
"""A name that formulas can use."""


class RangeInput(Provenance):
    """A number between two ends; half of the probability lies on either side of its value."""

    input: Literal["range"]
    """Says where the numbers come from."""

    value: Number
    """Median."""

    low: Number
    """Lower end."""

    high: Number
    """Upper end."""

    unit: str
    """Unit, `1` for a ratio or share."""

    log: bool = False
    """Even in the logarithm between the median and each end, instead of in the number itself."""

    measurement: str = ""
    """What would have to be measured, where nothing has been: the ends are then all that is known."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError("low, value and high must be in this order")
        if self.log and not self.low > 0.0:
            raise ValueError("a range that is even in the logarithm lies above 0")
        return self


class ListInput(Provenance):
    """Numbers of which each is as likely as the others."""

    input: Literal["list"]
    """Says where the numbers come from."""

    values: Annotated[tuple[Number, ...], Field(min_length=1)]
    """The numbers."""

    unit: str
    """Unit, `1` for a ratio or share."""

    measurement: str = ""
    """What would have to be measured to tell which of them applies."""


class LibraryInput(Spec):
    """A number of another document of the library, with its low and high."""

    input: Literal["library"]
    """Says where the numbers come from."""

    document: Annotated[str, Field(pattern=r"^[a-z_]+/[a-z0-9._-]+$")]
    """Kind and name, as in `hardware/vr200-nvl72`."""

    path: str
    """Dotted path of the number, as in `memory.bandwidth`; places of a list are counted from 0."""

    unit: str
    """Unit after `times`."""

    times: PositiveNumber = 1.0
    """Factor from the document's unit (SI, or USD as it stands) to `unit` [1]."""

    measurement: str = ""
    """What would have to be measured, where nothing has been."""


class CompressionInput(Spec):
    """What a compression method was measured to do: one number a model and benchmark, each as likely."""

    input: Literal["compression"]
    """Says where the numbers come from."""

    method: str
    """Name in `compression/`."""

    figure: Literal["reduction", "accuracy_change", "elasticity"]
    """Share of tokens saved, change of the share of right answers, or exponent b of T' = c T^b by model."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks to take; empty means all."""

    bases: tuple[str, ...] = ()
    """Models to take; empty means all."""


class CurveInput(Spec):
    """Answers against thinking: one model on one benchmark at the lengths that several methods leave of it.

    Its points are the uncompressed model and what each method makes of it, in the order of their tokens.
    """

    input: Literal["curve"]
    """Says where the numbers come from."""

    methods: Annotated[tuple[str, ...], Field(min_length=2)]
    """Names in `compression/`."""

    figure: Literal["gain", "slope", "flattening"]
    """Of each piece between neighbours the change of right answers [points], the same by 1,000 tokens, or by how much
    a piece is less steep than the one before it."""

    bases: tuple[str, ...] = ()
    """Models to take; empty means all."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks to take; empty means all."""


class CoverageInput(Spec):
    """Which share of all measured compressions in the library concerns other models or benchmarks than some."""

    input: Literal["coverage"]
    """Says where the numbers come from."""

    models: tuple[str, ...] = ()
    """Beginnings of the names of the models that do not count; empty means that all models count."""

    benchmarks: tuple[str, ...] = ()
    """Beginnings of the names of the benchmarks that do not count; empty means that all benchmarks count."""


class RecordsInput(Spec):
    """Recorded prices of a horizon: what each was over the one before it in its series."""

    input: Literal["records"]
    """Says where the numbers come from."""

    horizon: str
    """Name of the horizon."""

    series: Annotated[tuple[str, ...], Field(min_length=1)]
    """Series to take."""

    yearly: bool = False
    """Ratio over a year, at the rate between the two dates, instead of the ratio itself."""


InputSpec = Annotated[
    RangeInput | ListInput | LibraryInput | CompressionInput | CurveInput | CoverageInput | RecordsInput,
    Field(discriminator="input"),
]
"""Any of these, told apart by `input`."""
