"""The search for the smallest size of one choice that meets all service levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sim.demand.trace import Trace
from sim.engine.preparation import Prepared, common_trace, plan_run, prepare
from sim.planning.choices import Choice, choices, set_up
from sim.planning.levels import LevelReached, worst
from sim.planning.probe import Probe, Trial, depths
from sim.planning.sizing_result import Point
from sim.serving.deployment import Deployment
from sim.specs.errors import InputError
from sim.specs.fleet import REPLICA_LIMIT, ParallelismSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.resolved import Scenario

GROWTH = 1.5
"""Step from a size that is too small to the next one to try."""

MORE = (1.15, 1.5, 2.0)
"""Sizes beyond the smallest whose latencies the frontier shows, relative to it."""


@dataclass(frozen=True, eq=False)
class Answer:
    """The smallest size of one choice, and all that was tried on the way."""

    choice: Choice
    probe: Probe
    replicas: int
    trials: tuple[Trial, ...]

    @property
    def trial(self) -> Trial:
        """Return what was found at the size."""
        return next(each for each in self.trials if each.replicas == self.replicas)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search over choices came to."""

    answers: tuple[Answer, ...]
    """The smallest size of every choice that could be the cheapest."""

    reason: str
    """Why nothing would do; empty where something does."""

    @property
    def best(self) -> Answer | None:
        """Return the cheapest answer, and of two as cheap the faster; none where nothing would do."""
        return min(
            self.answers,
            key=lambda each: (burden(each.probe.deployment, each.replicas), each.trial.tightness),
            default=None,
        )


def answers_for(
    scenario: Scenario,
    pool: str,
    hardware: HardwareSpec,
    *,
    layouts: Sequence[ParallelismSpec] = (),
    batch_limits: Sequence[int] = (),
    price: float | None = None,
    target_load: float = 1.0,
    most_replicas: int = REPLICA_LIMIT,
    compare_layouts: bool = False,
    trace: Trace | None = None,
    made: Callable[[Choice], Deployment] | None = None,
) -> Found:
    """Return the smallest size of one pool on one accelerator, for every choice that could be the cheapest.

    This is the one place that says how much a replica serves: `size_pool` asks it for the replicas of a load, and a
    plan divides a load by the replicas that it takes.

    Parameters
    ----------
    scenario : Scenario
        Load, pools and service levels, without alternatives.
    pool : str
        The pool to size.
    hardware : HardwareSpec
        Its accelerator.
    layouts, batch_limits
        Candidates; empty means the scenario's own.
    price : float, optional
        Price of an accelerator instead of the scenario's [USD/h].
    target_load : float
        Most load of a replica over its mean-field capacity [1].
    most_replicas : int
        Largest number of replicas to consider.
    compare_layouts : bool
        Without candidates, try all powers of two of tensor parallelism beside the scenario's own layout.
    trace : Trace, optional
        Requests to meet, instead of those that the scenario draws.
    made : callable, optional
        Returns the pool of a choice where it was made before; the scenario must have no other pool.

    """
    failures: list[tuple[float, str]] = []
    answers: list[Answer] = []
    probes: list[tuple[float, Choice, Probe]] = []
    for choice in choices(scenario, pool, hardware.name if compare_layouts else None, layouts, batch_limits):
        choice = dataclasses.replace(choice, hardware=hardware.name)
        try:
            tried = set_up(scenario, pool, choice, hardware, price)
            prepared = prepare([tried])[0] if made is None else Prepared(tried, [made(choice)])
            trace = common_trace([prepared], 0) if trace is None else trace
            plan = plan_run(prepared, trace, 0)
        except InputError as error:
            failures.append((math.inf, f"{choice.in_words()}: {error.problems[0].message}"))
            continue
        position = list(scenario.spec.fleet).index(pool)
        probe = Probe(prepared.scenario, plan, position, depths(prepared.scenario, plan), target_load)
        probes.append((burden(probe.deployment, probe.least_replicas()), choice, probe))
    for least_burden, choice, probe in sorted(probes, key=lambda each: each[0]):
        best = min((burden(each.probe.deployment, each.replicas) for each in answers), default=math.inf)
        if least_burden >= best:
            continue
        # As many replicas as requests keep all of them apart, and more change nothing.
        most = min(most_replicas, REPLICA_LIMIT, max(probe.plan.trace.requests, probe.least_replicas()))
        first = probe.trial(max(probe.least_replicas(), min(most, probe.estimated_replicas())))
        if not first.met:
            alone = probe.alone()
            if not all(level.met for level in alone):
                failures.append(hopeless(choice, worst(alone)))
                continue
        trials, found = smallest(probe, most, best, first)
        if found is None:
            failures.append(too_few(choice, probe, trials, most))
            continue
        answers.append(Answer(choice, probe, found, tuple(trials)))
    if answers:
        return Found(tuple(answers), "")
    return Found((), min(failures, key=lambda each: each[0])[1] if failures else "nothing to choose from")


