"""The manifest: everything that is needed to run a result again and to know what it rests on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sim.demand.class_traffic import answers_told
from sim.results.flags import Flag
from sim.results.versions import versions
from sim.serving.deployment import Deployment
from sim.serving.validity import Validity
from sim.specs.library import located
from sim.specs.resolved import Scenario
from sim.specs.spec import Document
from sim.specs.step_time_source import MeasuredTableSpec


def run_manifest(
    scenarios: Sequence[Scenario],
    deployments: Mapping[str, Sequence[Deployment]],
    flags: Mapping[str, Sequence[Flag]],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a result.

    Parameters
    ----------
    scenarios : sequence of Scenario
        What was simulated.
    deployments : mapping
        Scenario id -> pools.
    flags : mapping
        Scenario id -> honesty flags; the scope of each names its scenario when there are several.
    measured : mapping
        Engine, events, wall time and the like.

    """
    several = len(scenarios) > 1
    return {
        "versions": versions(),
        "scenarios": {each.scenario_id: _resolved(each) for each in scenarios},
        "fingerprints": {name: digest for each in scenarios for name, digest in each.fingerprints.items()}
        | _trace_fingerprints(scenarios),
        "answers": {each.scenario_id: told for each in scenarios if (told := answers_told(each))},
        "pools": {scenario_id: [pool_record(each) for each in pools] for scenario_id, pools in deployments.items()},
        "flags": [
            asdict(flag) | {"scope": f"{flag.scope} of {scenario_id}" if several else flag.scope}
            for scenario_id, found in flags.items()
            for flag in found
        ],
        **measured,
    }


def _trace_fingerprints(scenarios: Sequence[Scenario]) -> dict[str, str]:
    """Return folder and name -> SHA-256 of recorded traces and tables of steps.

    One that cannot be read twice, as a pipe, has none.
    """
    files = {scenario.trace_file(name) for scenario in scenarios for name in scenario.spec.traffic}
    for scenario in scenarios:
        for pool in scenario.spec.fleet.values():
            source = pool.step_time or scenario.serving_stacks[pool.serving_stack].step_time_source
            if isinstance(source, MeasuredTableSpec):
                files.add(located(source.file, scenario.raw.file))
    fingerprints = {}
    for file in sorted(each.resolve() for each in files if each is not None and each.is_file()):
        with file.open("rb") as content:
            fingerprints[f"{file.parent.name}/{file.name}"] = hashlib.file_digest(content, "sha256").hexdigest()
    return fingerprints


def _resolved(scenario: Scenario) -> dict[str, Any]:
    parts: dict[str, Mapping[str, Document]] = {
        "hardware": scenario.hardware,
        "models": scenario.models,
        "serving_stacks": scenario.serving_stacks,
        "workloads": scenario.workloads,
    }
    resolved: dict[str, Any] = {
        kind: {name: spec.model_dump(mode="json", exclude_none=True) for name, spec in part.items()}
        for kind, part in parts.items()
    }
    resolved["scenario"] = scenario.spec.model_dump(mode="json", exclude_none=True)
    resolved["as_written"] = json.loads(json.dumps(scenario.raw.data, default=str))
    return resolved


def pool_record(deployment: Deployment) -> dict[str, Any]:
    """Return a pool as the manifest and `check` show it."""
    return {
        "pool": deployment.pool,
        "model": deployment.model,
        "hardware": deployment.hardware,
        "replicas": deployment.replicas,
        "accelerators": deployment.replicas * deployment.accelerators,
        "kv_capacity_tokens": deployment.kv.tokens,
        "weight_bytes_per_accelerator": deployment.kv.weight_bytes,
        "max_sequences": deployment.max_sequences,
        "step_token_budget": deployment.step_token_budget,
        "specification_only": deployment.specification_only,
        "validity": validity_record(deployment.validity),
        "price": None if deployment.price is None else asdict(deployment.price),
    }


def validity_record(validity: Validity) -> dict[str, Any]:
    """Return how far a pool's figures can be trusted, as manifests and answers show it."""
    return {
        "known": validity.known,
        "error_bands": {
            metric: {"low": band.low, "high": band.high, "points": band.points}
            for metric, band in validity.bands.items()
        },
        "outside": list(validity.outside),
        "most_sequences": validity.most_sequences,
        "most_tokens": validity.most_tokens,
        "most_kv_fraction": validity.most_kv_fraction,
        "step_times_from": validity.source or "serving stack",
    }
