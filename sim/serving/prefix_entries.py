"""Entries of the prefix caches: found by replica and key in a hash table, and listed by last use on device and host."""

from __future__ import annotations

from sim.serving.compilation import compiled_apart, compiled_inside
from sim.serving.state import FleetState

NOBODY = -1
"""Key of KV that no prompt can find again."""

_REPLICA_SHIFT = 40


@compiled_inside
def group_key(group: int) -> int:
    """Return the key of a shared text."""
    return 2 * group + 1


@compiled_inside
def session_key(session: int) -> int:
    """Return the key of a session."""
    return 2 * session


@compiled_inside
def _home(fleet: FleetState, index: int, key: int) -> int:
    """Return the place of the hash table at which a search starts; the factors keep products inside 63 bits."""
    mixed = ((key & 0x7FFFFFFF) * 0x5BD1E995) ^ (index * 0x85EBCA6B)
    return (mixed ^ (mixed >> 15) ^ (mixed >> 31)) & (len(fleet.entry_index) - 1)


@compiled_apart
def find_entry(fleet: FleetState, index: int, key: int) -> int:
    """Return the entry of a key at a replica, -1 when there is none."""
    mask = len(fleet.entry_index) - 1
    place = _home(fleet, index, key)
    sought = (index << _REPLICA_SHIFT) | key
    while fleet.entry_index[place] >= 0:
        if fleet.entries[fleet.entry_index[place]]["key"] == sought:
            return fleet.entry_index[place]
        place = (place + 1) & mask
    return -1


@compiled_inside
def forget(fleet: FleetState, index: int, entry: int) -> None:
    """Take an entry out of the hash table and close the gap, so that every search still ends at an empty place."""
    sought = fleet.entries[entry]["key"]
    if sought >= 0:
        mask = len(fleet.entry_index) - 1
        place = _home(fleet, index, sought & ((1 << _REPLICA_SHIFT) - 1))
        while fleet.entry_index[place] != entry:
            place = (place + 1) & mask
        following = (place + 1) & mask
        while fleet.entry_index[following] >= 0:
            key = fleet.entries[fleet.entry_index[following]]["key"]
            home = _home(fleet, key >> _REPLICA_SHIFT, key & ((1 << _REPLICA_SHIFT) - 1))
            if ((following - home) & mask) >= ((following - place) & mask):
                fleet.entry_index[place] = fleet.entry_index[following]
                place = following
            following = (following + 1) & mask
        fleet.entry_index[place] = -1
    fleet.free_entries[0] += 1
    fleet.free_entries[fleet.free_entries[0]] = entry


@compiled_inside
def new_entry(fleet: FleetState, index: int, key: int) -> int:
    """Return a new entry without tokens, known by its key unless it is nobody's."""
    entry = fleet.free_entries[fleet.free_entries[0]]
    fleet.free_entries[0] -= 1
    record = fleet.entries[entry]
    record["key"] = NOBODY
    record["tokens"] = 0
    record["host_tokens"] = 0
    record["references"] = 0
    if key >= 0:
        record["key"] = (index << _REPLICA_SHIFT) | key
        mask = len(fleet.entry_index) - 1
        place = _home(fleet, index, key)
        while fleet.entry_index[place] >= 0:
            place = (place + 1) & mask
        fleet.entry_index[place] = entry
    return entry


@compiled_inside
def link(fleet: FleetState, index: int, entry: int) -> None:
    """Make an entry the most recently used one of those without references."""
    replica = fleet.replicas[index]
    record = fleet.entries[entry]
    replica["cache_tokens"] += record["tokens"]
    record["newer"] = -1
    record["older"] = replica["cache_newest"]
    if replica["cache_newest"] >= 0:
        fleet.entries[replica["cache_newest"]]["newer"] = entry
    else:
        replica["cache_oldest"] = entry
    replica["cache_newest"] = entry


@compiled_inside
def unlink(fleet: FleetState, index: int, entry: int) -> None:
    """Take an entry out of the list of those without references."""
    replica = fleet.replicas[index]
    record = fleet.entries[entry]
    replica["cache_tokens"] -= record["tokens"]
    if record["newer"] >= 0:
        fleet.entries[record["newer"]]["older"] = record["older"]
    else:
        replica["cache_newest"] = record["older"]
    if record["older"] >= 0:
        fleet.entries[record["older"]]["newer"] = record["newer"]
    else:
        replica["cache_oldest"] = record["newer"]


@compiled_inside
def link_host(fleet: FleetState, index: int, entry: int) -> None:
    """Make an entry the most recently moved one in host memory."""
    replica = fleet.replicas[index]
    record = fleet.entries[entry]
    record["host_newer"] = -1
    record["host_older"] = replica["host_newest"]
    if replica["host_newest"] >= 0:
        fleet.entries[replica["host_newest"]]["host_newer"] = entry
    else:
        replica["host_oldest"] = entry
    replica["host_newest"] = entry


@compiled_inside
def unlink_host(fleet: FleetState, index: int, entry: int) -> None:
    """Take an entry out of the list of those in host memory."""
    replica = fleet.replicas[index]
    record = fleet.entries[entry]
    if record["host_newer"] >= 0:
        fleet.entries[record["host_newer"]]["host_older"] = record["host_older"]
    else:
        replica["host_newest"] = record["host_older"]
    if record["host_older"] >= 0:
        fleet.entries[record["host_older"]]["host_newer"] = record["host_newer"]
    else:
        replica["host_oldest"] = record["host_newer"]
