"""What money costs: capital, power, space and service of owned accelerators, and the list prices of APIs."""

from __future__ import annotations

import datetime
import itertools
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from sim.specs.spec import Date, Document, Fraction, Key, Number, PositiveFraction, PositiveNumber, Sourced, Spec
from sim.specs.units import Dimension, PositiveSeconds, Usd, Watts, more_than_zero

ENERGY_PRICE = Dimension("price of energy", "USD/kWh", {"USD/kWh": 1.0, "USD/MWh": 1e-3}, "0.09 USD/kWh")
SPACE_PRICE = Dimension(
    "price of space", "USD/kW-month", {"USD/kW-month": 1.0, "USD/kW-year": 1 / 12}, "130 USD/kW-month"
)
TOKEN_PRICE = Dimension("price of tokens", "USD/Mtoken", {"USD/Mtoken": 1.0}, "1.25 USD/Mtoken")

UsdPerKilowattHour = Annotated[float, ENERGY_PRICE]
UsdPerKilowattMonth = Annotated[float, SPACE_PRICE]
UsdPerMillionTokens = Annotated[float, TOKEN_PRICE]
Effectiveness = Annotated[Number, Field(ge=1.0)]


class HardwareEconomicsSpec(Spec):
    """What one accelerator costs beyond the purchase price in its profile."""

    network: Sourced[Usd] | None = None
    """Scale-out network per accelerator that the profile's purchase price leaves out [USD]; none means it is in."""

    it_power: Sourced[Annotated[Watts, AfterValidator(more_than_zero)]] | None = None
    """Provisioned power per accelerator with its share of the system, before cooling [W]; none means the profile's
    power at the meter without the cooling that it contains."""

    chip_alone: bool = False
    """Whether the profile's purchase price is that of the chip, so that host and network come on top."""


class ApiPriceSpec(Spec):
    """A list price from a day on."""

    since: Date
    """First day."""

    dated: Literal["published", "assumed"] = "published"
    """Whether that day is published, or ours where only a month, a year or nothing is."""

    input: Sourced[UsdPerMillionTokens]
    """Prompt tokens [USD per million tokens]."""

    output: Sourced[UsdPerMillionTokens]
    """Generated tokens, reasoning included [USD per million tokens]."""

    cached_input: Sourced[UsdPerMillionTokens] | None = None
    """Prompt tokens that the provider finds in its cache [USD per million tokens]; none means as other input."""


class ApiModelSpec(Spec):
    """Prices of one model behind an API."""

    serves: str | None = None
    """Name of the model in the library that the API runs; none where its weights are not open."""

    prices: Annotated[tuple[ApiPriceSpec, ...], Field(min_length=1)]
    """List prices in order of their first day."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if any(later.since <= earlier.since for earlier, later in itertools.pairwise(self.prices)):
            raise ValueError("prices must be in order of their first day, each with a day of its own")
        return self

    def on(self, day: datetime.date) -> ApiPriceSpec | None:
        """Return the price that holds on a day; none before the first one."""
        return next((each for each in reversed(self.prices) if each.since <= day), None)


class EconomicsSpec(Document):
    """Terms on which accelerators are owned, and what an API would charge instead."""

    kind: Literal["economics"]
    """Says what the file describes."""

    cost_of_capital: Sourced[Fraction]
    """Interest and required return a year [1]."""

    life: Sourced[PositiveSeconds]
    """Economic life over which the purchase is recovered."""

    residual: Sourced[Fraction]
    """Resale value at the end of that life, as a share of the purchase [1]."""

    power_usage_effectiveness: Sourced[Effectiveness]
    """Power at the meter over power of the equipment [1]."""

    electricity: Sourced[UsdPerKilowattHour]
    """Price of energy [USD/kWh]."""

    load_factor: Sourced[Fraction]
    """Mean power drawn over provisioned power [1]."""

    colocation: Sourced[UsdPerKilowattMonth]
    """Space and cooling capacity per provisioned kW, without the energy; contains the building [USD/kW-month]."""

    opex: Sourced[Fraction]
    """Staff, repair, insurance and software a year, as a share of the purchase [1]."""

    spares: Sourced[Fraction]
    """Accelerators bought beyond those in service, as a share of them [1]."""

    host_factor: Sourced[PositiveNumber]
    """Purchase with host and network over the chip alone [1]; used where a profile prices the chip alone."""

    contained_effectiveness: Sourced[Effectiveness]
    """Power usage effectiveness that the profiles' power at the meter contains [1]."""

    availability: Sourced[PositiveFraction]
    """Share of the hours in which an owned accelerator can serve [1]."""

    hardware: dict[Key, HardwareEconomicsSpec] = Field(default_factory=dict)
    """What is particular to a hardware profile, by its name."""

    api: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")], ApiModelSpec] = Field(default_factory=dict)
    """List prices of APIs by model."""
