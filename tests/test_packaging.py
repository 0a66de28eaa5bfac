"""What is built from the checkout: the wheel holds the library, and works where there is no checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import sim
from sim.specs.library import KINDS, default_library

ROOT = Path(__file__).resolve().parent.parent


def built(target: str, directory: Path) -> Path:
    """Build a distribution without network and return its file."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = directory.iterdir()
    return file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like site-packages with what the wheel holds and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def without_checkout(installed: Path, *command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "FLEETCAST_PATH"}
    done = subprocess.run(
        [sys.executable, *command], cwd=installed.parent, env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_the_wheel_holds_every_file_of_the_library(installed: Path, kind: str) -> None:
    folder = KINDS[kind]
    shipped = {path.name: path.read_bytes() for path in (installed / "sim" / "builtin" / folder).iterdir()}
    assert shipped == {path.name: path.read_bytes() for path in (ROOT / folder).iterdir()}


def test_the_wheel_holds_all_code_and_data_and_no_tests(installed: Path) -> None:
    ignored = ("__pycache__", ".pyc")
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "sim").rglob("*") if path.is_file()}
    code = {name for name in code if not any(part in name for part in ignored)}
    shipped = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert code <= shipped
    assert {name.split("/")[0] for name in shipped} == {"sim", f"fleetcast-{sim.__version__}.dist-info"}


def test_the_wheel_brings_the_command_and_the_readme(installed: Path) -> None:
    information = installed / f"fleetcast-{sim.__version__}.dist-info"
    assert "fleetcast = sim.cli:main" in (information / "entry_points.txt").read_text(encoding="utf-8")
    metadata = (information / "METADATA").read_text(encoding="utf-8")
    assert (ROOT / "README.md").read_text(encoding="utf-8") in metadata
    assert "Requires-Python: >=3.11" in metadata


def test_an_installed_wheel_finds_its_library_without_the_checkout(installed: Path) -> None:
    assert without_checkout(installed, "-c", "import sim; print(sim.__file__)").startswith(str(installed))
    listed = json.loads(without_checkout(installed, "-m", "sim.cli", "list", "--json"))
    assert {kind: [row["name"] for row in rows] for kind, rows in listed.items()} == {
        kind: list(default_library().names(kind)) for kind in KINDS
    }


def test_an_installed_wheel_checks_the_quickstart(installed: Path) -> None:
    assert "scenario is in order" in without_checkout(installed, "-m", "sim.cli", "check", "quickstart")


def test_the_source_distribution_holds_what_the_wheel_is_built_from(tmp_path: Path) -> None:
    with tarfile.open(built("sdist", tmp_path)) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for folder in KINDS.values():
        assert {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir()} <= names
    assert {"README.md", "CHANGELOG.md", "pyproject.toml", "sim/cli.py"} <= names
