"""How hot functions are compiled: once per version of their sources, kept on disk.

numba checks only the file of a cached function, not the files of the functions it calls, so a changed `replica.py`
would leave the engine running old code. The cache directory is therefore named after a hash of all compiled sources.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.extending import overload

Function = TypeVar("Function", bound=Callable[..., object])

_PACKAGE = Path(__file__).resolve().parent.parent
_COMPILED_SOURCES = ("serving", "engine")


def compiled(function: Function) -> Function:
    """Compile a function with numba on its first call and keep the machine code on disk.

    The functions allocate nothing and keep no array, so numba's reference counting is off (`_nrt`): the atomic
    counters took three quarters of the time. Inlining saves handing over the fleet's arrays at every call.
    """
    return _compile(function, inline=True, called_from_python=True)


def compiled_inside(function: Function) -> Function:
    """Compile a function that only compiled code calls: unpacking a fleet from Python takes long to compile."""
    return _compile(function, inline=True, called_from_python=False)


def compiled_apart(function: Function) -> Function:
    """Compile a function that compiled code calls rarely: not inlined, so that it is compiled once."""
    return _compile(function, inline=False, called_from_python=False)


def compiled_where(position: int, field: str, otherwise: Callable[..., object]) -> Callable[[Function], Function]:
    """Compile a function into engines whose state has records in a field, and `otherwise` into all others.

    What a fleet does not use is then never compiled, which takes half of the first start on a machine.

    Parameters
    ----------
    position : int
        Which argument holds the field, a named tuple.
    field : str
        Field that is an array of records where the function is needed, and of bytes where it is not.
    otherwise : callable
        What to do there; the same parameters and result.

    """

    def decorate(function: Function) -> Function:
        def choose(*arguments: Any) -> Callable[..., object]:
            state = arguments[position]
            held = state.types[state.fields.index(field)]
            return function if isinstance(held.dtype, numba.types.Record) else otherwise

        options: Any = {"_nrt": False}
        overload(function, jit_options=options, strict=False)(choose)
        return function

    return decorate


def _compile(function: Function, inline: bool, called_from_python: bool) -> Function:
    options: dict[str, Any] = {"cache": True, "forceinline": inline, "_nrt": False}
    if not called_from_python:
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, numba.njit(**options)(function))


def cache_directory() -> Path:
    """Return where machine code is kept.

    `FLEETCAST_CACHE`, or the user's cache directory, or, where neither can be written, a temporary directory; below
    it one directory per content of the compiled sources and version of numba.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    for room in _COMPILED_SOURCES:
        for source in sorted((_PACKAGE / room).glob("*.py")):
            digest.update(source.read_bytes())
    home = os.environ.get("FLEETCAST_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    for root in (Path(home).expanduser(), Path(tempfile.gettempdir())):
        directory = root / "fleetcast" / digest.hexdigest()[:16]
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(directory, os.W_OK):
            return directory
    return Path(tempfile.mkdtemp(prefix="fleetcast-"))


numba.config.CACHE_DIR = str(cache_directory())  # type: ignore[attr-defined]  # numba makes its settings at run time
