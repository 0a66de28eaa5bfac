"""The arrays that hold a fleet in time: replicas, their slots, the requests, and what the timeline counts.

Layout only: every transition is in `sim.serving.replica`. Records are plain numpy structured arrays, so that
the same functions run compiled, interpreted (`NUMBA_DISABLE_JIT=1`) and under a debugger.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NEVER = 2**63 - 1
"""Time of an event that is not scheduled [ns]."""

FRACTION_BITS = 20
"""Step durations are integers in units of 2**-20 ns, so that k steps and a span of k steps add up exactly."""

FINISH, CROSSING = 0, 1
"""The two heaps of a replica: decode steps at which sequences finish, and at which they fill the window."""

UNFINISHED, FINISHED, REJECTED, TIMED_OUT = 0, 1, 2, 3
"""Codes of `requests["outcome"]`."""

TRANSFERRED, SWAPPED, CANCELLED, HELD, WATCHED = 1, 2, 4, 8, 16
"""Bits of `requests["stage"]`: its KV comes with it, its KV waits in host memory, its client has given up, it waits for
a replica to come up, its client's patience is running."""

NOWHERE = -1
"""Value of `requests["replica"]` while a request is at none; lower values are external endpoints."""

RUNNING = -2
"""Value of `requests["previous"]` while a request is in a batch; `next` is then its slot."""

PARENT_FINISHED, HANDED_OVER, DROPPED = 0, 1, 2
"""Why a request is in the list `leaving`: others follow it, another pool decodes it, its client has given up."""

WHOLE, PREFILL_ONLY = 0, 1
"""Codes of `pools["role"]`: answers whole requests, or prefills them for another pool."""

REPLICA = np.dtype(
    [
        ("pool", np.int64),
        ("clock_ns", np.int64),  # start of the running span
        ("remainder", np.int64),  # fraction of a nanosecond carried from the last boundary [2**-20 ns]
        ("end_ns", np.int64),  # next boundary, NEVER when idle
        ("span_steps", np.int64),  # steps until the next boundary; 0 when idle or just woken
        ("first_duration", np.int64),  # duration of the span's first step [2**-20 ns]
        ("duration_growth", np.int64),  # by which each later step is longer [2**-20 ns]
        ("decode_step", np.int64),  # decode steps since the start; the clock of both heaps
        ("decoding", np.int64),  # sequences that gain a token in each step
        ("prefilling", np.int64),  # sequences admitted and not yet decoding
        ("waiting", np.int64),
        ("waiting_tokens", np.int64),  # prompt tokens of the waiting requests
        ("waiting_since_ns", np.int64),  # until when the waiting integral has been taken
        ("outstanding", np.int64),  # requests routed here and not finished
        ("context", np.int64),  # tokens that the decoding sequences attend to in the next step
        ("window_context", np.int64),  # the same, each sequence cut at the window
        ("window_growing", np.int64),  # decoding sequences below the window
        ("kv_used", np.int64),  # KV entries charged [tokens]
        ("prefill_tokens", np.int64),  # prompt tokens in the running step
        ("prefill_head", np.int64),  # ring of prefilling slots, in order of admission
        ("free_slots", np.int64),
        ("finish_size", np.int64),
        ("crossing_size", np.int64),
        ("steps", np.int64),  # engine iterations done
        ("preemptions", np.int64),
        ("busy_ns", np.int64),  # time with a step in progress, until the last boundary
        ("cancelling", np.int64),  # running requests whose clients have given up
        ("draining", np.int64),  # 1: takes no new requests, and goes when it is empty
        ("slowdown", np.int64),  # factor on step times that keeps a power cap [2**-20]; 0 at full speed
        ("extra_duration", np.int64),  # KV that the next step moves from or to host memory [2**-20 ns]
        ("swapped_tokens", np.int64),  # KV of preempted sequences in host memory
        ("first_tokens", np.int64),  # requests that have had their first token here
        ("first_token_wait_ns", np.int64),  # sum of what they had waited since their arrival
        ("link_free_ns", np.int64),  # when the last KV transfer to another pool has left
        ("cache_tokens", np.int64),  # KV of no running request that may be used again [tokens]
        ("cache_newest", np.int64),  # entries that hold it as a list by last use, -1 when none
        ("cache_oldest", np.int64),
        ("host_tokens", np.int64),  # the same in host memory
        ("host_newest", np.int64),
        ("host_oldest", np.int64),
    ]
)

