"""The page docs/measured.md: errors against measured systems, what transfers, and why the worst groups are worst."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sim.fidelity.coverage import coverage_of
from sim.fidelity.explanations import explained
from sim.fidelity.points import DATA, KINDS
from sim.fidelity.validation import Compared, Validation, error_measures, worst_groups

ERRORS = DATA / "measured_errors.json"
"""Errors of the last fit; aggregates only, for some sources may not be passed on row by row."""

AT_LIMITS = """A submission is driven as hard as its limits on the 99th percentiles of TTFT and TPOT allow: the measured
percentile of TPOT is 0.9 to 1.0 of the limit for most. Latencies are therefore compared where the simulated system
meets the limits. At the absolute rate, a capacity that is wrong by a tenth puts a server below or past the knee, and
its latencies say nothing else. Throughput is the highest rate in both cases.

"""

PUBLISHED = """| simulator | data | E2E | TPOT | TTFT |
|---|---|---|---|---|
| BLIS, trained physics | 38 vLLM runs, trained on neighbouring runs | 6.8% | 6.5% | 18.4% |
| LLMServingSim 1.1 | 32 of the same | 18.8% | 21.8% | 72.5% |
| AIConfigurator 0.9 | 18 of the same | 21.5% | 13.2% | 662% |
| AIConfigurator 0.12 | 282 points like these | 16.4% | 14.6% | 43.0% |
| roofline, uncalibrated | 38 vLLM runs | 33% | 44% | 650% |
"""


def measured_errors(
    in_sample: Validation,
    groups_out: Validation,
    families_out: Validation,
    frameworks_out: Validation,
    at_given_rate: Validation,
) -> dict[str, Any]:
    """Return the aggregates that the page shows, ready for JSON.

    Parameters
    ----------
    in_sample : Validation
        All points with the shipped stacks.
    groups_out : Validation
        The same, each group of accelerator and model predicted by a fit without it.
    families_out : Validation
        The same for whole accelerator families.
    frameworks_out : Validation
        The same for whole framework families.
    at_given_rate : Validation
        All points with the shipped stacks, servers under limits at the absolute rate.

    """
    vllm = [
        each for each in groups_out.compared if each.source.startswith("inference-sim") and each.statistic == "mean"
    ]
    return {
        "in_sample": in_sample.errors(),
        "groups_out": groups_out.errors(),
        "families_out": families_out.errors(),
        "frameworks_out": frameworks_out.errors(),
        "limited_at_limit": in_sample.errors(_limited(in_sample)),
        "limited_at_given_rate": at_given_rate.errors(_limited(at_given_rate)),
        "generations_out": families_out.errors([each for each in families_out.compared if each.family == "blackwell"]),
        "target_metrics": {name: rule(in_sample, groups_out) for name, rule in TARGETS.items()},
        "vllm_runs_groups_out": groups_out.errors(vllm),
        **{
            f"groups_out_by_{name}": groups_out.by(name)
            for name in ("accelerator", "model", "framework", "regime", "source")
        },
        "families_out_by_accelerator": families_out.by("accelerator"),
        "frameworks_out_by_framework": frameworks_out.by("framework"),
        "worst": [list(each) for each in worst_groups(groups_out)],
        "unscored": in_sample.reasons(),
        "coverage": coverage_of(in_sample, groups_out),
    }


def _limited(validation: Validation) -> list[Compared]:
    return [each for each in validation.compared if each.source.startswith("MLPerf") and each.load == "open"]


def _target(metric: str, chosen: Callable[[Compared], bool]) -> Callable[[Validation, Validation], list[float | None]]:
    """Return a rule: median absolute error of some numbers, in sample and with groups left out."""

    def rule(*validations: Validation) -> list[float | None]:
        rows = [[row for row in each.compared if row.metric == metric and chosen(row)] for each in validations]
        return [float(error_measures(each)["median_ape"] or 0.0) if each else None for each in rows]

    return rule


TARGETS: Mapping[str, Callable[[Validation, Validation], list[float | None]]] = {
    "output tokens/s per accelerator, saturated": _target("throughput", lambda row: row.regime == "saturated"),
    "output tokens/s per accelerator, servers under limits": _target(
        "throughput", lambda row: row.regime == "server-SLO"
    ),
    "TPOT, InferenceX": _target("tpot", lambda row: row.source.startswith("InferenceX CI")),
    "TPOT, vLLM runs": _target("tpot", lambda row: row.source.startswith("inference-sim/sim")),
    "E2E, vLLM runs": _target("e2e", lambda row: row.source.startswith("inference-sim/sim")),
    "TTFT, vLLM runs": _target("ttft", lambda row: row.source.startswith("inference-sim/sim")),
}
"""What the model is tuned for -> rule."""


def measured_page(errors: Mapping[str, Any] | None = None) -> str:
    """Return docs/measured.md from stored errors, by default those of the shipped stacks."""
    found = json.loads(ERRORS.read_text("utf-8")) if errors is None else errors
    parts = [
        "# Measured systems",
        "How far the simulator is from public measurements of real systems: MLPerf Inference (figures derived from its "
        "results are unverified by MLCommons), InferenceX, TensorRT-LLM tables, vLLM runs with percentiles, and a few "
        "points each of TPU, Trainium and others. Every run is simulated as it was driven; every error is that of a "
        "prediction p of a measured m, `p / m - 1`, weighted so that equal submissions count once. "
        "This page is generated; `fleetcast validate` prints the same tables for any file of points.",
        "## Overall",
        "*In sample* uses the shipped stacks. *Groups left out* predicts every pair of accelerator and model by a fit "
        "that has not seen it (whole groups in five folds), *families left out* every accelerator family by a fit on "
        "all others, such as Blackwell without any Blackwell point, *frameworks left out* every framework likewise. "
        "The bands of predictions come from groups and families left out.",
        _table("fit", {name: found[key] for name, key in (
            ("in sample", "in_sample"), ("groups left out", "groups_out"), ("families left out", "families_out"),
            ("Blackwell left out", "generations_out"), ("frameworks left out", "frameworks_out"),
            ("vLLM runs, means, groups left out", "vllm_runs_groups_out"),
        )}),
        "## Where a model is judged most\n\n" + _targets(found["target_metrics"]),
        "## Servers under limits\n\n" + AT_LIMITS + _table("MLPerf servers", {
            "at the highest rate within their limits": found["limited_at_limit"],
            "at the absolute rate": found["limited_at_given_rate"],
        }),
        *(
            f"## Groups left out, by {name}\n\n" + _table(name, found[f"groups_out_by_{name}"])
            for name in ("accelerator", "model", "framework", "regime", "source")
        ),
        "## Whole accelerator families left out\n\n" + _table("accelerator", found["families_out_by_accelerator"]),
        "## Whole frameworks left out\n\n" + _table("framework", found["frameworks_out_by_framework"]),
        "## The ten worst groups\n\n" + _worst(found["worst"]),
        "## Rows that are not compared",
        "\n".join(f"- {count} rows: {why}" for why, count in found["unscored"].items()),
        "## Published errors of other simulators on similar data\n\n" + PUBLISHED,
    ]  # fmt: skip
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _targets(found: Mapping[str, Any]) -> str:
    rows = ["| metric | in sample | groups left out |", "|---|---:|---:|"]
    rows += [
        f"| {name} | {' | '.join('' if each is None else f'{each:.1%}' for each in pair)} |"
        for name, pair in found.items()
    ]
    return "\n".join(rows)


def _table(head: str, groups: Mapping[str, Any]) -> str:
    rows = [
        f"| {head} | metric | points | median error | mean error | 90th percentile | bias |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, measures in groups.items():
        for kind in KINDS:
            if kind in measures:
                found = measures[kind]
                cells = (f"{found[key]:.1%}" for key in ("median_ape", "mean_ape", "p90_ape", "median_bias"))
                rows.append(f"| {name} | {kind} | {found['n']} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _worst(groups: Iterable[Any]) -> str:
    rows = [
        "| source | accelerator | model | metric | points | median error | why |",
        "|---|---|---|---|---:|---:|---|",
    ]
    for source, accelerator, model, metric, found in groups:
        why = explained(source, accelerator, model, metric)
        rows.append(
            f"| {source} | {accelerator} | {model} | {metric} | {found['n']} | {found['median_ape']:.0%} | {why} |"
        )
    return "\n".join(rows)
