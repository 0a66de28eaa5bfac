"""Options of commands that do many runs; imports are inside, so that `--help` answers at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def execution_options(command: Command) -> Command:
    """Add `--workers` and `--cluster`, which `sim.execution.executor.make_executor` takes."""
    workers = click.option(
        "--workers", type=click.IntRange(min=0), metavar="N",
        help="Processes on this machine, by default one for each core; 0 runs in this process.",
    )  # fmt: skip
    cluster = click.option(
        "--cluster", metavar="ADDRESS|FILE",
        help="Run on a Dask cluster: the address of its scheduler, such as tcp://host:8786, or its scheduler file.",
    )  # fmt: skip
    return workers(cluster(command))
