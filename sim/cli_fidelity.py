"""The commands of fidelity: `fleetcast validate`, `fleetcast calibrate` and `fleetcast import model`."""

from __future__ import annotations

from pathlib import Path

import click

_quiet_option = click.option("--quiet", is_flag=True, help="No progress on stderr.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")


@click.command("validate", short_help="Show how far the simulator is from measured systems.")
@click.argument("points", type=click.Path(path_type=Path), required=False)
@click.option("-o", "--output", type=click.Path(path_type=Path),
              help="Directory to write: every prediction, errors by group, parity plots.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an older validation in the output directory.")
@_quiet_option
@_json_option
def validate_command(points: Path | None, output: Path | None, overwrite: bool, quiet: bool, as_json: bool) -> None:
    """Compare POINTS, a CSV of measured runs, with what the simulator predicts; without POINTS the built-in ones.

    \b
    fleetcast validate
    fleetcast validate measured.csv --json
    fleetcast validate measured.csv -o out/validation
    """
    from sim.cli_common import print_json, problems_told

    with problems_told():
        from sim.fidelity.points import DATA, read_points
        from sim.fidelity.validation import validate
        from sim.fidelity.validation_files import FILES, PAGE, PICTURE, check_place, write_validation
        from sim.reporting.console import progress, show
        from sim.reporting.fidelity_tables import validation_tables
        from sim.reporting.parity import parity_page, parity_picture

        if output is not None:
            check_place(output, overwrite)
        elif overwrite:
            raise click.UsageError("--overwrite needs --output")
        runs = read_points(points or DATA / "reference_points.csv")
        with progress(quiet) as told:
            found = validate(runs, progress=None if told is None else lambda done: told("comparing", done))
        if output is not None:
            title = f"Measured and predicted: {points.name if points else 'built-in points'}"
            pages = {PAGE: parity_page(found, title), PICTURE: parity_picture(found)}
            write_validation(found, output, pages, overwrite)
        if as_json:
            print_json(found.to_json())
            return
        show(validation_tables(found))
        if output is not None:
            click.echo(f"\nWritten: {output}/ ({', '.join(FILES)})")


@click.command("calibrate", short_help="Fit a serving stack to your own measurements.")
@click.argument("points", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="YAML file to write.")
@click.option("--accelerator", help="For results of a benchmark client: accelerator, as the library names it.")
@click.option("--accelerators", type=click.IntRange(min=1), help="For results: how many; without it, as --tensor.")
@click.option(
    "--model", "model_name", default="", help="For results: model, where the file's name is not the library's."
)
@click.option(
    "--tensor", type=click.IntRange(min=1), default=1, show_default=True, help="For results: tensor parallelism."
)
@click.option("--precision", default="", help="For results: bf16, fp8, fp4 or int8; without it as published.")
@click.option("--framework", default="vllm", show_default=True, help="For results: serving framework.")
@click.option("--load", default="", help="For results that do not say it: conc=USERS or rate=REQUESTS/s.")
@click.option("--overwrite", is_flag=True, help="Replace an older file.")
@_quiet_option
@_json_option
def calibrate_command(
    points: tuple[Path, ...],
    output: Path,
    accelerator: str | None,
    accelerators: int | None,
    model_name: str,
    tensor: int,
    precision: str,
    framework: str,
    load: str,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Fit efficiencies and latencies to POINTS and write them as a serving stack for your scenarios.

    POINTS are CSV files of measured runs, JSON of vllm bench serve, or JSON or CSV of aiperf or genai-perf.

    \b
    fleetcast calibrate measured.csv -o my-stack.yaml
    fleetcast calibrate bench-*.json --accelerator h100-sxm --tensor 4 --precision fp8 -o my-stack.yaml
    """
    from sim.cli_common import print_json, problems_told

    with problems_told():
        from sim.fidelity.benchmark_files import MeasuredSystem, read_measurements
        from sim.fidelity.calibration import calibrate, summary
        from sim.fidelity.coverage import coverage_lines, own_coverage, with_coverage
        from sim.fidelity.stack_yaml import profile_yaml
        from sim.reporting.console import progress, show
        from sim.reporting.fidelity_tables import calibration_tables
        from sim.specs.errors import InputError, Problem

        if output.exists() and not overwrite:
            remedy = "Choose another file, or add --overwrite."
            raise InputError([Problem("exists already", str(output), remedy=remedy)])
        system = None
        if accelerator is not None:
            system = MeasuredSystem(accelerator, accelerators or tensor, model_name, tensor, precision, framework, load)
        runs = [run for path in points for run in read_measurements(path, system)]
        names = ", ".join(path.name for path in points)
        with progress(quiet) as told:
            found = calibrate(runs, names, progress=None if told is None else lambda done: told("leaving out", done))
        profile = profile_yaml(found, output.stem.lower(), f"Own measurements: {names}")
        output.write_text(with_coverage(profile, coverage_lines(own_coverage(found))), encoding="utf-8")
        if as_json:
            print_json(summary(found))
        else:
            show(calibration_tables(found))
            click.echo(f"\nWritten: {output}; name it as serving_stack of a pool in your scenario")


@click.command("model", short_help="Describe a model from its config.json on Hugging Face.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="YAML file to write.")
@click.option("--overwrite", is_flag=True, help="Replace an older file.")
def import_model_command(file: Path, output: Path, overwrite: bool) -> None:
    """Convert FILE, the config.json of a model on Hugging Face, to a model of the library.

    \b
    fleetcast import model Qwen3-32B/config.json -o models/my-qwen.yaml
    """
    from sim.cli_common import problems_told

    with problems_told():
        from sim.fidelity.import_model import import_model
        from sim.specs.errors import InputError, Problem

        if output.exists() and not overwrite:
            remedy = "Choose another file, or add --overwrite."
            raise InputError([Problem("exists already", str(output), remedy=remedy)])
        text, said = import_model(file, output.stem.lower())
        output.write_text(text, encoding="utf-8")
        click.echo("\n".join([*said, f"Written: {output}"]))
