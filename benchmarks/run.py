"""Measure simulated requests per second; every case asserts its event count, so speed is only claimed for right runs.

Each case runs in a process of its own, so that peak memory is its own; the first run of a case compiles or loads
machine code and is not timed. Figures go to benchmarks/latest.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sim.demand.arrivals import poisson_arrivals
from sim.demand.lengths import sample_lengths
from sim.demand.streams import stream
from sim.demand.trace import NANOSECONDS, Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.demand.trace_files import read_trace
from sim.engine.run import RunPlan, run
from sim.serving.deployment import LONGEST_SPAN, Deployment, deploy
from sim.specs.resolved import load_scenario
from sim.specs.workload import LognormalMixtureLengths

ROOT = Path(__file__).resolve().parent.parent
AZURE = ROOT.parent / "shared" / "traces" / "azure2023" / "AzureLLMInferenceTrace_conv.csv"
LATEST = ROOT / "benchmarks" / "latest.json"
SCENARIO = ROOT / "benchmarks" / "benchmark.yaml"


@dataclass(frozen=True)
class Case:
    """One measurement."""

    name: str
    engine: str
    requests: int
    replicas: int
    events: int | None
    """Expected events; None where they are not asserted."""

    max_span: int = LONGEST_SPAN
    router: str = "least_outstanding"


STEPWISE = 1
CASES = (
    Case("lognormal-100k-16", "simpy", 100_000, 16, 330_435),
    Case("lognormal-100k-16", "compiled", 100_000, 16, 330_435),
    Case("lognormal-100k-16-step-by-step", "simpy", 100_000, 16, 738_952, STEPWISE),
    Case("lognormal-100k-16-step-by-step", "compiled", 100_000, 16, 738_952, STEPWISE),
    Case("azure-conversation-hour", "simpy", 0, 4, 77_043),
    Case("azure-conversation-hour", "compiled", 0, 4, 77_043),
    Case("lognormal-1M-16", "compiled", 1_000_000, 16, 3_293_814),
    Case("lognormal-1M-256", "compiled", 1_000_000, 256, 3_336_164),
)
"""What `make bench` runs; the event counts are those of the step times in benchmarks/serving_stacks/fixed.yaml."""

GROWTH = (
    *(Case(f"lognormal-{count:.0e}-16", "compiled", count, 16, None) for count in (10**4, 10**5, 10**6, 10**7)),
    *(Case(f"lognormal-1M-{replicas}", "compiled", 1_000_000, replicas, None) for replicas in (1, 4, 64, 256, 1024)),
    *(Case(f"lognormal-1M-{replicas}-round-robin", "compiled", 1_000_000, replicas, None, router="round_robin")
      for replicas in (16, 256, 1024)),
    Case("lognormal-10k-16", "simpy", 10_000, 16, None),
    Case("lognormal-1M-16", "simpy", 1_000_000, 16, None),
    Case("lognormal-100k-1", "simpy", 100_000, 1, None),
    Case("lognormal-100k-256", "simpy", 100_000, 256, None),
)  # fmt: skip
"""How cost grows with requests and replicas: `python benchmarks/run.py --growth`."""


def lognormal_trace(requests: int, rate: float) -> Trace:
    """Return requests with lognormal lengths: prompt median 650, output median 250 tokens."""
    lengths = {
        name: LognormalMixtureLengths.model_validate(
            {
                "distribution": "lognormal_mixture",
                "components": [{"weight": 1.0, "mu": mu, "sigma": sigma}],
                "minimum": "1 tokens",
                "maximum": "16000 tokens",
                "source": ["assumption"],
                "confidence": "assumption",
            }
        )
        for name, mu, sigma in (("prompt", 6.48, 1.0), ("output", 5.52, 0.9))
    }
    arrivals_s = poisson_arrivals(rate, 1.05 * requests / rate, stream(7, "benchmark", "arrivals"))[:requests]
    return trace_from_arrays(
        (arrivals_s * NANOSECONDS).astype("int64"),
        sample_lengths(lengths["prompt"], requests, stream(7, "benchmark", "prompt")),
        sample_lengths(lengths["output"], requests, stream(7, "benchmark", "output")),
    )


def plan_of(case: Case) -> RunPlan:
    """Return the run of a case."""
    deployment: Deployment = replace(deploy(load_scenario(str(SCENARIO)))[0], replicas=case.replicas)
    if case.name.startswith("azure"):
        trace = read_trace(AZURE, "chat")
    else:
        trace = lognormal_trace(case.requests, rate=RATE_PER_REPLICA * case.replicas)
    return RunPlan(
        trace=trace,
        deployments=[deployment],
        pools_of_class=[[0]],
        router=case.router,
        draws=stream(7, "routing").random((0, 2)),
        arrivals_end_ns=int(trace.arrival_ns[-1]) + 1,
        drain_ns=3600 * NANOSECONDS,
        interval_ns=60 * NANOSECONDS,
        max_span=case.max_span,
    )


RATE_PER_REPLICA = 15.0
"""Requests per second and replica: about three quarters of what one replica can do."""


def measure(case: Case) -> dict[str, Any]:
    """Run a case twice, time the second run, and return its row."""
    plan = plan_of(case)
    run(replace(plan, trace=plan.trace.window(0.0, 60.0)), case.engine)  # type: ignore[arg-type]
    started = time.perf_counter()
    outcome = run(plan, case.engine)  # type: ignore[arg-type]
    wall_s = time.perf_counter() - started
    finished = int((outcome.requests["outcome"] == 1).sum())
    assert finished == plan.trace.requests, f"{case.name}: {finished} of {plan.trace.requests} requests finished"
    assert case.events in (None, outcome.events), f"{case.name}: {outcome.events} events, {case.events} expected"
    return {
        "name": case.name,
        "engine": case.engine,
        "requests": plan.trace.requests,
        "replicas": case.replicas,
        "wall_s": round(wall_s, 4),
        "requests_per_s": round(plan.trace.requests / wall_s),
        "events": outcome.events,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Run all cases, or one, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", type=int, help="run only this case and print its row as JSON")
    parser.add_argument("--growth", action="store_true", help="the cases that show how cost grows")
    arguments = parser.parse_args()
    cases = GROWTH if arguments.growth else CASES
    if arguments.case is not None:
        print(json.dumps(measure(cases[arguments.case])))
        return
    rows = []
    print(f"{'case':34} {'engine':9} {'requests':>9} {'replicas':>8} {'wall s':>8} {'requests/s':>11} {'peak MiB':>8}")
    for index, case in enumerate(cases):
        if case.name.startswith("azure") and not AZURE.is_file():
            print(f"{case.name:34} skipped: no {AZURE.name} beside the checkout")
            continue
        done = subprocess.run(
            [sys.executable, __file__, "--case", str(index), *(["--growth"] if arguments.growth else [])],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{asdict(case)} failed:\n{done.stderr}")
        row = json.loads(done.stdout)
        rows.append(row)
        print(
            f"{row['name']:34} {row['engine']:9} {row['requests']:9,} {row['replicas']:8,} {row['wall_s']:8.2f} "
            f"{row['requests_per_s']:11,} {row['peak_rss_bytes'] / 2**20:8.0f}"
        )
    if arguments.growth:
        return
    machine = {"system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
    LATEST.write_text(json.dumps({"machine": machine, "cases": rows}, indent=2) + "\n", encoding="utf-8")
    print(f"Written: {LATEST.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
