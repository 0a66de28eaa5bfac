"""Step time: limits of the roofline, monotonicity, and what parallelism and experts do to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.kv_cache import Formats
from sim.serving.parameter_counts import parameter_counts
from sim.serving.step_time import StepTime, smooth_maximum, tabulate_step_time
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.library import Library, builtin_root
from sim.specs.model import ModelSpec
from sim.specs.serving_stack import StepTimeSpec

LIBRARY = Library((builtin_root(),))
FP8, BF16, FP4 = NumberFormat.FP8, NumberFormat.BF16, NumberFormat.FP4
PARAMETERS = LIBRARY.serving_stack("shared").spec.step_time
LATENCIES = (
    "matmul_latency", "attention_latency", "expert_latency", "collective_latency", "ring_latency",
    "elementwise_latency", "quantisation_latency", "launch_latency", "step_overhead", "sequence_overhead",
    "request_overhead",
)  # fmt: skip


def formats(number_format: NumberFormat, kv: NumberFormat = BF16) -> Formats:
    return Formats(number_format, number_format, 0.0, kv, number_format, number_format)


def ideal(parameters: StepTimeSpec = PARAMETERS, **changes: float) -> StepTimeSpec:
    """Return parameters without latencies and elementwise work, so that only rooflines are left."""
    zero = (
        dict.fromkeys(LATENCIES, 0.0)
        | {"elementwise_passes": 1e-12, "expert_passes": 1e-12, "smoothness": 400.0}
        | changes
    )
    return parameters.model_copy(
        update={name: with_value(getattr(parameters, name), value) for name, value in zero.items()}
    )


def with_value(parameter: Any, value: float) -> Any:
    """Return a parameter, or one of every format, with another value."""
    if isinstance(parameter, dict):
        return {key: with_value(each, value) for key, each in parameter.items()}
    return parameter.model_copy(update={"value": value})


def table(
    model: str = "llama-3.1-70b",
    hardware: str | HardwareSpec = "h100-sxm",
    layout: dict[str, int] | None = None,
    number_format: NumberFormat = FP8,
    parameters: StepTimeSpec = PARAMETERS,
    kv: NumberFormat = BF16,
) -> StepTime:
    spec: ModelSpec = LIBRARY.model(model).spec
    profile = LIBRARY.hardware(hardware).spec if isinstance(hardware, str) else hardware
    parallelism = ParallelismSpec(**(layout or {"tensor": 4}))
    return tabulate_step_time(
        spec.architecture, profile, parallelism, formats(number_format, kv), parameters, 8192, 1024
    )


@given(memory=st.floats(0, 1e3), compute=st.floats(0, 1e3), exponent=st.floats(1, 50))
def test_smooth_maximum_lies_between_maximum_and_sum(memory: float, compute: float, exponent: float) -> None:
    result = float(smooth_maximum(memory, compute, exponent))
    assert max(memory, compute) * (1 - 1e-12) <= result <= (memory + compute) * (1 + 1e-12)


def test_small_batches_read_all_weights() -> None:
    """Without latencies a step of one token takes weights / bandwidth; at the limit it computes 2 FLOPs a weight."""
    times = table(parameters=ideal())
    counts = parameter_counts(LIBRARY.model("llama-3.1-70b").spec.architecture)
    hardware = LIBRARY.hardware("h100-sxm").spec
    body = (counts.attention + counts.dense) / 4
    sent = 2 * 3 / 4 * 8192 * 2  # of the residual by each of four accelerators in a ring [B]
    link = 2 * 80 * sent / (450e9 * PARAMETERS.link_bandwidth.value)  # two sums per layer and token
    memory = hardware.memory.bandwidth.value * PARAMETERS.weight_bandwidth.value
    assert times.linear_s[1] == pytest.approx(body / memory + link, rel=1e-3)
    compute = 2 * body * 8192 / (hardware.peak[FP8].value * PARAMETERS.matmul[FP8].value)
    assert times.linear_s[8192] == pytest.approx(compute + 8192 * link, rel=1e-3)


def test_decode_attention_reads_the_cache() -> None:
    """70B keeps 327,680 B of KV per token in bf16; four accelerators share the eight heads."""
    times = table(parameters=ideal())
    assert times.context_s == pytest.approx(327_680 / 4 / (3.35e12 * PARAMETERS.kv_bandwidth.value), rel=1e-3)
    assert table(parameters=ideal(), kv=FP8).context_s == pytest.approx(times.context_s / 2, rel=1e-3)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "gpt-oss-120b", "deepseek-r1", "qwen3.5-397b-a17b"])
def test_more_tokens_never_take_less_time(model: str) -> None:
    times = table(model, "gb200-nvl72", {"tensor": 8})
    assert (np.diff(times.linear_s[1:]) >= 0).all()
    assert (np.diff(times.sequence_s) >= 0).all()
    assert min(times.context_s, times.pair_s) > 0


@pytest.mark.parametrize(("path", "factor"), [("memory", 2.0), ("peak", 2.0), ("scale_up", 2.0)])
def test_faster_hardware_is_never_slower(path: str, factor: float) -> None:
    slow = LIBRARY.hardware("h100-sxm").spec
    if path == "peak":
        peak = {name: each.model_copy(update={"value": each.value * factor}) for name, each in slow.peak.items()}
        fast = slow.model_copy(update={"peak": peak})
    else:
        part: Any = getattr(slow, path)
        bandwidth = part.bandwidth.model_copy(update={"value": part.bandwidth.value * factor})
        fast = slow.model_copy(update={path: part.model_copy(update={"bandwidth": bandwidth})})
    before, after = table(hardware=slow), table(hardware=fast)
    assert (after.linear_s[1:] <= before.linear_s[1:]).all()
    assert (after.linear_s[1:] < before.linear_s[1:]).any()
    assert after.context_s <= before.context_s


def test_everything_twice_as_fast_halves_all_that_is_no_latency() -> None:
    slow = LIBRARY.hardware("h100-sxm").spec
    memory = slow.memory.bandwidth.model_copy(update={"value": 2 * slow.memory.bandwidth.value})
    assert slow.scale_up is not None
    link = slow.scale_up.bandwidth.model_copy(update={"value": 2 * slow.scale_up.bandwidth.value})
    fast = slow.model_copy(
        update={
            "memory": slow.memory.model_copy(update={"bandwidth": memory}),
            "scale_up": slow.scale_up.model_copy(update={"bandwidth": link}),
            "peak": {name: each.model_copy(update={"value": 2 * each.value}) for name, each in slow.peak.items()},
        }
    )
    before, after = table(hardware=slow, parameters=ideal()), table(hardware=fast, parameters=ideal())
    assert after.linear_s == pytest.approx(before.linear_s / 2)
    assert after.sequence_s == pytest.approx(before.sequence_s / 2)
    assert (after.context_s, after.pair_s) == pytest.approx((before.context_s / 2, before.pair_s / 2))


def test_experts_are_read_as_they_are_visited() -> None:
    """At one token gpt-oss-120b reads 4 of 128 experts, at many tokens all of them."""
    parameters = ideal()
    spec = LIBRARY.model("gpt-oss-120b").spec.architecture
    assert spec.moe is not None
    hardware = LIBRARY.hardware("gb200-nvl72").spec
    times = table("gpt-oss-120b", hardware, {"tensor": 1}, FP8, parameters)
    expert = 3 * spec.hidden_size * spec.moe.intermediate_size
    rate = hardware.memory.bandwidth.value * parameters.expert_bandwidth.value
    grown = times.linear_s[2] - times.linear_s[1]
    second = 4 * (1 - 4 / 128)  # experts that a second token adds, on the mean
    assert grown == pytest.approx(spec.moe.layers * second * expert / rate, rel=0.02)


def test_a_mixture_reads_more_than_its_dense_predecessor_from_a_handful_of_tokens_on() -> None:
    """Mistral Small 4 against Small 3: 0.27 of the weight bytes at one token, more from about seven on."""
    parameters = ideal()
    times = {
        name: table(name, "gb200-nvl72", {"tensor": 1}, FP8, parameters).linear_s
        for name in ("mistral-small-3-24b", "mistral-small-4-119b-a6b")
    }
    ratio = times["mistral-small-4-119b-a6b"] / times["mistral-small-3-24b"]
    assert ratio[1] < 0.35
    assert ratio[4] < 1.0 < ratio[10]


def test_tensor_parallelism_shares_work_and_costs_collectives() -> None:
    alone, four = table(layout={"tensor": 1}, parameters=ideal()), table(layout={"tensor": 4}, parameters=ideal())
    assert four.linear_s[1] == pytest.approx(alone.linear_s[1] / 4, rel=0.05)
    assert four.context_s == pytest.approx(alone.context_s / 4, rel=1e-6)
    real_alone, real_four = table(layout={"tensor": 1}), table(layout={"tensor": 4})
    assert real_four.linear_s[1] > real_alone.linear_s[1] / 4


def test_latent_kv_is_repeated_under_tensor_parallelism_and_shared_by_data_parallelism() -> None:
    """One latent vector cannot be split: its reading is the same on 1 or 8 ranks, unless each has its own sequences."""
    parameters = ideal(latent_decode_attention=2.0)
    one, eight = (
        table("deepseek-r1", "gb200-nvl72", {"tensor": tensor}, FP8, parameters).context_s for tensor in (1, 8)
    )
    data = table("deepseek-r1", "gb200-nvl72", {"tensor": 1, "data": 8, "expert": 8}, FP8, parameters).context_s
    assert eight >= 0.5 * one
    assert data == pytest.approx(one / 8)


def test_a_windowed_layer_is_charged_by_its_window() -> None:
    times = table("gpt-oss-120b", "gb200-nvl72", {"tensor": 1}, FP8, ideal())
    assert times.window_context_s == pytest.approx(times.context_s)
    assert times.decode_step_s(2, 1000, 256) == pytest.approx(
        times.linear_s[2] + times.sequence_s[2] + 1000 * times.context_s + 256 * times.window_context_s
    )


def test_quantised_products_cost_latency_and_save_time() -> None:
    assert table(number_format=FP8).linear_s[1] < table(number_format=BF16).linear_s[1]
    heavy = ideal(quantisation_latency=1e-3)
    assert table(number_format=FP8, parameters=heavy).linear_s[1] > table(parameters=ideal()).linear_s[1] + 0.1


def test_a_long_step_waits_for_the_host_that_launches_it_and_a_recorded_one_does_not() -> None:
    """Beyond the largest graph a step takes the launches of its layers or its kernels, whichever is longer."""
    graph = int(PARAMETERS.graph_tokens.value)
    free, launched = (table(parameters=ideal(launch_latency=each)) for each in (0.0, 2e-3))
    assert launched.linear_s[: graph + 1] == pytest.approx(free.linear_s[: graph + 1])
    assert launched.linear_s[graph + 1] == pytest.approx(80 * 2e-3, rel=1e-3)
    slow = free.linear_s > 2.0 * 80 * 2e-3
    assert slow.any()
    assert launched.linear_s[slow] == pytest.approx(free.linear_s[slow], rel=1e-3)
