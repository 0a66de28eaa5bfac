"""Settings and builders that all tests share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from sim.demand.trace import Trace
from sim.engine.arrivals import CLIENT, Arrivals, arrivals_of
from sim.engine.fleet_setup import request_records
from sim.serving.routing import RoutingState, routing_state
from sim.serving.state import FRACTION_BITS, POOL, RESERVE, FleetState, empty_fleet

hypothesis.settings.register_profile("fleetcast", deadline=None, derandomize=True)
hypothesis.settings.load_profile("fleetcast")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SECOND = 1_000_000_000
MANY_STEPS = 1 << 40


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of facts and traces beside the checkout; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no folder of shared facts and traces beside the checkout")
    return SHARED


@dataclasses.dataclass
class FleetBuilder:
    """A small fleet of one pool with step times in seconds, for tests."""

    arrivals_s: NDArray[np.float64] | list[float]
    prompt: NDArray[np.int64] | list[int] | int = 1
    output: NDArray[np.int64] | list[int] | int = 1
    cached: NDArray[np.int64] | list[int] | int = 0
    replicas: int = 1
    max_sequences: int = 1
    step_token_budget: int = 1_000_000
    kv_capacity: int = 1 << 40
    admission_headroom: int = 1
    sequence_charge: int = 0
    max_span: int = MANY_STEPS
    base_s: float = 0.0
    token_s: float = 0.0
    sequence_s: float = 0.0
    context_s: float = 0.0
    pair_s: float = 0.0
    window: int = 0
    window_context_s: float = 0.0
    window_pair_s: float = 0.0
    router: str = "least_outstanding"
    interval_s: float = 60.0
    intervals: int = 1000
    seed: int = 0
    linear_s: NDArray[np.float64] | None = None

    follows: NDArray[np.int64] | list[int] | None = None
    gaps_s: NDArray[np.float64] | list[float] | float = 0.0
    end_s: float = 1e9
    priority: NDArray[np.int64] | list[int] | int = 0

    columns: dict[str, int] = dataclasses.field(default_factory=dict)
    """More columns of the POOL record."""

    decode_replicas: int = 0
    """Replicas of a second pool, equal but for its role, to which the first one hands over."""

    reserved: dict[int, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """Priority -> slots and KV that others leave to it."""

    prefixes: NDArray[np.void] | None = None
    deadlines_ns: NDArray[np.int64] | None = None
    clients: tuple[int, int, int, int, float] | None = None
    patience_ns: NDArray[np.int64] | None = None
    signal_s: float = 0.0
    load_guard: int = 0
    resent: bool = False

    def build(self) -> tuple[FleetState, RoutingState, Arrivals]:
        """Return the idle fleet, its router and what will arrive."""
        count = len(self.arrivals_s)
        requests = request_records(
            Trace(
                ("requests",),
                np.rint(np.asarray(self.arrivals_s) * SECOND).astype(np.int64),
                np.zeros(count, np.int16),
                np.broadcast_to(np.asarray(self.prompt), count),
                np.broadcast_to(np.asarray(self.cached), count),
                np.broadcast_to(np.asarray(self.output), count),
                None if self.follows is None else np.asarray(self.follows),
                None if self.follows is None else np.rint(np.broadcast_to(self.gaps_s, count) * SECOND),
            )
        )
        requests["priority"] = self.priority
        pools = np.zeros(1, POOL)
        for column in (
            "max_sequences", "step_token_budget", "kv_capacity", "admission_headroom", "sequence_charge", "max_span",
            "window",
        ):  # fmt: skip
            pools[column] = getattr(self, column)
        for column, seconds in (
            ("context_duration", self.context_s), ("window_duration", self.window_context_s),
            ("pair_duration", self.pair_s), ("window_pair_duration", self.window_pair_s),
        ):  # fmt: skip
            pools[column] = fixed(seconds)
        pools["spill_row"] = pools["spill_endpoint"] = -1
        for column, value in self.columns.items():
            pools[column] = value
        replica_pools = np.zeros(self.replicas, np.int64)
        rows = [list(range(self.replicas))]
        if self.decode_replicas:
            pools = np.concatenate([pools, pools])
            pools["role"] = [1, 0]
            replica_pools = np.repeat([0, 1], [self.replicas, self.decode_replicas])
            rows.append(list(range(self.replicas, len(replica_pools))))
        reserves = np.zeros((len(pools), int(requests["priority"].max()) + 1), RESERVE)
        for level, reserve in self.reserved.items():
            if level < reserves.shape[1]:
                reserves[:, level] = reserve
        # A preempted request prefills its answer too, so a step may hold all tokens there are.
        largest = int(requests["prompt_tokens"].sum() + requests["output_tokens"].sum())
        tokens = min(self.step_token_budget, largest + self.max_sequences) + self.max_sequences
        linear_s = self.base_s + self.token_s * np.arange(tokens + 1) if self.linear_s is None else self.linear_s
        fleet = empty_fleet(
            pools=pools,
            replica_pools=replica_pools,
            linear_duration=np.repeat(fixed(linear_s)[None, :], len(pools), axis=0),
            sequence_duration=np.repeat(
                fixed(self.sequence_s * np.arange(self.max_sequences + 1))[None, :], len(pools), axis=0
            ),
            requests=requests,
            intervals=self.intervals,
            interval_ns=round(self.interval_s * SECOND),
            reserves=reserves,
            deadlines=self.deadlines_ns,
            prefixes=self.prefixes,
        )
        draws = np.random.default_rng(self.seed).random((count, 2))
        routing = routing_state(
            self.router,
            rows,
            len(replica_pools),
            draws,
            decode_rows=np.array([1 if self.decode_replicas else -1] + [-1] * (len(rows) - 1)),
            signal_interval_ns=round(self.signal_s * SECOND),
            prefixes=self.prefixes,
            load_guard=self.load_guard,
        )
        own = np.flatnonzero(requests["arrival_ns"] >= 0)
        clients = None if self.clients is None else np.array([self.clients], CLIENT)
        end_ns = round(self.end_s * SECOND)
        resent = self.resent or self.decode_replicas > 0
        return fleet, routing, arrivals_of(requests, own, end_ns, clients, self.patience_ns, resent=resent)


def fixed(seconds: float | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return seconds in units of 2**-20 ns."""
    return np.rint(np.asarray(seconds) * SECOND * (1 << FRACTION_BITS)).astype(np.int64)


@pytest.fixture(scope="session")
def fleet_builder() -> type[FleetBuilder]:
    """Return the builder of small fleets."""
    return FleetBuilder
