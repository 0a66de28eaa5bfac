"""The command `fleetcast claims`; its imports are inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path

import click

from sim.cli_execution import execution_options


@click.command("claims", short_help="Put published claims about inference economics to the test.")
@click.argument("wanted", nargs=-1, metavar="[ID]...")
@click.option(
    "--pages", type=click.Path(path_type=Path, file_okay=False), help="Write a page for each claim, and their table."
)
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Folder in which simulated fleets are kept."
)
@execution_options
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def claims_command(
    wanted: tuple[str, ...],
    pages: Path | None,
    keep: Path | None,
    workers: int | None,
    cluster: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Simulate published claims, all of them or those with the numbers ID, and say which hold.

    \b
    fleetcast claims                  all claims, minutes
    fleetcast claims C03              one claim with its numbers, assumptions and conditions
    fleetcast claims C02 C10 --json
    """
    from sim.cli_common import print_json, problems_told
    from sim.cli_execution import study_told

    with problems_told(), study_told(is_kept=keep is not None):
        from sim.execution.executor import make_executor
        from sim.execution.store import Store
        from sim.planning.claims.study import load_claims, run_claims
        from sim.reporting.claims_page import claim_text, claims_table, write_pages
        from sim.reporting.console import progress, show

        specs = load_claims(wanted)
        store = None if keep is None else Store(keep)
        with make_executor(workers, cluster) as executor, progress(quiet) as told:
            found = run_claims(specs, progress=told, executor=executor, store=store)
        if pages is not None:
            write_pages(pages, found)
        if as_json:
            print_json({"claims": [each.to_json() for each in found]})
        elif wanted:
            click.echo("\n".join(claim_text(each) for each in found), nl=False)
        else:
            show(claims_table(found))
