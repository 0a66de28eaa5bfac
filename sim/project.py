"""A user's own project and machine: a folder to start from, and what the program finds around it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from sim.specs.errors import InputError, Problem
from sim.specs.library import KINDS, builtin_root, default_library
from sim.version import __version__

_EXTRAS = {
    "report": (("plotly",), "plots in reports"),
    "notebook": (("ipykernel", "nbclient", "plotly"), "notebooks"),
    "uncertainty": (("SALib",), "Sobol indices"),
    "cluster": (("distributed",), "studies on a Dask cluster"),
    "aiconfigurator": (("aiconfigurator_core",), "step times from AIConfigurator"),
}
_REQUIRED = ("click", "numba", "numpy", "pandas", "pyarrow", "pydantic", "rich", "scipy", "simpy")
_FEWEST_BYTES = 2 * 2**30


class Finding(NamedTuple):
    """One thing that was looked at."""

    state: str
    """`ok`, `absent` for what is optional, or `broken`."""

    what: str
    """What was looked at."""

    found: str
    """What was found."""

    remedy: str = ""
    """What helps."""


def start_project(folder: Path) -> list[Path]:
    """Copy the starter project into a folder; return its files.

    Raises
    ------
    InputError
        The folder holds something already, or is a file.

    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds files already" if folder.is_dir() else "is a file"
        raise InputError([Problem(what, str(folder), remedy="Name a new or an empty folder.")])
    source = builtin_root() / "starter"
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return [folder / file.relative_to(source) for file in files]


def examine() -> list[Finding]:
    """Return what the program finds: itself, the machine, what it builds on, its cache, the library and the extras."""
    return [
        Finding("ok", "fleetcast", __version__),
        Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_machine(),
        *(_package(name) for name in _REQUIRED),
        _cache(),
        *_library(),
        *(_extra(name, modules, purpose) for name, (modules, purpose) in _EXTRAS.items()),
    ]


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = [Finding("ok", "cores", str(cores))]
    if hasattr(os, "sysconf"):
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        state, remedy = ("ok", "") if size >= _FEWEST_BYTES else ("broken", "Runs need about 2 GiB; shorten them.")
        found.append(Finding(state, "memory", f"{size / 2**30:.1f} GiB", remedy))
    return found


def _package(name: str) -> Finding:
    try:
        return Finding("ok", name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding("broken", name, "not installed", f"{sys.executable} -m pip install {name}")


def _cache() -> Finding:
    from sim.serving.compilation import cache_directory

    directory = cache_directory()
    if not os.access(directory, os.W_OK):
        return Finding("broken", "compiled code", f"{directory} cannot be written", "Set FLEETCAST_CACHE to a folder.")
    compiled = len(list(directory.glob("**/*.nbc")))
    found = f"{directory}: {compiled} functions" if compiled else f"{directory}: empty, the first run compiles"
    return Finding("ok", "compiled code", found)


def _library() -> list[Finding]:
    try:
        library = default_library()
    except InputError as error:
        return [Finding("broken", "library", str(problem)) for problem in error.problems]
    counts = ", ".join(f"{len(library.names(kind))} {folder}" for kind, folder in KINDS.items())
    return [Finding("ok", "library", counts), *(Finding("ok", "  looked up in", str(root)) for root in library.roots)]


def _extra(name: str, modules: tuple[str, ...], purpose: str) -> Finding:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return Finding("absent", f"extra {name}", f"for {purpose}", f'pip install "fleetcast[{name}]"')
    return Finding("ok", f"extra {name}", f"for {purpose}")
