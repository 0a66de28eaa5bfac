"""One traffic class over time: how much is asked, which models answer, what a unit is worth, what may leave."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat
from sim.specs.paths import Changes, PathSpec
from sim.specs.spec import Fraction, Key, Name, Number, PositiveInteger, PositiveNumber, Sourced, Spec
from sim.specs.units import RequestsPerSecond, Usd
from sim.specs.workload import ServiceLevelSpec


def _layout(given: object) -> object:
    """Return a layout where a number of tensor parallelism is given."""
    return ParallelismSpec(tensor=given) if isinstance(given, int) and given > 0 else given


Layout = Annotated[ParallelismSpec, BeforeValidator(_layout)]


class CompressionUseSpec(Spec):
    """A method that shortens reasoning, and how far it is adopted."""

    method: Name | None = None
    """Name of a method whose measurements say what remains of a part of T tokens; difficulty-dependent as measured."""

    base: str | None = None
    """Model on which the method was measured; none means the first one."""

    benchmarks: tuple[str, ...] = ()
    """Benchmarks of that model to go by; none means all."""

    reduction: Sourced[Fraction] | None = None
    """Instead of a method: a share of the tokens that is saved whatever the difficulty, as a claim has it [1]."""

    kept: Sourced[PositiveNumber] | None = None
    """Tokens that remain over what the method's measurements say; none means as measured [1]."""

    adoption: PathSpec
    """Share of the requests that are answered by a compressed model [1]."""

    @model_validator(mode="after")
    def _measured_or_claimed(self) -> Self:
        if (self.method is None) == (self.reduction is None):
            raise ValueError("say either which method was measured, or which reduction is claimed")
        if self.method is None and (self.base is not None or self.benchmarks):
            raise ValueError("base and benchmarks belong to a method")
        return self


class ModelShareSpec(Spec):
    """One model that serves a class, and for which share of its requests."""

    model: Name
    """Name of a model."""

    share: PathSpec
    """Share of the class's requests [1]; shares are normalised to sum to one."""

    weight_format: NumberFormat | None = None
    """Format of weights with the lever quantisation; none means as published."""

    plain_format: NumberFormat = NumberFormat.BF16
    """Format of weights without it."""

    kv_format: NumberFormat = NumberFormat.BF16
    """Format of KV entries with the lever quantisation; bf16 without it."""

    layouts: Annotated[tuple[Layout, ...], Field(min_length=1)] = tuple(
        ParallelismSpec(tensor=each) for each in (1, 2, 4, 8)
    )
    """Layouts of a replica to choose from; a number is one of tensor parallelism."""

    batch_limits: tuple[PositiveInteger, ...] = ()
    """Limits on the sequences of a replica to choose from; none means the serving stack's."""


class UnitSpec(Spec):
    """What a use case counts and what that is worth."""

    name: Key
    """One document, task, user-month."""

    requests: Sourced[PositiveNumber]
    """Requests to the model for one unit [1]."""

    ceiling: Sourced[Usd] | None = None
    """Cost per unit below which the use case pays [USD]."""


class UseCaseSpec(Spec):
    """One traffic class over time."""

    workload: Name
    """Name of the workload: arrivals, lengths, prefix, service levels."""

    rate: Sourced[RequestsPerSecond]
    """Mean requests in the first month of the horizon."""

    growth: Changes = ()
    """Change of demand at constant price."""

    elasticity: Sourced[Annotated[Number, Field(le=0.0, gt=-4.0)]]
    """Relative change of demand over relative change of unit cost [1]."""

    pass_through: Sourced[Fraction]
    """Share of a change in unit cost (of its logarithm) that users see [1]."""

    models: Annotated[dict[Key, ModelShareSpec], Field(min_length=1)]
    """Models that serve it, by key."""

    baseline_model: Key
    """Key of the model that serves all of it without the lever moe."""

    compression: Key | None = None
    """Compression method, if any."""

    reasoning_share: Sourced[Fraction]
    """Share of the answer that is reasoning, which alone can be compressed [1]."""

    api: str | None = None
    """API model of the economics to which demand can be left; none only where `residency` says why nothing may."""

    api_limit: Sourced[RequestsPerSecond] | None = None
    """Most requests that the API takes; none means any."""

    residency: str | None = None
    """Why no request may leave own or rented accelerators; none means that requests may."""

    unit: UnitSpec
    """What is counted."""

    service_levels: tuple[ServiceLevelSpec, ...] | None = None
    """Instead of the workload's."""

    @model_validator(mode="after")
    def _baseline_is_a_model(self) -> Self:
        if self.baseline_model not in self.models:
            raise ValueError(f"baseline_model is none of the models {', '.join(self.models)}")
        return self

    @model_validator(mode="after")
    def _leaves_or_stays(self) -> Self:
        if self.api is None and self.api_limit is not None:
            raise ValueError("api_limit belongs to an api")
        if self.api is not None and self.residency is not None:
            raise ValueError("requests that may not leave (residency) cannot be left to an api")
        return self
