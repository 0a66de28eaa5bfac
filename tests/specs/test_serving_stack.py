"""A serving stack holds whole tokens and efficiencies that can be true."""

from __future__ import annotations

from typing import Any

import pytest

from sim.specs.library import Library


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("{value: 16 tokens", "{value: 0 tokens", "batching.kv_block.value", "write a whole number of tokens"),
        ("{value: 16 tokens", "{value: 16.5 tokens", "batching.kv_block.value", "write a whole number of tokens"),
        ("low: 2048 tokens", "low: 0 tokens", "batching.step_token_budget.low", "write a whole number of tokens"),
        ("memory_fraction: {value: 0.9", "memory_fraction: {value: 1.9", "batching.memory_fraction.value",
         "must be less than or equal to 1"),
        ("memory_fraction: {value: 0.9", "memory_fraction: {value: true", "batching.memory_fraction.value",
         "must be a number, not true or false"),
        ("weight_bandwidth: {value: 0.", "weight_bandwidth: {value: -0.", "step_time.weight_bandwidth.value",
         "must be greater than 0"),
        ("weight_bandwidth: {value: 0.", "weight_bandwidth: {value: 80.", "step_time.weight_bandwidth.value",
         "must be less than or equal to 2"),
        ("smoothness: {value: 4", "smoothness: {value: .inf", "step_time.smoothness.value", "must be a finite number"),
        ("    bf16: {value: 0.", "    tf32: {value: 0.", "step_time.expert_matmul.tf32",
         "must be 'bf16', 'fp8', 'fp4'"),
    ],
)  # fmt: skip
def test_an_impossible_parameter_is_refused_where_it_stands(
    edit: Any, folder: Any, problems_of: Any, line_of: Any, old: str, new: str, path: str, message: str
) -> None:
    file = edit("serving_stacks/engine.yaml", (old, new))
    problem = problems_of(lambda: Library((folder,)).serving_stack("engine"))[0]
    assert problem.path == path
    assert problem.message.startswith(message)
    assert problem.line == line_of(file, new)


def test_the_tokens_of_a_serving_stack_are_whole_numbers(folder: Any) -> None:
    batching = Library((folder,)).serving_stack("engine").spec.batching
    assert {type(batching.kv_block.value), type(batching.step_token_budget.value)} == {int}
