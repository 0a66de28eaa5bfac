"""What takes replicas away: failures at stated rates, and outages, maintenance and roll-outs at stated times."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.spec import NonNegativeInteger, PositiveInteger, Sourced, Spec
from sim.specs.units import FailuresPerSecond, PositiveSeconds, Seconds


class SourcedFailureModeSpec(Spec):
    """How often something fails and how long it is away, as a hardware profile states it."""

    rate: Sourced[FailuresPerSecond]
    """Failures of one such thing that is up; times between them are exponential [failures/s]."""

    repair: Sourced[PositiveSeconds]
    """Mean time until it can start again, by repair or by a spare [s]."""


class ReliabilitySpec(Spec):
    """Failures of a part and of the system in which it is sold."""

    accelerator: SourcedFailureModeSpec | None = None
    """Failures that one accelerator causes: the replica that runs on it restarts."""

    system: SourcedFailureModeSpec | None = None
    """Failures of one system (host, power, links): all replicas on it go down together."""

    system_accelerators: Sourced[PositiveInteger] | None = None
    """Accelerators that go down with a system; none means those of the scale-up domain."""


class FailureModeSpec(Spec):
    """How often something fails and how long it is away."""

    rate: FailuresPerSecond
    """Failures of one such thing that is up; times between them are exponential. `0 failures/year` turns them off."""

    repair: PositiveSeconds
    """Mean time until it can start again [s]."""


class RackFailureModeSpec(FailureModeSpec):
    """Failures that take neighbouring systems down together, as of power or cooling."""

    systems: PositiveInteger
    """Systems in one rack, in the order of the pool."""


class FailuresSpec(Spec):
    """Random failures of a pool, drawn before the run from streams of their own."""

    accelerator: FailureModeSpec | None = None
    """Failures of one accelerator; none means those of the hardware profile."""

    system: FailureModeSpec | None = None
    """Failures of one system; none means those of the hardware profile."""

    rack: RackFailureModeSpec | None = None
    """Failures of one rack; none means that only systems fail."""

    repair_times: Literal["exponential", "fixed"] = "exponential"
    """How repair times are distributed around their means."""


class OutageSpec(Spec):
    """Replicas that are away at a stated time."""

    kind: Literal["accelerator", "system", "rack", "maintenance"]
    """What takes them away: a failure comes without warning, maintenance with it."""

    start: Seconds
    """When they go down, from the start of the run [s]."""

    duration: PositiveSeconds
    """How long they are away [s]."""

    replicas: Annotated[tuple[NonNegativeInteger, ...], Field(min_length=1)]
    """Positions in the pool, from 0."""

    drain: Seconds = Field(default=0.0, validate_default=False, json_schema_extra={"default": "0 s"})
    """Time before `start` in which they take no new requests; only with maintenance [s]."""

    @model_validator(mode="after")
    def _failures_come_without_warning(self) -> Self:
        if self.drain > 0.0 and self.kind != "maintenance":
            raise ValueError(f"drain is for maintenance; an outage of kind {self.kind!r} comes without warning")
        if self.drain > self.start:
            raise ValueError("drain would begin before the run; let start be at least as late")
        return self


class RollOutSpec(Spec):
    """A new version of model or software, brought to the replicas of a pool group by group."""

    start: Seconds
    """When the first ones stop taking requests, from the start of the run [s]."""

    at_once: PositiveInteger = 1
    """Replicas that are changed together."""

    drain: Seconds
    """Longest time for their requests to finish; what is not finished then restarts elsewhere [s]."""

    duration: PositiveSeconds
    """Time of the change itself, without the cold start that follows [s]."""

    interval: PositiveSeconds
    """Time from the start of one group to that of the next [s]."""
