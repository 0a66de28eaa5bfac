"""Fleets of a study are those that sizing finds, whatever is changed for them."""

from __future__ import annotations

import datetime
import math
from typing import Any

import numpy as np
import pytest

from sim.demand.compression import PowerLaw, compressed_lengths
from sim.demand.lengths import length_table, mean_length
from sim.planning.claims.documents import shortened_quantiles, with_documents
from sim.planning.claims.fleets import attribution_figures, fleet_figures, merged_fleet, whole_fleet
from sim.planning.claims.months import decimal_year, length_figures
from sim.planning.sizing import size_pool
from sim.specs.claim import AttributionStudy, FleetStudy, LengthStudy, ShorteningSpec
from sim.specs.errors import InputError
from sim.specs.library import default_library
from sim.specs.resolved import load_scenario

LIBRARY = default_library()
BRIEF: dict[str, Any] = {
    "fleet.serving.model": "llama-3.1-8b", "traffic.service.workload": "realtime-chat",
    "traffic.service.rate": "120 requests/s", "duration": "90 s", "warm_up": "20 s",
}  # fmt: skip
SMALL: dict[str, Any] = {"scenario": "service-2025", "set": BRIEF, "layouts": [{"tensor": 1}], "least_replicas": 2}


def study(**data: Any) -> FleetStudy:
    return FleetStudy.model_validate(SMALL | data)


def test_a_fleet_is_what_sizing_finds_and_its_figures_agree_with_each_other() -> None:
    figures = fleet_figures(study(), LIBRARY)
    scenario = load_scenario("service-2025", BRIEF)
    sized = size_pool(scenario, "serving", hardware="h100-sxm", layouts=study().layouts)
    assert figures["replicas"] == sized.replicas
    assert figures["usd_per_hour"] == sized.price_usd_per_hour == 1.30
    assert figures["usd_per_request"] * 3600 * figures["requests_per_accelerator_s"] == pytest.approx(1.30)
    assert figures["usd_per_million_output"] == pytest.approx(
        figures["usd_per_request"] / figures["output_tokens"] * 1e6
    )
    assert figures["accelerators_per_request"] * figures["requests_per_accelerator_s"] == pytest.approx(1.0)
    assert 0.0 < figures["load"] <= 1.0
    assert figures["tightness"] <= 1.0


def test_latency_limits_cost_something() -> None:
    sized, free = fleet_figures(study(), LIBRARY), fleet_figures(study(saturated=True), LIBRARY)
    assert free["usd_per_request"] <= sized["usd_per_request"]
    assert math.isnan(free["tightness"])


def test_rates_are_raised_until_whole_replicas_hardly_matter() -> None:
    assert fleet_figures(study(least_replicas=10), LIBRARY)["replicas"] >= 9


def test_a_changed_document_changes_the_fleet_and_not_the_library() -> None:
    halved = {"hardware/h100-sxm": {"memory.bandwidth.value": "1.675 TB/s", "memory.bandwidth.low": "1.675 TB/s"}}
    slower = fleet_figures(study(saturated=True, documents=halved), LIBRARY)
    assert (
        slower["output_per_accelerator_s"]
        < 0.95 * fleet_figures(study(saturated=True), LIBRARY)["output_per_accelerator_s"]
    )
    assert LIBRARY.hardware("h100-sxm").spec.memory.bandwidth.value == 3.35e12
    with (
        pytest.raises(InputError, match="no such path"),
        with_documents(LIBRARY, {"hardware/h100-sxm": {"memroy.bandwidth": 1}}, {}),
    ):
        pass


def test_answers_that_a_study_changes_are_the_ones_that_are_shortened() -> None:
    fixed = {"distribution": "fixed", "tokens": "1000 tokens", "source": ["assumption"], "confidence": "assumption"}
    documents = {"workload/realtime-chat": {"output_tokens": fixed}}
    shorter = {"method": "ctrlcot"}
    figures = fleet_figures(study(saturated=True, documents=documents, shortened=shorter), LIBRARY)
    assert figures["output_tokens"] == pytest.approx(1000 * 225.6 / 574.6, abs=1.0)


