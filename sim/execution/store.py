"""Results by key on disk: each is there whole or not at all, and one that was damaged counts as not there."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.execution.task import Encoded, Task, canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

PARTIAL = "partial"
"""Folder of a store in which files are written before they get their names."""

_ABANDONED_AFTER_S = 86400.0
_FORMAT = 1


@dataclass(frozen=True)
class Stored:
    """A finished result as read from a store."""

    value: Any
    """What the function returned, in JSON types."""

    parquet: bytes | None = None
    """The table beside it, as Parquet."""

    def table(self) -> pa.Table:
        """Return the table; ValueError when the task returned none."""
        if self.parquet is None:
            raise ValueError("the task returned no table")
        import pyarrow.parquet as pq  # studies of plain values never need it

        return pq.ParquetFile(io.BytesIO(self.parquet)).read()


class Store:
    """A folder of results by key, which several programs may fill at the same time.

    A result is `ab/KEY.json`, a receipt that holds the value and digests, and `ab/KEY.parquet` where there is a table.
    Files are written under another name and renamed, the receipt last; the key counts as finished when the receipt
    agrees with its digest and with the table. That also finds what a power failure tore, so nothing waits for the disk.
    """

    def __init__(self, directory: str | Path) -> None:
        """Open a store, which is made when the first result is written.

        Parameters
        ----------
        directory : str or Path
            Its folder.

        """
        self.directory = Path(directory).absolute()
        self._counter = itertools.count()
        self._owner = f"{owner()}{id(self):x}"

    def read(self, key: str) -> Stored | None:
        """Return the result of a key; None where it is missing, torn or damaged."""
        try:
            receipt = json.loads(self._path(key, "json").read_bytes())
            digest = receipt.pop("digest")
            if receipt["key"] != key or receipt["format"] != _FORMAT or digest != _digest(canonical_json(receipt)):
                return None
            if receipt["table"] is None:
                return Stored(receipt["value"])
            parquet = self._path(key, "parquet").read_bytes()
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Stored(receipt["value"], parquet) if receipt["table"] == _digest(parquet) else None

    def has_trace_of(self, key: str) -> bool:
        """Return whether there is a receipt of the key, whole or not."""
        return self._path(key, "json").exists()

    def write(self, task: Task, result: Encoded) -> None:
        """Store a result, whole or not at all; OSError when the disk is full or cannot be written."""
        table = None if result.table is None else _digest(result.table)
        value = json.loads(result.value)
        receipt = {"format": _FORMAT, "key": task.key, "function": task.function, "value": value, "table": table}
        digest = _digest(canonical_json(receipt))
        if result.table is not None:
            self._put(self._path(task.key, "parquet"), result.table)
        self._put(self._path(task.key, "json"), canonical_json(receipt | {"digest": digest}) + b"\n")

    def clean(self) -> int:
        """Remove what killed programs of this machine left half written; return how many files that were."""
        removed = 0
        for path in (self.directory / PARTIAL).glob("*"):
            if is_abandoned(path, path.name):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _put(self, target: Path, content: bytes) -> None:
        partial = self.directory / PARTIAL / f"{self._owner}-{next(self._counter)}-{target.name}"
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            target.parent.mkdir(exist_ok=True)
            partial.write_bytes(content)
            partial.replace(target)
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(self.directory)) from error
            raise

    def _path(self, key: str, suffix: str) -> Path:
        return self.directory / key[:2] / f"{key}.{suffix}"


def owner() -> str:
    """Return how names of partial files begin: with the machine and the process that writes them."""
    return f"{socket.gethostname()}-{os.getpid()}-"


def is_abandoned(path: Path, name: str) -> bool:
    """Return whether nobody will finish a partial file: its program is gone, or on another machine for a day.

    Parameters
    ----------
    path : Path
        The file or directory.
    name : str
        Its name from `owner()` on.

    """
    mine = f"{socket.gethostname()}-"
    process = name.removeprefix(mine).split("-")[0]
    if name.startswith(mine) and process.isdigit():
        return not _is_alive(int(process))
    try:
        return time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S
    except FileNotFoundError:
        return False


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
