"""Ways to set up a pool that sizing chooses from: accelerator, layout, batch limit and price, as scenarios."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sim.planning.cost import owned
from sim.specs.economics import EconomicsSpec
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.resolved import Scenario, changed

LARGEST_TENSOR = 16
"""Largest tensor parallelism that is tried on its own account."""


@dataclass(frozen=True)
class Choice:
    """One way to set up a replica."""

    hardware: str
    """Hardware profile."""

    layout: ParallelismSpec
    """Parallelism of a replica."""

    max_sequences: int | None
    """Sequences at a time; none means the scenario's."""

    def in_words(self) -> str:
        """Return hardware, layout and batch limit."""
        batch = "" if self.max_sequences is None else f", at most {self.max_sequences} sequences"
        return f"{self.hardware} {layout_in_words(self.layout)}{batch}"


def layout_in_words(layout: ParallelismSpec) -> str:
    """Return a layout as in `tensor 1, data 8, expert 8`, without what is 1 beside tensor."""
    beside = {name: getattr(layout, name) for name in ("data", "expert", "pipeline")}
    return ", ".join([f"tensor {layout.tensor}", *(f"{name} {count}" for name, count in beside.items() if count > 1)])


def choices(
    scenario: Scenario,
    pool: str,
    hardware: str | None,
    layouts: Sequence[ParallelismSpec],
    batch_limits: Sequence[int],
) -> Iterable[Choice]:
    """Return all combinations of the stated candidates; the scenario's own where none are stated.

    Where hardware is named, tensor parallelism of all powers of two up to 16 is tried beside the scenario's layout, for
    a layout that suits one accelerator seldom suits another.
    """
    own = scenario.spec.fleet[pool].parallelism
    if not layouts:
        others = [_with_tensor(own, 1 << power) for power in range(LARGEST_TENSOR.bit_length())] if hardware else []
        layouts = list(dict.fromkeys([own, *others]))
    name = hardware or scenario.spec.fleet[pool].hardware
    return [Choice(name, layout, limit) for layout in layouts for limit in (batch_limits or (None,))]


def _with_tensor(layout: ParallelismSpec, tensor: int) -> ParallelismSpec:
    """Return a layout with another tensor parallelism; experts that were spread over all stay so."""
    expert = tensor * layout.data if layout.expert > 1 else 1
    return ParallelismSpec(tensor=tensor, data=layout.data, expert=expert, pipeline=layout.pipeline)


def set_up(scenario: Scenario, pool: str, choice: Choice, hardware: HardwareSpec, price: float | None) -> Scenario:
    """Return the scenario with a choice in place of what the pool has, to be tried and not to be kept.

    What the scenario was read from stays as it was: `planned` makes a scenario that can be changed and saved.
    """
    update: dict[str, object] = {"hardware": choice.hardware, "parallelism": choice.layout}
    if choice.max_sequences is not None:
        update["max_sequences"] = choice.max_sequences
    if price is not None:
        update["price"] = price
    fleet = {**scenario.spec.fleet, pool: scenario.spec.fleet[pool].model_copy(update=update)}
    return dataclasses.replace(
        scenario,
        spec=scenario.spec.model_copy(update={"fleet": fleet}),
        hardware={**scenario.hardware, choice.hardware: hardware},
    )


def planned(scenario: Scenario, pool: str, choice: Choice, replicas: int, price: float | None) -> Scenario:
    """Return the scenario with a choice and a number of replicas in place of what the pool has."""
    changes: dict[str, object] = {
        f"fleet.{pool}.hardware": choice.hardware,
        f"fleet.{pool}.parallelism": choice.layout.model_dump(),
        f"fleet.{pool}.replicas": replicas,
    }
    if choice.max_sequences is not None:
        changes[f"fleet.{pool}.max_sequences"] = choice.max_sequences
    if price is not None:
        changes[f"fleet.{pool}.price"] = f"{price!r} USD/h"
    raw = changed(scenario.raw, changes)
    return Scenario.resolve(raw, scenario.library, scenario.scenario_id, scenario.fingerprints)


def owning_price(hardware: HardwareSpec, economics: EconomicsSpec) -> float | None:
    """Return the cost of owning an accelerator by available hour [USD/h]; none where it is not known."""
    cost = owned(hardware, economics)
    return None if cost is None else cost.usd_per_hour / economics.availability.value


def without_alternatives(scenario: Scenario) -> Scenario:
    """Return the scenario on which its alternatives are built."""
    data = {key: value for key, value in scenario.raw.data.items() if key != "alternatives"}
    raw = dataclasses.replace(scenario.raw, data=data)
    return Scenario.resolve(raw, scenario.library, scenario.scenario_id, scenario.fingerprints)


def pool_to_size(scenario: Scenario, pool: str | None) -> str:
    """Return the name of the pool; InputError where it is unknown, or not named and there are several."""
    names = list(scenario.spec.fleet)
    if scenario.spec.alternatives:
        raise InputError(
            [Problem("a scenario with alternatives is several fleets", scenario.raw.file, "alternatives",
                     remedy="Size each of scenario.variants(), or use sim.size, which does.")]
        )  # fmt: skip
    partners = {name: each.hand_over.to for name, each in scenario.spec.fleet.items() if each.hand_over is not None}
    if pool in partners or pool in partners.values():
        remedy = "Write pairs of sizes as alternatives and compare them: fleetcast compare."
        message = "a pool that hands its prompts over has no size of its own: its partner would have to follow"
        raise InputError([Problem(message, scenario.raw.file, f"fleet.{pool}", None, remedy)])
    if pool is None and len(names) == 1:
        return names[0]
    if pool not in names:
        remedy = f"Name one of {', '.join(names)}." if pool is None else suggest(pool, names)
        raise InputError([Problem("the pool to size is not clear", scenario.raw.file, "fleet", pool, remedy)])
    return pool
