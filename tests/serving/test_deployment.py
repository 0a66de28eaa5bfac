"""Pools made concrete: every reason why one cannot serve, what it costs, and what the replica functions read."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.serving.deployment import (
    LONGEST_SPAN,
    Deployment,
    deploy,
    fixed_point,
    pool_records,
    price_of,
    specification_only,
)
from sim.serving.kv_cache import Formats
from sim.serving.pool_checks import formats_of
from sim.serving.state import FRACTION_BITS
from sim.specs.errors import InputError, Problem
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import NumberFormat, PriceBasis, Status
from sim.specs.library import Library, builtin_root
from sim.specs.model import GatedDeltaNet
from sim.specs.resolved import Scenario, load_scenario
from sim.specs.spec import Confidence

LIBRARY = Library((builtin_root(),))
GIB = 2.0**30
SMALL = {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 1}

Write = Callable[[str, str], None]


def fleet_of(pools: dict[str, dict[str, Any]], **changes: Any) -> Scenario:
    """Return a scenario with some pools and one class of traffic."""
    traffic = {"chat": {"workload": "realtime-chat"}}
    return load_scenario("quickstart", {"alternatives": {}, "traffic": traffic, "fleet": pools, **changes})


def pool(**keys: Any) -> Deployment:
    return deploy(fleet_of({"a": SMALL | keys}))[0]


def problems(*pools: dict[str, Any]) -> list[Problem]:
    names = "abcdefgh"[: len(pools)]
    with pytest.raises(InputError) as caught:
        deploy(fleet_of({name: SMALL | keys for name, keys in zip(names, pools, strict=True)}))
    return list(caught.value.problems)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Return a function that puts a file into a library that is searched before the built-in one."""
    (tmp_path / "hardware_profiles").mkdir()
    monkeypatch.setenv("FLEETCAST_PATH", str(tmp_path))

    def put(file: str, text: str) -> None:
        path = tmp_path / file
        path.write_text(f"name: {path.stem}\n{text}\n", encoding="utf-8")

    return put


# What cannot serve


def test_a_model_that_does_not_fit_is_told_in_gib() -> None:
    """405 billion bf16 weights on one H100: 756 GiB against 72 GiB."""
    (problem,) = problems({"model": "llama-3.1-405b"})
    stated = LIBRARY.model("llama-3.1-405b").spec.stated.total_parameters.value
    words = problem.message.split(" GiB")
    weights, left, usable = (float(part.split()[-1]) for part in words[:3])
    assert weights == pytest.approx(2 * stated / GIB, rel=0.01)
    assert usable == 80.0
    assert left == pytest.approx(0.9 * usable - 4.0 - weights, abs=0.2)
    assert problem.message.startswith("llama-3.1-405b does not fit: ")
    assert problem.path == "fleet.a.parallelism"
    assert "parallelism.tensor" in problem.remedy


def test_more_accelerators_make_a_model_fit_and_then_hold_ever_more() -> None:
    """The smallest layout that fits is the one whose share of the weights is below the memory that is left."""
    stated = LIBRARY.model("llama-3.1-70b").spec.stated.total_parameters.value
    held = []
    for tensor in (1, 2, 4, 8):
        layout = {"model": "llama-3.1-70b", "parallelism": {"tensor": tensor}}
        if 2 * stated / tensor / GIB < 0.9 * 80 - 4:
            held.append(pool(**layout).kv.tokens)
        else:
            assert "does not fit" in problems(layout)[0].message
    assert len(held) == 3
    # A doubling halves the weights and the KV of a token, so memory for tokens more than doubles.
    assert all(later > 2 * earlier for earlier, later in itertools.pairwise(held))


def test_a_replica_needs_memory_for_one_prompt_token_and_one_answer() -> None:
    """The reserve at which two tokens fit beside the bounded state is accepted, a token less is not."""
    roomy = pool()
    spare = roomy.kv.tokens - roomy.kv.sequence_charge - 2
    reserve = 4 * GIB + spare * roomy.kv.kv_bytes_per_token + roomy.kv.free_bytes % roomy.kv.kv_bytes_per_token
    tight = pool(activation_reserve=f"{reserve - 1000:.0f} B")
    assert tight.kv.tokens - tight.kv.sequence_charge == 2
    assert tight.longest_request() == 3
    reserve += roomy.kv.kv_bytes_per_token
    assert "does not fit" in problems({"activation_reserve": f"{reserve:.0f} B"})[0].message


