"""A result directory is there whole or not at all: writing by renaming, and reading back."""

import json
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from sim.results.tables import SCHEMA_VERSION, TABLES, arrow_table

MANIFEST = "manifest.json"
REPORT = "report.html"
VERSION_KEY = "result_schema_version"
ROWS_PER_GROUP = 131_072
"""Fixed, so that equal tables give equal bytes; large enough for readers that work by group."""


def write_results(
    directory: str | Path,
    tables: Mapping[str, pa.Table],
    manifest: Mapping[str, object],
    overwrite: bool = False,
    pages: Mapping[str, str] | None = None,
) -> None:
    """Write the tables and the manifest to a directory that appears whole or not at all.

    Everything is written to a temporary directory beside it, manifest last, which is renamed at the end. On
    any exception, an interrupt included, the temporary is removed and an older result is back in its place.
    Equal tables give byte-identical Parquet files. Missing parent directories are made.

    Parameters: `tables` are keyed by names in `TABLES` and are brought to its schema; `manifest` must be JSON
    without NaN; `pages` are further text files by name;
    `overwrite` replaces an older result, but never a directory that holds anything else. Raises
    FileExistsError if the directory is there and may not be replaced, ValueError for tables or a manifest
    that cannot be written, OSError if the place cannot be written to.
    """
    target = Path(directory).absolute()
    check_free(target, overwrite)
    text = _manifest_text(manifest)
    canonical = {name: arrow_table(name, table) for name, table in tables.items()}
    with whole_directory(target, lambda: check_free(target, overwrite)) as fresh:
        for name, table in canonical.items():
            write_parquet(table, fresh / f"{name}.parquet")
        for name, page in (pages or {}).items():
            (fresh / name).write_text(page, encoding="utf-8")
        (fresh / MANIFEST).write_text(text, encoding="utf-8")


@contextmanager
def whole_directory(target: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Give an empty directory that becomes `target` when the block is done, and leaves no trace when it fails.

    Missing parent directories are made; an older directory is replaced, and is back in its place on any exception,
    an interrupt included. Parameters: `target` is absolute; `check` raises unless it may be replaced, and is asked
    again just before. Raises OSError if the place cannot be written to.
    """
    ancestor = next(parent for parent in target.parents if parent.exists())
    try:
        temporary = tempfile.TemporaryDirectory(prefix=f".{target.name}.partial-", dir=ancestor)
    except OSError as error:
        raise OSError(error.errno, f"{target}: cannot be written: {error.strerror}") from error
    with temporary as staging:
        # the temporary is readable by its owner only; the directory inside it has the usual permissions
        fresh, replaced = Path(staging, "fresh"), Path(staging, "replaced")
        fresh.mkdir()
        yield fresh
        target.parent.mkdir(parents=True, exist_ok=True)
        check()
        try:
            if target.exists():
                target.rename(replaced)
            fresh.rename(target)
        except BaseException:
            if replaced.exists() and not target.exists():
                replaced.rename(target)
            raise


def read_results(directory: str | Path) -> tuple[dict[str, pa.Table], dict[str, object]]:
    """Tables and manifest of a result directory.

    Raises FileNotFoundError if there is no such directory, ValueError if it is not a result directory, is
    incomplete or has columns of another version.
    """
    source = Path(directory)
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such result directory")
    if not (source / MANIFEST).is_file():
        raise ValueError(f"{source}: not a result directory: it has no {MANIFEST}")
    try:
        manifest = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{source / MANIFEST}: not readable: {error}") from error
    version = manifest.pop(VERSION_KEY, None) if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        found = "none" if version is None else f"version {version}"
        raise ValueError(
            f"{source}: not a result of this version of the program: "
            f"schema version {SCHEMA_VERSION} is needed, {found} found"
        )
    tables = {}
    for name in TABLES:
        path = source / f"{name}.parquet"
        if path.is_file():
            try:
                tables[name] = arrow_table(name, pq.ParquetFile(path).read())
            except (pa.ArrowException, ValueError) as error:
                raise ValueError(f"{path}: not a table of this program: {error}") from error
    return tables, manifest


def check_free(target: Path, overwrite: bool) -> None:
    """Raise FileExistsError unless a result may be put at `target`."""
    check_replaceable(target, overwrite, {MANIFEST, REPORT, *(f"{name}.parquet" for name in TABLES)}, "a result")


def check_replaceable(target: Path, overwrite: bool, expected: Collection[str], what: str) -> None:
    """Raise FileExistsError unless there is nothing at `target`, or only what is to be replaced.

    Parameters: `expected` are the names of files that `what`, such as "a result", consists of; a directory that holds
    anything else is never replaced, and none is without `overwrite`.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not overwrite:
        raise FileExistsError(f"{target}: exists already; choose another directory or ask to overwrite it")
    if not target.is_dir() or target.is_symlink():
        raise FileExistsError(f"{target}: exists and is no directory; it is not replaced")
    foreign = sorted(path.name for path in target.iterdir() if path.name not in expected)
    if foreign:
        raise FileExistsError(f"{target}: holds {foreign[0]!r}, which is no part of {what}; it is not replaced")


def _manifest_text(manifest: Mapping[str, object]) -> str:
    """Manifest as JSON with sorted keys; raises ValueError for what JSON cannot say."""
    try:
        content = {**manifest, VERSION_KEY: SCHEMA_VERSION}
        return json.dumps(content, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ValueError(f"manifest cannot be written as JSON: {error}") from error


def write_parquet(table: pa.Table, target: Path | BinaryIO) -> None:
    """Write one Parquet file with fixed options, so that its bytes depend on its content alone."""
    text = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    pq.write_table(
        table,
        target,
        row_group_size=ROWS_PER_GROUP,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=text,
        write_statistics=True,
        store_schema=True,
    )
