"""Sessions: calls that follow each other, each with the context of the one before."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.distributions import CountDistribution, DurationDistribution, LengthDistribution, PositiveKey
from sim.specs.prefixes import PopularitySpec
from sim.specs.spec import Fraction, Key, PositiveFraction, PositiveNumber, Provenance, Sourced, Spec
from sim.specs.units import Seconds, Tokens


class SpokenGap(Provenance):
    """The time in which an answer and the next message are spoken."""

    distribution: Literal["spoken"]
    """Says how the gap is described."""

    answer_tokens_per_s: PositiveNumber
    """Tokens of the answer that are spoken in a second [tokens/s]."""

    message_tokens_per_s: PositiveNumber
    """Tokens of the next message that are spoken in a second [tokens/s]."""

    pause: Seconds
    """Silence between the two, and what else does not depend on the lengths [s]."""


Gap = Annotated[DurationDistribution | SpokenGap, Field(discriminator="distribution")]


class ContextBand(Spec):
    """New tokens of contexts of some size."""

    from_tokens: Tokens
    """Contexts, answers included, of this size and longer, up to the next entry [tokens]."""

    new_tokens: LengthDistribution
    """What the next prompt has beyond the last prompt and its answer [tokens]."""

    without_new_tokens: Fraction = 0.0
    """Share of these follow-ups that bring nothing new [1]."""


class FollowUpSpec(Spec):
    """One way in which a session goes on after an answer."""

    share: Sourced[PositiveFraction]
    """Share of the follow-ups [1]."""

    gap: Gap
    """Time between the answer and the next call [s]."""

    new_tokens: LengthDistribution
    """What the next prompt has beyond the last prompt and its answer: a tool's result, a message [tokens]."""

    new_tokens_from_call: dict[PositiveKey, LengthDistribution] = Field(default_factory=dict)
    """Number of a call in its session, from 2 -> new tokens of this and later calls, up to the next entry, in place of
    `new_tokens`; as when an agent reads first [tokens]."""

    without_new_tokens: Sourced[Fraction] | None = None
    """Share of these follow-ups that bring nothing new [1]."""

    new_tokens_from_context: tuple[ContextBand, ...] = ()
    """New tokens by the context that they are added to, from the first `from_tokens` on, in place of the others for
    calls from the last entry of `new_tokens_from_call` on."""

    @model_validator(mode="after")
    def _contexts_rise(self) -> Self:
        sizes = [entry.from_tokens for entry in self.new_tokens_from_context]
        if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
            raise ValueError("from_tokens must rise from entry to entry")
        if sizes and isinstance(self.gap, SpokenGap):
            raise ValueError("a spoken gap lasts as long as its new tokens, which may not depend on the context")
        return self


class CompactionHazard(Spec):
    """Chance that a context of some size is compacted."""

    from_tokens: Tokens
    """Contexts of this size and longer, up to the next entry [tokens]."""

    hazard: Fraction
    """Probability that the next call comes with a compacted context instead [1]."""


class CompactionSpec(Provenance):
    """How a context that has become long is replaced by a summary."""

    hazards: Annotated[tuple[CompactionHazard, ...], Field(min_length=1)]
    """Chances by size; below the first entry nothing is compacted. A hazard of 1 is a limit."""

    context_tokens: LengthDistribution
    """Context after a compaction; never longer than before, and longer than the instructions [tokens]."""

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        sizes = [entry.from_tokens for entry in self.hazards]
        if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
            raise ValueError("from_tokens must rise from entry to entry")
        return self


class SubAgentsSpec(Provenance):
    """Sessions that are started inside a session and run beside each other; the session waits for the longest."""

    share_of_sessions: Fraction
    """Share of the sessions that do this, once [1]."""

    at_once: CountDistribution
    """Number that are started together."""

    calls: CountDistribution
    """Calls of each."""

    task_tokens: LengthDistribution
    """What a sub-agent is told on top of the instructions [tokens]."""


class SessionKindSpec(Spec):
    """Another kind of session, as one that resumes an old context."""

    share: Sourced[PositiveFraction]
    """Share of the sessions that are of this kind [1]."""

    prompt_tokens: LengthDistribution
    """What the first prompt has on top of the instructions [tokens]."""

    calls: CountDistribution
    """Calls of a session of this kind."""

    follow_ups: Annotated[dict[Key, FollowUpSpec], Field(min_length=1)] | None = None
    """How these sessions go on; none means as the others do."""

    compaction: CompactionSpec | None = None
    """How their contexts are shortened; none means that they only grow."""


class SessionsSpec(Spec):
    """Closed-loop sessions: the first call arrives, every other one follows the completion of the one before."""

    calls: CountDistribution
    """Calls of a session, without those of sub-agents."""

    instructions_tokens: LengthDistribution | None = None
    """System prompt and tools, with which every prompt of the session begins [tokens]; none where the first prompt
    holds them."""

    instructions_cached: bool
    """Whether the first call finds the instructions in the prefix cache, left there by other sessions; instructions of
    one length are then the same ones."""

    instructions_popularity: PopularitySpec | None = None
    """How sessions are spread over different instructions, whose lengths are then those of `instructions_tokens`; none
    means one for each length, or where they are not cached one for each session."""

    follow_ups: Annotated[dict[Key, FollowUpSpec], Field(min_length=1)]
    """How sessions go on, by name; rounded shares are normalised to sum to one."""

    compaction: CompactionSpec | None = None
    """How long contexts are shortened; none means that they only grow."""

    sub_agents: SubAgentsSpec | None = None
    """Sessions inside the session; none means that there are none."""

    other_kinds: dict[Key, SessionKindSpec] = Field(default_factory=dict)
    """Kinds of sessions beside the one described here, which has the rest of the shares."""

    call_time: Sourced[Seconds]
    """Typical time of a call, by which sessions that began before the run are put where they would be [s]."""

    lead_in: Sourced[Seconds]
    """Time before the run in which sessions began; those not over at its start go on in their middle [s]."""

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        if self.instructions_popularity is not None and self.instructions_tokens is None:
            raise ValueError("instructions_popularity needs instructions_tokens")
        if sum(kind.share.value for kind in self.other_kinds.values()) >= 1.0:
            raise ValueError("shares of the other kinds must leave some sessions of the kind described here")
        for ways in (self.follow_ups, *(kind.follow_ups for kind in self.other_kinds.values())):
            _check_shares(ways or self.follow_ups)
        return self


def _check_shares(ways: dict[str, FollowUpSpec]) -> None:
    total = sum(entry.share.value for entry in ways.values())
    if abs(total - 1.0) > 0.01:
        raise ValueError(f"shares of the follow-ups must sum to 1 (within 1%), they sum to {total:g}")
