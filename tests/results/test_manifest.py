"""The manifest: all that is needed to run a result again, and to know what it rests on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import sim
from sim.results.manifest import pool_record
from sim.results.versions import versions
from sim.serving.deployment import deploy

SHORT = {"duration": "60 s", "warm_up": "10 s", "drain": "10 s", "timeline_interval": "5 s", "seed": 42}


@pytest.fixture(scope="module")
def result() -> sim.Result:
    return sim.simulate(sim.load("quickstart", SHORT), replications=2)


@pytest.fixture(scope="module")
def manifest(result: sim.Result) -> Any:
    return dict(result.manifest)


def test_it_says_how_the_run_was_made(result: sim.Result, manifest: Any) -> None:
    assert manifest["seed"] == 42
    assert manifest["replications"] == 2
    assert (manifest["engine"], manifest["engine_reason"]) == ("compiled", "router and policies are built in")
    assert manifest["requests"] == len(result.requests)
    # Every request is at least an arrival and a boundary.
    assert manifest["events"] > 1.2 * manifest["requests"]
    assert manifest["wall_s"] > 0.0


def test_it_names_the_versions_that_results_depend_on(manifest: Any) -> None:
    assert manifest["versions"] == versions()
    assert manifest["versions"]["fleetcast"] == sim.__version__
    assert manifest["versions"]["python"] == platform.python_version()
    for library in ("numba", "numpy", "pyarrow", "scipy", "simpy"):
        assert manifest["versions"][library] == importlib.metadata.version(library)


def test_it_fingerprints_each_file_that_was_read_and_no_other(root: Path, manifest: Any) -> None:
    raw = yaml.safe_load((root / "scenarios" / "quickstart.yaml").read_text(encoding="utf-8"))
    alternatives = [{}, *raw["alternatives"].values()]
    hardware = {raw["fleet"]["serving"]["hardware"], *(each.get("fleet.serving.hardware") for each in alternatives)}
    expected = {f"hardware_profiles/{name}.yaml" for name in hardware - {None}}
    expected |= {f"workloads/{each['workload']}.yaml" for each in raw["traffic"].values()}
    expected |= {f"models/{raw['fleet']['serving']['model']}.yaml", "scenarios/quickstart.yaml"}
    expected |= {"serving_stacks/shared.yaml"}
    for name in list(expected):
        extended = yaml.safe_load((root / name).read_text(encoding="utf-8")).get("extends")
        expected |= {f"{name.split('/')[0]}/{extended}.yaml"} if extended else set()
    assert set(manifest["fingerprints"]) == expected
    for name, digest in manifest["fingerprints"].items():
        assert digest == hashlib.sha256((root / name).read_bytes()).hexdigest()


def test_it_fingerprints_recorded_traces_too(tmp_path: Path) -> None:
    file = tmp_path / "recorded.csv"
    table = {"arrival_s": [0.0, 5.0, 20.0], "prompt_tokens": [10, 20, 30], "output_tokens": [5, 5, 5]}
    pd.DataFrame(table).to_csv(file, index=False)
    scenario = sim.load("quickstart", SHORT | {"alternatives": {}}, replay=(None, str(file)))
    fingerprints: Any = sim.simulate(scenario).manifest["fingerprints"]
    assert fingerprints[f"{tmp_path.name}/recorded.csv"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_it_holds_the_resolved_scenario_with_every_document(manifest: Any) -> None:
    assert set(manifest["scenarios"]) == {
        f"quickstart/{name}" for name in ("blackwell", "vera-rubin", "tpu", "trainium")
    }
    resolved = manifest["scenarios"]["quickstart/vera-rubin"]
    assert resolved["scenario"]["fleet"]["serving"]["hardware"] == "vr200-nvl72"
    assert resolved["scenario"]["duration"] == 60.0
    assert resolved["as_written"]["duration"] == "60 s"
    assert set(resolved["hardware"]) == {"vr200-nvl72"}
    bandwidth = resolved["hardware"]["vr200-nvl72"]["memory"]["bandwidth"]
    assert bandwidth["value"] == 19.2e12
    assert bandwidth["source"]
    assert set(resolved["models"]) == {"mistral-small-4-119b-a6b"}
    assert set(resolved["serving_stacks"]) == {"shared"}
    assert len(resolved["workloads"]) == 4


def test_it_describes_each_pool_as_it_was_simulated(manifest: Any) -> None:
    pools = {name: each[0] for name, each in manifest["pools"].items()}
    for variant in sim.load("quickstart", SHORT).variants():
        (deployment,) = deploy(variant)
        record = pools[variant.scenario_id]
        assert record == json.loads(json.dumps(pool_record(deployment)))
        assert record["accelerators"] == deployment.replicas * deployment.accelerators
        assert record["kv_capacity_tokens"] == deployment.kv.tokens
        assert record["price"]["basis"] in ("reserved_3_year", "on_demand", "owning_hyperscaler")
        assert record["price"]["low"] <= record["price"]["usd_per_hour"] <= record["price"]["high"]


def test_it_repeats_every_flag(result: sim.Result, manifest: Any) -> None:
    assert manifest["flags"]
    assert all(set(flag) == {"name", "scope", "message"} for flag in manifest["flags"])
    raised = {(flag["name"], flag["scope"].split(" of ")[-1]) for flag in manifest["flags"]}
    table = result.summary()
    rows = table[table["metric"].str.startswith("flag_")]
    assert raised == set(zip(rows["metric"].str.removeprefix("flag_"), rows["scenario_id"], strict=True))
    alone = sim.simulate(sim.load("quickstart", SHORT | {"alternatives": {}}))
    assert all(" of quickstart" not in flag.scope for flag in alone.flags)


def test_it_survives_the_file(tmp_path: Path, result: sim.Result) -> None:
    result.save(tmp_path / "out")
    loaded = sim.Result.load(tmp_path / "out")
    assert dict(loaded.manifest) == json.loads(json.dumps(dict(result.manifest)))
    text = (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text


def test_the_scenario_as_written_runs_again_to_the_same_result(
    tmp_path: Path, result: sim.Result, manifest: Any
) -> None:
    """What the manifest holds of one variant is a scenario: written to a file, it gives the same requests."""
    written = manifest["scenarios"]["quickstart/tpu"]["as_written"]
    file = tmp_path / "quickstart.yaml"
    file.write_text(yaml.safe_dump(written), encoding="utf-8")
    again = sim.simulate(sim.load(str(file)), replications=2)
    before = result.requests[result.requests["scenario_id"] == "quickstart/tpu"].reset_index(drop=True)
    columns = ["replication", "arrival_s", "first_token_s", "finished_s", "replica"]
    assert again.requests[columns].equals(before[columns])
