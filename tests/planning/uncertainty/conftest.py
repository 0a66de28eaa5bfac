import datetime
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.execution.executor import InProcess
from sim.planning.horizon import Horizon, load_horizon
from sim.planning.uncertainty.inputs import Input
from sim.planning.uncertainty.result import Uncertainty
from sim.planning.uncertainty.study import uncertainty
from sim.specs.library import default_library
from sim.specs.uncertainty import UncertaintySpec

SAMPLES, PAIRS = 24, 2


@pytest.fixture(scope="session")
def horizon() -> Horizon:
    """Documents on two accelerators over four months."""
    full = load_horizon("enterprise-2027")
    cases = {"documents": full.raw.data["use_cases"]["documents"]}
    chips = {key: full.raw.data["hardware"][key] for key in ("h100-sxm", "b200-hgx")}
    changes = {
        "use_cases": cases, "hardware": chips, "waits_for": "b200-hgx", "start": datetime.date(2026, 9, 1),
        "end": datetime.date(2027, 3, 1), "baseline.hardware": ["h100-sxm"],
    }  # fmt: skip
    return load_horizon("enterprise-2027", changes)


@pytest.fixture(scope="session")
def ranges() -> UncertaintySpec:
    spec: UncertaintySpec = default_library().load("uncertainty", "stated-ranges").spec
    return spec


@pytest.fixture(scope="session")
def few_ranges(ranges: UncertaintySpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stated ranges with all but a dozen inputs left out, so that a study is short."""
    path = default_library().find("uncertainty", "stated-ranges")
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    data["name"] = "few-ranges"
    left_out = [
        "stack.step_time.*", "stack.families.*", "stack.*bands.t?ot.*", "stack.*bands.ttft.*", "economics.api.*",
        "economics.[a-df-z]*", "economics.hardware.*", "horizon.use_cases.*.[e-u]*", "horizon.resale",
        "hardware.*.power.*", "hardware.*.memory.*", "hardware.*.peak.*",
        "hardware.*.reliability.*", "hardware.*.on_demand",
        "hardware.*.reserved_1_year", "horizon.compression.*", "horizon.hardware.*", "horizon.*_change.*",
    ]  # fmt: skip
    data["not_drawn"].append({"paths": left_out, "reason": "A short study."})
    file = tmp_path_factory.mktemp("ranges") / "few-ranges.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def study(horizon: Horizon, few_ranges: Path) -> Uncertainty:
    return uncertainty(
        horizon, SAMPLES, PAIRS, replicates=2, checks=1, seed=3, ranges=str(few_ranges), executor=InProcess()
    )


MakeInput = Callable[..., Input]


@pytest.fixture(scope="session")
def make_input() -> MakeInput:
    """An input by name: normal around 0 with a standard score as its value, unless told otherwise."""

    def make(name: str, **changes: Any) -> Input:
        plain = Input(
            name, tuple(name.split(".")), "number", "1", -1.2815515655446004, 0.0, 1.2815515655446004,
            "two_piece_normal", 0.8, -1e300, 1e300, "one", "assumption", "",
        )  # fmt: skip
        return replace(plain, **changes)

    return make
