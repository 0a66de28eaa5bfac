import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim.results import writing
from sim.results.tables import TABLES, arrow_schema, arrow_table
from sim.results.writing import read_results, write_results

MANIFEST = {"seed": 7, "scenario": {"name": "test", "pools": ["main"]}, "flags": []}


@pytest.fixture
def tables(requests_of, timeline_of):
    rng = np.random.default_rng(1)
    requests = requests_of(
        np.arange(500.0), e2e_s=np.where(rng.random(500) < 0.9, 2.0, np.nan), **{"class": rng.choice(["a", "b"], 500)}
    )
    return {"requests": arrow_table("requests", requests), "timeline": arrow_table("timeline", timeline_of([0, 1, 2]))}


def contents(directory):
    return {path.name: path.read_bytes() for path in sorted(Path(directory).iterdir())}


def test_what_is_written_comes_back_with_its_metadata(tmp_path, tables):
    write_results(tmp_path / "run", tables, MANIFEST)
    back, manifest = read_results(tmp_path / "run")
    assert manifest == MANIFEST
    assert back.keys() == tables.keys()
    for name, table in tables.items():
        assert back[name].equals(table, check_metadata=True)
        # a reader without our code sees the same metadata
        stored = pq.read_schema(tmp_path / "run" / f"{name}.parquet")
        for column in TABLES[name]:
            metadata = stored.field(column.name).metadata
            assert metadata[b"unit"] == column.unit.encode()
            assert metadata[b"description"] == column.description.encode()
        assert stored.metadata[b"table"] == name.encode()


def test_equal_tables_give_equal_bytes_however_they_were_built(tmp_path, tables):
    write_results(tmp_path / "one", tables, MANIFEST)
    again = {
        name: pa.concat_tables([table.slice(0, 1), table.slice(1)]).replace_schema_metadata(None)
        for name, table in reversed(tables.items())
    }
    write_results(tmp_path / "two", again, dict(reversed(MANIFEST.items())))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 3


def test_the_manifest_has_sorted_keys(tmp_path, tables):
    write_results(tmp_path / "run", tables, {"b": 1, "a": {"d": 1, "c": 2}})
    text = (tmp_path / "run" / "manifest.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_missing_parents_are_made_and_others_may_read(tmp_path, tables):
    (tmp_path / "usual").mkdir()
    write_results(tmp_path / "a" / "b" / "run", tables, MANIFEST)
    assert (tmp_path / "a" / "b" / "run" / "manifest.json").is_file()
    assert (tmp_path / "a" / "b" / "run").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "usual"]


def test_an_older_result_is_replaced_only_when_asked_and_whole(tmp_path, tables):
    write_results(tmp_path / "run", tables, {"seed": 1})
    with pytest.raises(FileExistsError, match="exists already; choose another directory or ask to overwrite"):
        write_results(tmp_path / "run", tables, {"seed": 2})
    assert read_results(tmp_path / "run")[1] == {"seed": 1}
    write_results(tmp_path / "run", {"timeline": tables["timeline"]}, {"seed": 2}, overwrite=True)
    assert sorted(contents(tmp_path / "run")) == ["manifest.json", "timeline.parquet"]
    assert read_results(tmp_path / "run")[1] == {"seed": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_is_no_result_is_never_replaced(tmp_path, tables):
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"holds 'thesis\.tex', which is no part of a result"):
        write_results(precious, tables, MANIFEST, overwrite=True)
    with pytest.raises(FileExistsError, match="no directory"):
        write_results(precious / "thesis.tex", tables, MANIFEST, overwrite=True)
    (tmp_path / "link").symlink_to(precious)
    with pytest.raises(FileExistsError, match="no directory"):
        write_results(tmp_path / "link", tables, MANIFEST, overwrite=True)
    assert (precious / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, MemoryError])
@pytest.mark.parametrize("older", [False, True])
def test_a_write_that_fails_leaves_everything_as_it_was(tmp_path, tables, monkeypatch, error, older):
    if older:
        write_results(tmp_path / "run", tables, {"seed": 1})
    before = contents(tmp_path / "run") if older else None
    written = []

    def failing(table, path, **options):
        if written:
            raise error("no more")
        written.append(path)
        Path(path).write_bytes(b"half a file")

    monkeypatch.setattr(writing.pq, "write_table", failing)
    with pytest.raises(error, match="no more"):
        write_results(tmp_path / "run", tables, MANIFEST, overwrite=True)
    assert written
    assert [path.name for path in tmp_path.iterdir()] == (["run"] if older else [])
    assert not older or contents(tmp_path / "run") == before


def test_an_interrupt_between_the_two_renames_brings_the_older_result_back(tmp_path, tables, monkeypatch):
    write_results(tmp_path / "run", tables, {"seed": 1})
    before, rename, calls = contents(tmp_path / "run"), Path.rename, []

    def interrupted(self, target):
        calls.append(self.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_results(tmp_path / "run", tables, {"seed": 2}, overwrite=True)
    assert calls == ["run", "fresh", "replaced"]
    assert contents(tmp_path / "run") == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_killed_process_leaves_nothing_that_looks_whole(tmp_path):
    program = """
import os, signal, sys
from sim.results import writing
from sim.results.tables import TABLES, arrow_schema
import pyarrow as pa
writing.Path.write_text = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
empty = {name: pa.Table.from_pylist([], schema=arrow_schema(name)) for name in TABLES}
writing.write_results(sys.argv[1], empty, {})
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "run")], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".run.partial-")
    assert sorted(path.name for path in left.rglob("*.parquet")) == sorted(f"{name}.parquet" for name in TABLES)
    for candidate in (left, left / "fresh"):
        with pytest.raises(ValueError, match="not a result directory"):
            read_results(candidate)


def test_bad_tables_and_manifests_are_refused_before_anything_is_written(tmp_path, tables):
    short = {"timeline": tables["timeline"].drop_columns(["waiting"])}
    for bad, manifest, message in (
        (short, MANIFEST, "'waiting' is missing"),
        ({"weather": tables["timeline"]}, MANIFEST, "unknown table 'weather'"),
        (tables, {"wall_time_s": float("nan")}, "manifest cannot be written as JSON"),
        (tables, {"path": Path("x")}, "manifest cannot be written as JSON"),
    ):
        with pytest.raises(ValueError, match=message):
            write_results(tmp_path / "run", bad, manifest)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path, tables):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/run: cannot be written: Not a directory"):
        write_results(tmp_path / "file" / "run", tables, MANIFEST)


def test_reading_what_is_no_result(tmp_path, tables):
    with pytest.raises(FileNotFoundError, match="no such result directory"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"not a result directory: it has no manifest\.json"):
        read_results(tmp_path)
    manifest = tmp_path / "manifest.json"
    for text, message in (
        ("{", "not readable"),
        ("[]", "schema version 2 is needed, none found"),
        ('{"result_schema_version": 99}', "schema version 2 is needed, version 99 found"),
    ):
        manifest.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_results(tmp_path)
    manifest.write_text('{"result_schema_version": 2}')
    (tmp_path / "requests.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"requests\.parquet: not a table of this program"):
        read_results(tmp_path)
    pq.write_table(tables["timeline"], tmp_path / "requests.parquet")
    with pytest.raises(ValueError, match="'arrival_s' is missing"):
        read_results(tmp_path)


def test_an_empty_table_can_be_kept(tmp_path):
    empty = pa.Table.from_pylist([], schema=arrow_schema("requests"))
    write_results(tmp_path / "run", {"requests": empty}, {})
    assert read_results(tmp_path / "run")[0]["requests"].equals(empty, check_metadata=True)
