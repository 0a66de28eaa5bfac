"""Small synthetic tables in the schemas of a run."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

Array = npt.NDArray[np.float64]


def build_requests(arrival_s: npt.ArrayLike, **columns: object) -> pd.DataFrame:
    """Requests that are served after 1 s and finished after 2 s, unless `columns` say otherwise.

    `ttft_s` and `e2e_s` set first_token_s and finished_s relative to the arrival; NaN means that it never happened.
    """
    arrivals = np.asarray(arrival_s, dtype=np.float64)
    rows = arrivals.size
    first = arrivals + np.broadcast_to(np.asarray(columns.pop("ttft_s", 1.0), dtype=np.float64), rows)
    finished = arrivals + np.broadcast_to(np.asarray(columns.pop("e2e_s", 2.0), dtype=np.float64), rows)
    table: dict[str, object] = {
        "scenario_id": "test",
        "replication": 0,
        "request_id": np.arange(rows),
        "class": "chat",
        "session": -1,
        "session_call": 1,
        "session_calls": 1,
        "model": "small",
        "pool": "main",
        "replica": 0,
        "arrival_s": arrivals,
        "admitted_s": arrivals,
        "first_token_s": first,
        "finished_s": finished,
        "prompt_tokens": 100,
        "cached_tokens": 0,
        "output_tokens": 11,
        "preemptions": 0,
        "retries": 0,
        "outcome": np.where(np.isnan(finished), "unfinished", "finished"),
    }
    return pd.DataFrame({**table, **columns})


def build_timeline(edges_s: npt.ArrayLike, **columns: object) -> pd.DataFrame:
    """One row for each interval between the edges, of one pool with one replica, half busy."""
    edges = np.asarray(edges_s, dtype=np.float64)
    table: dict[str, object] = {
        "scenario_id": "test",
        "replication": 0,
        "pool": "main",
        "interval_start_s": edges[:-1],
        "interval_end_s": edges[1:],
        "replicas": 1.0,
        "starting_replicas": 0.0,
        "spare_replicas": 0.0,
        "failed_replicas": 0.0,
        "waiting": 0.0,
        "running": 1.0,
        "kv_used_fraction": 0.25,
        "busy_fraction": 0.5,
        "power_w": np.nan,
        "prefill_tokens": 10.0,
        "decode_tokens": 20.0,
        "arrivals": 1,
    }
    return pd.DataFrame({**table, **columns})


def lindley_waits(rho: float, customers: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Arrival times, waits and service times of an M/M/1 queue with mean service 1, by Lindley's recursion."""
    arrivals = np.cumsum(rng.exponential(1 / rho, customers))
    services = rng.exponential(1.0, customers)
    walk = np.concatenate([[0.0], np.cumsum(services[:-1] - np.diff(arrivals))])
    return arrivals, walk - np.minimum.accumulate(walk), services


@pytest.fixture(scope="session")
def requests_of() -> Callable[..., pd.DataFrame]:
    return build_requests


@pytest.fixture(scope="session")
def timeline_of() -> Callable[..., pd.DataFrame]:
    return build_timeline


@pytest.fixture(scope="session")
def lindley() -> Callable[..., tuple[Array, Array, Array]]:
    return lindley_waits
