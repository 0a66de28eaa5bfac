"""Sizings side by side: what accelerators, models and alternatives need at one load, and cost against latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sim.planning.choices import layout_in_words
from sim.planning.sizing_result import Point, Sizing
from sim.results.manifest import validity_record


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
        return pd.DataFrame(rows, columns=None if rows else ["scenario_id", "hardware", "model", "efficient"])

    def figure(self) -> dict[str, object]:
        """Return the frontier as a Plotly figure: cost against the largest latency relative to its limit."""
        table = self.frontier()
        traces = []
        for (scenario_id, model, hardware), group in table.groupby(["scenario_id", "model", "hardware"], sort=False):
            chosen = group[group["efficient"]]
            cost = chosen["cost_usd_per_hour"] if chosen["cost_usd_per_hour"].notna().all() else chosen["accelerators"]
            order = np.argsort(cost.to_numpy(dtype=float))
            shown = chosen.iloc[order]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": f"{model} on {hardware} ({scenario_id})",
                    "x": cost.to_numpy(dtype=float)[order].tolist(),
                    "y": shown["tightness"].tolist(),
                    "text": [
                        f"{replicas} replicas of {layout}, at most {most} sequences"
                        for replicas, layout, most in shown[["replicas", "layout", "max_sequences"]].to_numpy().tolist()
                    ],
                }
            )
        priced = len(table) > 0 and bool(table["cost_usd_per_hour"].notna().all())
        layout = {
            "xaxis": {"title": {"text": "cost [USD/h]" if priced else "accelerators"}},
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
