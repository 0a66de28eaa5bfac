"""The pages: every command and Python block in them runs, every test, file and column that they name exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sim
from sim.cli import main
from sim.results.tables import OUTCOMES, TABLES, fields_markdown
from sim.specs.hardware import PriceBasis
from sim.specs.library import KINDS
from sim.specs.resolved import load_scenario
from sim.specs.spec import Confidence

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SLOW = "<!-- slow: "
"""Opens the comment by which a page says that its commands take long, and why."""
NEEDS_AN_ENVIRONMENT = re.compile(r"make (?P<target>[a-z-]+)")
"""Commands that make environments or check everything: their target must exist, running them is another's job."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    file: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page; a file name after the language says what the block is the content of."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(\w*) ?([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(match.group(1), match.group(2), match.group(3), line)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a shell block, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        command = re.sub(r"(^|\s)#.*", "", line).strip()
        if command:
            yield command


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def run_command(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run one command: ours in this process, a variable for the rest of the page, anything else in a shell."""
    if needs := NEEDS_AN_ENVIRONMENT.fullmatch(command):
        assert needs["target"] in makefile_targets()
    elif variable := re.fullmatch(r'export (\w+)="\$PWD/([\w./-]+?)(:\$PATH)?"', command):
        added = str(folder / variable[2])
        monkeypatch.setenv(variable[1], added + os.pathsep + os.environ["PATH"] if variable[3] else added)
    elif command.startswith("fleetcast ") and not re.search(r"[|<>&;$]", command):
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert result.exit_code == 0, result.output
        assert result.stdout
    else:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder with the library of the checkout and the command `fleetcast`, as after `make demo`."""
    for name in KINDS.values():
        (tmp_path / name).symlink_to(ROOT / name)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "fleetcast").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m sim.cli "$@"\n')
    (binaries / "fleetcast").chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_their_speed(pages: list[Path]) -> Iterator[Any]:
    """Yield the pages as parameters; what takes long is for `make test-all`."""
    for page in pages:
        marks = [pytest.mark.slow] if SLOW in page.read_text(encoding="utf-8") else []
        yield pytest.param(page, marks=marks, id=page.name)


@pytest.mark.parametrize("page", list(with_their_speed(PAGES)))
def test_every_command_and_python_block_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the page, in one folder, as a reader would."""
    names: dict[str, Any] = {}
    for block in blocks(page):
        try:
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.text, encoding="utf-8")
            elif block.language == "sh":
                for command in commands(block.text):
                    run_command(command, folder, monkeypatch)
            elif block.language == "python":
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
        except AssertionError as error:
            raise AssertionError(f"{page.name}, block at line {block.line}: {error}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page: Path) -> None:
    """A block in a language that no test knows would go unchecked; plain ones are formulas and figures."""
    assert {block.language for block in blocks(page)} <= {"", "sh", "python", "sql", "yaml", "csv"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_repository_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_test_that_a_page_names_exists() -> None:
    named = {
        tuple(name.split("::"))
        for page in PAGES
        for name in re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    for file, *function in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert set(function) <= defined, (file, function)


def test_every_law_names_its_tests_and_no_law_stands_twice() -> None:
    rows = re.findall(
        r"^\| \*\*(.+?)\*\*(.*)$", (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert len(rows) > 15
    assert len({law for law, _ in rows}) == len(rows)
    for law, rest in rows:
        assert "::test_" in rest, law


def test_the_reference_of_fields_is_up_to_date() -> None:
    assert (ROOT / "docs" / "fields.md").read_text(encoding="utf-8") == fields_markdown(), "run `make docs`"


def test_the_picture_shows_every_alternative_and_loads_nothing() -> None:
    picture = (ROOT / "docs" / "quickstart.svg").read_text(encoding="utf-8")
    for variant in sim.load("quickstart").variants():
        assert variant.scenario_id in picture
    assert set(re.findall(r"https?://[^\s\"')]+", picture)) <= {
        "http://www.w3.org/2000/svg",
        "https://www.textualize.io",
    }


@pytest.fixture(scope="module")
def terms() -> list[str]:
    """Return the terms of the nomenclature in the order of its tables, in backticks where they stand in data."""
    page = (ROOT / "docs" / "nomenclature.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+?) \|", page, re.MULTILINE)
    return [row for row in rows if row not in ("Term", "Metric", "Flag", "Confidence")]


def test_every_term_is_defined_once(terms: list[str]) -> None:
    assert len(terms) > 80
    assert sorted(terms) == sorted(set(terms))
    columns = {f"`{column.name}`" for columns in TABLES.values() for column in columns}
    assert set(terms) & columns == {"`kv_used_fraction`"}, "columns are defined in fields.md; this one is a metric too"


def test_the_words_of_the_data_are_defined(terms: list[str]) -> None:
    for word in (*(each.value for each in PriceBasis), *(each.value for each in Confidence)):
        assert f"`{word}`" in terms
    for outcome in OUTCOMES:
        assert f"`requests_{outcome}`" in terms


def test_every_metric_and_flag_of_a_run_is_defined(terms: list[str]) -> None:
    """A run that is overloaded and short, so that flags are raised."""
    changes: dict[str, object] = {
        "alternatives": {},
        "duration": "2 min",
        "warm_up": "70 s",
        "drain": "0 s",
        "traffic.agent.rate": "60 requests/s",
    }
    result = sim.simulate(load_scenario("quickstart", changes))
    page = (ROOT / "docs" / "nomenclature.md").read_text(encoding="utf-8")
    flags = {flag.name for flag in result.flags}
    assert {"saturated", "few_samples"} <= flags
    assert {f"`{flag}`" for flag in flags} <= set(terms)
    for metric in set(result.summary()["metric"]) - {f"flag_{name}" for name in flags}:
        named = re.sub(
            r"(?<=usd_per_)(document|page)|(document|page)(?=_)|(?<=backlog_)(document|page)", "UNIT", metric
        )
        assert f"`{metric}`" in page or f"`{named}`" in page, metric
