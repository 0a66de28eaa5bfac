"""Who answers: pools of replicas, each a model on some hardware under a parallelism layout."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from sim.specs.hardware import NumberFormat, PriceBasis
from sim.specs.spec import Key, PositiveInteger, Spec
from sim.specs.units import Bytes, UsdPerHour
from sim.specs.workload import WholeTokens

REPLICA_LIMIT = 100_000


class ParallelismSpec(Spec):
    """How one replica is spread over accelerators: tensor x data x pipeline of them."""

    tensor: PositiveInteger = 1
    """Accelerators over which each weight matrix and its attention heads are split."""

    data: PositiveInteger = 1
    """Groups that each hold the attention weights and KV of their own sequences."""

    expert: PositiveInteger = 1
    """Accelerators over which experts are distributed: 1 (experts split like other matrices) or tensor x data."""

    pipeline: PositiveInteger = 1
    """Stages that each hold a share of the layers."""

    @property
    def accelerators(self) -> int:
        """Return the accelerators of one replica."""
        return self.tensor * self.data * self.pipeline

    @model_validator(mode="after")
    def _experts_over_all(self) -> Self:
        ranks = self.tensor * self.data
        if self.expert not in (1, ranks):
            raise ValueError(f"expert must be 1 or tensor x data = {ranks}")
        if self.data > 1 and self.expert == 1:
            raise ValueError(
                f"data-parallel attention needs experts over all groups: expert = {ranks}; "
                "for a dense model use more replicas instead"
            )
        return self


class PoolSpec(Spec):
    """Replicas of one kind."""

    hardware: str
    """Name of a hardware profile."""

    model: str
    """Name of a model."""

    replicas: Annotated[int, Field(gt=0, le=REPLICA_LIMIT, strict=True)]
    """Serving instances."""

    serving_stack: str = "shared"
    """Name of a serving stack."""

    parallelism: ParallelismSpec = ParallelismSpec()
    """Layout of one replica."""

    weight_format: NumberFormat | None = None
    """Format of weights that are not routed experts; none means as published."""

    expert_format: NumberFormat | None = None
    """Format of the routed experts; none means as published, or `weight_format` where that is given."""

    kv_format: NumberFormat = NumberFormat.BF16
    """Format of KV entries."""

    arithmetic_format: NumberFormat | None = None
    """Format of matrix products where it is not the weights' own: weight-only quantisation."""

    serves: tuple[Key, ...] = ()
    """Traffic classes that are routed here; none means all."""

    max_sequences: PositiveInteger | None = None
    """Sequences at a time per data-parallel group, instead of the serving stack's."""

    step_token_budget: WholeTokens | None = None
    """Tokens in a step, instead of the serving stack's."""

    activation_reserve: Bytes | None = None
    """Memory kept per accelerator, instead of the serving stack's."""

    price: UsdPerHour | None = None
    """Price per accelerator-hour that the scenario states itself; none means the profile's."""

    price_basis: tuple[PriceBasis, ...] = ()
    """Terms in order of preference, instead of the scenario's."""
