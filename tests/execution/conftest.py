"""What tests of many runs share: functions that workers can import, and the bytes of a store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.fixture(autouse=True)
def _importable_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(HERE))


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """Return the function that reads all files below a folder, by relative path."""
    return lambda folder: {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Return the function that returns when a condition holds, and fails when it never does."""

    def wait(condition: Callable[[], bool], limit_s: float = 60.0) -> None:
        pause = threading.Event()
        for _ in range(int(limit_s / 0.02)):
            if condition():
                return
            pause.wait(0.02)
        raise AssertionError("it did not come to pass")

    return wait
