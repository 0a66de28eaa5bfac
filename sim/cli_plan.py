"""The command `fleetcast plan`; its imports are inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path

import click

EXIT_INFEASIBLE = 1


@click.command("plan", short_help="Plan a fleet month by month through a horizon.")
@click.argument("name", metavar="HORIZON")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory to write; it must not exist.")
@click.option("--overwrite", is_flag=True, help="Replace an older plan in the output directory.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one value of the horizon.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def plan_command(
    name: str, output: Path | None, overwrite: bool, changes: tuple[str, ...], quiet: bool, as_json: bool
) -> None:
    """Plan what to own, rent, retire and leave to an API in every month of HORIZON; exit code 1 if nothing will do.

    \b
    fleetcast plan enterprise-2027 -o plans/e27
    fleetcast plan enterprise-2027 --set site_power.value="1 MW" --json
    fleetcast plan enterprise-2027 --set levers.compression=false
    """
    from sim.cli_common import changes_of, print_json, problems_told

    if overwrite and output is None:
        raise click.UsageError("--overwrite needs --output")
    with problems_told():
        from sim.planning.horizon import load_horizon
        from sim.planning.plan import plan
        from sim.planning.plan_tables import check_free
        from sim.reporting.console import progress, show
        from sim.reporting.plan_table import plan_json, plan_tables

        if output is not None:
            check_free(output.absolute(), overwrite)
        horizon = load_horizon(name, changes_of(changes))
        with progress(quiet) as told:
            found = plan(horizon, told)
        if output is not None:
            found.save(output, overwrite)
        if as_json:
            print_json(plan_json(found))
        else:
            show(plan_tables(found))
            if output is not None:
                click.echo(f"\nWritten: {output}/ (tables as Parquet, manifest.json)")
        if not quiet:
            click.echo(f"{found.manifest['wall_s']:.1f} s", err=True)
    if not found.feasible:
        raise SystemExit(EXIT_INFEASIBLE)
