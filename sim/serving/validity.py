"""How far a pool's figures can be trusted: error bands that measured points earned, and what lies outside of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sim.serving.kv_cache import Formats
from sim.serving.roofline import is_windowed
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.model import ArchitectureSpec, GatedDeltaNet, MultiHeadLatentAttention
from sim.specs.serving_stack import BandClass, BandMetric, BandSpec, CoverageSpec, ModelFeature, ServingStackSpec

_FEATURES: Mapping[ModelFeature, str] = {
    "dense": "dense feed-forward layers only",
    "experts": "a mixture of experts",
    "latent_attention": "multi-head latent attention",
    "sliding_window": "sliding windows",
    "recurrent_state": "recurrent layers",
}


@dataclass(frozen=True)
class Validity:
    """What is known about the error of a pool's predictions."""

    known: BandClass
    """Accelerator calibrated; or its efficiencies transferred from others; or known by its specification only."""

    bands: Mapping[BandMetric, BandSpec] = field(default_factory=dict)
    """Metric -> range of measured over predicted that held four of five points; empty where the stack states none."""

    outside: tuple[str, ...] = ()
    """What of hardware, model and formats no measured point of the stack is like."""

    most_sequences: float | None = None
    """Most sequences of a measured replica; none where not known."""

    most_tokens: float | None = None
    """Longest measured requests [tokens]; none where not known."""

    most_kv_fraction: float | None = None
    """Largest context of a measured step, as a fraction of KV memory [1]; none where not known."""

    source: str = ""
    """Where step times come from; empty for the serving stack's own."""


UNJUDGED = Validity("specification", outside=("nobody has judged this pool",))
"""Validity of a pool that was put together without a serving stack."""


def validity_of(
    stack: ServingStackSpec,
    hardware: HardwareSpec,
    architecture: ArchitectureSpec,
    formats: Formats,
    specification_only: bool,
) -> Validity:
    """Return what the measured points of a serving stack say about a pool.

    The band of a calibrated accelerator is that of its family under this stack, else that of all calibrated ones. An
    accelerator with too few points of its own has the band of families left out of the fit, and one that is known by
    its specification the wider band of those that nobody has measured.

    Parameters
    ----------
    stack, hardware, architecture, formats
        What serves what on what, in which number formats.
    specification_only : bool
        Whether the hardware is announced only, or what is used of it is a claim.

    """
    known = known_class(stack, hardware, specification_only)
    bands = {metric: classes[known] for metric, classes in stack.bands.items() if known in classes}
    own = stack.coverage.get(hardware.family)
    if own is not None and known == "calibrated":
        bands |= own.bands
    covered = [own] if own is not None else list(stack.coverage.values())
    return Validity(
        known,
        bands,
        tuple(_outside(stack, hardware, architecture, formats, covered)),
        _most(each.most_sequences for each in covered),
        _most(each.most_tokens for each in covered),
    )


def known_class(stack: ServingStackSpec, hardware: HardwareSpec, specification_only: bool) -> BandClass:
    """Return how well an accelerator is known: by points of its own, by its family or others, or by specification.

    A stack without coverage, such as one in the middle of a fit, knows the families that it has factors on.
    """
    own = stack.coverage.get(hardware.family)
    if own is not None and hardware.name in own.accelerators:
        return "calibrated"
    if not stack.coverage and hardware.family in stack.families:
        return "calibrated"
    return "specification" if specification_only else "transferred"


def features_of(architecture: ArchitectureSpec) -> tuple[ModelFeature, ...]:
    """Return what kinds of layers a model has, in a fixed order."""
    groups = architecture.attention
    found: dict[ModelFeature, bool] = {
        "dense": architecture.moe is None,
        "experts": architecture.moe is not None,
        "latent_attention": any(isinstance(group, MultiHeadLatentAttention) for group in groups),
        "sliding_window": any(is_windowed(group) for group in groups),
        "recurrent_state": any(isinstance(group, GatedDeltaNet) for group in groups),
    }
    return tuple(name for name, there in found.items() if there)


def formats_used(architecture: ArchitectureSpec, formats: Formats) -> set[NumberFormat]:
    """Return the formats in which a model's large matrix products are computed."""
    experts = {formats.expert_arithmetic} if architecture.moe is not None else set()
    return {formats.weight_arithmetic} | experts


def _outside(
    stack: ServingStackSpec,
    hardware: HardwareSpec,
    architecture: ArchitectureSpec,
    formats: Formats,
    covered: list[CoverageSpec],
) -> Iterable[str]:
    if not stack.coverage:
        yield f"serving stack {stack.name} does not say what it was calibrated on"
        return
    own = stack.coverage.get(hardware.family)
    if own is None:
        yield f"no accelerator of family {hardware.family} was measured"
    elif hardware.name not in own.accelerators:
        others = ", ".join(own.accelerators)
        there = f", only {others} of its family" if others else ""
        yield f"{hardware.name} has too few measured points{there}"
    seen = {feature for each in covered for feature in each.features}
    for feature in features_of(architecture):
        if feature not in seen:
            yield f"no measured model there has {_FEATURES[feature]}"
    measured = {number_format for each in covered for number_format in each.formats}
    for number_format in sorted(formats_used(architecture, formats) - measured):
        yield f"no point there was measured in {number_format.value}"


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