QUEUE = np.dtype(
    [
        ("head", np.int64),  # first waiting request of this priority, -1 when none
        ("tail", np.int64),
        ("running", np.int64),  # admitted sequences of this priority
        ("backlog", np.int64),  # tokens that these still have to prefill
        ("newest", np.int64),  # newest decoding slot of this priority, -1 when none
    ]
)

POOL = np.dtype(
    [
        ("max_sequences", np.int64),
        ("step_token_budget", np.int64),
        ("kv_capacity", np.int64),  # [tokens]
        ("admission_headroom", np.int64),  # KV kept free when a sequence joins others [tokens]
        ("sequence_charge", np.int64),  # KV charged per sequence whatever its length [tokens]
        ("max_span", np.int64),  # 1 simulates step by step
        ("context_duration", np.int64),  # per context token and decode step [2**-20 ns]
        ("window", np.int64),  # 0 when the model has no windowed layers
        ("window_duration", np.int64),  # per windowed context token and decode step [2**-20 ns]
        ("pair_duration", np.int64),  # per query-key pair of a prefill chunk [2**-20 ns]
        ("window_pair_duration", np.int64),
        ("role", np.int64),
        ("max_waiting", np.int64),  # requests that may wait at one replica; 0 without a limit
        ("spill_at", np.int64),  # waiting requests at which a replica's pool sends on; 0 never
        ("spill_row", np.int64),  # replicas to which it sends them, a row of the router; -1 when none
        ("spill_endpoint", np.int64),  # external endpoint to which it sends them; -1 when none
        ("cache_block", np.int64),  # block of the prefix cache [tokens]; 0 without one
        ("cache_capacity", np.int64),  # most tokens of no running request that are kept
        ("host_capacity", np.int64),  # the same in host memory
        ("host_duration", np.int64),  # per token moved between device and host memory [2**-20 ns]
        ("swap_capacity", np.int64),  # KV of preempted sequences that host memory holds [tokens]; 0: it is recomputed
        ("swap_duration", np.int64),  # per token of it moved [2**-20 ns]
        ("transfer_duration", np.int64),  # per token of KV sent to another pool [2**-20 ns]
        ("transfer_latency_ns", np.int64),
    ]
)

RESERVE = np.dtype(
    [
        ("slots", np.int64),  # that other priorities leave to this one
        ("kv", np.int64),  # KV for them [tokens]
    ]
)

SLOT = np.dtype(
    [
        ("request", np.int64),
        ("target", np.int64),  # tokens to prefill: the prompt, after a preemption also what was generated
        ("done", np.int64),  # tokens prefilled
        ("chunk", np.int64),  # tokens prefilled in the running step
        ("generated", np.int64),  # output tokens when decoding began
        ("entered", np.int64),  # decode step at which decoding began
        ("older", np.int64),  # decoding slots of one priority as a list in order of admission
        ("newer", np.int64),
        ("shared", np.int64),  # tokens that belong to entries of the prefix cache
        ("session_entry", np.int64),  # entries in use, -1 when none
        ("group_entry", np.int64),
    ]
)

HEAP_ENTRY = np.dtype([("key", np.int64), ("slot", np.int64)])

