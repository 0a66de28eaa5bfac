"""The requests of a drawn world: those of the horizon, longer or shorter, with other hits of the prefix cache."""

from __future__ import annotations

import dataclasses

import numpy as np

from sim.demand.adoption import partly_compressed
from sim.demand.streams import stream
from sim.demand.trace import Trace
from sim.planning.capacities import Service
from sim.planning.horizon import Horizon
from sim.planning.trials import requests_of
from sim.planning.uncertainty.world import World
from sim.planning.usage import compression_law


def world_requests(world: World, service: Service, rate_per_s: float, count: int, seed: int, adoption: float) -> Trace:
    """Return about `count` requests of a use case in a world; parameters as `sim.planning.trials.requests_of`."""
    plain = requests_of(world.horizon, service, rate_per_s, count, seed, 0.0)
    return compressed(world.horizon, service, stretched(world, service, plain), adoption, seed)


def stretched(world: World, service: Service, trace: Trace) -> Trace:
    """Return requests whose prompts and answers are a world's factors longer, without those beyond the context.

    Cached tokens keep their share of the prompt.
    """
    case = world.horizon.spec.use_cases[service.case]
    prompts = world.lengths.get((case.workload, "prompt_tokens"), 1.0)
    outputs = world.lengths.get((case.workload, "output_tokens"), 1.0)
    if prompts == 1.0 and outputs == 1.0:
        return trace
    prompt = np.maximum(1, np.rint(trace.prompt_tokens * prompts)).astype(np.int64)
    changed: dict[str, object] = {
        "prompt_tokens": prompt,
        "cached_tokens": np.minimum(np.rint(trace.cached_tokens * prompts).astype(np.int64), prompt - 1),
        "output_tokens": np.maximum(1, np.rint(trace.output_tokens * outputs)).astype(np.int64),
    }
    if trace.prefix_tokens is not None:
        shared = np.rint(trace.prefix_tokens * prompts).astype(np.int64)
        changed["prefix_tokens"] = np.minimum(shared, prompt - 1)
    longer = dataclasses.replace(trace, **changed)  # type: ignore[arg-type]  # columns by name of the same dataclass
    context = world.horizon.models[case.models[service.model].model].architecture.context_length
    fits = longer.prompt_tokens + longer.output_tokens <= context
    return longer if longer.follows is not None or fits.all() else longer.rows(np.flatnonzero(fits))


def compressed(horizon: Horizon, service: Service, trace: Trace, adoption: float, seed: int) -> Trace:
    """Return requests a share of which is answered by a compressed model, as `requests_of` does it."""
    law = compression_law(horizon, service.case)
    if law is None or adoption <= 0.0:
        return trace
    generator = stream(seed, service.case, "compression")
    share = horizon.spec.use_cases[service.case].reasoning_share.value
    return partly_compressed(trace, law, share, adoption, generator)
