"""Which part of a request a pool does: all of it, or prompts for another pool, or the answers to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sim.results.tables import labels, numbers
from sim.specs.fleet import PoolSpec

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ServedRequests:
    """What a pool had of its requests, each of shape (rows,)."""

    mine: npt.NDArray[np.bool_]
    """Requests that it had a part in."""

    prompt: Array
    """Prompts [tokens]."""

    cached: Array
    """Part of them that it did not compute [tokens]."""

    output: Array
    """Tokens that it generated [tokens]."""

    from_s: Array
    """When its work began, NaN where it never did [s]."""

    until_s: Array
    """When its work ended, NaN where it never did [s]."""


def served_by(pool: str, fleet: Mapping[str, PoolSpec], requests: pa.Table) -> ServedRequests:
    """Return what a pool had of the requests of a run.

    A pool that hands over computes prompts and the first token; the requests name the pool that answers them, for
    which nearly all of each prompt is there already. Where several pools hand over to one, each is taken to have had
    all of them.

    Parameters
    ----------
    pool : str
        Its name.
    fleet : mapping
        All pools by name.
    requests : Table
        Requests of one scenario.

    """
    codes, names = labels(requests, "pool")
    hand_over = fleet[pool].hand_over
    answers = pool if hand_over is None else hand_over.to
    mine = np.asarray(codes == (names.index(answers) if answers in names else -2))
    prompt, cached, output, admitted_s, first_s, finished_s = (
        numbers(requests, column)
        for column in ("prompt_tokens", "cached_tokens", "output_tokens", "admitted_s", "first_token_s", "finished_s")
    )
    if hand_over is not None:
        return ServedRequests(mine, prompt, cached, np.ones_like(output), admitted_s, first_s)
    if any(each.hand_over is not None and each.hand_over.to == pool for each in fleet.values()):
        return ServedRequests(mine, prompt, prompt - 1.0, output, first_s, finished_s)
    return ServedRequests(mine, prompt, cached, output, admitted_s, finished_s)
