"""What a serving stack says of its measured points follows from them, and stands in its file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.fidelity.coverage import FEWEST_POINTS, band_of, coverage_lines, coverage_of, with_coverage, write_coverage
from sim.fidelity.measured_page import ERRORS
from sim.fidelity.validation import Compared, Validation
from sim.specs.library import Library, builtin_root
from sim.specs.serving_stack import CoverageSpec

LIBRARY = Library((builtin_root(),))


def compared(ratio: float, **changes: Any) -> Compared:
    usual = Compared(
        row_id="r", line=2, source="s", accelerator="H100", model="m", framework="vllm", regime="low", load="closed",
        metric="tpot", statistic="mean", measured=ratio, predicted=1.0, weight=1.0, known="calibrated",
        band_low=math.nan, band_high=math.nan, load_factor=1.0, hardware="h100-sxm", family="hopper",
        features=("dense",), formats=("fp8",), sequences=16.0, tokens=1200.0,
    )  # fmt: skip
    return dataclasses.replace(usual, **changes)


ROWS = [compared(0.5 + 0.05 * number) for number in range(FEWEST_POINTS)]


def test_a_band_holds_four_of_five_and_needs_enough_points() -> None:
    band = band_of(ROWS, "tpot")
    assert band == {"low": 0.55, "high": 1.35, "points": 20}
    assert band_of(ROWS[1:], "tpot") is None
    assert band_of(ROWS, "ttft") is None
    cold = [compared(0.01, source="InferenceX experimental x") for _ in range(100)]
    assert band_of([*ROWS, *cold], "tpot") == band, "servers that were not warm are not planned for"
    heavy = [*ROWS, compared(9.0, weight=1000.0)]
    assert band_of(heavy, "tpot") is None, "one row that outweighs all others leaves no band"


def test_coverage_is_what_the_points_are_of() -> None:
    others = [
        compared(1.0, hardware="b200-hgx", family="blackwell", framework="trtllm", features=("experts",)),
        compared(1.0, sequences=math.nan, tokens=9000.0, formats=("bf16",)),
    ]
    found = coverage_of(Validation([*ROWS, *others], []), Validation(ROWS, []))
    assert set(found) == {"shared", "vllm"}, "a framework with one point says nothing of its own"
    hopper = found["shared"]["hopper"]
    assert hopper == {
        "points": 21, "accelerators": ["h100-sxm"], "features": ["dense"], "formats": ["bf16", "fp8"],
        "most_sequences": 16.0, "most_tokens": 9000.0, "bands": {"tpot": band_of(ROWS, "tpot")},
    }  # fmt: skip
    assert found["shared"]["blackwell"]["accelerators"] == []
    assert found["vllm"] == {"hopper": hopper}


def test_lines_are_what_the_spec_reads_and_replace_older_ones(tmp_path: Path) -> None:
    found = coverage_of(Validation(ROWS, []), Validation(ROWS, []))["shared"]
    lines = coverage_lines(found)
    read = yaml.safe_load("\n".join(lines))["coverage"]
    assert CoverageSpec.model_validate(read["hopper"]).bands["tpot"].high == 1.35
    text = "name: x\ncoverage:\n  old:\n    points: 1\n\nbands:\n  tpot: {}\n"
    once = with_coverage(text, lines)
    assert "old" not in once
    assert yaml.safe_load(once) == {"name": "x", "bands": {"tpot": {}}, "coverage": read}
    assert with_coverage(once, lines) == once
    (tmp_path / "shared.yaml").write_text(text)
    write_coverage(tmp_path, {"shared": found, "absent": found})
    assert (tmp_path / "shared.yaml").read_text() == once
    assert not (tmp_path / "absent.yaml").exists()


@pytest.mark.parametrize("name", sorted(LIBRARY.names("serving_stack")))
def test_the_shipped_stacks_say_what_the_last_fit_covers(name: str) -> None:
    """`docs/generate.py` puts it there from the stored errors of the fit."""
    coverage = json.loads(ERRORS.read_text("utf-8"))["coverage"]
    file = builtin_root() / "serving_stacks" / f"{name}.yaml"
    assert name in coverage
    assert file.read_text("utf-8") == with_coverage(file.read_text("utf-8"), coverage_lines(coverage[name]))
