"""Methods that shorten reasoning: what was measured before and after, by benchmark and so by difficulty."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.spec import Document, Fraction, Number, Provenance
from sim.specs.units import Tokens


class CompressionPoint(Provenance):
    """One model on one benchmark, before and after."""

    base: str
    """Model that was shortened."""

    benchmark: str
    """What was asked; harder ones have longer answers."""

    tokens_before: Tokens | None = None
    """Mean answer before [tokens]; none where only the reduction is published."""

    tokens_after: Tokens | None = None
    """Mean answer after [tokens]."""

    reduction: Annotated[Number, Field(lt=1.0)]
    """Share of the tokens that is saved; below 0 where answers grew [1]."""

    accuracy_before: Fraction | None = None
    """Share of right answers before [1]."""

    accuracy_after: Fraction | None = None
    """Share of right answers after [1]."""

    @model_validator(mode="after")
    def _reduction_is_that_of_the_tokens(self) -> Self:
        if (self.tokens_before is None) != (self.tokens_after is None):
            raise ValueError("tokens_before and tokens_after come together")
        if self.tokens_before is not None and self.tokens_after is not None:
            if not (self.tokens_before > 0.0 and self.tokens_after > 0.0):
                raise ValueError("tokens must exceed 0")
            if abs(1.0 - self.tokens_after / self.tokens_before - self.reduction) > 0.006:
                raise ValueError("reduction must be 1 - tokens_after / tokens_before")
        return self


class CompressionSpec(Document):
    """A method that shortens reasoning."""

    kind: Literal["compression"]
    """Says what the file describes."""

    shortens: bool
    """Whether it shortens a given model; if not, the numbers compare something else and are kept for the record."""

    points: Annotated[tuple[CompressionPoint, ...], Field(min_length=1)]
    """What was measured."""

    @property
    def bases(self) -> tuple[str, ...]:
        """Return the models that were shortened, in order."""
        return tuple(dict.fromkeys(point.base for point in self.points))
