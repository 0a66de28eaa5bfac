"""Reports from results and plans: the page is a layer above, and is looked up when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path


def write_report_of(found: object, file: str | Path) -> None:
    """Write what was found as one HTML page; InputError without the extra `report` or the folder."""
    importlib.import_module("sim.reporting.report.page").write_report_of(found, file)