def test_a_format_that_the_accelerator_lacks_and_both_remedies() -> None:
    (problem,) = problems({"model": "gpt-oss-20b"})
    assert problem.path == "fleet.a.expert_format"
    assert problem.value == "fp4"
    assert problem.message == "h100-sxm computes no fp4 (it computes bf16, fp8, int8)"
    assert problem.remedy == "Choose one of these as expert_format, or as arithmetic_format to keep fp4 weights."
    chosen = pool(model="gpt-oss-20b", expert_format="fp8")
    kept = pool(model="gpt-oss-20b", arithmetic_format="bf16")
    assert kept.kv.weight_bytes < chosen.kv.weight_bytes


def test_weight_only_quantisation_saves_memory_and_no_arithmetic() -> None:
    """fp8 weights with bf16 arithmetic: half the bytes of bf16, at its speed where arithmetic limits."""
    plain, weights_only, all_fp8 = (
        pool(**keys) for keys in ({}, {"weight_format": "fp8", "arithmetic_format": "bf16"}, {"weight_format": "fp8"})
    )
    assert weights_only.kv.weight_bytes == all_fp8.kv.weight_bytes < 0.6 * plain.kv.weight_bytes
    large = [each.step_time.linear_s[8192] for each in (plain, weights_only, all_fp8)]
    assert large[1] == pytest.approx(large[0], rel=1e-3)
    assert large[2] < 0.9 * large[0]
    small = [each.step_time.linear_s[1] for each in (plain, weights_only)]
    assert small[1] < 0.7 * small[0]


def test_a_lacking_format_is_told_once_where_it_is_written() -> None:
    """Weights and experts in one format are one problem; the arithmetic is blamed when it was chosen itself."""
    everything = problems({"model": "mixtral-8x7b", "weight_format": "fp4", "parallelism": {"tensor": 2}})
    assert [problem.path for problem in everything] == ["fleet.a.weight_format"]
    arithmetic = problems({"arithmetic_format": "fp4"})
    assert [problem.path for problem in arithmetic] == ["fleet.a.arithmetic_format"]


@pytest.mark.parametrize(("model", "heads"), [("llama-3.1-8b", 32), ("qwen3-14b", 40), ("deepseek-v3", 128)])
def test_tensor_parallelism_divides_the_heads(model: str, heads: int) -> None:
    (problem,) = problems({"model": model, "hardware": "gb200-nvl72", "parallelism": {"tensor": 3}})
    assert problem.path == "fleet.a.parallelism.tensor"
    assert problem.value == 3
    assert f"divide the {heads} attention heads" in problem.message


def test_tensor_parallelism_divides_the_heads_of_every_kind_of_layer() -> None:
    """Qwen3.5 has 16 heads in its attention and more in its linear attention; 32 divides only the latter."""
    attention = LIBRARY.model("qwen3.5-9b").spec.architecture.attention
    heads = {group.value_heads if isinstance(group, GatedDeltaNet) else group.query_heads for group in attention}
    assert heads == {16, 32}
    told = problems({"model": "qwen3.5-9b", "hardware": "gb200-nvl72", "parallelism": {"tensor": 32}})
    assert ["divide the 16" in problem.message for problem in told] == [True]


def test_a_replica_stays_inside_the_scale_up_domain() -> None:
    (problem,) = problems({"parallelism": {"tensor": 16}})
    assert (problem.path, problem.value) == ("fleet.a.parallelism", 16)
    assert "scale-up domain of 8 accelerators" in problem.message
    assert pool(parallelism={"tensor": 8}).accelerators == 8
    assert pool(hardware="gb200-nvl72", parallelism={"tensor": 16}).accelerators == 16
    assert problems({"parallelism": {"tensor": 4, "pipeline": 4}})[0].value == 16


def test_disabled_parts_are_not_offered_until_a_profile_enables_them(write: Write) -> None:
    told = problems({"hardware": "rubin-ultra", "arithmetic_format": "fp4"})
    assert [problem.path for problem in told] == ["fleet.a.hardware"] * 2
    assert "not offered (announced)" in told[0].message
    assert "no bf16 peak" in told[1].message
    bf16 = "{value: 4000 TFLOP/s, source: [assumption], confidence: assumption}"
    text = f"extends: rubin-ultra\navailability: {{enabled: true}}\npeak: {{bf16: {bf16}}}"
    write("hardware_profiles/what-if.yaml", text)
    assert pool(hardware="what-if").specification_only


def test_removed_parts_are_not_offered_even_if_enabled(write: Write) -> None:
    write("hardware_profiles/gone.yaml", "extends: h100-sxm\navailability: {status: removed, purchasable: false}")
    assert "not offered (removed)" in problems({"hardware": "gone"})[0].message


