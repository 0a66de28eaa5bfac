"""Answers by model: measured tables, ratios between models, and scaled workloads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.demand.answers import answer_lengths, answer_ratio, scaled_lengths
from sim.demand.lengths import length_cdf, length_quantile, mean_length
from sim.specs.errors import InputError
from sim.specs.library import Library
from sim.specs.model import ModelSpec

LIBRARY = Library((Path(__file__).parents[2],))
MODELS = [LIBRARY.model(name).spec for name in LIBRARY.names("model")]
MEASURED = [(model, task) for model in MODELS for task in model.output_lengths]


def measured(count: int) -> list[ModelSpec]:
    tasks = {task for _, task in MEASURED}
    shared = {task: [model for model, each in MEASURED if each == task] for task in tasks}
    return max(shared.values(), key=len)[:count]


def test_some_models_are_measured() -> None:
    assert len(MEASURED) > 3


@pytest.mark.parametrize(("model", "task"), MEASURED, ids=lambda value: getattr(value, "name", value))
def test_the_published_quantiles_are_kept(model: ModelSpec, task: str) -> None:
    published = model.output_lengths[task]
    lengths = answer_lengths(model, task)
    for probability, tokens in published.quantiles.items():
        if published.cap is None or tokens < published.cap:
            assert abs(float(length_quantile(lengths, probability)) - tokens) <= 1.0
    if published.cap is not None:
        assert max(lengths.quantiles.values()) <= max(published.cap, *published.quantiles.values())
    assert lengths.source == published.source


def test_a_task_that_was_not_measured_is_named_with_near_misses() -> None:
    model, task = MEASURED[0]
    with pytest.raises(InputError, match=task):
        answer_lengths(model, f"{task}x")


def test_a_ratio_is_that_of_the_medians() -> None:
    first, second = measured(2)
    (task, *_) = [task for task in first.output_lengths if task in second.output_lengths]
    medians = [each.output_lengths[task].quantiles[0.5] for each in (first, second)]
    assert answer_ratio(first, second, task) == pytest.approx(medians[0] / medians[1], rel=0.01)
    assert answer_ratio(first, second, task) * answer_ratio(second, first, task) == pytest.approx(1.0)


@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_scaled_lengths_are_the_lengths_times_the_ratio(ratio: float) -> None:
    lengths = LIBRARY.workload("reasoning-chat").spec.output_tokens
    scaled = scaled_lengths(lengths, ratio)
    assert mean_length(scaled) == pytest.approx(ratio * mean_length(lengths), rel=0.01)
    points = length_quantile(lengths, np.linspace(0.05, 0.95, 19))
    assert np.abs(length_cdf(scaled, points * ratio + 0.5) - length_cdf(lengths, points)).max() < 0.005


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("inf"), float("nan")])
def test_ratios_that_are_none(ratio: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        scaled_lengths(LIBRARY.workload("reasoning-chat").spec.output_tokens, ratio)
