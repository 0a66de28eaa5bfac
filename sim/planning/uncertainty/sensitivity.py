"""What drives a number: Sobol indices of groups of inputs, and a tornado of single ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.estimates import CONFIDENCE
from sim.specs.errors import InputError, Problem

RESAMPLES = 1000
"""Bootstrap samples behind the interval of an index."""


@dataclass(frozen=True)
class Index:
    """Share of a group of inputs in the variance of a number."""

    group: str
    """Group."""

    first: float
    """Share that the group explains alone [1]."""

    first_half: float
    """Half of its 95% interval [1]."""

    total: float
    """Share that would be left if all else were known: alone and together with others [1]."""

    total_half: float
    """Half of its 95% interval [1]."""


def sobol_indices(
    first: FloatArray, second: FloatArray, mixed: Mapping[str, FloatArray], seed: int
) -> tuple[Index, ...]:
    """Return first and total indices of every group.

        S = V[E(Y | group)] / V(Y),   T = E[V(Y | all others)] / V(Y)

    by the estimators of Saltelli et al. (2010) and Jansen (1999) as SALib has them, with bootstrap intervals. Groups
    must be independent of each other; within a group inputs may be correlated. A number without variance has none.

    Parameters
    ----------
    first, second : ndarray, shape (M,)
        The number in the first and the second worlds.
    mixed : mapping
        Group -> the number in the first worlds with the second ones' inputs in that group, shape (M,).
    seed : int
        Seed of the bootstrap.

    Raises
    ------
    InputError
        The extra `fleetcast[uncertainty]` is not installed.

    Sources: Saltelli et al., Computer Physics Communications 181 (2010); Jansen, Computer Physics Communications 117
    (1999); Iwanaga et al., Socio-Environmental Systems Modelling 4 (2022) for SALib.

    """
    analyze = require_salib()
    names = list(mixed)
    columns = np.column_stack([first, *(mixed[name] for name in names), second])
    usable = np.isfinite(columns).all(axis=1)
    columns = columns[usable]
    if len(columns) < 2 or not columns[:, [0, -1]].std() > 1e-12 * max(1.0, float(np.abs(columns).max())):
        nothing = math.nan
        return tuple(Index(name, nothing, nothing, nothing, nothing) for name in names)
    problem = {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}
    found = analyze(
        problem, columns.ravel(), calc_second_order=False, num_resamples=RESAMPLES, conf_level=CONFIDENCE, seed=seed
    )
    return tuple(
        Index(name, float(found["S1"][each]), float(found["S1_conf"][each]), float(found["ST"][each]),
              float(found["ST_conf"][each]))
        for each, name in enumerate(names)
    )  # fmt: skip


def require_salib() -> Any:
    """Return SALib's analysis of Sobol indices; InputError where the extra is not installed."""
    try:
        from SALib.analyze.sobol import analyze
    except ImportError:
        remedy = 'Install it: pip install "fleetcast[uncertainty]", or ask for no indices with --pairs 0.'
        raise InputError([Problem("Sobol indices need the package SALib", value="SALib", remedy=remedy)]) from None
    return analyze


@dataclass(frozen=True)
class Bar:
    """What one input does to a number when all others keep their values."""

    name: str
    """Input."""

    at_low: float
    """The number at the input's 10th percentile."""

    at_high: float
    """The number at its 90th percentile."""

    @property
    def swing(self) -> float:
        """Return the distance between both."""
        return abs(self.at_high - self.at_low)


def tornado(bars: Sequence[Bar]) -> list[Bar]:
    """Return the bars from the widest to the narrowest; those without a number come last."""
    return sorted(bars, key=lambda bar: (math.isnan(bar.swing), -bar.swing if not math.isnan(bar.swing) else 0.0))
