"""The shipped serving stacks: sourced, physically possible, and known for every format that the hardware computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from sim.serving.deployment import deploy
from sim.specs.hardware import NumberFormat
from sim.specs.library import Library, builtin_root
from sim.specs.resolved import load_scenario
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import ASSUMPTION_SOURCE, Provenance, Sourced

LIBRARY: Final = Library((builtin_root(),))
each: Final = pytest.mark.parametrize("name", sorted(LIBRARY.names("serving_stack")))

# Parameters of the step-time model -> names in the table of fits.
FITTED: Final = {
    "weight_bandwidth": "e_mem", "matmul_latency": "t0", "kv_bandwidth": "e_kv",
    "latent_kv_bandwidth": "e_mkv", "latent_decode_attention": "e_mfa", "attention_latency": "t0a",
    "decode_attention": "e_afl", "prefill_attention": "e_afl", "expert_bandwidth": "e_moe", "expert_latency": "t0m",
    "expert_imbalance_exponent": "g", "collective_latency": "alpha", "link_bandwidth": "e_link",
    "elementwise_latency": "t_el",
}  # fmt: skip
BITS: Final = {NumberFormat.BF16: "16", NumberFormat.FP8: "8", NumberFormat.FP4: "4"}


@cache
def shipped(name: str) -> ServingStackSpec:
    return LIBRARY.serving_stack(name).spec


def provenances(part: object) -> Iterator[Provenance]:
    if isinstance(part, Provenance):
        yield part
    elif isinstance(part, BaseModel):
        for name in type(part).model_fields:
            yield from provenances(getattr(part, name))
    elif isinstance(part, dict):
        for entry in part.values():
            yield from provenances(entry)


def efficiencies(stack: ServingStackSpec) -> dict[str, Sourced[float]]:
    """Return fractions of a peak or a bandwidth, by name and format."""
    times = stack.step_time
    found = {f"matmul.{number_format}": entry for number_format, entry in times.matmul.items()}
    found |= {f"expert_matmul.{number_format}": entry for number_format, entry in times.expert_matmul.items()}
    plain = [name for name in type(times).model_fields if name.endswith(("_bandwidth", "_attention"))]
    return found | {name: getattr(times, name) for name in plain}


def test_there_is_a_shared_stack_that_scenarios_use_by_default() -> None:
    assert "shared" in LIBRARY.names("serving_stack")


@each
def test_every_source_is_cited_and_every_citation_is_used(name: str) -> None:
    stack = shipped(name)
    used = {key for provenance in provenances(stack) for key in provenance.source} - {ASSUMPTION_SOURCE}
    assert used <= set(stack.sources)
    assert all(len(citation) > 20 for citation in stack.sources.values())
    raw = LIBRARY.read("serving_stack", name)[0]
    if raw.extended is None:
        # A stack that extends another one inherits citations of what it replaces.
        assert used == set(stack.sources)


@each
def test_every_format_that_some_part_computes_has_efficiencies(name: str) -> None:
    computed = {each for part in LIBRARY.names("hardware") for each in LIBRARY.hardware(part).spec.peak}
    assert computed <= set(shipped(name).step_time.matmul)
    assert computed <= set(shipped(name).step_time.expert_matmul)


@each
def test_nothing_is_faster_than_the_datasheet(name: str) -> None:
    """An efficiency is at most one; a fitted one may exceed it by no more than its own uncertainty."""
    found = efficiencies(shipped(name))
    assert len(found) > 12
    for key, entry in found.items():
        assert entry.value > 0.05, key
        # A switch that sums spares a link up to half of what a ring sends over it.
        most = 2.0 if key == "link_bandwidth" else 1.0
        assert (entry.value if entry.low is None else entry.low) <= most, key
        # A value without a range would be taken for a fact; those of elementwise work were never fitted.
        assert key.startswith("elementwise") or None not in (entry.low, entry.high), key


@each
def test_latencies_are_those_of_kernels_and_steps(name: str) -> None:
    times = shipped(name).step_time
    for key in ("matmul_latency", "attention_latency", "collective_latency"):
        assert 1e-7 < getattr(times, key).value < 1e-4, key
    for number_format, entry in times.quantisation_latency.items():
        assert 1e-7 < entry.value < 1e-4, number_format
    assert 1e-5 < times.launch_latency.value < 2e-3
    assert 1e-6 < times.expert_latency.value < 1e-3
    # Engines of 2023 and those of AWS Neuron take more than ten milliseconds of host time for a step.
    assert 1e-5 < times.step_overhead.value < 3e-2


@each
def test_what_is_said_to_be_fitted_lies_within_the_fits(shared: Path, name: str) -> None:
    """Values from the fit lie between its smallest and largest value over systems, families and phases."""
    fits = [*parameter_sets(json.loads((shared / "facts" / "step_time_fit.json").read_text())["trtllm"])]
    assert len(fits) >= 6
    times = shipped(name).step_time
    expected = {key: (getattr(times, key), fitted) for key, fitted in FITTED.items()}
    expected |= {f"matmul.{key}": (times.matmul[key], f"e_fl{bits}") for key, bits in BITS.items()}
    expected |= {f"expert_matmul.{key}": (times.expert_matmul[key], f"e_m{bits}") for key, bits in BITS.items()}
    for key, (entry, fitted) in expected.items():
        if entry.source == ("FIT",):
            values = [fit[fitted] for fit in fits]
            assert 0.995 * min(values) <= entry.value <= 1.005 * max(values), key


def parameter_sets(part: Any) -> Iterator[dict[str, float]]:
    if isinstance(part, dict):
        if "params" in part:
            yield part["params"]
        for entry in part.values():
            yield from parameter_sets(entry)


def test_the_limits_of_a_stack_reach_the_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack of one's own, which extends the shared one: every limit that it changes is in force."""
    assumed = "source: [assumption], confidence: assumption"
    (tmp_path / "serving_stacks").mkdir()
    (tmp_path / "serving_stacks" / "own.yaml").write_text(
        "name: own\nextends: shared\nbatching:\n"
        f"  max_sequences: {{value: 31, low: 31, {assumed}}}\n"
        f"  step_token_budget: {{value: 777 tokens, low: 777 tokens, {assumed}}}\n"
        f"  kv_block: {{value: 64 tokens, {assumed}}}\n"
        f"  memory_fraction: {{value: 0.8, low: 0.8, {assumed}}}\n"
        f"  activation_reserve: {{value: 2 GiB, low: 2 GiB, {assumed}}}\n"
        f"  admission_headroom: {{value: 0.1, {assumed}}}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("FLEETCAST_PATH", str(tmp_path))
    pool = {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 1}
    fleet = {"shared": pool, "own": pool | {"serving_stack": "own"}}
    changes = {"alternatives": {}, "traffic": {"chat": {"workload": "realtime-chat"}}, "fleet": fleet}
    shared_stack, own = deploy(load_scenario("quickstart", changes))
    assert (own.max_sequences, own.step_token_budget) == (31, 777)
    assert own.kv.sequence_charge - shared_stack.kv.sequence_charge == 64 - 16
    lost = 0.1 * 80 * 2**30 - 2 * 2**30
    assert shared_stack.kv.free_bytes - own.kv.free_bytes == pytest.approx(lost)
    assert own.admission_headroom == int(0.1 * own.kv.tokens)
    assert own.step_time.context_s == shared_stack.step_time.context_s
