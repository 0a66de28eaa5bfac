"""Write what follows from the code and the last fit; run by `make docs`.

These are docs/fields.md, measured.md, the generated part of validation.md with its pictures, quickstart.svg, the
columns of uncertainty.md, and the coverage of the shipped serving stacks.

The page of traffic_checks.py is written too where the recorded traces lie beside the checkout.
"""

from __future__ import annotations

from pathlib import Path

import traffic_checks

import sim
from sim.fidelity.coverage import write_coverage
from sim.fidelity.kv_check import published_capacities
from sim.fidelity.measured_page import measured_page
from sim.fidelity.points import DATA, read_points
from sim.fidelity.validation import validate
from sim.fidelity.validation_page import BY_ACCELERATOR, PARITY, stored_errors, validation_section, with_section
from sim.planning.uncertainty.tables import columns_markdown
from sim.reporting.error_picture import error_picture
from sim.reporting.parity import parity_picture
from sim.reporting.terminal import result_picture
from sim.results.tables import fields_markdown

DOCS = Path(__file__).resolve().parent
TRACES = DOCS.parent.parent / "shared" / "traces"
PICTURE_COMMAND = "fleetcast run quickstart -o out/first"


def main() -> None:
    """Write the files."""
    (DOCS / "measured.md").write_text(measured_page(), encoding="utf-8")
    errors = stored_errors()
    write_coverage(DOCS.parent / "serving_stacks", errors["coverage"])
    page = (DOCS / "validation.md").read_text("utf-8")
    section = validation_section(errors, published_capacities())
    (DOCS / "validation.md").write_text(with_section(page, section), encoding="utf-8")
    points = validate(read_points(DATA / "reference_points.csv"))
    (DOCS / PARITY).write_text(parity_picture(points), encoding="utf-8")
    (DOCS / BY_ACCELERATOR).write_text(error_picture(errors["groups_out_by_accelerator"]), encoding="utf-8")
    (DOCS / "fields.md").write_text(fields_markdown(), encoding="utf-8")
    if TRACES.is_dir():
        (DOCS / "traffic_checks.md").write_text(traffic_checks.page(TRACES), encoding="utf-8")
    page = DOCS / "uncertainty.md"
    written, heading, _ = page.read_text(encoding="utf-8").partition("## Columns\n")
    page.write_text(f"{written}{heading}\n{columns_markdown()}", encoding="utf-8")
    picture = result_picture(sim.simulate(sim.load("quickstart")), PICTURE_COMMAND)
    (DOCS / "quickstart.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
