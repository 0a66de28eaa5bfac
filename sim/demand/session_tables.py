"""The distributions of a workload with sessions, tabulated once for all of its kinds of sessions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.demand.durations import DurationTable, count_table, duration_table
from sim.demand.lengths import LengthTable, length_table
from sim.demand.prefix import popularity_table, shared_lengths
from sim.specs.distributions import CountDistribution
from sim.specs.sessions import SessionKindSpec, SessionsSpec, SpokenGap
from sim.specs.workload import WorkloadSpec

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


class ContextTable(NamedTuple):
    """New tokens of contexts from some size on."""

    from_call: int
    from_tokens: float
    new: LengthTable
    empty: float


class SessionTables(NamedTuple):
    """The distributions of a workload with sessions, tabulated once."""

    spec: SessionsSpec
    calls: LengthTable
    first: LengthTable
    instructions: LengthTable | None
    popularity: FloatArray | None
    variants: IntArray | None
    output: LengthTable
    shares: FloatArray
    new: tuple[tuple[tuple[int, LengthTable], ...], ...]
    empty: tuple[float, ...]
    gaps: tuple[DurationTable | SpokenGap, ...]
    edges: FloatArray
    hazards: FloatArray
    summary: LengthTable | None
    by_context: tuple[tuple[ContextTable, ...], ...]
    rank_correlation: float
    kind_shares: FloatArray
    """Shares of this kind of session and of the others [1]."""
    others: tuple[SessionTables, ...]


def session_tables(workload: WorkloadSpec) -> SessionTables:
    """Return the tables of a workload that has sessions."""
    spec = workload.sessions
    assert spec is not None, "only for workloads with sessions"
    others = tuple(spec.other_kinds.values())
    shares = np.array([1.0 - sum(kind.share.value for kind in others), *(kind.share.value for kind in others)])
    return _tables(workload, spec)._replace(
        kind_shares=shares,
        others=tuple(_tables(*_of_kind(workload, spec, kind)) for kind in others),
    )


def _of_kind(workload: WorkloadSpec, spec: SessionsSpec, kind: SessionKindSpec) -> tuple[WorkloadSpec, SessionsSpec]:
    changes = {"calls": kind.calls, "follow_ups": kind.follow_ups or spec.follow_ups, "compaction": kind.compaction}
    return workload.model_copy(update={"prompt_tokens": kind.prompt_tokens}), spec.model_copy(update=changes)


def _tables(workload: WorkloadSpec, spec: SessionsSpec) -> SessionTables:
    ways = tuple(spec.follow_ups.values())
    shares = np.cumsum([way.share.value for way in ways])
    shares /= shares[-1]
    compaction, popularity = spec.compaction, spec.instructions_popularity
    steps = compaction.hazards if compaction is not None else ()
    return SessionTables(
        spec=spec,
        calls=count_table(spec.calls),
        first=length_table(workload.prompt_tokens),
        instructions=None if spec.instructions_tokens is None else length_table(spec.instructions_tokens),
        popularity=None if popularity is None else popularity_table(popularity),
        variants=_variants(spec),
        output=length_table(workload.output_tokens),
        shares=shares,
        new=tuple(
            tuple(
                (call, length_table(each))
                for call, each in sorted({1: way.new_tokens, **way.new_tokens_from_call}.items())
            )
            for way in ways
        ),
        empty=tuple(way.without_new_tokens.value if way.without_new_tokens else 0.0 for way in ways),
        gaps=tuple(way.gap if isinstance(way.gap, SpokenGap) else duration_table(way.gap) for way in ways),
        edges=np.array([step.from_tokens for step in steps]),
        hazards=np.array([0.0, *(step.hazard for step in steps)]),
        summary=length_table(compaction.context_tokens) if compaction is not None else None,
        by_context=tuple(
            tuple(
                ContextTable(
                    max(way.new_tokens_from_call, default=1),
                    each.from_tokens,
                    length_table(each.new_tokens),
                    each.without_new_tokens,
                )
                for each in way.new_tokens_from_context
            )
            for way in ways
        ),
        rank_correlation=0.0 if workload.rank_correlation is None else workload.rank_correlation.value,
        kind_shares=np.ones(1),
        others=(),
    )


def _variants(spec: SessionsSpec) -> IntArray | None:
    """Return the lengths of different instructions, most popular first; None where they go by length."""
    if spec.instructions_popularity is None or spec.instructions_tokens is None:
        return None
    return shared_lengths(length_table(spec.instructions_tokens), spec.instructions_popularity.groups)


def mean_calls(spec: SessionsSpec) -> float:
    """Return the exact mean of the calls of a session, those of sub-agents included, over all kinds of sessions."""
    others = [(kind.share.value, kind.calls) for kind in spec.other_kinds.values()]
    rest = 1.0 - sum(share for share, _ in others)
    return sum(share * _mean_of_kind(spec, calls) for share, calls in [(rest, spec.calls), *others])


def _mean_of_kind(spec: SessionsSpec, calls: CountDistribution) -> float:
    own = _mean(count_table(calls))
    if spec.sub_agents is None:
        return own
    table = count_table(calls)
    # a session of one call has nothing that could wait for sub-agents
    single = float(table.cumulative[0]) if table.minimum == 1 else 0.0
    started = spec.sub_agents.share_of_sessions * (1.0 - single) * _mean(count_table(spec.sub_agents.at_once))
    return own + started * _mean(count_table(spec.sub_agents.calls))


def _mean(table: LengthTable) -> float:
    return table.minimum + float(np.sum(1.0 - table.cumulative[:-1]))
