"""What sizing answers: one accelerator's size with all that speaks for it, and accelerators side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from sim.planning.choices import layout_in_words
from sim.planning.levels import LevelReached
from sim.planning.token_cost import Load
from sim.planning.unit_cost import TokenCosts
from sim.results.flags import Flag
from sim.results.manifest import validity_record
from sim.results.model_error import PAST_THE_KNEE
from sim.results.result import Result
from sim.results.tables import ALL
from sim.serving.validity import UNJUDGED, Validity
from sim.specs.fleet import ParallelismSpec
from sim.specs.resolved import Scenario


@dataclass(frozen=True)
class Point:
    """One size that was tried: what it costs and how close it comes to the service levels."""

    hardware: str
    """Hardware profile."""

    model: str
    """Model."""

    layout: ParallelismSpec
    """Parallelism of a replica."""

    max_sequences: int
    """Sequences of a replica at a time."""

    replicas: int
    """Serving instances."""

    accelerators: int
    """Accelerators in all."""

    cost_usd_per_hour: float | None
    """Cost [USD/h]; none where no price is known."""

    met: bool
    """Whether all service levels are met."""

    tightness: float
    """Largest latency relative to its limit [1]."""

    levels: tuple[LevelReached, ...]
    """Service levels with what was reached."""


@dataclass(frozen=True, eq=False)
class Sizing:
    """How many replicas of one kind a load needs, or why none would do."""

    scenario_id: str
    """Name of the scenario."""

    pool: str
    """Name of the pool."""

    hardware: str
    """Hardware profile."""

    model: str
    """Model."""

    feasible: bool
    """Whether all service levels can be met."""

    reason: str
    """Why not; empty where they can."""

    replicas: int
    """Serving instances; 0 where infeasible."""

    accelerators: int
    """Accelerators in all."""

    layout: ParallelismSpec
    """Parallelism of a replica that was chosen."""

    max_sequences: int
    """Sequences of a replica at a time that was chosen."""

    price_usd_per_hour: float | None
    """Price of an accelerator [USD/h]; none where none is known."""

    price_basis: str | None
    """Terms of that price."""

    levels: tuple[LevelReached, ...]
    """Service levels with what the planned size came to."""

    flags: tuple[Flag, ...]
    """Reasons not to trust the run at the planned size."""

    load: Load | None
    """What the pool is asked to do; none where infeasible or not confirmed."""

    token_costs: TokenCosts | None
    """What tokens cost at that size; none where infeasible, not confirmed or without a price."""

    class_costs: pd.DataFrame | None
    """What a request of each class costs, columns of `sim.planning.token_cost.class_costs`; none likewise."""

    validity: Validity
    """Error bands of the pool's predictions, and what of it no measured point is like."""

    points: tuple[Point, ...]
    """All sizes that were tried."""

    scenario: Scenario
    """The scenario at the planned size."""

    result: Result | None
    """Its simulation; none where infeasible or not confirmed."""

    @property
    def cost_usd_per_hour(self) -> float | None:
        """Return what the pool costs [USD/h]; none where infeasible or without a price."""
        if not self.feasible or self.price_usd_per_hour is None:
            return None
        return self.accelerators * self.price_usd_per_hour

    @classmethod
    def infeasible(cls, scenario: Scenario, pool: str, hardware: str, reason: str) -> Self:
        """Return the answer that nothing would do."""
        return cls(
            scenario_id=scenario.scenario_id,
            pool=pool,
            hardware=hardware,
            model=scenario.spec.fleet[pool].model,
            feasible=False,
            reason=reason,
            replicas=0,
            accelerators=0,
            layout=scenario.spec.fleet[pool].parallelism,
            max_sequences=0,
            price_usd_per_hour=None,
            price_basis=None,
            levels=(),
            flags=(),
            load=None,
            token_costs=None,
            class_costs=None,
            validity=UNJUDGED,
            points=(),
            scenario=scenario,
            result=None,
        )

    def replicas_within_model_error(self) -> tuple[int, int] | None:
        """Return the replicas that would be enough if capacity were at either end of its 80% band: fewest and most."""
        band = self.validity.bands.get("throughput")
        if band is None or not self.feasible:
            return None
        return math.ceil(self.replicas / band.high), math.ceil(self.replicas / band.low)

    def row(self) -> dict[str, object]:
        """Return the answer as one row of a table."""
        costs, load = self.token_costs, self.load
        fewest, most = self.replicas_within_model_error() or (None, None)
        return {
            "scenario_id": self.scenario_id,
            "pool": self.pool,
            "model": self.model,
            "hardware": self.hardware,
            "feasible": self.feasible,
            "replicas": self.replicas,
            "replicas_model_low": fewest,
            "replicas_model_high": most,
            "accelerators": self.accelerators,
            "layout": layout_in_words(self.layout) if self.feasible else None,
            "max_sequences": self.max_sequences,
            "requests_per_s": None if load is None else load.requests_per_s,
            "price_usd_per_hour": self.price_usd_per_hour,
            "price_basis": self.price_basis,
            "cost_usd_per_hour": self.cost_usd_per_hour,
            "usd_per_million_input_tokens": None if costs is None else costs.usd_per_million_input_tokens,
            "usd_per_million_output_tokens": None if costs is None else costs.usd_per_million_output_tokens,
            "usd_per_million_tokens": None if costs is None else costs.usd_per_million_tokens,
            "stranded_usd_per_hour": None if costs is None else costs.stranded_usd_per_hour,
            "reason": self.reason,
        }

    def summary(self) -> pd.DataFrame:
        """Return the service levels with what was reached, one row a level."""
        return pd.DataFrame([level.__dict__ | {"met": level.met} for level in self.levels])

    def _repr_html_(self) -> str:
        if not self.feasible:
            return f"<p>{html.escape(self.hardware)}: infeasible: {html.escape(self.reason)}</p>"
        title = (
            f"<p>{html.escape(self.scenario_id)}, pool {html.escape(self.pool)}: {self.replicas} replicas of "
            f"{self.accelerators // self.replicas} {html.escape(self.hardware)}</p>"
        )
        return title + str(self.summary().to_html(index=False, border=0, float_format="{:.4g}".format))


