"""Versions of what results depend on, by themselves, so that a worker process need not import the simulator to know."""

from __future__ import annotations

import importlib.metadata
import platform

from sim.version import __version__

_LIBRARIES = ("numba", "numpy", "pandas", "pyarrow", "pydantic", "scipy", "simpy")


def versions() -> dict[str, str]:
    """Return the versions of the program, of Python and of the libraries that results depend on."""
    return {
        "fleetcast": __version__,
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in _LIBRARIES},
    }
