"""An uncertainty study from a horizon to its tables: what is drawn, evaluated anywhere, and put together in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.execution.execution import Tally, execute
from sim.execution.executor import Executor, make_executor
from sim.execution.store import Store
from sim.execution.task import make_task
from sim.planning.coefficients import SimulatedCapacities
from sim.planning.evaluation import Evaluation, evaluate
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.uncertainty.assembly import Evaluated, assembled
from sim.planning.uncertainty.curves import setups
from sim.planning.uncertainty.design import Design, Method, design
from sim.planning.uncertainty.distributions import FloatArray
from sim.planning.uncertainty.inputs import REPLICATE, Input, find_inputs
from sim.planning.uncertainty.outcomes import Asked
from sim.planning.uncertainty.result import Uncertainty
from sim.planning.uncertainty.sensitivity import require_salib
from sim.planning.uncertainty.tasks import asked_of, check_task, curve_task, horizon_text, plain_table, worlds_task
from sim.specs.errors import InputError, Problem
from sim.specs.library import default_library
from sim.specs.uncertainty import UncertaintySpec

Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction of the whole work that is done."""

DEFAULT_RANGES = "stated-ranges"
GAP = 0.01
"""Relative distance to the proven bound at which the plan that is looked at is decided [1]."""

WORLDS_PER_TASK = 20
LOW, HIGH = 0.1, 0.9
"""Probabilities at which the tornado puts one input after the other."""


@dataclass(frozen=True)
class Settings:
    """How much is looked at."""

    samples: int = 1000
    """Worlds for quantiles."""

    pairs: int = 128
    """Pairs of worlds for Sobol indices; 0 for none."""

    replicates: int = 4
    """Sets of requests with which every replica is simulated."""

    checks: int = 3
    """Worlds in which the response is compared with simulations."""

    seed: int = 1
    """Seed of everything that is drawn."""

    method: Method = "sobol"
    """Scrambled Sobol points, or a Latin hypercube."""


