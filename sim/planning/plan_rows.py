"""From arrays to rows of the plan's tables."""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable, Mapping

import numpy as np

from sim.planning.attribution import Attribution
from sim.planning.capacities import Capacities
from sim.planning.horizon import Horizon
from sim.planning.market import PlannedMarket
from sim.planning.months import days_of
from sim.planning.procurement import Procurement
from sim.planning.program import FloatArray
from sim.planning.rehearsal import Rehearsed
from sim.planning.service_cost import HOURS_PER_MONTH, requests_in
from sim.planning.terms import owning, rent_index
from sim.planning.usage import speed
from sim.results.flags import Flag
from sim.results.manifest import validity_record
from sim.serving.deployment import Deployment

Rows = list[dict[str, object]]
IDLE = "idle"
RENTED = "rented"


def fleet_rows(
    horizon: Horizon, capacities: Capacities, planned: PlannedMarket, fleet: Procurement, name: str, policy: str
) -> dict[str, Rows]:
    """Return the rows of one policy's fleet for the tables periods, fleet, costs and purchases."""
    rents = rent_by_accelerator(planned, fleet)
    found: dict[str, Rows] = {"periods": [], "fleet": [], "costs": [], "purchases": []}
    for column, month in enumerate(planned.months):
        key: dict[str, object] = {"plan_id": name, "policy": policy, "period": f"{month:%Y-%m}"}
        found["periods"] += _period_rows(horizon, planned, fleet, column, month, rents, key)
        found["fleet"] += _assignment_rows(planned, fleet, column, key)
        found["costs"] += _cost_rows(horizon, capacities, planned, fleet, column, month, rents, key)
        found["purchases"] += _purchase_rows(horizon, planned, fleet, column, key)
    return found


def rent_by_accelerator(planned: PlannedMarket, fleet: Procurement) -> FloatArray:
    """Return the rent paid by accelerator and month, shape (H, T) [USD]."""
    market = planned.market
    paid = np.zeros(fleet.rented.shape)
    for term, length in enumerate(market.term_months):
        for start in range(len(planned.months)):
            contracts = fleet.rent_started[:, term, start] * market.rent_unit
            monthly = contracts * np.nan_to_num(market.rent_usd[:, term, start])
            paid[:, start : start + int(length)] += monthly[:, None]
    return paid


def _period_rows(
    horizon: Horizon,
    planned: PlannedMarket,
    fleet: Procurement,
    column: int,
    month: datetime.date,
    rents: FloatArray,
    key: dict[str, object],
) -> Rows:
    market, money = planned.market, fleet.money_usd
    own_count = fleet.owned[:, column] * market.system_accelerators
    counts = {horizon.spec.site: own_count, RENTED: fleet.rented[:, column]}
    out = {
        horizon.spec.site: money["purchase"][column] + money["running"][column] - money["resale"][column],
        RENTED: float(rents[:, column].sum()) + money["api"][column],
    }
    rows = []
    for site, count in counts.items():
        provisioned, drawn = 0.0, 0.0
        for chip, accelerators in enumerate(count):
            own = owning(horizon, market.accelerators[chip], month, "base") if accelerators else None
            if own is not None:
                provisioned += own.provisioned_w * float(accelerators)
                drawn += own.drawn_w * float(accelerators)
            elif accelerators:
                meter = horizon.hardware[market.accelerators[chip]].power.all_in
                drawn += float(accelerators) * (meter.value if meter else 0.0) * horizon.economics.load_factor.value
        energy = drawn / 1000.0 * days_of(month) * 24.0
        rows.append({
            **key, "site": site, "accelerators": int(count.sum()), "provisioned_w": provisioned, "power_w": drawn,
            "energy_kwh": energy, "carbon_kg": energy * horizon.spec.carbon.value, "money_out_usd": float(out[site]),
            "software": speed(horizon, month, horizon.levers), "rent_index": rent_index(horizon, month, "base"),
        })  # fmt: skip
    return rows


def _assignment_rows(planned: PlannedMarket, fleet: Procurement, column: int, key: dict[str, object]) -> Rows:
    market = planned.market
    rows: Rows = []
    for chip, name in enumerate(market.accelerators):
        own = int(fleet.owned[chip, column] * market.system_accelerators[chip])
        rented = int(fleet.rented[chip, column])
        if own + rented == 0:
            continue
        left = own + rented
        common = {**key, "accelerator": name, "owned": own, "rented": rented}
        for row, stream in enumerate(planned.streams):
            replicas = int(fleet.replicas[chip, row, column])
            if replicas:
                used = replicas * int(market.replica_accelerators[chip, row])
                left -= used
                rows.append({**common, "class": stream.case, "model": stream.model, "replicas": replicas,
                             "accelerators": used})  # fmt: skip
        if left:
            rows.append({**common, "class": IDLE, "model": None, "replicas": 0, "accelerators": left})
    return rows


