"""Where step times come from when they are not those of the serving stack's efficiencies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.specs.spec import Spec


class MeasuredTableSpec(Spec):
    """Step times that somebody measured: a CSV with one row a step."""

    source: Literal["measured_table"]
    """Says what kind of source it is."""

    file: str
    """CSV with columns batch_tokens, decode_sequences, context_tokens, seconds and, for steps with a prompt in them,
    prefill_context_tokens; relative to the file that names it."""


class AiconfiguratorSpec(Spec):
    """Step times of the operator tables of aiconfigurator-core, an optional package of NVIDIA."""

    source: Literal["aiconfigurator"]
    """Says what kind of source it is."""

    system: str
    """System as that package names it, as `h200_sxm`."""

    model: str
    """Model as that package names it, as `Qwen/Qwen3-32B`."""

    backend: Literal["trtllm", "vllm", "sglang"] = "trtllm"
    """Engine whose kernels were measured."""

    version: str | None = None
    """Version of the engine in the tables; none takes the newest."""

    gemm_quant_mode: str | None = None
    """Format of matrix products as that package names it, as `fp8_block`; none takes that of the checkpoint."""

    moe_quant_mode: str | None = None
    """The same of routed experts."""


StepTimeSource = Annotated[MeasuredTableSpec | AiconfiguratorSpec, Field(discriminator="source")]
