"""What an accelerator-hour costs: owned, rented, or paid by the token through an API. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd

from sim.specs.economics import ApiPriceSpec, EconomicsSpec
from sim.specs.hardware import HardwareSpec, PriceBasis
from sim.specs.spec import Sourced

HOURS_PER_YEAR = 8760.0
MONTHS_PER_YEAR = 12.0
SECONDS_PER_YEAR = 365.25 * 86400.0
WATTS_PER_KILOWATT = 1000.0
TOKENS_PER_MILLION = 1e6

End = Literal["low", "value", "high"]
"""Which end of the ranges: all that makes owning cheap, the values to plan with, or all that makes it dear."""


@dataclass(frozen=True)
class OwningTerms:
    """Terms on which accelerators are owned, as plain numbers."""

    cost_of_capital: float
    """Interest and required return a year [1]."""

    life_years: float
    """Economic life [years]."""

    residual: float
    """Resale value at its end over the purchase [1]."""

    power_usage_effectiveness: float
    """Power at the meter over power of the equipment [1]."""

    usd_per_kilowatt_hour: float
    """Price of energy [USD/kWh]."""

    load_factor: float
    """Mean power drawn over provisioned power [1]."""

    usd_per_kilowatt_month: float
    """Colocation without energy [USD per provisioned kW and month]."""

    opex: float
    """Staff, repair, insurance and software a year over the purchase [1]."""

    spares: float
    """Accelerators bought beyond those in service, over these [1]."""


@dataclass(frozen=True)
class OwningCost:
    """What one owned accelerator in service costs an hour, by part, busy or idle."""

    capital_usd_per_hour: float
    """Annuity of the purchase with host and network [USD/h]."""

    spares_usd_per_hour: float
    """Annuity of the share in spare accelerators [USD/h]."""

    opex_usd_per_hour: float
    """Staff, repair, insurance, software [USD/h]."""

    colocation_usd_per_hour: float
    """Space and cooling capacity [USD/h]."""

    electricity_usd_per_hour: float
    """Energy at the meter [USD/h]."""

    @property
    def usd_per_hour(self) -> float:
        """Return the sum of all parts [USD per accelerator-hour]."""
        return sum(asdict(self).values(), 0.0)

    def _repr_html_(self) -> str:
        rows = [*asdict(self).items(), ("usd_per_hour", self.usd_per_hour)]
        table = pd.DataFrame(rows, columns=["part", "USD/h"])
        return str(table.to_html(index=False, border=0, float_format="{:.4g}".format))


def capital_recovery_factor(rate: float, life_years: float) -> float:
    """Return the share of a purchase that is paid each year so that it is recovered with interest [1].

        r / (1 - (1 + r)^-n), and 1 / n without interest

    Parameters
    ----------
    rate : float
        Cost of capital a year, not negative [1].
    life_years : float
        Years n, more than 0; payments at the end of each year.

    Raises
    ------
    ValueError
        Out of range.

    Source: Park, Contemporary Engineering Economics, 6th ed., section 3.4 (A/P factor).

    """
    if rate < 0.0 or life_years <= 0.0:
        raise ValueError(f"the rate must not be negative and the life must exceed 0, got {rate} and {life_years}")
    if rate < 1e-9:
        return 1.0 / life_years
    return rate / (1.0 - math.exp(-life_years * math.log1p(rate)))


def yearly_capital_usd(purchase_usd: float, rate: float, life_years: float, residual: float = 0.0) -> float:
    """Return the yearly cost of a purchase that is sold at the end of its life [USD/year].

        (P - S) CRF + S r,  S = residual x P: what is resold is not recovered, it only costs interest

    Parameters
    ----------
    purchase_usd : float
        Purchase P [USD].
    rate, life_years : float
        As `capital_recovery_factor`.
    residual : float
        Resale value over purchase, in [0, 1] [1].

    Source: Park, Contemporary Engineering Economics, 6th ed., section 6.2 (capital recovery with salvage value).

    """
    resale = residual * purchase_usd
    return (purchase_usd - resale) * capital_recovery_factor(rate, life_years) + resale * rate


def owning_cost(purchase_usd: float, it_power_w: float, terms: OwningTerms) -> OwningCost:
    """Return what one owned accelerator costs an hour.

        capital       = yearly capital of P / 8760
        spares        = spares x capital
        opex          = P (1 + spares) x opex / 8760
        colocation    = kW x USD/kW-month x 12 / 8760
        electricity   = kW x load factor x PUE x USD/kWh

    Parameters
    ----------
    purchase_usd : float
        Purchase P of an accelerator with its share of host and network [USD].
    it_power_w : float
        Provisioned power with its share of the system, before cooling [W].
    terms : OwningTerms
        All else.

    Assumes that spares are stored cold and that colocation contains the building; no price per MW is added.
    Source: the usual ownership formula of accelerator price studies; worked examples in docs/costs.md.

    """
    capital = yearly_capital_usd(purchase_usd, terms.cost_of_capital, terms.life_years, terms.residual) / HOURS_PER_YEAR
    kilowatts = it_power_w / WATTS_PER_KILOWATT
    return OwningCost(
        capital_usd_per_hour=capital,
        spares_usd_per_hour=terms.spares * capital,
        opex_usd_per_hour=purchase_usd * (1.0 + terms.spares) * terms.opex / HOURS_PER_YEAR,
        colocation_usd_per_hour=kilowatts * terms.usd_per_kilowatt_month * MONTHS_PER_YEAR / HOURS_PER_YEAR,
        electricity_usd_per_hour=kilowatts
        * terms.load_factor
        * terms.power_usage_effectiveness
        * terms.usd_per_kilowatt_hour,
    )


def owning_terms(economics: EconomicsSpec, end: End = "value") -> OwningTerms:
    """Return terms as plain numbers; `low` takes of every range the end at which owning is cheap, `high` the dear one.

    A long life and a high resale value make owning cheap, so these two take their other end.
    """
    opposite: End = {"low": "high", "value": "value", "high": "low"}[end]  # type: ignore[assignment]  # keys and values are the same three words
    return OwningTerms(
        cost_of_capital=number_at(economics.cost_of_capital, end),
        life_years=number_at(economics.life, opposite) / SECONDS_PER_YEAR,
        residual=number_at(economics.residual, opposite),
        power_usage_effectiveness=number_at(economics.power_usage_effectiveness, end),
        usd_per_kilowatt_hour=number_at(economics.electricity, end),
        load_factor=number_at(economics.load_factor, end),
        usd_per_kilowatt_month=number_at(economics.colocation, end),
        opex=number_at(economics.opex, end),
        spares=number_at(economics.spares, end),
    )


def owned(hardware: HardwareSpec, economics: EconomicsSpec, end: End = "value") -> OwningCost | None:
    """Return what owning a part of the library costs an hour; none where its price or power is not known.

    The purchase is the profile's, times the host factor where the economics say that it is the chip alone, plus the
    network that they add. Power is theirs, else the profile's at the meter without the cooling it contains.
    """
    particular = economics.hardware.get(hardware.name)
    if hardware.prices.capex is None:
        return None
    purchase = number_at(hardware.prices.capex, end)
    if particular is not None and particular.chip_alone:
        purchase *= number_at(economics.host_factor, end)
    if particular is not None and particular.network is not None:
        purchase += number_at(particular.network, end)
    if particular is not None and particular.it_power is not None:
        power = number_at(particular.it_power, end)
    elif hardware.power.all_in is not None:
        power = number_at(hardware.power.all_in, end) / economics.contained_effectiveness.value
    else:
        return None
    return owning_cost(purchase, power, owning_terms(economics, end))


def rent(hardware: HardwareSpec, bases: Sequence[PriceBasis], end: End = "value") -> tuple[float, PriceBasis] | None:
    """Return the price of the first of the terms that a profile knows, and the terms; none where it knows none.

    Prices on different terms are never averaged: a reserved hour is paid whether used or not, a spot hour may end.
    """
    for basis in bases:
        if basis in hardware.prices.hourly:
            return number_at(hardware.prices.hourly[basis], end), basis
    return None


def rented_usd(
    used_hours: float, reserved_hours: float, reserved_usd_per_hour: float, on_demand_usd_per_hour: float
) -> float:
    """Return what accelerator-hours cost under a reservation with overflow on demand [USD].

        reserved x price, used or not, + max(0, used - reserved) x on-demand price

    Parameters
    ----------
    used_hours, reserved_hours : float
        Accelerator-hours needed and reserved over the same time [h].
    reserved_usd_per_hour, on_demand_usd_per_hour : float
        Prices [USD per accelerator-hour].

    """
    return reserved_hours * reserved_usd_per_hour + max(0.0, used_hours - reserved_hours) * on_demand_usd_per_hour


def api_usd(price: ApiPriceSpec, prompt_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> float:
    """Return what an API charges for tokens [USD].

        (prompt - cached) x input + cached x cached input + output x output, each by the million

    Parameters
    ----------
    price : ApiPriceSpec
        List price; without a price of cached input, cached tokens cost as much as others.
    prompt_tokens, output_tokens, cached_tokens : float
        Tokens; cached ones are part of the prompt.

    Raises
    ------
    ValueError
        More cached tokens than prompt tokens.

    """
    if cached_tokens > prompt_tokens:
        raise ValueError(f"{cached_tokens} cached tokens in prompts of {prompt_tokens}")
    cached_price = price.input.value if price.cached_input is None else price.cached_input.value
    spent = (prompt_tokens - cached_tokens) * price.input.value
    return (spent + cached_tokens * cached_price + output_tokens * price.output.value) / TOKENS_PER_MILLION


def passed_through(price: float, cost_then: float, cost_now: float, pass_through: float) -> float:
    """Return a price after the provider's cost has changed, of which a share reaches the customer.

        price x (1 + pass_through x (cost_now / cost_then - 1))

    Parameters
    ----------
    price : float
        Price when the cost was `cost_then` [any unit].
    cost_then, cost_now : float
        Provider's unit cost, in one unit; `cost_then` more than 0.
    pass_through : float
        0 keeps the price, 1 moves it in proportion to the cost [1].

    Source: pass-through rate as in Weyl and Fabinger (2013), Pass-through as an economic tool, as a relative rate.

    """
    if not cost_then > 0.0:
        raise ValueError(f"the earlier cost must exceed 0, got {cost_then}")
    return price * (1.0 + pass_through * (cost_now / cost_then - 1.0))


def number_at(number: Sourced[float], end: End) -> float:
    """Return the value of a number, or an end of its range; the value where it has no such end."""
    chosen = number.value if end == "value" else getattr(number, end)
    return float(number.value if chosen is None else chosen)
