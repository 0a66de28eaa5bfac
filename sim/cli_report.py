"""The command `fleetcast report`; its imports are inside, so that `--help` answers at once."""

from __future__ import annotations

import re
from pathlib import Path

import click


@click.command("report", short_help="Write one HTML page of runs, plans and other studies.")
@click.argument("directories", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("report.html"), show_default=True,
              help="HTML file to write; it is replaced.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
def report_command(directories: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Write what each DIR holds as one HTML page that opens without a network; several of a kind are compared.

    \b
    fleetcast report out/first -o first.html
    fleetcast report plans/e27 out/sure -o e27.html     a plan with the fans of its uncertainty study
    fleetcast report out/first out/second -o both.html  changes to the first
    """
    from sim.cli_common import print_json, problems_told

    with problems_told():
        from sim.reporting.report.page import write_report
        from sim.reporting.report.plotly_script import need_plotly
        from sim.reporting.report.studies import read_studies

        need_plotly(str(output))
        answers = write_report(read_studies(directories), output)
        if as_json:
            told = [
                {"study": each.label, "answer": _text(each.sentence),
                 "numbers": {name: f"{_text(number)}, {_text(of)}" for name, number, of in each.cards},
                 "cautions": [_text(caution) for caution in each.cautions]}
                for each in answers
            ]  # fmt: skip
            print_json({"report": str(output), "answers": told})
            return
        click.echo(f"Report: {output}")
        for answer in answers:
            if len(answers) > 1:
                click.echo(f"{answer.label}:")
            for name, number, of in answer.cards[:3]:
                click.echo(f"{name}: {_text(number)}, {_text(of)}")


def _text(marked: str) -> str:
    """Return HTML as plain text."""
    import html

    marked = re.sub(r'<span class="interval"[^>]*>([^<]*)</span>', r"(\1)", marked)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", marked))).strip()
