"""Where tasks run: what all executors offer, and the one that runs them in this process."""

from __future__ import annotations

import os
from collections import deque
from types import TracebackType
from typing import Protocol, Self

from sim.execution.task import Encoded, Task, call

Completed = tuple[Task, Encoded | BaseException]
"""A task and its result, or what it raised."""


class Executor(Protocol):
    """Runs tasks in any order; takes at most `capacity` at a time, so that memory stays bounded."""

    @property
    def capacity(self) -> int:
        """Tasks that it takes before the next must be waited for."""

    def submit(self, task: Task) -> None:
        """Take a task."""

    def completed(self) -> Completed:
        """Wait for one of the tasks that were taken, and give it up."""

    def close(self) -> None:
        """Drop what still runs, and all workers."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""


class Closing:
    """Closes at the end of a `with` block."""

    def close(self) -> None:
        """Drop what still runs, and all workers."""

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, whatever happened."""
        self.close()


class InProcess(Closing):
    """Runs one task after the other in this process."""

    capacity = 1

    def __init__(self) -> None:
        self._waiting: deque[Task] = deque()

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._waiting.append(task)

    def completed(self) -> Completed:
        """Run the oldest task; an interrupt or a lack of memory is not its result, but ends the study."""
        task = self._waiting.popleft()
        try:
            return task, call(task)
        except MemoryError:
            raise
        except Exception as error:
            return task, error


def make_executor(workers: int | None = None, cluster: str | None = None) -> Executor:
    """Return an executor.

    Parameters
    ----------
    workers : int, optional
        Processes on this machine, by default one for each core that this process may use; 0 runs in this process.
    cluster : str, optional
        Address of a Dask scheduler (`tcp://host:8786`) or path of its scheduler file, instead of local processes.

    Raises
    ------
    InputError
        Both are given, the extra `fleetcast[cluster]` is not installed, or no scheduler answers.
    ValueError
        A negative number of workers.

    """
    if cluster is not None:
        from sim.execution.cluster import Cluster

        return Cluster(cluster, workers)
    if workers is not None and workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    if workers == 0:
        return InProcess()
    from sim.execution.processes import LocalProcesses

    return LocalProcesses(workers or usable_cores())


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
