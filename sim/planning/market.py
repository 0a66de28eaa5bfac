"""From a horizon to the arrays of the program, and what a policy leaves of them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.planning.capacities import Capacities
from sim.planning.cost import owning_terms
from sim.planning.demand import Demand, demand
from sim.planning.horizon import Horizon
from sim.planning.months import PricePath, days_of, later, months_apart
from sim.planning.program import FloatArray, IntArray, Market
from sim.planning.service_cost import (
    HOURS_PER_MONTH,
    SECONDS_PER_HOUR,
    api_usd_per_request,
    replica_rate,
)
from sim.planning.terms import available_from, hardware_on_offer, owning, rent_usd_per_hour
from sim.planning.usage import hour_groups, model_shares
from sim.specs.horizon import PolicyName

BUY_NOW_MONTHS = 3
"""Months in which the policy `buy_now` may order."""

MONTHS_PER_YEAR = 12


@dataclass(frozen=True)
class Stream:
    """Requests of one use case that one model serves."""

    case: str
    """Use case."""

    model: str
    """Key of the model."""

    @property
    def name(self) -> str:
        """Return both in one word."""
        return f"{self.case}/{self.model}"


@dataclass(frozen=True, eq=False)
class PlannedMarket:
    """The market of a horizon with what its rows mean."""

    market: Market
    """Arrays."""

    streams: tuple[Stream, ...]
    """Streams, S."""

    months: tuple[datetime.date, ...]
    """Months, T."""

    terms: tuple[str, ...]
    """Rental terms, K."""

    hours: tuple[str, ...]
    """Representative hours, R."""

    shares: FloatArray
    """Share of its use case's requests by stream and month, shape (S, T) [1]."""

    demands: Mapping[str, tuple[Demand, ...]]
    """Demand by use case and month."""


def demands(horizon: Horizon, capacities: Capacities, path: PricePath = "base") -> dict[str, tuple[Demand, ...]]:
    """Return the demand of every use case in every planned month."""
    return {
        case: tuple(demand(horizon, capacities, case, month, horizon.levers, path) for month in horizon.planned)
        for case in horizon.spec.use_cases
    }


def planned_market(
    horizon: Horizon,
    capacities: Capacities,
    wanted: Mapping[str, tuple[Demand, ...]],
    path: PricePath = "base",
    derating: Mapping[str, FloatArray] | None = None,
) -> PlannedMarket:
    """Return the market of the planned months.

    Parameters
    ----------
    horizon : Horizon
        What is described.
    capacities : Capacities
        What replicas serve.
    wanted : mapping
        Demand by use case and month.
    path : str
        Price path.
    derating : mapping, optional
        Stream name -> factor on what its replicas serve, shape (T,) [1]; how a plan is repaired.

    """
    spec, months = horizon.spec, horizon.planned
    names, terms, hours = tuple(spec.hardware), tuple(spec.terms), tuple(spec.hours)
    shares = {(case, month): model_shares(horizon, case, month, horizon.levers)
              for case in spec.use_cases for month in months}  # fmt: skip
    streams = tuple(
        Stream(case, model)
        for case, described in spec.use_cases.items()
        for model in described.models
        if any(shares[case, month].get(model, 0.0) > 0.0 for month in months)
    )
    share = np.array([[shares[each.case, month].get(each.model, 0.0) for month in months] for each in streams])
    needed = np.zeros((len(streams), len(months), len(hours)))
    api = np.full(needed.shape, np.nan)
    for row, stream in enumerate(streams):
        groups = hour_groups(horizon, stream.case)
        for column, month in enumerate(months):
            rate = wanted[stream.case][column].rate_per_s * share[row, column]
            price = api_usd_per_request(horizon, capacities, stream.case, month, path)
            for hour, group in enumerate(groups):
                needed[row, column, hour] = rate * group.highest * spec.busy_day.value
                if price is not None and group.highest > 0.0:
                    seconds = group.hours_per_day * days_of(month) * SECONDS_PER_HOUR
                    mean = group.mean / (group.highest * spec.busy_day.value)
                    api[row, column, hour] = price * seconds * mean
    served, size = _capacity(horizon, capacities, streams, months)
    for row, stream in enumerate(streams):
        served[:, row] *= 1.0 if derating is None or stream.name not in derating else derating[stream.name]
    market = Market(
        accelerators=names,
        streams=tuple(each.name for each in streams),
        term_months=np.array([term.months for term in spec.terms.values()], np.int64),
        demand_per_s=needed,
        capacity_per_s=served,
        replica_accelerators=size,
        system_accelerators=np.array([offer.system for offer in spec.hardware.values()], np.int64),
        systems_at_start=np.array([spec.owned[name].value if name in spec.owned else 0 for name in names], np.int64),
        rent_unit=np.array([offer.rent_unit for offer in spec.hardware.values()], np.int64),
        api_usd=api,
        api_limit_per_s=_api_limits(horizon, streams, share),
        discount=(1.0 + horizon.economics.cost_of_capital.value)
        ** (-np.arange(len(months) + 1) / MONTHS_PER_YEAR),
        site_power_w=np.full(len(months), np.inf if spec.site_power is None else spec.site_power.value),
        **_supply(horizon, months, path),
        **_budget(horizon, months),
    )  # fmt: skip
    return PlannedMarket(market, streams, months, terms, hours, share, wanted)


