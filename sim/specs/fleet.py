"""Who answers: pools of replicas, each a model on some hardware under a parallelism layout."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from sim.specs.control import REPLICA_LIMIT as REPLICA_LIMIT
from sim.specs.control import (
    AdmissionSpec,
    Autoscaling,
    ColdStartSpec,
    PoolPowerSpec,
    ReplicaCount,
    SpillOverSpec,
)
from sim.specs.hardware import NumberFormat, PriceBasis
from sim.specs.memory import HandOverSpec, HostMemorySpec, PrefixCacheSpec
from sim.specs.reliability import FailuresSpec, OutageSpec, RollOutSpec
from sim.specs.spec import Key, PositiveInteger, Spec
from sim.specs.step_time_source import StepTimeSource
from sim.specs.units import Bytes, UsdPerHour
from sim.specs.workload import WholeTokens


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

    replicas: ReplicaCount
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

    step_time: StepTimeSource | None = None
    """Where step times come from, instead of the serving stack: a table of measured steps, or aiconfigurator-core."""

    price: UsdPerHour | None = None
    """Price per accelerator-hour that the scenario states itself; none means the profile's."""

    price_basis: tuple[PriceBasis, ...] = ()
    """Terms in order of preference, instead of the scenario's."""

    prefix_cache: PrefixCacheSpec | None = None
    """Cache of prefixes on each replica; none means that a request finds all the cached tokens of its trace."""

    swap: HostMemorySpec | None = None
    """Host memory to which the KV of preempted sequences goes; none means that it is computed anew."""

    hand_over: HandOverSpec | None = None
    """Makes this a pool for prompts, whose answers another pool generates."""

    admission: AdmissionSpec | None = None
    """When requests are refused; none means never."""

    spill_over: SpillOverSpec | None = None
    """Where requests go when the pool is full; none means that they wait."""

    autoscaling: Autoscaling | None = None
    """How the number of ready replicas follows the load, from `replicas` on; none means that it stays."""

    cold_start: ColdStartSpec | None = None
    """What a replica needs before it serves, after scaling, repair and roll-out; none means ready at once."""

    failures: FailuresSpec | None = None
    """Random failures; none means none."""

    outages: tuple[OutageSpec, ...] = ()
    """Failures and maintenance at stated times."""

    roll_outs: tuple[RollOutSpec, ...] = ()
    """New versions, brought to the replicas group by group."""

    power: PoolPowerSpec = PoolPowerSpec()
    """Power of hosts and limits of racks."""

    @property
    def most_replicas(self) -> int:
        """Return the replicas that the pool can ever have."""
        return self.replicas if self.autoscaling is None else self.autoscaling.maximum

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the pools and APIs to which this pool sends requests on."""
        return tuple(each.to for each in (self.hand_over, self.spill_over) if each is not None)

    @model_validator(mode="after")
    def _start_is_within_the_scale(self) -> Self:
        scale = self.autoscaling
        if scale is not None and not scale.minimum <= self.replicas <= scale.maximum - scale.warm_spares:
            raise ValueError(
                f"replicas must start from minimum to maximum without warm spares, "
                f"{scale.minimum} to {scale.maximum - scale.warm_spares}"
            )
        return self
