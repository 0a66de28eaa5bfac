"""A worker process: takes tasks from a socket, returns results on it, and ends with the program that started it."""

from __future__ import annotations

import os
import pickle
import queue
import threading
import traceback
from multiprocessing.connection import Connection

from sim.execution.task import Encoded, Task, TaskError, call


def serve(descriptor: int) -> None:
    """Answer tasks until the other end of the socket closes.

    Parameters
    ----------
    descriptor : int
        File descriptor of the socket.

    """
    connection = Connection(descriptor)
    tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    while True:
        task = tasks.get()
        try:
            connection.send_bytes(pickle.dumps(_answer(task)))
        except OSError:
            return  # nobody waits for it any more


def _receive(connection: Connection, tasks: queue.SimpleQueue[Task]) -> None:
    """Pass tasks on; when the program that started this one is gone, so is this, even in the middle of a task."""
    try:
        while True:
            tasks.put(pickle.loads(connection.recv_bytes()))
    except (EOFError, OSError):
        os._exit(0)


def _answer(task: Task) -> Encoded | BaseException:
    try:
        return call(task)
    except MemoryError:
        os._exit(1)  # as the system would do it: what else runs here cannot be trusted any more
    except Exception as error:
        return portable(error)


def portable(error: Exception) -> Exception:
    """Return an exception that another process can read, with a note of where it was raised."""
    error.add_note(f"raised in a worker:\n{traceback.format_exc()}")
    try:
        if isinstance(pickle.loads(pickle.dumps(error)), type(error)):
            return error
    except Exception:
        return TaskError(f"{type(error).__name__}: {error}")
    return TaskError(f"{type(error).__name__}: {error}")
