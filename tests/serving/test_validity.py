"""Which error band a pool earns, and what of it lies outside of what was measured."""

from __future__ import annotations

import dataclasses

import pytest

from sim.serving.kv_cache import Formats
from sim.serving.validity import features_of, known_class, validity_of
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.library import Library, builtin_root
from sim.specs.serving_stack import BandSpec, CoverageSpec, ServingStackSpec

LIBRARY = Library((builtin_root(),))
BF16, FP8 = NumberFormat.BF16, NumberFormat.FP8
PLAIN = Formats(BF16, BF16, 0.0, BF16, BF16, BF16)
WIDE, NARROW = BandSpec(low=0.5, high=2.0, points=100), BandSpec(low=0.9, high=1.1, points=20)
COVERED = CoverageSpec(
    points=40, accelerators=("h100-sxm",), features=("dense",), formats=(BF16,), most_sequences=64, most_tokens=4000,
    bands={"tpot": NARROW},
)  # fmt: skip


def stack(coverage: dict[str, CoverageSpec]) -> ServingStackSpec:
    bands = {
        metric: {"calibrated": WIDE, "transferred": WIDE, "specification": WIDE} for metric in ("tpot", "throughput")
    }
    return LIBRARY.serving_stack("shared").spec.model_copy(update={"coverage": coverage, "bands": bands})


def hardware(name: str) -> HardwareSpec:
    return LIBRARY.hardware(name).spec


def test_a_measured_accelerator_has_the_band_of_its_family_where_that_earned_one() -> None:
    dense = LIBRARY.model("llama-3.1-8b").spec.architecture
    found = validity_of(stack({"hopper": COVERED}), hardware("h100-sxm"), dense, PLAIN, False)
    assert (found.known, found.outside) == ("calibrated", ())
    assert (found.bands["tpot"], found.bands["throughput"]) == (NARROW, WIDE)
    assert (found.most_sequences, found.most_tokens) == (64, 4000)


def test_members_of_a_family_and_other_families_are_flagged_and_have_wider_bands() -> None:
    dense = LIBRARY.model("llama-3.1-8b").spec.architecture
    member = validity_of(stack({"hopper": COVERED}), hardware("h200-sxm"), dense, PLAIN, False)
    assert member.known == "transferred"
    assert member.bands["tpot"] == WIDE
    assert member.outside == ("h200-sxm has too few measured points, only h100-sxm of its family",)
    other = validity_of(stack({"hopper": COVERED}), hardware("vr200-nvl72"), dense, PLAIN, True)
    assert other.known == "specification"
    assert other.outside == ("no accelerator of family rubin was measured",)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mixtral-8x7b", "a mixture of experts"),
        ("deepseek-v3", "multi-head latent attention"),
        ("gemma-3-27b", "sliding windows"),
        ("qwen3.5-27b", "recurrent layers"),
    ],
)
def test_kinds_of_layers_that_nobody_measured_are_named(model: str, expected: str) -> None:
    architecture = LIBRARY.model(model).spec.architecture
    found = validity_of(stack({"hopper": COVERED}), hardware("h100-sxm"), architecture, PLAIN, False)
    assert any(expected in reason for reason in found.outside)


def test_a_format_that_nobody_measured_is_named() -> None:
    dense = LIBRARY.model("llama-3.1-8b").spec.architecture
    quantised = dataclasses.replace(PLAIN, weight_arithmetic=FP8, expert_arithmetic=FP8)
    found = validity_of(stack({"hopper": COVERED}), hardware("h100-sxm"), dense, quantised, False)
    assert found.outside == ("no point there was measured in fp8",)


def test_a_stack_that_says_nothing_is_said_to_say_nothing() -> None:
    dense = LIBRARY.model("llama-3.1-8b").spec.architecture
    found = validity_of(stack({}), hardware("h100-sxm"), dense, PLAIN, False)
    assert "does not say what it was calibrated on" in found.outside[0]
    assert known_class(stack({}), hardware("h100-sxm"), False) == "calibrated"
    assert known_class(stack({}), hardware("vr200-nvl72"), True) == "specification"


def test_features_are_those_of_the_layers() -> None:
    kinds = {
        name: features_of(LIBRARY.model(name).spec.architecture)
        for name in ("llama-3.1-8b", "gpt-oss-120b", "deepseek-r1")
    }
    assert kinds == {
        "llama-3.1-8b": ("dense",),
        "gpt-oss-120b": ("experts", "sliding_window"),
        "deepseek-r1": ("experts", "latent_attention"),
    }


@pytest.mark.parametrize("name", ["vr200-nvl72", "tpu-v7-ironwood", "tpu-8i", "trainium3", "maia-200", "mi455x-helios"])
@pytest.mark.parametrize("framework", ["shared", "vllm", "trtllm"])
def test_parts_without_points_have_bands_from_transfer(name: str, framework: str) -> None:
    """The shipped stacks: nobody could calibrate these, so their bands come from families left out of the fit."""
    shipped = LIBRARY.serving_stack(framework).spec
    dense = LIBRARY.model("llama-3.1-8b").spec.architecture
    found = validity_of(shipped, hardware(name), dense, PLAIN, False)
    assert found.known == "transferred"
    assert found.outside
    for metric, band in found.bands.items():
        seen = shipped.bands[metric]["calibrated"]
        assert band.low <= seen.low
        assert band.high >= seen.high
