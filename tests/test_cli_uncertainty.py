import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner, Result

from sim.cli import main
from sim.planning.horizon import Horizon
from sim.planning.uncertainty.inputs import find_inputs
from sim.planning.uncertainty.tables import TABLES
from sim.planning.uncertainty.tasks import horizon_text
from sim.specs.library import default_library
from tests.planning.uncertainty.conftest import few_ranges, horizon

__all__ = ["few_ranges", "horizon"]

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def ranges() -> Any:
    return default_library().load("uncertainty", "stated-ranges").spec


@pytest.fixture
def run(horizon: Horizon, few_ranges: Path, tmp_path: Path) -> Run:
    file = tmp_path / "small.yaml"
    data = {**json.loads(horizon_text(horizon))["data"], "name": "small"}
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")

    def invoke(*arguments: str) -> Result:
        given = ["uncertainty", str(file), "--workers", "0", "--pairs", "0", "--replicates", "1", "--checks", "0"]
        return CliRunner().invoke(main, [*given, "--ranges", str(few_ranges), *arguments])

    return invoke


def test_the_command_writes_tables_and_answers_in_words_and_json(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = run("--samples", "6", "-o", str(out))
    assert told.exit_code == 0, told.output
    assert "What 6 worlds come to" in told.stdout
    assert "Flag: few_samples: 6 worlds" in told.stdout
    assert {path.name for path in out.iterdir()} == {"manifest.json", "runs", *(f"{name}.parquet" for name in TABLES)}
    again = run("--samples", "6", "-o", str(out), "--json")
    assert again.exit_code == 0
    assert " 0 pieces run" in again.stderr
    answer = json.loads(again.stdout)
    assert answer["study_id"] == "small"
    assert answer["flags"][0].startswith("few_samples")
    assert len(answer["tables"]["fans"]) == pq.ParquetFile(out / "fans.parquet").metadata.num_rows


def test_bad_input_is_told_before_anything_is_done(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", encoding="utf-8")
    for arguments, words in (
        (("-o", str(tmp_path / "mine")), "notes.txt"),
        (("-o", str(tmp_path / "new"), "--ranges", "stated"), "there is no uncertainty of this name"),
        (("-o", str(tmp_path / "new"), "--set", "target_load.value=2"), "target_load"),
    ):
        told = run(*arguments)
        assert told.exit_code == 2
        assert words in told.stderr
    assert not (tmp_path / "new").exists()


def test_a_horizon_that_has_no_plan_is_bad_input(run: Run, tmp_path: Path) -> None:
    told = run(
        "-o", str(tmp_path / "new"), "--set", "yearly_budget.value=1 USD", "--set", "use_cases.documents.api=null"
    )
    assert told.exit_code == 2
    assert "has no plan at its own numbers" in told.stderr


def test_every_range_of_the_built_in_document_is_used_by_a_built_in_horizon(ranges: Any, horizon: Horizon) -> None:
    from sim.planning.horizon import load_horizon
    from sim.planning.uncertainty.inputs import matching

    inputs = [each for name in ("enterprise-2027", "provider-2027", "article-2026")
              for each in find_inputs(load_horizon(name), ranges, 2)]  # fmt: skip
    for rule in (*ranges.correlations, *ranges.distributions):
        assert matching(inputs, rule.paths), rule.paths
    names = {each.name for each in inputs}
    assert len(names) > 250


@pytest.mark.parametrize(
    ("function", "command", "kept"),
    [
        ("sim.planning.uncertainty.study.uncertainty", ["uncertainty", "enterprise-2027", "-o", "out"], True),
        ("sim.planning.claims.study.run_claims", ["claims", "C21", "--keep", "kept"], True),
        ("sim.planning.claims.study.run_claims", ["claims", "C21"], False),
    ],
)
def test_an_interrupt_says_whether_anything_is_kept(
    function: str, command: list[str], kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(function, interrupted)
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 130
    assert ("the same command goes on from there" in result.stderr) == kept
    assert ("nothing was written" in result.stderr) != kept
