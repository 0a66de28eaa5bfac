"""Benchmark clients: their clocks and transport are part of first tokens, and of no serving stack."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping

from sim.fidelity.points import DATA


@functools.cache
def clients() -> Mapping[str, float]:
    """Return benchmark client -> factor on the overhead of a request, of the shipped fit."""
    with (DATA / "clients.csv").open(encoding="utf-8") as file:
        return {row["client"]: float(row["request_overhead"]) for row in csv.DictReader(file)}


@functools.cache
def client_of(source: str) -> str:
    """Return the benchmark client of a source as written: the longest name with which it starts, or none."""
    return max((name for name in clients() if source.lower().startswith(name)), key=len, default="")
