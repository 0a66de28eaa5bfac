"""Requests of which a share is answered by a model whose reasoning is shorter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.demand.compression import PowerLaw
from sim.demand.trace import Trace


def partly_compressed(
    trace: Trace, law: PowerLaw, reasoning_share: float, adoption: float, generator: np.random.Generator
) -> Trace:
    """Return a trace in which a share of the requests, at random, reasons less.

    An answer of N tokens with a reasoning part T = share x N becomes N - T + min(T, law(T) exp(s Z)), rounded to whole
    tokens, at least one. The same generator state chooses the same requests at a larger adoption, and more.

    Parameters
    ----------
    trace : Trace
        Requests before.
    law : PowerLaw
        What remains of a reasoning part.
    reasoning_share : float
        Part of every answer that is reasoning [1].
    adoption : float
        Share of the requests that are answered by the shorter model [1].
    generator : numpy.random.Generator
        Stream to draw from.

    """
    chosen = generator.random(trace.requests) < adoption
    noise = np.exp(law.spread * generator.standard_normal(trace.requests)) if law.spread > 0.0 else np.ones(1)
    output = trace.output_tokens.astype(np.float64)
    reasoning = reasoning_share * output
    shorter = np.minimum(reasoning, law.at(reasoning) * noise)
    tokens = np.where(chosen, output - reasoning + shorter, output)
    return replace(trace, output_tokens=np.maximum(1, np.rint(tokens)).astype(np.int64))
