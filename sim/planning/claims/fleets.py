"""Fleets of a study: sized by simulation to meet the service levels at least cost, or at saturation."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping

import numpy as np

from sim.engine.preparation import common_trace, plan_run, prepare
from sim.planning.attribution import attribute
from sim.planning.choices import Choice, choices, set_up
from sim.planning.claims.documents import with_documents
from sim.planning.sizing import size_pool
from sim.planning.sizing_result import Sizing
from sim.planning.unit_cost import SECONDS_PER_HOUR
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS
from sim.specs.claim import AttributionStudy, FleetStudy
from sim.specs.errors import InputError, Problem
from sim.specs.library import Library
from sim.specs.resolved import Scenario, changed

Figures = dict[str, float]
"""Name of a figure -> number."""

TOKENS_PER_MILLION = 1e6

LEAST_REPLICAS = 20
"""Replicas from which it hardly matters that they are whole numbers, a twentieth at most."""

MARGIN = 1.1
"""How far beyond that the rates are raised [1]."""

_SIZED: dict[str, Figures] = {}
"""Fleets that were sized in this process; studies share many of them."""


def merged_fleet(base: FleetStudy, delta: FleetStudy) -> FleetStudy:
    """Return a fleet as another one with changes on top; what the delta states wins."""
    documents = {key: {**base.documents.get(key, {}), **delta.documents.get(key, {})}
                 for key in {**base.documents, **delta.documents}}  # fmt: skip
    return FleetStudy(
        scenario=delta.scenario or base.scenario,
        set={**base.set, **delta.set},
        documents=documents,
        layouts=delta.layouts or base.layouts,
        batch_limits=delta.batch_limits or base.batch_limits,
        shortened=delta.shortened or base.shortened,
        least_replicas=delta.least_replicas or base.least_replicas,
        saturated=delta.saturated or base.saturated,
    )


def whole_fleet(fleets: Mapping[str, FleetStudy], name: str) -> FleetStudy:
    """Return a fleet with all that it takes over from others.

    Raises
    ------
    InputError
        It is like a fleet that does not exist, or like itself.

    """
    chain: list[str] = []
    here: str | None = name
    while here is not None:
        if here in chain or here not in fleets:
            problem = "is like itself" if here in chain else "there is no such fleet to be like"
            raise InputError([Problem(problem, path=f"fleets.{chain[-1] if chain else name}.like", value=here)])
        chain.append(here)
        here = fleets[here].like
    found = fleets[chain[-1]]
    for each in reversed(chain[:-1]):
        found = merged_fleet(found, fleets[each])
    return found


def fleet_figures(study: FleetStudy, library: Library) -> Figures:
    """Return what a fleet needs and costs; kept once it was found.

    Figures: `replicas`, `accelerators`, `tensor`, `accelerators_per_replica`, `usd_per_hour` (of one accelerator),
    `requests_per_accelerator_s`, `output_per_accelerator_s`, `usd_per_request`, `usd_per_million_output` (all cost over
    answer tokens), `usd_per_million_tokens` (over all tokens), `accelerators_per_request` (accelerators per request/s),
    `joules_per_output` (power at the meter over answer tokens), `load` (offered over saturation), `tightness` (largest
    latency over its limit), `prompt_tokens`, `cached_tokens`, `output_tokens` (means). What is not known is NaN.

    Raises
    ------
    InputError
        Bad input, or no fleet of this kind meets the service levels.

    """
    key = _key(study, library)
    if key not in _SIZED:
        _SIZED[key] = _sized(study, library)
    return _SIZED[key]


def remember(study: FleetStudy, library: Library, figures: Figures) -> None:
    """Keep the figures of a fleet that was simulated elsewhere."""
    _SIZED[_key(study, library)] = figures


def clear_remembered() -> None:
    """Forget all fleets of this process, as after a file of the library was edited."""
    _SIZED.clear()


def _key(study: FleetStudy, library: Library) -> str:
    return json.dumps([study.model_dump(mode="json"), [str(root) for root in library.roots]], sort_keys=True)


def _sized(study: FleetStudy, library: Library) -> Figures:
    if study.scenario is None:
        raise InputError([Problem("a fleet needs a scenario", path="scenario")])
    raw, fingerprints = library.read("scenario", study.scenario)
    raw = changed(raw, study.set)
    plain = Scenario.resolve(raw, library, known=fingerprints)
    served = sorted({each.workload for each in plain.spec.traffic.values() if each.workload is not None})
    answers = {} if study.shortened is None else dict.fromkeys(served, study.shortened)
    with with_documents(library, study.documents, answers) as changed_library:
        scenario = Scenario.resolve(raw, changed_library, known=fingerprints)
        pool = next(iter(scenario.spec.fleet))
        hardware = scenario.spec.fleet[pool].hardware
        if study.saturated:
            return _saturated(study, scenario, pool, hardware)
        found = size_pool(scenario, pool, hardware=hardware, layouts=study.layouts, batch_limits=study.batch_limits)
        least = study.least_replicas or LEAST_REPLICAS
        if found.feasible and found.replicas < least and found.load is not None:
            # the load in replicas lies between that at saturation and the whole number that was found
            most, _ = _saturation(scenario, pool, Choice(hardware, found.layout, _limit(found)))
            needed = max(found.load.requests_per_s / most, found.replicas - 1.0)
            scenario = _busier(scenario, MARGIN * least / needed)
            found = size_pool(scenario, pool, hardware=hardware, layouts=study.layouts, batch_limits=study.batch_limits)
        if not found.feasible or found.load is None or found.result is None:
            raise InputError([Problem(f"no fleet meets the service levels: {found.reason}", value=hardware)])
        load = found.load
        per_replica = found.accelerators // found.replicas
        saturated, _ = _saturation(scenario, pool, Choice(hardware, found.layout, _limit(found)))
        figures = _figures(
            scenario, hardware, load.requests_per_s / found.accelerators, found.price_usd_per_hour,
            load.prompt_tokens, load.cached_tokens, load.output_tokens,
        )  # fmt: skip
        return figures | {
            "replicas": float(found.replicas),
            "accelerators": float(found.accelerators),
            "tensor": float(found.layout.tensor),
            "accelerators_per_replica": float(per_replica),
            "load": load.requests_per_s / found.replicas / saturated,
            "tightness": max(level.tightness for level in found.levels),
        }


def _limit(found: Sizing) -> int:
    """Return the batch limit of a sizing as a scenario states it: of each data-parallel group."""
    return found.max_sequences // found.layout.data


def _busier(scenario: Scenario, factor: float) -> Scenario:
    """Return a scenario all of whose rates are higher by a factor."""
    changes: dict[str, object] = {}
    for name, traffic in scenario.spec.traffic.items():
        if traffic.workload is not None:
            rate = traffic.rate or scenario.workloads[traffic.workload].rate.value
            changes[f"traffic.{name}.rate"] = f"{factor * rate!r} requests/s"
    raw = changed(scenario.raw, changes)
    return Scenario.resolve(raw, scenario.library, scenario.scenario_id, scenario.fingerprints)


def _saturated(study: FleetStudy, scenario: Scenario, pool: str, hardware: str) -> Figures:
    best: Figures = {}
    reason = "no layout fits"
    for choice in choices(scenario, pool, hardware, study.layouts, study.batch_limits):
        try:
            served, means = _saturation(scenario, pool, choice)
        except InputError as error:
            reason = error.problems[0].message
            continue
        each = served / choice.layout.accelerators
        if each <= best.get("requests_per_accelerator_s", 0.0):
            continue
        price = prepare([set_up(scenario, pool, choice, scenario.hardware[hardware], None)])[0].deployments[0].price
        best = _figures(scenario, hardware, each, None if price is None else price.usd_per_hour, *means)
        best |= {
            "replicas": 1.0, "accelerators": float(choice.layout.accelerators), "tensor": float(choice.layout.tensor),
            "accelerators_per_replica": float(choice.layout.accelerators), "load": 1.0, "tightness": math.nan,
        }  # fmt: skip
    if not best:
        raise InputError([Problem(reason, value=hardware)])
    return best


def _saturation(scenario: Scenario, pool: str, choice: Choice) -> tuple[float, tuple[float, float, float]]:
    """Return what one replica serves at saturation [requests/s], and mean prompt, cached and answer tokens."""
    prepared = prepare([set_up(scenario, pool, choice, scenario.hardware[choice.hardware], None)])[0]
    position = list(scenario.spec.fleet).index(pool)
    plan = plan_run(prepared, common_trace([prepared], 0), 0)
    trace = plan.trace
    keep = trace.arrival_ns >= scenario.spec.warm_up * NANOSECONDS
    prompt, cached, output = (each[keep] for each in (trace.prompt_tokens, trace.cached_tokens, trace.output_tokens))
    deployment = plan.deployments[position]
    served = saturated_requests_per_s(deployment, request_mix(prompt, cached, output, deployment.window))
    return served, (float(np.mean(prompt)), float(np.mean(cached)), float(np.mean(output)))


def _figures(
    scenario: Scenario,
    hardware: str,
    each_per_s: float,
    price: float | None,
    prompt: float,
    cached: float,
    output: float,
) -> Figures:
    usd_per_hour = math.nan if price is None else price
    usd = usd_per_hour / SECONDS_PER_HOUR / each_per_s
    power = scenario.hardware[hardware].power.all_in
    return {
        "usd_per_hour": usd_per_hour,
        "requests_per_accelerator_s": each_per_s,
        "output_per_accelerator_s": each_per_s * output,
        "accelerators_per_request": 1.0 / each_per_s,
        "usd_per_request": usd,
        "usd_per_million_output": usd / output * TOKENS_PER_MILLION,
        "usd_per_million_tokens": usd / (prompt + output) * TOKENS_PER_MILLION,
        "joules_per_output": math.nan if power is None else power.value / (each_per_s * output),
        "prompt_tokens": prompt,
        "cached_tokens": cached,
        "output_tokens": output,
    }


def coalition(base: FleetStudy, levers: Mapping[str, FleetStudy], chosen: frozenset[str]) -> FleetStudy:
    """Return a fleet with some levers on, in the order in which they stand."""
    fleet = base
    for lever, delta in levers.items():
        if lever in chosen:
            fleet = merged_fleet(fleet, delta)
    return fleet


def attribution_figures(
    study: AttributionStudy, fleets: Mapping[str, FleetStudy], library: Library, told: Callable[[str], None]
) -> Figures:
    """Return by what factor a figure falls with all levers, and the part of each lever in it.

    Figures: `total`; by lever `LEVER` (Shapley factor: they multiply to the total), `alone_LEVER`, `last_LEVER`;
    `product_alone`, what the factors alone would multiply to. Every set of levers is a fleet that is sized by
    simulation.
    """
    base = whole_fleet(fleets, study.fleet)

    def cost(chosen: frozenset[str]) -> float:
        told(" + ".join(sorted(chosen)) or "no lever")
        return math.log(fleet_figures(coalition(base, study.levers, chosen), library)[study.figure])

    found = attribute(list(study.levers), cost)
    figures = {"total": math.exp(found.before - found.after)}
    for lever in study.levers:
        figures[lever] = math.exp(found.shapley[lever])
        figures[f"alone_{lever}"] = math.exp(found.alone[lever])
        figures[f"last_{lever}"] = math.exp(found.last[lever])
    figures["product_alone"] = math.prod(figures[f"alone_{lever}"] for lever in study.levers)
    for first, second in itertools.combinations(study.levers, 2):
        figures[f"overlap_{first}_{second}"] = math.exp(found.interaction[first, second])
    return figures
