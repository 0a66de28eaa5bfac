"""The Azure traces: exact instants, both years' spellings, and every bad row with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.demand.azure import read_azure_csv
from sim.specs.errors import InputError

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
SAMPLE_2023 = (
    "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:15:51.2224670,879,55\n"
    "2023-11-16 18:15:51.2224670,91,16\n"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.csv"


def problems(file: Path, content: str | bytes) -> list[str]:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_azure_csv(file, "chat")
    told = [str(problem) for problem in error.value.problems]
    assert all(line.startswith(str(file)) for line in told)
    return [line.removeprefix(str(file)) for line in told]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_the_2023_sample_is_read_exactly(file: Path, ending: str, mark: bytes) -> None:
    file.write_bytes(mark + (HEADER + SAMPLE_2023).rstrip("\n").replace("\n", ending).encode())
    trace = read_azure_csv(str(file), "chat")
    assert trace.classes == ("chat",)
    assert trace.arrival_ns.tolist() == [0, 4_314_579_000, 4_541_877_000, 4_541_877_000]
    assert trace.prompt_tokens.tolist() == [374, 396, 879, 91]
    assert trace.output_tokens.tolist() == [44, 109, 55, 16]
    assert trace.cached_tokens.tolist() == [0, 0, 0, 0]


def test_the_2024_spelling_is_read_exactly(file: Path) -> None:
    file.write_text(
        HEADER
        + "2024-05-10 00:00:00.009930+00:00,2162,5\n"
        + "2024-05-10 00:00:01+00:00,2399,6\n"
        + "2024-05-10 00:00:01.000001,76,15\n"
        + "2024-05-10T02:00:02.5+02:00,76,15\n"
        + "2024-05-11 00:00:00Z,76,15\n"
    )
    expected = [0, 990_070_000, 990_071_000, 2_490_070_000, 86_400_000_000_000 - 9_930_000]
    assert read_azure_csv(file, "chat").arrival_ns.tolist() == expected


def test_the_public_conversation_hour(shared: Path) -> None:
    trace = read_azure_csv(shared / "traces" / "azure2023" / "AzureLLMInferenceTrace_conv.csv", "chat")
    assert trace.requests == 19_366
    assert trace.prompt_tokens.mean() == pytest.approx(1155, abs=0.5)
    assert trace.output_tokens.mean() == pytest.approx(211, abs=0.5)
    assert trace.prompt_tokens.max() == 14_050
    assert trace.arrival_ns[-1] / 1e9 == pytest.approx(3501.7, abs=0.1)
    gaps = np.diff(trace.arrival_ns)
    assert gaps.std() / gaps.mean() == pytest.approx(1.09, abs=0.005)


def test_the_public_code_hour(shared: Path) -> None:
    trace = read_azure_csv(shared / "traces" / "azure2023" / "AzureLLMInferenceTrace_code.csv", "code")
    assert trace.requests == 8819
    assert trace.arrival_ns[-1] == 3_435_948_056_000
    assert trace.prompt_tokens.mean() == pytest.approx(2047.848, abs=5e-4)
    assert trace.output_tokens.mean() == pytest.approx(27.883, abs=5e-4)


def test_all_bad_rows_are_told_with_their_lines(file: Path) -> None:
    content = (
        HEADER
        + "2023-11-16 18:15:46.6805900,374,44\n"  # line 2
        + "2023-11-16 18:15:50.99516900000,396,109\n"
        + "2023-02-30 18:15:51,0x10,-5\n"
        + "2023-11-16 18:15:47,12.5,\n"
        + "2023-11-16 18:15:46.7,0,44,1\n"
        + "\n"
        + "2023-11-16 18:15:46.9,0,44\n"
        + "2023-11-16 18:15:61,1,44\n"
        + "2023-11-16 18:15:46.8, 9,٣\n"
    )
    assert problems(file, content) == [
        ":3: TIMESTAMP: is not an instant (got '2023-11-16 18:15:50.99516900000'). "
        "Write it like 2023-11-16 18:15:46.6805900.",
        ":4: TIMESTAMP: is not an instant (got '2023-02-30 18:15:51'). Write it like 2023-11-16 18:15:46.6805900.",
        ":4: ContextTokens: is not a whole number (got '0x10').",
        ":4: GeneratedTokens: tokens run from 1 to 2147483647 (got -5).",
        ":5: ContextTokens: is not a whole number (got '12.5').",
        ":5: GeneratedTokens: is not a whole number (got '').",
        ":6: has 4 cells (got '2023-11-16 18:15:46.7,0,44,1'). 3 are needed.",
        ":7: has 0 cells (got ''). 3 are needed.",
        ":8: TIMESTAMP: is earlier than the row above it, in seconds after the start (got 0.21941). "
        "Sort the rows by arrival.",
        ":8: ContextTokens: tokens run from 1 to 2147483647 (got 0).",
        ":9: TIMESTAMP: is not an instant (got '2023-11-16 18:15:61'). Write it like 2023-11-16 18:15:46.6805900.",
        ":10: ContextTokens: is not a whole number (got ' 9').",
        ":10: GeneratedTokens: is not a whole number (got '٣').",
        ":10: TIMESTAMP: is earlier than the row above it, in seconds after the start (got 0.11941). "
        "Sort the rows by arrival.",
    ]


def test_many_bad_rows_are_counted(file: Path) -> None:
    told = problems(file, HEADER + SAMPLE_2023 + "nonsense,1,1\n" * 500)
    assert len(told) == 21
    assert told[0].startswith(":6: TIMESTAMP")
    assert told[-1] == ": and 480 more problems like these."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": is empty. Give a header and at least one row."),
        (b" \n\n", ": is empty. Give a header and at least one row."),
        (HEADER.encode(), ": holds no requests. Give at least one row."),
        (
            b"timestamp,ContextTokens,GeneratedTokens\n1,1,1\n",
            ":1: has another header (got 'timestamp,ContextTokens,GeneratedTokens'). "
            "It must be TIMESTAMP,ContextTokens,GeneratedTokens.",
        ),
        (
            (HEADER + SAMPLE_2023).encode() + b"2023-11-16 18:15:52,\xff,1\n",
            ":6: is not UTF-8 text (got b'\\xff'). Save it as UTF-8.",
        ),
        ((HEADER + '"2023').encode(), ":2: is not comma-separated text: unexpected end of data."),
    ],
)
def test_files_that_are_no_trace(file: Path, content: bytes, expected: str) -> None:
    assert problems(file, content) == [expected]


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read: no such file or directory\. Check the path"):
        read_azure_csv(tmp_path / "absent.csv", "chat")
    with pytest.raises(InputError, match=r"cannot be read: is a directory\. Name a file"):
        read_azure_csv(tmp_path, "chat")
