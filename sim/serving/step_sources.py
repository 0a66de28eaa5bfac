"""Sources of step times beside a serving stack's efficiencies: tables of measured steps, and aiconfigurator-core."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from sim.serving.measured_steps import MeasuredStep, outside_of, read_measured_steps, tabulated
from sim.serving.step_time import StepTime
from sim.serving.validity import Validity
from sim.specs.errors import InputError, Problem
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import NumberFormat
from sim.specs.serving_stack import StepTimeSpec
from sim.specs.step_time_source import AiconfiguratorSpec, MeasuredTableSpec, StepTimeSource

_SEQUENCES = (1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 384, 512)
_CONTEXTS = (256, 1024, 4096, 16384)
_CHUNKS = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
_PASTS = (0, 4096, 16384)
_KV_MODES = {NumberFormat.BF16: "bfloat16", NumberFormat.FP8: "fp8", NumberFormat.INT8: "int8"}


class _Engine(Protocol):
    """What is used of an engine of aiconfigurator-core; times are in ms."""

    def decode_step_latency(self, gen_tokens: int, isl: int, osl: int) -> float: ...

    def predict_prefill_latency(self, bs: int, isl: int, prefix: int) -> float: ...


@dataclass(frozen=True)
class SourcedPool:
    """What a source of step times has to know about a pool."""

    layout: ParallelismSpec
    """Layout of a replica."""

    kv_format: NumberFormat
    """Format of KV entries."""

    step_token_budget: int
    """Most tokens in a step."""

    kv_tokens: int
    """KV entries of a replica [tokens]."""

    window: int
    """Sliding window [tokens]; 0 where there is none."""

    parameters: StepTimeSpec
    """The serving stack's own parameters on this accelerator."""


def sourced_step_time(
    source: StepTimeSource, pool: SourcedPool, stack: StepTime, validity: Validity
) -> tuple[StepTime, Validity]:
    """Return the step times of a source and what is known about them.

    Error bands of the serving stack are not those of another source, so there are none.

    Parameters
    ----------
    source : MeasuredTableSpec or AiconfiguratorSpec
        The source.
    pool : SourcedPool
        What is served.
    stack : StepTime
        Step times of the serving stack, which hold outside of the source.
    validity : Validity
        What is known about these.

    Raises
    ------
    InputError
        A table that cannot be read; aiconfigurator-core that is not installed, or does not know the system.

    """
    if isinstance(source, MeasuredTableSpec):
        steps, name = read_measured_steps(Path(source.file)), Path(source.file).name
    else:
        steps, name = aiconfigurator_steps(source, pool), f"aiconfigurator-core on {source.system}"
    table = tabulated(steps, stack, pool.window)
    reasons = tuple(outside_of(table, pool.step_token_budget, name))
    return table.step_time, replace(
        validity,
        known="calibrated" if isinstance(source, MeasuredTableSpec) else validity.known,
        bands={},
        outside=reasons if isinstance(source, MeasuredTableSpec) else (*validity.outside, *reasons),
        most_sequences=float(table.most_sequences),
        most_tokens=None,
        most_kv_fraction=min(1.0, table.most_context_tokens / pool.kv_tokens) if table.most_context_tokens else None,
        source=name,
    )


def aiconfigurator_steps(source: AiconfiguratorSpec, pool: SourcedPool) -> list[MeasuredStep]:
    """Return steps as the operator tables of aiconfigurator-core have them, with the serving stack's host time.

    Its sums are those of kernels alone, so that the host time of a step and of its sequences is added.

    Raises
    ------
    InputError
        Not installed; data-parallel attention, for which its sums are per rank; or a system that it does not know.

    """
    where = "step_time: {source: aiconfigurator}"
    try:
        import aiconfigurator_core
        from aiconfigurator_core.sdk.engine import compile_engine
    except ImportError:
        remedy = "Install it: pip install 'fleetcast[aiconfigurator]'."
        raise InputError([Problem("aiconfigurator-core is not installed", where, remedy=remedy)]) from None
    layout = pool.layout
    if layout.data > 1:
        remedy = "Use a layout with data: 1, or a measured table."
        raise InputError([Problem("data-parallel attention is not tabulated", where, value=layout.data, remedy=remedy)])
    ranks = layout.tensor * layout.data
    try:
        compiled = compile_engine(
            source.model,
            source.system,
            source.backend,
            source.version,
            tp_size=layout.tensor,
            pp_size=layout.pipeline,
            moe_tp_size=ranks // layout.expert,
            moe_ep_size=layout.expert,
            gemm_quant_mode=source.gemm_quant_mode,
            moe_quant_mode=source.moe_quant_mode,
            kvcache_quant_mode=_KV_MODES.get(pool.kv_format),
        )
        engine = aiconfigurator_core.AicEngine.from_spec(bytes(compiled))
        return [*_decode_steps(engine, pool.parameters), *_prefill_steps(engine, pool.parameters)]
    except Exception as error:  # whatever the package raises, its words are the answer to the user
        remedy = "See what the package supports, or use a measured table."
        raise InputError([Problem(f"aiconfigurator-core cannot say: {error}", where, remedy=remedy)]) from None


def _decode_steps(engine: _Engine, parameters: StepTimeSpec) -> list[MeasuredStep]:
    found = []
    for count in _SEQUENCES:
        host_s = parameters.step_overhead.value + count * parameters.sequence_overhead.value
        for context in _CONTEXTS:
            kernels_s = engine.decode_step_latency(count, context, 2) * 1e-3
            found.append(MeasuredStep(count, count, float(count * context), kernels_s + host_s))
    return found


def _prefill_steps(engine: _Engine, parameters: StepTimeSpec) -> list[MeasuredStep]:
    host_s = parameters.step_overhead.value
    return [
        MeasuredStep(chunk, 0, 0.0, engine.predict_prefill_latency(1, chunk + past, past) * 1e-3 + host_s, float(past))
        for chunk in _CHUNKS
        for past in _PASTS
    ]
