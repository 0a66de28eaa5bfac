"""The plotting library as text, for pages that carry it with them."""

from __future__ import annotations

import importlib.resources
import importlib.util

from sim.specs.errors import InputError, Problem


def plotly_script() -> str | None:
    """Return the source of plotly.js, or None where the extra `report` is not installed."""
    if importlib.util.find_spec("plotly") is None:
        return None
    return (importlib.resources.files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def need_plotly(file: str) -> None:
    """Raise InputError, naming the file that cannot be written, where the extra `report` is not installed."""
    if importlib.util.find_spec("plotly") is None:
        remedy = "Install it with: pip install 'fleetcast[report]'"
        raise InputError([Problem("reports with plots need plotly", value=file, remedy=remedy)])
