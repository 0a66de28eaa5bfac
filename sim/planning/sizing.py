"""How many replicas a load needs: the smallest number that meets all service levels, by simulation.

A closed form says where to start, requests that never meet say whether any number would do, growth and bisection over
simulations of the same requests find the number, and the answer is simulated again as a whole, flags included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from sim.planning.choices import (
    layout_in_words,
    owning_price,
    planned,
    pool_to_size,
    without_alternatives,
)
from sim.planning.search import Answer, answers_for, beyond, point_of
from sim.planning.sizing_comparison import SizingComparison
from sim.planning.sizing_result import Point, Sizing, reached_in
from sim.planning.token_cost import class_costs, pool_load, pool_token_costs
from sim.results.result import Result
from sim.simulation import simulate
from sim.specs.economics import EconomicsSpec
from sim.specs.errors import InputError, Problem
from sim.specs.fleet import REPLICA_LIMIT, ParallelismSpec
from sim.specs.resolved import Scenario

REPAIRS = 12
"""Larger sizes to try where the answer, simulated as a whole, misses a level after all."""

Told = Callable[[str, float], None]


def size_pool(
    scenario: Scenario,
    pool: str | None = None,
    *,
    hardware: str | None = None,
    layouts: Sequence[ParallelismSpec] = (),
    batch_limits: Sequence[int] = (),
    economics: EconomicsSpec | None = None,
    frontier: bool = False,
    confirm: bool = True,
    target_load: float = 1.0,
    most_replicas: int = REPLICA_LIMIT,
) -> Sizing:
    """Return the cheapest size of one pool that meets the service levels of the classes it serves.

    Parameters
    ----------
    scenario : Scenario
        Load, pools and service levels, without alternatives. Other pools keep their sizes.
    pool : str, optional
        The pool to size; may be left out where there is one.
    hardware : str, optional
        Hardware profile instead of the pool's.
    layouts : sequence of ParallelismSpec
        Layouts of a replica to choose from; empty means the scenario's, where `hardware` is given also tensor
        parallelism of all powers of two up to 16 that fits.
    batch_limits : sequence of int
        Limits on the sequences of a replica to choose from; empty means the scenario's.
    economics : EconomicsSpec, optional
        Price accelerators at the cost of owning them on these terms, by available hour, instead of the scenario's
        price basis.
    frontier : bool
        Try some sizes beyond the smallest too, to show what more money buys.
    confirm : bool
        Simulate the answer again as a whole and add replicas until that meets the levels and is not saturated.
    target_load : float
        Most load of a replica over its mean-field capacity, whatever its latencies would allow [1].
    most_replicas : int
        Largest number of replicas to consider.

    Raises
    ------
    InputError
        Bad input, an unknown pool, or no service level to meet. Hardware that cannot serve is no bad input but an
        infeasible sizing with its reason.

    Assumes that more replicas never hurt; requests, and so the answer, depend on the scenario's seed.

    """
    name = pool_to_size(scenario, pool)
    if not any(scenario.service_levels(each) for each in scenario.classes_served(name)):
        remedy = "Give the scenario or its workloads service levels."
        raise InputError(
            [
                Problem(
                    "no class of this pool has a service level to meet",
                    scenario.raw.file,
                    f"fleet.{name}",
                    None,
                    remedy,
                )
            ]
        )
    profile_name = hardware or scenario.spec.fleet[name].hardware
    profile = scenario.hardware.get(profile_name)
    if profile is None:
        profile = scenario.library.load("hardware", profile_name, scenario.raw.file).spec
    price = None if economics is None else owning_price(profile, economics)
    if economics is not None and price is None:
        reason = f"{profile_name}: the cost of owning is not known, for the profile lacks a purchase price or its power"
        return Sizing.infeasible(scenario, name, profile_name, reason)
    found = answers_for(
        scenario, name, profile, layouts=layouts, batch_limits=batch_limits, price=price, target_load=target_load,
        most_replicas=most_replicas, compare_layouts=hardware is not None,
    )  # fmt: skip
    if found.best is None:
        return Sizing.infeasible(scenario, name, profile_name, found.reason)
    answer = found.best
    others = [point_of(each, trial) for each in found.answers for trial in each.trials]
    sizing = _confirmed(scenario, answer, name, price) if confirm else _answered(scenario, answer, name, price)
    if frontier and sizing.feasible:
        others += beyond(answer, sizing.replicas)
    basis = sizing.price_basis if economics is None else f"owning, {economics.name}"
    return dataclasses.replace(sizing, points=_sorted(others), price_basis=basis)


def size(
    scenario: Scenario,
    hardware: Sequence[str] = (),
    models: Sequence[str] = (),
    *,
    pool: str | None = None,
    layouts: Sequence[ParallelismSpec] = (),
    batch_limits: Sequence[int] = (),
    economics: EconomicsSpec | None = None,
    frontier: bool = True,
    progress: Told | None = None,
) -> SizingComparison:
    """Return the size that each accelerator needs for the load of a scenario.

    Parameters
    ----------
    scenario : Scenario
        Load, pools and service levels. Without `hardware`, each of its alternatives is sized.
    hardware : sequence of str
        Hardware profiles to compare; alternatives are then left aside.
    models : sequence of str
        Models to compare, on each accelerator; alternatives are then left aside.
    pool, layouts, batch_limits, economics, frontier
        As `size_pool`.
    progress : callable, optional
        Told what is being sized and how far the work is.

    Raises
    ------
    InputError
        As `size_pool`; an unknown hardware profile or model.

    """
    cases: list[tuple[Scenario, str | None]] = [(each, None) for each in scenario.variants()]
    if hardware or models:
        for profile in hardware:
            scenario.library.find("hardware", profile, scenario.raw.file)
        base = without_alternatives(scenario)
        path = f"fleet.{pool_to_size(base, pool)}.model"
        bases = [base.replace(path, model) for model in dict.fromkeys(models)] or [base]
        cases = [(each, profile) for each in bases for profile in dict.fromkeys(hardware or (None,))]
    sizings = []
    for position, (each, wanted) in enumerate(cases):
        if progress is not None:
            progress(wanted or each.scenario_id, position / len(cases))
        sizings.append(
            size_pool(
                each, pool, hardware=wanted, layouts=layouts, batch_limits=batch_limits, economics=economics,
                frontier=frontier,
            )
        )  # fmt: skip
    return SizingComparison(tuple(sizings))


def _answered(
    scenario: Scenario,
    answer: Answer,
    pool: str,
    price: float | None,
    replicas: int = 0,
    whole: Scenario | None = None,
    result: Result | None = None,
) -> Sizing:
    """Return an answer as a sizing, at its own size or at a larger one, with its simulation where there is one."""
    probe, replicas = answer.probe, replicas or answer.replicas
    whole = planned(scenario, pool, answer.choice, replicas, price) if whole is None else whole
    deployment = dataclasses.replace(probe.deployment, replicas=replicas)
    quoted = deployment.price
    costs = None if result is None else pool_token_costs(result, deployment, probe.window)
    return Sizing(
        scenario_id=scenario.scenario_id,
        pool=pool,
        hardware=deployment.hardware,
        model=deployment.model,
        feasible=True,
        reason="",
        replicas=replicas,
        accelerators=replicas * deployment.accelerators,
        layout=answer.choice.layout,
        max_sequences=deployment.max_sequences,
        price_usd_per_hour=None if quoted is None else quoted.usd_per_hour,
        price_basis=None if quoted is None else quoted.basis.value,
        levels=answer.trial.levels if result is None else reached_in(result, whole, pool),
        flags=() if result is None else tuple(result.flags),
        load=None if result is None else pool_load(result, pool, probe.window),
        token_costs=costs,
        class_costs=None if result is None or costs is None else class_costs(result, pool, probe.window, costs),
        validity=deployment.validity,
        points=(),
        scenario=whole,
        result=result,
    )


def _confirmed(scenario: Scenario, answer: Answer, pool: str, price: float | None) -> Sizing:
    """Return an answer simulated as a whole, with more replicas where that misses a level or is saturated."""
    replicas = answer.replicas
    for _ in range(REPAIRS):
        whole = planned(scenario, pool, answer.choice, replicas, price)
        sizing = _answered(scenario, answer, pool, price, replicas, whole, simulate(whole))
        missed = [level.in_words() for level in sizing.levels if not level.met]
        missed += [each.message for each in sizing.flags if each.name == "saturated" and each.scope == f"pool {pool}"]
        if not missed:
            return sizing
        replicas += max(1, replicas // 50)
    reason = f"{answer.choice.in_words()}: {missed[0]}, still with {sizing.replicas} replicas"
    return Sizing.infeasible(scenario, pool, answer.choice.hardware, reason)


def _sorted(points: Iterable[Point]) -> tuple[Point, ...]:
    return tuple(sorted(points, key=lambda each: (each.accelerators, layout_in_words(each.layout), each.max_sequences)))
