"""Measure what dividing a fleet into cells does to latencies: each cell routes its own part of the requests.

Requests are divided at random, so a Poisson stream stays one, and all cells are alike. The divided fleet is therefore
simulated as replications of one cell, and quantiles are over the requests of all of them. Every row is as many
independent fleets and about as many requests as any other. `--quick` is a small fleet, for a first look.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import sim
from sim.execution.execution import execute
from sim.execution.executor import make_executor
from sim.execution.identity import Identity
from sim.execution.store import Store
from sim.execution.task import Task, make_task
from sim.specs.resolved import load_scenario

SCENARIO = Path(__file__).resolve().parent / "cell.yaml"
CAPACITY_PER_S = 26.8
"""What a replica of cell.yaml can do at most [requests/s]; the table has the load that follows."""

METRICS = (("ttft_s", 0.5), ("ttft_s", 0.99), ("tpot_s", 0.5), ("tpot_s", 0.99), ("e2e_s", 0.99))
MILLISECONDS = 1e3


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    replicas: int
    cells: tuple[int, ...]
    loads: tuple[float, ...]
    fleets: int
    duration: str


FULL = Size(64, (1, 2, 4, 8, 16, 32, 64), (0.5, 0.8, 0.9), 8, "4 min")
QUICK = Size(8, (1, 2, 8), (0.8,), 2, "3 min")


def measure(replicas: int, rate: float, replications: int, duration: str) -> dict[str, list[float]]:
    """Simulate a cell; return value and half of the interval by metric, and the mean number of requests in a batch."""
    changes = {
        "fleet.serving.replicas": replicas, "traffic.chat.rate": f"{rate!r} requests/s", "duration": duration,
    }  # fmt: skip
    result = sim.simulate(load_scenario(str(SCENARIO), changes), replications)
    rows = result.summary(class_name="all")
    found = {}
    for metric, quantile in METRICS:
        row = rows[(rows["pool"] == "all") & (rows["metric"] == metric) & (rows["quantile"] == quantile)].iloc[0]
        found[f"{metric} {quantile}"] = [float(row["value"]), float(row["high"] - row["low"]) / 2.0]
    found["load"] = [float(rows.loc[(rows["pool"] == "all") & (rows["metric"] == "load_factor"), "value"].iloc[0])]
    kept = result.timeline[result.timeline["interval_end_s"] <= load_scenario(str(SCENARIO), changes).spec.duration]
    found["batch"] = [float(kept["running"].mean() / replicas)]
    return found


def tasks_of(size: Size) -> list[tuple[int, Task]]:
    """Return the number of cells of each measurement, and its task."""
    scenario = load_scenario(str(SCENARIO))
    content = Identity(scenario.library).of(scenario.raw)
    tasks = []
    for load in size.loads:
        for cells in size.cells:
            arguments = {
                "replicas": size.replicas // cells,
                "rate": load * CAPACITY_PER_S * size.replicas / cells,
                "replications": size.fleets * cells,
                "duration": size.duration,
            }
            tasks.append((cells, make_task("cells:measure", arguments, {**arguments, "scenario": content})))
    return tasks


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fleet of 8 replicas at one load")
    parser.add_argument("--store", help="folder in which finished measurements are kept")
    parser.add_argument("--workers", type=int)
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    store = Store(options.store) if options.store else None
    cells_and_tasks = tasks_of(size)
    print(f"{size.replicas} replicas, {size.fleets} fleets, {size.duration}\n")
    headings = ["load", "cells", "replicas in one", "batch"]
    headings += [f"{metric.removesuffix('_s').upper()} p{100 * quantile:g} ms" for metric, quantile in METRICS]
    print(f"| {' | '.join(headings)} |\n{'|---' * len(headings)}|")
    whole: dict[str, list[float]] = {}
    with make_executor(options.workers) as executor:
        results = execute([task for _, task in cells_and_tasks], store, executor)
        for (cells, task), done in zip(cells_and_tasks, results, strict=True):
            found = done.result.value
            whole = found if cells == 1 else whole
            print(f"| {' | '.join(row_of(cells, int(task.arguments['replicas']), found, whole))} |", flush=True)


def row_of(cells: int, replicas: int, found: dict[str, list[float]], whole: dict[str, list[float]]) -> list[str]:
    """Return a row of the table; changes are those against the undivided fleet."""
    row = [f"{found['load'][0]:.2f}", str(cells), str(replicas), f"{found['batch'][0]:.1f}"]
    for metric, quantile in METRICS:
        value, half = found[f"{metric} {quantile}"]
        change = "" if cells == 1 else f" ({value / whole[f'{metric} {quantile}'][0] - 1.0:+.1%})"
        row.append(f"{value * MILLISECONDS:.1f} ±{half * MILLISECONDS:.1f}{change}")
    return row


if __name__ == "__main__":
    main()
