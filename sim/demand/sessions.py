"""Sessions in bulk: calls, contexts and gaps of many sessions, drawn before any fleet has answered.

Sessions are drawn in blocks of fixed size with streams of their own, and inside a block call by call in order of
sessions: the n-th session is the same whatever the rate, the duration or the fleet, and memory is that of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.durations import count_table
from sim.demand.lengths import correlated, invert, length_table
from sim.demand.prefix import draw_groups
from sim.demand.session_tables import SessionTables
from sim.specs.sessions import SpokenGap

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Streams = Callable[..., np.random.Generator]
"""Names -> the random stream of these names."""

SESSIONS_PER_BLOCK = 16_384
"""Sessions that share random streams; part of what a seed means."""


class Calls(NamedTuple):
    """Calls of consecutive sessions: sessions in order, in each of them every call after the one that it follows."""

    session: IntArray
    """Number of the session, counted from the first one of the block."""

    parent: IntArray
    """Row of the call that this one follows, -1 for the first of a session."""

    prompt: IntArray
    """Whole context [tokens]."""

    cached: IntArray
    """Part of it that the call before has left in the prefix cache [tokens]."""

    output: IntArray
    """Answer [tokens]."""

    gap_s: FloatArray
    """Time after the completion of the parent; 0 for first calls [s]."""

    way: npt.NDArray[np.int16]
    """Kind of follow-up, a position in `follow_ups`; -1 for first calls."""

    prefix_group: npt.NDArray[np.int32]
    """Instructions with which the prompt begins, -1 where no other session has them."""

    prefix_tokens: npt.NDArray[np.int32]
    """Their length; 0 without a group [tokens]."""


class Instructions(NamedTuple):
    """What the prompts of sessions begin with, each of shape (sessions,)."""

    tokens: IntArray
    """Length, 0 for none [tokens]."""

    group: IntArray
    """Number of those that are the same, -1 where no other session has them."""


def _instructions(tables: SessionTables, count: int, streams: Streams) -> Instructions:
    if tables.instructions is None:
        return Instructions(np.zeros(count, np.int64), np.full(count, -1))
    drawn = streams("instructions").random(count)
    if tables.popularity is not None and tables.variants is not None:
        group = draw_groups(tables.popularity, drawn)
        return Instructions(tables.variants[group], group)
    tokens = invert(tables.instructions, drawn)
    return Instructions(tokens, tokens if tables.spec.instructions_cached else np.full(count, -1))


def draw_sessions(tables: SessionTables, count: int, streams: Streams) -> Calls:
    """Return the calls of the first sessions of a block.

    Parameters
    ----------
    tables : SessionTables
        Distributions.
    count : int
        Number of sessions, at most SESSIONS_PER_BLOCK.
    streams : callable
        Gives the random stream of a name; one for each part, at its start.

    Returns
    -------
    Calls
        The context of a call is that of its parent, the parent's answer and the new tokens, unless it is compacted;
        the whole context of the parent but the last token of its answer is then found in the cache.

    """
    if not tables.others:
        return _draw_kind(tables, count, streams)
    reached = np.cumsum(tables.kind_shares)
    kind = np.minimum(np.searchsorted(reached, streams("kind").random(count), side="right"), len(tables.others))
    parts = []
    for number, own in enumerate((tables, *tables.others)):
        sessions = np.flatnonzero(kind == number)

        def named(*names: str | int, _kind: int = number) -> np.random.Generator:
            return streams("kind", _kind, *names)

        calls = _draw_kind(own, sessions.size, named)
        parts.append(calls._replace(session=sessions[calls.session]))
    return _in_order(parts)


def _in_order(parts: list[Calls]) -> Calls:
    """Return the calls of all kinds in order of sessions."""
    offsets = np.cumsum([0, *(part.session.size for part in parts)])
    parents = [np.where(part.parent < 0, -1, part.parent + start) for part, start in zip(parts, offsets, strict=False)]
    joined = Calls(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(joined.session, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(order.size)
    parent = np.concatenate(parents)[order]
    np.copyto(parent, place[parent], where=parent >= 0)
    return Calls(*(column[order] for column in joined))._replace(parent=parent)  # type: ignore[arg-type]  # columns of one tuple type, made from a sequence


def _draw_kind(tables: SessionTables, count: int, streams: Streams) -> Calls:
    counts = invert(tables.calls, streams("calls").random(count))
    instructions = _instructions(tables, count, streams)
    first = invert(tables.first, streams("prompt").random(count))
    main = _chains(tables, counts, instructions, first, tables.spec.instructions_cached, streams, ())
    if tables.spec.sub_agents is None:
        return main
    return _with_sub_agents(tables, main, counts, instructions, streams)


def nominal_times(calls: Calls, call_time_s: float) -> FloatArray:
    """Return when each call would begin after the first one of its session, if every call took `call_time_s` [s]."""
    # runs of calls that each follow the row above: a running sum that starts anew with each run
    rows = np.arange(calls.parent.size)
    head = (calls.parent < 0) | (calls.parent != rows - 1)
    heads = np.flatnonzero(head)
    total = np.cumsum(np.where(head, 0.0, calls.gap_s + call_time_s))
    run = np.cumsum(head) - 1
    within = total - total[heads][run]
    starts = np.zeros(heads.size)
    for number in np.flatnonzero(calls.parent[heads] >= 0):
        parent = calls.parent[heads[number]]
        starts[number] = starts[run[parent]] + within[parent] + call_time_s + calls.gap_s[heads[number]]
    return np.asarray(starts[run] + within, dtype=np.float64)


def _chains(
    tables: SessionTables,
    counts: IntArray,
    instructions: Instructions,
    first: IntArray,
    first_cached: bool,
    streams: Streams,
    part: tuple[str, ...],
) -> Calls:
    total = int(counts.sum())
    offset = np.cumsum(counts) - counts
    session = np.repeat(np.arange(counts.size), counts)
    parent = np.arange(-1, total - 1)
    parent[offset] = -1
    answer = streams(*part, "output").random(total)
    output = invert(tables.output, answer)
    draws = _follow_ups(tables, counts, output, answer, streams, part)
    new, way, gap_s = draws.new, draws.way, draws.gap_s
    new[offset], way[offset], gap_s[offset] = 0, -1, 0.0
    prompt, cached = np.empty(total, np.int64), np.empty(total, np.int64)
    prompt[offset] = instructions.tokens + first
    cached[offset] = instructions.tokens if first_cached else 0
    if tables.summary is None and not any(tables.by_context):
        growth = np.zeros(total, np.int64)
        growth[1:] = output[:-1] + new[1:]
        growth[offset] = prompt[offset]
        reached = np.cumsum(growth)
        prompt = reached - np.repeat(reached[offset] - growth[offset], counts)
        cached = np.where(parent < 0, cached, prompt - new - 1)
    else:
        floor = instructions.tokens
        _grow(tables, counts, offset, floor, prompt, cached, output, draws, streams, part)
    group = instructions.group.astype(np.int32)[session]
    shared = np.where(group < 0, 0, instructions.tokens[session]).astype(np.int32)
    return Calls(session, parent, prompt, cached, output, gap_s, way, group, shared)


class _Draws(NamedTuple):
    """What is drawn for every call as a follow-up, each of shape (calls,)."""

    new: IntArray
    way: npt.NDArray[np.int16]
    gap_s: FloatArray
    length: FloatArray
    """Uniform numbers behind the new tokens."""
    nothing: FloatArray
    """Uniform numbers behind whether there are any."""


def _follow_ups(
    tables: SessionTables,
    counts: IntArray,
    output: IntArray,
    answer: FloatArray,
    streams: Streams,
    part: tuple[str, ...],
) -> _Draws:
    """Return new tokens, kind and gap of every call, as if it were a follow-up of the row above it."""
    total = output.size
    way = np.zeros(total, np.int16)
    if len(tables.new) > 1:
        drawn = np.searchsorted(tables.shares, streams(*part, "follow_up").random(total), side="right")
        way = np.minimum(drawn, len(tables.new) - 1).astype(np.int16)
    length, nothing, wait = (streams(*part, name).random(total) for name in ("new", "nothing_new", "gap"))
    if tables.rank_correlation != 0.0:
        length = correlated(answer, length, tables.rank_correlation)
    new, gap_s = np.empty(total, np.int64), np.empty(total)
    numbers = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    for kind, (bands, empty, gap) in enumerate(zip(tables.new, tables.empty, tables.gaps, strict=True)):
        rows = np.flatnonzero(way == kind)
        new[rows] = invert(bands[0][1], length[rows])
        for first, table in bands[1:]:
            late = rows[numbers[rows] >= first]
            new[late] = invert(table, length[late])
        new[rows] = np.where(nothing[rows] < empty, 0, new[rows])
        if isinstance(gap, SpokenGap):
            spoken = output[np.maximum(rows - 1, 0)]
            gap_s[rows] = gap.pause + spoken / gap.answer_tokens_per_s + new[rows] / gap.message_tokens_per_s
        else:
            gap_s[rows] = gap.at(wait[rows])
    return _Draws(new, way, gap_s, length, nothing)


def _grow(
    tables: SessionTables,
    counts: IntArray,
    offset: IntArray,
    instructions: IntArray,
    prompt: IntArray,
    cached: IntArray,
    output: IntArray,
    draws: _Draws,
    streams: Streams,
    part: tuple[str, ...],
) -> None:
    """Fill contexts call number by call number, for all sessions that go on at a time."""
    total = output.size
    chance, after = streams(*part, "compaction").random(total), streams(*part, "summary").random(total)
    by_context = any(tables.by_context)
    order = np.argsort(-counts, kind="stable")
    going = np.searchsorted(-counts[order], -np.arange(1, int(counts.max(initial=1)) + 1), side="right")
    for number in range(1, going.size):
        sessions = order[: going[number]]
        rows = offset[sessions] + number
        kept = prompt[rows - 1] + output[rows - 1]
        if by_context:
            _add_by_context(tables, number + 1, kept, rows, draws)
        context, found = kept + draws.new[rows], kept - 1
        if tables.summary is None:
            prompt[rows], cached[rows] = context, found
            continue
        hazard = tables.hazards[np.searchsorted(tables.edges, context, side="right")]
        cut = np.flatnonzero(chance[rows] < hazard)
        if cut.size:
            floor = instructions[sessions[cut]]
            short = np.minimum(invert(tables.summary, after[rows[cut]]), context[cut])
            context[cut] = np.maximum(short, floor + 1)
            found[cut] = floor
        prompt[rows], cached[rows] = context, found


def _add_by_context(tables: SessionTables, call: int, kept: IntArray, rows: IntArray, draws: _Draws) -> None:
    """Draw the new tokens of some calls whose contexts before them are known."""
    for kind, bands in enumerate(tables.by_context):
        if not bands or call < bands[0].from_call:
            continue
        mine = np.flatnonzero(draws.way[rows] == kind)
        band = np.searchsorted([each.from_tokens for each in bands], kept[mine], side="right")
        for number, each in enumerate(bands, start=1):
            chosen = rows[mine[band == number]]
            if chosen.size:
                drawn = invert(each.new, draws.length[chosen])
                draws.new[chosen] = np.where(draws.nothing[chosen] < each.empty, 0, drawn)


def _with_sub_agents(
    tables: SessionTables, main: Calls, counts: IntArray, instructions: Instructions, streams: Streams
) -> Calls:
    """Insert sub-agents after a call of their session; its next call follows the end of the one that takes longest."""
    spec = tables.spec.sub_agents
    assert spec is not None, "the caller has looked"
    starts = streams("sub_agents", "share").random(counts.size) < spec.share_of_sessions
    place, number = (streams("sub_agents", name).random(counts.size) for name in ("place", "at_once"))
    owner = np.flatnonzero(starts & (counts > 1))
    if not owner.size:
        return main
    offset = np.cumsum(counts) - counts
    at_once = invert(count_table(spec.at_once), number[owner])
    spawn = offset[owner] + (place[owner] * (counts[owner] - 1)).astype(np.int64)
    chain_owner, chain_spawn = np.repeat(owner, at_once), np.repeat(spawn, at_once)
    chains = int(at_once.sum())
    lengths = invert(count_table(spec.calls), streams("sub_agents", "calls").random(chains))
    tasks = invert(length_table(spec.task_tokens), streams("sub_agents", "task").random(chains))
    own = Instructions(*(column[chain_owner] for column in instructions))
    sub = _chains(tables, lengths, own, tasks, True, streams, ("sub_agents",))
    inserted = np.cumsum(np.bincount(np.repeat(chain_spawn, lengths) + 1, minlength=counts.sum() + 1))[:-1]
    own_row = np.arange(main.parent.size) + inserted  # rows of the main calls in the result
    sub_row = np.arange(sub.parent.size) + np.repeat(chain_spawn, lengths) + 1
    first = np.cumsum(lengths) - lengths
    last = first + lengths - 1
    sub_parent = np.where(sub.parent < 0, -1, sub_row[sub.parent])
    sub_parent[first] = own_row[chain_spawn]
    parent = np.where(main.parent < 0, -1, own_row[main.parent])
    took = nominal_times(sub, tables.spec.call_time.value)[last]
    # the last row of lexsort in each group of one owner is the sub-agent that takes longest
    ranked = np.lexsort((took, chain_spawn))
    longest = ranked[np.cumsum(at_once) - 1]
    parent[spawn + 1] = sub_row[last[longest]]
    total = main.parent.size + sub.parent.size

    def both(of_main: npt.NDArray[np.generic], of_sub: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        column = np.empty(total, of_main.dtype)
        column[own_row], column[sub_row] = of_main, of_sub
        return column

    sub_session = np.repeat(chain_owner, lengths)
    columns = zip(main._replace(parent=parent), sub._replace(parent=sub_parent, session=sub_session), strict=True)
    return Calls(*(both(of_main, of_sub) for of_main, of_sub in columns))  # type: ignore[arg-type]  # columns of one tuple type, made from a sequence
