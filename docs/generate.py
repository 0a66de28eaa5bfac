"""Write the pages that follow from the code: docs/fields.md, measured.md and quickstart.svg. Run by `make docs`.

The page of traffic_checks.py is written too where the recorded traces lie beside the checkout.
"""

from __future__ import annotations

from pathlib import Path

import traffic_checks

import sim
from sim.fidelity.measured_page import measured_page
from sim.reporting.terminal import result_picture
from sim.results.tables import fields_markdown

DOCS = Path(__file__).resolve().parent
TRACES = DOCS.parent.parent / "shared" / "traces"
PICTURE_COMMAND = "fleetcast run quickstart -o out/first"


def main() -> None:
    """Write the files."""
    (DOCS / "measured.md").write_text(measured_page(), encoding="utf-8")
    (DOCS / "fields.md").write_text(fields_markdown(), encoding="utf-8")
    if TRACES.is_dir():
        (DOCS / "traffic_checks.md").write_text(traffic_checks.page(TRACES), encoding="utf-8")
    picture = result_picture(sim.simulate(sim.load("quickstart")), PICTURE_COMMAND)
    (DOCS / "quickstart.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
