"""Costs out of a horizon, month by month, and what compression leaves of a workload's answers."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np

from sim.planning.claims.documents import answers_of, law_of, shortened
from sim.planning.claims.fleets import TOKENS_PER_MILLION, Figures
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.service_cost import choices_in
from sim.specs.claim import LengthStudy, MonthStudy
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.library import Library

_HORIZONS: dict[str, tuple[Horizon, SimulatedCapacities]] = {}
"""Horizons of this process, each with what its replicas serve, once that was simulated."""


def month_figures(study: MonthStudy) -> Figures:
    """Return what a use case costs in a month.

    Figures: `own_usd` and `api_usd` (of a unit, by own or rented accelerators, and by the API; NaN where there is
    none), `own_usd_per_million_output`, `requests_per_unit`, `utilisation` (mean load over the capacity that is paid),
    `prompt_tokens`, `output_tokens` (means of a request), and `first_year` (the first month from which a unit costs
    less than the ceiling for good, as a decimal year; infinite if none).

    Raises
    ------
    InputError
        Bad input.

    """
    horizon, capacities = _horizon(study)
    known = horizon.spec.use_cases
    if study.case not in known:
        remedy = suggest(study.case, known)
        raise InputError([Problem(f"{study.horizon} has no such use case", value=study.case, remedy=remedy)])
    described = known[study.case]
    levers = horizon.levers if study.levers is None else frozenset(study.levers)
    requests = described.unit.requests.value
    choices = choices_in(horizon, capacities, study.case, study.month, levers, study.path)
    own = choices.cheapest(with_api=False).usd_per_request
    tokens = capacities.tokens(study.case, next(iter(described.models)))
    figures = {
        "own_usd": own * requests,
        "api_usd": math.nan if choices.api is None else choices.api.request_usd * requests,
        "own_usd_per_million_output": own / tokens.output * TOKENS_PER_MILLION,
        "requests_per_unit": float(requests),
        "utilisation": 1.0 / choices.peak_over_mean,
        "prompt_tokens": tokens.prompt,
        "output_tokens": tokens.output,
    }
    if study.ceiling is not None:
        figures["first_year"] = math.inf
        for month in reversed(horizon.months):
            there = choices_in(horizon, capacities, study.case, month, levers, study.path).cheapest(with_api=False)
            if not there.usd_per_request <= study.ceiling / requests:
                break
            figures["first_year"] = decimal_year(month)
    return figures


def decimal_year(month: datetime.date) -> float:
    """Return the first day of a month as a decimal year, July 2026 as 2026.5."""
    return month.year + (month.month - 1) / 12.0


def length_figures(study: LengthStudy, library: Library) -> Figures:
    """Return what compression does to the answers of a workload.

    Figures: `mean_before`, `mean_after` (tokens), `cut`, `cut_p50`, `cut_p99` (share of the tokens saved in the mean,
    the median and the 99th percentile), `coefficient` and `exponent` of the law.
    """
    before = answers_of(library.workload(study.workload).spec.output_tokens)
    law = law_of(library, study.shortened)
    after = shortened(before, law, study.shortened.reasoning_share)
    cuts = {f"cut_p{100 * p:g}": 1.0 - float(np.quantile(after, p) / np.quantile(before, p)) for p in (0.5, 0.99)}
    return {
        "mean_before": float(before.mean()),
        "mean_after": float(after.mean()),
        "cut": 1.0 - float(after.mean() / before.mean()),
        **cuts,
        "coefficient": law.coefficient,
        "exponent": law.exponent,
    }


def _horizon(study: MonthStudy) -> tuple[Horizon, SimulatedCapacities]:
    key = json.dumps([study.horizon, study.set], sort_keys=True, default=str)
    if key not in _HORIZONS:
        horizon = load_horizon(study.horizon, study.set)
        _HORIZONS[key] = horizon, SimulatedCapacities(horizon)
    return _HORIZONS[key]
