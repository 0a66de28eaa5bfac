"""The prefix cache of a replica: KV of earlier requests that a new prompt may start with.

An entry is one prefix: the text that a group of requests shares (a system prompt, a document), or what a session has
said so far behind it. Entries without running requests are kept by last use and lose whole blocks from their ends,
the least recently used first, as soon as running requests need the memory; with a host tier these blocks move to host
memory and come back at its bandwidth. KV that nobody can use again takes its turn in the same order.

This is what block-hashing caches of vLLM and SGLang do, with one simplification: a session is one text that grows.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.serving.compilation import compiled_apart, compiled_inside, compiled_where
from sim.serving.prefix_entries import (
    NOBODY,
    find_entry,
    forget,
    group_key,
    link,
    link_host,
    new_entry,
    session_key,
    unlink,
    unlink_host,
)
from sim.serving.state import FleetState


class Hit(NamedTuple):
    """What a replica's cache holds of a prompt."""

    group_entry: int
    """Entry of the shared text, -1 when there is none."""

    group_tokens: int
    """Tokens of it that are found."""

    session_entry: int
    """Entry of the session, -1 when there is none."""

    session_tokens: int
    """Tokens of it that are found."""

    pinned_tokens: int
    """KV that is charged once more when the entries come into use [tokens]."""


def _no_hit(fleet: FleetState, index: int, request: int) -> Hit:
    return Hit(-1, 0, -1, 0, 0)


def _nothing(fleet: FleetState, index: int) -> None:
    return None


def _untrimmed(fleet: FleetState, index: int, used: int) -> None:
    return None


def _nothing_of_slot(fleet: FleetState, index: int, slot: int) -> None:
    return None


def _no_use(fleet: FleetState, index: int, slot: int, hit: Hit) -> None:
    return None


def _not_kept(fleet: FleetState, index: int, slot: int, context: int) -> None:
    return None