def test_a_fleet_nobody_can_serve_is_bad_input_with_the_reason() -> None:
    level = [
        {"metric": "tpot", "quantile": 0.5, "limit": "0.1 ms", "source": ["assumption"], "confidence": "assumption"}
    ]
    with pytest.raises(InputError, match=r"no fleet meets the service levels.*TPOT"):
        fleet_figures(study(set={**BRIEF, "service_levels": {"service": level}}), LIBRARY)


def test_a_fleet_like_another_takes_over_all_that_it_does_not_state() -> None:
    fleets = {
        "a": study(batch_limits=[8]),
        "b": FleetStudy.model_validate({"like": "a", "set": {"fleet.serving.hardware": "h200-sxm"}}),
        "c": FleetStudy.model_validate({"like": "b", "batch_limits": [16]}),
        "loop": FleetStudy.model_validate({"like": "loop"}),
        "lost": FleetStudy.model_validate({"like": "nobody"}),
    }
    whole = whole_fleet(fleets, "c")
    assert whole.scenario == "service-2025"
    assert whole.batch_limits == (16,)
    assert whole.set == {**BRIEF, "fleet.serving.hardware": "h200-sxm"}
    assert merged_fleet(fleets["a"], FleetStudy()).model_dump() == fleets["a"].model_dump()
    for name in ("loop", "lost"):
        with pytest.raises(InputError, match="like"):
            whole_fleet(fleets, name)


def test_factors_of_levers_multiply_to_what_all_of_them_do_together() -> None:
    levers = AttributionStudy.model_validate({
        "fleet": "a", "figure": "accelerators_per_request",
        "levers": {
            "hardware": {"set": {"fleet.serving.hardware": "b200-hgx"}},
            "answers": {"shortened": {"method": "ctrlcot"}},
            "nothing": {"set": {}},
        },
    })  # fmt: skip
    fleets = {"a": study(saturated=True)}
    figures = attribution_figures(levers, fleets, LIBRARY, lambda what: None)
    assert math.prod(figures[each] for each in levers.levers) == pytest.approx(figures["total"], rel=1e-12)
    assert figures["nothing"] == pytest.approx(1.0)
    assert figures["hardware"] > 1.0
    assert figures["answers"] > 1.0
    both = merged_fleet(merged_fleet(fleets["a"], levers.levers["hardware"]), levers.levers["answers"])
    before, after = (fleet_figures(each, LIBRARY)["accelerators_per_request"] for each in (fleets["a"], both))
    assert figures["total"] == pytest.approx(before / after, rel=1e-12)


def test_shortened_answers_agree_with_the_exact_transform_of_the_distribution() -> None:
    lengths = LIBRARY.workload("reasoning-chat").spec.output_tokens
    law = PowerLaw(0.5, 1.02)
    table = shortened_quantiles(lengths, law, 1.0)
    exact = compressed_lengths(lengths, law)
    reached = length_table(exact)
    for probability in (0.1, 0.5, 0.9, 0.99):
        tokens = float(np.interp(probability, list(table), list(table.values())))
        wanted = reached.minimum + int(np.searchsorted(reached.cumulative, probability))
        assert tokens == pytest.approx(wanted, rel=0.02, abs=2.0)
    assert mean_length(exact) == pytest.approx(
        length_figures(
            LengthStudy(workload="reasoning-chat", shortened=ShorteningSpec(method="crisp-uniform", base="qwen3-14b")),
            LIBRARY,
        )["mean_after"],
        rel=0.35,
    )


def test_what_is_not_reasoning_stays() -> None:
    shortened = ShorteningSpec(method="crisp-uniform", base="qwen3-14b", reasoning_share=0.0)
    figures = length_figures(LengthStudy(workload="reasoning-chat", shortened=shortened), LIBRARY)
    assert figures["mean_after"] == pytest.approx(figures["mean_before"])
    assert figures["cut"] == pytest.approx(0.0, abs=1e-12)


def test_months_are_decimal_years() -> None:
    assert decimal_year(datetime.date(2026, 7, 1)) == 2026.5
