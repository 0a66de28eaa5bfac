"""What can be described and not yet simulated: an error, never a key that is read and then ignored."""

from __future__ import annotations

from collections.abc import Iterator

from sim.specs.errors import Problem
from sim.specs.reading import RawDocument
from sim.specs.scenario import RouterName, ScenarioSpec

AWAITED_IN_POOLS = (
    "admission", "autoscaling", "cold_start", "failures", "hand_over", "outages", "power", "prefix_cache", "roll_outs",
    "spill_over", "swap",
)  # fmt: skip
"""Keys of pools that no engine acts on yet."""

AWAITED_IN_CLASSES = ("deadline", "reserved_share", "retries", "timeout")
"""Keys of traffic classes that no engine acts on yet."""

AWAITED_IN_SCENARIOS = ("apis", "routing", "site")
"""Keys of scenarios that no engine acts on yet."""

AWAITED_ROUTERS: tuple[RouterName, ...] = ("least_kv", "prefix_affinity")
"""Routers that no engine has yet."""


def awaited_problems(spec: ScenarioSpec, raw: RawDocument) -> Iterator[Problem]:
    """Yield what a scenario asks for and no engine does yet."""
    places = [(key,) for key in AWAITED_IN_SCENARIOS if key in spec.model_fields_set]
    parts = [("fleet", name, pool, AWAITED_IN_POOLS) for name, pool in spec.fleet.items()]
    classes = [("traffic", name, traffic, AWAITED_IN_CLASSES) for name, traffic in spec.traffic.items()]
    for place in places:
        yield _awaited(raw, place)
    for kind, name, part, keys in (*parts, *classes):
        for key in keys:
            if getattr(part, key) != type(part).model_fields[key].default:
                yield _awaited(raw, (kind, name, key))
    if spec.router in AWAITED_ROUTERS:
        yield _awaited(raw, ("router",), spec.router)


def _awaited(raw: RawDocument, place: tuple[str, ...], value: object = None) -> Problem:
    return raw.problem("can be described but not simulated yet", place, value, "Leave it out.")
