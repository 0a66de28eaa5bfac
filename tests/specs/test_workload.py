"""Workload specs: what is accepted, and that each kind of nonsense is refused where it stands."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from sim.specs.errors import InputError
from sim.specs.prefixes import HitFractionPrefix, UncachedLengthsPrefix
from sim.specs.reading import RawDocument, validate
from sim.specs.work import WorkSpec
from sim.specs.workload import (
    FixedLengths,
    GammaLengths,
    GammaRenewalArrivals,
    LognormalMixtureLengths,
    QuantileTableLengths,
    WorkloadSpec,
)

OURS = {"source": ["assumption"], "confidence": "assumption"}
FIXED: dict[str, Any] = {"distribution": "fixed", "tokens": "10 tokens"} | OURS
TABLE: dict[str, Any] = {"distribution": "quantile_table"} | OURS
TABLE["quantiles"] = {1: "90 tokens", 0: "5 tokens", 0.5: "9 tokens"}
TAGS = (
    "poisson", "gamma_renewal", "quantile_table", "lognormal_mixture", "gamma", "fixed",
    "hit_fraction", "uncached_lengths",
)  # fmt: skip
BOUNDS = {"minimum": "1 tokens", "maximum": "8 ktokens"}
GAMMA: dict[str, Any] = {"distribution": "gamma", "shape": 1.5, "scale": "200 tokens"} | BOUNDS | OURS
MIXTURE: dict[str, Any] = {"distribution": "lognormal_mixture"} | BOUNDS | OURS
MIXTURE["components"] = [{"weight": 0.4, "mu": 3.0, "sigma": 0.5}, {"weight": 0.6, "mu": 5.0, "sigma": 1.0}]
LEVEL: dict[str, Any] = {"metric": "ttft", "quantile": 0.99, "limit": "500 ms"} | OURS
PROFILE: dict[str, Any] = {"multipliers": [1.0] * 23 + [0.0]} | OURS


def raw(**changes: Any) -> dict[str, Any]:
    document: dict[str, Any] = {
        "kind": "workload",
        "name": "test",
        "title": "A test",
        "traffic_class": "my-own",
        "rate": {"value": "2 requests/min"} | OURS,
        "arrivals": {"process": "gamma_renewal", "cv": {"value": 1.5, "high": 2.0} | OURS, "profile": PROFILE},
        "prompt_tokens": TABLE,
        "output_tokens": MIXTURE,
        "prefix": {"kind": "uncached_lengths", "uncached_tokens": GAMMA},
        "service_levels": [LEVEL, LEVEL | {"quantile": 0.5}],
    }
    return copy.deepcopy(document) | changes


def told(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return path and message of every error; a path leaves out the tags that pydantic adds for unions."""
    with pytest.raises(ValidationError) as error:
        WorkloadSpec.model_validate(document)
    return [
        (".".join(str(part) for part in detail["loc"] if part not in TAGS), detail["msg"])
        for detail in error.value.errors()
    ]


def test_a_full_workload_is_read_into_si_units() -> None:
    spec = WorkloadSpec.model_validate(raw())
    assert spec.rate.value == pytest.approx(2.0 / 60.0)
    assert isinstance(spec.arrivals, GammaRenewalArrivals)
    assert spec.arrivals.profile is not None
    assert spec.arrivals.profile.multipliers == (1.0,) * 23 + (0.0,)
    assert isinstance(spec.prompt_tokens, QuantileTableLengths)
    assert spec.prompt_tokens.knots == ((0.0, 5.0), (0.5, 9.0), (1.0, 90.0))
    assert isinstance(spec.output_tokens, LognormalMixtureLengths)
    assert spec.output_tokens.maximum == 8000
    assert isinstance(spec.output_tokens.maximum, int)
    assert isinstance(spec.prefix, UncachedLengthsPrefix)
    assert isinstance(spec.prefix.uncached_tokens, GammaLengths)
    assert [level.limit for level in spec.service_levels] == [0.5, 0.5]


