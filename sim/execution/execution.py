"""Run the tasks of a study that are not finished yet, and return all results in order."""

from __future__ import annotations

import tempfile
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from sim.execution.executor import Executor, make_executor
from sim.execution.store import Store, Stored
from sim.execution.task import Task, TaskError
from sim.specs.errors import InputError

Progress = Callable[[str, float], None]
"""Called with how far the study is in words and as a fraction of it."""

_SHOWN_CHARACTERS = 300
_RATE_OVER = 64  # latest runs, so that a slow start is forgotten

LOOKAHEAD = 4096
"""Most tasks between the one whose result is returned next and the one that is handed out next."""


@dataclass(frozen=True)
class Finished:
    """A task of the study with its result."""

    task: Task
    """The task."""

    result: Stored
    """Its result, as read from the store."""

    was_there: bool
    """Whether an earlier study had finished it, so that it was not run."""


@dataclass
class Tally:
    """What has become of the tasks of a study so far."""

    total: int | None = None
    """All tasks, where known."""

    skipped: int = 0
    """Finished before."""

    ran: int = 0
    """Finished by this study."""

    damaged: int = 0
    """Run although there was something in the store, which was torn or damaged."""

    times: deque[float] = field(default_factory=lambda: deque([time.perf_counter()], maxlen=_RATE_OVER))
    """Readings of the clock at the start and when the last runs finished [s]."""

    def count_run(self) -> None:
        """Count a task that was run."""
        self.ran += 1
        self.times.append(time.perf_counter())

    def told(self) -> str:
        """Return what was skipped and run, in words."""
        parts = [f"{self.ran:,} run now"]
        if self.skipped:
            parts.insert(0, f"{self.skipped:,} skipped as they were finished before")
        if self.damaged:
            parts.append(f"{self.damaged:,} of them again because their results were damaged")
        return f"{self.skipped + self.ran:,} runs: {', '.join(parts)}"

    def tell(self, progress: Progress | None, what: str) -> None:
        """Tell how many tasks are done, and how many of late were run a second."""
        if progress is None:
            return
        done = self.skipped + self.ran
        rate = (len(self.times) - 1) / max(self.times[-1] - self.times[0], 1e-9)
        total = max(self.total or 0, done)
        of_all = f" of {total:,}" if self.total is not None else ""
        kept = f", {self.skipped:,} of them before" if self.skipped else ""
        progress(f"{done:,}{of_all} {what}{kept}, {rate:.3g}/s", done / total if self.total else 0.0)


def execute(
    tasks: Iterable[Task],
    store: Store | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    *,
    tally: Tally | None = None,
    what: str = "runs",
) -> Iterator[Finished]:
    """Run the tasks that are not in the store, and yield the results of all in the order of the tasks.

    Each result is written once, when it comes, before anything is yielded of it; whatever ends the study early, all
    that was finished is kept, and the next call goes on from there. Tasks are taken from the iterable as they are
    needed, so a study of millions of tasks need not be in memory.

    Parameters
    ----------
    tasks : iterable of Task
        The study; a key that comes twice is run once.
    store : Store, optional
        Where results are; a temporary folder without one.
    executor : Executor, optional
        Where tasks run, which is left open; all local cores without one, which end with the study.
    progress : callable, optional
        Told how far the study is.
    tally : Tally, optional
        Counts what is skipped and run, for whoever wants to say so.
    what : str
        What a task is, in the plural, for the progress.

    Yields
    ------
    Finished
        In the order of the tasks, whatever the order in which they finish.

    Raises
    ------
    InputError
        From a task that found bad input.
    TaskError
        A task failed otherwise: the first that did, with its traceback as the cause.
    OSError
        The store cannot be written, as when the disk is full.

    """
    tally = tally or Tally()
    if tally.total is None and isinstance(tasks, list | tuple):
        tally.total = len(tasks)
    with ExitStack() as stack:
        if store is None:
            store = Store(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetcast-")))
        if executor is None:
            executor = stack.enter_context(make_executor())
        store.clean()
        yield from _in_order(iter(tasks), store, executor, progress, tally, what)


def _in_order(
    tasks: Iterator[Task], store: Store, executor: Executor, progress: Progress | None, tally: Tally, what: str
) -> Iterator[Finished]:
    waiting: deque[tuple[Task, bool]] = deque()
    running: set[str] = set()
    exhausted = False
    while waiting or not exhausted:
        while not exhausted and len(running) < executor.capacity and len(waiting) < LOOKAHEAD:
            task = next(tasks, None)
            if task is None:
                exhausted = True
                break
            found = None if task.key in running else store.read(task.key)
            if found is not None:
                tally.skipped += 1
                tally.tell(progress, what)
                if not waiting:
                    yield Finished(task, found, was_there=True)
                    continue
            elif task.key not in running:
                tally.damaged += store.has_trace_of(task.key)
                running.add(task.key)
                executor.submit(task)
            waiting.append((task, found is not None))
        if running:
            _store_next(store, executor, running, tally)
            tally.tell(progress, what)
        while waiting and waiting[0][0].key not in running:
            task, was_there = waiting.popleft()
            result = store.read(task.key)
            if result is None:
                raise TaskError(f"the result of {task.key} was removed or damaged while the study ran")
            yield Finished(task, result, was_there)


def _store_next(store: Store, executor: Executor, running: set[str], tally: Tally) -> None:
    """Wait for a result and store it; one that an earlier study left running in the same executor is none of ours."""
    task, outcome = executor.completed()
    if task.key not in running:
        return
    if isinstance(outcome, BaseException):
        raise _failure(task, outcome) from outcome
    store.write(task, outcome)
    running.discard(task.key)
    tally.count_run()


def _failure(task: Task, error: BaseException) -> BaseException:
    if isinstance(error, InputError):
        return error
    arguments = textwrap.shorten(repr(dict(task.arguments)), _SHOWN_CHARACTERS, placeholder=" ...")
    return TaskError(f"{task.function} with {arguments} failed: {type(error).__name__}: {error}")