def accelerator_usd(
    horizon: Horizon, planned: PlannedMarket, fleet: Procurement, column: int, month: datetime.date, rents: FloatArray
) -> FloatArray:
    """Return what one accelerator of each kind costs in a month, owned ones at annuity, shape (H,) [USD]."""
    found = np.zeros(len(planned.market.accelerators))
    for chip, name in enumerate(planned.market.accelerators):
        own_count = float(fleet.owned[chip, column] * planned.market.system_accelerators[chip])
        rented = float(fleet.rented[chip, column])
        own = owning(horizon, name, month, "base") if own_count else None
        paid = 0.0 if own is None else own.total_usd_per_hour * HOURS_PER_MONTH * own_count
        if own_count + rented:
            found[chip] = (paid + rents[chip, column]) / (own_count + rented)
    return found


def _cost_rows(
    horizon: Horizon,
    capacities: Capacities,
    planned: PlannedMarket,
    fleet: Procurement,
    column: int,
    month: datetime.date,
    rents: FloatArray,
    key: dict[str, object],
) -> Rows:
    market = planned.market
    price = accelerator_usd(horizon, planned, fleet, column, month, rents)
    used = fleet.replicas[:, :, column] * market.replica_accelerators
    rows: Rows = []
    for case, described in horizon.spec.use_cases.items():
        mine = [row for row, stream in enumerate(planned.streams) if stream.case == case]
        demand = planned.demands[case][column]
        requests = requests_in(month, demand.rate_per_s)
        needed = market.demand_per_s[mine, column]
        api = np.nan_to_num(fleet.api_per_s[mine, column] * market.api_usd[mine, column])
        fleet_usd, api_usd = float((price @ used[:, mine]).sum()), float(api.sum())
        served = float((fleet.replicas[:, mine, column] * market.capacity_per_s[:, mine, column]).sum())
        own_share = 1.0 - float(fleet.api_per_s[mine, column].sum()) / max(float(needed.sum()), 1e-12)
        tokens = capacities.tokens(case, planned.streams[mine[0]].model)
        cost = fleet_usd + api_usd
        rows.append({
            **key, "class": case, "requests": requests,
            "base_requests": requests_in(month, demand.at_constant_price_per_s),
            "rebound": demand.rebound,
            "api_share": float(fleet.api_per_s[mine, column].sum(axis=0).max() / max(needed.sum(axis=0).max(), 1e-12)),
            "utilisation": None if served <= 0.0 else own_share * demand.rate_per_s / served,
            "fleet_usd": fleet_usd, "api_usd": api_usd, "cost_usd": cost,
            "usd_per_request": cost / requests if requests else None,
            "usd_per_million_tokens": cost / requests / (tokens.prompt + tokens.output) * 1e6 if requests else None,
            "unit": described.unit.name,
            "usd_per_unit": cost / requests * described.unit.requests.value if requests else None,
        })  # fmt: skip
    have = fleet.owned[:, column] * market.system_accelerators + fleet.rented[:, column]
    idle = float(price @ (have - used.sum(axis=1)))
    rows.append({
        **key, "class": IDLE, "requests": 0.0, "base_requests": 0.0, "rebound": 0.0, "api_share": 0.0,
        "utilisation": None, "fleet_usd": idle, "api_usd": 0.0, "cost_usd": idle, "usd_per_request": None,
        "usd_per_million_tokens": None, "unit": None, "usd_per_unit": None,
    })  # fmt: skip
    return rows


def _purchase_rows(
    horizon: Horizon, planned: PlannedMarket, fleet: Procurement, column: int, key: dict[str, object]
) -> Rows:
    market = planned.market
    rows: Rows = []
    for chip, name in enumerate(market.accelerators):
        size = int(market.system_accelerators[chip])
        lead = horizon.spec.hardware[name].lead_time_months.value
        common = {**key, "accelerator": name, "term": None}
        arrives = column + lead
        ordered = int(fleet.bought[chip, arrives]) if arrives < fleet.bought.shape[1] else 0
        bought, sold = int(fleet.bought[chip, column]), int(fleet.retired[chip, column])
        for action, count, usd in (
            ("order", ordered, 0.0),
            ("deliver", bought, bought * float(market.purchase_usd[chip, column])),
        ):
            if count:
                rows.append({**common, "action": action, "systems": count, "accelerators": count * size, "usd": usd})
        if sold:
            rows.append({**common, "action": "retire", "systems": sold, "accelerators": sold * size,
                         "usd": -float(fleet.money_usd["resale"][column])})  # fmt: skip
        unit = int(market.rent_unit[chip])
        for term, label in enumerate(planned.terms):
            contracts = int(fleet.rent_started[chip, term, column])
            if contracts:
                usd = contracts * unit * float(market.rent_usd[chip, term, column])
                rows.append({**common, "action": "rent", "term": label, "systems": contracts,
                             "accelerators": contracts * unit, "usd": usd})  # fmt: skip
    return rows


