"""What the fleet did and cost: rows of the summary that come from the timeline, by pool."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sim.results.headroom import spread
from sim.results.intervals import Estimate
from sim.results.metrics import PAID_REPLICAS, TOKENS_PER_MILLION, Array, Mask, PoolCost, Window, pool_cost_usd
from sim.results.observed import Blocks, Codes, ObservedRequests, token_costs_usd
from sim.results.rows import Row, row
from sim.results.tables import ALL, Table, labels, numbers

_JOULES_PER_KILOWATT_HOUR = 3.6e6


def fleet_rows(
    observed: ObservedRequests, timeline: Table, replications: Codes, pools: Sequence[PoolCost], blocks: Blocks
) -> list[Row]:
    """Use, availability, cost and energy of each pool and of the fleet, in the window.

    Parameters: `replications` of the rows of the timeline, shape (rows,), count from 0.
    """
    rows = _use_rows(timeline, replications, blocks)
    rows += _paid_rows(timeline, replications, blocks)
    rows += _cost_rows(observed, timeline, replications, pools, blocks)
    serves = {pool.pool: pool.serves for pool in pools}
    return rows + _energy_rows(observed, timeline, replications, serves, blocks)


def serving_replicas(timeline: Table, window: Window) -> dict[str, float]:
    """Replicas of each pool that served, as a mean over the window and the replications."""
    codes, pool_names = labels(timeline, "pool")
    overlap = window.overlap_s(numbers(timeline, "interval_start_s"), numbers(timeline, "interval_end_s"))
    served = np.bincount(codes, overlap * numbers(timeline, "replicas"), len(pool_names))
    seconds = np.bincount(codes, overlap, len(pool_names))
    return {name: float(served[code] / max(seconds[code], 1e-9)) for code, name in enumerate(pool_names)}


def _use_rows(timeline: Table, replications: Codes, blocks: Blocks) -> list[Row]:
    """Utilisation, KV memory in use and tokens computed."""
    starts, ends = numbers(timeline, "interval_start_s"), numbers(timeline, "interval_end_s")
    overlap = blocks.window.overlap_s(starts, ends)
    share = overlap / np.where(ends > starts, ends - starts, 1.0)
    middles = np.maximum(starts, blocks.window.warm_up_s) + overlap / 2
    places = blocks.of(replications, middles)
    replica_seconds = overlap * numbers(timeline, "replicas")
    codes, pool_names = labels(timeline, "pool")
    rows: list[Row] = []
    for pool in [ALL, *pool_names]:
        counted = (overlap > 0) & _of_pool(codes, pool_names, pool)
        samples = int(counted.sum())
        weights = blocks.total(places, counted, replica_seconds)
        for metric, column in (("utilisation", "busy_fraction"), ("kv_used_fraction", "kv_used_fraction")):
            totals = blocks.total(places, counted, replica_seconds * numbers(timeline, column))
            estimate = blocks.ratio(totals[weights > 0], weights[weights > 0]).within(0.0, 1.0)
            rows.append(row(metric, replace(estimate, samples=samples), "1", pool=pool))
        if pool == ALL:
            continue
        seconds = blocks.total(places, counted, overlap)
        for column in ("prefill_tokens", "decode_tokens"):
            totals = blocks.total(places, counted, share * numbers(timeline, column))
            estimate = blocks.ratio(totals[seconds > 0], seconds[seconds > 0])
            rows.append(row(f"{column}_per_s", replace(estimate, samples=samples), "tokens/s", pool=pool))
    return rows


def _paid_rows(timeline: Table, replications: Codes, blocks: Blocks) -> list[Row]:
    """Replicas that are paid, and the share of them that has not failed."""
    codes, pool_names = labels(timeline, "pool")
    paid = _paid(timeline)
    there = paid - numbers(timeline, "failed_replicas")
    rows: list[Row] = []
    for pool in [ALL, *pool_names]:
        counted = _of_pool(codes, pool_names, pool)
        totals = _in_blocks(timeline, replications, blocks, counted, paid)
        able = _in_blocks(timeline, replications, blocks, counted, there)
        samples = int(counted.sum())
        mean = replace(blocks.rate(totals), samples=samples)
        share = replace(blocks.ratio(able[totals > 0], totals[totals > 0]).within(0.0, 1.0), samples=samples)
        rows += [row("paid_replicas", mean, "1", pool=pool), row("availability", share, "1", pool=pool)]
    return rows


def _cost_rows(
    observed: ObservedRequests, timeline: Table, replications: Codes, pools: Sequence[PoolCost], blocks: Blocks
) -> list[Row]:
    """Cost of a million tokens: the formula is that of `PoolCost`."""
    codes, pool_names = labels(timeline, "pool")
    paid = _paid(timeline)
    costs: dict[str, Array] = {}
    for each in pools:
        if each.token_prices is not None:
            answered = _completed(observed, each.pool)
            usd = token_costs_usd(observed, each.token_prices)
            costs[each.pool] = blocks.total(observed.finish_blocks, answered, usd)
            continue
        shares = _in_blocks(timeline, replications, blocks, _of_pool(codes, pool_names, each.pool), paid)
        mean = shares.mean()
        # what the window costs is shared among its parts by the replicas that were paid in them
        parts_of_mean = shares / mean if mean > 0.0 else np.ones(blocks.count)
        costs[each.pool] = pool_cost_usd(each, blocks.duration_s) * parts_of_mean
    rows: list[Row] = []
    for pool, parts in [(ALL, list(pools)), *((pool.pool, [pool]) for pool in pools)]:
        counted = _completed(observed, pool if pool == ALL else parts[0].serves)
        cost = np.sum([np.zeros(blocks.count), *(costs[part.pool] for part in parts)], axis=0)
        basis = "; ".join(sorted({part.price_basis for part in parts})) or None
        output = blocks.total(observed.finish_blocks, counted, observed.output_tokens)
        prompt = blocks.total(observed.finish_blocks, counted, observed.prompt_tokens)
        for metric, tokens in (
            ("usd_per_million_tokens", prompt + output),
            ("usd_per_million_output_tokens", output),
        ):
            if np.isnan(cost).any():
                unpriced = ", ".join(part.pool for part in parts if part.price_usd_per_hour is None)
                estimate = Estimate(math.nan, math.nan, math.nan, 0, blocks.method, f"no price for pool {unpriced}")
            else:
                estimate = _per_token(blocks, cost * TOKENS_PER_MILLION, tokens)
            estimate = replace(estimate, samples=int(counted.sum()))
            rows.append(row(metric, estimate, "USD per million tokens", pool=pool, price_basis=basis))
    return rows


def _energy_rows(
    observed: ObservedRequests, timeline: Table, replications: Codes, serves: Mapping[str, str], blocks: Blocks
) -> list[Row]:
    """Energy of a million tokens, prompt and answer, of requests that finished; missing where no power is known."""
    codes, pool_names = labels(timeline, "pool")
    power = numbers(timeline, "power_w")
    rows: list[Row] = []
    for pool in [ALL, *pool_names]:
        mine = _of_pool(codes, pool_names, pool)
        counted = _completed(observed, serves.get(pool, pool))
        tokens = blocks.total(observed.finish_blocks, counted, observed.prompt_tokens + observed.output_tokens)
        if np.isnan(power[mine]).any():
            estimate = Estimate(math.nan, math.nan, math.nan, 0, blocks.method, "no power is known")
        else:
            energy = _in_blocks(timeline, replications, blocks, mine, power) / _JOULES_PER_KILOWATT_HOUR
            estimate = _per_token(blocks, energy * TOKENS_PER_MILLION, tokens)
        estimate = replace(estimate, samples=int(counted.sum()))
        rows.append(row("energy_per_million_tokens", estimate, "kWh per million tokens", pool=pool))
    return rows


def _per_token(blocks: Blocks, amounts: Array, tokens: Array) -> Estimate:
    estimate = blocks.ratio(amounts, tokens)
    return replace(estimate, note="no token was completed in the window") if tokens.sum() == 0 else estimate


def _paid(timeline: Table) -> Array:
    """Replicas that are paid, shape (rows,)."""
    return np.asarray(np.sum([numbers(timeline, column) for column in PAID_REPLICAS], axis=0))


def _of_pool(codes: Codes, pool_names: Sequence[str], pool: str) -> Mask:
    """Rows of a pool; all rows for "all"."""
    if pool == ALL:
        return np.ones(codes.size, dtype=np.bool_)
    return np.asarray(codes == (pool_names.index(pool) if pool in pool_names else -2))


def _completed(observed: ObservedRequests, pool: str) -> Mask:
    """Requests of a pool that finished in the window."""
    return np.asarray(observed.completed & _of_pool(observed.pools, observed.pool_names, pool))


def _in_blocks(timeline: Table, replications: Codes, blocks: Blocks, counted: Mask, values: Array) -> Array:
    """Time integral of a mean of each interval over the parts of the window, shape (count,) [value s]."""
    starts, ends = numbers(timeline, "interval_start_s")[counted], numbers(timeline, "interval_end_s")[counted]
    if blocks.replicated:
        overlap = blocks.window.overlap_s(starts, ends)
        return blocks.total(replications[counted], np.ones(starts.size, dtype=np.bool_), overlap * values[counted])
    edges = blocks.window.warm_up_s + np.arange(blocks.count + 1, dtype=np.float64) * blocks.duration_s
    return spread(starts, ends, values[counted] * (ends - starts), np.asarray(edges, dtype=np.float64))
