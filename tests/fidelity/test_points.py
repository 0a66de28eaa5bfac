"""Points files: strict reading, units, and what is one measurement."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.fidelity.points import read_points
from sim.specs.errors import InputError

HEADER = "row_id,source,accelerator,n_accel,model,concurrency_or_rate,metric,value,unit,weight\n"


def write(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "points.csv"
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def test_rows_of_one_run_are_one_run_and_units_are_si(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "a,mine,H100,8,Llama-3.1-8B,conc=4,ttft_p99_ms,250,ms,0.5",
        "b,mine,H100,8,Llama-3.1-8B,conc=4,output_tok_s,800,tok/s,",
        "c,mine,H100,8,Llama-3.1-8B,conc=8,tpot_mean_ms,20,ms,",
    )
    first, second = read_points(path)
    assert [(each.kind, each.statistic, each.value, each.weight) for each in first.targets] == [
        ("ttft", "p99", 0.25, 0.5),
        ("throughput", "output", 100.0, 1.0),
    ]
    assert (second.targets[0].value, second.targets[0].line) == (0.02, 4)
    assert second.number("tp") is None


def test_one_measurement_is_scored_once(tmp_path: Path) -> None:
    metrics = ("output_tok_s", "output_tok_s_per_accel", "input_tok_s", "output_tok_s_per_accel_derived", "watts")
    path = write(tmp_path, *(f"r,mine,H100,2,Llama-3.1-8B,conc=4,{metric},10,," for metric in metrics))
    (run,) = read_points(path)
    scored = [each.metric for each in run.targets if each.kind]
    assert scored == ["output_tok_s_per_accel"]
    assert all(each.why_not for each in run.targets if not each.kind)


def test_times_of_single_gaps_are_not_times_of_requests(tmp_path: Path) -> None:
    path = write(tmp_path, "r,mine,H100,1,m,conc=1,itl_p99_ms,10,,", "r,mine,H100,1,m,conc=1,itl_mean_ms,10,,")
    (run,) = read_points(path)
    assert [(each.kind, each.statistic) for each in run.targets] == [("", ""), ("tpot", "mean")]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (["a,mine,H100,8,,conc=4,ttft_ms,1,,"], HEADER, r"points.csv:2: model: must not be empty"),
        (["a,mine,H100,8,m,conc=4,ttft_ms,fast,,"], HEADER, r":2: value: must be a finite number above 0"),
        (["a,mine,H100,8,m,conc=4,ttft_ms,0,,"], HEADER, r":2: value: must be a finite number above 0"),
        (["a,mine,H100,8,m,conc=4,ttft_ms,inf,,"], HEADER, r":2: value: must be a finite number above 0"),
        (["a,mine,H100,8,m,conc=4,ttft_ms,1,,-2"], HEADER, r":2: weight: must be a finite number above 0"),
        (["a,mine,H100,8,m,conc=4,ttft_ms,1,,", "a,b"], HEADER, r":3: has more or fewer cells"),
        (["a"], "row_id\n", r"has no such column"),
        (["H100,m,ttft_ms,1,2"], "accelerator,model,metric,value,modell\n", r"unknown column"),
        ([], HEADER, r"holds no rows"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, rows: list[str], header: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_points(write(tmp_path, *rows, header=header))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_points(tmp_path / "nothing.csv")
