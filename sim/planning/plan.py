"""A plan: which fleet to own, rent and buy month by month, what it costs, what its users see, and when it pays."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sim.planning.alternatives import Alternative, alternatives
from sim.planning.back_test import back_test
from sim.planning.capacities import CapacityTable
from sim.planning.coefficients import FEWER_REPLICAS, SimulatedCapacities
from sim.planning.demand import Demand
from sim.planning.evaluation import evaluate
from sim.planning.evaluation import solved as solved_by
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.infeasibility import why_infeasible
from sim.planning.levers import attribution_of
from sim.planning.market import PlannedMarket, demands, under_policy
from sim.planning.plan_rows import attribution_rows, fleet_rows, knee_flags, latency_rows, plan_validity, policy_row
from sim.planning.plan_tables import TABLES, read_plan, table, write_plan
from sim.planning.procurement import NO_FLEET, Procurement
from sim.planning.program import FloatArray, build
from sim.planning.rehearsal import Rehearsed, missed, rehearse
from sim.planning.viability import first_months, viability_rows
from sim.results.reported import write_report_of
from sim.specs.horizon import PolicyName
from sim.version import __version__

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of the whole work that is done."""

MOST_REPAIRS = 3
SMALLEST_REPAIR, LARGEST_REPAIR = 0.93, 0.6
"""Ends of the factor on what replicas are taken to serve where a service level did not hold [1]."""

OPTIMUM_NODES, OPTIMUM_GAP = 4000, 0.005
POLICY_NODES, POLICY_GAP = 30, 0.01
"""Nodes of the search, and proven distance to the optimum at which it stops before [1]."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A plan in the hands of an analyst: tables as DataFrames, and the questions asked most."""

    tables: Mapping[str, pd.DataFrame]
    """Tables by name, columns in `sim.planning.plan_tables`."""

    manifest: Mapping[str, Any]
    """What was planned: horizon, data, versions, gap, times, what does not hold."""

    horizon: Horizon | None = None
    """The horizon; none for a plan that was read back."""

    @property
    def feasible(self) -> bool:
        """Return whether the optimal policy has a fleet and every service level held in its rehearsal."""
        return bool(self.manifest["feasible"]) and not self.manifest["missed"]

    def cost(self, policy: str = "optimal") -> pd.DataFrame:
        """Return cost by month and use case."""
        return self._of("costs", policy)

    def fleet(self, policy: str = "optimal") -> pd.DataFrame:
        """Return replicas and accelerators by month, use case, model and accelerator."""
        return self._of("fleet", policy)

    def latency(self) -> pd.DataFrame:
        """Return what every service level came to by month and representative hour."""
        return self._of("latency", "optimal")

    def purchases(self, policy: str = "optimal") -> pd.DataFrame:
        """Return orders, deliveries, retirements and rental contracts."""
        return self._of("purchases", policy)

    def viability(self) -> pd.DataFrame:
        """Return the month from which each use case pays for good; the table `viability` has every month."""
        return pd.DataFrame(self.manifest["viability"])

    def attribution(self) -> pd.DataFrame:
        """Return what each lever saves a month: Shapley value, alone and last; and interactions."""
        return self.tables["attribution"].copy()

    def policies(self) -> pd.DataFrame:
        """Return net present cost by policy and near-optimal alternative."""
        return self.tables["policies"].copy()

    def back_test(self) -> pd.DataFrame:
        """Return projections against records."""
        return pd.DataFrame(self.manifest["back_test"])

    def save(self, directory: str | Path, overwrite: bool = False) -> None:
        """Write the plan's directory, whole or not at all; FileExistsError where it may not be written."""
        write_plan(Path(directory), self.tables, self.manifest, overwrite)

    @classmethod
    def load(cls, directory: str | Path) -> Plan:
        """Read a plan's directory; ValueError where it is none."""
        tables, manifest = read_plan(Path(directory))
        return cls(tables, manifest)

    def report(self, file: str | Path) -> None:
        """Write the plan as one HTML page with figures; InputError without the extra `report` (plotly)."""
        write_report_of(self, file)

    def _of(self, name: str, policy: str) -> pd.DataFrame:
        rows = self.tables[name]
        known = list(dict.fromkeys(self.tables["policies"]["policy"]))
        if policy not in known:
            raise ValueError(f"no policy {policy!r} in this plan; it has {', '.join(map(str, known))}")
        return rows[rows["policy"] == policy].reset_index(drop=True)

    def _repr_html_(self) -> str:
        return str(self.policies().to_html(index=False, border=0, float_format="{:.4g}".format))