def uncertainty(
    horizon: Horizon | str,
    samples: int = Settings.samples,
    pairs: int = Settings.pairs,
    *,
    replicates: int = Settings.replicates,
    checks: int = Settings.checks,
    seed: int = Settings.seed,
    method: Method = Settings.method,
    ranges: str = DEFAULT_RANGES,
    executor: Executor | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> Uncertainty:
    """Return how sure the plan of a horizon is.

    The horizon is planned at its own numbers; that plan's orders and contracts are the decided fleet. Then numbers are
    drawn, and every world says what its own cheapest fleet would cost and how the decided one fares. Nothing is
    simulated for a world: what replicas serve follows from latency curves that are simulated once.

    Parameters
    ----------
    horizon : Horizon or str
        What is planned.
    samples : int
        Worlds that are drawn.
    pairs : int
        Pairs of worlds for Sobol indices, evaluated once more for every group; 0 for none.
    replicates : int
        Sets of requests with which every replica is simulated.
    checks : int
        Worlds in which what replicas serve is simulated to check the response.
    seed : int
        Seed of everything that is drawn.
    method : str
        `sobol` or `latin_hypercube`.
    ranges : str
        Document that says how ranges are read, by name or path.
    executor : Executor, optional
        Where the pieces run; local processes by default. The answer is the same.
    store : Store, optional
        Where finished pieces are kept, so that a study that was stopped goes on; a temporary folder by default.
    progress : callable, optional
        Told what is being done and how far it is.
    tally : Tally, optional
        Counts pieces that were there before and those that ran.

    Raises
    ------
    InputError
        A horizon or ranges that are missing or invalid, a horizon that cannot be planned, or SALib is not installed.

    """
    chosen = Settings(samples, pairs, replicates, checks, seed, method)
    tell = progress or (lambda _what, _done: None)
    if chosen.pairs:
        require_salib()
    given = load_horizon(horizon) if isinstance(horizon, str) else horizon
    found = default_library().load("uncertainty", ranges)
    spec: UncertaintySpec = found.spec
    inputs = find_inputs(given, spec, chosen.replicates)
    worlds = design(inputs, spec, chosen.samples, chosen.pairs, chosen.seed, chosen.method)
    tell("capacity and plan", 0.0)
    table = SimulatedCapacities(given).table()
    plan = _planned(given, table)
    with ExitStack() as stack:
        runner = stack.enter_context(make_executor()) if executor is None else executor
        pieces = _Pieces(runner, store, tell, tally or Tally())
        text = horizon_text(given)
        curves = pieces.run(
            "replicas simulated", 0.02, 0.1,
            [
                make_task(curve_task, {
                    "horizon": text, "setup": each.to_json(), "replicates": chosen.replicates, "seed": chosen.seed,
                })
                for each in setups(table)
            ],
        )  # fmt: skip
        study = json.dumps({
            "horizon": text,
            "ranges": found.raw.data,
            "replicates": chosen.replicates,
            "table": plain_table(table),
                "curves": [value for value, _ in curves],
            "decided": _decided(given, plan),
            "unserved_price": spec.unserved_price.value,
        })  # fmt: skip
        evaluated = _evaluated(pieces, study, worlds, chosen)
        names = [each.name for each in worlds.inputs]
        checked = pieces.run(
            "worlds simulated", 0.95, 1.0,
            [
                make_task(check_task, {"study": study, "names": names, "row": row})
                for row in worlds.samples[: chosen.checks].tolist()
            ],
        )  # fmt: skip
    tell("done", 1.0)
    simulated = [value for value, _ in checked]
    return assembled(given, spec, inputs, worlds, evaluated, simulated, plan, chosen, found.fingerprints)


def _planned(horizon: Horizon, table: Any) -> Evaluation:
    plan = evaluate(horizon, table, gap=GAP)
    if not plan.feasible:
        raise InputError(
            [Problem("has no plan at its own numbers, so there is none to look at", value=horizon.spec.name,
                     remedy="See what is missing with `fleetcast plan`.")]
        )  # fmt: skip
    return plan


def _decided(horizon: Horizon, plan: Evaluation) -> dict[str, Any]:
    lead = [offer.lead_time_months.value for offer in horizon.spec.hardware.values()]
    return {
        "ordered": np.rint(plan.fleet.bought).astype(int).tolist(),
        "contracts": np.rint(plan.fleet.rent_started).astype(int).tolist(),
        "lead_months": lead,
    }


class _Pieces:
    """Runs pieces in one executor and store, and tells how far all of them are."""

    def __init__(self, executor: Executor, store: Store | None, tell: Progress, tally: Tally) -> None:
        self.executor, self.store, self.tell, self.tally = executor, store, tell, tally

    def run(self, what: str, start: float, end: float, tasks: Sequence[Any]) -> list[tuple[Any, FloatArray | None]]:
        """Return value and table of every piece, in order."""
        tally = Tally(total=len(tasks))

        def told(words: str, done: float) -> None:
            self.tell(words, start + (end - start) * done)

        found = []
        for each in execute(tasks, self.store, self.executor, told, tally=tally, what=what):
            table = None
            if each.result.parquet is not None:
                arrow = each.result.table()
                table = np.column_stack([column.to_numpy() for column in arrow.columns])
            found.append((each.result.value, table))
        self.tally.skipped += tally.skipped
        self.tally.ran += tally.ran
        return found


def _evaluated(pieces: _Pieces, study: str, worlds: Design, settings: Settings) -> Evaluated:
    """Evaluate all worlds in chunks of one list, and take it apart again."""
    inputs = worlds.inputs
    blocks: dict[str, list[list[float | None]]] = {
        "base": [[None] * len(inputs)],
        "samples": worlds.samples.tolist(),
        "tornado": [_alone(inputs, each, end) for each in inputs if each.name != REPLICATE for end in (LOW, HIGH)],
        "replicates": _replicates(inputs, settings.replicates),
    }
    if settings.pairs:
        blocks["first"], blocks["second"] = worlds.first.tolist(), worlds.second.tolist()
        blocks |= {f"mixed {group}": worlds.mixed(group).tolist() for group in worlds.groups}
    rows = [row for block in blocks.values() for row in block]
    names = [each.name for each in inputs]
    found = pieces.run(
        "pieces of worlds", 0.1, 0.95,
        [
            make_task(worlds_task, {"study": study, "names": names, "rows": rows[start : start + WORLDS_PER_TASK]})
            for start in range(0, len(rows), WORLDS_PER_TASK)
        ],
    )  # fmt: skip
    asked: list[Asked] = asked_of(found[0][0])
    numbers = np.concatenate([table for _, table in found if table is not None])
    parts: dict[str, FloatArray] = {}
    start = 0
    for name, block in blocks.items():
        parts[name] = numbers[start : start + len(block)]
        start += len(block)
    return Evaluated(asked, parts)


def _alone(inputs: Sequence[Input], moved: Input, end: float) -> list[float | None]:
    """Return a world in which one input is at an end of its range and all others keep their values."""
    value = float(moved.at(np.array([end]), 0.0)[0])
    return [value if each is moved else None for each in inputs]


def _replicates(inputs: Sequence[Input], count: int) -> list[list[float | None]]:
    """Return the horizon as it stands with every set of requests."""
    return [[float(number) if each.name == REPLICATE else None for each in inputs] for number in range(max(1, count))]
