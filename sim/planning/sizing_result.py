"""What sizing answers: one accelerator's size with all that speaks for it, and accelerators side by side."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from sim.planning.choices import layout_in_words
from sim.planning.levels import LevelReached
from sim.planning.token_cost import Load
from sim.planning.unit_cost import TokenCosts
from sim.results.flags import Flag
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
