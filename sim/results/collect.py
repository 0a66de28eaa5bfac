"""From the arrays of a finished run to its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sim.engine.control import DRAINING, FAILED, OFF, READY, SPARE, STARTING
from sim.engine.run import RunOutcome, RunPlan
from sim.results.tables import arrow_table
from sim.serving.deployment import NANOSECONDS, Deployment
from sim.serving.power import FULL_SPEED, dynamic_share
from sim.serving.state import FINISHED, NOWHERE, REJECTED, TIMED_OUT, UNFINISHED

_OUTCOME_NAMES = {UNFINISHED: "unfinished", FINISHED: "finished", REJECTED: "rejected", TIMED_OUT: "timed_out"}

Column = npt.NDArray[Any]


def requests_table(plan: RunPlan, outcome: RunOutcome, scenario_id: str, replication: int) -> pa.Table:
    """Return one row a request, with the columns of `sim.results.tables.REQUESTS`.

    What an API answers has its name as pool, and no replica.

    First token and finish are those at the client: the engine's, and the host time that a request takes besides
    (connection, tokenisation, delivery), which occupies no accelerator.
    """
    session_call, session_calls = plan.trace.session_places()
    sent = np.flatnonzero(outcome.requests["arrival_ns"] >= 0)
    records = outcome.requests[sent] if len(sent) < len(outcome.requests) else outcome.requests
    count = len(records)
    absent = records["replica"] < 0
    replica = np.maximum(records["replica"], 0)
    pool = outcome.replica_pool[replica]
    first_replica = np.searchsorted(outcome.replica_pool, np.arange(len(plan.deployments)))
    overhead_s = np.where(absent, 0.0, np.array([each.request_overhead_s for each in plan.deployments])[pool])
    outside = records["replica"] < NOWHERE
    served_by = np.where(outside, len(plan.deployments) + NOWHERE - 1 - records["replica"], pool)
    # A rejected request asked for the model of the first pool of its class.
    asked = np.array([pools[0] for pools in plan.pools_of_class])[records["class_index"]]
    return arrow_table(
        "requests",
        {
            "scenario_id": _text(np.zeros(count), [scenario_id]),
            "replication": np.full(count, replication, np.int32),
            "request_id": sent.astype(np.int64),
            "class": _text(records["class_index"], plan.trace.classes),
            "session": np.full(count, -1, np.int32) if plan.trace.session is None else plan.trace.session[sent],
            "session_call": session_call[sent],
            "session_calls": session_calls[sent],
            "model": _text(np.where(absent, asked, pool), [each.model for each in plan.deployments]),
            "pool": _text(
                served_by,
                [*(each.pool for each in plan.deployments), *plan.all_mechanisms().apis],
                absent & ~outside,
            ),
            "replica": pa.array((replica - first_replica[pool]).astype(np.int32), mask=absent),
            "arrival_s": records["arrival_ns"] / NANOSECONDS,
            "admitted_s": _instant(records["admitted_ns"]),
            "first_token_s": _instant(records["first_token_ns"], overhead_s),
            "finished_s": _instant(records["finished_ns"], overhead_s),
            "prompt_tokens": np.ascontiguousarray(records["prompt_tokens"]),
            "cached_tokens": np.ascontiguousarray(records["cached_tokens"]),
            "output_tokens": np.ascontiguousarray(records["output_tokens"]),
            "preemptions": np.ascontiguousarray(records["preemptions"]),
            "retries": records["retries"].astype(np.int32),
            "outcome": _text(records["outcome"], [_OUTCOME_NAMES[code] for code in range(len(_OUTCOME_NAMES))]),
        },
    )


def timeline_table(plan: RunPlan, outcome: RunOutcome, scenario_id: str, replication: int) -> pa.Table:
    """Return one row an interval and pool, with the columns of `sim.results.tables.TIMELINE`."""
    intervals = -(-outcome.ended_ns // plan.interval_ns)
    start_s = np.arange(intervals) * (plan.interval_ns / NANOSECONDS)
    end_s = np.minimum(start_s + plan.interval_ns / NANOSECONDS, outcome.ended_ns / NANOSECONDS)
    pools = [
        _pool_timeline(
            each,
            outcome.fleet.timeline[index, :intervals],
            outcome.state_ns[index, :intervals],
            outcome.slowdown[index, :intervals],
            start_s,
            end_s,
        )
        for index, each in enumerate(plan.deployments)
    ]
    count = intervals * len(pools)
    columns = {name: np.concatenate([pool[name] for pool in pools]) for name in pools[0]}
    return arrow_table(
        "timeline",
        {
            "scenario_id": _text(np.zeros(count), [scenario_id]),
            "replication": np.full(count, replication, np.int32),
            "pool": _text(np.repeat(np.arange(len(pools)), intervals), [each.pool for each in plan.deployments]),
            **columns,
        },
    )


def _pool_timeline(
    deployment: Deployment, rows: Column, states_ns: Column, slowdown: Column, start_s: Column, end_s: Column
) -> dict[str, Column]:
    length_ns = (end_s - start_s) * NANOSECONDS
    serving_ns = states_ns[:, READY] + states_ns[:, DRAINING]
    some_ns = np.maximum(serving_ns, 1)
    busy = np.minimum(rows["busy_ns"] / some_ns, 1.0)
    return {
        "interval_start_s": start_s,
        "interval_end_s": end_s,
        "replicas": serving_ns / length_ns,
        "starting_replicas": states_ns[:, STARTING] / length_ns,
        "spare_replicas": states_ns[:, SPARE] / length_ns,
        "failed_replicas": states_ns[:, FAILED] / length_ns,
        "waiting": rows["waiting_ns"] / length_ns,
        "running": rows["running_ns"] / length_ns,
        "kv_used_fraction": rows["kv_token_ns"] / (some_ns * deployment.kv.tokens),
        "busy_fraction": busy,
        "power_w": _power_w(deployment, busy, slowdown, states_ns / length_ns[:, np.newaxis]),
        "prefill_tokens": rows["prefill_tokens"].astype(np.float64),
        "decode_tokens": rows["decode_tokens"].astype(np.float64),
        "arrivals": rows["arrivals"].astype(np.int64),
    }


def _power_w(deployment: Deployment, busy: Column, slowdown: Column, replicas: Column) -> Column:
    """Return the power of a pool by interval [W]: serving by busy fraction, started ones idle, hosts of all but off.

    What has failed draws only what its host does; under a cap the part above idle is what the slow-down leaves.
    """
    if deployment.idle_w is None or deployment.busy_w is None:
        return np.full(len(busy), np.nan)
    elasticity = deployment.speed_elasticity or 1.0
    shares = np.array([dynamic_share(max(FULL_SPEED, round(each * FULL_SPEED)), elasticity) for each in slowdown])
    serving = replicas[:, READY] + replicas[:, DRAINING]
    chips_w = serving * (deployment.idle_w + (deployment.busy_w - deployment.idle_w) * busy * shares)
    chips_w += (replicas[:, STARTING] + replicas[:, SPARE]) * deployment.idle_w
    hosts_w = (replicas.sum(axis=1) - replicas[:, OFF]) * deployment.host_w
    return np.asarray((chips_w + hosts_w) * deployment.accelerators)


def _instant(time_ns: Column, later_s: Column | float = 0.0) -> pa.Array:
    """Return an instant in seconds, null where it never came."""
    return pa.array(time_ns / NANOSECONDS + later_s, mask=time_ns < 0)


def _text(codes: Column, names: Sequence[str], absent: Column | None = None) -> pa.Array:
    """Return a text column of positions in a list of names, null where absent."""
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=absent), list(names))
