"""The command `fleetcast uncertainty`; its imports are inside, so that `--help` answers at once."""

from __future__ import annotations

from pathlib import Path

import click

from sim.cli_execution import execution_options


@click.command("uncertainty", short_help="Say how sure a plan is, and what drives it.")
@click.argument("name", metavar="HORIZON")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True,
              help="Directory to write; a study that was stopped there goes on.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=2), default=1000, show_default=True, metavar="N",
              help="Worlds that are drawn.")  # fmt: skip
@click.option("--pairs", type=click.IntRange(min=0), default=128, show_default=True, metavar="M",
              help="Pairs of worlds for Sobol indices, evaluated once more for every group; 0 for none.")  # fmt: skip
@click.option("--ranges", default="stated-ranges", show_default=True, metavar="NAME",
              help="How ranges are read, by name or path: see `fleetcast show stated-ranges`.")  # fmt: skip
@click.option("--method", type=click.Choice(["sobol", "latin_hypercube"]), default="sobol", show_default=True,
              help="How worlds fill the space.")  # fmt: skip
@click.option("--replicates", type=click.IntRange(min=1), default=4, show_default=True, metavar="R",
              help="Sets of requests with which every replica is simulated.")  # fmt: skip
@click.option("--checks", type=click.IntRange(min=0), default=3, show_default=True, metavar="K",
              help="Worlds in which what replicas serve is simulated to check the response.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Seed of all that is drawn.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="Change one value of the horizon.")
@execution_options
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def uncertainty_command(
    name: str,
    output: Path,
    samples: int,
    pairs: int,
    ranges: str,
    method: str,
    replicates: int,
    checks: int,
    seed: int,
    changes: tuple[str, ...],
    workers: int | None,
    cluster: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw every number of HORIZON that has a range, and say what its best plan would cost and how the plan fares.

    \b
    fleetcast uncertainty enterprise-2027 --samples 1000 -o out/sure
    fleetcast uncertainty enterprise-2027 --samples 200 --pairs 0 -o out/quick --json
    """
    import time

    from sim.cli_common import changes_of, print_json, problems_told
    from sim.cli_execution import study_told

    started = time.perf_counter()
    with problems_told(), study_told(is_kept=True):
        from sim.execution.execution import Tally
        from sim.execution.executor import make_executor
        from sim.execution.store import Store
        from sim.planning.horizon import load_horizon
        from sim.planning.uncertainty.result import RUNS, check_place
        from sim.planning.uncertainty.study import uncertainty
        from sim.reporting.console import progress, show
        from sim.reporting.uncertainty_table import uncertainty_json, uncertainty_tables

        check_place(output.absolute())
        horizon = load_horizon(name, changes_of(changes))
        tally = Tally()
        with make_executor(workers, cluster) as executor, progress(quiet) as told:
            store = Store(output / RUNS)
            found = uncertainty(
                horizon, samples, pairs, replicates=replicates, checks=checks, seed=seed,
                method="sobol" if method == "sobol" else "latin_hypercube",
                ranges=ranges, executor=executor, store=store, progress=told, tally=tally,
            )  # fmt: skip
        found.save(output)
        if as_json:
            print_json(uncertainty_json(found))
        else:
            show(uncertainty_tables(found))
            click.echo(f"\nWritten: {output}/ (tables as Parquet, manifest.json, finished pieces in {RUNS}/)")
        if not quiet:
            took = f"{time.perf_counter() - started:.1f} s"
            click.echo(f"{took}, {tally.ran} pieces run, {tally.skipped} finished before", err=True)
