"""Studies: same bytes wherever they run, nothing run twice, nothing lost or half there whatever dies."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sim.execution.execution import Finished, Tally, execute
from sim.execution.executor import Completed, Executor, InProcess, make_executor
from sim.execution.processes import LocalProcesses
from sim.execution.store import PARTIAL, Store
from sim.execution.task import Task, TaskError, make_task
from sim.specs.errors import InputError

Contents = Callable[[Path], dict[str, bytes]]
NUMBERS = range(12)


def study(function: str, numbers: Any = NUMBERS, **arguments: str) -> list[Task]:
    """Return tasks whose keys do not depend on the folders they are given."""
    return [make_task(f"studies:{function}", {"number": each, **arguments}, {"number": each}) for each in numbers]


def run(tasks: Any, folder: Path, executor: Executor | None = None, **more: Any) -> list[Finished]:
    return list(execute(tasks, Store(folder), executor or InProcess(), **more))


class Backwards(InProcess):
    """Completes the youngest task first."""

    capacity = 5

    def completed(self) -> Completed:
        self._waiting.rotate(1)
        return super().completed()


@pytest.fixture(scope="module")
def two_processes() -> Iterator[LocalProcesses]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).resolve().parent))
        with LocalProcesses(2) as executor:
            yield executor


def test_the_executor_changes_neither_bytes_nor_order(
    tmp_path: Path, contents: Contents, two_processes: LocalProcesses
) -> None:
    results = {}
    for name, executor in (("here", InProcess()), ("backwards", Backwards()), ("two", two_processes)):
        found = run(study("powers"), tmp_path / name, executor)
        assert [each.result.value["number"] for each in found] == list(NUMBERS)
        assert [each.result.table()["power"][2].as_py() for each in found] == [2.0**each for each in NUMBERS]
        results[name] = contents(tmp_path / name)
    assert len(results["here"]) == 2 * len(NUMBERS)
    assert results["here"] == results["backwards"] == results["two"]


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    arguments = {"folder": str(tmp_path / "runs")}
    first = Tally()
    run(study("powers_counted", range(4), **arguments), tmp_path / "store", tally=first)
    assert (first.total, first.skipped, first.ran) == (4, 0, 4)
    second = Tally()
    found = run(study("powers_counted", range(6), **arguments), tmp_path / "store", tally=second)
    assert (second.total, second.skipped, second.ran, second.damaged) == (6, 4, 2, 0)
    assert [each.was_there for each in found] == [True] * 4 + [False] * 2
    assert [len(Path(tmp_path, "runs", str(each)).read_text().splitlines()) for each in range(6)] == [1] * 6


def test_a_key_that_comes_twice_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    tasks = study("powers_counted", [1, 2, 1, 1], folder=str(tmp_path / "runs"))
    for executor in (InProcess(), Backwards()):
        found = run(tasks, tmp_path / type(executor).__name__, executor)
        assert [each.result.value["number"] for each in found] == [1, 2, 1, 1]
    assert len(Path(tmp_path, "runs", "1").read_text().splitlines()) == 2, "once for each executor"


@pytest.mark.parametrize("suffix", ["json", "parquet"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "emptied", "removed", "of another key"])
def test_what_was_damaged_is_run_again(tmp_path: Path, contents: Contents, suffix: str, damage: str) -> None:
    tasks = study("powers", range(3))
    run(tasks, tmp_path)
    whole = contents(tmp_path)
    hurt, other = (tmp_path / each.key[:2] / f"{each.key}.{suffix}" for each in tasks[:2])
    content = hurt.read_bytes()
    middle = len(content) // 2
    if damage == "removed":
        hurt.unlink()
    else:
        hurt.write_bytes(
            {
                "torn": content[:middle],
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "emptied": b"",
                "of another key": other.read_bytes(),
            }[damage]
        )
    tally = Tally()
    run(tasks, tmp_path, tally=tally)
    assert (tally.skipped, tally.ran) == (2, 1)
    assert tally.damaged == (0 if (suffix, damage) == ("json", "removed") else 1)
    assert contents(tmp_path) == whole


def test_a_killed_worker_is_replaced_and_its_tasks_are_run_again(tmp_path: Path, contents: Contents) -> None:
    """One of two processes dies by SIGKILL in the middle of the study; the bytes are those of an undisturbed one."""
    with LocalProcesses(2) as executor:
        run(study("powers_with_one_death", folder=str(tmp_path)), tmp_path / "disturbed", executor)
        assert len(executor.process_ids) == 2
    assert (tmp_path / "killed").exists()
    run(study("powers_with_one_death", folder=str(tmp_path)), tmp_path / "undisturbed")
    assert contents(tmp_path / "disturbed") == contents(tmp_path / "undisturbed")


def test_a_task_that_always_kills_its_worker_ends_the_study_and_says_so(tmp_path: Path) -> None:
    with LocalProcesses(1) as executor, pytest.raises(TaskError, match=r"kill_itself.*died 3 times \(signal 9\)"):
        run(study("kill_itself", [1]), tmp_path, executor)


def test_a_killed_study_ends_its_workers_and_is_resumed(
    tmp_path: Path, contents: Contents, wait_for: Callable[..., None]
) -> None:
    """The parent dies by SIGKILL while one of its tasks never ends: no worker stays, nothing finished is lost."""
    tasks = study("powers", range(4))
    code = (
        "from test_execution import *\n"
        f"endless = make_task('studies:never_end', {{'folder': {str(tmp_path)!r}}})\n"
        "with LocalProcesses(2) as executor:\n"
        f"    run([*study('powers', range(4)), endless], Path({str(tmp_path / 'store')!r}), executor)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    wait_for(lambda: (tmp_path / "worker").exists() and all(Store(tmp_path / "store").read(each.key) for each in tasks))
    worker = int((tmp_path / "worker").read_text())
    abandoned = tmp_path / "store" / PARTIAL / f"{os.uname().nodename}-{parent.pid}-1-0-{tasks[0].key}.json"
    abandoned.parent.mkdir(exist_ok=True)
    abandoned.write_bytes(b"half")
    parent.kill()
    parent.wait()
    wait_for(lambda: not alive(worker))
    tally = Tally()
    run(tasks, tmp_path / "store", tally=tally)
    assert (tally.skipped, tally.ran) == (4, 0)
    run(tasks, tmp_path / "undisturbed")
    assert not abandoned.exists()
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


def alive(process: int) -> bool:
    """Return whether a process runs: one that nobody has buried yet does not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_an_interrupt_keeps_what_is_finished_and_ends_the_workers(tmp_path: Path) -> None:
    tasks = study("powers", range(6))
    with LocalProcesses(2) as executor:
        found = execute(tasks, Store(tmp_path), executor)
        next(found)
        workers = executor.process_ids
        with pytest.raises(KeyboardInterrupt):
            found.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert workers
    assert not any(map(alive, workers))
    tally = Tally()
    run(tasks, tmp_path, tally=tally)
    assert tally.skipped >= 1
    assert tally.skipped + tally.ran == 6


