"""What is simulated: traffic, the fleet that meets it, for how long, and alternatives to compare."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sim.specs.fleet import PoolSpec
from sim.specs.hardware import PriceBasis
from sim.specs.spec import Document, Key, NonNegativeInteger, PositiveNumber, Spec
from sim.specs.units import RequestsPerSecond, Seconds
from sim.specs.workload import ServiceLevelSpec

RouterName = Literal["round_robin", "least_outstanding", "power_of_two"]


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

    @model_validator(mode="after")
    def _something_to_send(self) -> Self:
        if self.workload is None and self.trace is None:
            raise ValueError("a traffic class needs a workload or a trace")
        if self.trace is not None and self.rate is not None:
            raise ValueError("a trace has its own rate; use trace_speed to replay it faster")
        return self


class ScenarioSpec(Document):
    """Traffic against a fleet."""

    kind: Literal["scenario"]
    """Says what the file describes."""

    traffic: Annotated[dict[Key, TrafficSpec], Field(min_length=1)]
    """Traffic classes by name."""

    fleet: Annotated[dict[Key, PoolSpec], Field(min_length=1)]
    """Pools by name; their order is the order of ties."""

    router: RouterName = "least_outstanding"
    """How requests are spread over the replicas that serve their class."""

    duration: Seconds
    """Time during which synthetic requests arrive; a trace has its own."""

    warm_up: Seconds
    """First part of the run, which no metric counts."""

    drain: Seconds
    """Longest time after the last arrival; what is not finished then is counted as unfinished."""

    start_hour: Annotated[float, Field(ge=0.0, lt=24.0)] = 0.0
    """Hour of the day at which the run starts, for workloads with a daily profile."""

    timeline_interval: Seconds
    """Length of a row of the timeline."""

    seed: NonNegativeInteger = 1
    """Seed of all random streams."""

    price_basis: Annotated[tuple[PriceBasis, ...], Field(min_length=1)]
    """Terms on which accelerator-hours are paid, in order of preference; the first that a profile knows is used."""

    service_levels: dict[Key, tuple[ServiceLevelSpec, ...]] = Field(default_factory=dict)
    """Service levels by class, instead of the workload's."""

    oversized_requests: Literal["error", "reject"] = "error"
    """Requests longer than the model's context or a replica's KV memory: bad input, or counted as rejected."""

    alternatives: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    """Variants to run on the same traffic: name -> {dotted path: value}; the base is run only when one is empty."""

    @model_validator(mode="after")
    def _times_make_sense(self) -> Self:
        if self.duration <= 0.0 or self.timeline_interval <= 0.0:
            raise ValueError("duration and timeline_interval must be longer than 0 s")
        if self.warm_up >= self.duration and not any(traffic.trace for traffic in self.traffic.values()):
            raise ValueError("warm_up must be shorter than duration; nothing would be measured")
        for name, delta in self.alternatives.items():
            if any(path.split(".")[0] in ("alternatives", "kind", "name", "seed") for path in delta):
                raise ValueError(f"alternative {name!r} may not change kind, name, seed or alternatives")
        return self
