"""Trace files: what is written comes back, any schema is recognised by content, and errors name their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demand.tabular import seconds_as_nanoseconds
from sim.demand.trace import OPTIONAL_COLUMNS, Trace
from sim.demand.trace_columns import trace_from_arrays
from sim.demand.trace_files import read_trace
from sim.specs.errors import InputError

COLUMNS = ("arrival_ns", "class_index", "prompt_tokens", "cached_tokens", "output_tokens")
GOOD: dict[str, list[Any]] = {"arrival_s": [0.0, 0.5, 2.0], "prompt_tokens": [5, 6, 7], "output_tokens": [1, 2, 3]}


@pytest.fixture
def example() -> Trace:
    arrivals = [0, 10_000, 123_456_789, 86_400_000_000_001, 86_400_000_000_001]
    # classes as they first appear in the file, which is no order of their names
    classes = ("voice", "agent, long", "chat", "batch")
    return trace_from_arrays(
        arrivals, [4, 5, 6, 7, 8], [1, 2, 3, 4, 5], [3, 0, 1, 2, 0], classes=classes, class_index=[0, 1, 2, 0, 3]
    )


def written(path: Path, columns: dict[str, list[Any]]) -> Path:
    frame = pd.DataFrame(columns)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(InputError) as error:
        read_trace(path, "mine")
    return [str(problem).removeprefix(str(path)) for problem in error.value.problems]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_written_trace_comes_back(tmp_path: Path, example: Trace, suffix: str) -> None:
    path = tmp_path / "trace.any"
    if suffix == "csv":
        example.to_frame().to_csv(path, index=False)
    else:
        example.to_frame().to_parquet(path)
    back = read_trace(path, "unused")
    assert back.classes == example.classes
    for name in COLUMNS:
        assert np.array_equal(getattr(back, name), getattr(example, name)), name


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_optional_columns_may_be_absent_and_the_order_is_free(tmp_path: Path, suffix: str) -> None:
    backwards = dict(reversed(GOOD.items()))
    trace = read_trace(written(tmp_path / f"trace.{suffix}", backwards), "mine")
    assert trace.classes == ("mine",)
    assert trace.arrival_ns.tolist() == [0, 500_000_000, 2_000_000_000]
    assert trace.prompt_tokens.tolist() == [5, 6, 7]
    assert trace.cached_tokens.tolist() == [0, 0, 0]


def test_azure_files_are_recognised_by_their_header(tmp_path: Path) -> None:
    path = tmp_path / "no-suffix"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:47,396,109\n"
    )
    trace = read_trace(path, "mine")
    assert trace.arrival_ns.tolist() == [0, 319_410_000]
    assert trace.classes == ("mine",)


def test_the_first_arrival_is_not_moved(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", GOOD | {"arrival_s": [7.5, 8.0, 8.0]})
    assert read_trace(path, "mine").arrival_ns.tolist() == [7_500_000_000, 8_000_000_000, 8_000_000_000]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("arrival_s,in,out", "header lacks 'prompt_tokens', 'output_tokens'; has the unknown 'in', 'out'"),
        ("arrival_s,prompt_tokens,output_tokens,user", "header has the unknown 'user'"),
        ("arrival_s,prompt_tokens,output_tokens,arrival_s", "header repeats 'arrival_s'"),
    ],
)
def test_another_header_names_the_accepted_schemas(tmp_path: Path, header: str, expected: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\n1,2,3\n")
    (told,) = problems(path)
    assert told.startswith(f":1: {expected} (got '{header}'). Accepted: the Azure")
    assert "TIMESTAMP,ContextTokens,GeneratedTokens" in told
    assert "arrival_s, prompt_tokens, output_tokens with optional cached_tokens, class, follows" in told


def test_all_bad_rows_of_a_csv_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "arrival_s,prompt_tokens,output_tokens,cached_tokens,class\n"
        "0.5,10,1,0,a\n"
        "nan,10,1,0,a\n"
        "0.25,10,0,10,\n"
        "1e999,1e3,1,-1,a\n"
        "-1,10,1,0\n"
        "1 s,10,99999999999,0,a\n"
    )
    assert problems(path) == [
        ":3: arrival_s: is not a number of seconds (got 'nan').",
        ":4: class: names no class (got '').",
        ":4: arrival_s: is earlier than the row above it, in seconds after the start (got 0.25). "
        "Sort the rows by arrival.",
        ":4: output_tokens: tokens run from 1 to 2147483647 (got 0).",
        ":4: cached_tokens: cached tokens must be fewer than prompt tokens (got 10). "
        "The last token of a prompt is always computed.",
        ":5: arrival_s: is not a number of seconds (got '1e999').",
        ":5: prompt_tokens: is not a whole number (got '1e3').",
        ":5: cached_tokens: tokens run from 0 to 2147483647 (got -1).",
        ":6: has 4 cells (got '-1,10,1,0'). 5 are needed.",
        ":7: arrival_s: is not a number of seconds (got '1 s').",
        ":7: output_tokens: tokens run from 1 to 2147483647 (got 99999999999).",
    ]


def test_all_bad_rows_of_a_parquet_file_are_told(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "arrival_s": [-1.0, float("inf"), 3.0, 2.0],
        "prompt_tokens": [1.0, None, 2.5, 4.0],
        "output_tokens": [1, 0, 1, 1],
        "class": ["a", None, "", "b"],
    }
    path = written(tmp_path / "t.parquet", columns)
    assert problems(path) == [
        ": row 0, arrival_s: is before the start, in seconds (got -1.0).",
        ": row 1, arrival_s: is not a number of seconds (got inf).",
        ": row 1, prompt_tokens: is not a whole number (got nan).",
        ": row 1, class: names no class.",
        ": row 1, output_tokens: tokens run from 1 to 2147483647 (got 0).",
        ": row 2, prompt_tokens: is not a whole number (got 2.5).",
        ": row 2, class: names no class (got '').",
        ": row 3, arrival_s: is earlier than the row above it, in seconds after the start (got 2.0). "
        "Sort the rows by arrival.",
    ]


def test_parquet_files_that_are_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(b"PAR1 and then nothing that makes sense PAR1")
    assert problems(path)[0].startswith(": is not a readable Parquet file")
    (told,) = problems(written(path, {"arrival_s": [0.0], "prompt_tokens": ["many"], "output_tokens": [1]}))
    assert told.startswith(": prompt_tokens: is not a column of numbers (got '")
    (told,) = problems(written(path, {"a": [1]}))
    assert "lacks 'arrival_s'" in told
    assert problems(written(path, {name: values[:0] for name, values in GOOD.items()})) == [
        ": holds no requests. Give at least one row."
    ]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"\n"])
def test_files_without_text_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t"
    path.write_bytes(content)
    assert len(problems(path)) == 1


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    assert problems(tmp_path / "absent")[0].startswith(": cannot be read: no such file")
    assert problems(tmp_path)[0].startswith(": cannot be read: is a directory")


@given(nanoseconds=st.integers(0, 10**15))
def test_seconds_as_pandas_writes_them_are_exact_to_the_nanosecond(nanoseconds: int) -> None:
    assert seconds_as_nanoseconds(repr(nanoseconds / 1e9)) == nanoseconds


@pytest.mark.parametrize("cell", ["", " 1", "1_000", "٣", "1e", "nan", "inf", "0x1", "1e9999", "1,5", "5e9"])
def test_what_is_not_a_number_of_seconds(cell: str) -> None:
    assert seconds_as_nanoseconds(cell) is None


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_sessions_and_follow_ups_come_back(tmp_path: Path, suffix: str) -> None:
    trace = Trace(
        ("agent",), np.array([0, 0, 5, 5]), np.zeros(4, np.int16), np.array([5, 9, 6, 9]), np.array([0, 5, 0, 6]),
        np.array([1, 2, 3, 4]), np.array([-1, 0, -1, 2]), np.array([0, 1_500_000_001, 0, 7]), np.array([0, -1, 1, 1]),
        np.array([1, 1, 3, 4]), np.array([2, 1, 9, 9]), np.array([0, 7, -1, 7]), np.array([4, 8, 0, 8]),
        np.array([-1, 0, 2_000_000_000, 5]),
    )  # fmt: skip
    path = tmp_path / "trace.any"
    if suffix == "csv":
        trace.to_frame().to_csv(path, index=False)
    else:
        trace.to_frame().to_parquet(path)
    back = read_trace(path, "unused")
    for name in (*COLUMNS, *OPTIONAL_COLUMNS):
        assert np.array_equal(getattr(back, name), getattr(trace, name)), name


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"follows": [-1, 1, 0], "gap_s": [0, 1, 1]}, "is not an earlier row"),
        ({"follows": [-2, 0, 0], "gap_s": [0, 1, 1]}, "is not an earlier row"),
        ({"follows": [-1, 0, 0], "gap_s": [0, -1, 1]}, "is negative"),
        ({"follows": [-1, 0, 0]}, "only one of"),
        ({"follows": [-1, 0, 0], "gap_s": [0, "soon", 1]}, "is not a number of seconds"),
        ({"session": ["a", "b", "c"]}, "is not a whole number"),
        ({"session_call": [1, 0, 1], "session_calls": [1, 1, 1]}, "counts from 1"),
        ({"session_call": [1, 1, 1]}, "only one of"),
        ({"prefix_group": [-2, 0, 0], "prefix_tokens": [0, 0, 0]}, "is no number from 0, or -1 for none"),
        ({"prefix_group": [0, 0, 0], "prefix_tokens": [0, -1, 10**6]}, "lie in 0 to prompt_tokens - 1"),
        ({"patience_s": [-1, -0.5, 3]}, "is neither a time in seconds nor -1"),
    ],
)
def test_sessions_that_cannot_be_are_named(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    assert any(message in problem for problem in problems(written(tmp_path / "trace.csv", GOOD | columns)))
