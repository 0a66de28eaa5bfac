"""A published claim as a study: what is simulated, what is uncertain, and when the claim counts as holding."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sim.specs.claim_inputs import InputSpec, Symbol
from sim.specs.fleet import ParallelismSpec
from sim.specs.horizon import LeverName
from sim.specs.spec import Date, Document, Fraction, Number, PositiveInteger, PositiveNumber, Spec


class ShorteningSpec(Spec):
    """Answers shortened by a compression method: T' = (1 - r) T + min(r T, c (r T)^b)."""

    method: str
    """Name in `compression/`, whose measured means give c and b."""

    base: str | None = None
    """Model whose means are taken; none means the first."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks whose means are taken; empty means all."""

    reasoning_share: Fraction = 1.0
    """Share r of an answer that is reasoning [1]."""


class FleetStudy(Spec):
    """A fleet that is sized by simulation to meet the service levels of a scenario at least cost."""

    like: Symbol | None = None
    """Another fleet of the study, of which this one is a delta."""

    scenario: str | None = None
    """Scenario with load, pool and service levels; that of `like` where none is given."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Changes of the scenario: dotted path -> value."""

    documents: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes of what it refers to: `kind/name` -> {dotted path: value}, as in `hardware/h100-sxm`."""

    layouts: tuple[ParallelismSpec, ...] = ()
    """Layouts of a replica to choose from; empty means tensor parallelism of all powers of two that fit."""

    batch_limits: tuple[PositiveInteger, ...] = ()
    """Limits on the sequences of a replica to choose from; empty means the scenario's."""

    shortened: ShorteningSpec | None = None
    """Compression of all answers."""

    least_replicas: PositiveInteger | None = None
    """All rates are raised until the fleet has this many replicas, so that whole replicas hardly matter; 20 if none."""

    saturated: bool = False
    """Whether queues never empty and latency does not matter, so that the mean field says what is served."""


class MonthStudy(Spec):
    """What a use case of a horizon costs in a month."""

    horizon: str
    """Name of the horizon."""

    set: dict[str, Any] = Field(default_factory=dict)
    """Changes of the horizon: dotted path -> value."""

    case: str
    """Use case."""

    month: Date
    """First day of the month."""

    levers: tuple[LeverName, ...] | None = None
    """Levers that are on; none means the horizon's."""

    path: Literal["low", "base", "high"] = "base"
    """Price path."""

    ceiling: PositiveNumber | None = None
    """Cost of a unit below which the first month is sought [USD]."""


class LengthStudy(Spec):
    """What a compression method leaves of the answers of a workload."""

    workload: str
    """Workload with the answers before."""

    shortened: ShorteningSpec
    """The method."""


class AttributionStudy(Spec):
    """Levers that act on one fleet: every set of them is sized by simulation, and each gets its Shapley value."""

    fleet: Symbol
    """Fleet with no lever."""

    levers: Annotated[dict[Symbol, FleetStudy], Field(min_length=2, max_length=5)]
    """Changes of that fleet, by lever."""

    figure: Literal["usd_per_request", "usd_per_million_output", "accelerators_per_request"] = "usd_per_request"
    """Figure of the fleet whose fall is attributed; values are those of its logarithm, so that factors multiply."""


class FigureSpec(Spec):
    """A number on the way to the answer."""

    text: str
    """What it is."""

    formula: str
    """Formula over inputs, fleets, months, lengths and earlier figures."""

    unit: str
    """Unit, `1` for a ratio or share."""


class PartSpec(FigureSpec):
    """A statement that is true or false: a number against what is claimed of it."""

    at_least: Number | None = None
    """True where the number is at least this."""

    at_most: Number | None = None
    """True where the number is at most this."""

    may: bool = False
    """Whether only its possibility is claimed: it holds if it is not surely false."""

    role: Literal["claim", "case"] = "claim"
    """Whether it is part of the claim, or a case beside it that shows where the claim would hold."""

    @model_validator(mode="after")
    def _something_is_claimed(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a part says at_least, at_most or both")
        return self


class ConditionSpec(Spec):
    """Under which condition a part would hold: the value of one input at which its median just does."""

    text: str
    """What the input is, as in `throughput of Vera Rubin over what is simulated`."""

    vary: Symbol
    """Input."""

    between: Annotated[tuple[Number, Number], Field(min_length=2, max_length=2)]
    """Values between which it is sought."""

    part: Symbol | None = None
    """Part; none means the first."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.between[0] < self.between[1]:
            raise ValueError("between takes a smaller and a larger value")
        return self


class ClaimSpec(Document):
    """A claim, how it is put to the test, and when it counts as holding."""

    kind: Literal["claim"]
    """Says what the file describes."""

    id: Annotated[str, Field(pattern=r"^C[0-9]{2}$")]
    """Number of the claim."""

    claim: str
    """The claim in words."""

    claimed: str
    """What is claimed, as a number with its unit."""

    inputs: dict[Symbol, InputSpec] = Field(default_factory=dict)
    """What is uncertain, or looked up."""

    fleets: dict[Symbol, FleetStudy] = Field(default_factory=dict)
    """Fleets that are simulated."""

    months: dict[Symbol, MonthStudy] = Field(default_factory=dict)
    """Costs out of horizons."""

    lengths: dict[Symbol, LengthStudy] = Field(default_factory=dict)
    """Answers before and after compression."""

    attributions: dict[Symbol, AttributionStudy] = Field(default_factory=dict)
    """Levers that act together."""

    figures: dict[Symbol, FigureSpec] = Field(default_factory=dict)
    """Numbers on the way, in order."""

    parts: Annotated[dict[Symbol, PartSpec], Field(min_length=1)]
    """Statements; the first gives the interval of the claim."""

    surely: Annotated[Number, Field(gt=0.5, le=1.0)] = 0.9
    """Share of the samples in which a part must be true to hold; it does not hold below 1 minus this [1]."""

    conditions: tuple[ConditionSpec, ...] = ()
    """Under which conditions it would hold."""

    assumed: Annotated[tuple[str, ...], Field(min_length=1)]
    """What was assumed."""

    because: str
    """Why the numbers come out as they do; `{name}` stands for the median of an input, figure or part."""

    @model_validator(mode="after")
    def _names_are_of_one_thing_each(self) -> Self:
        groups = (self.inputs, self.fleets, self.months, self.lengths, self.attributions, self.figures, self.parts)
        names = [name for group in groups for name in group]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"a name stands for one thing only: {', '.join(twice)}")
        if not any(part.role == "claim" for part in self.parts.values()) or (
            next(iter(self.parts.values())).role != "claim"
        ):
            raise ValueError("the first part has role claim")
        return self