def _api_limits(horizon: Horizon, streams: tuple[Stream, ...], share: FloatArray) -> FloatArray:
    """Return the most that an API takes of each stream, by its share of the use case, shape (S, T) [requests/s]."""
    limits = np.full(share.shape, np.inf)
    for row, stream in enumerate(streams):
        given = horizon.spec.use_cases[stream.case].api_limit
        if given is not None:
            limits[row] = given.value * share[row]
    return limits


def under_policy(planned: PlannedMarket, policy: PolicyName, horizon: Horizon) -> Market:
    """Return what a policy leaves of the market: never more than is on offer, so that none beats the optimum.

    `buy_now` orders in the first three months only and rents from month to month; `wait` buys, and commits to longer
    terms, only for the accelerator that the horizon waits for; `rent_only` buys nothing; `api_only` leaves to the API
    what may leave, and rents from month to month for the rest. `rolling` sees the whole market, though not at once.
    """
    market = planned.market
    shortest = market.term_months == market.term_months.min()
    if policy == "buy_now":
        lead = np.array([offer.lead_time_months.value for offer in horizon.spec.hardware.values()])
        ordered = np.arange(len(planned.months))[None, :] - lead[:, None]
        limit = np.where((ordered >= 0) & (ordered < BUY_NOW_MONTHS), market.purchase_limit, 0)
        rent = np.where(shortest[None, :, None], market.rent_usd, np.nan)
        return replace(market, purchase_limit=limit, rent_usd=rent)
    if policy == "wait":
        awaited = np.array([name == horizon.spec.waits_for for name in market.accelerators])
        limit = np.where(awaited[:, None], market.purchase_limit, 0)
        rent = np.where(awaited[:, None, None] | shortest[None, :, None], market.rent_usd, np.nan)
        return replace(market, purchase_limit=limit, rent_usd=rent)
    if policy == "rent_only":
        return replace(market, purchase_limit=np.zeros_like(market.purchase_limit))
    if policy == "api_only":
        leaves = ~np.isnan(market.api_usd).any(axis=2) & np.isinf(market.api_limit_per_s)
        return replace(
            market,
            purchase_limit=np.zeros_like(market.purchase_limit),
            rent_usd=np.where(shortest[None, :, None], market.rent_usd, np.nan),
            capacity_per_s=np.where(leaves[None], 0.0, market.capacity_per_s),
        )
    return market