@dataclass(frozen=True, eq=False)
class SizingComparison:
    """Accelerators side by side at one load."""

    sizings: tuple[Sizing, ...]
    """One answer an accelerator or alternative, in the order asked for."""

    @property
    def feasible(self) -> bool:
        """Return whether any of them meets the service levels."""
        return any(each.feasible for each in self.sizings)

    @property
    def best(self) -> Sizing | None:
        """Return the cheapest that meets the levels, of those with a price; without any price none is better."""
        priced = [each for each in self.sizings if each.cost_usd_per_hour is not None]
        return min(priced, key=lambda each: each.cost_usd_per_hour or 0.0, default=None)

    def table(self) -> pd.DataFrame:
        """Return one row an accelerator or alternative."""
        return pd.DataFrame([each.row() for each in self.sizings])

    def frontier(self) -> pd.DataFrame:
        """Return cost against latency: all sizes tried, one row each.

        `efficient` says that no other size of the same scenario, accelerator and model is at most as dear and closer
        to nothing on every service level. Without a price, accelerators stand for cost.
        """
        rows = []
        for sizing in self.sizings:
            for point in sizing.points:
                row = {key: value for key, value in point.__dict__.items() if key != "levels"} | {
                    "layout": layout_in_words(point.layout)
                }
                row |= {f"{level.label.replace(' ', '_').lower()}_s": level.value_s for level in point.levels}
                efficient = not any(_dominates(other, point) for other in sizing.points)
                rows.append({"scenario_id": sizing.scenario_id, **row, "efficient": efficient})
        return pd.DataFrame(rows)

    def figure(self) -> dict[str, object]:
        """Return the frontier as a Plotly figure: cost against the largest latency relative to its limit."""
        table = self.frontier()
        traces = []
        for (scenario_id, hardware), group in table.groupby(["scenario_id", "hardware"], sort=False):
            chosen = group[group["efficient"]]
            cost = chosen["cost_usd_per_hour"] if chosen["cost_usd_per_hour"].notna().all() else chosen["accelerators"]
            order = np.argsort(cost.to_numpy(dtype=float))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": f"{hardware} ({scenario_id})",
                    "x": cost.to_numpy(dtype=float)[order].tolist(),
                    "y": chosen["tightness"].to_numpy()[order].tolist(),
                    "text": [f"{each} replicas" for each in chosen["replicas"].to_numpy()[order].tolist()],
                }
            )
        layout = {
            "xaxis": {"title": {"text": "cost [USD/h]"}},
            "yaxis": {"title": {"text": "largest latency over its limit [1]"}, "type": "log"},
            "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "line": {"dash": "dot"}}],
        }
        return {"data": traces, "layout": layout}

    def to_json(self) -> dict[str, object]:
        """Return all answers in JSON types."""
        answers = [
            each.row()
            | {
                "levels": _plain(each.summary()),
                "flags": [flag.__dict__ for flag in each.flags],
                "validity": validity_record(each.validity),
                "classes": [] if each.class_costs is None else _plain(each.class_costs),
            }
            for each in self.sizings
        ]
        return {"sizings": answers, "frontier": _plain(self.frontier())}

    def _repr_html_(self) -> str:
        columns = ["scenario_id", "hardware", "replicas", "accelerators", "layout", "cost_usd_per_hour",
                   "usd_per_million_tokens", "reason"]  # fmt: skip
        return str(self.table()[columns].to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""))


