"""The command line: `fleetcast list | show | check | run | schema`, and the commands of other rooms.

The answer goes to stdout, progress and complaints to stderr. Exit codes: 0 done, 1 no feasible answer, 2 bad input.
Imports are inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import difflib
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from sim.cli_claims import claims_command
from sim.cli_common import changes_of, print_json, problems_told
from sim.cli_execution import sweep_command
from sim.cli_fidelity import calibrate_command, import_model_command, validate_command
from sim.cli_plan import plan_command
from sim.cli_planning import size_command
from sim.cli_report import report_command
from sim.cli_setup import completion_command, doctor_command, init_command
from sim.cli_traffic import fit_workload_command, import_group
from sim.cli_uncertainty import uncertainty_command
from sim.version import __version__


def _known_kind(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return a kind of entry, also of its plural or folder; looked up when needed, so that `--help` loads nothing."""
    if value is None:
        return None
    from sim.specs.errors import suggest
    from sim.specs.library import KINDS

    for kind, folder in KINDS.items():
        if value in (kind, f"{kind}s", folder):
            return kind
    raise click.BadParameter(f"{value!r} is no kind of entry. {suggest(value, KINDS)}")


class _Group(click.Group):
    """Commands with near-miss suggestions."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command of the arguments."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            if close and "Did you mean" not in error.message:
                raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None
            raise


_json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
_set_option = click.option(
    "--set", "changes", multiple=True, metavar="PATH=VALUE",
    help="Change one value of the scenario, as in --set fleet.serving.replicas=12; may be repeated.",
)  # fmt: skip
_trace_option = click.option(
    "--trace", metavar="[CLASS=]FILE",
    help="Replay a recorded trace instead of the scenario's traffic; as CLASS, or as the classes that the file names,"
    " at their service levels.",
)  # fmt: skip


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="fleetcast")
def main() -> None:
    """Which fleet, at what cost, with what latency: simulate LLM inference on accelerators.

    \b
    fleetcast list                          what the library holds
    fleetcast show vr200-nvl72              one entry, with its sources
    fleetcast run quickstart -o out/first   simulate, print the tables, write Parquet
    """
    # A file name or a sign that the terminal cannot write is no reason to stop.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


main.add_command(init_command)
main.add_command(doctor_command)
main.add_command(completion_command)
main.add_command(size_command)
main.add_command(sweep_command)
main.add_command(plan_command)
main.add_command(uncertainty_command)
main.add_command(claims_command)
main.add_command(report_command)
main.add_command(import_group)
import_group.add_command(import_model_command)
main.add_command(validate_command)
main.add_command(calibrate_command)
main.add_command(fit_workload_command)


@main.command("list", short_help="List what the library holds.")
@click.argument("kind", callback=_known_kind, required=False)
@_json_option
def list_command(kind: str | None, as_json: bool) -> None:
    """List what the library holds, all of it or one KIND: hardware, model, workload, scenario and so on.

    \b
    fleetcast list
    fleetcast list hardware --json
    """
    with problems_told():
        from sim.reporting.console import show as show_table
        from sim.reporting.listing import listing
        from sim.reporting.terminal import library_table
        from sim.specs.library import KINDS, default_library

        library = default_library()
        entries = {each: listing(library, each) for each in ([kind] if kind else KINDS)}
        if as_json:
            print_json(entries)
            return
        for position, (each, rows) in enumerate(entries.items()):
            if position:
                click.echo()
            show_table(library_table(each, rows))


@main.command(short_help="Show one entry of the library, with its sources.")
@click.argument("name")
@click.option("--kind", callback=_known_kind, help="Needed only where two kinds share a name.")
@_json_option
def show(name: str, kind: str | None, as_json: bool) -> None:
    """Show one entry of the library: its file with sources, and what is computed from it.

    \b
    fleetcast show gpt-oss-120b
    fleetcast show realtime-chat --json
    """
    with problems_told():
        from sim.reporting.listing import computed
        from sim.specs.library import default_library

        found = default_library().load(kind or _kind_of(name), name)
        values = computed(found.spec)
        if as_json:
            print_json({"document": found.spec.model_dump(mode="json", exclude_none=True), "computed": values})
            return
        click.echo(Path(found.raw.file).read_text(encoding="utf-8").rstrip())
        if values:
            click.echo("\n# computed from the above")
            for key, value in values.items():
                click.echo(f"# {key}: {value:,.6g}" if isinstance(value, float) else f"# {key}: {value}")


@main.command(short_help="Check an entry or a file, without running it.")
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
    with problems_told():
        kind = _kind_of(name)
        if kind != "scenario":
            from sim.specs.library import default_library

            if changes or trace:
                raise click.UsageError(f"--set and --trace are for scenarios; {name} is of kind {kind}")
            default_library().load(kind, name)
            if as_json:
                print_json({"ok": True, "kind": kind})
            else:
                click.echo(f"{name}: {kind} is in order")
            return
        from sim.reporting.console import show as show_table
        from sim.reporting.terminal import pools_table
        from sim.results.manifest import pool_record
        from sim.simulation import check as check_scenario
        from sim.specs.resolved import load_scenario

        scenario = load_scenario(name, changes_of(changes), _replay(trace))
        variants = zip(scenario.variants(), check_scenario(scenario), strict=True)
        pools = [
            {"scenario": variant.scenario_id, **pool_record(each)} for variant, found in variants for each in found
        ]
        if as_json:
            print_json({"ok": True, "kind": "scenario", "pools": pools})
            return
        show_table(pools_table(pools))
        click.echo(f"\n{name}: scenario is in order")


@main.command(short_help="Simulate a scenario, print tables, write Parquet.")
@click.argument("name", metavar="SCENARIO")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory to write; it must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace an older result in the output directory.")
@_trace_option
@_set_option
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random streams.")
@click.option("--replications", type=click.IntRange(min=1), default=1, show_default=True,
              help="Independent repetitions; from 2 on, intervals are over them.")  # fmt: skip
@click.option("--engine", type=click.Choice(["auto", "simpy", "compiled"]), default="auto", show_default=True,
              help="Both give the same result; simpy is the reference, compiled the fast one.")  # fmt: skip
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
    fleetcast run quickstart --set alternatives.vera-rubin.fleet.serving.replicas=2 --replications 5
    """
    with problems_told():
        from sim.reporting.console import progress, show
        from sim.reporting.terminal import result_tables
        from sim.results.writing import REPORT
        from sim.simulation import simulate
        from sim.specs.resolved import load_scenario

        edits = changes_of(changes)
        if seed is not None:
            if "seed" in edits:
                raise click.UsageError("the seed is given twice, by --seed and by --set")
            edits["seed"] = seed
        if output is not None:
            _check_place(output, overwrite)
        elif overwrite:
            raise click.UsageError("--overwrite needs --output")
        scenario = load_scenario(name, edits, _replay(trace))
        with progress(quiet) as report:
            result = simulate(scenario, replications, engine, progress=report)
        if output is not None:
            from sim.reporting.report.page import report_page
            from sim.reporting.report.studies import study_of

            result.save(output, overwrite, {REPORT: report_page([study_of(result)])})
        manifest = result.manifest
        if as_json:
            # What differs between two equal runs is no part of the answer.
            print_json({key: value for key, value in result.to_json().items() if key != "wall_s"})
        else:
            show(result_tables(result))
            if output is not None:
                click.echo(f"\nWritten: {output}/ (requests, timeline and summary as Parquet, manifest.json, {REPORT})")
        if not quiet:
            click.echo(
                f"{manifest['requests']:,} requests, {manifest['events']:,} events, {manifest['wall_s']:.1f} s, "
                f"{manifest['engine']} engine",
                err=True,
            )


