"""Results of benchmark clients, as they write them, become runs; what they leave open is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import sim
from sim.cli import main
from sim.fidelity.benchmark_files import MeasuredSystem, read_measurements
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import MeasuredRun
from sim.specs.errors import InputError

SYSTEM = MeasuredSystem("h100-sxm", 1, "", 1, "bf16", "vllm")
NAMED = MeasuredSystem("h100-sxm", 1, "meta-llama/Llama-3.1-8B-Instruct", 1, "bf16", "vllm", "conc=32")

VLLM: dict[str, Any] = {
    "date": "20261120-101500", "endpoint_type": "vllm", "label": None, "model_id": "meta-llama/Llama-3.1-8B-Instruct",
    "tokenizer_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 320, "request_rate": "inf", "burstiness": 1.0,
    "max_concurrency": 32, "duration": 61.2, "completed": 320, "failed": 0, "total_input_tokens": 327680,
    "total_output_tokens": 81920, "request_throughput": 5.23, "request_goodput": None, "output_throughput": 1338.5,
    "total_token_throughput": 6692.0, "mean_ttft_ms": 182.0, "median_ttft_ms": 140.0, "std_ttft_ms": 120.0,
    "p99_ttft_ms": 690.0, "mean_tpot_ms": 21.6, "median_tpot_ms": 21.5, "std_tpot_ms": 1.1, "p99_tpot_ms": 24.0,
    "mean_itl_ms": 21.6, "median_itl_ms": 20.1, "std_itl_ms": 9.0, "p99_itl_ms": 62.0, "mean_e2el_ms": 5700.0,
}  # fmt: skip

AIPERF: dict[str, Any] = {
    "schema_version": "1.4",
    "request_throughput": {"unit": "requests/sec", "avg": 5.23},
    "request_latency": {"unit": "ms", "avg": 5700.0, "p1": 5200.0, "p50": 5690.0, "p90": 6100.0, "p99": 6500.0},
    "time_to_first_token": {"unit": "ms", "avg": 182.0, "p50": 140.0, "p90": 420.0, "p99": 690.0, "std": 120.0},
    "inter_token_latency": {"unit": "ms", "avg": 21.6, "p50": 21.5, "p90": 22.9, "p99": 24.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1338.5},
    "output_sequence_length": {"unit": "tokens", "avg": 256.0, "p50": 256.0},
    "input_sequence_length": {"unit": "tokens", "avg": 1024.0, "p50": 1024.0},
    "request_count": {"unit": "requests", "avg": 320.0},
    "error_summary": [],
    "input_config": {
        "endpoint": {"model_names": ["meta-llama/Llama-3.1-8B-Instruct"], "type": "chat", "streaming": True},
        "loadgen": {"concurrency": 32, "request_rate_mode": "concurrency_burst", "request_count": 320},
    },
}

GENAI_PERF: dict[str, Any] = {
    **{key: value for key, value in AIPERF.items() if key not in ("input_config", "schema_version")},
    "time_to_first_token": {"unit": "s", "avg": 0.182, "p50": 0.140, "p99": 0.690},
    "input_config": {"model": ["meta-llama/Llama-3.1-8B-Instruct"], "perf_analyzer": {"stimulus": {"concurrency": 32}}},
}

GENAI_CSV = """Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),182.00,61.00,702.00,690.00,520.00,420.00,230.00,140.00,90.00
Time To Second Token (ms),21.10,0.00,64.00,60.00,31.00,28.00,22.00,20.90,20.10
Request Latency (ms),"5,700.00","5,100.00","6,600.00","6,500.00","6,200.00","6,100.00","5,800.00","5,690.00","5,500.00"
Inter Token Latency (ms),21.60,19.10,24.40,24.00,23.40,22.90,22.10,21.50,21.00
Output Sequence Length (tokens),256.00,250.00,260.00,259.00,258.00,257.00,256.00,256.00,255.00
Input Sequence Length (tokens),"1,024.00","1,020.00","1,030.00","1,029.00","1,028.00",1026,1025,"1,024.00",1023

Metric,Value
Output Token Throughput (per sec),"1,338.50"
Request Throughput (per sec),5.23
"""

AIPERF_CSV = """Metric,avg,min,max,sum,p1,p5,p10,p25,p50,p75,p90,p95,p99,std
Request Latency (ms),5700.00,5100.00,6600.00,1824000.00,5110,5200,5250,5500,5690.00,5800,6100,6200,6500.00,310
Time to First Token (ms),182.00,61.00,702.00,58240.00,62,70,75,90,140.00,230,420,520,690.00,120
Inter Token Latency (ms),21.60,19.10,24.40,6912.00,19.2,19.9,20.2,21,21.50,22.1,22.9,23.4,24.00,1.1
Output Sequence Length (tokens),256.00,250,260,81920,250,251,252,255,256,256,257,258,259,2
Input Sequence Length (tokens),1024.00,1020,1030,327680,1020,1021,1021,1023,1024,1025,1026,1028,1029,2

Metric,Value
Request Count (requests),320.00
Output Token Throughput (tokens/sec),1338.50