def test_a_full_disk_leaves_no_half_result_and_the_study_goes_on_later(tmp_path: Path, contents: Contents) -> None:
    """A limit on the size of files stands for the full disk: the first result fits, the second does not."""
    tasks = [make_task("studies:text", {"length": length}) for length in (10, 100_000)]
    store = tmp_path / "store"
    code = (
        "import resource, signal; from test_execution import *\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        f"run([make_task('studies:text', {{'length': length}}) for length in (10, 100_000)], Path({str(store)!r}))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert os.strerror(errno.EFBIG) in done.stderr
    assert str(store) in done.stderr
    assert [Store(store).read(each.key) is not None for each in tasks] == [True, False]
    assert not list((store / PARTIAL).iterdir())
    tally = Tally()
    run(tasks, store, tally=tally)
    assert (tally.skipped, tally.ran, tally.damaged) == (1, 1, 0)


def test_two_studies_fill_one_store_at_once(tmp_path: Path, contents: Contents) -> None:
    """Programs that run the same tasks at the same time leave what one alone leaves."""
    code = f"from test_execution import *; run(study('powers', range(60)), Path({str(tmp_path / 'shared')!r}))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    programs = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [each.wait() for each in programs] == [0, 0]
    run(study("powers", range(60)), tmp_path / "alone")
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_input_and_failures_of_tasks_are_told(tmp_path: Path, workers: int) -> None:
    with make_executor(workers) as executor:
        with pytest.raises(InputError, match=r"study: number: is refused \(got 5\)"):
            run(study("refuse", [5]), tmp_path, executor)
        with pytest.raises(TaskError, match=r"studies:divide with \{'number': 0\} failed: ZeroDivisionError") as caught:
            run(study("divide", [1, 2, 0, 3]), tmp_path, executor)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert workers == 0 or "raised in a worker" in caught.value.__cause__.__notes__[0]
    assert len(list(tmp_path.rglob("*.json"))) == 2, "what was finished before is kept"


def test_an_executor_can_go_on_after_a_failed_study(tmp_path: Path, two_processes: LocalProcesses) -> None:
    with pytest.raises(TaskError):
        run(study("divide", [0, *range(1, 8)]), tmp_path / "failed", two_processes)
    found = run(study("square", range(8)), tmp_path / "next", two_processes)
    assert [each.result.value for each in found] == [each**2 for each in range(8)]


def test_tasks_are_taken_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study without end can be begun, even where its first task is always the last: memory holds few tasks."""
    taken = 0

    def tasks() -> Iterator[Task]:
        nonlocal taken
        while True:
            yield from study("square", [taken])
            taken += 1

    for executor, ahead in ((InProcess(), InProcess.capacity), (Backwards(), 50)):
        monkeypatch.setattr("sim.execution.execution.LOOKAHEAD", 50)
        taken = 0
        found = execute(tasks(), Store(tmp_path / str(ahead)), executor)
        for _ in range(20):
            next(found)
        found.close()  # type: ignore[attr-defined]
        assert 19 <= taken <= 20 + ahead


def test_without_a_store_results_come_all_the_same() -> None:
    assert [each.result.value for each in execute(study("square", range(3)), None, InProcess())] == [0, 1, 4]


def test_progress_says_how_much_is_done_and_how_fast(tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    run(study("square", range(2)), tmp_path)
    run(
        study("square", range(4)),
        tmp_path,
        progress=lambda what, fraction: told.append((what, fraction)),
        what="squares",
    )
    assert [fraction for _, fraction in told] == sorted(fraction for _, fraction in told)
    assert told[-1][1] == 1.0
    assert told[-1][0].startswith("4 of 4 squares, 2 of them before, ")
    assert told[-1][0].endswith("/s")
