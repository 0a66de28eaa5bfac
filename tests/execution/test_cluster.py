"""A real Dask scheduler with worker processes: same bytes as in this process, even when a worker is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.cli import main
from sim.execution.cluster import Cluster
from sim.execution.execution import execute
from sim.execution.executor import InProcess, make_executor
from sim.execution.store import Store
from sim.execution.task import Task, TaskError, make_task
from sim.specs.errors import InputError

pytest.importorskip("distributed")
HERE = Path(__file__).resolve().parent


@contextmanager
def cluster(
    folder: Path, workers: int, wait_for: Callable[..., None]
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a scheduler and worker processes without nannies, so that one that is killed stays dead."""
    file = str(folder / "scheduler.json")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    common = ["--scheduler-file", file, "--no-dashboard"]
    commands = [["scheduler", "--host", "127.0.0.1", "--port", "0", *common]]
    commands += [["worker", "--no-nanny", "--nthreads", "1", "--local-directory", str(folder), *common]] * workers
    processes = []
    try:
        for command in commands:
            log = (folder / f"{len(processes)}.log").open("wb")
            start = [sys.executable, "-m", "dask", *command]
            processes.append(subprocess.Popen(start, env=environment, stdout=log, stderr=log, cwd=folder))
            log.close()
            if len(processes) == 1:
                wait_for(Path(file).exists)
        yield file, processes[1:]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def study(function: str, folder: Path) -> list[Task]:
    return [
        make_task(f"studies:{function}", {"number": each, "folder": str(folder)}, {"number": each})
        for each in range(16)
    ]


def test_a_cluster_with_a_killed_worker_leaves_the_bytes_of_one_process(
    tmp_path: Path, contents: Callable[[Path], dict[str, bytes]], wait_for: Callable[..., None]
) -> None:
    """The worker that gets task 7 dies by SIGKILL in the middle of it; the other one runs the rest."""
    with cluster(tmp_path, 2, wait_for) as (file, workers):
        with make_executor(cluster=file) as executor:
            assert isinstance(executor, Cluster)
            executor.wait_for_workers(2)
            list(execute(study("powers_with_one_death", tmp_path), Store(tmp_path / "cluster"), executor))
            failing = [make_task("studies:divide", {"number": 0})]
            with pytest.raises(TaskError, match="ZeroDivisionError") as caught:
                list(execute(failing, Store(tmp_path / "cluster"), executor))
            assert "raised in a worker" in caught.value.__cause__.__notes__[0]  # type: ignore[union-attr]
        dead = [each for each in workers if each.poll() is not None]
        assert [each.returncode for each in dead] == [-9]
    list(execute(study("powers_with_one_death", tmp_path), Store(tmp_path / "alone"), InProcess()))
    assert contents(tmp_path / "cluster") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_a_sweep_on_a_cluster_leaves_the_bytes_of_one_on_this_machine(
    tmp_path: Path, contents: Callable[[Path], dict[str, bytes]], wait_for: Callable[..., None]
) -> None:
    """The same command with `--cluster`, with local workers, and in one process; one cluster worker dies meanwhile."""
    brief = ("duration=90 s", "warm_up=10 s", "drain=30 s", "alternatives={}", "fleet.serving.replicas=4,6,8")
    command = ["sweep", "quickstart", "--quiet", *(part for each in brief for part in ("--set", each))]
    with cluster(tmp_path, 2, wait_for) as (file, workers):
        ways = (("cluster", ["--cluster", file]), ("local", ["--workers", "2"]), ("here", ["--workers", "0"]))
        answers = set()
        for name, options in ways:
            done = CliRunner().invoke(main, [*command, *options, "-o", str(tmp_path / name), "--json"])
            assert done.exit_code == 0, done.output
            answers.add(done.stdout)
        more = [*command, "--set", "seed=1,2", "--cluster", file, "-o", str(tmp_path / "cluster")]
        workers[0].kill()
        assert CliRunner().invoke(main, more).exit_code == 0
    assert len(answers) == 1
    assert contents(tmp_path / "local") == contents(tmp_path / "here")
    again = [*command, "--workers", "0", "-o", str(tmp_path / "cluster")]
    assert CliRunner().invoke(main, again).exit_code == 0
    for folder in ("summary", "runs"):
        assert contents(tmp_path / "cluster" / folder) == contents(tmp_path / "here" / folder)


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_told(tmp_path: Path, wait_for: Callable[..., None]) -> None:
    with cluster(tmp_path, 5, wait_for) as (file, _), make_executor(cluster=file) as executor:
        assert isinstance(executor, Cluster)
        executor.wait_for_workers(5)
        with pytest.raises(TaskError, match="its worker died several times"):
            list(execute([make_task("studies:kill_itself", {"number": 1})], Store(tmp_path / "store"), executor))


def test_a_cluster_that_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.execution.cluster._ANSWER_WITHIN_S", 0.1)
    for scheduler, problem in (
        ("tcp://127.0.0.1:1", "no Dask scheduler answers"),
        ("tcp://127.0.0.1", "is no address of a Dask scheduler"),
        ("nonsense://127.0.0.1:1", "is no address of a Dask scheduler"),
        (str(tmp_path / "missing.json"), "there is no such scheduler file"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            make_executor(cluster=scheduler)
        assert caught.value.problems[0].value == scheduler


def test_a_cluster_has_workers_of_its_own() -> None:
    with pytest.raises(InputError, match="a cluster has workers of its own"):
        make_executor(2, "tcp://127.0.0.1:1")


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'fleetcast\[cluster\]'"):
        make_executor(cluster="tcp://127.0.0.1:1")
