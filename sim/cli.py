"""The command line: `fleetcast list | show | check | run | schema`.

The answer goes to stdout, progress and complaints to stderr. Exit codes: 0 done, 1 no feasible answer, 2 bad input.
Imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sim.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

KINDS = ("hardware", "model", "serving_stack", "workload", "scenario")

_json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
_set_option = click.option(
    "--set", "changes", multiple=True, metavar="PATH=VALUE",
    help="Change one value of the scenario, as in --set fleet.serving.replicas=12; may be repeated.",
)  # fmt: skip
_trace_option = click.option(
    "--trace", metavar="[CLASS=]FILE",
    help="Replay a recorded trace instead of the scenario's traffic; with CLASS, as that class, at its service levels.",
)  # fmt: skip


class _Group(click.Group):
    """Commands with near-miss suggestions."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            if close:
                raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fleetcast")
def main() -> None:
    """Which fleet, at what cost, with what latency: simulate LLM inference on accelerators.

    \b
    fleetcast list                          what the library holds
    fleetcast show vr200-nvl72              one entry, with its sources
    fleetcast run quickstart -o out/first   simulate, print the tables, write Parquet
    """


@main.command("list")
@click.argument("kind", type=click.Choice(KINDS), required=False)
@_json_option
def list_command(kind: str | None, as_json: bool) -> None:
    """List what the library holds, all of it or one KIND.

    \b
    fleetcast list
    fleetcast list hardware --json
    """
    with _bad_input():
        from sim.reporting.listing import listing
        from sim.reporting.terminal import library_table
        from sim.specs.library import default_library

        library = default_library()
        entries = {each: listing(library, each) for each in ([kind] if kind else KINDS)}
        if as_json:
            click.echo(json.dumps(entries, indent=2))
            return
        console = _console()
        for position, (each, rows) in enumerate(entries.items()):
            if position:
                console.print()
            console.print(library_table(each, rows))