@pytest.mark.parametrize(
    ("keys", "path", "message"),
    [
        ({"parallelism": {"data": 2, "expert": 2}}, "parallelism.expert", "the model has no experts"),
        (
            {"model": "mixtral-8x7b", "parallelism": {"data": 16, "expert": 16}, "hardware": "gb200-nvl72"},
            "parallelism.expert",
            "the model has only 8 experts",
        ),
        (
            {"hardware": "gb200-nvl72", "parallelism": {"pipeline": 33}},
            "parallelism.pipeline",
            "the model has only 32 layers",
        ),
    ],
)
def test_layouts_that_the_model_does_not_have(keys: dict[str, Any], path: str, message: str) -> None:
    (problem,) = problems(keys)
    assert problem.path == f"fleet.a.{path}"
    assert message in problem.message
    assert problem.remedy


def test_data_parallel_attention_needs_experts_over_all_groups() -> None:
    with pytest.raises(InputError, match=r"fleet\.a\.parallelism: .*for a dense model use more replicas instead"):
        fleet_of({"a": SMALL | {"parallelism": {"data": 2}}})


def test_all_problems_of_all_pools_are_told_at_once() -> None:
    told = problems(
        {"model": "gpt-oss-20b", "parallelism": {"tensor": 16}},
        {},
        {"model": "llama-3.1-405b"},
        {"hardware": "rubin-ultra", "weight_format": "fp8", "parallelism": {"tensor": 5}},
    )
    assert [problem.path for problem in told] == [
        "fleet.a.expert_format",
        "fleet.a.parallelism",
        "fleet.c.parallelism",
        "fleet.d.hardware",
        "fleet.d.weight_format",
        "fleet.d.hardware",
        "fleet.d.parallelism",
        "fleet.d.parallelism.tensor",
    ]
    assert all("quickstart.yaml" in problem.file and problem.remedy for problem in told)


def test_a_stack_without_an_efficiency_is_a_problem_and_no_crash(write: Write) -> None:
    peak = "{value: 4000 TOP/s, source: [assumption], confidence: assumption}"
    write("hardware_profiles/int4-part.yaml", f"extends: h100-sxm\npeak: {{int4: {peak}}}")
    (dense,) = problems({"hardware": "int4-part", "weight_format": "int4"})
    assert (dense.path, dense.value) == ("fleet.a.serving_stack", "shared")
    assert dense.message == "states no efficiency of int4 for weight products"
    (experts,) = problems({"hardware": "int4-part", "model": "qwen3-30b-a3b", "expert_format": "int4"})
    assert experts.message == "states no efficiency of int4 for expert products"


# What a pool is


def test_pools_come_in_the_order_of_the_fleet_with_their_own_settings() -> None:
    layout = {"tensor": 1, "data": 4, "expert": 4}
    pools = {
        "zulu": SMALL | {"replicas": 3},
        "alpha": {"hardware": "gb200-nvl72", "model": "qwen3-30b-a3b", "replicas": 2, "parallelism": layout,
                  "max_sequences": 7, "step_token_budget": "100 tokens"},
    }  # fmt: skip
    plain, layered = deploy(fleet_of(pools))
    assert (plain.pool, plain.replicas, plain.accelerators) == ("zulu", 3, 1)
    assert (plain.max_sequences, plain.step_token_budget) == (256, 8192)
    assert (layered.pool, layered.replicas, layered.accelerators) == ("alpha", 2, 4)
    # Limits are per data-parallel group.
    assert (layered.max_sequences, layered.step_token_budget) == (28, 400)
    assert len(layered.step_time.linear_s) == 429
    assert len(layered.step_time.sequence_s) == 29
    assert plain.admission_headroom == int(0.01 * plain.kv.tokens)
    assert plain.idle_w == pytest.approx(0.2 * 700)
    assert plain.busy_w == 700
    assert pool(hardware="tpu-v6e").idle_w is None


def test_the_longest_request_is_bounded_by_the_context_or_by_memory() -> None:
    by_context = pool(kv_format="fp8")
    assert by_context.kv.tokens > by_context.context_length
    assert by_context.longest_request() == by_context.context_length == 131_072
    by_memory = pool(model="llama-3.1-70b", weight_format="fp8", parallelism={"tensor": 2}, activation_reserve="30 GiB")
    assert by_memory.longest_request() == by_memory.kv.tokens - by_memory.kv.sequence_charge + 1
    assert by_memory.longest_request() < by_memory.context_length


