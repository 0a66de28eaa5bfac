"""A pool made concrete: its step time, KV memory and price, or every reason why it cannot serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.serving.cold_start import cold_start_of
from sim.serving.kv_cache import Formats, KvCapacity, kv_capacity
from sim.serving.pool_checks import formats_of, pool_problems
from sim.serving.roofline import window_tokens
from sim.serving.state import FRACTION_BITS, POOL
from sim.serving.step_sources import SourcedPool, sourced_step_time
from sim.serving.step_time import StepTime, tabulate_step_time
from sim.serving.validity import UNJUDGED, Validity, validity_of
from sim.specs.errors import InputError, Problem
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import HardwareSpec, NumberFormat, PriceBasis, Status
from sim.specs.library import anchored
from sim.specs.model import ModelSpec
from sim.specs.resolved import Scenario
from sim.specs.serving_stack import ServingStackSpec
from sim.specs.spec import Confidence

NANOSECONDS = 1e9
LONGEST_SPAN = 1 << 40
"""Steps in a span when nothing else ends it."""


@dataclass(frozen=True)
class Price:
    """What an accelerator-hour costs, on which terms, and how sure that is."""

    usd_per_hour: float
    """Price [USD per accelerator-hour]."""

    low: float
    """Lower end [USD per accelerator-hour]."""

    high: float
    """Upper end [USD per accelerator-hour]."""

    basis: PriceBasis
    """Terms."""


@dataclass(frozen=True)
class Deployment:
    """One pool, ready to be simulated."""

    pool: str
    """Name of the pool."""

    model: str
    """Name of the model."""

    hardware: str
    """Name of the hardware profile."""

    replicas: int
    """Serving instances."""

    accelerators: int
    """Accelerators of one replica."""

    step_time: StepTime
    """How long steps take."""

    request_overhead_s: float
    """Host time of a request outside the engine's steps, until its first token is at the client [s]."""

    kv: KvCapacity
    """KV memory of one replica."""

    max_sequences: int
    """Sequences of one replica at a time."""

    step_token_budget: int
    """Tokens of one replica in one step."""

    admission_headroom: int
    """KV entries kept free when a sequence joins others [tokens]."""

    window: int
    """Sliding window [tokens]; 0 when there is none."""

    context_length: int
    """Longest context that the model accepts [tokens]."""

    price: Price | None
    """Price, if any is known on the terms that the scenario accepts."""

    idle_w: float | None
    """Power of an idle accelerator [W]."""

    busy_w: float | None
    """Power of a busy accelerator [W]."""

    specification_only: bool
    """Whether no such hardware could be measured yet: announced, or its numbers are claims and assumptions."""

    validity: Validity = UNJUDGED
    """Error bands of its predictions, and what of it no measured point is like."""

    host_w: float = 0.0
    """Power of host, network and fans per accelerator, whatever the load [W]."""

    speed_elasticity: float | None = None
    """Exponent by which the speed of steps follows the power above idle under a cap [1]; none where unknown."""

    cold_start_s: float = 0.0
    """Time from nothing to the first request [s]."""

    def longest_request(self) -> int:
        """Return the longest prompt plus answer that a replica can ever hold [tokens]."""
        return min(self.context_length, self.kv.group_tokens - self.kv.sequence_charge + 1)


def deploy(scenario: Scenario) -> list[Deployment]:
    """Return the pools of a scenario, in the order of its fleet.

    Raises
    ------
    InputError
        Everything that keeps a pool from serving: a model that does not fit, a format that the accelerator lacks, a
        layout that does not divide the model or leaves the scale-up domain, hardware that is not to be had.

    """
    deployments, problems = [], []
    for name, pool in scenario.spec.fleet.items():
        hardware = scenario.hardware[pool.hardware]
        model = scenario.models[pool.model]
        stack = scenario.serving_stacks[pool.serving_stack]
        found = [
            scenario.raw.problem(message, ("fleet", name, *key.split(".")), value, remedy)
            for key, value, message, remedy in pool_problems(pool, hardware, model, stack)
        ]
        if not found:
            try:
                deployments.append(_deployment(scenario, name, pool, hardware, model))
            except InputError as error:
                found += error.problems
        problems += found
    if problems:
        raise InputError(problems)
    return deployments


def pool_records(
    deployments: Sequence[Deployment], max_span: int = LONGEST_SPAN
) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.int64]]:
    """Return pools as the replica functions read them: records, and the two step-time tables in fixed point.

    Parameters
    ----------
    deployments : sequence of Deployment
        P pools.
    max_span : int
        Longest span [steps]; 1 simulates step by step.

    Returns
    -------
    tuple of arrays
        POOL records of shape (P,), linear durations of shape (P, T + 1) and sequence durations of shape (P, S + 1)
        [2**-20 ns].

    """
    records = np.zeros(len(deployments), POOL)
    tokens = max(each.step_token_budget + each.max_sequences for each in deployments)
    sequences = max(each.max_sequences for each in deployments)
    linear = np.zeros((len(deployments), tokens + 1), np.int64)
    sequence = np.zeros((len(deployments), sequences + 1), np.int64)
    for index, (record, each) in enumerate(zip(records, deployments, strict=True)):
        record["max_sequences"] = each.max_sequences
        record["step_token_budget"] = each.step_token_budget
        record["kv_capacity"] = each.kv.tokens
        record["admission_headroom"] = each.admission_headroom
        record["sequence_charge"] = each.kv.sequence_charge
        record["max_span"] = max_span
        record["window"] = each.window
        record["context_duration"] = fixed_point(each.step_time.context_s)
        record["window_duration"] = fixed_point(each.step_time.window_context_s)
        record["pair_duration"] = fixed_point(each.step_time.pair_s)
        record["window_pair_duration"] = fixed_point(each.step_time.window_pair_s)
        linear[index, : len(each.step_time.linear_s)] = fixed_point(each.step_time.linear_s)
        sequence[index, : len(each.step_time.sequence_s)] = fixed_point(each.step_time.sequence_s)
    return records, linear, sequence


