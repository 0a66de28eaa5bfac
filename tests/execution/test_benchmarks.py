"""The commands by which docs/scale.md was measured still run, in their short form."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize(("name", "found"), [("scale.py", "| 1,000 | "), ("cells.py", "| 8 | 1 | ")])
def test_a_measurement_of_the_page_can_be_repeated(root: Path, name: str, found: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, str(root / "benchmarks" / name), "--quick"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert found in done.stdout
