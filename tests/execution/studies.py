"""Functions of tasks for tests: workers import them by name."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa

from sim.execution.task import Output
from sim.specs.errors import InputError, Problem


def square(number: int) -> int:
    return number * number


def powers(number: int) -> Output:
    return Output(
        {"number": number}, pa.table({"base": range(5), "power": [float(each) ** number for each in range(5)]})
    )


def powers_counted(number: int, folder: str) -> Output:
    """Leave a line for every time it was run."""
    with Path(folder, str(number)).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return powers(number)


def powers_with_one_death(number: int, folder: str) -> Output:
    """Kill the own worker at number 7, the first time."""
    if number == 7 and not Path(folder, "killed").exists():
        Path(folder, "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return powers(number)


def kill_itself(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def text(length: int) -> str:
    return "x" * length


def refuse(number: int) -> int:
    raise InputError([Problem("is refused", "study", "number", number)])


def divide(number: int) -> float:
    return 1.0 / number


def never_end(folder: str) -> None:
    """Say which process this is, and work for ever."""
    partial = Path(folder, "starting")
    partial.write_text(str(os.getpid()))
    partial.rename(Path(folder, "worker"))
    while True:
        pass
