"""The table of headroom: what each class bears of the paid time of each pool, from the other tables of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sim.results.headroom import PARTS, PaidTime, busy_by_class, cost_nano_usd, split_by_class, spread
from sim.results.shares_of_work import ServedRequests, served_by
from sim.results.tables import arrow_table, labels, numbers
from sim.serving.capacity import request_mix, saturated_requests_per_s
from sim.serving.deployment import NANOSECONDS, Deployment
from sim.specs.fleet import PoolSpec

_NANO_USD = 1e-9

Array = NDArray[np.float64]


def headroom_table(
    requests: pa.Table,
    timeline: pa.Table,
    deployments: Sequence[Deployment],
    fleet: Mapping[str, PoolSpec],
    classes: Mapping[str, Sequence[str]],
    peak_share: float,
) -> pa.Table:
    """Return one row for each pool, class and part of one run.

    Parameters
    ----------
    requests, timeline : Table
        Of one scenario and replication.
    deployments : sequence of Deployment
        Its pools.
    fleet : mapping
        What the scenario says of them, by name.
    classes : mapping
        Traffic classes that may bear what a pool costs, by its name.
    peak_share : float
        See `sim.results.headroom.headroom_weights` [1].

    """
    rows: list[dict[str, object]] = []
    common = {"scenario_id": str(timeline["scenario_id"][0]), "replication": timeline["replication"][0].as_py()}
    for each in deployments:
        names = classes[each.pool]
        served = served_by(each.pool, fleet, requests)
        split = _pool_split(requests, served, timeline, each, names, peak_share)
        price = each.price
        cost = None if price is None else cost_nano_usd(split, price.usd_per_hour)
        for place, name in enumerate(names):
            for column, part in enumerate(PARTS):
                rows.append(
                    {
                        **common,
                        "pool": each.pool,
                        "class": name,
                        "part": part,
                        "accelerator_s": int(split[place, column]) / NANOSECONDS,
                        "cost_usd": None if cost is None else int(cost[place, column]) * _NANO_USD,
                        "price_basis": None if price is None else price.basis.value,
                    }
                )
    return arrow_table("headroom", pa.Table.from_pylist(rows, schema=_loose_schema()))


def _loose_schema() -> pa.Schema:
    text, number = pa.string(), pa.float64()
    types = {"replication": pa.int32(), "accelerator_s": number, "cost_usd": number}
    names = ("scenario_id", "replication", "pool", "class", "part", "accelerator_s", "cost_usd", "price_basis")
    return pa.schema([pa.field(name, types.get(name, text)) for name in names])


def _pool_split(
    requests: pa.Table,
    served: ServedRequests,
    timeline: pa.Table,
    deployment: Deployment,
    classes: Sequence[str],
    peak_share: float,
) -> NDArray[np.int64]:
    """Return the paid accelerator time of a pool by class and part, shape (classes, parts) [ns]."""
    codes, pool_names = labels(timeline, "pool")
    mine = codes == pool_names.index(deployment.pool)
    start_s, end_s = numbers(timeline, "interval_start_s")[mine], numbers(timeline, "interval_end_s")[mine]
    length_ns = np.rint((end_s - start_s) * NANOSECONDS)
    serving_ns, starting_ns, spare_ns, failed_ns = (
        _whole(numbers(timeline, column)[mine] * length_ns)
        for column in ("replicas", "starting_replicas", "spare_replicas", "failed_replicas")
    )
    work = _work_ns(requests, served, deployment, classes, np.append(start_s, end_s[-1]))
    busy_ns = _whole(numbers(timeline, "busy_fraction")[mine] * serving_ns)
    used_ns = np.minimum(busy_ns, _whole(work.sum(axis=1)))
    used = int(used_ns.sum())
    paid = PaidTime(
        accelerators=deployment.accelerators,
        used_ns=used,
        idle_ns=int(serving_ns.sum()) - used,
        spare_ns=int(spare_ns.sum()),
        starting_ns=int(starting_ns.sum()),
        failed_ns=int(failed_ns.sum()),
    )
    return split_by_class(paid, busy_by_class(used_ns, work), peak_share)


def _work_ns(
    requests: pa.Table, served: ServedRequests, deployment: Deployment, classes: Sequence[str], edges_s: Array
) -> Array:
    """Return the replica time that the requests of each class take in full batches, shape (intervals, classes) [ns].

    A request takes the mean of its class at saturation, in proportion to its tokens, from when its work begins here to
    when it ends, or to the end of the run.
    """
    work = np.zeros((len(edges_s) - 1, len(classes)))
    kinds, class_names = labels(requests, "class")
    here = served.mine & np.isfinite(served.from_s)
    until_s = np.nan_to_num(served.until_s, nan=edges_s[-1])
    for place, name in enumerate(classes):
        chosen = here & (kinds == class_names.index(name)) if name in class_names else here & False
        if not chosen.any():
            continue
        prompt, cached, output = (each[chosen] for each in (served.prompt, served.cached, served.output))
        mix = request_mix(prompt, cached, output, deployment.window)
        tokens = prompt - cached + output
        each_ns = NANOSECONDS / saturated_requests_per_s(deployment, mix) * tokens / tokens.mean()
        from_s = served.from_s[chosen]
        work[:, place] = spread(from_s, np.maximum(until_s[chosen], from_s), each_ns, edges_s)
    return work


def _whole(times: Array) -> NDArray[np.int64]:
    return np.rint(times).astype(np.int64)
