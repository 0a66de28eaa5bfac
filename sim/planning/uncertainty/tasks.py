"""The pieces of a study that run anywhere: curves of replicas, chunks of worlds, and checks of the response."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sim.execution.task import Output
from sim.planning.capacities import CapacityTable, Coefficient, MeanTokens, Service
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.check import compared
from sim.planning.uncertainty.curves import Curve, Setup, simulate_curve
from sim.planning.uncertainty.fleets import Decided
from sim.planning.uncertainty.inputs import find_inputs
from sim.planning.uncertainty.outcomes import Asked, outcomes
from sim.planning.uncertainty.response import Response
from sim.planning.uncertainty.world import World, drawn_world
from sim.specs.fleet import ParallelismSpec
from sim.specs.library import default_library
from sim.specs.reading import RawDocument
from sim.specs.uncertainty import UncertaintySpec


def horizon_text(horizon: Horizon) -> str:
    """Return what a worker needs to read the same horizon again, as JSON text.

    Text, for arguments of tasks are sorted by key, and the order of accelerators and groups means something.
    """
    return json.dumps(
        {"file": horizon.raw.file, "data": _plain(horizon.raw.data), "fingerprints": dict(horizon.fingerprints)}
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {_text(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.isoformat() if isinstance(value, datetime.date) else value


def _text(key: object) -> str:
    return key.isoformat() if isinstance(key, datetime.date) else str(key)


@functools.lru_cache(maxsize=4)
def read_horizon(text: str) -> Horizon:
    """Return the horizon of `horizon_text`, kept once it was read.

    Raises
    ------
    RuntimeError
        A document of the library is another one here than where the study was started.

    """
    plain = json.loads(text)
    library = default_library(beside=Path(plain["file"]))
    found = Horizon.resolve(RawDocument(plain["file"], plain["data"]), library)
    for file, digest in found.fingerprints.items():
        if plain["fingerprints"].get(file, digest) != digest:
            raise RuntimeError(f"{file} is another file here than where the study was started")
    return found


def plain_table(table: CapacityTable) -> dict[str, Any]:
    """Return what replicas serve in JSON types."""
    rows = [
        [dataclasses.asdict(service), hardware, {**each.__dict__, "layout": each.layout.model_dump()}]
        for (service, hardware), each in table.replicas.items()
    ]
    return {"replicas": rows, "means": [[*key, *means] for key, means in table.means.items()]}


def read_table(plain: Mapping[str, Any]) -> CapacityTable:
    """Return the table of `plain_table`."""
    replicas = {
        (Service(**service), hardware): Coefficient(
            **{**each, "layout": ParallelismSpec.model_validate(each["layout"])}
        )
        for service, hardware, each in plain["replicas"]
    }
    return CapacityTable(replicas, {(case, model): MeanTokens(*means) for case, model, *means in plain["means"]})


def curve_task(horizon: str, setup: Mapping[str, Any], replicates: int, seed: int) -> dict[str, Any]:
    """Return the curve of one replica in JSON types; parameters as `simulate_curve`."""
    return simulate_curve(read_horizon(horizon), Setup.from_json(setup), replicates, seed).to_json()


def worlds_task(study: str, names: Sequence[str], rows: Sequence[Sequence[float | None]]) -> Output:
    """Return what some worlds come to: a table with a row for each and a column for each thing asked.

    Parameters
    ----------
    study : str
        Horizon, ranges, curves, decided fleet and price of unserved demand, as JSON text.
    names : sequence of str
        Drawn inputs.
    rows : sequence
        Their numbers in every world; none where an input keeps its value.

    """
    prepared = _prepared(study)
    found = [
        outcomes(prepared.world(names, row), prepared.response, prepared.plan, prepared.unserved_price) for row in rows
    ]
    asked = list(found[0])
    columns = [pa.array([each[key] for each in found], pa.float64()) for key in asked]
    return Output(
        [list(key) for key in asked], pa.Table.from_arrays(columns, names=[f"v{n}" for n in range(len(asked))])
    )


def check_task(study: str, names: Sequence[str], row: Sequence[float]) -> list[dict[str, Any]]:
    """Return what replicas serve in a world by the response and by simulation; model errors are left out."""
    prepared = _prepared(study)
    return [
        {
            "class": service.case, "model": service.model, "compressed": service.compressed, "pace": service.pace,
            "accelerator": hardware, "response_per_s": answer.requests_per_s / max(1, answer.accelerators),
            "simulated_per_s": simulated.requests_per_s / max(1, simulated.accelerators),
        }
        for service, hardware, answer, simulated in compared(prepared.response, prepared.world(names, row))
    ]  # fmt: skip


class _Prepared:
    """A study made ready once in each process."""

    def __init__(self, study: Mapping[str, Any]) -> None:
        self.horizon = read_horizon(study["horizon"])
        spec = UncertaintySpec.model_validate(study["ranges"])
        self.inputs = find_inputs(self.horizon, spec, study["replicates"])
        table = read_table(study["table"])
        self.response = Response(self.horizon, table, [Curve.from_json(each) for each in study["curves"]])
        decided = {key: np.array(value, np.int64) for key, value in study["decided"].items()}
        self.plan = Decided(**decided)
        self.unserved_price = float(study["unserved_price"])

    def world(self, names: Sequence[str], row: Sequence[float | None]) -> World:
        given = {name: value for name, value in zip(names, row, strict=True) if value is not None}
        return drawn_world(self.horizon, self.inputs, given)


@functools.lru_cache(maxsize=2)
def _prepared(text: str) -> _Prepared:
    return _Prepared(json.loads(text))


def asked_of(value: Sequence[Sequence[str]]) -> list[Asked]:
    """Return the list of what was asked, as `worlds_task` returned it."""
    return [Asked(*each) for each in value]
