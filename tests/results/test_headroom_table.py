"""The table of headroom from the tables of a run: complete, exact, and fair to who is not at the peak."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import sim
from sim.results.fleet_rows import serving_replicas
from sim.results.headroom import PARTS
from sim.results.headroom_table import headroom_table
from sim.results.metrics import Window
from sim.results.pool_costs import pool_costs
from sim.results.tables import arrow_table
from sim.serving.deployment import Deployment, deploy
from sim.specs.fleet import PoolSpec

CHANGES: dict[str, object] = {
    "alternatives": {},
    "duration": "10 min",
    "warm_up": "1 min",
    "traffic": {
        "chat": {"workload": "realtime-chat", "rate": "4 requests/s"},
        "documents": {"workload": "continuous", "rate": "0.3 requests/s"},
    },
    "fleet": {
        "chips": {"hardware": "h100-sxm", "model": "llama-3.1-8b", "replicas": 3},
        "other": {"hardware": "tpu-v6e", "model": "llama-3.1-8b", "replicas": 2, "serves": ["documents"]},
    },
    "price_basis": ["on_demand"],
}


@pytest.fixture(scope="module")
def result() -> sim.Result:
    return sim.simulate(sim.load("quickstart", CHANGES), replications=2)


def test_every_accelerator_second_of_every_pool_belongs_to_a_class(result: sim.Result) -> None:
    table, timeline = result.headroom, result.timeline
    assert (table["accelerator_s"] >= 0).all()
    for (replication, pool), rows in table.groupby(["replication", "pool"], observed=True):
        assert set(rows["part"]) == set(PARTS)
        ended = timeline.loc[timeline["replication"] == replication, "interval_end_s"].max()
        nanoseconds = np.rint(rows["accelerator_s"] * 1e9).astype(np.int64).sum()
        replicas = {"chips": 3, "other": 2}[str(pool)]
        assert nanoseconds == round(ended * 1e9) * replicas
        assert set(rows["class"]) == ({"chat", "documents"} if pool == "chips" else {"documents"})


def test_the_cost_is_the_price_of_the_time(result: sim.Result) -> None:
    rows = result.headroom[result.headroom["pool"] == "chips"]
    price = result.manifest["scenarios"]
    assert price
    hourly = sim.load("quickstart", CHANGES).hardware["h100-sxm"].prices.hourly
    (usd,) = (each.value for basis, each in hourly.items() if basis.value == "on_demand")
    assert rows["cost_usd"].sum() == pytest.approx(rows["accelerator_s"].sum() * usd / 3600, rel=1e-9)
    assert rows["cost_usd"].to_numpy() == pytest.approx(rows["accelerator_s"].to_numpy() * usd / 3600, abs=2e-9)
    assert set(rows["price_basis"]) == {"on_demand"}


def test_work_that_takes_more_is_more_of_the_used_time(result: sim.Result) -> None:
    used = (
        result.headroom[result.headroom["part"] == "used"]
        .groupby(["pool", "class"], observed=True)["accelerator_s"]
        .sum()
    )
    idle = result.headroom[result.headroom["part"] == "idle"]["accelerator_s"].sum()
    assert (used[used.index.isin([("chips", "chat"), ("chips", "documents"), ("other", "documents")])] > 0).all()
    # Some 4 chats and 0.3 documents a second are far from filling five replicas, though they are busy much of the time.
    assert idle > 2 * used.sum()


FLEET = {"chips": PoolSpec(hardware="h100-sxm", model="llama-3.1-8b", replicas=3)}


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return deploy(sim.load("quickstart", CHANGES))[0]


def hourly(requests_of, timeline_of, **timeline: object) -> tuple[pa.Table, pa.Table]:
    """Return four hours: voice comes in the first, batch in all others, and 900 requests of equal size an hour each."""
    arrivals = np.arange(0.0, 4 * 3600.0, 4.0)
    classes = np.where(arrivals < 3600.0, "voice", "batch")
    requests = requests_of(arrivals, **{"class": classes, "pool": "chips"})
    table = timeline_of(np.arange(0.0, 4 * 3600.0 + 1, 60.0), **({"pool": "chips", "busy_fraction": 1.0} | timeline))
    return arrow_table("requests", requests), arrow_table("timeline", table)


def test_states_are_split_and_what_is_off_is_nobodys(requests_of, timeline_of, deployment: Deployment) -> None:
    states = {"replicas": 5.0, "spare_replicas": 1.0, "starting_replicas": 0.5, "failed_replicas": 0.25}
    tables = hourly(requests_of, timeline_of, **states)
    table = headroom_table(*tables, [deployment], FLEET, {"chips": ["voice", "batch", "nobody"]}, 0.05).to_pandas()
    parts = table.groupby("part")["accelerator_s"].sum()
    seconds = 4 * 3600.0
    assert parts[["spare", "starting", "failed"]].tolist() == [1.0 * seconds, 0.5 * seconds, 0.25 * seconds]
    assert parts["used"] + parts["idle"] == 5.0 * seconds
    used = table[table["part"] == "used"].set_index("class")["accelerator_s"]
    assert used["batch"] / used["voice"] == pytest.approx(3.0, rel=0.01)
    assert used["nobody"] == 0.0


def test_who_comes_when_it_is_busy_bears_the_headroom(requests_of, timeline_of, deployment: Deployment) -> None:
    """Voice sends three times as much in its hour: it makes the peak, so that it bears all that stands idle."""
    requests, timeline = hourly(requests_of, timeline_of, replicas=5.0)
    frame = requests.to_pandas()
    voice = frame[frame["class"] == "voice"]
    requests = arrow_table("requests", pd.concat([frame, voice, voice]))
    table = headroom_table(requests, timeline, [deployment], FLEET, {"chips": ["voice", "batch"]}, 0.2).to_pandas()
    idle = table[table["part"] == "idle"].set_index("class")["accelerator_s"]
    assert idle["batch"] == 0.0
    assert idle["voice"] > 0.0


def test_a_pool_that_nobody_used_is_borne_by_all_alike(timeline_of, requests_of, deployment: Deployment) -> None:
    tables = hourly(requests_of, timeline_of, busy_fraction=0.0, replicas=2.0)
    table = headroom_table(*tables, [deployment], FLEET, {"chips": ["voice", "batch"]}, 0.05).to_pandas()
    assert table[table["part"] == "idle"]["accelerator_s"].tolist() == [4 * 3600.0] * 2
    assert table[table["part"] == "used"]["accelerator_s"].tolist() == [0.0, 0.0]


def test_a_pool_costs_what_is_paid_of_it_on_average_and_all_of_it_where_nothing_changes(
    requests_of, timeline_of, deployment: Deployment
) -> None:
    requests, scaled = hourly(requests_of, timeline_of, replicas=np.linspace(1.0, 9.0, 240), spare_replicas=2.0)
    (cost,) = pool_costs([deployment], requests, scaled, Window(0.0, 4 * 3600.0))
    assert cost.accelerators == pytest.approx((5.0 + 2.0) * deployment.accelerators)
    _, late = hourly(requests_of, timeline_of, replicas=np.where(np.arange(240) < 120, 1.0, 4.0))
    (cost,) = pool_costs([deployment], requests, late, Window(2 * 3600.0, 4 * 3600.0))
    assert cost.accelerators == pytest.approx(4.0 * deployment.accelerators)


def test_replicas_that_served_are_a_mean_over_the_window(timeline_of) -> None:
    table = pd.concat(
        [
            timeline_of([0.0, 10.0, 20.0], replicas=[1.0, 3.0], spare_replicas=5.0),
            timeline_of([0.0, 10.0, 20.0], replicas=[2.0, 4.0], replication=1),
            timeline_of([0.0, 10.0, 20.0], replicas=6.0, pool="other"),
        ]
    )
    assert serving_replicas(table, Window(5.0, 20.0)) == pytest.approx({"main": 13 / 6 + 2 / 3, "other": 6.0})