REQUEST = np.dtype(
    [
        ("arrival_ns", np.int64),
        ("admitted_ns", np.int64),
        ("first_token_ns", np.int64),
        ("finished_ns", np.int64),
        ("prompt_tokens", np.int32),
        ("cached_tokens", np.int32),
        ("output_tokens", np.int32),
        ("generated", np.int32),  # tokens to keep across a preemption
        ("gap_ns", np.int64),  # time after the completion of the request that this one follows
        ("first_child", np.int32),  # requests that follow this one, as a list; -1 ends it
        ("next_sibling", np.int32),
        ("next", np.int32),  # next in the waiting queue; the slot of a running request
        ("previous", np.int32),  # previous in the waiting queue; RUNNING when in a batch
        ("replica", np.int32),
        ("preemptions", np.int32),
        ("class_index", np.int16),
        ("retries", np.int16),
        ("priority", np.int8),  # 0 goes first
        ("outcome", np.int8),
        ("stage", np.int8),
        ("attempt", np.int8),  # times that its client has sent it again
    ]
)

PREFIX = np.dtype(
    [
        ("session", np.int32),  # whose previous prompt and answer this prompt repeats; -1 when nobody's
        ("group", np.int32),  # which shared text the prompt starts with; -1 when none
        ("group_tokens", np.int32),  # its length
        ("reusable", np.int32),  # most tokens of the prompt that a cache may hold
    ]
)

ENTRY = np.dtype(
    [
        ("key", np.int64),  # whose prefix it is, see `sim.serving.prefix_cache`; -1 is nobody's
        ("tokens", np.int64),  # in device memory
        ("host_tokens", np.int64),  # behind them, in host memory
        ("references", np.int64),  # running requests that use it
        ("newer", np.int64),  # entries without references, by last use
        ("older", np.int64),
        ("host_newer", np.int64),
        ("host_older", np.int64),
    ]
)

TIMELINE = np.dtype(
    [
        ("waiting_ns", np.int64),
        ("running_ns", np.int64),
        ("busy_ns", np.int64),
        ("kv_token_ns", np.float64),
        ("prefill_tokens", np.int64),
        ("decode_tokens", np.int64),
        ("arrivals", np.int64),
        ("hit_tokens", np.int64),
    ]
)


class FleetState(NamedTuple):
    """All arrays of a running fleet of R replicas in P pools."""

    replicas: NDArray[np.void]
    """Replica records, shape (R,), dtype REPLICA."""

    pools: NDArray[np.void]
    """Pool records, shape (P,), dtype POOL."""

    linear_duration: NDArray[np.int64]
    """Duration of the token-linear part of a step by tokens in the step [2**-20 ns], shape (P, T + 1)."""

    sequence_duration: NDArray[np.int64]
    """Duration of the per-sequence part by sequences that sample [2**-20 ns], shape (P, S + 1)."""

    queues: NDArray[np.void]
    """What waits and runs by priority, shape (R, L), dtype QUEUE."""

    slots: NDArray[np.void]
    """Slot records, shape (R, S), dtype SLOT."""

    heaps: NDArray[np.void]
    """FINISH and CROSSING heaps, shape (R, 2, S), dtype HEAP_ENTRY."""

    prefill_ring: NDArray[np.int64]
    """Prefilling slots in order of admission, shape (R, S)."""

    free_stack: NDArray[np.int64]
    """Unused slots, shape (R, S)."""

    requests: NDArray[np.void]
    """Request records in order of arrival, shape (n,), dtype REQUEST."""

    leaving: NDArray[np.int64]
    """What the last boundary let go and the engine must know, behind their number in place 0, shape (2 S + 1,):
    four times the request, plus the reason."""

    reserves: NDArray[np.void]
    """What others leave to each priority, shape (P, L), dtype RESERVE."""

    deadlines: NDArray[np.int64]
    """Latest finish by request [ns], by which requests of one priority are ordered; shape (n,), or (0,) when none."""

    prefixes: NDArray[Any]
    """What prompts repeat, shape (n,), dtype PREFIX; shape (0,), dtype int8, when no pool has a prefix cache."""

    entries: NDArray[np.void]
    """Entries of the prefix caches of all replicas, shape (E,), dtype ENTRY."""

    entry_index: NDArray[np.int64]
    """Hash table from replica and key to entry, shape (a power of two,), -1 where empty."""

    free_entries: NDArray[np.int64]
    """Unused entries, behind their number in place 0, shape (E + 1,)."""

    timeline: NDArray[np.void]
    """What happened per pool and interval, shape (P, I), dtype TIMELINE."""

    interval_ns: int
    """Length of a timeline interval [ns]."""


