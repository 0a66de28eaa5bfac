"""A Dask cluster that runs tasks: the scheduler spreads them, and runs those of a lost worker again."""

from __future__ import annotations

import importlib
import queue
import re
from pathlib import Path
from typing import Any

from sim.execution.executor import Closing, Completed
from sim.execution.task import Encoded, Task, TaskError, call
from sim.execution.worker import portable
from sim.specs.errors import InputError, Problem

_ANSWER_WITHIN_S = 20.0
_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://.+:\d+")
_AHEAD = 2  # tasks per thread of the cluster: one runs, the next lies ready
_FEWEST = 4  # tasks that are handed out although no worker has come yet


def answer(task: Task) -> Encoded | Exception:
    """Run a task on a worker of the cluster; an exception is an answer, so that the scheduler does not interfere."""
    try:
        return call(task)
    except MemoryError:
        raise
    except Exception as error:
        return portable(error)


class Cluster(Closing):
    """The workers of a Dask scheduler, which may come and go; results return to this process, which stores them."""

    def __init__(self, scheduler: str, workers: int | None = None) -> None:
        """Connect to a scheduler.

        Parameters
        ----------
        scheduler : str
            Address, such as `tcp://host:8786`, or path of a scheduler file.
        workers : int, optional
            Must be absent: the cluster has its own.

        Raises
        ------
        InputError
            `workers` is given, the extra is not installed, or the scheduler does not answer.

        """
        if workers is not None:
            remedy = "Leave out --workers, or --cluster."
            raise InputError([Problem("a cluster has workers of its own", "--workers", value=workers, remedy=remedy)])
        distributed = _distributed(scheduler)
        self._client = _connected(distributed, scheduler)
        self._tasks: dict[str, tuple[Task, Any]] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    @property
    def capacity(self) -> int:
        """Tasks that it takes at a time: two for each thread that the cluster has at the moment."""
        return max(_FEWEST, _AHEAD * int(sum(self._client.nthreads().values())))

    def wait_for_workers(self, count: int) -> None:
        """Wait until the cluster has so many workers; TimeoutError when they do not come."""
        self._client.wait_for_workers(count, timeout=_ANSWER_WITHIN_S)

    def submit(self, task: Task) -> None:
        """Hand a task to the scheduler."""
        future = self._client.submit(answer, task, key=f"fleetcast-{task.key}", pure=False)
        self._tasks[future.key] = task, future
        future.add_done_callback(self._done.put)

    def completed(self) -> Completed:
        """Wait for a result."""
        future = self._done.get()
        task, _ = self._tasks.pop(future.key)
        if future.status == "cancelled":
            return task, TaskError("the scheduler has dropped it or is gone; what is finished is kept")
        error = future.exception()
        result = _explained(error) if error is not None else future.result()
        future.release()
        return task, result

    def close(self) -> None:
        """Drop what still runs; the cluster stays."""
        self._client.cancel([future for _, future in self._tasks.values()], force=True)
        self._tasks.clear()
        self._client.close()


def _distributed(scheduler: str) -> Any:
    try:
        return importlib.import_module("distributed")
    except ImportError:
        remedy = "Install it with `pip install 'fleetcast[cluster]'`."
        raise InputError([Problem("a cluster needs Dask", "--cluster", value=scheduler, remedy=remedy)]) from None


def _connected(distributed: Any, scheduler: str) -> Any:
    remedy = "Start `dask scheduler`, and give its address, such as tcp://host:8786, or its scheduler file."
    is_address = "://" in scheduler
    if is_address and not _ADDRESS.fullmatch(scheduler):
        raise InputError([Problem("is no address of a Dask scheduler", "--cluster", value=scheduler, remedy=remedy)])
    if not is_address and not Path(scheduler).is_file():
        raise InputError([Problem("there is no such scheduler file", "--cluster", value=scheduler, remedy=remedy)])
    where = {"address": scheduler} if is_address else {"scheduler_file": scheduler}
    try:
        return distributed.Client(**where, timeout=_ANSWER_WITHIN_S, set_as_default=False)
    except (OSError, ValueError) as error:
        problem = f"no Dask scheduler answers: {error}"
        raise InputError([Problem(problem, "--cluster", value=scheduler, remedy=remedy)]) from None


def _explained(error: BaseException) -> BaseException:
    """Return what a user can do about an error of the cluster itself."""
    if type(error).__name__ == "KilledWorker":
        return TaskError(f"its worker died several times; it may need more memory than there is ({error})")
    if isinstance(error, ImportError):
        return TaskError(f"a worker of the cluster cannot import the program; install it on every machine ({error})")
    return error
