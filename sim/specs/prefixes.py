"""What prompts begin with and share: assumed shares and lengths, and shared beginnings with their popularity."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.specs.distributions import LengthDistribution
from sim.specs.spec import Fraction, Number, PositiveInteger, Provenance, Sourced, Spec

MOST_GROUPS = 10_000_000
"""Most shared beginnings of a workload; their popularity is a table."""


class PopularitySpec(Provenance):
    """How requests are spread over shared beginnings: the k-th most popular one has a share as k**-exponent (Zipf)."""

    groups: Annotated[PositiveInteger, Field(le=MOST_GROUPS)]
    """Number of different beginnings."""

    exponent: Annotated[Number, Field(ge=0.0, le=10.0)]
    """Exponent of the shares; 0 makes all equally popular [1]."""


class HitFractionPrefix(Spec):
    """The same share of every prompt is found in the prefix cache."""

    kind: Literal["hit_fraction"]
    """Says how the share is described."""

    fraction: Sourced[Fraction]
    """Share of the prompt tokens that is found; the last prompt token is always computed [1]."""


class UncachedLengthsPrefix(Spec):
    """A prompt of any length brings so many new tokens; all before them are found in the prefix cache."""

    kind: Literal["uncached_lengths"]
    """Says how the share is described."""

    uncached_tokens: LengthDistribution
    """New tokens of a prompt, independent of its length; where they exceed the prompt, nothing is found."""


class SharedPrefix(Spec):
    """Prompts begin with one of many beginnings, such as documents, and go on with tokens of their own."""

    kind: Literal["shared"]
    """Says how the share is described."""

    popularity: PopularitySpec
    """How often each beginning is asked for."""

    tokens: LengthDistribution
    """Lengths of the beginnings, each the same in every request that has it [tokens]."""

    share_of_requests: Sourced[Fraction] | None = None
    """Share of the requests that begin so; none means all [1]."""


Prefix = Annotated[HitFractionPrefix | UncachedLengthsPrefix | SharedPrefix, Field(discriminator="kind")]
