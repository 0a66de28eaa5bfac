"""What a class is measured by beyond its requests: tasks, units of work, deadlines, users, and what they cost.

A task is a session. Figures per task are flows: what the class completes in the window over the tasks whose last call
finishes in it. The cost of a pool is shared among classes, prompts by their computed tokens and answers by theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sim.results.intervals import Estimate
from sim.results.metrics import Array, Mask, PoolCost, pool_cost_usd
from sim.results.observed import Blocks, ObservedRequests, token_costs_usd
from sim.results.tables import OUTCOMES
from sim.results.task_times import TaskTimes, task_times
from sim.specs.work import UnitSpec, UsersSpec, WorkSpec

SECONDS_PER_DAY = 86_400.0
DAYS_PER_MONTH = 365.25 / 12.0


@dataclass(frozen=True)
class ClassWork:
    """What the workload of a class says of its work and its users, and a change of its accuracy."""

    work: WorkSpec | None = None
    """Units and deadline."""

    users: UsersSpec | None = None
    """How much a user asks."""

    accuracy_change: float | None = None
    """Change of the share of right answers where they are shortened [1]; none where that is not known."""


class Measured(NamedTuple):
    """A metric of a class with its interval; `priced` where it is money."""

    metric: str
    estimate: Estimate
    unit: str
    quantile: float | None = None
    priced: bool = False


class ClassCosts(NamedTuple):
    """What a class costs in a block of the run."""

    usd: float
    """Cost of a block [USD], NaN where a pool that it uses has no price."""

    basis: str | None
    """Terms of the prices."""

    note: str
    """Why there is no cost."""


def class_costs(observed: ObservedRequests, members: Mask, pools: Sequence[PoolCost], blocks: Blocks) -> ClassCosts:
    """Return the part of the cost of all pools that a class bears.

    A pool's cost C is shared by what finishes in the window: C (s u / U + (1 - s) o / O), where s is the part that
    prompts cause, u of U the computed prompt tokens and o of O the output tokens of the class. Idle time is in it.
    """
    usd, bases, unpriced = 0.0, set[str](), []
    computed = observed.prompt_tokens - observed.cached_tokens
    for pool in pools:
        if pool.serves not in observed.pool_names:
            continue
        done = observed.completed & (observed.pools == observed.pool_names.index(pool.serves))
        mine = done & members
        if not mine.any():
            continue
        bases.add(pool.price_basis)
        if pool.token_prices is not None:
            usd += float(token_costs_usd(observed, pool.token_prices)[mine].sum()) / blocks.count
            continue
        if pool.price_usd_per_hour is None:
            unpriced.append(pool.pool)
        shares = [values[mine].sum() / max(values[done].sum(), 1.0) for values in (computed, observed.output_tokens)]
        share = pool.prefill_share * shares[0] + (1.0 - pool.prefill_share) * shares[1]
        usd += float(share) * pool_cost_usd(pool, blocks.duration_s)
    note = f"no price for pool {', '.join(unpriced)}" if unpriced else ""
    return ClassCosts(usd, "; ".join(sorted(bases)) or None, note)


def class_rows(
    observed: ObservedRequests,
    members: Mask,
    about: ClassWork,
    costs: ClassCosts,
    blocks: Blocks,
    quantiles: Sequence[float],
) -> Iterator[Measured]:
    """Yield all metrics of this file for one class.

    Parameters
    ----------
    observed : ObservedRequests
        Requests of the run.
    members : ndarray of bool
        Those of the class.
    about : ClassWork
        What its workload says.
    costs : ClassCosts
        What it costs.
    blocks : Blocks
        Independent parts of the run.
    quantiles : sequence of float
        Quantiles of the task time.

    """
    completed = members & observed.completed
    done = blocks.total(observed.finish_blocks, completed)
    yield _cost("usd_per_request", costs, done, "USD/request", blocks)
    tasks = None
    if (observed.sessions[members] >= 0).any():
        last = completed & (observed.session_call == observed.session_calls)
        tasks = blocks.total(observed.finish_blocks, last)
        yield from _task_rows(
            observed, members, completed, tasks, task_times(observed, members, blocks.window.end_s), blocks, quantiles
        )
        yield _cost("usd_per_task", costs, tasks, "USD/task", blocks)
    if about.users is not None:
        yield from _user_rows(observed, completed, done if tasks is None else tasks, about.users, costs, blocks)
    if about.work is not None:
        yield from _work_rows(observed, members, about.work, costs, blocks)
    if about.accuracy_change is not None:
        change = about.accuracy_change
        yield Measured("accuracy_change", Estimate(change, math.nan, math.nan, 0, "published"), "1")


def _task_rows(
    observed: ObservedRequests,
    members: Mask,
    completed: Mask,
    tasks: Array,
    times: TaskTimes,
    blocks: Blocks,
    quantiles: Sequence[float],
) -> Iterator[Measured]:
    for name, count in times.counts().items():
        yield Measured(f"tasks_{name}", Estimate(count, count, count, int(times.counts()["offered"]), "exact"), "tasks")
    yield Measured("tasks_completed_per_s", _counted(blocks.rate(tasks), tasks), "tasks/s")
    for quantile in quantiles:
        yield Measured("task_time_s", times.quantile(quantile, blocks), "s", quantile)
    finish = observed.finish_blocks
    for metric, totals, unit in (
        ("calls_per_task", blocks.total(finish, completed), "requests/task"),
        ("input_tokens_per_task", blocks.total(finish, completed, observed.prompt_tokens), "tokens/task"),
        ("output_tokens_per_task", blocks.total(finish, completed, observed.output_tokens), "tokens/task"),
    ):
        yield Measured(metric, _per(totals, tasks, "task", blocks), unit)


def _user_rows(
    observed: ObservedRequests, completed: Mask, asked: Array, users: UsersSpec, costs: ClassCosts, blocks: Blocks
) -> Iterator[Measured]:
    """A user asks per_day x days_per_month times a month: so many times what a task or a request costs."""
    times_a_month = users.per_day.value * users.days_per_month.value
    per_second = times_a_month / (DAYS_PER_MONTH * SECONDS_PER_DAY)
    yield Measured("users_served", _scaled(_counted(blocks.rate(asked), asked), 1.0 / per_second), "users")
    tokens = blocks.total(observed.finish_blocks, completed, observed.prompt_tokens + observed.output_tokens)
    a_month = _scaled(_per(tokens, asked, "task", blocks), times_a_month)
    yield Measured("tokens_per_user_month", a_month, "tokens/month")
    cost = _cost("usd_per_user_month", costs, asked, "USD/month", blocks)
    yield cost._replace(estimate=_scaled(cost.estimate, times_a_month))


def _work_rows(
    observed: ObservedRequests, members: Mask, work: WorkSpec, costs: ClassCosts, blocks: Blocks
) -> Iterator[Measured]:
    end_s = blocks.window.end_s
    came, finishes = members & (observed.arrivals_s < end_s), observed.finishes_s
    # what is not done when the arrivals end, in all replications; a rejected request is no backlog
    waiting = came & ~(finishes < end_s) & (observed.outcomes != OUTCOMES.index("rejected"))
    replications = blocks.count if blocks.replicated else 1
    units: Mapping[str, Array] = {
        name: _units(unit, observed.prompt_tokens, observed.output_tokens) for name, unit in work.units.items()
    }
    for name, each in {"requests": np.ones(came.size), **units}.items():
        backlog = float(each[waiting].sum()) / replications
        yield Measured(f"backlog_{name}", Estimate(backlog, math.nan, math.nan, int(waiting.sum()), "exact"), name)
    completed = members & observed.completed
    for name, each in units.items():
        totals = blocks.total(observed.finish_blocks, completed, each)
        rate = _counted(blocks.rate(totals), totals)
        yield Measured(f"{name}_completed_per_s", rate, f"{name}/s")
        backlog = float(each[waiting].sum()) / replications
        seconds = backlog / rate.value if rate.value > 0.0 else (math.inf if backlog > 0.0 else 0.0)
        clears = Estimate(seconds, math.nan, math.nan, rate.samples, "backlog over rate")
        yield Measured(f"backlog_{name}_clears_s", clears, "s")
        yield _cost(f"usd_per_{name}", costs, totals, f"USD/{name}", blocks)
    yield from _deadline_rows(observed, members, work, {"requests": np.ones(came.size), **units}, blocks)


def _deadline_rows(
    observed: ObservedRequests, members: Mask, work: WorkSpec, units: Mapping[str, Array], blocks: Blocks
) -> Iterator[Measured]:
    """Share of the work that is done by its deadline; of work whose deadline lies beyond the run there is no word."""
    if work.within is not None:
        due_s = observed.arrivals_s + work.within.value
        counted = members & observed.offered
    elif work.finish_by is not None:
        due_s = np.full(observed.arrivals_s.size, work.finish_by.value)
        # an archive is handed in before anything is measured
        counted = members & (observed.arrivals_s < work.finish_by.value)
    else:
        return
    judged = counted & (due_s <= observed.ended_s)
    met = judged & (observed.finishes_s <= due_s)
    left_out = int(counted.sum() - judged.sum())
    note = f"{left_out} of {int(counted.sum())} requests are due only after the run ends" if left_out else ""
    for name, each in units.items():
        done, all_of = (blocks.total(observed.arrival_blocks, chosen, each) for chosen in (met, judged))
        estimate = blocks.ratio(done, all_of).within(0.0, 1.0) if all_of.sum() > 0.0 else _nothing(blocks)
        fraction = replace(estimate, samples=int(judged.sum()), note="; ".join(filter(None, [note, estimate.note])))
        yield Measured(f"{name}_by_deadline_fraction", fraction, "1")
        total = float(each[met].sum()) / (blocks.count if blocks.replicated else 1)
        counts = Estimate(total, math.nan, math.nan, int(judged.sum()), "exact", note)
        yield Measured(f"{name}_by_deadline", counts, name)


def _units(unit: UnitSpec, prompt_tokens: Array, output_tokens: Array) -> Array:
    if unit.per_request is not None:
        return np.full(prompt_tokens.size, unit.per_request)
    if unit.prompt_tokens_each is not None:
        return prompt_tokens / unit.prompt_tokens_each
    assert unit.output_tokens_each is not None, "the spec has one of the three"
    return output_tokens / unit.output_tokens_each


def _cost(metric: str, costs: ClassCosts, counts: Array, unit: str, blocks: Blocks) -> Measured:
    """Cost of the class over what it completed; nothing completed costs infinitely much."""
    if math.isnan(costs.usd):
        return Measured(metric, replace(_nothing(blocks), note=costs.note), unit, priced=True)
    if counts.sum() == 0.0:
        none = Estimate(math.inf, math.nan, math.nan, 0, blocks.method, "none was completed in the window")
        return Measured(metric, none, unit, priced=True)
    return Measured(metric, _counted(blocks.ratio(np.full(blocks.count, costs.usd), counts), counts), unit, priced=True)


def _per(totals: Array, counts: Array, what: str, blocks: Blocks) -> Estimate:
    if counts.sum() == 0.0:
        return replace(_nothing(blocks), note=f"no {what} was completed in the window")
    return _counted(blocks.ratio(totals, counts), counts)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    value, low, high = (each * factor for each in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)


def _counted(estimate: Estimate, counts: Array) -> Estimate:
    return replace(estimate, samples=int(counts.sum()))


def _nothing(blocks: Blocks) -> Estimate:
    return Estimate(math.nan, math.nan, math.nan, 0, blocks.method)
