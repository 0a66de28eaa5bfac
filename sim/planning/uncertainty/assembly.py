"""From evaluated worlds to the tables of a study, its flags and its manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sim.demand.streams import stream
from sim.planning.evaluation import Evaluation
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.design import Design
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.estimates import QUANTILES, Fan, fan
from sim.planning.uncertainty.flags import Shares, few_pairs, few_samples, fractions_matter, response_off
from sim.planning.uncertainty.inputs import REPLICATE, Input
from sim.planning.uncertainty.outcomes import ALL, BEST, PLAN, WORLD, Asked
from sim.planning.uncertainty.result import Uncertainty
from sim.planning.uncertainty.sensitivity import Bar, sobol_indices, tornado
from sim.planning.uncertainty.tables import arrow
from sim.specs.uncertainty import UncertaintySpec
from sim.version import __version__

if TYPE_CHECKING:
    from sim.planning.uncertainty.study import Settings

MOVES_NOTHING = "drawn, and moves no number of the study"
_LAST_MONTH = {
    ("cost_usd", BEST), ("cost_usd", PLAN), ("accelerators", BEST), ("usd_per_unit", WORLD), ("demand_per_s", WORLD),
}  # fmt: skip
_EVERY_WORLD = {
    ("net_present_cost_usd", BEST), ("net_present_cost_usd", PLAN), ("cost_over_best", PLAN), ("unserved_share", PLAN),
    ("viable_from_months", WORLD),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What all worlds of a study come to."""

    asked: Sequence[Asked]
    """What the columns are, K."""

    parts: Mapping[str, FloatArray]
    """Block of worlds -> numbers, shape (worlds, K): base, samples, tornado, replicates, first, second, mixed GROUP."""


def assembled(
    horizon: Horizon,
    spec: UncertaintySpec,
    inputs: Sequence[Input],
    worlds: Design,
    evaluated: Evaluated,
    checks: Sequence[Sequence[Mapping[str, Any]]],
    plan: Evaluation,
    settings: Settings,
    fingerprints: Mapping[str, str],
) -> Uncertainty:
    """Return the study of evaluated worlds."""
    name = horizon.spec.name
    asked, parts = evaluated.asked, evaluated.parts
    headlines = [place for place, each in enumerate(asked) if is_headline(each, f"{horizon.spec.end:%Y-%m}")]
    fans = [fan(parts["samples"][:, place]) for place in range(len(asked))]
    enough = [each.enough(spec.quantile_tolerance.value) for each in fans]
    indices = _indices(evaluated, worlds, headlines, horizon, settings)
    response = _response(name, checks)
    tables = {
        "inputs": arrow("inputs", _inputs(name, inputs, worlds, parts)),
        "draws": arrow("draws", _draws(name, worlds)),
        "samples": arrow("samples", _samples(name, asked, parts["samples"])),
        "fans": arrow("fans", _fans(name, asked, fans, enough, parts["base"][0])),
        "tornado": arrow("tornado", _tornado(name, asked, headlines, worlds, parts)),
        "sobol": arrow("sobol", _sobol(name, asked, indices, spec, settings)),
        "noise": arrow("noise", _noise(name, asked, indices, parts, horizon)),
        "response": arrow("response", response),
    }
    distances: pd.Series[float] | None = None
    if len(response):
        larger = np.maximum(response["simulated_per_s"], response["response_per_s"])
        distances = (response["simulated_per_s"] - response["response_per_s"]).abs() / larger
    fractions = float(parts["base"][0][_place(asked, "net_present_cost_usd", BEST)])
    manifest = {
        "study_id": name,
        "start": f"{horizon.spec.start:%Y-%m}",
        "version": __version__,
        "ranges": spec.name,
        "settings": {each: getattr(settings, each) for each in sorted(settings.__dataclass_fields__)},
        "drawn": len(worlds.inputs),
        "not_drawn": sum(not each.drawn for each in inputs),
        "fingerprints": dict(horizon.fingerprints) | dict(fingerprints),
        "changed": {".".join(map(str, place)): True for place in horizon.raw.changed},
        "plan": {
            "net_present_cost_usd": plan.net_present_cost_usd,
            "fractions_net_present_cost_usd": fractions,
            "gap": plan.fleet.gap,
        },
        "response": None if distances is None else {
            "replicas": int(distances.size), "median": float(distances.median()),
            "p90": float(distances.quantile(0.9)), "largest": float(distances.max()),
        },
        "flags": [
            *few_samples(asked, fans, enough, headlines, spec, settings),
            *few_pairs(asked, headlines, indices, spec, settings),
            *fractions_matter(plan.net_present_cost_usd, fractions),
            *response_off(None if distances is None else float(distances.median())),
        ],
    }  # fmt: skip
    return Uncertainty(tables, manifest)