@compiled_inside
def _group_tokens(fleet: FleetState, request: int, block: int) -> int:
    """Return the whole blocks of shared text at the start of a prompt [tokens]."""
    prefix = fleet.prefixes[request]
    if prefix["group"] < 0:
        return 0
    return (min(prefix["group_tokens"], fleet.requests[request]["prompt_tokens"] - 1) // block) * block


@compiled_where(0, "prefixes", _no_hit)
def look_up(fleet: FleetState, index: int, request: int) -> Hit:
    """Return what a replica's cache holds of a prompt; changes nothing.

    A session's text lies behind that of its group, so it is found only when all of the group's is.
    """
    block = fleet.pools[fleet.replicas[index]["pool"]]["cache_block"]
    prefix = fleet.prefixes[request]
    group_entry, group_found, session_entry, session_found, pinned = -1, 0, -1, 0, 0
    group_tokens = _group_tokens(fleet, request, block)
    if group_tokens > 0:
        group_entry = find_entry(fleet, index, group_key(prefix["group"]))
        if group_entry >= 0:
            group_found = _found(fleet, group_entry, group_tokens)
            pinned += _pinned(fleet, group_entry, group_found)
    behind = (min(prefix["reusable"], fleet.requests[request]["prompt_tokens"] - 1) // block) * block - group_tokens
    if prefix["session"] >= 0 and group_found == group_tokens and behind > 0:
        session_entry = find_entry(fleet, index, session_key(prefix["session"]))
        if session_entry >= 0:
            session_found = _found(fleet, session_entry, behind)
            pinned += _pinned(fleet, session_entry, session_found)
    return Hit(group_entry, group_found, session_entry, session_found, pinned)


@compiled_inside
def _found(fleet: FleetState, entry: int, most: int) -> int:
    """Return how many of the first tokens of an entry are in device or host memory."""
    return min(fleet.entries[entry]["tokens"] + fleet.entries[entry]["host_tokens"], most)


@compiled_inside
def _pinned(fleet: FleetState, entry: int, found: int) -> int:
    """Return the tokens that count as used once an entry comes into use [tokens]."""
    record = fleet.entries[entry]
    loaded = max(0, found - record["tokens"])
    return loaded if record["references"] > 0 else loaded + record["tokens"]


@compiled_inside
def _pin(fleet: FleetState, index: int, entry: int, found: int) -> None:
    """Bring an entry into use, what is needed of it back from host memory."""
    replica = fleet.replicas[index]
    record = fleet.entries[entry]
    if record["references"] == 0:
        if record["tokens"] > 0:
            unlink(fleet, index, entry)
        replica["kv_used"] += record["tokens"]
    record["references"] += 1
    loaded = found - record["tokens"]
    if loaded > 0:
        pool = fleet.pools[replica["pool"]]
        record["tokens"] = found
        replica["kv_used"] += loaded
        replica["extra_duration"] += loaded * pool["host_duration"]
        replica["host_tokens"] -= loaded
        record["host_tokens"] -= loaded
        if record["host_tokens"] == 0:
            unlink_host(fleet, index, entry)


@compiled_where(0, "prefixes", _no_use)
def use(fleet: FleetState, index: int, slot: int, hit: Hit) -> None:
    """Bring what was found into use by the request of a slot; its tokens are charged to the entries."""
    entry = fleet.slots[index, slot]
    entry["shared"] = hit.group_tokens + hit.session_tokens
    entry["group_entry"] = hit.group_entry
    entry["session_entry"] = hit.session_entry
    if hit.group_entry >= 0:
        _pin(fleet, index, hit.group_entry, hit.group_tokens)
    if hit.session_entry >= 0:
        _pin(fleet, index, hit.session_entry, hit.session_tokens)


@compiled_inside
def _unpin(fleet: FleetState, index: int, entry: int) -> None:
    """Let one running request go; an entry without any waits for its next use."""
    record = fleet.entries[entry]
    record["references"] -= 1
    if record["references"] > 0:
        return
    fleet.replicas[index]["kv_used"] -= record["tokens"]
    if record["tokens"] > 0:
        link(fleet, index, entry)
    elif record["host_tokens"] == 0:
        forget(fleet, index, entry)


@compiled_inside
def _grow(fleet: FleetState, index: int, entry: int, tokens: int) -> int:
    """Let an entry in use hold so many tokens on the device; return by how many it has grown.

    Copies of them in host memory are of no use any more.
    """
    record = fleet.entries[entry]
    grown = tokens - record["tokens"]
    if grown <= 0:
        return 0
    record["tokens"] = tokens
    stale = min(record["host_tokens"], grown)
    if stale > 0:
        record["host_tokens"] -= stale
        fleet.replicas[index]["host_tokens"] -= stale
        if record["host_tokens"] == 0:
            unlink_host(fleet, index, entry)
    return grown


@compiled_where(0, "prefixes", _nothing_of_slot)
def let_go(fleet: FleetState, index: int, slot: int) -> None:
    """Let the entries of a slot go, the session's before its group's: a shared text is the last to be lost."""
    entry = fleet.slots[index, slot]
    if entry["session_entry"] >= 0:
        _unpin(fleet, index, entry["session_entry"])
    if entry["group_entry"] >= 0:
        _unpin(fleet, index, entry["group_entry"])
    entry["session_entry"] = entry["group_entry"] = -1
    entry["shared"] = 0


@compiled_where(0, "prefixes", _nothing_of_slot)
def share_group(fleet: FleetState, index: int, slot: int) -> None:
    """Make the shared text of a prompt that has just been prefilled an entry; its KV is charged to it from now on."""
    entry = fleet.slots[index, slot]
    request = entry["request"]
    tokens = _group_tokens(fleet, request, fleet.pools[fleet.replicas[index]["pool"]]["cache_block"])
    if tokens <= 0:
        return
    if entry["group_entry"] < 0:
        key = group_key(fleet.prefixes[request]["group"])
        if find_entry(fleet, index, key) >= 0:
            return  # somebody else was faster; the copy is dropped when this request ends
        entry["group_entry"] = new_entry(fleet, index, key)
        fleet.entries[entry["group_entry"]]["references"] = 1
    entry["shared"] += _grow(fleet, index, entry["group_entry"], tokens)


@compiled_where(0, "prefixes", _not_kept)
def keep(fleet: FleetState, index: int, slot: int, context: int) -> None:
    """Keep the KV of a finished request for its session, or as nobody's until its memory is needed.

    Parameters
    ----------
    fleet, index
        The fleet and the replica.
    slot : int
        Slot of the request, whose own charge the caller takes back.
    context : int
        KV entries that it leaves: prompt and answer but for the last token [tokens].

    """
    replica = fleet.replicas[index]
    entry = fleet.slots[index, slot]
    prefix = fleet.prefixes[entry["request"]]
    block = fleet.pools[replica["pool"]]["cache_block"]
    whole = (context // block) * block
    group_tokens = _group_tokens(fleet, entry["request"], block)
    reachable = group_tokens == 0 or find_entry(fleet, index, group_key(prefix["group"])) >= 0
    if prefix["session"] >= 0 and reachable and whole > group_tokens:
        if entry["session_entry"] < 0:
            key = session_key(prefix["session"])
            entry["session_entry"] = find_entry(fleet, index, key)
            if entry["session_entry"] < 0:
                entry["session_entry"] = new_entry(fleet, index, key)
                fleet.entries[entry["session_entry"]]["references"] = 1
            else:
                _pin(fleet, index, entry["session_entry"], 0)
        replica["kv_used"] += _grow(fleet, index, entry["session_entry"], whole - group_tokens)
    elif whole > entry["shared"]:
        nobody = new_entry(fleet, index, NOBODY)
        fleet.entries[nobody]["tokens"] = whole - entry["shared"]
        link(fleet, index, nobody)


@compiled_where(0, "prefixes", _untrimmed)
def trim(fleet: FleetState, index: int, used: int) -> None:
    """Give up what is least recently used until running requests have so much KV memory [tokens]."""
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    room = max(0, min(pool["kv_capacity"] - used, pool["cache_capacity"]))
    if replica["cache_tokens"] > room:
        _evict(fleet, index, room)


@compiled_apart
def _evict(fleet: FleetState, index: int, room: int) -> None:
    """Take blocks from the ends of the entries longest unused, into host memory where there is some."""
    replica = fleet.replicas[index]
    pool = fleet.pools[replica["pool"]]
    block = pool["cache_block"]
    while replica["cache_tokens"] > room:
        entry = replica["cache_oldest"]
        record = fleet.entries[entry]
        lost = min(record["tokens"], -(-(replica["cache_tokens"] - room) // block) * block)
        if lost == record["tokens"]:
            unlink(fleet, index, entry)
        else:
            replica["cache_tokens"] -= lost
        record["tokens"] -= lost
        if pool["host_capacity"] > 0 and record["key"] >= 0:
            if record["host_tokens"] > 0:
                unlink_host(fleet, index, entry)
            record["host_tokens"] += lost
            replica["host_tokens"] += lost
            link_host(fleet, index, entry)
        elif record["tokens"] == 0:
            forget(fleet, index, entry)
    while replica["host_tokens"] > pool["host_capacity"]:
        entry = replica["host_oldest"]
        record = fleet.entries[entry]
        lost = min(record["host_tokens"], -(-(replica["host_tokens"] - pool["host_capacity"]) // block) * block)
        record["host_tokens"] -= lost
        replica["host_tokens"] -= lost
        if record["host_tokens"] == 0:
            unlink_host(fleet, index, entry)
            if record["tokens"] == 0 and record["references"] == 0:
                forget(fleet, index, entry)


@compiled_where(0, "prefixes", _nothing)
def lose_all(fleet: FleetState, index: int) -> None:
    """Empty a replica's cache, device and host; no request may be running on it."""
    replica = fleet.replicas[index]
    while replica["host_oldest"] >= 0:
        entry = replica["host_oldest"]
        replica["host_tokens"] -= fleet.entries[entry]["host_tokens"]
        fleet.entries[entry]["host_tokens"] = 0
        unlink_host(fleet, index, entry)
        if fleet.entries[entry]["tokens"] == 0:
            forget(fleet, index, entry)
    while replica["cache_oldest"] >= 0:
        entry = replica["cache_oldest"]
        unlink(fleet, index, entry)
        forget(fleet, index, entry)
