"""The command `fleetcast sweep`, and what commands with many runs share; imports are inside, for a fast `--help`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from sim.cli_common import EXIT_BAD_INPUT, EXIT_INTERRUPTED, print_json, problems_told

EXIT_INFEASIBLE = 1
_GOES_ON = "what is finished is kept; the same command goes on from there"

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


@contextmanager
def study_told(is_kept: bool) -> Iterator[None]:
    """Say what has become of a study that ends early; inside of `problems_told`.

    Parameters
    ----------
    is_kept : bool
        Whether finished runs stay in a directory of the user's.

    """
    from sim.execution.task import TaskError

    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"Interrupted: {_GOES_ON if is_kept else 'nothing was written'}.", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except OSError as error:
        if not is_kept or error.errno is None:
            raise
        raise OSError(error.errno, f"{error.strerror}; {_GOES_ON}", error.filename) from error
    except TaskError as error:
        click.echo(f"Problem:\n  {error}", err=True)
        for note in getattr(error.__cause__, "__notes__", ()):
            click.echo(f"  {note}", err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None


@click.command("sweep", short_help="Simulate a scenario at many points, on many cores.")
@click.argument("name", metavar="SCENARIO")
@click.option(
    "--set", "settings", multiple=True, metavar="PATH=VALUES",
    help="What to vary: a list a,b,c or a range low..high:count, with units as in the scenario; may be repeated.",
)  # fmt: skip
@click.option("--latin-hypercube", "samples", type=click.IntRange(min=1), metavar="N",
              help="Draw N points instead of trying all combinations; a range then needs no count.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Directory for the dataset; finished runs that it holds are not run again.")  # fmt: skip
@click.option("--resume/--fresh", "is_resumed", default=True, show_default=True,
              help="Use runs that the directory holds, or run all of them again.")  # fmt: skip
@click.option("--replications", type=click.IntRange(min=1), default=1, show_default=True,
              help="Independent repetitions at each point.")  # fmt: skip
@click.option("--engine", type=click.Choice(["auto", "simpy", "compiled"]), default="auto", show_default=True)
@execution_options
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def sweep_command(
    name: str,
    settings: tuple[str, ...],
    samples: int | None,
    output: Path | None,
    is_resumed: bool,
    replications: int,
    engine: Any,
    workers: int | None,
    cluster: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Simulate SCENARIO at every combination of values, or at points of a Latin hypercube; exit code 1 if none can run.

    \b
    fleetcast sweep quickstart --set fleet.serving.replicas=4,8 --set traffic.chat.rate="10,40 requests/s" -o out/grid
    fleetcast sweep quickstart --latin-hypercube 64 --set traffic.chat.rate="5..50 requests/s" -o out/drawn
    """
    with problems_told(), study_told(is_kept=output is not None):
        from sim.execution.sweep import sweep
        from sim.reporting.console import progress, show
        from sim.reporting.sweep_table import sweep_json, sweep_tables

        values = _values_of(settings)
        with progress(quiet) as told:
            found = sweep(
                name, values, output, samples=samples, replications=replications, engine=engine, workers=workers,
                cluster=cluster, resume=is_resumed, progress=told,
            )  # fmt: skip
        if as_json:
            print_json(sweep_json(found))
        else:
            show(sweep_tables(found))
            if output is not None:
                click.echo(f"\nWritten: {output}/ (runs and summary as partitioned Parquet, study.json, results)")
        if not quiet:
            click.echo(found.tally.told(), err=True)
    if not found.any_finished:
        raise SystemExit(EXIT_INFEASIBLE)


def _values_of(settings: tuple[str, ...]) -> dict[str, str]:
    from sim.specs.errors import InputError, Problem

    values: dict[str, str] = {}
    problems = []
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            problems.append(Problem("not a setting", "--set", value=setting, remedy="Write PATH=VALUES."))
        elif path in values:
            problems.append(Problem("is given twice", "--set", path, text, "Write all values behind one --set."))
        values[path] = text
    if problems:
        raise InputError(problems)
    return values
