"""The page of checks: up to date, and it holds what is asked of generated traffic."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def rows(root: Path, heading: str) -> list[dict[str, str]]:
    """Return the table below a heading of the page."""
    text = (root / "docs" / "traffic_checks.md").read_text(encoding="utf-8")
    lines = [line for line in text.split(f"## {heading}\n")[1].split("## ")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], each, strict=True)) for each in cells[2:]]


def values(cell: str) -> tuple[float, float]:
    first, second = (part.strip(" %").replace(",", "") for part in cell.split("/"))
    return float(first), float(second)


def test_lengths_of_every_fit_are_within_0_05(root: Path) -> None:
    lengths = rows(root, "Lengths")
    assert len(lengths) >= 6
    for row in lengths:
        assert float(row["KS prompt"]) <= 0.05
        assert float(row["KS output"]) <= 0.05


def test_chat_disperses_within_a_quarter_of_the_data(root: Path) -> None:
    chat = [
        row for row in rows(root, "Arrivals")
        if (row["trace"], row["workload"]) in {
            ("Azure conversation 2023", "its fit"), ("Azure conversation 2023", "chat-sessions-small"),
            ("RAGPulse, 5 days", "its fit"),
        }
    ]  # fmt: skip
    assert len(chat) == 3
    for row in chat:
        for window in ("10 s", "60 s", "600 s"):
            recorded, made = values(row[window])
            assert abs(made / recorded - 1.0) <= 0.25, (row, window)


def test_agents_hit_within_three_points(root: Path) -> None:
    for row in rows(root, "Sessions"):
        recorded, made = values(row["ideal prefix hit"])
        assert abs(made - recorded) <= 3.0


@pytest.mark.slow
def test_the_page_is_up_to_date(root: Path, shared: Path) -> None:
    spec = importlib.util.spec_from_file_location("traffic_checks", root / "docs" / "traffic_checks.py")
    assert spec is not None
    assert spec.loader is not None
    checks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checks)
    assert (root / "docs" / "traffic_checks.md").read_text(encoding="utf-8") == checks.page(shared / "traces")