def empty_fleet(
    pools: NDArray[np.void],
    replica_pools: NDArray[np.int64],
    linear_duration: NDArray[np.int64],
    sequence_duration: NDArray[np.int64],
    requests: NDArray[np.void],
    intervals: int,
    interval_ns: int,
    reserves: NDArray[np.void] | None = None,
    deadlines: NDArray[np.int64] | None = None,
    prefixes: NDArray[np.void] | None = None,
) -> FleetState:
    """Return the state of an idle fleet at time 0.

    Parameters
    ----------
    pools : ndarray of POOL, shape (P,)
        Parameters of the pools.
    replica_pools : ndarray of int, shape (R,)
        Pool of each replica.
    linear_duration, sequence_duration : ndarray of int
        Step-time tables, see `FleetState`.
    requests : ndarray of REQUEST, shape (n,)
        Requests in order of arrival; results are written into them.
    intervals : int
        Timeline intervals to keep; what happens later is counted in the last one.
    interval_ns : int
        Length of one interval [ns].
    reserves : ndarray of RESERVE, shape (P, L), optional
        What others leave to each priority; nothing when omitted.
    deadlines : ndarray of int, shape (n,), optional
        Latest finish of each request [ns].
    prefixes : ndarray of PREFIX, shape (n,), optional
        What prompts repeat, needed by pools with a prefix cache.

    """
    count, slots = len(replica_pools), int(pools["max_sequences"].max())
    replicas = np.zeros(count, REPLICA)
    replicas["pool"] = replica_pools
    replicas["end_ns"] = NEVER
    for end in ("cache_newest", "cache_oldest", "host_newest", "host_oldest"):
        replicas[end] = -1
    levels = int(requests["priority"].max(initial=0)) + 1
    queues = np.zeros((count, levels), QUEUE)
    queues["head"] = queues["tail"] = queues["newest"] = -1
    replicas["free_slots"] = pools["max_sequences"][replica_pools]
    cached = prefixes is not None and bool((pools["cache_block"] > 0).any())
    entries = _most_entries(pools, replica_pools, prefixes) if cached and prefixes is not None else 0
    return FleetState(
        replicas=replicas,
        pools=pools,
        linear_duration=linear_duration,
        sequence_duration=sequence_duration,
        queues=queues,
        slots=np.zeros((count, slots), SLOT),
        heaps=np.zeros((count, 2, slots), HEAP_ENTRY),
        prefill_ring=np.zeros((count, slots), np.int64),
        free_stack=np.tile(np.arange(slots, dtype=np.int64), (count, 1)),
        requests=requests,
        leaving=np.zeros(2 * slots + 1, np.int64),
        reserves=np.zeros((len(pools), levels), RESERVE) if reserves is None else reserves,
        deadlines=np.zeros(0, np.int64) if deadlines is None else deadlines,
        prefixes=prefixes if cached and prefixes is not None else np.zeros(0, np.int8),
        entries=np.zeros(entries, ENTRY),
        entry_index=np.full(1 << (2 * entries).bit_length(), -1, np.int64),
        free_entries=np.concatenate([[entries], np.arange(entries, dtype=np.int64)]),
        timeline=np.zeros((len(pools), intervals), TIMELINE),
        interval_ns=interval_ns,
    )


def _most_entries(pools: NDArray[np.void], replica_pools: NDArray[np.int64], prefixes: NDArray[np.void]) -> int:
    """Return how many entries the caches can ever hold: each has a block of its own, and a request to make it."""
    made = 2 * len(prefixes)
    blocks = 0
    for pool in pools[replica_pools]:
        if pool["cache_block"] > 0:
            blocks += int((pool["kv_capacity"] + pool["host_capacity"]) // pool["cache_block"]) + 2
    return min(made, blocks) + len(replica_pools)
