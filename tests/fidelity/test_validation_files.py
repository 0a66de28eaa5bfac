"""A validation's directory holds every point, is whole or not there, and needs nothing else to be read."""

from __future__ import annotations

import csv
import dataclasses
import json
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sim.fidelity.points import MeasuredRun
from sim.fidelity.validation import MEASURES, Validation, validate
from sim.fidelity.validation_files import FILES, PAGE, PICTURE, error_rows, write_validation
from sim.reporting.parity import colours_of, parity_page, parity_picture
from sim.specs.errors import InputError

Maker = Callable[..., MeasuredRun]


@pytest.fixture
def found(measured_run: Maker) -> Validation:
    runs = [
        measured_run({"tpot_mean_ms": 14.0, "ttft_mean_ms": 90.0, "watts": 3.0}),
        measured_run({"output_tok_s": 2000.0}, accelerator="B200", precision="fp4"),
        measured_run(model="<Foo & Bar>"),
    ]
    return validate(runs)


def pages_of(found: Validation) -> dict[str, str]:
    return {PAGE: parity_page(found, "mine <&>"), PICTURE: parity_picture(found)}


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def test_every_point_is_in_a_file(found: Validation, tmp_path: Path) -> None:
    write_validation(found, tmp_path / "deep" / "out", pages_of(found))
    out = tmp_path / "deep" / "out"
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    table = pq.ParquetFile(out / "predictions.parquet").read()
    rows = rows_of(out / "predictions.csv")
    assert table.num_rows == len(rows) == len(found.compared) == 3
    assert [float(row["predicted"]) for row in rows] == table["predicted"].to_pylist()
    assert table.schema.field("tokens").metadata[b"unit"] == b"tokens"
    assert table["features"].to_pylist() == [["dense"]] * 3
    reasons = [row["reason"] for row in rows_of(out / "not_compared.csv")]
    assert sorted(reasons) == ["no model for '<Foo & Bar>'", "unknown metric"]
    errors = rows_of(out / "errors.csv")
    assert [errors[0][key] for key in ("grouping", "metric", "n")] == ["all", "throughput", "1"]
    assert len(errors) == len(error_rows(found))
    assert set(errors[0]) == {"grouping", "group", "metric", *MEASURES}
    assert json.loads((out / "summary.json").read_text()) == found.to_json()


def test_equal_validations_give_equal_bytes(found: Validation, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_validation(found, tmp_path / name, pages_of(found))
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_nothing_of_others_is_replaced_and_a_failure_leaves_the_older_one(found: Validation, tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_validation(found, out, pages_of(found))
    with pytest.raises(InputError, match="exists already"):
        write_validation(found, out, pages_of(found))
    before = (out / PAGE).read_bytes()
    with pytest.raises(TypeError):
        write_validation(found, out, {PAGE: 3}, overwrite=True)  # type: ignore[dict-item]
    assert (out / PAGE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "no partial directory is left"
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match=r"thesis.tex"):
        write_validation(found, out, pages_of(found), overwrite=True)
    assert (out / "thesis.tex").exists()


def test_pictures_hold_every_point_and_refer_to_nothing_outside(found: Validation) -> None:
    page, picture = parity_page(found, "mine <&>"), parity_picture(found)
    tree = xml.etree.ElementTree.fromstring(picture)
    circles = [each for each in tree.iter() if each.tag.endswith("circle")]
    assert len(circles) == len(found.compared) + len(colours_of(found.compared))
    assert picture.count("<polygon") == 3, "one shade of the stated band a metric"
    assert page.count("<title>") == 1 + len(found.compared)
    assert "mine &lt;&amp;&gt;" in page
    for text in (page, picture):
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_a_point_on_the_line_lies_on_the_line(found: Validation) -> None:
    rows = [dataclasses.replace(each, predicted=each.measured) for each in found.compared]
    tree = xml.etree.ElementTree.fromstring(parity_picture(Validation(rows, [])))
    dots = [each for each in tree.iter() if each.tag.endswith("circle") and each.get("r") == "2"]
    assert len(dots) == 3
    for dot in dots:
        # x from the left edge equals y from the lower edge
        assert float(dot.get("cx") or 0) - 56 == pytest.approx(28 + 360 - float(dot.get("cy") or 0), abs=0.11)


def test_no_points_make_an_empty_picture() -> None:
    nothing = Validation([], [])
    assert parity_picture(nothing).startswith("<svg")
    assert "0 numbers compared" in parity_page(nothing, "none")
