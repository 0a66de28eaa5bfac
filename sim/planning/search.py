"""The search for the smallest size of one choice that meets all service levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sim.planning.choices import Choice
from sim.planning.levels import LevelReached, worst
from sim.planning.probe import Probe, Trial
from sim.planning.sizing_result import Point
from sim.serving.deployment import Deployment
from sim.specs.fleet import REPLICA_LIMIT

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


def smallest(probe: Probe, most: int, best_burden: float) -> tuple[list[Trial], int | None]:
    """Return the trials and the smallest size that meets all levels; none above `most` or what is known to be better.

    The first size is the least that the mean field allows; sizes grow until one is enough, then the gap is halved.
    """
    least = probe.least_replicas()
    trials: list[Trial] = []
    failed, size = least - 1, max(least, min(most, probe.estimated_replicas()))
    while True:
        if size > most or (failed >= least and burden(probe.deployment, failed + 1) >= best_burden):
            return trials, None
        trial = probe.trial(size)
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