def latency_rows(name: str, rehearsed: Iterable[Rehearsed]) -> Rows:
    """Return the rows of the table latency."""
    return [
        {
            "plan_id": name, "policy": "optimal", "period": f"{each.month:%Y-%m}", "hour": each.hour,
            "class": each.stream.case, "model": each.stream.model, "metric": each.level.metric,
            "quantile": each.level.quantile, "limit_s": each.level.limit_s, "value_s": each.level.value_s,
            "low_s": _finite(each.level.low_s), "high_s": _finite(each.level.high_s), "met": each.level.met,
            "model_low_s": _finite(each.level.model_low_s), "model_high_s": _finite(each.level.model_high_s),
            "past_the_knee": each.level.past_the_knee,
            "surely": each.level.surely_met or each.level.surely_missed, "samples": each.level.samples,
            "replicas": each.replicas, "requests_per_s": each.rate_per_s,
        }
        for each in rehearsed
    ]  # fmt: skip


def plan_validity(
    deployments: Mapping[tuple[str, str], Deployment], served: Collection[tuple[str, str]]
) -> tuple[Rows, list[Flag]]:
    """Return how far the figures of every model on every accelerator of a fleet can be trusted, and its flags.

    Parameters
    ----------
    deployments : mapping
        (Model, accelerator) -> a deployment that stands behind its capacity.
    served : collection
        (Model, accelerator) of all replicas of the fleet.

    """
    records: Rows = []
    flags: list[Flag] = []
    for (model, accelerator), found in sorted(deployments.items()):
        if (model, accelerator) not in served:
            continue
        scope = f"{model} on {accelerator}"
        records.append({"model": model, "accelerator": accelerator, **validity_record(found.validity)})
        if found.validity.outside:
            flags.append(Flag("outside_calibration", scope, "; ".join(found.validity.outside)))
        if found.specification_only:
            message = "rests on announcements or claims, not on measurements: read its figures as a scenario"
            flags.append(Flag("specification_only", scope, message))
    return records, flags


def knee_flags(rehearsed: Iterable[Rehearsed]) -> list[Flag]:
    """Return a flag for every stream that is past its knee in some hour, with the hours."""
    hours: dict[str, list[str]] = {}
    for each in rehearsed:
        if each.level.past_the_knee:
            hours.setdefault(each.stream.name, []).append(f"{each.month:%Y-%m} {each.hour}")
    return [
        Flag("saturated", name, f"past the knee at {', '.join(dict.fromkeys(found))}: latencies grow with the run")
        for name, found in sorted(hours.items())
    ]


def attribution_rows(name: str, month: datetime.date, found: Attribution) -> Rows:
    """Return the rows of the table attribution: costs, then savings by lever, then interactions."""
    key: dict[str, object] = {"plan_id": name, "period": f"{month:%Y-%m}"}
    rows: Rows = [{**key, "lever": "none", "other": None, "kind": "cost", "usd": found.before}]
    for kind in ("shapley", "alone", "last"):
        values = getattr(found, kind)
        rows += [{**key, "lever": lever, "other": None, "kind": kind, "usd": usd} for lever, usd in values.items()]
    rows += [{**key, "lever": first, "other": second, "kind": "interaction", "usd": usd}
             for (first, second), usd in found.interaction.items()]  # fmt: skip
    rows.append({**key, "lever": "all", "other": None, "kind": "cost", "usd": found.after})
    return rows


def policy_row(
    name: str, policy: str, planned: PlannedMarket, fleet: Procurement, best: Procurement, reason: str
) -> dict[str, object]:
    """Return the row of the table policies."""
    over = fleet.net_present_cost_usd / best.net_present_cost_usd - 1.0 if best.feasible and fleet.feasible else None
    owned = (fleet.owned * planned.market.system_accelerators[:, None]).sum(axis=0)
    return {
        "plan_id": name, "policy": policy, "feasible": fleet.feasible,
        "net_present_cost_usd": _finite(fleet.net_present_cost_usd), "over_optimum": over, "gap": _finite(fleet.gap),
        "solve_s": fleet.solve_s, "most_owned": int(owned.max()), "most_rented": int(fleet.rented.sum(axis=0).max()),
        "reason": reason,
    }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
