"""Measure what many runs cost: speed-up from one worker to two, serial time per run, bytes per run; and what follows.

The model is `start + max(ceil(runs / workers) * run_s, runs * serial_s)`: workers take runs in parallel, while one
process makes keys, hands out tasks, stores results and writes the dataset. `--quick` measures less, for a first look.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sim
from sim.execution.execution import execute
from sim.execution.executor import Executor, InProcess, make_executor
from sim.execution.processes import LocalProcesses
from sim.execution.store import Store
from sim.execution.task import make_task
from sim.specs.resolved import load_scenario

SCENARIO = Path(__file__).resolve().parent / "cell.yaml"
WORKERS = (10, 100, 1000)
RUN_S = (1.0, 10.0, 60.0)
RUNS = 100_000
MILLISECOND = 1e-3


def nothing(number: int) -> int:
    """Do nothing, so that only the cost of a task is left."""
    return number


def processor_s(process: int) -> float:
    """Return the processor time that a process has used so far [s]."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def speed_up(runs: int, repeats: int) -> None:
    """Print wall and processor time of equal sweeps with one and with two workers, which have run something before."""
    scenario = load_scenario(str(SCENARIO), {"fleet.serving.replicas": 64, "duration": "8 min"})
    walls: dict[int, list[float]] = {1: [], 2: []}
    used: dict[int, list[float]] = {1: [], 2: []}
    with LocalProcesses(1) as one, LocalProcesses(2) as two:
        for executor in (one, two):
            sim.sweep(scenario, {"traffic.chat.rate": ["1 requests/s"], "seed": [1, 2, 3, 4]}, executor=executor)
        for repeat in range(repeats):
            settings = {"traffic.chat.rate": [f"{1200 + repeat} requests/s"], "seed": list(range(runs))}
            for workers, executor in ((1, one), (2, two)):
                before = sum(map(processor_s, executor.process_ids))
                started = time.perf_counter()
                sim.sweep(scenario, settings, executor=executor)
                walls[workers].append(time.perf_counter() - started)
                used[workers].append((sum(map(processor_s, executor.process_ids)) - before) / runs)
    ratios = [single / double for single, double in zip(walls[1], walls[2], strict=True)]
    print(f"{runs} runs with 1 worker: {shown(walls[1])} s; with 2: {shown(walls[2])} s; speed-up {shown(ratios)}")
    print(f"processor time of a run: {shown(used[1])} s with 1 worker, {shown(used[2])} s with 2")


def shown(numbers: list[float]) -> str:
    return ", ".join(f"{number:.2f}" for number in numbers)


@dataclass(frozen=True)
class Cost:
    """What a task that does nothing takes."""

    wall_s: float
    own_s: float
    scheduler_s: float = 0.0

    def __str__(self) -> str:
        shown = f"{self.wall_s / MILLISECOND:.2f} ms, of which {self.own_s / MILLISECOND:.2f} ms processor time here"
        return shown + (f" and {self.scheduler_s / MILLISECOND:.2f} ms in the scheduler" if self.scheduler_s else "")


def cost_of_tasks(executor: Executor, count: int, scheduler: int | None = None) -> Cost:
    """Return what a task costs that does nothing, after one for each worker."""
    with tempfile.TemporaryDirectory() as folder:
        list(execute([make_task("scale:nothing", {"number": -1 - each}) for each in range(8)], Store(folder), executor))
        before = 0.0 if scheduler is None else processor_s(scheduler)
        started, used = time.perf_counter(), time.process_time()
        list(execute([make_task("scale:nothing", {"number": each}) for each in range(count)], Store(folder), executor))
        wall, own = (time.perf_counter() - started) / count, (time.process_time() - used) / count
    return Cost(wall, own, 0.0 if scheduler is None else (processor_s(scheduler) - before) / count)


@contextmanager
def local_cluster(folder: str, workers: int) -> Iterator[tuple[Executor, int]]:
    """Start a Dask scheduler and workers on this machine."""
    file = str(Path(folder, "scheduler.json"))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    common = ["--scheduler-file", file, "--no-dashboard"]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
    commands += [["worker", "--no-nanny", "--nthreads", "1", "--local-directory", folder, *common]] * workers
    processes = [
        subprocess.Popen([sys.executable, "-m", "dask", *each], env=environment, stderr=subprocess.DEVNULL)
        for each in commands
    ]
    try:
        while not Path(file).is_file():
            time.sleep(0.1)
        with make_executor(cluster=file) as executor:
            yield executor, processes[0].pid
    finally:
        for process in processes:
            process.kill()
            process.wait()


def cost_of_a_run(points: int) -> float:
    """Print what a run leaves; return the processor time of one that is there already, all of it serial [s]."""
    brief = {"fleet.serving.replicas": 1, "traffic.chat.rate": "2 requests/s", "duration": "1 min", "warm_up": "1 s"}
    scenario = load_scenario(str(SCENARIO), brief)
    with tempfile.TemporaryDirectory() as folder:
        out, settings = Path(folder, "out"), {"seed": list(range(points))}
        sim.sweep(scenario, settings, out)
        used = time.process_time()
        sim.sweep(scenario, settings, out, executor=InProcess())
        serial = (time.process_time() - used) / points
        sizes = {path: path.stat().st_size for path in out.rglob("*") if path.is_file()}
    results = sum(size for path, size in sizes.items() if "results" in path.parts) / points
    dataset = sum(size for path, size in sizes.items() if path.parent.name.startswith("block=")) / points
    print(f"a run leaves {results / 1e3:.1f} kB in results/ and {dataset / 1e3:.1f} kB in the dataset")
    print(f"a run that is there already: {serial / MILLISECOND:.1f} ms processor time")
    return serial


def model(serial_s: float, start_s: float) -> None:
    """Print time and efficiency of a study of RUNS runs by number of workers."""
    print(f"\n{RUNS:,} runs, {serial_s / MILLISECOND:.1f} ms serial a run\n")
    headings = " | ".join(f"runs of {run_s:g} s" for run_s in RUN_S)
    print(f"| workers | {headings} |\n|---{'|---' * len(RUN_S)}|")
    for workers in WORKERS:
        cells = []
        for run_s in RUN_S:
            total = start_s + max(math.ceil(RUNS / workers) * run_s, RUNS * serial_s)
            cells.append(f"{total / 3600:.2f} h, {RUNS * run_s / workers / total:.0%}")
        print(f"| {workers:,} | {' | '.join(cells)} |")


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    quick = parser.parse_args().quick
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    speed_up(2 if quick else 8, 1 if quick else 4)
    count = 50 if quick else 2000
    print(f"a task that does nothing, in this process: {cost_of_tasks(InProcess(), count)}")
    for workers in (1, 2):
        with make_executor(workers) as executor:
            print(f"the same with {workers} local workers: {cost_of_tasks(executor, count)}")
    with tempfile.TemporaryDirectory() as folder, local_cluster(folder, 2) as (cluster, scheduler):
        dask = cost_of_tasks(cluster, count, scheduler)
        print(f"the same with 2 Dask workers: {dask}")
    skipped = cost_of_a_run(20 if quick else 400)
    model(max(skipped + dask.own_s, dask.scheduler_s), 30.0)


if __name__ == "__main__":
    main()
