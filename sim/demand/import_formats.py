"""Published formats of recorded traffic: how the rows of each become requests.

Every reader takes the file and the rows that it fills, streams the file, and rejects malformed lines one by one.
Schemas as published: Azure LLM inference traces 2023, 2024 and multimodal 2025 (github.com/Azure/AzurePublicDataset);
BurstGPT (arXiv 2401.17644); Mooncake (FAST 2025); ServeGen (arXiv 2505.09999); RAGPulse (arXiv 2511.12979); `vllm bench
serve --save-detailed`; AIPerf `profile_export.jsonl`; OpenAI completion and response objects; OTLP JSON with the
OpenTelemetry conventions for generative AI.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sim.demand.record_reading import as_nanoseconds, as_tokens, json_document, json_lines, text_lines
from sim.demand.recorded import RecordedRows
from sim.specs.errors import InputError, Problem

MOONCAKE_BLOCK_TOKENS = 512
"""Tokens of a block in the `hash_ids` of Mooncake, by its publication."""

_USAGE = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
_OLD_USAGE = ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens")
_CACHED = "gen_ai.usage.cache_read.input_tokens"
_NO_CALLS = ("create_agent", "embeddings", "execute_tool", "invoke_agent", "invoke_workflow", "plan", "retrieval")
_FAILED = (2, "STATUS_CODE_ERROR")

_NO_NUMBER = "is not a whole number"
_NO_TIME = "is not a time"


def csv_rows(path: Path, rows: RecordedRows) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and cells by column name; the first line holds the names, rows of other width are rejected."""
    lines = text_lines(path)
    first = next(lines, None)
    if first is None:
        raise InputError([Problem("is empty", str(path), remedy="Give a header and at least one row.")])
    header = next(csv.reader([first[1]]))
    yield first[0], dict.fromkeys(header, "")
    for line, text in lines:
        cells = next(csv.reader([text])) if '"' in text else text.split(",")
        if len(cells) != len(header):
            rows.reject(line, "", f"has {len(cells)} cells, {len(header)} are needed", text[:60])
            continue
        yield line, dict(zip(header, cells, strict=True))