def is_headline(asked: Asked, last_month: str) -> bool:
    """Return whether a number is one of those whose drivers are looked for."""
    kind = (asked.metric, asked.fleet)
    if asked.period == ALL:
        return kind in _EVERY_WORLD
    latency = asked.fleet == PLAN and asked.metric.startswith(("ttft_", "tpot_", "e2e_"))
    return asked.period == last_month and (kind in _LAST_MONTH or latency)


def _place(asked: Sequence[Asked], metric: str, fleet: str) -> int:
    return list(asked).index(Asked(metric, fleet, ALL, ALL))


def _scaled(metric: str, columns: Sequence[FloatArray], horizon: Horizon) -> tuple[str, list[FloatArray]]:
    """Return numbers on the scale of their variance, logarithms where all exceed 0; never is after the last month."""
    if metric.endswith("_months"):
        last = float(len(horizon.months))
        return "plain", [np.minimum(each, last) for each in columns]
    everything = np.concatenate(columns)
    if (everything[np.isfinite(everything)] > 0.0).all():
        return "log", [np.log(each) for each in columns]
    return "plain", list(columns)


def _indices(
    evaluated: Evaluated, worlds: Design, headlines: Sequence[int], horizon: Horizon, settings: Settings
) -> list[Shares]:
    if not settings.pairs:
        return []
    parts, found = evaluated.parts, []
    names = ["first", "second", *(f"mixed {group}" for group in worlds.groups)]
    for place in headlines:
        metric = evaluated.asked[place].metric
        scale, columns = _scaled(metric, [parts[name][:, place] for name in names], horizon)
        seed = int(stream(settings.seed, "uncertainty", "bootstrap").integers(1 << 31))
        mixed = dict(zip(worlds.groups, columns[2:], strict=True))
        known = np.concatenate(columns[:2])
        known = known[np.isfinite(known)]
        variance = float(known.var()) if known.size else math.nan
        found.append(Shares(place, scale, variance, sobol_indices(columns[0], columns[1], mixed, seed)))
    return found


def _inputs(name: str, inputs: Sequence[Input], worlds: Design, parts: Mapping[str, FloatArray]) -> pd.DataFrame:
    base = parts["base"][0]
    singles = [each for each in worlds.inputs if each.name != REPLICATE]
    moving = {REPLICATE} if _differs(parts["replicates"], base) else set()
    moving |= {
        each.name
        for number, each in enumerate(singles)
        if _differs(parts["tornado"][2 * number : 2 * number + 2], base)
    }
    return pd.DataFrame([
        {
            "study_id": name, "input": each.name, "group": each.group, "unit": each.unit, "low": each.low,
            "value": each.value, "high": each.high, "shape": each.shape, "interval": each.interval,
            "drawn": each.drawn, "source": each.source,
            "reason": each.reason or ("" if each.name in moving else MOVES_NOTHING),
        }
        for each in inputs
    ])  # fmt: skip


def _differs(rows: FloatArray, base: FloatArray) -> bool:
    return any(not np.array_equal(row, base, equal_nan=True) for row in rows)


def _draws(name: str, worlds: Design) -> dict[str, Any]:
    count, width = worlds.samples.shape
    return {
        "study_id": [name] * (count * width),
        "sample": np.repeat(np.arange(count), width),
        "input": [each.name for each in worlds.inputs] * count,
        "value": worlds.samples.ravel(),
    }


def _keys(name: str, asked: Sequence[Asked], repeats: int = 1) -> dict[str, Any]:
    """Return the columns that say what is asked, each number `repeats` times in a row."""
    columns: dict[str, Any] = {"study_id": [name] * (len(asked) * repeats)}
    for key, column in (("metric", "metric"), ("fleet", "fleet"), ("class_name", "class"), ("period", "period")):
        columns[column] = [getattr(each, key) for each in asked for _ in range(repeats)]
    return columns


