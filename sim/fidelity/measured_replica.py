"""One replica of a measured system, ready to be simulated: its step times, KV memory and limits."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from sim.fidelity.systems import System, UnmappedError
from sim.serving.deployment import Deployment
from sim.serving.kv_cache import kv_capacity
from sim.serving.roofline import window_tokens
from sim.serving.step_time import StepTime, tabulate_step_time
from sim.specs.serving_stack import ServingStackSpec


def deployment(system: System, stack: ServingStackSpec) -> Deployment:
    """Return one replica of a measured system under a serving stack.

    Parameters
    ----------
    system : System
        The system.
    stack : ServingStackSpec
        Batching limits and efficiencies.

    Raises
    ------
    UnmappedError
        The model does not fit in memory, or a number format has no efficiency.

    """
    layout, model, batching = system.parallelism, system.model, stack.batching
    kv = kv_capacity(
        model.architecture,
        system.formats,
        layout,
        system.hardware.memory.usable.value,
        batching.memory_fraction.value,
        batching.activation_reserve.value,
        int(batching.kv_block.value),
    )
    longest = round(1.0 / 0.9 * (system.lengths.prompt_tokens + system.lengths.output_tokens))
    if kv.tokens < longest + 2 * kv.sequence_charge:
        raise UnmappedError(f"{model.name} does not fit on {layout.accelerators} x {system.hardware.name}")
    groups = layout.data * layout.pipeline
    users = math.ceil(system.load.amount / system.replicas) if system.load.kind in ("closed", "batch") else 0
    sequences = max(int(batching.max_sequences.value) * groups, users)
    budget = int(batching.step_token_budget.value) * groups
    try:
        times = tabulate_step_time(
            model.architecture,
            system.hardware,
            layout,
            system.formats,
            stack.step_time_on(system.hardware.family),
            budget + sequences,
            sequences,
        )
    except KeyError as error:
        raise UnmappedError(
            f"{system.hardware.name} or the serving stack knows no {error.args[0]} arithmetic"
        ) from None
    held = _held_share(system)
    kv = dataclasses.replace(kv, tokens=int(kv.tokens * held), group_tokens=int(kv.group_tokens * held))
    return Deployment(
        pool="measured",
        model=model.name,
        hardware=system.hardware.name,
        replicas=1,
        accelerators=layout.accelerators,
        step_time=_drafted(times, system),
        request_overhead_s=stack.step_time_on(system.hardware.family).request_overhead.value,
        kv=kv,
        max_sequences=sequences,
        step_token_budget=budget,
        admission_headroom=max(1, int(batching.admission_headroom.value * kv.tokens)),
        window=window_tokens(model.architecture),
        context_length=1 << 30,
        price=None,
        idle_w=None,
        busy_w=None,
        specification_only=False,
    )


def _held_share(system: System) -> float:
    """Return the mean context of a request counted in steps over the real one, for a step may add several tokens."""
    prompt, answer = system.lengths.prompt_tokens, 0.5 * system.lengths.output_tokens
    return (prompt + answer / system.speculation.tokens_per_step) / (prompt + answer)


def _drafted(times: StepTime, system: System) -> StepTime:
    """Return step times with drafts: k + 1 tokens of each sequence are checked, k are drafted by a few layers."""
    drafts = system.speculation.drafts
    if drafts == 0:
        return times
    tokens = np.arange(len(times.linear_s), dtype=np.float64)
    count = np.arange(len(times.sequence_s), dtype=np.float64)
    checked, alone = (np.interp(count * each, tokens, times.linear_s) for each in (drafts + 1.0, 1.0))
    share = drafts * system.speculation.draft_layers / system.model.architecture.layers
    extra = checked - alone + share * np.where(count > 0.0, alone, 0.0)
    longer = 1.0 / _held_share(system)
    return dataclasses.replace(
        times,
        sequence_s=times.sequence_s + extra,
        context_s=times.context_s * longer,
        window_context_s=times.window_context_s * longer,
    )
