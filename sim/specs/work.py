"""What traffic is for: units of work and their deadlines, whose answers it has, and how much its users ask."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.spec import Fraction, Key, Name, PositiveFraction, PositiveNumber, Provenance, Sourced, Spec
from sim.specs.units import Seconds, Tokens


class UnitSpec(Provenance):
    """How many units of work a request holds; one of the three is given."""

    per_request: PositiveNumber | None = None
    """Units of every request [1]."""

    prompt_tokens_each: Tokens | None = None
    """Prompt tokens of a unit: a request holds its prompt tokens over these [tokens]."""

    output_tokens_each: Tokens | None = None
    """Output tokens of a unit [tokens]."""

    @model_validator(mode="after")
    def _one_way_to_count(self) -> Self:
        ways = (self.per_request, self.prompt_tokens_each, self.output_tokens_each)
        given = [way for way in ways if way is not None]
        if len(given) != 1 or given[0] <= 0.0:
            raise ValueError("give one of per_request, prompt_tokens_each and output_tokens_each, above 0")
        return self


class WorkSpec(Spec):
    """Work that has to be done: what is counted, and by when."""

    units: dict[Key, UnitSpec] = Field(default_factory=dict)
    """Units by name, as `document` and `page`."""

    within: Sourced[Seconds] | None = None
    """Longest time from the arrival of a request to its end [s]."""

    finish_by: Sourced[Seconds] | None = None
    """Instant by which all requests are to be done, after the start of the run [s]."""

    @model_validator(mode="after")
    def _something_is_said(self) -> Self:
        if self.within is not None and self.finish_by is not None:
            raise ValueError("a deadline is either within a time or finish_by an instant")
        deadline = self.within or self.finish_by
        if deadline is None and not self.units:
            raise ValueError("give units, or a deadline by within or finish_by")
        if deadline is not None and deadline.value <= 0.0:
            raise ValueError("a deadline must exceed 0 s")
        return self


class UsersSpec(Spec):
    """How much a user asks, for figures per user and month."""

    per_day: Sourced[PositiveNumber]
    """Requests of a user on a day of use, or sessions where the workload has sessions [1/day]."""

    days_per_month: Sourced[PositiveNumber]
    """Days of use in a month [days/month]."""


class AnswersSpec(Provenance):
    """Whose answers `output_tokens` are, so that a scenario with another model can say how long that one answers."""

    model: Name
    """Model whose answers they are."""

    tasks: Annotated[dict[Key, PositiveFraction], Field(min_length=1)]
    """What is asked, as keys of the models' `output_lengths` -> weight."""

    form: Literal["ratio", "distribution"] = "ratio"
    """How another model changes them: by the ratio of the medians on these tasks, or by its own measured lengths."""


class ShorterAnswersSpec(Spec):
    """A method that shortens reasoning, as a scenario uses it."""

    method: Name
    """File in `compression/`."""

    adoption: Fraction = 1.0
    """Share of the requests that are shortened [1]."""

    base: Name | None = None
    """Model of the method's measurements; none means the first that has measured lengths."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks through which the law is fitted; none means all."""