def fixed_point(seconds: float | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return durations in units of 2**-20 ns, rounded to the nearest."""
    return np.rint(np.asarray(seconds) * (NANOSECONDS * (1 << FRACTION_BITS))).astype(np.int64)


def _deployment(scenario: Scenario, name: str, pool: PoolSpec, hardware: HardwareSpec, model: ModelSpec) -> Deployment:
    stack = scenario.serving_stacks[pool.serving_stack]
    layout, architecture = pool.parallelism, model.architecture
    formats = formats_of(pool, model)
    batching = stack.batching
    reserve = batching.activation_reserve.value if pool.activation_reserve is None else pool.activation_reserve
    kv = kv_capacity(
        architecture,
        formats,
        layout,
        memory_bytes=hardware.memory.usable.value,
        memory_fraction=batching.memory_fraction.value,
        activation_reserve_bytes=reserve,
        block_tokens=int(batching.kv_block.value),
    )
    if kv.group_tokens - kv.sequence_charge < 2:
        raise InputError([_does_not_fit(scenario, name, pool, hardware, kv, stack)])
    sequences = (pool.max_sequences or batching.max_sequences.value) * layout.data
    budget = int(pool.step_token_budget or batching.step_token_budget.value) * layout.data
    power = hardware.power.thermal_design
    idle, elasticity = hardware.power.idle_fraction, hardware.power.speed_elasticity
    unmeasured = specification_only(hardware, formats)
    parameters = stack.step_time_on(hardware.family)
    times = tabulate_step_time(architecture, hardware, layout, formats, parameters, budget + sequences, sequences)
    validity = validity_of(stack, hardware, architecture, formats, unmeasured)
    source = pool.step_time or stack.step_time_source
    if source is not None:
        asked = SourcedPool(layout, formats.kv, budget, kv.tokens, window_tokens(architecture), parameters)
        times, validity = sourced_step_time(anchored(source, scenario.raw.file), asked, times, validity)
    return Deployment(
        pool=name,
        model=model.name,
        hardware=hardware.name,
        replicas=pool.replicas,
        accelerators=layout.accelerators,
        step_time=times,
        request_overhead_s=parameters.request_overhead.value,
        kv=kv,
        max_sequences=sequences,
        step_token_budget=budget,
        admission_headroom=max(1, int(batching.admission_headroom.value * kv.tokens)),
        window=window_tokens(architecture),
        context_length=architecture.context_length,
        price=price_of(pool, hardware, scenario.spec.price_basis),
        idle_w=None if power is None or idle is None else power.value * idle.value,
        busy_w=None if power is None else power.value,
        host_w=pool.power.host,
        speed_elasticity=pool.power.speed_elasticity or (None if elasticity is None else elasticity.value),
        cold_start_s=cold_start_of(pool.cold_start, hardware, layout.accelerators, kv.weight_bytes),
        specification_only=unmeasured,
        validity=validity,
    )


def _does_not_fit(
    scenario: Scenario, name: str, pool: PoolSpec, hardware: HardwareSpec, kv: KvCapacity, stack: ServingStackSpec
) -> Problem:
    gib = 2.0**30
    return scenario.raw.problem(
        f"{pool.model} does not fit: {kv.weight_bytes / gib:.1f} GiB of weights per accelerator leave "
        f"{kv.free_bytes / gib:.1f} GiB for KV out of {hardware.memory.usable.value / gib:.1f} GiB usable "
        f"(of which the serving stack takes {stack.batching.memory_fraction.value:.0%})",
        ("fleet", name, "parallelism"),
        remedy="Raise parallelism.tensor, choose a smaller weight_format, or hardware with more memory.",
    )


def price_of(pool: PoolSpec, hardware: HardwareSpec, scenario_basis: Sequence[PriceBasis]) -> Price | None:
    """Return the price of a pool: its own, else the first of the accepted terms that the profile knows."""
    if pool.price is not None:
        return Price(pool.price, pool.price, pool.price, PriceBasis.STATED)
    for basis in pool.price_basis or scenario_basis:
        quoted = hardware.prices.hourly.get(basis)
        if quoted is not None:
            low = quoted.value if quoted.low is None else quoted.low
            high = quoted.value if quoted.high is None else quoted.high
            return Price(quoted.value, low, high, basis)
    return None


def specification_only(hardware: HardwareSpec, formats: Formats) -> bool:
    """Return whether the hardware is announced or internal, or what a pool uses of it is a claim or an assumption."""
    claims = {Confidence.VENDOR_CLAIM, Confidence.ASSUMPTION, Confidence.ANALYST_ESTIMATE}
    used = {NumberFormat.BF16, formats.weight_arithmetic, formats.expert_arithmetic}
    numbers = [hardware.memory.bandwidth, *(peak for each, peak in hardware.peak.items() if each in used)]
    return hardware.availability.status is not Status.SHIPPING or any(each.confidence in claims for each in numbers)