@main.command()
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), help="Needed only where two kinds share a name.")
@_json_option
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show one entry of the library: its file with sources, and what is computed from it.

    \b
    fleetcast show gpt-oss-120b
    fleetcast show realtime-chat --json
    """
    with _bad_input():
        from sim.reporting.listing import computed
        from sim.specs.library import default_library

        library = default_library()
        kind = kind or _kind_of(name)
        found = library.load(kind, name)
        values = computed(found.spec)
        if as_json:
            document = found.spec.model_dump(mode="json", exclude_none=True)
            click.echo(json.dumps({"document": document, "computed": values}, indent=2))
            return
        click.echo(Path(found.raw.file).read_text(encoding="utf-8").rstrip())
        if values:
            click.echo("\n# computed from the above")
            for key, value in values.items():
                click.echo(f"# {key}: {value}")


@main.command()
@click.argument("name")
@_set_option
@_trace_option
@_json_option
def check(name: str, changes: tuple[str, ...], trace: str | None, as_json: bool) -> None:
    """Check a scenario, or any other entry or YAML file, without running it.

    \b
    fleetcast check quickstart
    fleetcast check my/hardware_profiles/x.yaml
    """
    with _bad_input():
        kind = _kind_of(name)
        if kind != "scenario":
            from sim.specs.library import default_library

            default_library().load(kind, name)
            click.echo(json.dumps({"ok": True, "kind": kind}) if as_json else f"{name}: {kind} is in order")
            return
        from sim.reporting.terminal import pools_table
        from sim.results.manifest import pool_record
        from sim.simulation import check as check_scenario
        from sim.specs.resolved import load_scenario

        scenario = load_scenario(name, _changes(changes), _replay(trace))
        variants = zip(scenario.variants(), check_scenario(scenario), strict=True)
        pools = [
            {"scenario": variant.scenario_id, **pool_record(each)} for variant, found in variants for each in found
        ]
        if as_json:
            click.echo(json.dumps({"ok": True, "kind": "scenario", "pools": pools}, indent=2))
            return
        _console().print(pools_table(pools))
        click.echo(f"\n{name}: scenario is in order")


@main.command()
@click.argument("name", metavar="SCENARIO")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory to write; it must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace an older result in the output directory.")
@_trace_option
@_set_option
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random streams.")
@click.option("--replications", type=click.IntRange(min=1), default=1, show_default=True,
              help="Independent repetitions; from 2 on, intervals are over them.")  # fmt: skip
@click.option("--engine", type=click.Choice(["auto", "simpy", "compiled"]), default="auto", show_default=True)
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@_json_option
def run(
    name: str,
    output: Path | None,
    overwrite: bool,
    trace: str | None,
    changes: tuple[str, ...],
    seed: int | None,
    replications: int,
    engine: Any,
    quiet: bool,
    as_json: bool,
) -> None:
    """Simulate SCENARIO, a name or a YAML file; print the tables and write Parquet.

    \b
    fleetcast run quickstart -o out/first
    fleetcast run quickstart -o out/azure --trace chat=AzureLLMInferenceTrace_conv.csv
    fleetcast run quickstart --set alternatives.rubin.'fleet.serving.replicas'=2 --replications 5
    """
    with _bad_input():
        from sim.reporting.terminal import result_page, result_tables
        from sim.results.writing import REPORT, check_free
        from sim.simulation import simulate
        from sim.specs.resolved import load_scenario

        edits = _changes(changes)
        if seed is not None:
            edits["seed"] = seed
        if output is not None:
            check_free(output, overwrite)
        scenario = load_scenario(name, edits, _replay(trace))
        with _progress(quiet) as progress:
            result = simulate(scenario, replications, engine, progress=progress)
        if output is not None:
            result.save(output, overwrite, {REPORT: result_page(result)})
        if as_json:
            click.echo(json.dumps(result.to_json(), indent=2))
        else:
            _console().print(result_tables(result))
            if output is not None:
                click.echo(
                    f"\nWritten: {output}/ (requests, timeline and summary as Parquet; manifest.json; report.html)"
                )


@main.command()
@click.argument("kind", type=click.Choice(KINDS), required=False)
def schema(kind: str | None) -> None:
    """Print the JSON Schema of a KIND of YAML file, for editors; all of them without KIND.

    \b
    fleetcast schema scenario > scenario.schema.json
    """
    from sim.specs.library import KINDS as SPECS

    schemas = {name: spec.model_json_schema() for name, (_, spec) in SPECS.items()}
    click.echo(json.dumps(schemas[kind] if kind else schemas, indent=2))


def _kind_of(name: str) -> str:
    """Return the kind of an entry, from its file or from the library."""
    from sim.specs.errors import InputError, Problem, suggest
    from sim.specs.library import default_library
    from sim.specs.reading import read_yaml

    if name.endswith((".yaml", ".yml")):
        raw = read_yaml(Path(name))
        kind = raw.data.get("kind")
        if kind not in KINDS:
            raise InputError([Problem("unknown kind of file", name, "kind", kind, suggest(str(kind), KINDS))])
        return str(kind)
    library = default_library()
    kinds = library.kinds_of(name)
    if not kinds:
        known = {each for kind in KINDS for each in library.names(kind)}
        raise InputError([Problem("the library has no entry of this name", value=name, remedy=suggest(name, known))])
    if len(kinds) > 1:
        raise InputError([Problem(f"the name is that of a {' and a '.join(kinds)}", value=name, remedy="Use --kind.")])
    return kinds[0]


def _replay(trace: str | None) -> tuple[str | None, str] | None:
    """Return the class and the file of `--trace`."""
    if trace is None:
        return None
    name, _, file = trace.rpartition("=")
    return name or None, str(Path(file).absolute())


def _changes(settings: tuple[str, ...]) -> dict[str, object]:
    """Return the changes of `--set` as dotted path -> value."""
    import yaml

    from sim.specs.errors import InputError, Problem

    changes: dict[str, object] = {}
    problems = []
    for setting in settings:
        path, equals, value = setting.partition("=")
        if not equals or not path:
            problems.append(Problem("not a change", "--set", value=setting, remedy="Write PATH=VALUE."))
            continue
        try:
            changes[path] = yaml.safe_load(value)
        except yaml.YAMLError:
            problems.append(Problem("the value is not valid YAML", "--set", path, value))
    if problems:
        raise InputError(problems)
    return changes


def _console() -> Console:
    """Return a console on stdout: as wide as the terminal, or fixed, plain and deterministic elsewhere."""
    from rich.console import Console

    from sim.reporting.terminal import PLAIN_WIDTH

    if sys.stdout.isatty():
        return Console()
    return Console(width=PLAIN_WIDTH, no_color=True, force_terminal=False)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str, float], None] | None]:
    """Show how far the work is, on stderr and only on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("preparing", total=1.0)
        yield lambda what, fraction: bar.update(task, description=what, completed=fraction)


@contextmanager
def _bad_input() -> Iterator[None]:
    """Turn bad input into one clear message and exit code 2, and an interrupt into exit code 130."""
    from sim.specs.errors import InputError

    try:
        yield
    except InputError as error:
        count = len(error.problems)
        click.echo(f"{count} problem{'s' if count > 1 else ''}:" if count > 1 else "Problem:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
        raise SystemExit(2) from None
    except (FileExistsError, PermissionError, NotADirectoryError) as error:
        click.echo(f"Problem:\n  {error}", err=True)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        click.echo("Interrupted: nothing was written.", err=True)
        raise SystemExit(130) from None
