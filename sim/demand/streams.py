"""Named random streams: what is drawn under one name never depends on what is drawn under another."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """Return the random stream of a seed that belongs to a name.

    The state is a hash of the names mixed with the seed, so a new stream neither shifts nor correlates
    with the others, and two fleets that draw under the same names meet the same customers
    (common random numbers; Law, Simulation Modeling and Analysis, section 11.2).

    Parameters
    ----------
    seed : int
        Seed of the run, not negative.
    names : str or int
        Path of the stream, e.g. `"chat", 0, "arrivals"`; `1` and `"1"` are different names.

    Returns
    -------
    numpy.random.Generator
        PCG64 generator, at its start.

    Raises
    ------
    ValueError
        The seed is negative.

    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    words = json.dumps([name if isinstance(name, str) else int(name) for name in names])
    digest = np.frombuffer(hashlib.sha256(words.encode()).digest(), dtype="<u4")
    sequence = np.random.SeedSequence(int(seed), spawn_key=tuple(int(word) for word in digest))
    return np.random.Generator(np.random.PCG64(sequence))
