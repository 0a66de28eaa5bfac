"""The commands of recorded traffic: `fleetcast import trace` and `fleetcast fit-workload`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FORMATS = (
    "azure", "burstgpt", "mooncake", "servegen", "ragpulse", "vllm-bench", "aiperf", "openai-log", "otel", "csv",
)  # fmt: skip


@click.group("import", short_help="Bring recorded data into the form that scenarios replay.")
def import_group() -> None:
    """Bring recorded data into the form that scenarios replay."""


@import_group.command("trace", short_help="Convert a recorded trace for `fleetcast run --trace`.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(_FORMATS), required=True, help="Format of FILE.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Parquet or CSV file to write.")
@click.option("--class", "class_name", help="Traffic class to write into the file; without, a scenario's own is used.")
@click.option("--closed-loop", is_flag=True, help="Requests of a session follow each other's ends.")
@click.option("--session-prefix", is_flag=True, help="Requests find the context of the last one of their session.")
@click.option("--spread", "spread_s", type=click.FloatRange(min=0.0), default=0.0, metavar="SECONDS",
              help="Spread requests of one instant, for clocks that tick coarsely.")  # fmt: skip
@click.option("--column", "columns", multiple=True, metavar="ROLE=COLUMN",
              help="For csv: arrival, prompt_tokens, output_tokens, cached_tokens, end, duration,"
                   " session.")  # fmt: skip
@click.option("--time-unit", type=click.Choice(["s", "ms", "us", "ns"]), default="s", show_default=True,
              help="For csv: unit of times; instants by ISO 8601 are understood anyway.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an older file.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def import_trace_command(
    file: Path,
    form: str,
    output: Path,
    class_name: str | None,
    closed_loop: bool,
    session_prefix: bool,
    spread_s: float,
    columns: tuple[str, ...],
    time_unit: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Convert FILE, a recorded trace, packed by gzip or not, for `fleetcast run --trace`.

    \b
    fleetcast import trace conversation_trace.jsonl --format mooncake --spread 3 -o mooncake.parquet
    fleetcast import trace log.csv.gz --format csv --column arrival=ts --time-unit ms -o log.parquet
    """
    from sim.cli_common import print_json, problems_told

    with problems_told():
        from sim.demand.importing import ImportOptions, import_trace
        from sim.demand.prefix import ideal_hit_fraction

        _check_new(output, overwrite)
        options = ImportOptions(
            class_name or "requests",
            closed_loop,
            session_prefix,
            spread_s,
            dict(_pair(each) for each in columns),
            time_unit,
        )
        imported = import_trace(file, form, options)
        trace = imported.trace
        frame = trace.to_frame()
        _write(frame if class_name else frame.drop(columns="class"), output)
        for note in imported.notes:
            click.echo(f"Note: {note}.", err=True)
        told: dict[str, Any] = {
            "requests": trace.requests,
            "hours": round(float(trace.arrival_ns[-1]) / 3.6e12, 4),
            "mean_prompt_tokens": round(float(trace.prompt_tokens.mean()), 1),
            "mean_output_tokens": round(float(trace.output_tokens.mean()), 1),
            "cached_fraction": round(float(trace.cached_tokens.sum() / trace.prompt_tokens.sum()), 4),
            "ideal_hit_fraction": round(ideal_hit_fraction(trace), 4),
            "sessions": None if trace.session is None else len(set(trace.session.tolist())),
            "left_out": imported.left_out,
            "written": str(output),
        }
        if as_json:
            print_json(told)
            return
        for key, value in told.items():
            if value not in (None, {}):
                click.echo(f"{key.replace('_', ' ')}: {value}")


@click.command("fit-workload", short_help="Fit a workload to a recorded trace.")
@click.argument("trace", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="YAML file to write.")
@click.option("--title", default="", help="Title of the workload.")
@click.option("--traffic-class", default="realtime", show_default=True, help="Traffic class of the workload.")
@click.option("--start-hour", type=float, default=0.0, show_default=True,
              help="Hour of the week, from Monday, at which the trace begins.")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an older file.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def fit_workload_command(
    trace: Path, output: Path, title: str, traffic_class: str, start_hour: float, overwrite: bool, as_json: bool
) -> None:
    """Fit a workload to TRACE, a file of `fleetcast import trace`, and print how well it fits.

    \b
    fleetcast fit-workload mooncake.parquet -o workloads/mine.yaml
    """
    from sim.cli_common import print_json, problems_told

    with problems_told():
        from sim.demand.fitting import fit_workload, workload_yaml
        from sim.demand.goodness import goodness_of_fit
        from sim.demand.trace_files import read_trace
        from sim.specs.reading import RawDocument, validate
        from sim.specs.workload import WorkloadSpec

        _check_new(output, overwrite)
        recorded = read_trace(trace, traffic_class)
        document = fit_workload(recorded, output.stem, title or f"Fitted to {trace.name}", traffic_class, start_hour)
        workload = validate(RawDocument(str(output), document), WorkloadSpec)
        checks = goodness_of_fit(recorded, workload, start_hour)
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(workload_yaml(document), encoding="utf-8")
        if as_json:
            print_json({"checks": checks, "written": str(output)})
            return
        click.echo(f"{'check':<34}{'trace':>14}{'workload':>14}{'difference':>14}")
        for check in checks:
            values = (f"{check[column]!s:>14}" for column in ("trace", "workload", "difference"))
            click.echo(f"{check['check']:<34}{''.join(values)}")
        click.echo(f"written: {output}")


def _pair(text: str) -> tuple[str, str]:
    from sim.specs.errors import InputError, Problem

    role, equals, name = text.partition("=")
    if not equals or not role or not name:
        raise InputError([Problem("is not a column", "--column", value=text, remedy="Write ROLE=COLUMN.")])
    return role, name


def _check_new(output: Path, overwrite: bool) -> None:
    from sim.specs.errors import InputError, Problem

    if output.exists() and not overwrite:
        raise InputError([Problem("exists already", str(output), remedy="Use --overwrite.")])


def _write(frame: Any, output: Path) -> None:
    """Write under another name and rename, so that no reader sees half a file."""
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(f".{output.name}.part")
    if output.suffix == ".csv":
        frame.to_csv(part, index=False)
    else:
        frame.to_parquet(part, index=False)
    part.replace(output)
