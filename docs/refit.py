"""Fit the shipped serving stacks to measured points and judge them: python docs/refit.py POINTS.csv.

Writes serving_stacks/, the benchmark clients and the errors that docs/measured.md shows; a quarter of an hour.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sim.fidelity.coverage import coverage_of, write_coverage
from sim.fidelity.mapping import fidelity_library
from sim.fidelity.measured_page import ERRORS, measured_errors
from sim.fidelity.points import DATA, read_points
from sim.fidelity.shipping import KERNELS, client_factors, library_rows, write_clients, write_stacks
from sim.fidelity.surrogate import fit_simulation
from sim.fidelity.transfer import Held, band_lines, group_fold, left_out
from sim.fidelity.validation import validate

STACKS = Path(__file__).resolve().parent.parent / "serving_stacks"


def main(points: Path) -> None:
    """Fit, judge and write everything."""
    runs, library = read_points(points), fidelity_library()
    rows, seen = library_rows(runs, library)
    base = library.serving_stack(KERNELS).spec
    seen, fitted = fit_simulation(rows, seen, base, library)
    write_clients(fitted, DATA / "clients.csv")
    write_stacks(fitted, base, (), STACKS)
    say("fitted", fitted.values.size)
    held = Held(rows, seen, fitted, base)
    parts = {
        "groups": group_fold(5),
        "families": lambda system: system.hardware.family,
        "frameworks": lambda system: system.framework,
    }
    out = {
        name: left_out(runs, library, held, part, progress=lambda left: say("without", left))
        for name, part in parts.items()
    }
    write_stacks(fitted, base, band_lines(out["groups"], out["families"]), STACKS)
    in_sample = validate(runs, fidelity_library(), clients=client_factors(fitted))
    write_coverage(STACKS, coverage_of(in_sample, out["groups"]))
    at_rate = validate(runs, fidelity_library(), at_given_rate=True, clients=client_factors(fitted))
    errors = measured_errors(in_sample, out["groups"], out["families"], out["frameworks"], at_rate)
    ERRORS.write_text(json.dumps(errors, indent=1) + "\n", encoding="utf-8")


def say(*words: object) -> None:
    """Tell what is being done, on stderr."""
    print(*words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
