"""What is simulated: traffic, the fleet that meets it, for how long, and alternatives to compare."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from sim.specs.control import ApiSpec, ReservedShare, RetriesSpec, RoutingSpec, SiteSpec, TimeoutSpec
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import PriceBasis
from sim.specs.spec import (
    Document,
    Key,
    NonNegativeInteger,
    Number,
    OwnKey,
    PositiveFraction,
    PositiveNumber,
    Spec,
)
from sim.specs.units import PositiveSeconds, RequestsPerSecond, Seconds
from sim.specs.work import ShorterAnswersSpec
from sim.specs.workload import ServiceLevelSpec

RouterName = Literal["round_robin", "least_outstanding", "least_kv", "power_of_two", "prefix_affinity"]

LONGEST_RUN_S = 366 * 86400.0
"""Longest duration, warm-up or drain [s]."""

TIMELINE_LIMIT = 1_000_000
"""Most rows of the timeline of one pool."""

_POLICIES = ("deadline", "priority", "reserved_share", "retries", "timeout")
_COMMON_TO_ALTERNATIVES = ("alternatives", "duration", "kind", "name", "seed", "start_hour", "traffic")
_ANSWERS = ("answers", "effort", "shorter_answers")


def _within_a_year(seconds: float) -> float:
    if seconds > LONGEST_RUN_S:
        raise ValueError("must be at most 366 d; simulate representative hours instead")
    return seconds


def _is_policy(keys: list[str]) -> bool:
    """Return whether a path changes how a class is treated or answered, and not what it asks for."""
    return len(keys) > 2 and keys[0] == "traffic" and keys[2] in (*_POLICIES, *_ANSWERS)


def _same_traffic(delta: dict[str, Any]) -> dict[str, Any]:
    paths = [path.split(".") for path in delta]
    common = sorted({keys[0] for keys in paths if not _is_policy(keys)}.intersection(_COMMON_TO_ALTERNATIVES))
    if common:
        raise ValueError(
            f"an alternative cannot change {', '.join(common)}: all alternatives meet the same requests; "
            "make a scenario of its own with `extends`"
        )
    return delta


Delta = Annotated[dict[str, Any], AfterValidator(_same_traffic)]


class TrafficSpec(Spec):
    """One traffic class: a workload at a rate, or a recorded trace."""

    workload: str | None = None
    """Name of the workload that says when requests come, how long they are, and what service they need."""

    rate: RequestsPerSecond | None = None
    """Mean rate; none means the workload's own."""

    trace: str | None = None
    """File with recorded requests, which then replace the synthetic ones; relative to the scenario's file."""

    trace_speed: PositiveNumber = 1.0
    """How many times faster than recorded a trace is replayed [1]."""

    growth: PositiveNumber = 1.0
    """How many times as many users: a rate times it, or the sessions of a trace more often or fewer of them [1]."""

    answers: Literal["by_model", "of_workload"] = "by_model"
    """Whether the model that serves the class changes the length of its answers, or they stay those of the workload."""

    effort: Key | None = None
    """Mode of the model's answers, as a reasoning effort: with `low` its lengths on task `math` are those of
    `math-low`."""

    shorter_answers: ShorterAnswersSpec | None = None
    """A method that shortens reasoning; none means that nothing is shortened."""

    priority: Annotated[int, Field(ge=0, le=7, strict=True)] = 0
    """Class of service: a lower number is admitted first, and takes the place of a higher one where there is none."""

    deadline: PositiveSeconds | None = None
    """Time after arrival by which an answer is due: within a priority, the earliest due is admitted first, and those
    without a deadline last; none means first come, first served [s]."""

    reserved_share: ReservedShare | None = None
    """Part of each replica's sequence slots and KV memory that other classes may not take; none means none [1]."""

    timeout: TimeoutSpec | None = None
    """When clients give up; none means never."""

    retries: RetriesSpec | None = None
    """What clients do after a rejection or a timeout; none means that they go away."""

    @model_validator(mode="after")
    def _something_to_send(self) -> Self:
        if self.workload is None and self.trace is None:
            raise ValueError("a traffic class needs a workload or a trace")
        if self.trace is not None and self.rate is not None:
            raise ValueError("a trace has its own rate; use trace_speed to replay it faster")
        stray = [name for name in ("effort", "shorter_answers") if getattr(self, name) is not None]
        if self.trace is not None and stray:
            raise ValueError(f"answers of a trace are as recorded: leave out {' and '.join(stray)}")
        return self


class ScenarioSpec(Document):
    """Traffic against a fleet."""

    kind: Literal["scenario"]
    """Says what the file describes."""

    traffic: Annotated[dict[OwnKey, TrafficSpec], Field(min_length=1)]
    """Traffic classes by name."""

    fleet: Annotated[dict[OwnKey, PoolSpec], Field(min_length=1)]
    """Pools by name; their order is the order of ties."""

    router: RouterName = "least_outstanding"
    """How requests are spread over the replicas that serve their class."""

    routing: RoutingSpec = RoutingSpec()
    """What routers know and respect."""

    apis: dict[OwnKey, ApiSpec] = Field(default_factory=dict)
    """Services to which pools spill over, by name."""

    site: SiteSpec = SiteSpec()
    """What all pools share."""

    duration: Annotated[PositiveSeconds, AfterValidator(_within_a_year)]
    """Time during which synthetic requests arrive; a trace has its own."""

    warm_up: Annotated[Seconds, AfterValidator(_within_a_year)]
    """First part of the run, which no metric counts."""

    drain: Annotated[Seconds, AfterValidator(_within_a_year)]
    """Longest time after the last arrival; what is not finished then is counted as unfinished."""

    start_hour: Annotated[Number, Field(ge=0.0, lt=168.0)] = 0.0
    """Hour at which the run starts, from Monday 0:00, for workloads with a daily or weekly profile."""

    timeline_interval: PositiveSeconds
    """Length of a row of the timeline."""

    seed: NonNegativeInteger = 1
    """Seed of all random streams."""

    price_basis: Annotated[tuple[PriceBasis, ...], Field(min_length=1)]
    """Terms on which accelerator-hours are paid, in order of preference; the first that a profile knows is used."""

    service_levels: dict[Key, tuple[ServiceLevelSpec, ...]] = Field(default_factory=dict)
    """Service levels by class, instead of the workload's."""

    peak_share: PositiveFraction = 0.05
    """Share of the run, its busiest intervals, by which what the fleet is paid for and does not use is put down to
    classes [1]."""

    oversized_requests: Literal["error", "reject"] = "error"
    """Requests longer than the model's context or a replica's KV memory: bad input, or counted as rejected."""

    alternatives: dict[Key, Delta] = Field(default_factory=dict)
    """Variants to run on the same traffic: name -> {dotted path: value}; the base is run only when one is empty."""

    @field_validator("warm_up")
    @classmethod
    def _something_is_measured(cls, warm_up: float, info: ValidationInfo) -> float:
        recorded = any(traffic.trace for traffic in info.data.get("traffic", {}).values())
        if not recorded and warm_up >= info.data.get("duration", LONGEST_RUN_S + 1.0):
            raise ValueError("must be shorter than duration; nothing would be measured")
        return warm_up

    @field_validator("timeline_interval")
    @classmethod
    def _timeline_fits(cls, interval: float, info: ValidationInfo) -> float:
        rows = (info.data.get("duration", 0.0) + info.data.get("drain", 0.0)) / interval
        if rows > TIMELINE_LIMIT:
            raise ValueError(f"makes {rows:.3g} rows for each pool, more than {TIMELINE_LIMIT}; choose a longer one")
        return interval
