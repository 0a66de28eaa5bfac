"""What the pools of a run cost, and how their cost is shared between prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence

from sim.results.metrics import PAID_REPLICAS, PoolCost, Window
from sim.results.tables import Table, labels, numbers
from sim.serving.capacity import request_mix
from sim.serving.deployment import Deployment
from sim.serving.prefill_share import prefill_share_of_time

EVEN = 0.5
"""Share where nothing finished, of which nothing is shared."""


def pool_costs(deployments: Sequence[Deployment], requests: Table, timeline: Table, window: Window) -> list[PoolCost]:
    """Return the cost of each pool: of all replicas that are paid, which are all but those that are off.

    Prompts bear what they cause of the busy time, by the step-time model.

    Parameters
    ----------
    deployments : sequence of Deployment
        Pools.
    requests, timeline : table
        Tables of all replications of one scenario.
    window : Window
        Requests that finish in it share the cost.

    """
    finished = window.holds(numbers(requests, "finished_s"))
    pools, names = labels(requests, "pool")
    lengths = [numbers(requests, column) for column in ("prompt_tokens", "cached_tokens", "output_tokens")]
    seconds = window.overlap_s(numbers(timeline, "interval_start_s"), numbers(timeline, "interval_end_s"))
    rows, timed = labels(timeline, "pool")
    busy = seconds * numbers(timeline, "replicas") * numbers(timeline, "busy_fraction")
    running = seconds * numbers(timeline, "running")
    paid = seconds * sum(numbers(timeline, column) for column in PAID_REPLICAS)
    found = []
    for each in deployments:
        share = EVEN
        here = rows == timed.index(each.pool)
        replicas = float(paid[here].sum()) / max(float(seconds[here].sum()), 1e-9)
        mine = finished & (pools == names.index(each.pool)) if each.pool in names else finished & False
        if mine.any():
            busy_s = float(busy[here].sum())
            sequences = float(running[here].sum()) / busy_s if busy_s > 0.0 else 1.0
            prompt, cached, output = (column[mine] for column in lengths)
            mix = request_mix(prompt, cached, output, each.window)
            share = float(prefill_share_of_time(each, mix, sequences))
        price = each.price
        found.append(
            PoolCost(
                each.pool,
                replicas * each.accelerators,
                None if price is None else price.usd_per_hour,
                "none" if price is None else price.basis.value,
                share,
            )
        )
    return found
