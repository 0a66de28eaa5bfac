"""The page docs/validation.md is up to date; worst groups and KV figures are explained, or said not to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sim.fidelity.explanations import EXPLANATIONS, UNEXPLAINED, explained, explanations
from sim.fidelity.kv_check import kv_table, published_capacities
from sim.fidelity.validation_page import BEGIN, END, stored_errors, validation_section, with_section, worst_table
from sim.reporting.error_picture import error_picture

PAGE = Path(__file__).parents[2] / "docs" / "validation.md"


def test_the_shipped_page_is_that_of_the_stored_errors() -> None:
    page = PAGE.read_text("utf-8")
    assert with_section(page, validation_section(stored_errors(), published_capacities())) == page, "run `make docs`"


def test_each_of_the_ten_worst_groups_is_explained_or_said_to_be_unexplained() -> None:
    groups = stored_errors()["worst"]
    assert len(groups) == 10
    rows = worst_table(groups).splitlines()[2:]
    for row, (source, accelerator, model, metric, _) in zip(rows, groups, strict=True):
        why = explained(source, accelerator, model, metric)
        assert len(why) > 40 or why == UNEXPLAINED
        assert row.endswith(f"| {why} |")


def test_explanations_match_the_first_entry_that_fits_whole() -> None:
    assert "bf16 experts" in explained("inference-sim/training (BLIS)", "H100", "Mixtral-8x7B", "e2e")
    assert "bf16 experts" not in explained("inference-sim/training (BLIS)", "H100", "Qwen2.5-7B", "e2e")
    assert explained("a source that nobody knows", "H100", "m", "tpot") == UNEXPLAINED
    assert all(len(entry["why"]) > 40 for entry in explanations())


def test_an_explanation_of_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / EXPLANATIONS.name
    monkeypatch.setattr("sim.fidelity.explanations.EXPLANATIONS", file)
    for text in ("- {why: because}", "- {source: x}", "- {source: x, colour: red, why: because}"):
        file.write_text(text)
        with pytest.raises(ValueError, match="no explanation"):
            explanations()


def test_kv_figures_lie_within_what_is_explained() -> None:
    found = published_capacities()
    assert len(found) >= 10
    for each in found:
        assert abs(each.difference) <= each.within, (each.system, each.difference)
        assert len(each.why) > 20
        assert each.source
    exact = [each for each in found if each.quantity == "tokens_of_free"]
    assert len(exact) == 3
    assert max(abs(each.difference) for each in exact) < 0.012, "bytes of KV a token are the engines'"
    assert kv_table(found).count("\n") == len(found) + 1


def test_the_section_says_what_was_aimed_at_and_reached() -> None:
    errors: Any = json.loads(json.dumps(stored_errors()))
    section = validation_section(errors, [])
    assert "| TPOT, all points |" in section
    assert "| this program |" in section
    errors["groups_out"]["tpot"]["median_ape"] = 0.01
    assert "| 1.0% | 8% | 14.6% | yes |" in validation_section(errors, [])


def test_only_the_generated_part_is_replaced() -> None:
    page = f"mine\n{BEGIN}\nold\n{END}\nmine too\n"
    assert with_section(page, "new\n") == f"mine\n{BEGIN}\n\nnew\n\n{END}\nmine too\n"
    with pytest.raises(ValueError, match="no part between"):
        with_section("no marks", "new")


def test_errors_by_accelerator_are_dots_on_a_logarithmic_axis() -> None:
    picture = error_picture({"A&B": {"tpot": {"n": 100, "median_ape": 0.1}, "ttft": {"n": 0, "median_ape": None}}})
    assert "A&amp;B" in picture
    # 10% is a third of the way from 1% to 1000%
    assert f'cx="{110 + 560 / 3:.1f}"' in picture
    assert picture.count("fill-opacity") == 1
