"""A small library on disk, written for the tests of specs, and a way to collect every problem of a call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sim.specs.errors import InputError, Problem

HARDWARE = """\
kind: hardware
name: chip
title: A chip
vendor: Acme
family: acme
availability:
  status: shipping
  purchasable: true
  announced: 2024-03-18
peak:
  bf16: {value: 1000 TFLOP/s, source: [DATASHEET], confidence: published_spec}
  fp8: {value: 2000 TFLOP/s, source: [DATASHEET], confidence: published_spec}
memory:
  usable: {value: 80 GiB, low: 80 GB, source: [DATASHEET], confidence: published_spec}
  bandwidth: {value: 3.35 TB/s, source: [DATASHEET], confidence: published_spec}
prices:
  hourly:
    on_demand: {value: 3 USD/h, low: 2 USD/h, high: 4 USD/h, source: [DATASHEET], confidence: measured}
sources:
  DATASHEET: The chip's data sheet
"""

MODEL = """\
kind: model
name: tiny
title: A tiny model
vendor: Acme
license: MIT
formats: {weights: bf16, source: [assumption], confidence: assumption}
architecture:
  hidden_size: 1024
  vocabulary: 32000
  context_length: 8192
  attention:
    - {kind: gqa, layers: 4, query_heads: 8, kv_heads: 2, head_dim: 128}
  dense: {layers: 4, intermediate_size: 4096}
  source: [assumption]
  confidence: assumption
stated:
  total_parameters: {value: 0.1 Gparameters, source: [assumption], confidence: assumption}
"""

WORKLOAD = """\
kind: workload
name: talk
title: Short talk
traffic_class: chat
rate: {value: 5 requests/s, source: [assumption], confidence: assumption}
arrivals: {process: poisson}
prompt_tokens: {distribution: fixed, tokens: 100 tokens, source: [assumption], confidence: assumption}
output_tokens: {distribution: fixed, tokens: 50 tokens, source: [assumption], confidence: assumption}
service_levels:
  - {metric: ttft, quantile: 0.99, limit: 500 ms, source: [assumption], confidence: assumption}
"""

SCENARIO = """\
kind: scenario
name: town
title: A town that talks
duration: 10 min
warm_up: 1 min
drain: 5 min
timeline_interval: 1 min
price_basis: [on_demand]
traffic:
  chat: {workload: talk, rate: 2 requests/s}
  voice: {workload: talk}
fleet:
  main:
    hardware: chip
    model: tiny
    serving_stack: engine
    replicas: 8
"""

SERVING_STACK_PATH = Path(__file__).resolve().parents[2] / "serving_stacks" / "shared.yaml"


@pytest.fixture
def texts() -> dict[str, str]:
    """Return the YAML text of one valid document of each kind."""
    stack = SERVING_STACK_PATH.read_text(encoding="utf-8").replace("name: shared", "name: engine", 1)
    return {
        "hardware_profiles/chip.yaml": HARDWARE,
        "models/tiny.yaml": MODEL,
        "serving_stacks/engine.yaml": stack,
        "workloads/talk.yaml": WORKLOAD,
        "scenarios/town.yaml": SCENARIO,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that writes a file below a fresh folder."""

    def written(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def folder(tmp_path: Path, texts: dict[str, str], write: Callable[[str, str], Path], monkeypatch: Any) -> Path:
    """Return a library on disk, found through FLEETCAST_PATH."""
    for name, text in texts.items():
        write(f"library/{name}", text)
    monkeypatch.setenv("FLEETCAST_PATH", str(tmp_path / "library"))
    return tmp_path / "library"


@pytest.fixture
def edit(folder: Path) -> Callable[..., Path]:
    """Return a function that replaces text in a file of the library; the text must be there."""

    def edited(name: str, *changes: tuple[str, str]) -> Path:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")
        return path

    return edited


@pytest.fixture
def problems_of() -> Callable[[Callable[[], object]], list[Problem]]:
    """Return a function that returns every problem of a call that must fail."""

    def found(call: Callable[[], object]) -> list[Problem]:
        with pytest.raises(InputError) as caught:
            call()
        return list(caught.value.problems)

    return found


@pytest.fixture
def line_of() -> Callable[[Path, str], int]:
    """Return a function that returns the first line of a file that holds a text, counted from 1."""

    def line(path: Path, text: str) -> int:
        lines = path.read_text(encoding="utf-8").splitlines()
        return next(number for number, each in enumerate(lines, 1) if text in each)

    return line
