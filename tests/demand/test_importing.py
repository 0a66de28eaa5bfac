"""Importers: every published schema as published, and a malformed row in each is named by its line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.demand.importing import FORMATS, ImportOptions, import_trace
from sim.demand.record_reading import as_nanoseconds, as_tokens
from sim.demand.recorded import follow_ups
from sim.demand.trace import Trace
from sim.demand.trace_files import read_trace
from sim.specs.errors import InputError


def lines(*records: dict[str, Any]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def span(conversation: str, start: float, end: float, prompt: int, output: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.conversation.id": {"stringValue": conversation},
        "gen_ai.usage.input_tokens": {"intValue": str(prompt)},
        "gen_ai.usage.output_tokens": {"intValue": output},
    } | more
    return {
        "traceId": "t", "spanId": "s", "startTimeUnixNano": str(round(start * 1e9)),
        "endTimeUnixNano": str(round(end * 1e9)),
        "attributes": [{"key": key, "value": value} for key, value in values.items()],
    }  # fmt: skip


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}]}]}


def vllm(**changes: Any) -> str:
    document = {
        "start_times": [10.0, 10.5, 12.0], "input_lens": [5, 6, 7], "output_lens": [1, 2, 3],
        "ttfts": [0.1, 0.2, 0.3], "itls": [[], [0.05], [0.1, 0.1]], "errors": ["", "", ""],
    }  # fmt: skip
    return json.dumps(document | changes)


def aiperf(start: int, prompt: object, output: int, **more: Any) -> dict[str, Any]:
    metadata = {"request_start_ns": start, "request_end_ns": start + 10**9, "x_correlation_id": "c",
                "benchmark_phase": "profiling"}  # fmt: skip
    metrics = {
        "input_sequence_length": {"value": prompt, "unit": "tokens"},
        "output_sequence_length": {"value": output, "unit": "tokens"},
    }
    return {"metadata": metadata | more, "metrics": metrics, "error": None}


GOOD: dict[str, str] = {
    "azure": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,5,1\n2023-11-16 18:15:47.1805900,6,2\n"
        "2023-11-16 18:15:48.6805900,7,3\n"
    ),
    "burstgpt": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,a,0.25,ChatGPT,5,1,6,API log\n5.5,a,1,GPT-4,6,2,8,API log\n7,,2,ChatGPT,7,3,10,Conversation log\n"
    ),
    "mooncake": lines(
        {"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]},
        {"timestamp": 500, "input_length": 6, "output_length": 2, "hash_ids": [2]},
        {"timestamp": 2000, "input_length": 7, "output_length": 3, "hash_ids": [3]},
    ),
    "ragpulse": lines(
        {"timestamp": "82", "input_length": 5, "output_length": 1, "hash_ids": {"history": [1]}, "session_id": "1-a"},
        {"timestamp": "82.5", "input_length": 6, "output_length": 2, "hash_ids": {}, "session_id": "1-b"},
        {"timestamp": "84", "input_length": 7, "output_length": 3, "hash_ids": {}, "session_id": "1-a"},
    ),
    "vllm-bench": vllm(),
    "aiperf": lines(
        aiperf(10 * 10**9, 5, 1), aiperf(10_500_000_000, 6, 2, x_correlation_id="d"), aiperf(12 * 10**9, 7, 3)
    ),
    "openai-log": lines(
        {"created": 1000, "usage": {"prompt_tokens": 5, "completion_tokens": 1}, "session_id": "a"},
        {"response": {"body": {"created_at": 1000.5, "usage": {"input_tokens": 6, "output_tokens": 2}}}},
        {"response": {"created": 1002, "usage": {"prompt_tokens": 7, "completion_tokens": 3}}},
    ),
    "otel": lines(otlp(span("a", 10.0, 10.4, 5, 1)), otlp(span("b", 10.5, 11.0, 6, 2), span("a", 12.0, 13.0, 7, 3))),
    "csv": "arrival,prompt_tokens,output_tokens\n3,5,1\n3.5,6,2\n5,7,3\n",
}
BAD: dict[str, tuple[str, int, str]] = {
    "azure": (GOOD["azure"].replace(",6,2", ",six,2"), 3, "ContextTokens"),
    "burstgpt": (GOOD["burstgpt"].replace("5.5,a", "soon,a"), 3, "Timestamp"),
    "mooncake": (GOOD["mooncake"].replace('"input_length": 6', '"input_length": 6.5'), 2, "input_length"),
    "ragpulse": (GOOD["ragpulse"].replace('"82.5"', '"x"'), 2, "timestamp"),
    "vllm-bench": (vllm(input_lens=[5, "six", 7]), 2, "input_lens"),
    "aiperf": (lines(aiperf(1, 5, 1), aiperf(2, None, 2), aiperf(3, 7, 3)), 2, "metrics.input_sequence_length.value"),
    "openai-log": (GOOD["openai-log"].replace('"input_tokens": 6', '"input_tokens": true'), 2, "input_tokens"),
    "otel": (GOOD["otel"].replace('{"intValue": "6"}', '{"stringValue": "many"}'), 2, "gen_ai.usage.input_tokens"),
    "csv": (GOOD["csv"].replace("3.5,6,2", "3.5,6"), 3, "cells"),
}


def imported(tmp_path: Path, form: str, text: str, **options: Any) -> Trace:
    path = tmp_path / "recorded"
    path.write_text(text, encoding="utf-8")
    return import_trace(path, form, ImportOptions(**options)).trace


def refused(tmp_path: Path, form: str, text: str, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        imported(tmp_path, form, text, **options)
    return "\n".join(str(problem) for problem in error.value.problems)


def test_all_formats_are_tested() -> None:
    assert {*GOOD, "servegen"} == set(FORMATS) == {*BAD, "servegen"}


@pytest.mark.parametrize("form", GOOD)
def test_a_published_schema_is_read(tmp_path: Path, form: str) -> None:
    trace = imported(tmp_path, form, GOOD[form], class_name="mine")
    assert trace.classes == ("mine",)
    assert trace.arrival_ns.tolist() == [0, 500_000_000, 2_000_000_000]
    assert trace.prompt_tokens.tolist() == [5, 6, 7]
    assert trace.output_tokens.tolist() == [1, 2, 3]
    assert trace.cached_tokens.tolist() == [0, 0, 0]


@pytest.mark.parametrize("form", BAD)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, form: str) -> None:
    text, line, field = BAD[form]
    told = refused(tmp_path, form, text)
    assert f"recorded:{line}: " in told
    assert field in told
    assert told.count("recorded:") == 1


@pytest.mark.parametrize("form", [form for form in GOOD if form != "vllm-bench"])
def test_rubbish_between_rows_is_named_and_so_is_an_empty_file(tmp_path: Path, form: str) -> None:
    text = GOOD[form]
    assert f"recorded:{text.count(chr(10)) + 1}: " in refused(tmp_path, form, text + "rubbish\n")
    assert refused(tmp_path, form, "")


@pytest.mark.parametrize("form", GOOD)
def test_packed_files_are_read_alike(tmp_path: Path, form: str) -> None:
    plain = imported(tmp_path, form, GOOD[form])
    path = tmp_path / "packed"
    path.write_bytes(gzip.compress(GOOD[form].encode()))
    packed = import_trace(path, form).trace
    assert packed.to_frame().equals(plain.to_frame())
    path.write_bytes(gzip.compress(GOOD[form].encode())[:-9])
    with pytest.raises(InputError, match=r"breaks off|cannot be read"):
        import_trace(path, form)


@pytest.mark.parametrize("form", ["azure", "mooncake", "csv"])
def test_text_that_is_not_utf8_is_named_by_line(tmp_path: Path, form: str) -> None:
    path = tmp_path / "recorded"
    path.write_bytes(GOOD[form].encode() + b"\xff\xfe\n")
    with pytest.raises(InputError, match="UTF-8"):
        import_trace(path, form)


@pytest.mark.parametrize("form", GOOD)
def test_what_is_written_comes_back(tmp_path: Path, form: str) -> None:
    trace = imported(tmp_path, form, GOOD[form])
    trace.to_frame().to_parquet(tmp_path / "trace.parquet", index=False)
    back = read_trace(tmp_path / "trace.parquet", "unused")
    for name in ("arrival_ns", "prompt_tokens", "output_tokens", "session"):
        assert np.array_equal(getattr(back, name), getattr(trace, name)), name


def test_another_header_and_another_format_are_refused(tmp_path: Path) -> None:
    assert "header lacks TIMESTAMP" in refused(tmp_path, "azure", GOOD["burstgpt"])
    assert "header lacks arrival" in refused(tmp_path, "csv", GOOD["azure"])
    assert "is not a format" in refused(tmp_path, "mooncakes", GOOD["mooncake"])


def test_azure_of_2024_and_the_multimodal_one_are_read(tmp_path: Path) -> None:
    text = (
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00+00:00,0,5,1\n"
        "2024-05-10 00:00:00.009930+00:00,2,6,2\n2024-05-10T02:00:01Z,0,7,3\n"
    )
    assert imported(tmp_path, "azure", text).arrival_ns.tolist() == [0, 9_930_000, 7_201_000_000_000]


def test_blocks_that_any_earlier_request_had_are_cached(tmp_path: Path) -> None:
    text = lines(
        {"timestamp": 0, "input_length": 1500, "output_length": 9, "hash_ids": [0, 1, 2]},
        {"timestamp": 1, "input_length": 2000, "output_length": 9, "hash_ids": [0, 1, 7, 2]},
        {"timestamp": 2, "input_length": 1024, "output_length": 9, "hash_ids": [0, 1]},
        {"timestamp": 3, "input_length": 600, "output_length": 9, "hash_ids": [1, 2]},
    )
    # a whole prompt in the cache still computes its last token; a block counts wherever its chain has come before
    assert imported(tmp_path, "mooncake", text).cached_tokens.tolist() == [0, 1024, 1023, 599]


def test_failures_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "recorded"
    path.write_text(GOOD["burstgpt"] + "8,,0,GPT-4,90,0,90,API log\n9,,0,GPT-4,0,0,0,API log\n")
    found = import_trace(path, "burstgpt")
    assert found.trace.requests == 3
    assert found.left_out == {"without output": 2}
    path.write_text(vllm(errors=["", "timeout", ""]))
    assert import_trace(path, "vllm-bench").left_out == {"with an error": 1}
    path.write_text(GOOD["aiperf"] + lines(aiperf(1, 5, 1, benchmark_phase="warmup"), {"error": {"code": 500}}))
    assert import_trace(path, "aiperf").left_out == {"of the warm-up": 1, "with an error": 1}
    agent = span("a", 9.0, 14.0, 12, 4, **{"gen_ai.operation.name": {"stringValue": "invoke_agent"}})
    path.write_text(GOOD["otel"] + lines(otlp(agent)))
    assert import_trace(path, "otel").left_out == {"of agents, tools, embeddings and memory": 1}
    failed = span("a", 9.0, 14.0, 12, 4, **{"error.type": {"stringValue": "timeout"}})
    path.write_text(GOOD["otel"] + lines(otlp(failed, failed | {"attributes": [], "status": {"code": 2}})))
    assert import_trace(path, "otel").left_out == {"with an error": 1, "without usage": 1}


def test_only_failures_are_no_trace(tmp_path: Path) -> None:
    header = GOOD["burstgpt"].splitlines()[0]
    assert "2 without output" in refused(tmp_path, "burstgpt", f"{header}\n1,,0,m,5,0,5,l\n2,,0,m,5,0,5,l\n")


def test_cached_tokens_of_logs_and_spans_are_kept(tmp_path: Path) -> None:
    usage = {"prompt_tokens": 50, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 32}}
    assert imported(tmp_path, "openai-log", lines({"created": 1, "usage": usage})).cached_tokens.tolist() == [32]
    cached = span("a", 1.0, 2.0, 50, 1, **{"gen_ai.usage.cache_read.input_tokens": {"intValue": "50"}})
    assert imported(tmp_path, "otel", lines(otlp(cached))).cached_tokens.tolist() == [49]


def test_spans_of_older_conventions_are_read_and_a_broken_cache_is_named(tmp_path: Path) -> None:
    text = lines(otlp(span("a", 1.0, 2.0, 50, 9))).replace("input_tokens", "prompt_tokens")
    trace = imported(tmp_path, "otel", text.replace("output_tokens", "completion_tokens"))
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([50], [9])
    broken = span("a", 1.0, 2.0, 50, 1, **{"gen_ai.usage.cache_read.input_tokens": {"stringValue": "lots"}})
    assert "recorded:1: gen_ai.usage.cache_read.input_tokens" in refused(tmp_path, "otel", lines(otlp(broken)))


RUBBISH = (None, True, -1, 1.5, 1e400, "x", "", [], {}, [None], {"value": None})


def mutations(value: Any) -> list[Any]:
    """Return copies of a JSON value in which one part, at any depth, is something else."""
    found: list[Any] = list(RUBBISH)
    if isinstance(value, dict):
        for key, part in value.items():
            found += [value | {key: each} for each in mutations(part)]
            found.append({name: each for name, each in value.items() if name != key})
    elif isinstance(value, list):
        for place, part in enumerate(value):
            found += [[*value[:place], each, *value[place + 1 :]] for each in mutations(part)]
    return found


@pytest.mark.parametrize("form", ["mooncake", "ragpulse", "aiperf", "openai-log", "otel", "vllm-bench"])
def test_whatever_a_line_holds_it_is_read_left_out_or_named(tmp_path: Path, form: str) -> None:
    """The second line of a good file takes every shape that its parts can take."""
    path = tmp_path / "recorded"
    first, second, *rest = GOOD[form].splitlines() if form != "vllm-bench" else ("", GOOD[form])
    for number, mutated in enumerate(mutations(json.loads(second))):
        told = json.dumps(mutated)
        path.write_text("\n".join([*filter(None, [first]), told, *rest]) + "\n", encoding="utf-8")
        try:
            found = import_trace(path, form)
        except InputError as error:
            problems = [str(problem) for problem in error.problems]
            assert all("recorded" in problem for problem in problems), (number, told)
            if form != "vllm-bench":
                assert all(problem.split("recorded:")[1].startswith("2:") for problem in problems), (told, problems)
        else:
            # a line of spans may hold none
            assert found.trace.requests + sum(found.left_out.values()) >= (2 if rest else 1), told


def test_a_closed_loop_follows_the_answer_that_came_last(tmp_path: Path) -> None:
    spans = [
        span("a", 10.0, 12.0, 5, 1), span("a", 13.5, 20.0, 9, 1), span("a", 13.6, 14.0, 9, 1),
        span("a", 21.0, 22.0, 30, 1), span("b", 11.0, 12.0, 5, 1),
    ]  # fmt: skip
    trace = imported(tmp_path, "otel", lines(otlp(*spans)), closed_loop=True, session_prefix=True)
    assert trace.follows is not None
    assert trace.gap_ns is not None
    assert trace.session is not None
    # the first call of each session arrives on its own; two run beside each other, the last waits for the longer one
    prompts = trace.prompt_tokens.tolist()
    assert prompts == [5, 9, 9, 30, 5]
    assert trace.follows.tolist() == [-1, 0, 0, 1, -1]
    assert (trace.gap_ns / 1e9).tolist() == pytest.approx([0.0, 1.5, 1.6, 1.0, 0.0])
    assert trace.arrival_ns.tolist() == [0, 0, 0, 0, 1_000_000_000]
    assert trace.session.tolist() == [0, 0, 0, 0, 1]
    assert trace.cached_tokens.tolist() == [0, 5, 8, 9, 0]


def test_follow_ups_never_point_forward() -> None:
    generator = np.random.default_rng(1)
    arrival = np.sort(generator.integers(0, 1000, 300))
    end = arrival + generator.integers(0, 50, 300)
    session = generator.integers(0, 20, 300).astype(np.int32)
    follows, gaps = follow_ups(arrival, end, session)
    for row in range(300):
        earlier = [
            other for other in range(row) if session[other] == session[row] and end[other] <= arrival[row]
        ]  # fmt: skip
        if not earlier:
            assert follows[row] == -1
            continue
        assert gaps[row] == arrival[row] - max(end[other] for other in earlier)
        assert end[follows[row]] == arrival[row] - gaps[row]
        assert session[follows[row]] == session[row]


def test_a_closed_loop_needs_sessions_and_ends(tmp_path: Path) -> None:
    assert "needs sessions" in refused(tmp_path, "azure", GOOD["azure"], closed_loop=True)
    assert "needs sessions" in refused(tmp_path, "ragpulse", GOOD["ragpulse"], closed_loop=True)


def test_a_coarse_clock_is_told_and_can_be_spread(tmp_path: Path) -> None:
    records = [
        {"timestamp": 3000 * (row // 10), "input_length": 5 + row, "output_length": 1, "hash_ids": []}
        for row in range(100)
    ]
    path = tmp_path / "recorded"
    path.write_text(lines(*records))
    found = import_trace(path, "mooncake")
    assert any("share 10 instants" in note for note in found.notes)
    spread = import_trace(path, "mooncake", ImportOptions(spread_s=3.0)).trace
    assert np.unique(spread.arrival_ns).size > 95
    assert (spread.arrival_ns // 3_000_000_000 == np.arange(100) // 10).all()
    assert spread.prompt_tokens.tolist() == found.trace.prompt_tokens.tolist()
    # no request is moved beyond the next instant
    wide = import_trace(path, "mooncake", ImportOptions(spread_s=9.0)).trace
    assert (wide.arrival_ns[:90] // 3_000_000_000 == np.arange(90) // 10).all()


def test_rows_out_of_order_are_sorted_and_told(tmp_path: Path) -> None:
    path = tmp_path / "recorded"
    path.write_text("arrival,prompt_tokens,output_tokens\n5,7,3\n3,5,1\n")
    found = import_trace(path, "csv")
    assert found.trace.prompt_tokens.tolist() == [5, 7]
    assert any("sorted" in note for note in found.notes)


def test_columns_of_a_csv_file_are_mapped(tmp_path: Path) -> None:
    text = 'ts,in,out,user,took,"a,b"\n1000,5,1,x,250,1\n2000,6,2,x,,2\n"2500",7,3,y,10,3\n'
    columns = {
        "arrival": "ts", "prompt_tokens": "in", "output_tokens": "out", "session": "user", "duration": "took",
        "cached_tokens": "a,b",
    }  # fmt: skip
    trace = imported(tmp_path, "csv", text, columns=columns, time_unit="ms", closed_loop=True)
    assert trace.follows is not None
    assert trace.gap_ns is not None
    assert trace.follows.tolist() == [-1, 0, -1]
    assert trace.gap_ns.tolist() == [0, 750_000_000, 0]
    assert trace.cached_tokens.tolist() == [1, 2, 3]
    iso = "arrival,prompt_tokens,output_tokens\n2025-01-01T00:00:00Z,5,1\n2025-01-01T01:00:00.5+01:00,6,1\n"
    assert imported(tmp_path, "csv", iso).arrival_ns.tolist() == [0, 500_000_000]
    assert "is no role" in refused(tmp_path, "csv", text, columns={"prompt": "in"})


def servegen(tmp_path: Path, trace: str) -> Path:
    path = tmp_path / "chunk-3-trace.csv"
    path.write_text(trace)
    tables = {
        "0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{1: 1.0}"},
        "21600": {"input_tokens": "{30: 1.0}", "output_tokens": "{2: 0.25, 4: 0.75}"},
    }
    (tmp_path / "chunk-3-dataset.json").write_text(json.dumps(tables))
    return path


def test_a_servegen_client_is_drawn_from_its_windows_and_tables(tmp_path: Path) -> None:
    path = servegen(tmp_path, "0,10,1.0,Gamma,1,1\n600,0,,,,\n1200,20,3.0,Weibull,0.4,1\n21600,5,0,,,\n")
    trace = import_trace(path, "servegen").trace
    # instants count from the first request, a moment after the first window began
    seconds = trace.arrival_ns / 1e9
    window = np.select([seconds < 605, seconds < 1195, seconds < 1805, seconds < 21_595], [0, 1, 2, 3], 36)
    counts = np.bincount(window, minlength=37)
    assert np.flatnonzero(counts).tolist() == [0, 2, 36]
    assert counts[0] == pytest.approx(6000, abs=4 * np.sqrt(6000))
    assert counts[2] == pytest.approx(12_000, abs=4 * 3 * np.sqrt(12_000))
    assert set(trace.prompt_tokens[window < 36].tolist()) == {10, 20}
    assert set(trace.prompt_tokens[window == 36].tolist()) == {30}
    late = trace.output_tokens[window == 36]
    assert (late == 4).mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.19 / late.size))
    assert import_trace(path, "servegen").trace.to_frame().equals(trace.to_frame())


@pytest.mark.parametrize("row", ["600,ten,1,Gamma,1,1", "600,10,1,Pareto,1,1", "600,10,1", "600,-1,1,Gamma,1,1"])
def test_a_malformed_servegen_window_is_named_by_its_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=r"chunk-3-trace\.csv:2: "):
        import_trace(servegen(tmp_path, f"0,10,1.0,Gamma,1,1\n{row}\n"), "servegen")


def test_servegen_needs_its_tables(tmp_path: Path) -> None:
    path = servegen(tmp_path, "0,10,1.0,Gamma,1,1\n")
    (tmp_path / "chunk-3-dataset.json").write_text('{"0": {"input_tokens": "{}"}}')
    with pytest.raises(InputError, match="table of token counts"):
        import_trace(path, "servegen")
    (tmp_path / "chunk-3-dataset.json").unlink()
    with pytest.raises(InputError, match="no data set"):
        import_trace(path, "servegen")


@pytest.mark.parametrize(
    ("value", "per_second", "expected"),
    [
        ("1.5", 1, 1_500_000_000), (3, 1000, 3_000_000), ("1e-9", 1, 1), ("1970-01-01 00:00:01", 1, 10**9),
        ("1970-01-01T01:00:00.000000001+01:00", 1, 1), ("nan", 1, None), ("", 1, None), (True, 1, None),
        ("1e30", 1, None), (None, 1, None), ("yesterday", 1, None), ("inf", 1, None),
    ],
)  # fmt: skip
def test_times_are_exact_or_none(value: object, per_second: int, expected: int | None) -> None:
    assert as_nanoseconds(value, per_second) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(5, 5), ("5", 5), (True, None), (5.0, None), ("5.0", None), ("-5", None), (None, None)]
)
def test_tokens_are_whole_or_none(value: object, expected: int | None) -> None:
    assert as_tokens(value) == expected


def test_published_traces_are_read(shared: Path) -> None:
    azure = import_trace(shared / "traces/azure2023/AzureLLMInferenceTrace_conv.csv", "azure").trace
    assert azure.requests == 19_366
    assert azure.prompt_tokens.mean() == pytest.approx(1154.7, abs=0.05)
    rag = import_trace(shared / "traces/ragpulse/trace_first5days.jsonl", "ragpulse").trace
    assert rag.session is not None
    sizes = np.unique(rag.session, return_counts=True)[1]
    assert sizes.mean() == pytest.approx(1.78, abs=0.01)
