"""Measured runs made of a few words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sim.fidelity.points import OPTIONAL, REQUIRED, MeasuredRun, target_of


@pytest.fixture
def measured_run() -> Callable[..., MeasuredRun]:
    """Return a maker of runs: columns by keyword, metrics as a mapping."""

    def make(metrics: dict[str, float] | None = None, **columns: str) -> MeasuredRun:
        usual = {
            "accelerator": "H100", "n_accel": "4", "model": "Llama-3.1-70B", "tp": "4", "precision": "fp8",
            "framework": "vllm 0.15", "isl_mean": "1000", "osl_mean": "200", "concurrency_or_rate": "conc=16",
        }  # fmt: skip
        shared = dict.fromkeys(OPTIONAL + REQUIRED, "") | usual | columns
        rows = [
            {"metric": name, "value": repr(value), "n_accel": shared["n_accel"]}
            for name, value in (metrics or {"tpot_mean_ms": 20.0}).items()
        ]
        return MeasuredRun(shared, tuple(target_of(row, number + 2) for number, row in enumerate(rows)))

    return make