def smallest(probe: Probe, most: int, best_burden: float, first: Trial) -> tuple[list[Trial], int | None]:
    """Return the trials and the smallest size that meets all levels; none above `most` or what is known to be better.

    The first trial is at the least that the mean field allows; sizes grow until one is enough, then the gap is halved.
    """
    least = probe.least_replicas()
    trials: list[Trial] = []
    failed, size = least - 1, first.replicas
    while True:
        if size > most or (failed >= least and burden(probe.deployment, failed + 1) >= best_burden):
            return trials, None
        trial = probe.trial(size) if trials else first
        trials.append(trial)
        if trial.met:
            break
        if size == most:
            return trials, None
        failed, size = size, min(most, max(size + 1, math.ceil(GROWTH * size)))
    enough = size
    while enough - failed > 1:
        middle = (enough + failed) // 2
        trial = probe.trial(middle)
        trials.append(trial)
        if trial.met:
            enough = middle
        else:
            failed = middle
    return trials, enough


def hopeless(choice: Choice, level: LevelReached) -> tuple[float, str]:
    """Return how far requests that have a replica to themselves are from a level, and that in words."""
    why = f"{choice.in_words()}: {level.in_words()}"
    if level.samples == 0:
        return level.tightness, why
    return level.tightness, f"{why}, for requests that have a replica to themselves: no number of replicas helps"


def too_few(choice: Choice, probe: Probe, trials: Sequence[Trial], most: int) -> tuple[float, str]:
    """Return how far the largest size that was tried is from its levels, and that in words."""
    if not trials:
        return math.inf, f"{choice.in_words()}: the load needs {probe.least_replicas()} replicas, more than {most}"
    last = max(trials, key=lambda each: each.replicas)
    level = worst([each for each in last.levels if not each.met])
    return last.tightness, f"{choice.in_words()}: {level.in_words()}, still with {last.replicas} replicas"


def burden(deployment: Deployment, replicas: int) -> float:
    """Return what choices of one accelerator are compared by: the cost an hour, or accelerators without a price."""
    price = 1.0 if deployment.price is None else deployment.price.usd_per_hour
    return replicas * deployment.accelerators * (price or 1.0)


def point_of(answer: Answer, trial: Trial) -> Point:
    """Return a trial as a point of the frontier."""
    deployment = answer.probe.deployment
    accelerators = trial.replicas * deployment.accelerators
    price = deployment.price
    return Point(
        hardware=deployment.hardware,
        model=deployment.model,
        layout=answer.choice.layout,
        max_sequences=deployment.max_sequences,
        replicas=trial.replicas,
        accelerators=accelerators,
        cost_usd_per_hour=None if price is None else accelerators * price.usd_per_hour,
        met=trial.met,
        tightness=trial.tightness,
        levels=trial.levels,
    )


def beyond(answer: Answer, replicas: int) -> list[Point]:
    """Return what sizes larger than the answer come to."""
    tried = {each.replicas for each in answer.trials}
    sizes = sorted({math.ceil(factor * replicas) for factor in MORE} - tried)
    return [point_of(answer, answer.probe.trial(each)) for each in sizes if each <= REPLICA_LIMIT]