Endpoint,GPU_Index,GPU_Name,GPU_UUID,Metric,avg,min,max
localhost:9401,0,NVIDIA H100,GPU-1,GPU Power Usage (W),612.0,90.0,700.0
"""

FILES = {
    "vllm.json": (json.dumps(VLLM), SYSTEM),
    "aiperf.json": (json.dumps(AIPERF), SYSTEM),
    "genai_perf.json": (json.dumps(GENAI_PERF), SYSTEM),
    "genai_perf.csv": (GENAI_CSV, NAMED),
    "aiperf.csv": (AIPERF_CSV, NAMED),
}


def read(tmp_path: Path, name: str, text: str, system: MeasuredSystem | None) -> MeasuredRun:
    (tmp_path / name).write_text(text)
    (run,) = read_measurements(tmp_path / name, system)
    return run


@pytest.mark.parametrize("name", FILES)
def test_one_run_is_read_alike_from_every_client(tmp_path: Path, name: str) -> None:
    run = read(tmp_path, name, *FILES[name])
    values = {(each.kind, each.statistic): each.value for each in run.targets if each.kind}
    expected = {
        ("ttft", "mean"): 0.182, ("ttft", "p99"): 0.690, ("tpot", "mean"): 0.0216, ("e2e", "mean"): 5.7,
        ("throughput", "output"): 1338.5, ("ttft", "p50"): 0.140,
    }  # fmt: skip
    assert {key: values[key] for key in expected} == pytest.approx(expected)
    assert values["tpot", "p99"] == pytest.approx(0.024)
    system = Mapper(fidelity_library()).system(run)
    assert (system.load.kind, system.load.amount) == ("closed", 32.0)
    assert (system.lengths.prompt_tokens, system.lengths.output_tokens) == (1024.0, 256.0)
    assert (system.model.name, system.hardware.name) == ("llama-3.1-8b", "h100-sxm")


def test_a_file_that_does_not_say_the_load_needs_it(tmp_path: Path) -> None:
    silent = MeasuredSystem("h100-sxm", 1, "Llama-3.1-8B", 1, "bf16", "vllm")
    with pytest.raises(InputError, match="--load"):
        read(tmp_path, "genai_perf.csv", GENAI_CSV, silent)
    rate = MeasuredSystem("h100-sxm", 1, "Llama-3.1-8B", 1, "bf16", "vllm", "rate=5/s")
    load = Mapper(fidelity_library()).system(read(tmp_path, "genai_perf.csv", GENAI_CSV, rate)).load
    assert (load.kind, load.amount) == ("open", 5.0)


def test_a_broken_number_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"genai_perf.csv:2: Time To First Token: is not a number"):
        read(tmp_path, "genai_perf.csv", GENAI_CSV.replace("182.00", "fast", 1), NAMED)
    with pytest.raises(InputError, match="does not say what it ran on"):
        read(tmp_path, "genai_perf.csv", GENAI_CSV, None)


def test_points_that_begin_with_their_metric_are_points(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("metric,value,accelerator,model\ntpot_mean_ms,9,H100,Llama-3.1-8B\n")
    assert read_measurements(path)[0].columns["accelerator"] == "H100"


def test_from_a_users_own_results_to_a_run_with_her_stack(tmp_path: Path) -> None:
    """The way of a user: three results of her client, a calibration, a scenario that names it."""
    (tmp_path / "serving_stacks").mkdir()
    stack = tmp_path / "serving_stacks" / "mine.yaml"
    for users, tpot, ttft in ((1, 8.0, 31.0), (32, 13.0, 182.0), (128, 24.0, 600.0)):
        changed = VLLM | {
            "max_concurrency": users,
            "mean_tpot_ms": tpot,
            "mean_ttft_ms": ttft,
            "output_throughput": None,
        }
        kept = {
            key: value
            for key, value in changed.items()
            if not key.startswith(("median", "p99", "mean_e2el", "mean_itl"))
        }
        (tmp_path / f"bench-{users}.json").write_text(json.dumps(kept))
    files = [str(path) for path in sorted(tmp_path.glob("bench-*.json"))]
    command = ["calibrate", *files, "--accelerator", "h100-sxm", "--precision", "bf16", "-o", str(stack), "--quiet"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "determined by" in done.output
    scenario = tmp_path / "mine.yaml"
    scenario.write_text(
        "kind: scenario\nname: mine\ntitle: mine\nduration: 3 min\nwarm_up: 30 s\ndrain: 10 min\n"
        "timeline_interval: 10 s\nprice_basis: [on_demand]\n"
        "traffic:\n  chat: {workload: realtime-chat, rate: 1 requests/s}\n"
        "fleet:\n  main: {hardware: h100-sxm, model: llama-3.1-8b, replicas: 1, serving_stack: mine}\n"
    )
    result = sim.simulate(sim.load(str(scenario)))
    pool: Any = result.manifest["pools"]["mine"][0]  # type: ignore[index]
    assert pool["validity"]["known"] == "calibrated"
    assert pool["validity"]["most_sequences"] == 128.0
    assert 0.006 < result.summary("tpot_s", "chat")["value"].iloc[0] < 0.012
