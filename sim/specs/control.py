"""How a pool is controlled: scaling, starting, admission, power, and where to go when it is full."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sim.specs.economics import UsdPerMillionTokens
from sim.specs.spec import (
    Fraction,
    Key,
    NonNegativeInteger,
    Number,
    PositiveFraction,
    PositiveInteger,
    PositiveNumber,
    Spec,
)
from sim.specs.units import PositiveBytesPerSecond, PositiveSeconds, PositiveWatts, Seconds, Watts

REPLICA_LIMIT = 100_000
"""Most replicas of a pool."""

ReplicaCount = Annotated[int, Field(gt=0, le=REPLICA_LIMIT, strict=True)]

_HOURS = {"day": 24.0, "week": 168.0}


class ScheduleEntrySpec(Spec):
    """From an hour on, so many replicas."""

    hour: Annotated[Number, Field(ge=0.0, lt=168.0)]
    """Hour of the day, or from Monday 0:00 where the schedule repeats every week; counted from `start_hour` [h]."""

    replicas: ReplicaCount
    """Replicas from then on."""


class AutoscalingSpec(Spec):
    """How many replicas of a pool are ready, as the offered load asks for; the base of all signals."""

    minimum: ReplicaCount
    """Fewest ready replicas."""

    maximum: ReplicaCount
    """Most replicas, warm spares included."""

    interval: PositiveSeconds
    """Time between decisions [s]."""

    up_cooldown: Seconds
    """Shortest time from a change to one upwards [s]."""

    down_cooldown: Seconds
    """Shortest time from a change to one downwards [s]."""

    tolerance: Fraction = 0.0
    """Deviation of the signal from its target that changes nothing, as a share of the target [1]."""

    warm_spares: NonNegativeInteger = 0
    """Replicas beyond the ready ones that are started and take no requests, so that they help at once."""

    schedule: tuple[ScheduleEntrySpec, ...] = ()
    """Replicas by the hour, below which the signal does not go; empty means the minimum."""

    repeats: Literal["day", "week"] = "day"
    """When the schedule begins anew."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> Self:
        if self.minimum > self.maximum:
            raise ValueError("minimum must not exceed maximum")
        if self.minimum + self.warm_spares > self.maximum:
            raise ValueError("maximum must hold the minimum and the warm spares")
        hours = [entry.hour for entry in self.schedule]
        if any(later <= earlier for earlier, later in itertools.pairwise(hours)):
            raise ValueError("the hours of the schedule must rise from entry to entry")
        if hours and hours[-1] >= _HOURS[self.repeats]:
            raise ValueError(
                f"hours of a schedule that repeats every {self.repeats} are below {_HOURS[self.repeats]:g}"
            )
        beyond = [entry.replicas for entry in self.schedule if not self.minimum <= entry.replicas <= self.maximum]
        if beyond:
            raise ValueError(f"the schedule asks for {beyond[0]} replicas, outside minimum to maximum")
        return self


class UtilisationScalingSpec(AutoscalingSpec):
    """Scales by the scarcer of sequence slots and KV memory, waiting requests included, so that it can exceed 1."""

    signal: Literal["utilisation"]
    """Says what is watched."""

    target: PositiveNumber
    """Slots or KV memory asked for over those of the ready replicas [1]."""


class OutstandingScalingSpec(AutoscalingSpec):
    """Scales by the requests that were sent to the pool and have not finished."""

    signal: Literal["outstanding"]
    """Says what is watched."""

    target: PositiveNumber
    """Requests per ready replica."""


class QueueScalingSpec(AutoscalingSpec):
    """Scales by the requests that wait for admission."""

    signal: Literal["queue"]
    """Says what is watched."""

    target: PositiveNumber
    """Waiting requests per ready replica."""

    release: PositiveFraction
    """Share of the target below which replicas are given back, one at each decision [1]."""


class TtftScalingSpec(AutoscalingSpec):
    """Scales by the time to first token: mean over first tokens since the last decision and over the requests that
    have none yet, at their age."""

    signal: Literal["ttft"]
    """Says what is watched."""

    target: PositiveSeconds
    """Mean time to first token [s]."""

    release: PositiveFraction
    """Share of the target below which replicas are given back, one at each decision [1]."""


class ScheduledScalingSpec(AutoscalingSpec):
    """Scales by the hour alone."""

    signal: Literal["schedule"]
    """Says what is watched."""

    @model_validator(mode="after")
    def _there_is_a_schedule(self) -> Self:
        if not self.schedule:
            raise ValueError("a pool that scales by schedule needs one")
        return self


