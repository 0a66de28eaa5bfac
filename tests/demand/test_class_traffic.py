"""What classes of a scenario send: growth, answers by model and effort, shorter answers, and replayed classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sim
from sim.demand.class_traffic import answers_told, class_traffic, scenario_trace
from sim.demand.generate import generate_class
from sim.demand.lengths import length_quantile, mean_length
from sim.engine.preparation import prepare, traces_met
from sim.specs.distributions import TypeMixtureLengths
from sim.specs.errors import InputError
from sim.specs.resolved import Scenario, load_scenario
from sim.specs.workload import WorkloadSpec

OURS = {"source": ["assumption"], "confidence": "assumption"}


def scenario(model: str = "gpt-oss-20b", workload: str = "reasoning-chat", **traffic: Any) -> Scenario:
    fleet = {"main": {"hardware": "h200-sxm", "model": model, "replicas": 8, "parallelism": {"tensor": 8}}}
    return load_scenario(
        "quickstart",
        {
            "alternatives": {}, "fleet": fleet, "duration": "5 min", "warm_up": "10 s",
            "traffic": {"chat": {"workload": workload, "rate": "4 requests/s"} | traffic},
            "oversized_requests": "reject",
        },
    )  # fmt: skip


def test_growth_is_more_users_and_the_same_first_ones() -> None:
    once, twice = class_traffic(scenario(), "chat"), class_traffic(scenario(growth=2.0), "chat")
    assert twice.rate_per_s == 2.0 * once.rate_per_s
    few, many = scenario_trace(scenario(), 0), scenario_trace(scenario(growth=2.0), 0)
    assert many.requests == pytest.approx(2 * few.requests, abs=6 * np.sqrt(3 * few.requests))
    assert (many.prompt_tokens[: few.requests] == few.prompt_tokens).all()


def test_the_model_of_the_reference_leaves_answers_as_they_are() -> None:
    assert class_traffic(scenario("deepseek-r1"), "chat").answers == {}
    assert answers_told(scenario("deepseek-r1")) == {}


def test_another_model_changes_answers_and_nothing_else() -> None:
    made = class_traffic(scenario("gpt-oss-20b"), "chat")
    library = sim.load("quickstart").library
    tasks = library.workload("reasoning-chat").spec.answers.tasks
    first, second = (library.model(name).spec.output_lengths for name in ("gpt-oss-20b", "deepseek-r1"))
    ratios = {task: first[task].quantiles[0.5] / second[task].quantiles[0.5] for task in tasks}
    expected = np.exp(sum(weight * np.log(ratios[task]) for task, weight in tasks.items()) / sum(tasks.values()))
    assert made.answers["length_ratio"] == pytest.approx(expected, rel=0.01)
    assert made.answers["described_for"] == "deepseek-r1"
    described = library.workload("reasoning-chat").spec.output_tokens
    assert mean_length(made.workload.output_tokens) == pytest.approx(expected * mean_length(described), rel=0.03)
    own, other = scenario_trace(scenario("deepseek-r1"), 0), scenario_trace(scenario("gpt-oss-20b"), 0)
    assert (own.arrival_ns == other.arrival_ns).all()
    assert (own.prompt_tokens == other.prompt_tokens).all()
    # ranks of answers are kept
    assert (np.diff(other.output_tokens[np.argsort(own.output_tokens, kind="stable")]) >= -1).mean() > 0.99
    off = scenario_trace(scenario("gpt-oss-20b", answers="of_workload"), 0)
    assert (off.output_tokens == own.output_tokens).all()


def test_a_model_that_is_not_measured_answers_as_described_and_says_so() -> None:
    made = class_traffic(scenario("llama-3.1-8b"), "chat")
    assert made.answers["length_ratio"] == 1.0
    assert "not measured" in made.answers["note"]


def test_an_effort_takes_the_lengths_of_that_mode() -> None:
    plain = class_traffic(scenario("deepseek-r1"), "chat")
    later = class_traffic(scenario("deepseek-r1", effort="0528"), "chat")
    assert later.answers["length_ratio"] > 1.3
    assert mean_length(later.workload.output_tokens) > 1.3 * mean_length(plain.workload.output_tokens)
    with pytest.raises(InputError, match=r"effort.*has no output lengths of knowledge-tiny.*Measured are"):
        class_traffic(scenario("gpt-oss-20b", effort="tiny"), "chat")
    with pytest.raises(InputError, match="an effort needs tasks"):
        class_traffic(scenario("gpt-oss-20b", "realtime-chat", effort="low"), "chat")


def test_two_models_that_serve_a_class_leave_open_which_answers() -> None:
    changed = scenario().replace("fleet.other", {"hardware": "h200-sxm", "model": "qwen3-32b", "replicas": 1})
    with pytest.raises(InputError, match=r"is served by gpt-oss-20b and qwen3-32b.*answers: of_workload"):
        scenario_trace(changed, 0)
    assert scenario_trace(changed.replace("traffic.chat.answers", "of_workload"), 0).requests


def test_shorter_answers_carry_their_change_of_accuracy() -> None:
    asked = {"method": "crisp-uniform", "base": "qwen3-14b", "benchmarks": ["MATH-500", "AIME24", "AIME25"]}
    whole, half = (class_traffic(scenario(shorter_answers=asked | {"adoption": share}), "chat") for share in (1.0, 0.5))
    # the shortest benchmark shrinks to 44%, and shorter answers by no more
    assert 0.43 < whole.answers["shorter"]["length_ratio"] < half.answers["shorter"]["length_ratio"] < 1.0
    assert whole.accuracy_change is not None
    assert half.accuracy_change == pytest.approx(0.5 * whole.accuracy_change)
    assert whole.answers["shorter"]["accuracy_change"] == round(whole.accuracy_change, 4)
    plain = scenario_trace(scenario(), 0)
    shorter = scenario_trace(scenario(shorter_answers=asked), 0)
    assert (shorter.arrival_ns == plain.arrival_ns).all()
    assert (shorter.output_tokens <= plain.output_tokens + 1).all()
    for wrong in ({"method": "crisp-unifrom"}, asked | {"base": "gpt-2"}):
        with pytest.raises(InputError, match=r"traffic\.chat\.shorter_answers"):
            class_traffic(scenario(shorter_answers=wrong), "chat")


def test_alternatives_meet_the_same_customers_and_their_own_answers() -> None:
    base = scenario("deepseek-r1").replace(
        "alternatives", {"r1": {}, "again": {"fleet.main.replicas": 9}, "small": {"fleet.main.model": "qwen3-30b-a3b"}}
    )
    first, second, third = traces_met(prepare(base.variants()), 0)
    assert first is second
    assert (first.arrival_ns == third.arrival_ns).all()
    assert third.output_tokens.sum() > 1.2 * first.output_tokens.sum()
    shorter = scenario("qwen3-30b-a3b").replace(
        "alternatives", {"a": {}, "b": {"traffic.chat.shorter_answers.method": "crisp-uniform"}}
    )
    plain, less = traces_met(prepare(shorter.variants()), 0)
    assert less.output_tokens.sum() < plain.output_tokens.sum()


def types(prompt: dict[str, Any], output: dict[str, Any]) -> WorkloadSpec:
    return WorkloadSpec.model_validate(
        {
            "kind": "workload", "name": "w", "title": "w", "traffic_class": "continuous",
            "rate": {"value": "5 requests/s"} | OURS, "arrivals": {"process": "poisson"},
            "prompt_tokens": {"distribution": "types", "types": prompt} | OURS,
            "output_tokens": {"distribution": "types", "types": output} | OURS,
        }
    )  # fmt: skip


def part(share: float, tokens: int) -> dict[str, Any]:
    return {"share": share, "lengths": {"distribution": "fixed", "tokens": f"{tokens} tokens"} | OURS}


def test_prompts_and_answers_of_a_type_go_together() -> None:
    together = types(
        {"page": part(0.7, 800), "book": part(0.3, 90_000)}, {"page": part(0.7, 20), "book": part(0.3, 900)}
    )
    assert isinstance(together.prompt_tokens, TypeMixtureLengths)
    assert mean_length(together.prompt_tokens) == pytest.approx(0.7 * 800 + 0.3 * 90_000)
    assert length_quantile(together.prompt_tokens, [0.0, 0.69, 0.71, 1.0]).tolist() == [800, 800, 90_000, 90_000]
    trace = generate_class(together, 5.0, 600.0, 0.0, 1, "docs")
    pairs = set(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    assert pairs == {(800, 20), (90_000, 900)}
    share = (trace.prompt_tokens == 800).mean()
    assert share == pytest.approx(0.7, abs=4 * np.sqrt(0.21 / trace.requests))
    apart = types({"page": part(0.7, 800), "book": part(0.3, 90_000)}, {"short": part(0.7, 20), "long": part(0.3, 900)})
    trace = generate_class(apart, 5.0, 600.0, 0.0, 1, "docs")
    assert len(set(zip(trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True))) == 4


def test_a_trace_is_replayed_as_the_classes_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    rows = [f"{number},{name},100,{number + 1}" for number, name in enumerate(["voice", "chat", "chat", "voice"])]
    header = "arrival_s,class,prompt_tokens,output_tokens\n"
    file.write_text(header + "\n".join(rows) + "\n")
    found = sim.load("quickstart", {"alternatives": {}, "warm_up": "0 s"}, (None, str(file)))
    assert isinstance(found, Scenario)
    assert sorted(found.spec.traffic) == ["chat", "voice"]
    assert found.service_levels("chat")
    trace = scenario_trace(found, 0)
    assert [trace.classes[index] for index in trace.class_index] == ["voice", "chat", "chat", "voice"]
    uneven = found.replace("traffic.voice.trace_speed", 2.0)
    with pytest.raises(InputError, match=r"traffic\.chat\.trace.*at another speed or growth"):
        scenario_trace(uneven, 0)
    file.write_text(header + "0,chta,5,5\n")
    with pytest.raises(InputError, match=r"no such class.*chta.*Did you mean chat"):
        sim.load("quickstart", None, (None, str(file)))
    file.write_text("arrival_s,prompt_tokens,output_tokens\n0,5,5\n")
    assert list(sim.load("quickstart", None, (None, str(file))).spec.traffic) == ["trace"]
