"""What the tokens of a simulated pool cost: its bill over the tokens of the requests that it finished."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from sim.planning.unit_cost import SECONDS_PER_HOUR, TokenCosts, request_usd, token_costs
from sim.results.metrics import Window
from sim.results.result import Result
from sim.results.tables import labels, numbers
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import Deployment
from sim.serving.prefill_share import prefill_share_of_time


@dataclass(frozen=True)
class Load:
    """What a pool is asked to do."""

    requests_per_s: float
    """Requests that arrive in the measurement window [requests/s]."""

    prompt_tokens: float
    """Mean prompt [tokens]."""

    cached_tokens: float
    """Mean part of it that is found in a cache [tokens]."""

    output_tokens: float
    """Mean answer [tokens]."""


def pool_load(result: Result, pool: str, window: Window) -> Load | None:
    """Return what was asked of a pool in a result of one scenario; none where nothing was."""
    requests = result.tables["requests"]
    codes, names = labels(requests, "pool")
    if pool not in names:
        return None
    offered = window.holds(numbers(requests, "arrival_s")) & (codes == names.index(pool))
    if not offered.any():
        return None
    means = [
        float(numbers(requests, column)[offered].mean())
        for column in ("prompt_tokens", "cached_tokens", "output_tokens")
    ]
    return Load(int(offered.sum()) / window.duration_s, *means)


def pool_token_costs(result: Result, deployment: Deployment, window: Window) -> TokenCosts | None:
    """Return what tokens cost on a pool in a result of one scenario; none without a price or a finished request.

    Tokens are those of the requests that finish within the measurement window [s], as in the summary; the
    sequences of a replica are averaged over the time in which it is busy; capacity is that of the mean field.
    """
    if deployment.price is None:
        return None
    requests, timeline = result.tables["requests"], result.tables["timeline"]
    edges = numbers(timeline, "interval_start_s"), numbers(timeline, "interval_end_s")
    codes, names = labels(requests, "pool")
    if deployment.pool not in names:
        return None
    finished = window.holds(numbers(requests, "finished_s")) & (codes == names.index(deployment.pool))
    if not finished.any():
        return None
    prompt, cached, output = (
        numbers(requests, column)[finished] for column in ("prompt_tokens", "cached_tokens", "output_tokens")
    )
    codes, names = labels(timeline, "pool")
    weight = window.overlap_s(*edges) * (codes == names.index(deployment.pool))
    busy_s = float(weight @ (numbers(timeline, "replicas") * numbers(timeline, "busy_fraction")))
    sequences = float(weight @ numbers(timeline, "running")) / busy_s if busy_s > 0.0 else 1.0
    mix = request_mix(prompt, cached, output, deployment.window)
    capacity_per_s = deployment.replicas * saturated_requests_per_s(deployment, mix)
    return token_costs(
        deployment.replicas * deployment.accelerators * deployment.price.usd_per_hour,
        float(prompt.sum()) / window.duration_s,
        float(output.sum()) / window.duration_s,
        prefill_share_of_time(deployment, mix, sequences),
        min(1.0, prompt.size / window.duration_s / capacity_per_s),
    )


def class_costs(result: Result, pool: str, window: Window, costs: TokenCosts) -> pd.DataFrame:
    """Return what a request of each class costs on a pool, one row a class; a document is a request of its class.

    Columns: `class`, `requests_per_s`, `prompt_tokens` and `output_tokens` (means), `usd_per_request` and
    `usd_per_hour`, which adds up to the pool's bill. Requests are those that finish in the measurement window [s].
    """
    requests = result.tables["requests"]
    codes, names = labels(requests, "pool")
    finished = window.holds(numbers(requests, "finished_s")) & (codes == names.index(pool))
    classes, class_names = labels(requests, "class")
    rows = []
    for index, name in enumerate(class_names):
        mine = finished & (classes == index)
        if not mine.any():
            continue
        prompt, output = (
            float(numbers(requests, column)[mine].mean()) for column in ("prompt_tokens", "output_tokens")
        )
        rate, charge = int(mine.sum()) / window.duration_s, request_usd(costs, prompt, output)
        rows.append(
            {
                "class": name,
                "requests_per_s": rate,
                "prompt_tokens": prompt,
                "output_tokens": output,
                "usd_per_request": charge,
                "usd_per_hour": rate * charge * SECONDS_PER_HOUR,
            }
        )
    return pd.DataFrame(rows)