def _table(path: Path, rows: RecordedRows, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    table = csv_rows(path, rows)
    line, header = next(table)
    missing = [name for name in needed if name not in header]
    if missing:
        remedy = f"This format has {', '.join(needed)}."
        raise InputError([Problem(f"header lacks {', '.join(missing)}", str(path), "", ",".join(header), remedy, line)])
    yield from table


def _read(rows: RecordedRows, line: int, record: dict[str, Any], field: str) -> int | None:
    """Return the whole number at a dotted path, or reject the line."""
    value: Any = record
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    number = as_tokens(value)
    if number is None:
        rows.reject(line, field, "is missing" if value is None else _NO_NUMBER, value)
    return number


def _time(rows: RecordedRows, line: int, record: dict[str, Any], field: str, per_second: int = 1) -> int | None:
    value: Any = record
    for key in field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    instant = as_nanoseconds(value, per_second)
    if instant is None:
        rows.reject(line, field, "is missing" if value is None else _NO_TIME, value)
    return instant


def read_azure(path: Path, rows: RecordedRows) -> None:
    """`TIMESTAMP,ContextTokens,GeneratedTokens`, with or without zone and decimals; `NumImages` is not used."""
    for line, record in _table(path, rows, ("TIMESTAMP", "ContextTokens", "GeneratedTokens")):
        instant = _time(rows, line, record, "TIMESTAMP")
        prompt, output = (_read(rows, line, record, field) for field in ("ContextTokens", "GeneratedTokens"))
        rows.add(line, instant, prompt, output)


def read_burstgpt(path: Path, rows: RecordedRows) -> None:
    """`Timestamp,Model,Request tokens,Response tokens,...` [s]; with `Session ID` and `Elapsed time` where published.

    Failures have no response tokens and are left out.
    """
    for line, record in _table(path, rows, ("Timestamp", "Request tokens", "Response tokens")):
        instant = _time(rows, line, record, "Timestamp")
        prompt, output = (_read(rows, line, record, field) for field in ("Request tokens", "Response tokens"))
        elapsed = as_nanoseconds(record.get("Elapsed time") or None)
        end = None if elapsed is None or instant is None else instant + elapsed
        if prompt == 0 and output == 0:
            rows.leave_out("without output")
            continue
        rows.add(line, instant, prompt, output, end_ns=end, session=record.get("Session ID") or None)


def read_mooncake(path: Path, rows: RecordedRows) -> None:
    """JSON lines `timestamp` [ms], `input_length`, `output_length`, `hash_ids`.

    Cached tokens are the leading blocks that any earlier request had, as in a cache without bound.
    """
    seen: set[int] = set()
    for line, record in json_lines(path, rows):
        instant = _time(rows, line, record, "timestamp", 1000)
        prompt, output = (_read(rows, line, record, field) for field in ("input_length", "output_length"))
        blocks = record.get("hash_ids", [])
        if not isinstance(blocks, list) or any(as_tokens(block) is None for block in blocks):
            rows.reject(line, "hash_ids", "is not a list of whole numbers", blocks)
            continue
        found = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
        seen.update(blocks)
        rows.add(line, instant, prompt, output, found * MOONCAKE_BLOCK_TOKENS)


def read_ragpulse(path: Path, rows: RecordedRows) -> None:
    """JSON lines `timestamp` [s], `input_length`, `output_length`, `session_id`; nothing is taken as cached.

    What the components in `hash_ids` hold is in other files of that publication.
    """
    for line, record in json_lines(path, rows):
        instant = _time(rows, line, record, "timestamp")
        prompt, output = (_read(rows, line, record, field) for field in ("input_length", "output_length"))
        rows.add(line, instant, prompt, output, session=_name(record.get("session_id")))


def read_vllm_bench(path: Path, rows: RecordedRows) -> None:
    """Result of `vllm bench serve --save-result --save-detailed`: `start_times`, `input_lens`, `output_lens`.

    The whole file is one object; a request is named by its place in the lists, counted from 1. Ends are start + TTFT +
    the inter-token times. Requests with an error are left out.
    """
    document = json_document(path)
    lists = {name: document.get(name) for name in ("start_times", "input_lens", "output_lens")}
    missing = [name for name, values in lists.items() if not isinstance(values, list)]
    if missing:
        remedy = "Run `vllm bench serve` with --save-result --save-detailed."
        raise InputError([Problem(f"has no list {', '.join(missing)}", rows.file, remedy=remedy, line=1)])
    columns: dict[str, list[Any]] = {name: values for name, values in lists.items() if values is not None}
    count = len(columns["start_times"])
    for name in ("ttfts", "itls", "errors"):
        values = document.get(name)
        columns[name] = values if isinstance(values, list) and len(values) == count else [None] * count
    uneven = [name for name, values in columns.items() if len(values) != count]
    if uneven:
        raise InputError([Problem(f"lists differ in length: {', '.join(uneven)}", rows.file, line=1)])
    for place, values in enumerate(zip(*columns.values(), strict=True), start=1):
        record = dict(zip(columns, values, strict=True))
        if record["errors"]:
            rows.leave_out("with an error")
            continue
        start = _time(rows, place, record, "start_times")
        prompt, output = (_read(rows, place, record, field) for field in ("input_lens", "output_lens"))
        tokens = record["itls"] if isinstance(record["itls"], list) else []
        waits = [as_nanoseconds(wait) for wait in (record["ttfts"], *tokens)]
        known = [wait for wait in waits if wait is not None]
        end = start + sum(known) if start is not None and len(known) == len(waits) else None
        rows.add(place, start, prompt, output, end_ns=end)


def read_aiperf(path: Path, rows: RecordedRows) -> None:
    """JSON lines of `profile_export.jsonl`: `metadata.request_start_ns` and metrics by name with `value`.

    Only the profiling phase counts; requests with an error are left out.
    """
    for line, record in json_lines(path, rows):
        metadata, metrics = record.get("metadata"), record.get("metrics")
        if record.get("error"):
            rows.leave_out("with an error")
            continue
        if not isinstance(metadata, dict) or not isinstance(metrics, dict):
            rows.reject(line, "metadata and metrics", "are missing", sorted(record))
            continue
        if metadata.get("benchmark_phase", "profiling") != "profiling":
            rows.leave_out("of the warm-up")
            continue
        start = _time(rows, line, record, "metadata.request_start_ns", 1_000_000_000)
        prompt, output = (
            _read(rows, line, record, f"metrics.{name}_sequence_length.value") for name in ("input", "output")
        )
        end = as_nanoseconds(metadata.get("request_end_ns"), 1_000_000_000)
        session = _name(metadata.get("x_correlation_id") or metadata.get("conversation_id"))
        rows.add(line, start, prompt, output, end_ns=end, session=session)


def read_openai_log(path: Path, rows: RecordedRows) -> None:
    """JSON lines of completion or response objects: `created` or `created_at` [s] and `usage`.

    An object may lie under `response`, or under `response.body` as in batch output. Requests with an error or without
    usage are left out. A session is `session_id`, `conversation` or `conversation.id`.
    """
    for line, record in json_lines(path, rows):
        body = _inner(record)
        usage = body.get("usage")
        if not isinstance(usage, dict):
            if record.get("error") or body.get("error"):
                rows.leave_out("with an error")
            else:
                rows.reject(line, "usage", "is missing", sorted(body))
            continue
        prompt_name, output_name = ("prompt_tokens", "completion_tokens")
        if "input_tokens" in usage:
            prompt_name, output_name = ("input_tokens", "output_tokens")
        field = "created_at" if "created_at" in body else "created"
        instant = _time(rows, line, body, field)
        prompt, output = (_read(rows, line, usage, name) for name in (prompt_name, output_name))
        details = usage.get(f"{prompt_name}_details")
        cached: int | None = 0
        if isinstance(details, dict) and details.get("cached_tokens") is not None:
            cached = _read(rows, line, details, "cached_tokens")
        conversation = body.get("conversation")
        session = record.get("session_id") or (
            conversation.get("id") if isinstance(conversation, dict) else conversation
        )
        end = as_nanoseconds(body.get("completed_at"))
        rows.add(line, instant, prompt, output, cached, end, _name(session))


def _inner(record: dict[str, Any]) -> dict[str, Any]:
    response = record.get("response")
    if not isinstance(response, dict):
        return record
    body = response.get("body")
    return body if isinstance(body, dict) else response


def read_otel(path: Path, rows: RecordedRows) -> None:
    """OTLP JSON lines (`resourceSpans`), spans of model calls with `gen_ai.usage.input_tokens` and `output_tokens`.

    A session is `gen_ai.conversation.id`, else the trace. Input tokens hold the cached ones
    (`gen_ai.usage.cache_read.input_tokens`). Left out are spans without usage, failed ones, those of whole agents and
    workflows, which repeat the tokens of their calls, and those of tools, embeddings, retrieval and memory. Usage under
    its names before version 1.27 of the conventions, `prompt_tokens` and `completion_tokens`, is understood.
    """
    for line, record in json_lines(path, rows):
        if not isinstance(record.get("resourceSpans"), list):
            rows.reject(line, "resourceSpans", "is missing", sorted(record))
            continue
        for span in _spans(record, rows, line):
            attributes = _attributes(span)
            operation = str(attributes.get("gen_ai.operation.name", "chat"))
            if operation in _NO_CALLS or "memory" in operation:
                rows.leave_out("of agents, tools, embeddings and memory")
                continue
            if not any(name.startswith("gen_ai.usage.") for name in attributes):
                rows.leave_out("without usage")
                continue
            status = span.get("status")
            if attributes.get("error.type") or (isinstance(status, dict) and status.get("code") in _FAILED):
                rows.leave_out("with an error")
                continue
            names = _USAGE if any(name in attributes for name in _USAGE) else _OLD_USAGE
            prompt, output = (_attribute(rows, line, attributes, name) for name in names)
            cached: int | None = 0
            if _CACHED in attributes:
                cached = _attribute(rows, line, attributes, _CACHED)
            start, end = (
                _time(rows, line, span, name, 1_000_000_000) for name in ("startTimeUnixNano", "endTimeUnixNano")
            )
            session = _name(attributes.get("gen_ai.conversation.id") or span.get("traceId"))
            rows.add(line, start, prompt, output, cached, end, session)


def _attribute(rows: RecordedRows, line: int, attributes: dict[str, Any], name: str) -> int | None:
    number = as_tokens(attributes.get(name))
    if number is None:
        rows.reject(line, name, "is missing" if name not in attributes else _NO_NUMBER, attributes.get(name))
    return number


def _spans(record: dict[str, Any], rows: RecordedRows, line: int) -> Iterator[dict[str, Any]]:
    """Yield the spans of a line, in any resource and scope; what is no list of objects is rejected."""
    for resource in _objects(record, "resourceSpans", rows, line):
        for scope in _objects(resource, "scopeSpans", rows, line):
            yield from _objects(scope, "spans", rows, line)


def _objects(record: dict[str, Any], field: str, rows: RecordedRows, line: int) -> list[dict[str, Any]]:
    values = record.get(field, [])
    if isinstance(values, list) and all(isinstance(value, dict) for value in values):
        return values
    rows.reject(line, field, "is not a list of objects", values)
    return []


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    entries = span.get("attributes")
    for entry in entries if isinstance(entries, list) else ():
        value = entry.get("value") if isinstance(entry, dict) else None
        if isinstance(value, dict) and value:
            found[str(entry.get("key"))] = next(iter(value.values()))
    return found


def _name(value: object) -> object:
    return value if isinstance(value, str | int) and value != "" else None
