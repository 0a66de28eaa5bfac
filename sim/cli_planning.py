"""The command `fleetcast size`; its imports are inside, so that `--help` answers at once."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sim.specs.fleet import ParallelismSpec

EXIT_INFEASIBLE = 1


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Return whole numbers of a list such as `1,2,4`."""
    try:
        found = tuple(int(each) for each in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers, such as 1,2,4") from None
    if any(each < 1 for each in found):
        raise click.BadParameter("numbers must be at least 1")
    return found


def _layouts(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[ParallelismSpec, ...]:
    """Return layouts such as `tensor=1,data=8,expert=8`."""
    if not values:
        return ()
    from pydantic import ValidationError

    from sim.specs.fleet import ParallelismSpec

    found = []
    for value in values:
        try:
            pairs = (each.partition("=") for each in value.split(","))
            found.append(ParallelismSpec.model_validate({name.strip(): int(count) for name, _, count in pairs}))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(each) for each in problem["loc"])
            raise click.BadParameter(f"{value!r}: {where + ': ' if where else ''}{problem['msg']}") from None
        except ValueError:
            raise click.BadParameter(f"{value!r} is no layout, such as tensor=1,data=8,expert=8") from None
    return tuple(found)


@click.command("size", short_help="Find the smallest fleet that meets the service levels.")
@click.argument("name", metavar="SCENARIO")
@click.option("--hardware", metavar="NAME,...", help="Accelerators to compare, instead of the scenario's own.")
@click.option("--model", "models", metavar="NAME,...", help="Models to compare, instead of the scenario's own.")
@click.option("--pool", help="Pool to size, where the scenario has several; the others keep their sizes.")
@click.option(
    "--layout", "layouts", metavar="tensor=N,...", callback=_layouts, multiple=True,
    help="Layout of a replica to choose from, such as tensor=1,data=8,expert=8; may be repeated. Without it the "
    "scenario's, with --hardware also tensor parallelism of all powers of two.",
)  # fmt: skip
@click.option(
    "--batch-limit", "batch_limits", metavar="N,...", callback=_numbers,
    help="Limits on the sequences of a replica to choose from; without it the scenario's.",
)  # fmt: skip
@click.option("--economics", metavar="NAME", help="Price accelerators at the cost of owning them on these terms.")
@click.option("--api", metavar="MODEL", help="Compare with the list price of this model behind an API; needs --on.")
@click.option("--on", "day", type=click.DateTime(["%Y-%m-%d"]), help="Day of the API price.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False),
    help="HTML page to write: cost against latency as a plot, and the tables.",
)  # fmt: skip
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one value of the scenario.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def size_command(
    name: str,
    hardware: str | None,
    models: str | None,
    pool: str | None,
    layouts: tuple[ParallelismSpec, ...],
    batch_limits: tuple[int, ...],
    economics: str | None,
    api: str | None,
    day: datetime.datetime | None,
    output: Path | None,
    changes: tuple[str, ...],
    quiet: bool,
    as_json: bool,
) -> None:
    """Find the smallest fleet that meets all service levels of SCENARIO, by simulation; exit code 1 if none does.

    \b
    fleetcast size quickstart
    fleetcast size quickstart --hardware h100-sxm,gb200-nvl72,vr200-nvl72
    fleetcast size quickstart --hardware h200-sxm,b200-hgx --model qwen3.5-27b,mistral-small-4-119b-a6b -o sizes.html
    fleetcast size quickstart --hardware h200-sxm --layout tensor=2 --layout tensor=4 --batch-limit 32,128 --json
    """
    from sim.cli_common import changes_of, print_json, problems_told

    if (api is None) != (day is None):
        raise click.UsageError("--api and --on come together: list prices change.")
    with problems_told():
        from sim.planning.sizing import size
        from sim.reporting.console import progress, show
        from sim.reporting.sizing_table import break_even_table, sizing_tables
        from sim.specs.library import default_library
        from sim.specs.resolved import load_scenario

        scenario = load_scenario(name, changes_of(changes))
        terms = None if economics is None else scenario.library.economics(economics).spec
        charged = None
        if api is not None and day is not None:
            from sim.planning.break_even import api_price

            charged = api_price(terms or default_library().economics("reference").spec, api, day.date())
        with progress(quiet) as told:
            wanted = tuple(filter(None, hardware.split(","))) if hardware else ()
            others = tuple(filter(None, models.split(","))) if models else ()
            found = size(
                scenario,
                wanted,
                others,
                pool=pool,
                layouts=layouts,
                batch_limits=batch_limits,
                economics=terms,
                progress=told,
            )
        pays = {}
        if charged is not None:
            from sim.planning.break_even import against_api

            pays = against_api(found, charged)
        if as_json:
            extra = {key: each.__dict__ for key, each in pays.items()}
            print_json({**found.to_json(), **({"break_even": extra} if charged is not None else {})})
        else:
            show(sizing_tables(found))
            if charged is not None and pays:
                click.echo()
                show(break_even_table(f"{api} on {day:%Y-%m-%d}", pays))
        if output is not None:
            from sim.reporting.report.page import write_report_of

            write_report_of(found, output)
            click.echo(f"Written: {output}", err=True)
    if not found.feasible:
        raise SystemExit(EXIT_INFEASIBLE)