def _capacity(
    horizon: Horizon, capacities: Capacities, streams: tuple[Stream, ...], months: tuple[datetime.date, ...]
) -> tuple[FloatArray, IntArray]:
    names = tuple(horizon.spec.hardware)
    served = np.zeros((len(names), len(streams), len(months)))
    size = np.ones((len(names), len(streams)), np.int64)
    for column, month in enumerate(months):
        for name in hardware_on_offer(horizon, month, horizon.levers):
            chip = names.index(name)
            for row, stream in enumerate(streams):
                accelerators, rate = replica_rate(
                    horizon, capacities, stream.case, stream.model, name, month, horizon.levers
                )
                if accelerators:
                    size[chip, row] = accelerators
                    served[chip, row, column] = rate
    for chip, name in enumerate(names):
        for row in range(len(streams)):
            offer = horizon.spec.hardware[name]
            if size[chip, row] > min(offer.system, offer.rent_unit):
                served[chip, row] = 0.0  # a replica is not spread over contracts or systems
    return served, size


def _supply(horizon: Horizon, months: tuple[datetime.date, ...], path: PricePath) -> dict[str, Any]:
    spec = horizon.spec
    names, terms = tuple(spec.hardware), tuple(spec.terms)
    chips, count = len(names), len(months)
    terms_of_owning = owning_terms(horizon.economics)
    end = later(months[-1], 1)
    purchase = np.zeros((chips, count))
    limit = np.zeros((chips, count), np.int64)
    running = np.zeros((chips, count))
    resale = np.zeros((chips, count + 1, count + 1))
    rent = np.full((chips, len(terms), count), np.nan)
    tail = np.zeros((chips, len(terms), count))
    rent_limit = np.zeros((chips, count))
    power = np.zeros(chips)
    offered = hardware_on_offer(horizon, months[-1], horizon.levers)
    for chip, name in enumerate(names):
        offer = spec.hardware[name]
        since = available_from(horizon, name)
        if since is None or name not in offered:
            continue
        first_order = max(0, months_apart(spec.plan_from, since))
        for column, month in enumerate(months):
            own = owning(horizon, name, month, path)
            if own is not None:
                purchase[chip, column] = own.purchase_usd * offer.system
                running[chip, column] = own.running_usd_per_hour * HOURS_PER_MONTH * offer.system
                power[chip] = own.provisioned_w * offer.system
                if column - offer.lead_time_months.value >= first_order:
                    limit[chip, column] = offer.supply.value
            if month >= since.replace(day=1):
                rent_limit[chip, column] = offer.rent_supply.value
            for row, term in enumerate(terms):
                price = rent_usd_per_hour(horizon, name, term, month, path)
                if price is None:
                    continue
                rent[chip, row, column] = price * HOURS_PER_MONTH
                beyond = max(0, column + spec.terms[term].months - count)
                then = rent_usd_per_hour(horizon, name, term, end, path)
                excess = max(0.0, price - (price if then is None else then))
                tail[chip, row, column] = beyond * excess * HOURS_PER_MONTH
        life_months = terms_of_owning.life_years * MONTHS_PER_YEAR
        age_at_start = max(0, months_apart(max(since, spec.start), spec.plan_from))
        for delivery in range(count + 1):
            price = purchase[chip, max(0, delivery - 1)]
            for month_index in range(count + 1):
                age = month_index + age_at_start if delivery == 0 else month_index - (delivery - 1)
                left = 1.0 - (1.0 - terms_of_owning.residual) * min(1.0, max(0.0, age / life_months))
                sold = 1.0 if month_index == count else spec.resale.value
                resale[chip, delivery, month_index] = price * left * sold
    return {
        "purchase_usd": purchase, "purchase_limit": limit, "running_usd": running, "resale_usd": resale,
        "rent_usd": rent, "rent_tail_usd": tail, "rent_limit": rent_limit, "power_w": power,
    }  # fmt: skip


def _budget(horizon: Horizon, months: tuple[datetime.date, ...]) -> dict[str, Any]:
    first = months[0].year
    years = np.array([month.year - first for month in months], np.int64)
    budget = horizon.spec.yearly_budget
    amount = np.inf if budget is None else budget.value
    # A calendar year of which only some months are planned has that share of its budget.
    share = np.array([float((years == year).sum()) for year in range(int(years.max()) + 1)]) / MONTHS_PER_YEAR
    return {"budget_year": years, "budget_usd": share * amount}