def test_prefix_and_service_levels_may_be_absent() -> None:
    document = raw(output_tokens=FIXED, arrivals={"process": "poisson"})
    del document["prefix"], document["service_levels"]
    spec = WorkloadSpec.model_validate(document)
    assert spec.prefix is None
    assert spec.service_levels == ()
    assert spec.arrivals.profile is None
    assert isinstance(spec.output_tokens, FixedLengths)


def test_a_hit_fraction_carries_its_source() -> None:
    hit = {"kind": "hit_fraction", "fraction": {"value": 0.6, "low": 0.3} | OURS}
    spec = WorkloadSpec.model_validate(raw(prefix=hit))
    assert isinstance(spec.prefix, HitFractionPrefix)
    assert spec.prefix.fraction.low == 0.3
    with pytest.raises(ValidationError, match="source"):
        WorkloadSpec.model_validate(raw(prefix={"kind": "hit_fraction", "fraction": {"value": 0.6}}))


@pytest.mark.parametrize(
    ("key", "value", "path", "message"),
    [
        ("rate", {"value": "0 requests/s"} | OURS, "", "rate must exceed 0"),
        ("rate", {"value": 5} | OURS, "rate.value", "number"),
        ("rate", {"value": "5 tokens"} | OURS, "rate.value", "request rate"),
        ("rate", {"value": "-5 requests/s"} | OURS, "rate.value", "negative"),
        ("rate", {"value": "5 requests/s", "confidence": "measured"}, "rate.source", "required"),
        ("traffic_class", "Two words", "traffic_class", "pattern"),
        ("arrivals", {"process": "pareto"}, "arrivals", "poisson"),
        ("arrivals", {"process": "poisson", "cv": {"value": 1.0} | OURS}, "arrivals.cv", "not permitted"),
        ("arrivals", {"process": "gamma_renewal"}, "arrivals.cv", "required"),
        ("arrivals", {"process": "gamma_renewal", "cv": {"value": 0.0} | OURS}, "arrivals.cv.value", "greater than 0"),
        ("prompt_tokens", {"distribution": "zipf"} | OURS, "prompt_tokens", "quantile_table"),
        ("prompt_tokens", FIXED | {"tokens": "0 tokens"}, "prompt_tokens.tokens", "whole number of tokens from 1"),
        ("prompt_tokens", FIXED | {"tokens": "1.5 tokens"}, "prompt_tokens.tokens", "whole number of tokens from 1"),
        ("prompt_tokens", FIXED | {"tokens": "11 Mtokens"}, "prompt_tokens.tokens", "to 10000000"),
        ("prompt_tokens", FIXED | {"tokens": 10}, "prompt_tokens.tokens", "number"),
        ("prompt_tokens", GAMMA | {"minimum": "9 ktokens"}, "prompt_tokens", "minimum cannot exceed maximum"),
        ("prompt_tokens", GAMMA | {"shape": 0.0}, "prompt_tokens.shape", "greater than 0"),
        ("prompt_tokens", GAMMA | {"scale": "0 tokens"}, "prompt_tokens", "scale must exceed"),
        ("prompt_tokens", GAMMA | {"shape": float("nan")}, "prompt_tokens.shape", "finite"),
        ("prompt_tokens", MIXTURE | {"components": []}, "prompt_tokens.components", "at least 1"),
        ("service_levels", [LEVEL | {"quantile": 1.0}], "service_levels.0.quantile", "less than 1"),
        ("service_levels", [LEVEL | {"quantile": 0.0}], "service_levels.0.quantile", "greater than 0"),
        ("service_levels", [LEVEL | {"metric": "latency"}], "service_levels.0.metric", "ttft"),
        ("service_levels", [LEVEL | {"limit": "0 s"}], "service_levels.0", "limit must exceed 0"),
        ("service_levels", [LEVEL | {"limit": 2.0}], "service_levels.0.limit", "number"),
        ("service_levels", [LEVEL, LEVEL], "", "stand twice: ttft at 0.99"),
        ("prefix", {"kind": "hit_fraction", "fraction": {"value": 1.2} | OURS}, "prefix.fraction.value", "less than"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_where_it_stands(key: str, value: object, path: str, message: str) -> None:
    (problem,) = told(raw(**{key: value}))
    assert problem[0] == path
    assert message in problem[1]


@pytest.mark.parametrize(
    ("quantiles", "message"),
    [
        ({0: "1 tokens", 0.9: "5 tokens"}, "entries 0"),
        ({0.1: "1 tokens", 1: "5 tokens"}, "entries 0"),
        ({}, "entries 0"),
        ({0: "1 tokens", 0.5: "9 tokens", 0.6: "8 tokens", 1: "10 tokens"}, "must not fall"),
        ({0: "0.5 tokens", 1: "5 tokens"}, "lengths run from 1"),
        ({0: "1 tokens", 1: "10.1 Mtokens"}, "lengths run from 1"),
    ],
)
def test_quantiles_that_are_no_distribution(quantiles: dict[float, str], message: str) -> None:
    (problem,) = told(raw(prompt_tokens=TABLE | {"quantiles": quantiles}))
    assert message in problem[1]


def test_probabilities_lie_between_zero_and_one() -> None:
    quantiles = {0: "1 tokens", 1: "5 tokens", 1.5: "6 tokens"}
    assert "less than or equal to 1" in told(raw(prompt_tokens=TABLE | {"quantiles": quantiles}))[0][1]


@pytest.mark.parametrize(("second", "accepted"), [(0.6, True), (0.594, True), (0.58, False), (0.62, False)])
def test_weights_sum_to_one_within_a_percent(second: float, accepted: bool) -> None:
    document = raw()
    document["output_tokens"]["components"][1]["weight"] = second
    if accepted:
        WorkloadSpec.model_validate(document)
    else:
        ((path, message),) = told(document)
        assert path == "output_tokens"
        assert "weights must sum to 1" in message


@pytest.mark.parametrize(
    ("multipliers", "message"),
    [
        ([1.0] * 23, "has 23 multipliers"),
        ([1.0] * 25, "has 25 multipliers"),
        ([0.0] * 24, "above 0"),
        ([1.0] * 23 + [-0.1], "greater than or equal to 0"),
        ([1.0] * 23 + [float("inf")], "finite"),
    ],
)
def test_profiles_have_24_hours_and_some_traffic(multipliers: list[float], message: str) -> None:
    (problem,) = told(raw(arrivals={"process": "poisson", "profile": {"multipliers": multipliers} | OURS}))
    assert message in problem[1]


def test_problems_are_told_all_at_once() -> None:
    document = raw(rate={"value": "five"} | OURS, prompt_tokens=FIXED | {"tokens": "0 tokens"}, rates={})
    assert [path for path, _ in told(document)] == ["rate.value", "prompt_tokens.tokens", "rates"]


def test_a_source_that_is_not_listed_is_refused() -> None:
    document = raw(rate={"value": "1 requests/s", "source": ["NOBODY"], "confidence": "measured"})
    with pytest.raises(InputError, match=r"rate.*NOBODY"):
        validate(RawDocument("w.yaml", document), WorkloadSpec)


def test_the_schema_describes_quantities_as_they_are_written() -> None:
    schema = WorkloadSpec.model_json_schema()
    tokens = schema["$defs"]["FixedLengths"]["properties"]["tokens"]
    assert tokens["type"] == "string"
    assert tokens["examples"] == ["8192 tokens"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units": {"page": {} | OURS}}, "give one of per_request"),
        ({"units": {"page": {"per_request": 1.0, "prompt_tokens_each": "5 tokens"} | OURS}}, "give one of per_request"),
        ({"units": {"page": {"output_tokens_each": "0 tokens"} | OURS}}, "give one of per_request"),
        ({}, "give units, or a deadline"),
        ({"within": {"value": "0 s"} | OURS}, "must exceed 0 s"),
        (
            {"within": {"value": "1 h"} | OURS, "finish_by": {"value": "1 h"} | OURS},
            "either within a time or finish_by",
        ),
    ],
)
def test_work_that_cannot_be_counted_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        WorkSpec.model_validate(changes)
