"""What all commands have in common: reading changes, answering in JSON, and turning problems into one clear message."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import click

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_READER_GONE = 141
"""What a shell reports of a program that wrote to a pipe nobody reads any more."""


def changes_of(settings: tuple[str, ...]) -> dict[str, object]:
    """Return the changes of `--set` as dotted path -> value."""
    import yaml

    from sim.specs.errors import InputError, Problem

    changes: dict[str, object] = {}
    problems = []
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            problems.append(Problem("not a change", "--set", value=setting, remedy="Write PATH=VALUE."))
        elif path in changes:
            problems.append(Problem("is given twice", "--set", path, value, "Keep one of them."))
        else:
            try:
                changes[path] = yaml.safe_load(value)
            except yaml.YAMLError:
                problems.append(Problem("the value is not valid YAML", "--set", path, value, "Put it in quotes."))
    if problems:
        raise InputError(problems)
    return changes


def print_json(value: object) -> None:
    """Print strict JSON: what is not a finite number is null."""
    click.echo(json.dumps(_strict(value), indent=2, allow_nan=False))


def _strict(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    return value


@contextmanager
def problems_told() -> Iterator[None]:
    """Turn bad input into one clear message and exit code 2, and an interrupt into exit code 130."""
    from sim.specs.errors import InputError

    try:
        yield
    except InputError as error:
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count > 1 else ''}:" if count > 1 else "Problem:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except BrokenPipeError:
        # Whoever reads has read enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_READER_GONE) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Problem:\n  {where}{error.strerror or error}", err=True)
        raise SystemExit(EXIT_BAD_INPUT) from None
    except MemoryError:
        click.echo("Problem:\n  more requests than memory holds. Lower the rates, the duration or the replications.",
                   err=True)  # fmt: skip
        raise SystemExit(EXIT_BAD_INPUT) from None
    except KeyboardInterrupt:
        click.echo("Interrupted: no part of a result was left behind.", err=True)
        raise SystemExit(EXIT_INTERRUPTED) from None
