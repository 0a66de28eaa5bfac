"""Before the first run: `init` writes a project to start from, `doctor` says whether the program has what it needs."""

from __future__ import annotations

from pathlib import Path

import click

from sim.cli_common import print_json, problems_told


@click.command("init", short_help="Write a project to start from.")
@click.argument("folder", type=click.Path(path_type=Path))
def init_command(folder: Path) -> None:
    """Write a scenario, a workload, a hardware profile and a README into FOLDER, which must be empty or new.

    \b
    fleetcast init ours
    fleetcast check ours/scenario.yaml
    fleetcast run ours/scenario.yaml -o ours/out
    """
    with problems_told():
        from sim.project import start_project

        for file in start_project(folder):
            click.echo(file)
    click.echo(f"Next: fleetcast check {folder / 'scenario.yaml'}", err=True)


@click.command("completion", short_help="Print what makes a shell complete commands.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script by which SHELL completes commands and options of fleetcast; bash must be 4.4 or newer.

    \b
    eval "$(fleetcast completion bash)"                                          in ~/.bashrc
    fleetcast completion fish > ~/.config/fish/completions/fleetcast.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, "click knows these shells"
    click.echo(found(context.find_root().command, {}, "fleetcast", "_FLEETCAST_COMPLETE").source())


@click.command("doctor", short_help="Say whether everything that is needed is there.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def doctor_command(as_json: bool) -> None:
    """Say whether everything is there: versions, caches, cores, memory, the library and the optional extras.

    Exit code 1 when something that every run needs is missing or broken.

    \b
    fleetcast doctor
    fleetcast doctor --json
    """
    with problems_told():
        from sim.project import examine

        findings = examine()
        if as_json:
            print_json({"findings": [finding._asdict() for finding in findings]})
        else:
            from rich.markup import escape
            from rich.table import Table

            from sim.reporting.console import show

            table = Table(box=None, pad_edge=False)
            for heading in ("", "what", "found", "remedy"):
                table.add_column(heading)
            for finding in findings:
                table.add_row(*map(escape, finding))
            show(table)
    if any(finding.state == "broken" for finding in findings):
        raise SystemExit(1)