def test_a_sequence_lives_in_one_data_parallel_group() -> None:
    """Eight groups hold eight times the tokens of one, but no longer request."""
    layout = {"tensor": 1, "data": 8, "expert": 8}
    deployment = pool(model="qwen3-235b-a22b", weight_format="fp8", parallelism=layout, activation_reserve="35 GiB")
    assert deployment.kv.tokens == 8 * deployment.kv.group_tokens
    assert deployment.longest_request() == deployment.kv.group_tokens - deployment.kv.sequence_charge + 1
    assert deployment.longest_request() < deployment.context_length < deployment.kv.tokens


# What it costs


@pytest.mark.parametrize("order", list(itertools.permutations(["on_demand", "reserved_3_year", "owning_hyperscaler"])))
def test_the_first_terms_that_a_profile_knows_are_used(order: tuple[str, ...]) -> None:
    scenario = fleet_of({"a": SMALL, "b": SMALL | {"hardware": "gb200-nvl72"}}, price_basis=list(order))
    for deployment in deploy(scenario):
        hourly = LIBRARY.hardware(deployment.hardware).spec.prices.hourly
        first = next(PriceBasis(basis) for basis in order if PriceBasis(basis) in hourly)
        assert deployment.price is not None
        assert deployment.price.basis is first
        assert deployment.price.usd_per_hour == hourly[first].value
        assert deployment.price.low <= deployment.price.usd_per_hour <= deployment.price.high


def test_a_pool_has_its_own_terms_or_its_own_price() -> None:
    pools = {"a": SMALL, "b": SMALL | {"price_basis": ["spot"]}, "c": SMALL | {"price": "1.25 USD/h"}}
    scenarios, own_terms, stated = deploy(fleet_of(pools, price_basis=["on_demand"]))
    assert scenarios.price is not None
    assert scenarios.price.basis is PriceBasis.ON_DEMAND
    assert own_terms.price is not None
    assert own_terms.price.basis is PriceBasis.SPOT
    assert stated.price is not None
    assert dataclasses.astuple(stated.price) == (1.25, 1.25, 1.25, PriceBasis.STATED)


@pytest.mark.parametrize("name", sorted(LIBRARY.names("hardware")))
def test_no_price_is_ever_made_up(name: str) -> None:
    """A part has a price on exactly the terms that its profile knows, with the profile's range."""
    hardware = LIBRARY.hardware(name).spec
    spec = PoolSpec(hardware=name, model="llama-3.1-8b", replicas=1)
    for basis in PriceBasis:
        price = price_of(spec, hardware, [basis])
        quoted = hardware.prices.hourly.get(basis)
        assert (price is None) == (quoted is None)
        if price is not None and quoted is not None:
            assert price.usd_per_hour == quoted.value
            assert (price.low, price.high) == (quoted.low or quoted.value, quoted.high or quoted.value)


# What the replica functions read


def test_pool_records_hold_step_times_in_fixed_point() -> None:
    """Half a unit of 2**-20 ns is all that is lost: less than 1e-6 of any step, 1e-4 of any rate per token."""
    deployments = deploy(
        fleet_of(
            {
                "a": SMALL | {"max_sequences": 10, "step_token_budget": "50 tokens"},
                "b": {"hardware": "vr200-nvl72", "model": "gpt-oss-120b", "replicas": 1, "parallelism": {"tensor": 8}},
            }
        )
    )
    records, linear, sequence = pool_records(deployments)
    assert linear.shape == (2, 8192 + 256 + 1)
    assert sequence.shape == (2, 257)
    unit_s = 1e-9 / (1 << FRACTION_BITS)
    for row, deployment in enumerate(deployments):
        times = deployment.step_time
        for table, seconds in ((linear[row], times.linear_s), (sequence[row], times.sequence_s)):
            assert np.abs(table[: len(seconds)] * unit_s - seconds).max() <= 0.51 * unit_s
            assert table[1 : len(seconds)] * unit_s == pytest.approx(seconds[1:], rel=1e-6)
            assert (table[len(seconds) :] == 0).all()
        assert sequence[row, 0] == 0
        assert linear[row, 1] > 0
        rates = (
            ("context_duration", times.context_s), ("window_duration", times.window_context_s),
            ("pair_duration", times.pair_s), ("window_pair_duration", times.window_pair_s),
        )  # fmt: skip
        for column, rate_s in rates:
            assert records[row][column] * unit_s == pytest.approx(rate_s, rel=1e-4)
    assert (records["window_duration"] > 0).tolist() == [False, True]
    assert records["window"].tolist() == [0, 128]
    assert records["max_sequences"].tolist() == [10, 256]
    assert records["step_token_budget"].tolist() == [50, 8192]
    assert records["kv_capacity"].tolist() == [each.kv.tokens for each in deployments]
    assert records["sequence_charge"].tolist() == [each.kv.sequence_charge for each in deployments]
    assert records["admission_headroom"].tolist() == [each.admission_headroom for each in deployments]
    assert (records["max_span"] == LONGEST_SPAN).all()
    assert (pool_records(deployments, max_span=1)[0]["max_span"] == 1).all()


