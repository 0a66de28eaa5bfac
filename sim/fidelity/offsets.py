"""How far mean field is off from simulation, number by number: what a fit adds to the former to fit the latter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sim.fidelity.points import Target
from sim.fidelity.prediction import predict
from sim.fidelity.systems import System, UnmappedError
from sim.specs.serving_stack import ServingStackSpec


def simulated_logarithms(
    rows: Sequence[tuple[System, Target]],
    stacks: Mapping[str, ServingStackSpec],
    factors: Mapping[str, float] | None = None,
) -> NDArray[np.float64]:
    """Return the logarithms of simulated predictions of some numbers, shape (m,); NaN where there is none.

    Parameters
    ----------
    rows : sequence of (System, Target)
        m numbers; each system is simulated once.
    stacks : mapping
        Framework family -> serving stack.
    factors : mapping, optional
        See `sim.fidelity.prediction.predict`.

    """
    found: dict[int, Mapping[tuple[str, str], float]] = {}
    result = np.full(len(rows), np.nan)
    for number, (system, target) in enumerate(rows):
        if id(system) not in found:
            try:
                found[id(system)] = predict(system, stacks[system.framework], factors=factors).values
            except UnmappedError:
                found[id(system)] = {}
        value = found[id(system)].get((target.kind, target.statistic))
        if value is not None:
            result[number] = math.log(value)
    return result