Autoscaling = Annotated[
    UtilisationScalingSpec | OutstandingScalingSpec | QueueScalingSpec | TtftScalingSpec | ScheduledScalingSpec,
    Field(discriminator="signal"),
]


class ColdStartSpec(Spec):
    """What a replica needs before it serves: the bytes of its weights over a bandwidth, and a fixed part."""

    source: Literal["network", "local_disk"]
    """Where the weights lie; over the network, the accelerators' own links limit them too."""

    bandwidth: PositiveBytesPerSecond
    """Bandwidth of that place for one replica [B/s]."""

    fixed: Seconds
    """Provisioning before and start of the engine after the weights: processes, compilation, graphs [s]."""


class AdmissionSpec(Spec):
    """When a pool refuses a request at the door instead of letting it wait."""

    max_waiting: PositiveInteger
    """Waiting requests of the replica that the router chose; one that finds so many is rejected."""


class TimeoutSpec(Spec):
    """How long a client waits; what it gives up is taken off its replica at the next step boundary."""

    first_token: PositiveSeconds | None = None
    """Longest time to the first token of an attempt; none means any [s]."""

    whole: PositiveSeconds | None = None
    """Longest time to the last token of an attempt; none means any [s]."""

    @model_validator(mode="after")
    def _something_is_limited(self) -> Self:
        if self.first_token is None and self.whole is None:
            raise ValueError("a timeout needs first_token or whole")
        if self.first_token is not None and self.whole is not None and self.first_token > self.whole:
            raise ValueError("first_token must not exceed whole")
        return self


class RetriesSpec(Spec):
    """What a client does after a rejection or a timeout: it sends the request again, so often and so late."""

    maximum: PositiveInteger
    """Attempts after the first one."""

    backoff: Seconds
    """Time before the second attempt [s]."""

    growth: Annotated[PositiveNumber, Field(ge=1.0)] = 1.0
    """Factor from each wait to the next [1]."""


class RoutingSpec(Spec):
    """How old the state is that routers see, and when affinity gives way."""

    signal_age: Seconds = Field(default=0.0, validate_default=False, json_schema_extra={"default": "0 s"})
    """Interval at which routers learn the state of the replicas; between, they know the old one and what they have sent
    since, and no completion. `0 s` means that they always see the present [s]."""

    load_guard: NonNegativeInteger | None = None
    """For prefix affinity: outstanding requests above those of the least loaded replica at which a request leaves
    the replica that holds its prefix; none means never."""


class SpillOverSpec(Spec):
    """Where requests go when a pool is full."""

    to: Key
    """Another pool, or an API of the scenario; a pool that is named here takes nothing else."""

    at: PositiveInteger
    """Waiting requests of the replica that the router chose at which a request goes there instead."""


class ApiSpec(Spec):
    """A service that answers at a list price, without a limit that matters here."""

    input: UsdPerMillionTokens
    """Prompt tokens [USD per million tokens]."""

    output: UsdPerMillionTokens
    """Generated tokens, reasoning included [USD per million tokens]."""

    cached_input: UsdPerMillionTokens | None = None
    """Prompt tokens that the trace says are cached [USD per million tokens]; none means as other input."""

    first_token: Seconds
    """Time to first token [s]."""

    per_token: Seconds
    """Time per output token after the first [s]."""


class PoolPowerSpec(Spec):
    """What a pool draws beyond its accelerators, and what its racks may draw."""

    host: Watts = Field(default=0.0, validate_default=False, json_schema_extra={"default": "0 W"})
    """Draw of host, network and fans per accelerator, whatever the load [W]."""

    rack_accelerators: PositiveInteger | None = None
    """Accelerators in one rack, in the order of the pool; none means the scale-up domain."""

    rack_cap: PositiveWatts | None = None
    """Most that one rack may draw; steps become slower where it would be more; none means no limit [W]."""

    speed_elasticity: PositiveFraction | None = None
    """Exponent by which the speed of steps follows the dynamic power; none means the hardware profile's [1]."""


class SiteSpec(Spec):
    """Limits of the whole site, and how often they are looked at."""

    power_cap: PositiveWatts | None = None
    """Most that all accelerators and hosts may draw together; none means no limit [W]."""

    interval: PositiveSeconds = Field(default=10.0, validate_default=False, json_schema_extra={"default": "10 s"})
    """Time between readings of the power, by which the caps of racks and site are kept [s]."""


def _below_one(share: float) -> float:
    if share >= 1.0:
        raise ValueError("must be below 1; nothing would be left for others")
    return share


ReservedShare = Annotated[PositiveFraction, AfterValidator(_below_one)]
