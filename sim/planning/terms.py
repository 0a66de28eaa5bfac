"""On what terms accelerators are to be had in a month: from when, for what rent, and what owning one means."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

from sim.planning.cost import HOURS_PER_YEAR, OwningCost, owned, owning_terms, yearly_capital_usd
from sim.planning.horizon import Horizon
from sim.planning.months import PricePath, change_factor, later
from sim.specs.horizon import LeverName


def available_from(horizon: Horizon, name: str) -> datetime.date | None:
    """Return the day from which an accelerator can be had; none if it is not sold or no day is known."""
    offer, profile = horizon.spec.hardware[name], horizon.hardware[name]
    if not profile.availability.purchasable or not profile.availability.enabled:
        return None
    if offer.available_from is not None:
        return offer.available_from.value
    return profile.availability.available_from


def rent_index(horizon: Horizon, month: datetime.date, path: PricePath) -> float:
    """Return the rents of a month over those of the profiles [1]: recorded before that day, projected after it."""
    spec = horizon.spec
    if month < spec.priced_on:
        return spec.rent_history.at(month)
    return change_factor(spec.rent_change, spec.priced_on, month, path)


def rent_usd_per_hour(horizon: Horizon, name: str, term: str, month: datetime.date, path: PricePath) -> float | None:
    """Return the rent of an accelerator on some terms in a month [USD/h]; none where it is not offered."""
    offer, profile = horizon.spec.hardware[name], horizon.hardware[name]
    since = available_from(horizon, name)
    if since is None or month < since.replace(day=1) or (offer.terms is not None and term not in offer.terms):
        return None
    price = profile.prices.hourly.get(horizon.spec.terms[term].basis)
    return None if price is None else price.value * rent_index(horizon, month, path)


@dataclass(frozen=True)
class Owning:
    """What owning one accelerator means in money and power."""

    purchase_usd: float
    """Purchase with host, network and spares [USD]."""

    running_usd_per_hour: float
    """Operation, space and energy [USD/h]."""

    total_usd_per_hour: float
    """With the annuity of the purchase [USD/h]."""

    provisioned_w: float
    """Power before cooling [W]."""

    drawn_w: float
    """Mean power at the meter [W]."""


def owning(horizon: Horizon, name: str, month: datetime.date, path: PricePath) -> Owning | None:
    """Return what owning an accelerator means in a month; none where price or power is not known.

    The purchase moves with the purchase price path from the day of the profiles' prices on; before it, the profile's
    price is taken. Operation is a share of the purchase and moves with it.
    """
    parts = owned(horizon.hardware[name], horizon.economics)
    if parts is None:
        return None
    terms = owning_terms(horizon.economics)
    annuity = yearly_capital_usd(1.0, terms.cost_of_capital, terms.life_years, terms.residual) / HOURS_PER_YEAR
    factor = change_factor(horizon.spec.purchase_change, horizon.spec.priced_on, month, path)
    parts = replace(
        parts,
        capital_usd_per_hour=parts.capital_usd_per_hour * factor,
        spares_usd_per_hour=parts.spares_usd_per_hour * factor,
        opex_usd_per_hour=parts.opex_usd_per_hour * factor,
    )
    return Owning(
        purchase_usd=(parts.capital_usd_per_hour + parts.spares_usd_per_hour) / annuity,
        running_usd_per_hour=_running(parts),
        total_usd_per_hour=parts.usd_per_hour,
        provisioned_w=parts.electricity_usd_per_hour * 1000.0
        / (terms.load_factor * terms.power_usage_effectiveness * terms.usd_per_kilowatt_hour),
        drawn_w=parts.electricity_usd_per_hour * 1000.0 / terms.usd_per_kilowatt_hour,
    )  # fmt: skip


def _running(parts: OwningCost) -> float:
    return parts.opex_usd_per_hour + parts.colocation_usd_per_hour + parts.electricity_usd_per_hour


def hardware_on_offer(
    horizon: Horizon, month: datetime.date, levers: frozenset[LeverName], order_lead: bool = False
) -> tuple[str, ...]:
    """Return the accelerators that can be had in a month; those of the baseline without the lever hardware.

    With `order_lead`, those that can already be in service when ordered on their first day.
    """
    names = tuple(horizon.spec.hardware) if "hardware" in levers else horizon.spec.baseline.hardware
    found = []
    for name in names:
        since = available_from(horizon, name)
        if since is None:
            continue
        lead = horizon.spec.hardware[name].lead_time_months.value if order_lead else 0
        if later(since.replace(day=1), lead) <= month:
            found.append(name)
    return tuple(found)
