"""Inputs as samples: medians and ends, and numbers out of the library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from sim.planning.claims.inputs import Marginal, marginals, sampled
from sim.specs.claim_inputs import InputSpec
from sim.specs.errors import InputError
from sim.specs.library import default_library

ADAPTER: TypeAdapter[Any] = TypeAdapter(InputSpec)
SOURCE = {"source": ["assumption"], "confidence": "assumption"}


def one(**data: Any) -> Marginal:
    return marginals({"x": ADAPTER.validate_python(data)}, default_library())["x"]


def test_half_of_a_range_lies_on_either_side_of_its_median_and_nothing_beyond_its_ends() -> None:
    each = one(input="range", value=2.0, low=1.0, high=10.0, unit="1", **SOURCE)
    samples = sampled({"x": each})["x"]
    assert np.mean(samples < 2.0) == pytest.approx(0.5, abs=1e-3)
    assert samples.mean() == pytest.approx(0.5 * 1.5 + 0.5 * 6.0, rel=1e-3)
    assert 1.0 <= samples.min() < 1.001
    assert 9.99 < samples.max() <= 10.0
    assert each.median == 2.0


def test_a_logarithmic_range_has_the_same_median_and_a_lower_mean() -> None:
    each = one(input="range", value=10.0, low=1.0, high=100.0, unit="1", log=True, **SOURCE)
    samples = sampled({"x": each})["x"]
    assert np.median(samples) == pytest.approx(10.0, rel=1e-2)
    assert samples.mean() == pytest.approx(99.0 / np.log(100.0), rel=1e-2)


def test_a_list_is_drawn_evenly() -> None:
    samples = sampled({"x": one(input="list", values=[1.0, 1.0, 5.0], unit="1", **SOURCE)})["x"]
    assert {1.0: pytest.approx(2 / 3, abs=2e-3), 5.0: pytest.approx(1 / 3, abs=2e-3)} == {
        value: np.mean(samples == value) for value in np.unique(samples)
    }


def test_inputs_are_independent_of_each_other_and_of_the_run() -> None:
    two = {"a": Marginal((0.0, 0.5, 1.0), "1"), "b": Marginal((0.0, 0.5, 1.0), "1")}
    first, again = sampled(two), sampled(two)
    assert abs(np.corrcoef(first["a"], first["b"])[0, 1]) < 0.01
    assert all((first[name] == again[name]).all() for name in two)


def test_a_number_of_the_library_brings_its_range_and_its_factor() -> None:
    profile = default_library().hardware("vr200-nvl72").spec
    each = one(input="library", document="hardware/vr200-nvl72", path="memory.bandwidth", unit="TB/s", times=1e-12)
    assert each.knots == pytest.approx((19.2, 19.2, 22.0))
    price = one(input="library", document="hardware/vr200-nvl72", path="prices.hourly.owning_hyperscaler", unit="USD/h")
    assert price.median == next(v.value for k, v in profile.prices.hourly.items() if k.value == "owning_hyperscaler")
    listed = one(input="library", document="economics/reference", path="api.o3.prices.0.output", unit="USD/Mtoken")
    assert listed.knots == (40.0, 40.0, 40.0)


@pytest.mark.parametrize("path", ["memory.speed", "memory", "name", "memory.bandwidth.3", "availability.purchasable"])
def test_a_path_without_a_number_is_bad_input(path: str) -> None:
    with pytest.raises(InputError, match=r"inputs\.x.*no number at this path"):
        one(input="library", document="hardware/vr200-nvl72", path=path, unit="1")


def test_measured_compressions_are_taken_as_they_stand() -> None:
    each = one(input="compression", method="crisp-uniform", figure="reduction", benchmarks=["MATH-500"],
               bases=["qwen3-8b", "qwen3-14b"])  # fmt: skip
    assert each.knots == pytest.approx((0.5632, 0.5686), abs=1e-3)
    with pytest.raises(InputError, match="has no reduction"):
        one(input="compression", method="crisp-uniform", figure="reduction", bases=["nobody"])


def test_a_curve_has_its_pieces_in_order_of_tokens() -> None:
    data: dict[str, Any] = {"input": "curve", "methods": ["crisp-uniform", "crisp-difficulty-aware"],
                            "bases": ["qwen3-8b"], "benchmarks": ["AIME24"]}  # fmt: skip
    # 72.9% at 9,549 tokens, 75.0% at 11,799 and 76.2% at 14,229
    assert one(**data, figure="gain").knots == pytest.approx((1.2, 2.1))
    slopes = one(**data, figure="slope").knots
    assert slopes == pytest.approx((1.2 / 2.430, 2.1 / 2.250))
    assert one(**data, figure="flattening").knots == pytest.approx((slopes[1] - slopes[0],))


def test_coverage_counts_what_lies_outside() -> None:
    nothing_excluded = one(input="coverage", models=[""]).knots
    assert nothing_excluded == (0.0,)
    qwen = one(input="coverage", models=["qwen3"]).knots[0]
    either = one(input="coverage", models=["qwen3"], benchmarks=["math", "aime", "gsm8k"]).knots[0]
    assert 0.0 < qwen < either < 1.0


def test_recorded_prices_are_later_over_earlier() -> None:
    each = one(input="records", horizon="enterprise-2027", series=["h100-one-year"])
    assert each.knots == pytest.approx((2.35 / 1.70,))
    with pytest.raises(InputError, match="no two records"):
        one(input="records", horizon="enterprise-2027", series=["nothing"])


def test_all_inputs_that_cannot_be_found_are_told_at_once() -> None:
    wrong = ADAPTER.validate_python({"input": "library", "document": "hardware/none", "path": "x", "unit": "1"})
    with pytest.raises(InputError) as refused:
        marginals({"a": wrong, "b": wrong}, default_library())
    assert {each.path for each in refused.value.problems} == {"inputs.a", "inputs.b"}
