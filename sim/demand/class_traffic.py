"""What the classes of a scenario send: workloads at their rates, answered as the model that serves them answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.demand.answers import answers_of, mapped_lengths
from sim.demand.compression import accuracy_change, compressed_lengths, fitted_power_law, load_compression
from sim.demand.generate import generate_class
from sim.demand.lengths import length_quantile, mean_length
from sim.demand.scaling import grown
from sim.demand.trace import Trace, merge_traces
from sim.demand.trace_files import read_trace
from sim.specs.distributions import LengthDistribution
from sim.specs.errors import InputError, Problem
from sim.specs.model import ModelSpec
from sim.specs.resolved import Scenario
from sim.specs.work import ShorterAnswersSpec
from sim.specs.workload import WorkloadSpec

_PLACES = 200


@dataclass(frozen=True)
class ClassTraffic:
    """A synthetic class as it is drawn."""

    workload: WorkloadSpec
    """Workload with the answers of the model that serves it."""

    rate_per_s: float
    """Mean rate, growth included [requests/s]."""

    answers: dict[str, Any]
    """How the answers differ from those of the workload as described, for the manifest; empty where they do not."""

    accuracy_change: float | None
    """Change of the share of right answers by a method that shortens them [1]; none where it is not known."""


def class_traffic(scenario: Scenario, name: str) -> ClassTraffic:
    """Return a synthetic class of a scenario.

    Parameters
    ----------
    scenario : Scenario
        The scenario.
    name : str
        A class with a workload and without a trace.

    Raises
    ------
    InputError
        A class whose answers go by model and that several models serve, or an effort or a method that is not measured.

    """
    traffic = scenario.spec.traffic[name]
    assert traffic.workload is not None, "a class without a trace has a workload"
    workload = scenario.workloads[traffic.workload]
    rate = (workload.rate.value if traffic.rate is None else traffic.rate) * traffic.growth
    output, told = workload.output_tokens, dict[str, Any]()
    change: float | None = None
    if traffic.answers == "by_model" and (workload.answers is not None or traffic.effort is not None):
        output, told = _by_model(scenario, name, workload)
    if traffic.shorter_answers is not None:
        output, change, shortened = _shorter(scenario, name, traffic.shorter_answers, output)
        told |= shortened
    if told:
        workload = workload.model_copy(update={"output_tokens": output})
    return ClassTraffic(workload, rate, told, change)


def answers_told(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """Return how answers differ from those of the workloads, by class; only classes where they do."""
    synthetic = [name for name, traffic in scenario.spec.traffic.items() if traffic.trace is None]
    told = {name: class_traffic(scenario, name).answers for name in synthetic}
    return {name: each for name, each in told.items() if each}


def scenario_trace(scenario: Scenario, replication: int) -> Trace:
    """Return all requests of a scenario; recorded classes are the same in every replication.

    Raises
    ------
    InputError
        Unreadable traces, answers that are not measured, classes that the scenario does not know, or no request at all.

    """
    spec = scenario.spec
    traces: list[Trace] = []
    problems: list[Problem] = []
    read: set[str] = set()
    replayed: dict[str, tuple[float, float]] = {}
    for name, traffic in spec.traffic.items():
        try:
            file = scenario.trace_file(name)
            if file is None:
                made = class_traffic(scenario, name)
                run = (spec.duration, spec.start_hour, spec.seed, name, replication)
                traces.append(generate_class(made.workload, made.rate_per_s, *run))
            elif replayed.setdefault(str(file), (traffic.trace_speed, traffic.growth)) != (
                traffic.trace_speed,
                traffic.growth,
            ):
                message = "replays a file as another class does, at another speed or growth"
                raise InputError([scenario.raw.problem(message, ("traffic", name, "trace"), traffic.trace)])
            elif str(file) not in read:
                # classes that replay one file share it: its column `class` says which rows are whose
                read.add(str(file))
                recorded = read_trace(file, name).scaled(1.0 / traffic.trace_speed)
                traces.append(recorded if traffic.growth == 1.0 else grown(recorded, traffic.growth, spec.seed))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    trace = merge_traces(traces)
    unknown = [name for name in trace.classes if name not in spec.traffic]
    if unknown:
        remedy = "Add them to `traffic`, or leave out the column `class`."
        message = "a trace has classes that the scenario does not know"
        raise InputError([scenario.raw.problem(message, ("traffic",), ", ".join(unknown), remedy)])
    if trace.requests == 0:
        remedy = "Raise the rates or the duration."
        raise InputError([scenario.raw.problem("no request arrives at all", ("traffic",), remedy=remedy)])
    return trace


def _by_model(scenario: Scenario, name: str, workload: WorkloadSpec) -> tuple[LengthDistribution, dict[str, Any]]:
    traffic = scenario.spec.traffic[name]
    pools = [pool for pool in scenario.spec.fleet if name in scenario.classes_served(pool)]
    models = dict.fromkeys(scenario.spec.fleet[pool].model for pool in pools)
    if len(models) != 1:
        message = f"is served by {' and '.join(models) or 'no model'}, which answer differently"
        remedy = "Serve it by one model, or write `answers: of_workload`."
        raise InputError([scenario.raw.problem(message, ("traffic", name), remedy=remedy)])
    model = scenario.models[next(iter(models))]
    reference = None if workload.answers is None else _reference(scenario, workload.answers.model)
    try:
        found = answers_of(workload, model, reference, traffic.effort)
    except InputError as error:
        place = ("traffic", name, "effort")
        raise InputError(
            [scenario.raw.problem(f"{each.file} {each.message}", place, each.value, each.remedy)
             for each in error.problems]
        ) from None  # fmt: skip
    if not found.tasks and (reference is None or reference.name == model.name):
        return found.lengths, {}
    told: dict[str, Any] = {
        "model": model.name,
        "described_for": None if reference is None else reference.name,
        "effort": traffic.effort,
        "tasks": list(found.tasks),
        "length_ratio": round(found.ratio, 4),
    }
    if not found.tasks:
        told["note"] = f"{model.name} is not measured on these tasks: its answers are taken to be as long"
    return found.lengths, told


def _reference(scenario: Scenario, name: str) -> ModelSpec:
    known = scenario.models.get(name)
    return scenario.library.model(name).spec if known is None else known


def _shorter(
    scenario: Scenario, name: str, asked: ShorterAnswersSpec, output: LengthDistribution
) -> tuple[LengthDistribution, float | None, dict[str, Any]]:
    """Return shortened answers, the change of accuracy over their lengths before, and both for the manifest."""
    place = ("traffic", name, "shorter_answers")
    try:
        method = load_compression(scenario.library, asked.method)
        law = fitted_power_law(method, asked.base, asked.benchmarks)
        lengths = mapped_lengths(output, lambda part: compressed_lengths(part, law, asked.adoption))
    except (InputError, ValueError) as error:
        if isinstance(error, InputError) and any(each.file for each in error.problems):
            raise
        told = error.problems[0] if isinstance(error, InputError) else Problem(str(error))
        raise InputError([scenario.raw.problem(told.message, place, told.value, told.remedy)]) from None
    before = length_quantile(output, (np.arange(_PLACES) + 0.5) / _PLACES)
    changes = [accuracy_change(method, float(tokens), asked.base) for tokens in before]
    known = [change for change in changes if change is not None]
    change = asked.adoption * float(np.mean(known)) if known else None
    ratio = mean_length(lengths) / mean_length(output)
    record = {
        "method": method.name,
        "adoption": asked.adoption,
        "coefficient": round(law.coefficient, 6),
        "exponent": round(law.exponent, 4),
        "length_ratio": round(ratio, 4),
        "accuracy_change": None if change is None else round(change, 4),
    }
    return lengths, change, {"shorter": record}
