"""Who asks: how requests of one kind arrive, how long they are, and what their users expect."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.arrivals import Arrivals
from sim.specs.arrivals import GammaRenewalArrivals as GammaRenewalArrivals
from sim.specs.arrivals import PoissonArrivals as PoissonArrivals
from sim.specs.distributions import DurationDistribution
from sim.specs.distributions import FixedLengths as FixedLengths
from sim.specs.distributions import GammaLengths as GammaLengths
from sim.specs.distributions import LengthDistribution as LengthDistribution
from sim.specs.distributions import LognormalMixtureLengths as LognormalMixtureLengths
from sim.specs.distributions import QuantileTableLengths as QuantileTableLengths
from sim.specs.distributions import WholeTokens as WholeTokens
from sim.specs.prefixes import Prefix
from sim.specs.sessions import SessionsSpec
from sim.specs.spec import Document, Key, Number, Provenance, Sourced
from sim.specs.units import RequestsPerSecond, Seconds
from sim.specs.work import AnswersSpec, UsersSpec, WorkSpec

RankCorrelation = Annotated[Number, Field(gt=-1.0, lt=1.0)]


class ServiceLevelSpec(Provenance):
    """What the users of the class expect: a quantile of a metric stays within a limit."""

    metric: Literal["ttft", "tpot", "e2e"]
    """Time to first token, time per output token after the first, or time to the last token."""

    quantile: Annotated[float, Field(gt=0.0, lt=1.0)]
    """Share of the requests that must meet the limit [1]."""

    limit: Seconds
    """Longest time that is acceptable [s]."""

    @model_validator(mode="after")
    def _limit_is_positive(self) -> Self:
        if self.limit <= 0.0:
            raise ValueError("limit must exceed 0 s")
        return self


class WorkloadSpec(Document):
    """One kind of traffic: an open loop of requests, or sessions whose calls wait for each other."""

    kind: Literal["workload"]
    """Says what the file describes."""

    traffic_class: Key
    """Traffic class: continuous, agent, realtime, or the user's own."""

    rate: Sourced[RequestsPerSecond]
    """Typical mean rate over the profile, calls of sessions included [requests/s]; scenarios set their own."""

    arrivals: Arrivals
    """How requests arrive around that rate; with sessions, how their first calls do."""

    prompt_tokens: LengthDistribution
    """All tokens of a prompt, cached ones included; with sessions what the first prompt has on top of the
    instructions, and with shared prefixes what it has on top of them."""

    output_tokens: LengthDistribution
    """All generated tokens of a call, reasoning included."""

    rank_correlation: Sourced[RankCorrelation] | None = None
    """Spearman correlation of prompt and output of a request, in sessions of what is new in a follow-up and its output
    [1]; none means independent."""

    prefix: Prefix | None = None
    """How much of a prompt a prefix cache is assumed to hold; none means nothing. Sessions reuse their context."""

    sessions: SessionsSpec | None = None
    """How calls follow each other; none means that every request arrives on its own."""

    patience: DurationDistribution | None = None
    """Longest wait for a first token, after which a request, and in sessions all that follows it, is given up; one
    draw a session, or a request of its own [s]. None means that nobody gives up."""

    answers: AnswersSpec | None = None
    """Whose answers these are; none means that no model changes them."""

    work: WorkSpec | None = None
    """What is counted as work, and by when it is to be done."""

    users: UsersSpec | None = None
    """How much a user asks, for figures per user and month."""

    service_levels: tuple[ServiceLevelSpec, ...] = ()
    """What its users expect."""

    @model_validator(mode="after")
    def _rate_is_positive_and_levels_are_distinct(self) -> Self:
        if self.rate.value <= 0.0:
            raise ValueError("rate must exceed 0 requests/s")
        if self.sessions is not None and self.prefix is not None:
            raise ValueError("sessions bring their own context: leave out prefix")
        asked = [(level.metric, level.quantile) for level in self.service_levels]
        twice = sorted(
            {f"{metric} at {quantile:g}" for metric, quantile in asked if asked.count((metric, quantile)) > 1}
        )
        if twice:
            raise ValueError(f"service levels stand twice: {', '.join(twice)}")
        return self
