"""The trace: a sorted, frozen table; nothing is lost in merging, and bad rows are told all at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.demand.trace import Trace, merge_traces
from sim.demand.trace_columns import trace_from_arrays
from sim.specs.errors import InputError

SECOND = 1_000_000_000
COLUMNS = ("arrival_ns", "class_index", "prompt_tokens", "cached_tokens", "output_tokens")


def small(classes: tuple[str, ...] = ("a", "b")) -> Trace:
    return trace_from_arrays(
        [0, 5, 5, 9 * SECOND], [10, 20, 30, 40], [1, 2, 3, 4], [9, 0, 1, 2], classes=classes, class_index=[0, 1, 0, 1]
    )


def rows(trace: Trace) -> list[tuple[Any, ...]]:
    names = [trace.classes[index] for index in trace.class_index]
    columns = (trace.arrival_ns, trace.prompt_tokens, trace.cached_tokens, trace.output_tokens)
    return list(zip(names, *(column.tolist() for column in columns), strict=True))


def messages(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    return [str(problem) for problem in error.value.problems]


traces = st.lists(
    st.tuples(st.integers(0, 20), st.sampled_from(["a", "b", "c"]), st.integers(2, 9), st.integers(0, 1)),
    min_size=1,
    max_size=12,
).map(
    lambda entries: trace_from_arrays(
        sorted(entry[0] for entry in entries),
        [entry[2] for entry in entries],
        [entry[2] + 1 for entry in entries],
        [entry[3] for entry in entries],
        classes=("c", "a", "b"),
        class_index=[("c", "a", "b").index(entry[1]) for entry in entries],
    )
)


@given(st.lists(traces, min_size=1, max_size=4))
def test_merging_keeps_every_request(parts: list[Trace]) -> None:
    merged = merge_traces(parts)
    assert sorted(rows(merged)) == sorted(row for part in parts for row in rows(part))
    order = list(zip(merged.arrival_ns.tolist(), merged.class_index.tolist(), strict=True))
    assert order == sorted(order)


@given(traces)
def test_merging_one_sorted_trace_twice_keeps_the_given_order_of_ties(part: Trace) -> None:
    once = merge_traces([part])
    twice = merge_traces([once])
    assert rows(once) == rows(twice)


def test_ties_go_by_class_then_by_the_order_given() -> None:
    first = trace_from_arrays([0, 7, 7], [11, 12, 13], [1, 1, 1], classes=("late",))
    second = trace_from_arrays([7], [21], [1], classes=("early",))
    third = trace_from_arrays([7], [31], [1], classes=("late",))
    assert merge_traces([first, second, third]).prompt_tokens.tolist() == [11, 12, 13, 31, 21]
    assert merge_traces([second, first, third]).prompt_tokens.tolist() == [11, 21, 12, 13, 31]
    assert merge_traces([second, first]).classes == ("early", "late")


def test_nothing_to_merge_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        merge_traces([])


def test_columns_cannot_be_changed_and_do_not_freeze_what_was_given() -> None:
    given_arrivals = np.array([0, 1], dtype=np.int64)
    trace = trace_from_arrays(given_arrivals, [1, 1], [1, 1])
    for name in COLUMNS:
        with pytest.raises(ValueError, match="read-only"):
            getattr(trace, name)[0] = 5
    given_arrivals[0] = 7
    assert trace.arrival_ns[0] == 0
    assert trace.class_index.dtype == np.int16
    assert {getattr(trace, name).dtype for name in COLUMNS if name != "class_index"} == {np.dtype(np.int64)}


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt_tokens"):
        Trace(("a",), *(np.zeros(count, np.int64) for count in (2, 2, 3, 2, 2)))  # type: ignore[arg-type]


def test_the_frame_holds_the_trace() -> None:
    frame = small().to_frame()
    assert list(frame.columns) == ["arrival_s", "class", "prompt_tokens", "cached_tokens", "output_tokens"]
    assert frame["arrival_s"].tolist() == [0.0, 5e-9, 5e-9, 9.0]
    assert frame["class"].astype(str).tolist() == ["a", "b", "a", "b"]
    assert frame["cached_tokens"].tolist() == [9, 0, 1, 2]


@given(traces, st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_time_scaling_moves_arrivals_and_nothing_else(part: Trace, factor: float) -> None:
    scaled = part.scaled(factor)
    assert np.all(np.abs(scaled.arrival_ns - factor * part.arrival_ns) <= 0.5)
    assert np.all(np.diff(scaled.arrival_ns) >= 0)
    for name in COLUMNS[1:]:
        assert np.array_equal(getattr(scaled, name), getattr(part, name))
    if factor > 1.0:
        assert np.array_equal(scaled.scaled(1.0 / factor).arrival_ns, part.arrival_ns)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_senseless_time_factors_are_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="time_factor"):
        small().scaled(factor)


def test_a_window_is_half_open_and_starts_at_zero() -> None:
    trace = trace_from_arrays([0, SECOND, 2 * SECOND, 3 * SECOND], [1, 2, 3, 4], [1, 1, 1, 1])
    part = trace.window(1.0, 3.0)
    assert part.arrival_ns.tolist() == [0, SECOND]
    assert part.prompt_tokens.tolist() == [2, 3]
    assert trace.window(3.5, 9.0).requests == 0
    assert trace.window(2.0, 1.0).requests == 0
    halves = [trace.window(0.0, 1.5), trace.window(1.5, 4.0)]
    assert sum(half.requests for half in halves) == trace.requests


def test_all_problems_of_all_rows_are_told_with_row_and_value() -> None:
    with pytest.raises(InputError) as error:
        trace_from_arrays(
            [-5, 2 * SECOND, SECOND, 3 * SECOND],
            [0, 10, float("nan"), 2.5],
            [1, -3, 1, float("inf")],
            [0, 10, 0, -1],
            file="my.parquet",
        )
    assert messages(error) == [
        "my.parquet: row 0, arrival_ns: is before the start, in seconds (got -5e-09).",
        "my.parquet: row 0, prompt_tokens: tokens run from 1 to 2147483647 (got 0).",
        "my.parquet: row 1, output_tokens: tokens run from 1 to 2147483647 (got -3).",
        "my.parquet: row 1, cached_tokens: cached tokens must be fewer than prompt tokens (got 10). "
        "The last token of a prompt is always computed.",
        "my.parquet: row 2, prompt_tokens: is not a whole number (got nan).",
        "my.parquet: row 2, arrival_ns: is earlier than the row above it, in seconds after the start (got 1.0). "
        "Sort the rows by arrival.",
        "my.parquet: row 3, prompt_tokens: is not a whole number (got 2.5).",
        "my.parquet: row 3, output_tokens: is not a whole number (got inf).",
        "my.parquet: row 3, cached_tokens: tokens run from 0 to 2147483647 (got -1).",
    ]


def test_twenty_problems_are_listed_and_the_rest_is_counted() -> None:
    with pytest.raises(InputError) as error:
        trace_from_arrays(range(30), [1] * 5 + [0] * 25, [1] * 29 + [0], file="t")
    assert len(messages(error)) == 21
    assert messages(error)[0].startswith("t: row 5, prompt_tokens")
    assert messages(error)[19].startswith("t: row 24, prompt_tokens")
    assert messages(error)[20] == "t: and 6 more problems like these."


def test_the_first_problems_are_listed_whatever_their_kind() -> None:
    prompt = [1] * 40
    output = [0] * 40
    prompt[0] = 0
    with pytest.raises(InputError) as error:
        trace_from_arrays(range(40), prompt, output)
    assert messages(error)[0].startswith("row 0, prompt_tokens")
    assert messages(error)[1].startswith("row 0, output_tokens")
    assert "21 more" in messages(error)[20]


def test_an_empty_trace_is_refused() -> None:
    with pytest.raises(InputError, match="holds no requests"):
        trace_from_arrays([], [], [])


def test_columns_that_are_none_are_refused_together() -> None:
    with pytest.raises(InputError) as error:
        trace_from_arrays([0, 1], [1], ["x", "y"], [[1], [2]])
    assert [problem.path for problem in error.value.problems] == ["prompt_tokens", "output_tokens", "cached_tokens"]


def test_a_class_index_outside_the_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"row 1, class: class_index lies in 0 to 1 \(got 2\)"):
        trace_from_arrays([0, 1], [1, 1], [1, 1], classes=("a", "b"), class_index=[0, 2])


def test_one_late_row_is_one_problem() -> None:
    with pytest.raises(InputError) as error:
        trace_from_arrays([0, 10, 5, 10, 11], [1] * 5, [1] * 5)
    assert len(error.value.problems) == 1


def test_sessions_are_numbered_on_when_traces_merge_and_requests_without_stay_without() -> None:
    plain = trace_from_arrays([0, 10], [5, 5], [1, 1])
    first = replace(trace_from_arrays([1, 2, 3], [5, 5, 5], [1, 1, 1]), session=np.array([-3, -1, 0], np.int32))
    second = replace(trace_from_arrays([4, 5], [5, 5], [1, 1]), session=np.array([7, 7], np.int32))
    merged = merge_traces([plain, first, second])
    assert merged.session is not None
    assert merged.session.tolist() == [-1, 0, -1, 3, 4, 4, -1]
    assert merged.session_groups().tolist() == [3, 0, 4, 1, 2, 2, 5]
    assert plain.session_groups().tolist() == [0, 1]
