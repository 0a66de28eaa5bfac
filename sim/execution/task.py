"""A task: one independent piece of a study, named after all that its result depends on."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.results.versions import versions

if TYPE_CHECKING:
    import pyarrow as pa

_PACKAGE = Path(__file__).resolve().parent.parent
_SHOWN_ONLY = ("builtin", "reporting")
"""Rooms that no result depends on: how things are shown, and the library, whose files a key names one by one."""


class TaskError(RuntimeError):
    """A task did not give a result; says which, and what went wrong there."""


@dataclass(frozen=True)
class Task:
    """One independent piece of a study: a call of an importable function with plain arguments."""

    key: str
    """SHA-256 of all that the result depends on, as 64 hexadecimal digits."""

    function: str
    """Where the function is, as in `sim.execution.sweep:run_point`."""

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Its keyword arguments, in JSON types."""

    program: str = ""
    """Fingerprint of the program that made the task; a worker of another version refuses it."""


@dataclass(frozen=True)
class Output:
    """What the function of a task returns when JSON is not enough: a value, and a table beside it."""

    value: Any
    """In JSON types, without NaN or infinity."""

    table: pa.Table | None = None
    """Stored as Parquet."""


@dataclass(frozen=True)
class Encoded:
    """A result as bytes that depend on its content alone."""

    value: bytes
    """JSON, UTF-8."""

    table: bytes | None = None
    """Parquet."""


def make_task(
    function: Callable[..., Any] | str, arguments: Mapping[str, Any], identity: Mapping[str, Any] | None = None
) -> Task:
    """Return a task with the key that its content makes.

    The key is SHA-256 of the function, the identity, the versions of the program and of its libraries, and the
    sources of the program, with that of the function's module where it is none of ours; equal tasks of equal programs
    have equal keys wherever they are made.

    Parameters
    ----------
    function : callable or str
        At the top level of a module that workers can import; it returns JSON types or an `Output`, and the same
        for the same arguments.
    arguments : mapping
        Keyword arguments in JSON types.
    identity : mapping, optional
        What the result depends on, where that is not the arguments themselves: fingerprints of files instead of
        their paths, say. JSON types.

    Raises
    ------
    ValueError
        A function that cannot be imported by name, or arguments that are no JSON.

    """
    path = function if isinstance(function, str) else path_of(function)
    program = _program_of(path)
    named = {"function": path, "identity": arguments if identity is None else identity, "program": program}
    plain = json.loads(canonical_json(arguments))
    return Task(hashlib.sha256(canonical_json(named)).hexdigest(), path, plain, program)


def path_of(function: Callable[..., Any]) -> str:
    """Return where a function can be imported from; ValueError when it cannot."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<unnamed>")
    if module in (None, "__main__") or not name.isidentifier():
        raise ValueError(f"{name} cannot be imported by name; put it at the top level of a module")
    return f"{module}:{name}"


def canonical_json(value: object) -> bytes:
    """Return JSON with sorted keys and without blanks; ValueError for what JSON cannot say, NaN and infinity too."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not in JSON types: {error}; write null, or return the numbers as a table") from None
    return text.encode()


@functools.cache
def program_fingerprint() -> str:
    """Return SHA-256 of the versions of program and libraries, and of all sources and data that results come from."""
    digest = hashlib.sha256(canonical_json(versions()))
    for path in sorted(_PACKAGE.rglob("*")):
        inside = path.relative_to(_PACKAGE)
        shown = inside.parts[0] in _SHOWN_ONLY or inside.parts[0].startswith("cli")
        if shown or "__pycache__" in inside.parts or not path.is_file():
            continue
        content = path.read_bytes()
        digest.update(f"{inside.as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@functools.cache
def _source_digest(module: str) -> str:
    """Return SHA-256 of the file of a module; empty where it has none, so that running it will say so."""
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return ""
    origin = None if found is None else found.origin
    return hashlib.sha256(Path(origin).read_bytes()).hexdigest() if origin and Path(origin).is_file() else ""


def _program_of(function: str) -> str:
    """Return the fingerprint of the program that a function is part of: ours, or ours and the user's own module."""
    module = function.partition(":")[0]
    if module.partition(".")[0] == __name__.partition(".")[0]:
        return program_fingerprint()
    return hashlib.sha256(f"{program_fingerprint()} {_source_digest(module)}".encode()).hexdigest()


def call(task: Task) -> Encoded:
    """Run a task in this process and return its result.

    Raises
    ------
    TaskError
        The task comes from another version of the program, or its function cannot be imported.
    Exception
        Whatever the function raises.

    """
    if task.program != _program_of(task.function):
        raise TaskError(
            "this worker runs another version of the program, of its libraries or of Python than the study; "
            "install the same on every machine"
        )
    module, _, name = task.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise TaskError(f"{task.function} cannot be imported by this worker: {error}") from error
    return encoded(function(**task.arguments))


def encoded(result: object) -> Encoded:
    """Return what a function returned as bytes; ValueError for what cannot be stored."""
    output = result if isinstance(result, Output) else Output(result)
    if output.table is None:
        return Encoded(canonical_json(output.value))
    from sim.results.writing import write_parquet  # a worker starts sooner without it

    sink = io.BytesIO()
    write_parquet(output.table, sink)
    return Encoded(canonical_json(output.value), sink.getvalue())