@main.command(short_help="Print the JSON Schema of YAML files, for editors.")
@click.argument("kind", callback=_known_kind, required=False)
def schema(kind: str | None) -> None:
    """Print the JSON Schema of a KIND of YAML file, for editors; all of them without KIND.

    \b
    fleetcast schema scenario > scenario.schema.json
    """
    with problems_told():
        from sim.reporting.editor_schema import editor_schema
        from sim.specs.library import KINDS, spec_type

        schemas = {name: editor_schema(spec_type(name)) for name in KINDS}
        print_json(schemas[kind] if kind else schemas)


def _kind_of(name: str) -> str:
    """Return the kind of an entry, from its file or from the library."""
    from sim.specs.errors import InputError, Problem, suggest
    from sim.specs.library import KINDS, default_library, located
    from sim.specs.reading import read_yaml

    if name.endswith((".yaml", ".yml")):
        raw = read_yaml(Path(name))
        kind, extended = raw.data.get("kind"), raw.data.get("extends")
        if kind is None and isinstance(extended, str):
            return _kind_of(str(located(extended, raw.file)) if extended.endswith((".yaml", ".yml")) else extended)
        if kind not in KINDS:
            raise InputError([raw.problem("unknown kind of file", ("kind",), kind, suggest(str(kind), KINDS))])
        return str(kind)
    library = default_library()
    kinds = library.kinds_of(name)
    if not kinds:
        known = {each for kind in KINDS for each in library.names(kind)}
        raise InputError([Problem("the library has no entry of this name", value=name, remedy=suggest(name, known))])
    if len(kinds) > 1:
        raise InputError([Problem(f"the name is that of a {' and a '.join(kinds)}", value=name, remedy="Use --kind.")])
    return kinds[0]


def _replay(trace: str | None) -> tuple[str | tuple[str, ...] | None, str] | None:
    """Return class, or classes that the file names, and file of `--trace`; a name that holds `=` may be a file."""
    if trace is None:
        return None
    name, _, file = trace.partition("=")
    if file and not Path(trace).exists():
        return name, file
    from sim.demand.trace_files import classes_named

    return classes_named(Path(trace)), trace


def _check_place(output: Path, overwrite: bool) -> None:
    """Raise for an output directory that cannot be written, before the work and not after it."""
    from sim.results.writing import check_free
    from sim.specs.errors import InputError, Problem

    check_free(output, overwrite=True)
    if output.exists() and not overwrite:
        remedy = "Choose another directory, or add --overwrite to replace what is in it."
        raise InputError([Problem("exists already", str(output), remedy=remedy)])
    above = next(parent for parent in output.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{output.name}.trial-", dir=above):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        remedy = "Choose another directory."
        raise InputError([Problem(f"cannot be written: {above}: {reason}", str(output), remedy=remedy)]) from None


if __name__ == "__main__":
    main()