def _samples(name: str, asked: Sequence[Asked], numbers: FloatArray) -> dict[str, Any]:
    count = len(numbers)
    rows = _keys(name, list(asked) * count)
    return {**rows, "sample": np.repeat(np.arange(count), len(asked)), "value": numbers.ravel()}


def _fans(name: str, asked: Sequence[Asked], fans: Sequence[Fan], enough: Sequence[bool], base: FloatArray) -> Any:
    count = len(QUANTILES)
    return {
        **_keys(name, asked, count),
        "quantile": list(QUANTILES) * len(asked),
        "value": [value for each in fans for value in each.values],
        "low": [value for each in fans for value in each.lows],
        "high": [value for each in fans for value in each.highs],
        "base": np.repeat(base, count),
        "samples": [each.samples for each in fans for _ in range(count)],
        "enough": [each for each in enough for _ in range(count)],
    }


def _tornado(
    name: str, asked: Sequence[Asked], headlines: Sequence[int], worlds: Design, parts: Mapping[str, FloatArray]
) -> pd.DataFrame:
    singles = [each for each in worlds.inputs if each.name != REPLICATE]
    groups = {each.name: each.group for each in singles}
    rows = []
    for place in headlines:
        column = parts["tornado"][:, place]
        bars = [
            Bar(each.name, float(column[2 * number]), float(column[2 * number + 1]))
            for number, each in enumerate(singles)
        ]
        key = {name: values[0] for name, values in _keys(name, [asked[place]]).items()}
        rows += [
            {**key, "rank": rank, "input": bar.name, "group": groups[bar.name], "at_low": bar.at_low,
             "at_high": bar.at_high, "base": float(parts["base"][0][place])}
            for rank, bar in enumerate(tornado(bars), 1)
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _sobol(
    name: str, asked: Sequence[Asked], shares: Sequence[Shares], spec: UncertaintySpec, settings: Settings
) -> pd.DataFrame:
    rows = []
    for each in shares:
        key = {column: values[0] for column, values in _keys(name, [asked[each.place]]).items()}
        for index in each.indices:
            for order, value, half in (
                ("first", index.first, index.first_half),
                ("total", index.total, index.total_half),
            ):
                rows.append({
                    **key, "scale": each.scale, "group": index.group, "order": order, "value": value,
                    "low": value - half, "high": value + half, "pairs": settings.pairs,
                    "enough": bool(half <= spec.index_tolerance.value),
                })  # fmt: skip
    columns = [*_keys(name, []), "scale", "group", "order", "value", "low", "high", "pairs", "enough"]
    return pd.DataFrame(rows, columns=columns)


def _noise(
    name: str,
    asked: Sequence[Asked],
    shares: Sequence[Shares],
    parts: Mapping[str, FloatArray],
    horizon: Horizon,
) -> pd.DataFrame:
    """Return the split of variance: what is left when all inputs are known is the total index of the replicates."""
    rows = []
    for each in shares:
        key = {column: values[0] for column, values in _keys(name, [asked[each.place]]).items()}
        index = next((one for one in each.indices if one.group == "simulation"), None)
        _, (column,) = _scaled(asked[each.place].metric, [parts["replicates"][:, each.place]], horizon)
        rows.append({
            **key, "scale": each.scale, "variance": each.variance,
            "from_inputs": math.nan if index is None else 1.0 - index.total,
            "from_simulation": math.nan if index is None else index.total,
            "half_interval": math.nan if index is None else index.total_half,
            "at_base": float(column.var(ddof=1)) if len(column) > 1 else math.nan,
        })  # fmt: skip
    columns = [*_keys(name, []), "scale", "variance", "from_inputs", "from_simulation", "half_interval", "at_base"]
    return pd.DataFrame(rows, columns=columns)


def _response(name: str, checks: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    rows = [{"study_id": name, "sample": sample, **each} for sample, found in enumerate(checks) for each in found]
    columns = ["study_id", "sample", "class", "model", "compressed", "pace", "accelerator"]
    columns += ["response_per_s", "simulated_per_s"]
    return pd.DataFrame(rows, columns=columns)
