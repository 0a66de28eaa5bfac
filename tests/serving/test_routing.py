"""Routers: each keeps its rule, ties go to the first replica, and nobody is sent to a pool that does not serve them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.serving.routing import (
    ROUTERS,
    RoutingState,
    choose_replica,
    first_winner,
    note_replica,
    routing_state,
    update_tree,
)
from sim.serving.state import NEVER, FleetState


def fleet_with(builder: Any, outstanding: list[int], classes: list[int]) -> FleetState:
    """Return a fleet whose replicas have so many outstanding requests, and requests of these classes."""
    fleet: FleetState = builder(np.arange(len(classes), dtype=float), replicas=len(outstanding)).build()[0]
    fleet.replicas["outstanding"] = outstanding
    fleet.requests["class_index"] = classes
    return fleet


def noted(fleet: FleetState, routing: RoutingState) -> RoutingState:
    """Tell a router of all replicas as they are."""
    for index in range(len(fleet.replicas)):
        note_replica(fleet, routing, index)
    return routing


@st.composite
def member_sets(draw: st.DrawFn) -> tuple[int, list[list[int]]]:
    """Return a number of replicas and the replicas that serve each of a few classes."""
    replicas = draw(st.integers(1, 20))
    some = st.lists(st.integers(0, replicas - 1), min_size=1, unique=True).map(sorted)
    return replicas, draw(st.lists(some, min_size=1, max_size=4))


@given(members=member_sets(), classes=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_round_robin_deals_each_class_in_turn(
    fleet_builder: Any, members: tuple[int, list[list[int]]], classes: list[int]
) -> None:
    """The n-th request of a class goes to its n-th member, counted around, whatever other classes do."""
    replicas, sets = members
    classes = [each % len(sets) for each in classes]
    fleet = fleet_with(fleet_builder, [0] * replicas, classes)
    routing = routing_state("round_robin", sets, replicas)
    chosen = [choose_replica(fleet, routing, request) for request in range(len(classes))]
    for number, own in enumerate(sets):
        mine = [replica for replica, each in zip(chosen, classes, strict=True) if each == number]
        assert mine == [own[turn % len(own)] for turn in range(len(mine))]


@given(members=member_sets(), data=st.data())
def test_least_outstanding_is_the_first_of_the_least_loaded(
    fleet_builder: Any, members: tuple[int, list[list[int]]], data: st.DataObject
) -> None:
    replicas, sets = members
    fleet = fleet_with(fleet_builder, [0] * replicas, list(range(len(sets))))
    routing = routing_state("least_outstanding", sets, replicas)
    for _ in range(data.draw(st.integers(1, 30))):
        for number, own in enumerate(sets):
            loads = [int(fleet.replicas[index]["outstanding"]) for index in own]
            assert choose_replica(fleet, routing, number) == own[loads.index(min(loads))]
        changed = data.draw(st.integers(0, replicas - 1))
        fleet.replicas[changed]["outstanding"] = data.draw(st.integers(0, 4))
        note_replica(fleet, routing, changed)


@given(
    values=st.lists(st.integers(0, 5), min_size=1, max_size=33),
    updates=st.lists(st.tuples(st.integers(0, 32), st.integers(0, 5)), max_size=40),
)
def test_a_tournament_tree_is_argmin(values: list[int], updates: list[tuple[int, int]]) -> None:
    leaves = 1 << max(0, len(values) - 1).bit_length()
    tree = np.full(2 * leaves, NEVER, np.int64)
    for index, value in enumerate(values):
        update_tree(tree, index, value)
    for index, value in updates:
        if index < len(values):
            values[index] = value
            update_tree(tree, index, value)
        assert first_winner(tree) == values.index(min(values))
    inner = np.arange(1, leaves)
    assert (tree[inner] == np.minimum(tree[2 * inner], tree[2 * inner + 1])).all()


@given(
    members=member_sets(),
    outstanding=st.lists(st.integers(0, 3), min_size=20, max_size=20),
    draws=st.lists(st.tuples(*[st.floats(0, 1, exclude_max=True)] * 2), min_size=4, max_size=4),
)
def test_power_of_two_takes_the_less_loaded_of_two_different_members(
    fleet_builder: Any, members: tuple[int, list[list[int]]], outstanding: list[int], draws: list[tuple[float, float]]
) -> None:
    replicas, sets = members
    loads = outstanding[:replicas]
    fleet = fleet_with(fleet_builder, loads, list(range(len(sets))))
    routing = noted(fleet, routing_state("power_of_two", sets, replicas, np.array(draws)))
    for number, own in enumerate(sets):
        first_draw, second_draw = draws[number]
        first = own[int(first_draw * len(own))]
        others = [index for index in own if index != first]
        second = others[int(second_draw * len(others))] if others else first
        expected = second if loads[second] < loads[first] else first
        assert choose_replica(fleet, routing, number) == expected


def test_draws_at_the_ends_of_the_interval_reach_the_first_and_the_last_member(fleet_builder: Any) -> None:
    below_one = np.nextafter(1.0, 0.0)
    fleet = fleet_with(fleet_builder, [1, 0, 0, 0, 1], [0, 0])
    routing = routing_state("power_of_two", [[0, 2, 4]], 5, np.array([[0.0, below_one], [below_one, 0.0]]))
    assert [choose_replica(fleet, routing, request) for request in (0, 1)] == [0, 4]


def test_two_choices_balance_where_one_does_not(fleet_builder: Any) -> None:
    """Ten thousand balls in a hundred bins: the fullest is a few above the mean, not three standard deviations."""
    count, bins = 10_000, 100
    fleet = fleet_with(fleet_builder, [0] * bins, [0] * count)
    draws = np.random.default_rng(4).random((count, 2))
    routing = routing_state("power_of_two", [list(range(bins))], bins, draws)
    for request in range(count):
        chosen = choose_replica(fleet, routing, request)
        fleet.replicas[chosen]["outstanding"] += 1
        note_replica(fleet, routing, chosen)
    loads = fleet.replicas["outstanding"]
    assert loads.sum() == count
    assert loads.max() - count / bins <= 5
    assert np.bincount((draws[:, 0] * bins).astype(int)).max() - count / bins > 15


@pytest.mark.parametrize("router", ROUTERS)
@given(members=member_sets(), outstanding=st.lists(st.integers(0, 9), min_size=20, max_size=20))
def test_nobody_is_sent_where_they_are_not_served(
    fleet_builder: Any, router: str, members: tuple[int, list[list[int]]], outstanding: list[int]
) -> None:
    replicas, sets = members
    classes = list(range(len(sets))) * 5
    fleet = fleet_with(fleet_builder, outstanding[:replicas], classes)
    draws = np.random.default_rng(1).random((len(classes), 2))
    routing = noted(fleet, routing_state(router, sets, replicas, draws))
    for request, number in enumerate(classes):
        assert choose_replica(fleet, routing, request) in sets[number]


def test_classes_served_by_the_same_replicas_share_a_tournament() -> None:
    routing = routing_state("least_outstanding", [[0, 1], [1, 2], [0, 1]], 3)
    assert routing.tree_of_row.tolist() == [0, 1, 0]
    assert len(routing.tournaments) == 2


@pytest.mark.parametrize("router", ["round_robin", "least_outstanding", "power_of_two"])
@pytest.mark.parametrize("pools", [1, 3])
def test_a_replica_of_no_class_gets_nothing(fleet_builder: Any, router: str, pools: int) -> None:
    """A replica that is idle for ever is still not chosen when it serves nobody."""
    fleet = fleet_with(fleet_builder, [5] * pools + [0], [0] * 7)
    routing = noted(fleet, routing_state(router, [list(range(pools))], pools + 1, np.full((7, 2), 0.99)))
    assert pools not in {choose_replica(fleet, routing, request) for request in range(7)}
