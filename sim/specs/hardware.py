"""What can be bought: an accelerator with its system, links, power, dates and prices."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.specs.reliability import ReliabilitySpec
from sim.specs.spec import Date, Document, Fraction, PositiveFraction, PositiveInteger, Sourced, Spec
from sim.specs.units import (
    PositiveBytes,
    PositiveBytesPerSecond,
    PositiveFlopPerSecond,
    PositiveWatts,
    Usd,
    UsdPerHour,
)


class NumberFormat(enum.StrEnum):
    """A number format of weights, KV entries or arithmetic."""

    BF16 = "bf16"
    FP8 = "fp8"
    FP4 = "fp4"
    INT8 = "int8"
    INT4 = "int4"


class MemorySpec(Spec):
    """High-bandwidth memory of one accelerator."""

    usable: Sourced[PositiveBytes]
    """Bytes that a driver reports as usable, per accelerator [B]; labels in GB and GiB differ by 7%."""

    bandwidth: Sourced[PositiveBytesPerSecond]
    """Peak memory bandwidth per accelerator [B/s]; never a rack total, never a link."""


class LinkSpec(Spec):
    """Links of one accelerator to others."""

    bandwidth: Sourced[PositiveBytesPerSecond]
    """One-way bandwidth per accelerator [B/s]; vendors usually quote both directions together."""

    domain: Sourced[PositiveInteger] | None = None
    """Accelerators that the link joins at full speed; none for the network between systems."""


class PowerSpec(Spec):
    """Power of one accelerator and of its share of the system."""

    thermal_design: Sourced[PositiveWatts] | None = None
    """Thermal design power of the accelerator [W]; absent where not published."""

    idle_fraction: Sourced[Fraction] | None = None
    """Idle power as a fraction of thermal design power [1]."""

    speed_elasticity: Sourced[PositiveFraction] | None = None
    """Exponent by which the speed of steps follows the power above idle under a power cap [1]."""

    all_in: Sourced[PositiveWatts] | None = None
    """Power at the utility meter per accelerator with its share of host, network and cooling [W]."""


class Status(enum.StrEnum):
    """Where a part stands between announcement and retirement."""

    SHIPPING = "shipping"
    ANNOUNCED = "announced"
    INTERNAL = "internal"
    REMOVED = "removed"


class AvailabilitySpec(Spec):
    """Whether and from when the part can be had."""

    status: Status
    """Shipping, announced only, internal to its maker, or removed from the roadmap."""

    purchasable: bool
    """Whether a customer can buy or rent it at all; internal and removed parts are not."""

    enabled: bool = True
    """False for parts that stand here for reference and are not offered to plans."""

    announced: Date | None = None
    """Announcement date."""

    available_from: Date | None = None
    """First date of general availability; absent where none has been seen."""

    note: str = ""
    """What stands behind the status and the dates."""

    @model_validator(mode="after")
    def _internal_parts_are_not_sold(self) -> Self:
        if self.purchasable and self.status in (Status.INTERNAL, Status.REMOVED):
            raise ValueError(f"a part with status {self.status.value!r} is not purchasable")
        return self


class PriceBasis(enum.StrEnum):
    """On what terms an accelerator-hour is paid; terms are not interchangeable."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED_1_YEAR = "reserved_1_year"
    RESERVED_3_YEAR = "reserved_3_year"
    CAPACITY_BLOCK = "capacity_block"
    OWNING_HYPERSCALER = "owning_hyperscaler"
    OWNING_NEOCLOUD = "owning_neocloud"
    STATED = "stated"
    """The scenario states the price itself."""


class PricesSpec(Spec):
    """What the part costs to buy and to rent."""

    capex: Sourced[Usd] | None = None
    """Purchase price per accelerator with its share of the server [USD]."""

    hourly: dict[PriceBasis, Sourced[UsdPerHour]] = Field(default_factory=dict)
    """Price per accelerator-hour on each basis [USD/h]."""


class HardwareSpec(Document):
    """One accelerator (one chip package as sold) in the system in which it is sold."""

    kind: Literal["hardware"]
    """Says what the file describes."""

    vendor: str
    """Who makes it."""

    family: str
    """Architecture family, which shares calibrated efficiencies, e.g. `hopper`."""

    availability: AvailabilitySpec
    """Status and dates."""

    peak: Annotated[dict[NumberFormat, Sourced[PositiveFlopPerSecond]], Field(min_length=1)]
    """Dense matrix peak per accelerator by arithmetic format [FLOP/s]; a multiply-add counts as two."""

    memory: MemorySpec
    """High-bandwidth memory."""

    scale_up: LinkSpec | None = None
    """Links inside the scale-up domain; absent where not published."""

    scale_out: LinkSpec | None = None
    """Network links between systems; absent where not published."""

    power: PowerSpec = PowerSpec()
    """Power."""

    reliability: ReliabilitySpec = ReliabilitySpec()
    """Failures; absent where nothing is known."""

    prices: PricesSpec = PricesSpec()
    """Prices."""

    @property
    def scale_up_domain(self) -> int:
        """Return the accelerators in one scale-up domain; 1 where there are no links."""
        if self.scale_up is None or self.scale_up.domain is None:
            return 1
        return self.scale_up.domain.value
