"""Processes on this machine that run tasks; one that is killed is replaced, and its tasks are run again."""

from __future__ import annotations

import contextlib
import pickle
import socket
import subprocess
import sys
from collections import Counter, deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait

from sim.execution.executor import Closing, Completed
from sim.execution.task import Encoded, Task, TaskError

ATTEMPTS = 3
"""How often a task may be running when its worker dies before it is taken to be the cause."""

_AHEAD = 2  # tasks per worker: one runs, the next lies ready
_START = "import sys; sys.path[:] = {path!r}; from sim.execution.worker import serve; serve({descriptor})"


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)


class LocalProcesses(Closing):
    """Fresh Python processes, each with one task running and one ready.

    They import nothing of the program that calls them but its search path, so scripts need no `__main__` guard and
    notebooks work. They stand outside the terminal's group: an interrupt reaches this process alone, which ends them;
    when this process is killed, they see their sockets close and end themselves.
    """

    def __init__(self, workers: int) -> None:
        """Prepare to start processes, which happens as tasks come.

        Parameters
        ----------
        workers : int
            Most processes, at least 1.

        Raises
        ------
        ValueError
            Fewer than one.

        """
        if workers < 1:
            raise ValueError(f"at least one worker is needed, got {workers}")
        self.capacity = _AHEAD * workers
        self._limit = workers
        self._workers: list[_Worker] = []
        self._deaths: Counter[str] = Counter()

    @property
    def process_ids(self) -> list[int]:
        """Return the processes that there are now."""
        return [worker.process.pid for worker in self._workers]

    def submit(self, task: Task) -> None:
        """Hand a task to the worker with the fewest, or to a new one."""
        idle = min(self._workers, key=lambda each: len(each.tasks), default=None)
        if idle is None or (idle.tasks and len(self._workers) < self._limit):
            idle = self._start()
        idle.tasks.append(task)
        # where the worker has died, its socket says so when results are waited for
        with contextlib.suppress(OSError):
            idle.connection.send_bytes(pickle.dumps(task))

    def completed(self) -> Completed:
        """Wait for a result; the tasks of workers that die meanwhile are handed out again."""
        while True:
            busy = {worker.connection: worker for worker in self._workers if worker.tasks}
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                worker = busy[connection]
                try:
                    result: Encoded | BaseException = pickle.loads(connection.recv_bytes())
                except (EOFError, OSError):
                    lost = self._bury(worker)
                    if lost is not None:
                        return lost
                    break
                return worker.tasks.popleft(), result

    def close(self) -> None:
        """End all processes, in the middle of what they do."""
        for worker in self._workers:
            worker.connection.close()
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
        self._workers.clear()

    def _start(self) -> _Worker:
        here, there = socket.socketpair()
        with there:
            start = _START.format(path=sys.path, descriptor=there.fileno())
            process = subprocess.Popen(
                [sys.executable, "-c", start],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what a task prints is no part of the answer
                pass_fds=[there.fileno()],
                start_new_session=True,
            )
        worker = _Worker(process, Connection(here.detach()))
        self._workers.append(worker)
        return worker

    def _bury(self, worker: _Worker) -> Completed | None:
        """Hand the tasks of a dead worker to others, or return the one that has now killed several."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.kill()
        status = worker.process.wait()
        suspect = worker.tasks[0]
        self._deaths[suspect.key] += 1
        failed: Completed | None = None
        if self._deaths[suspect.key] >= ATTEMPTS:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            reason = f"its worker died {ATTEMPTS} times ({how}); it may need more memory than there is"
            failed = worker.tasks.popleft(), TaskError(reason)
        for task in worker.tasks:
            self.submit(task)
        return failed