@pytest.mark.parametrize("seconds", [0.0, 1e-15, 1e-9, 0.00817, 1.0, 3600.0])
def test_fixed_point_rounds_to_the_nearest(seconds: float) -> None:
    exact = seconds * 1e9 * (1 << FRACTION_BITS)
    assert abs(int(fixed_point(seconds)) - exact) <= 0.5 + 1e-9 * exact


# Formats and confidence

BF16, FP8, FP4 = NumberFormat.BF16, NumberFormat.FP8, NumberFormat.FP4


@pytest.mark.parametrize(
    ("model", "keys", "weights", "experts", "scale_bytes", "arithmetic"),
    [
        # as published: gpt-oss keeps a byte of scale for 32 fp4 expert weights
        ("gpt-oss-20b", {}, BF16, FP4, 1 / 32, (BF16, FP4)),
        ("llama-3.1-8b", {}, BF16, BF16, 0.0, (BF16, BF16)),
        # a weight format holds for experts too, and other experts have no published scales
        ("gpt-oss-20b", {"weight_format": "fp8"}, FP8, FP8, 0.0, (FP8, FP8)),
        # unless the experts have their own; published experts keep their scales
        ("gpt-oss-20b", {"weight_format": "fp8", "expert_format": "fp4"}, FP8, FP4, 1 / 32, (FP8, FP4)),
        ("gpt-oss-20b", {"expert_format": "fp8"}, BF16, FP8, 0.0, (BF16, FP8)),
        # weight-only quantisation
        ("gpt-oss-20b", {"arithmetic_format": "bf16"}, BF16, FP4, 1 / 32, (BF16, BF16)),
        ("llama-3.1-8b", {"weight_format": "fp4", "arithmetic_format": "fp8"}, FP4, FP4, 0.0, (FP8, FP8)),
    ],
)
def test_formats_of_a_pool(
    model: str,
    keys: dict[str, str],
    weights: NumberFormat,
    experts: NumberFormat,
    scale_bytes: float,
    arithmetic: tuple[NumberFormat, NumberFormat],
) -> None:
    spec = PoolSpec.model_validate({"hardware": "b200-hgx", "model": model, "replicas": 1, "kv_format": "fp8", **keys})
    formats = formats_of(spec, LIBRARY.model(model).spec)
    assert (formats.weights, formats.experts, formats.kv) == (weights, experts, FP8)
    assert formats.expert_scale_bytes == scale_bytes
    assert (formats.weight_arithmetic, formats.expert_arithmetic) == arithmetic


def in_format(number_format: NumberFormat) -> Formats:
    return Formats(number_format, number_format, 0.0, BF16, number_format, number_format)


def test_specification_only_are_parts_that_nobody_could_measure() -> None:
    found = {
        name for name in LIBRARY.names("hardware") if specification_only(LIBRARY.hardware(name).spec, in_format(BF16))
    }
    assert found == {"maia-100", "maia-200", "mi455x-helios", "rubin-ultra", "tpu-8i"}


def test_one_claim_among_the_numbers_in_use_makes_a_part_specification_only() -> None:
    hardware = LIBRARY.hardware("h100-sxm").spec
    assert not specification_only(hardware, in_format(FP8))
    announced = hardware.availability.model_copy(update={"status": Status.ANNOUNCED})
    assert specification_only(hardware.model_copy(update={"availability": announced}), in_format(FP8))
    for confidence in (Confidence.VENDOR_CLAIM, Confidence.ASSUMPTION, Confidence.ANALYST_ESTIMATE):
        peak = hardware.peak[FP8].model_copy(update={"confidence": confidence})
        claimed = hardware.model_copy(update={"peak": hardware.peak | {FP8: peak}})
        assert specification_only(claimed, in_format(FP8))
        assert not specification_only(claimed, in_format(BF16))
        bandwidth = hardware.memory.bandwidth.model_copy(update={"confidence": confidence})
        memory = hardware.memory.model_copy(update={"bandwidth": bandwidth})
        assert specification_only(hardware.model_copy(update={"memory": memory}), in_format(BF16))
