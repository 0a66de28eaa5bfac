"""KV memory against published figures: block counts, weights per accelerator and what engines had left for KV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sim.fidelity.mapping import fidelity_library
from sim.serving.kv_cache import KvCapacity, kv_capacity
from sim.serving.pool_checks import formats_of
from sim.specs.fleet import ParallelismSpec, PoolSpec
from sim.specs.hardware import NumberFormat
from sim.specs.library import Library

PUBLISHED = Path(__file__).parent / "data" / "kv_capacity.csv"
"""Published figures, with where they stand and why ours may differ."""

_GIB = 2.0**30


@dataclass(frozen=True)
class PublishedCapacity:
    """One published figure beside ours."""

    system: str
    """Engine and accelerators, as published."""

    model: str
    """Model of the library."""

    quantity: Literal["tokens_of_free", "weights", "free", "tokens"]
    """KV entries of a given memory, weights on one accelerator, memory left for KV, or KV entries of a replica."""

    published: float
    """Published figure [GiB or tokens]."""

    ours: float
    """Our figure [GiB or tokens]."""

    unit: str
    """Unit of both."""

    within: float
    """Relative difference that is explained [1]."""

    source: str
    """Where it stands."""

    why: str
    """What explains the difference."""

    @property
    def difference(self) -> float:
        """Return ours over published, less one [1]."""
        return self.ours / self.published - 1.0


def published_capacities(library: Library | None = None) -> list[PublishedCapacity]:
    """Return all published figures beside what the library's models and the stack for vLLM give."""
    found = library or fidelity_library()
    with PUBLISHED.open(encoding="utf-8") as file:
        return [_compared(row, found) for row in csv.DictReader(file)]


def _compared(row: dict[str, str], library: Library) -> PublishedCapacity:
    capacity = _capacity(row, library)
    ours = {
        "tokens_of_free": float(row["given_gib"] or 0.0) * _GIB / capacity.kv_bytes_per_token,
        "weights": capacity.weight_bytes / _GIB,
        "free": capacity.free_bytes / _GIB,
        "tokens": float(capacity.tokens),
    }
    quantity: Literal["tokens_of_free", "weights", "free", "tokens"] = row["quantity"]  # type: ignore[assignment]  # the file is ours, and a test reads every row
    return PublishedCapacity(
        row["system"], row["model"], quantity, float(row["published"]), ours[quantity], row["unit"],
        float(row["within"]), row["source"], row["why"],
    )  # fmt: skip


def _capacity(row: dict[str, str], library: Library) -> KvCapacity:
    model, hardware = library.model(row["model"]).spec, library.hardware(row["hardware"]).spec
    batching = library.serving_stack("vllm").spec.batching
    pool = PoolSpec(
        hardware=row["hardware"],
        model=row["model"],
        replicas=1,
        parallelism=ParallelismSpec(tensor=int(row["tensor"])),
        weight_format=NumberFormat(row["weight_format"]) if row["weight_format"] else None,
    )
    return kv_capacity(
        model.architecture,
        formats_of(pool, model),
        pool.parallelism,
        memory_bytes=hardware.memory.usable.value,
        memory_fraction=float(row["memory_fraction"] or batching.memory_fraction.value),
        activation_reserve_bytes=batching.activation_reserve.value,
        block_tokens=int(batching.kv_block.value),
    )


def kv_table(rows: Sequence[PublishedCapacity]) -> str:
    """Return published figures beside ours as a table of Markdown."""
    names = {
        "tokens_of_free": "KV entries of the memory left", "weights": "weights on one accelerator",
        "free": "memory left for KV", "tokens": "KV entries of a replica",
    }  # fmt: skip
    lines = [
        "| system | model | quantity | published | ours | difference | why, and source |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for each in rows:
        digits = ",.0f" if each.unit == "tokens" else ".2f"
        lines.append(
            f"| {each.system} | {each.model} | {names[each.quantity]} [{each.unit}] | {each.published:{digits}} "
            f"| {each.ours:{digits}} | {each.difference:+.1%} | {each.why} ({each.source}) |"
        )
    return "\n".join(lines)
