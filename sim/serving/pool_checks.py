"""What keeps a pool from serving, as far as it can be said before any number is computed."""

from __future__ import annotations

from collections.abc import Iterator

from sim.serving.kv_cache import Formats
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import HardwareSpec, NumberFormat, Status
from sim.specs.model import ArchitectureSpec, GatedDeltaNet, ModelSpec
from sim.specs.serving_stack import ServingStackSpec

PoolProblem = tuple[str, object, str, str]


def pool_problems(
    pool: PoolSpec, hardware: HardwareSpec, model: ModelSpec, stack: ServingStackSpec
) -> Iterator[PoolProblem]:
    """Yield what can be said before any number is computed, as (key, value, message, remedy)."""
    if not hardware.availability.enabled or hardware.availability.status is Status.REMOVED:
        yield (
            "hardware",
            pool.hardware,
            f"this part is not offered ({hardware.availability.status.value})",
            "Choose another, or set `availability.enabled: true` in a profile that extends it.",
        )
    yield from _format_problems(pool, hardware, model, stack)
    layout = pool.parallelism
    if layout.accelerators > hardware.scale_up_domain:
        yield (
            "parallelism",
            layout.accelerators,
            f"a replica must fit the scale-up domain of {hardware.scale_up_domain} accelerators",
            "Use fewer accelerators per replica and more replicas.",
        )
    yield from _layout_problems(pool, model.architecture)


def _format_problems(
    pool: PoolSpec, hardware: HardwareSpec, model: ModelSpec, stack: ServingStackSpec
) -> Iterator[PoolProblem]:
    """Yield formats that the accelerator cannot compute with, or for which the serving stack states no efficiency."""
    formats = formats_of(pool, model)
    uses = {("weight_format", formats.weight_arithmetic): stack.step_time.matmul}
    if model.architecture.moe:
        uses["expert_format", formats.expert_arithmetic] = stack.step_time.expert_matmul
    known = ", ".join(sorted(number_format.value for number_format in hardware.peak))
    lacking = set()
    for (key, number_format), efficiencies in uses.items():
        if number_format not in hardware.peak and number_format not in lacking:
            lacking.add(number_format)
            yield (
                "arithmetic_format" if pool.arithmetic_format else key,
                number_format.value,
                f"{hardware.name} computes no {number_format.value} (it computes {known})",
                f"Choose one of these as {key}, or as arithmetic_format to keep {number_format.value} weights.",
            )
        elif number_format in hardware.peak and number_format not in efficiencies:
            yield (
                "serving_stack",
                pool.serving_stack,
                f"states no efficiency of {number_format.value} for {key.replace('_format', ' products')}",
                "Add one in a serving stack that extends it, or choose another format.",
            )
    if NumberFormat.BF16 not in hardware.peak:
        yield (
            "hardware",
            pool.hardware,
            "the profile states no bf16 peak, which attention needs",
            "Add one, marked as an assumption, in a profile that extends it.",
        )
    if NumberFormat.BF16 not in stack.step_time.matmul and formats.weight_arithmetic is not NumberFormat.BF16:
        yield (
            "serving_stack",
            pool.serving_stack,
            "states no efficiency of bf16, which the output projection needs",
            "Add one in a serving stack that extends it.",
        )


def _layout_problems(pool: PoolSpec, architecture: ArchitectureSpec) -> Iterator[PoolProblem]:
    layout = pool.parallelism
    heads = {
        group.value_heads if isinstance(group, GatedDeltaNet) else group.query_heads for group in architecture.attention
    }
    for count in sorted(heads):
        if count % layout.tensor:
            yield (
                "parallelism.tensor",
                layout.tensor,
                f"tensor parallelism must divide the {count} attention heads",
                "Use a power of two.",
            )
    if layout.pipeline > architecture.layers:
        yield (
            "parallelism.pipeline",
            layout.pipeline,
            f"the model has only {architecture.layers} layers to share among stages",
            "Use fewer stages.",
        )
    if layout.expert > 1:
        if architecture.moe is None:
            yield (
                "parallelism.expert",
                layout.expert,
                "the model has no experts to distribute",
                "Leave expert and data at 1.",
            )
        elif layout.expert > architecture.moe.experts:
            yield (
                "parallelism.expert",
                layout.expert,
                f"the model has only {architecture.moe.experts} experts",
                "Use fewer accelerators.",
            )


def formats_of(pool: PoolSpec, model: ModelSpec) -> Formats:
    """Return the number formats of a pool: its own, else the model's published ones."""
    weights = pool.weight_format or model.formats.weights
    published = model.formats.experts or model.formats.weights
    experts = pool.expert_format or pool.weight_format or published
    scales = model.formats.expert_scales
    return Formats(
        weights=weights,
        experts=experts,
        expert_scale_bytes=scales.bytes_per_weight if scales and experts is published else 0.0,
        kv=pool.kv_format,
        weight_arithmetic=pool.arithmetic_format or weights,
        expert_arithmetic=pool.arithmetic_format or experts,
    )