def reached_in(result: Result, scenario: Scenario, pool: str) -> tuple[LevelReached, ...]:
    """Return what the service levels of a pool's classes came to in a result of one scenario."""
    table = result.summary_table
    table = table[table["pool"] == ALL]
    found = []
    for name in scenario.classes_served(pool):
        for level in scenario.service_levels(name):
            rows = table[
                (table["class"] == name)
                & (table["metric"] == f"{level.metric}_s")
                & np.isclose(table["quantile"].astype(float), level.quantile)
            ]
            row = rows.iloc[0]
            counts = table[
                (table["class"] == name) & table["metric"].isin(["requests_rejected", "requests_unfinished"])
            ]
            found.append(
                LevelReached(
                    name,
                    level.metric,
                    level.quantile,
                    level.limit,
                    float(row["value"]),
                    float(row["low"]),
                    float(row["high"]),
                    int(row["samples"]),
                    int(counts["value"].sum()),
                    float(row["model_low"]),
                    float(row["model_high"]),
                    str(row["note"]).startswith(PAST_THE_KNEE),
                )
            )
    return tuple(found)


def _dominates(other: Point, point: Point) -> bool:
    """Return whether a size is at most as dear and at least as fast on every level, and better in one of these."""
    dear, dearer = (each.accelerators if each.cost_usd_per_hour is None else each.cost_usd_per_hour
                    for each in (other, point))  # fmt: skip
    latencies = [(a.value_s, b.value_s) for a, b in zip(other.levels, point.levels, strict=True)]
    if dear > dearer or any(a > b for a, b in latencies):
        return False
    return dear < dearer or any(a < b for a, b in latencies)


def _plain(table: pd.DataFrame) -> Sequence[dict[str, object]]:
    """Return rows in JSON types; what is missing or infinite is null."""
    kept = table.astype(object).where(table.notna() & ~table.isin([np.inf, -np.inf]), None)
    return [{str(key): value for key, value in row.items()} for row in kept.to_dict(orient="records")]