def plan(horizon: Horizon | str, progress: Progress | None = None) -> Plan:
    """Return the plan of a horizon, given or by name.

    Capacity coefficients are simulated, the program is solved, the chosen fleets meet fresh requests in every month,
    and where a service level does not hold its replicas are taken to serve less and all is solved again.

    Parameters
    ----------
    horizon : Horizon or str
        What is planned.
    progress : callable, optional
        Told what is being done and how far it is.

    Raises
    ------
    InputError
        A horizon that is missing or invalid.

    """
    started = time.perf_counter()
    given = load_horizon(horizon) if isinstance(horizon, str) else horizon
    tell = progress or (lambda _what, _done: None)
    name = given.spec.name
    tell("capacity and demand", 0.05)
    simulated = SimulatedCapacities(given)
    capacities = simulated.table()
    wanted = demands(given, capacities)
    tell("procurement and rehearsal", 0.25)
    planned, best, rehearsed, repairs = _repaired(simulated, capacities, wanted)
    tell("policies", 0.5)
    solved: dict[PolicyName, Procurement] = {"optimal": best}
    for policy in given.spec.policies:
        if policy != "optimal":
            solved[policy] = solved_by(given, planned, policy, POLICY_GAP, POLICY_NODES)
    best, rehearsed = _cheapest(simulated, capacities, planned, solved, rehearsed)
    solved["optimal"] = best
    tell("alternatives", 0.7)
    near = alternatives(build(planned.market), best)
    tell("levers", 0.85)
    tables = _tables(simulated, capacities, planned, solved, near, rehearsed)
    failing = [] if best.feasible else [tables["policies"]["reason"].iloc[0]]
    viable = first_months(tables["viability"], given)
    fleet = tables["fleet"][(tables["fleet"]["policy"] == "optimal") & (tables["fleet"]["replicas"] > 0)]
    served = set(zip(fleet["model"], fleet["accelerator"], strict=True))
    validity, flags = plan_validity(simulated.put_together(), served)
    manifest: dict[str, object] = {
        "plan_id": name,
        "feasible": best.feasible,
        "validity": validity,
        "flags": [flag.__dict__ for flag in [*knee_flags(rehearsed), *flags]],
        "missed": sorted({f"{each.month:%Y-%m} {each.hour} {each.level.in_words()}" for each in missed(rehearsed)}),
        "reasons": failing,
        "gap": best.gap if math.isfinite(best.gap) else None,
        "solve_s": best.solve_s,
        "repairs": repairs,
        "version": __version__,
        "levers": sorted(given.levers),
        "fingerprints": dict(given.fingerprints),
        "horizon": given.spec.model_dump(mode="json", exclude_none=True),
        "documents": given.documents(),
        "as_written": given.as_written(),
        "viability": viable.to_dict(orient="records"),
        "back_test": back_test(given).to_dict(orient="records"),
        "wall_s": time.perf_counter() - started,
    }
    tell("done", 1.0)
    return Plan(tables, manifest, given)


def _repaired(
    simulated: SimulatedCapacities, capacities: CapacityTable, wanted: Mapping[str, tuple[Demand, ...]]
) -> tuple[PlannedMarket, Procurement, list[Rehearsed], int]:
    derating: dict[str, FloatArray] = {}
    horizon = simulated.horizon
    hours = tuple(horizon.spec.hours)
    for attempt in range(MOST_REPAIRS + 1):
        found = evaluate(horizon, capacities, wanted=wanted, derating=derating, gap=OPTIMUM_GAP, nodes=OPTIMUM_NODES)
        planned, best = found.planned, found.fleet
        if not best.feasible:
            return planned, best, [], attempt
        rehearsed = rehearse(simulated, capacities, planned, best, hours)
        failing = missed(rehearsed)
        if not failing or attempt == MOST_REPAIRS:
            break
        for stream, month in {(each.stream, each.month) for each in failing}:
            factors = derating.setdefault(stream.name, np.ones(len(planned.months)))
            worst = max(
                each.level.value_s / each.level.limit_s
                for each in failing
                if (each.stream, each.month) == (stream, month)
            )
            factors[planned.months.index(month)] *= min(SMALLEST_REPAIR, max(LARGEST_REPAIR, 1.0 / worst))
    return planned, best, rehearsed, attempt


def _cheapest(
    simulated: SimulatedCapacities,
    capacities: CapacityTable,
    planned: PlannedMarket,
    solved: Mapping[PolicyName, Procurement],
    rehearsed: list[Rehearsed],
) -> tuple[Procurement, list[Rehearsed]]:
    """Return the optimum, or a policy's fleet where the solver ran out of time and that one is cheaper.

    Every policy's fleet is open to the optimum too; its gap is then to the bound that was proven for the optimum.
    """
    best = solved["optimal"]
    found = min(solved.values(), key=lambda each: each.net_present_cost_usd)
    if not best.feasible or found.net_present_cost_usd >= best.net_present_cost_usd:
        return best, rehearsed
    again = rehearse(simulated, capacities, planned, found, planned.hours)
    if len(missed(again)) > len(missed(rehearsed)):
        return best, rehearsed
    bound = best.net_present_cost_usd - best.gap * abs(best.net_present_cost_usd)
    gap = max(0.0, (found.net_present_cost_usd - bound) / max(abs(found.net_present_cost_usd), 1e-9))
    return replace(found, gap=gap, solve_s=best.solve_s, reason="a policy's fleet; " + best.reason), again


def _tables(
    simulated: SimulatedCapacities,
    capacities: CapacityTable,
    planned: PlannedMarket,
    solved: Mapping[PolicyName, Procurement],
    near: list[Alternative],
    rehearsed: list[Rehearsed],
) -> dict[str, pd.DataFrame]:
    horizon = simulated.horizon
    name = horizon.spec.name
    rows: dict[str, list[dict[str, object]]] = {each: [] for each in TABLES}
    best = solved["optimal"]
    fleets: list[tuple[str, Procurement, str]] = []
    for policy, fleet in solved.items():
        reason = fleet.reason
        if fleet.reason == NO_FLEET:
            reason = why_infeasible(under_policy(planned, policy, horizon), planned)
        fleets.append((policy, fleet, reason))
    fleets += [
        (f"alternative {number}: {each.direction}", each.procurement, "within 5% of the optimum")
        for number, each in enumerate(near, 1)
    ]
    for label, fleet, reason in fleets:
        rows["policies"].append(policy_row(name, label, planned, fleet, best, reason))
        if fleet.feasible:
            for each, more in fleet_rows(horizon, capacities, planned, fleet, name, label).items():
                rows[each] += more
    rows["latency"] = latency_rows(name, rehearsed)
    rows["viability"] = viability_rows(horizon, capacities, name)
    rows["attribution"] = attribution_rows(
        name, horizon.spec.end, attribution_of(SimulatedCapacities(horizon, FEWER_REPLICAS))
    )
    return {each: table(each, rows[each]) for each in TABLES}
