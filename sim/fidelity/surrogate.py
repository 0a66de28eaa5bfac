"""Where the fit meets the simulation: how far mean field is off, and fits that take it into account.

A fit evaluates the mean field thousands of times, a simulation is run once in a while: the logarithm of simulated over
mean-field predictions changes slowly with the parameters, so it is held while the fit moves and measured anew after it
(space mapping, Bandler et al., IEEE Trans. Microwave Theory Tech. 42, 1994). It holds no measured value.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.fidelity.calibration import Row, stacks_by_framework
from sim.fidelity.fitting import Fitted, Model, Observations
from sim.fidelity.offsets import simulated_logarithms
from sim.fidelity.shipping import client_factors, fit_library, starts, write_stacks
from sim.specs.library import Library
from sim.specs.serving_stack import ServingStackSpec

_UNSEEN = 1e-6
_LATER_EVALUATIONS = 8


def simulated_offsets(
    rows: Sequence[Row], seen: Observations, base: ServingStackSpec, fitted: Fitted, library: Library
) -> NDArray[np.float64]:
    """Return the logarithm of simulated over mean-field prediction of each number, shape (m,).

    NaN where nothing can be simulated.

    Parameters
    ----------
    rows : sequence of Row
        m numbers.
    seen : Observations
        The same as arrays.
    base, fitted
        Stack from which a fit departed, and the fit at which both are compared.
    library : Library
        Where hardware and models are looked up.

    """
    model = Model(seen, starts(seen, base), fitted.coordinates)
    plain = model.logarithms(fitted.values) - seen.offset
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "serving_stacks"
        place.mkdir()
        write_stacks(fitted, base, (), place)
        stacks = stacks_by_framework(
            Library((Path(folder), *library.roots)), sorted({row.system.framework for row in rows})
        )
        simulated = simulated_logarithms([(row.system, row.target) for row in rows], stacks, client_factors(fitted))
    return simulated - plain


def fit_simulation(
    rows: Sequence[Row], seen: Observations, base: ServingStackSpec, library: Library, rounds: int = 3
) -> tuple[Observations, Fitted]:
    """Return observations with offsets at the solution, and the fit of the library's stacks to them.

    Parameters
    ----------
    rows : sequence of Row
        m numbers.
    seen : Observations
        The same as arrays.
    base : ServingStackSpec
        Stack from which the fit departs.
    library : Library
        Where hardware and models are looked up.
    rounds : int
        Simulations of everything, each followed by a fit.

    """
    fitted = fit_library(seen, base)
    for _ in range(rounds):
        offset = simulated_offsets(rows, seen, base, fitted, library)
        there = np.isfinite(offset)
        seen = dataclasses.replace(
            seen, offset=np.where(there, offset, 0.0), weight=np.where(there, seen.weight, _UNSEEN)
        )
        fitted = fit_library(seen, base, fitted, _LATER_EVALUATIONS)
    return seen, fitted
