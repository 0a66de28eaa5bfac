from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sim.planning.horizon import Horizon, load_horizon
from sim.planning.uncertainty.inputs import REPLICATE, find_inputs, judgements
from sim.specs.errors import InputError
from sim.specs.uncertainty import UncertaintySpec


def ranged(place: str, value: Any) -> Iterator[str]:
    """Return where YAML states a low or a high."""
    if isinstance(value, dict):
        if "low" in value or "high" in value:
            yield place
        for key, each in value.items():
            yield from ranged(f"{place}.{key}", each)
    elif isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from ranged(f"{place}.{number}", each)


def stated(horizon: Horizon) -> set[str]:
    """Return every low or high in the files that a horizon uses, read from the files and not from the specs."""
    library, spec = horizon.library, horizon.spec
    found = set(ranged("horizon", horizon.raw.data))
    found |= set(ranged("economics", library.read("economics", spec.economics)[0].data))
    found |= set(ranged("stack", library.read("serving_stack", spec.serving_stack)[0].data))
    for kind, names in (
        ("hardware", horizon.hardware), ("model", horizon.models), ("workload", horizon.workloads),
        ("compression", horizon.methods),
    ):  # fmt: skip
        for name in names:
            found |= set(ranged(f"{kind}.{name}", library.read(kind, name)[0].data))
    return found


@pytest.mark.parametrize("name", ["enterprise-2027", "provider-2027", "article-2026"])
def test_every_low_and_high_of_the_data_is_drawn_or_listed_with_a_reason(name: str, ranges: UncertaintySpec) -> None:
    horizon = load_horizon(name)
    inputs = find_inputs(horizon, ranges)
    names = [each.name for each in inputs]
    assert len(names) == len(set(names))
    accelerators = tuple(horizon.hardware)
    listed = {each.rsplit(".", 1)[0] if "bands." in each and each.endswith(accelerators) else each
              for each in names}  # fmt: skip
    wanted = stated(horizon)
    assert len(wanted) > 100
    assert wanted <= listed
    for each in inputs:
        assert each.low <= each.value <= each.high
        assert (each.reason == "") == each.drawn
        assert not each.drawn or (each.group in ranges.groups and each.low < each.high)


def test_what_is_not_drawn_is_a_choice_or_belongs_to_what_the_horizon_does_not_use(
    horizon: Horizon, ranges: UncertaintySpec
) -> None:
    reasons = {each.name: each.reason for each in find_inputs(horizon, ranges)}
    assert "choice" in reasons["horizon.target_load"]
    assert all(reason == "no accelerator of the family ada is on offer" for name, reason in reasons.items()
               if name.startswith("stack.families.ada."))  # fmt: skip
    assert reasons["economics.hardware.vr200-nvl72.it_power"] == "vr200-nvl72 is not on offer"
    assert reasons["hardware.h100-sxm.prices.hourly.spot"] == "no rental term of the horizon is on this basis"
    assert reasons["stack.bands.tpot.specification"] == "no accelerator on offer is judged by this band"
    assert reasons["hardware.h100-sxm.prices.capex"] == ""


def test_an_error_band_is_drawn_for_each_accelerator_of_its_class(horizon: Horizon, ranges: UncertaintySpec) -> None:
    inputs = {each.name: each for each in find_inputs(horizon, ranges)}
    for name, validity in judgements(horizon).items():
        for metric, band in validity.bands.items():
            (each,) = (one for key, one in inputs.items() if f".bands.{metric}." in key and key.endswith(f".{name}"))
            assert (each.low, each.high, each.interval) == (band.low, band.high, 0.8)
            assert each.value == pytest.approx(np.sqrt(band.low * band.high))
            assert each.group == "model_error"
    assert set(judgements(horizon)) == {"h100-sxm", "b200-hgx"}


def test_numbers_stay_within_what_their_fields_may_hold(ranges: UncertaintySpec) -> None:
    extremes = np.array([1e-9, 0.5, 1.0 - 1e-9])
    for each in find_inputs(load_horizon("provider-2027"), ranges, 3):
        if not each.drawn:
            continue
        found = each.at(extremes, 1e-6)
        assert (np.diff(found) >= 0.0).all(), each.name
        assert (found >= each.least).all(), each.name
        assert (found <= each.most).all(), each.name
        if each.kind == "whole":
            assert (found == np.rint(found)).all()
    fraction = next(
        each for each in find_inputs(load_horizon("enterprise-2027"), ranges) if "pass_through" in each.name
    )
    assert fraction.at(np.array([0.001, 0.999]), 1e-6) == pytest.approx([0.0, 1.0])


def test_a_distribution_that_is_stated_for_a_path_holds_for_it(horizon: Horizon, ranges: UncertaintySpec) -> None:
    assumed = {"source": ["assumption"], "confidence": "assumption"}
    rule = {"paths": ["economics.electricity"], "shape": "uniform", **assumed}
    narrow = {"paths": ["hardware.*.capex"], "shape": "two_piece_normal", "interval": 0.95, **assumed}
    spec = UncertaintySpec.model_validate(ranges.model_dump() | {"distributions": [rule, narrow]})
    inputs = {each.name: each for each in find_inputs(horizon, spec)}
    assert inputs["economics.electricity"].at(np.array([0.0, 1.0]), 0.01) == pytest.approx([0.06, 0.12])
    assert inputs["hardware.h100-sxm.prices.capex"].at(np.array([0.025]), 0.01) == pytest.approx([25_000.0])
    assert inputs["economics.power_usage_effectiveness"].shape == "two_piece_lognormal"


def test_ranges_that_cannot_be_read_are_all_refused_at_once(horizon: Horizon, ranges: UncertaintySpec) -> None:
    assumed = {"source": ["assumption"], "confidence": "assumption"}
    rule = {"paths": ["horizon.rent_change.*"], "shape": "two_piece_lognormal", **assumed}
    groups = {"some": ["economics.*", "horizon.*", "stack.*", "hardware.*"]}
    spec = UncertaintySpec.model_validate(ranges.model_dump() | {"distributions": [rule], "groups": groups})
    with pytest.raises(InputError) as refused:
        find_inputs(horizon, spec)
    messages = [str(each) for each in refused.value.problems]
    assert sum("log-normal needs a low above 0" in each for each in messages) == 2
    assert sum("is in no group" in each for each in messages) > 1


def test_replicates_are_an_input_of_their_own(horizon: Horizon, ranges: UncertaintySpec) -> None:
    assert REPLICATE not in {each.name for each in find_inputs(horizon, ranges, 1)}
    (each,) = (each for each in find_inputs(horizon, ranges, 4) if each.name == REPLICATE)
    drawn = each.at((np.arange(1000) + 0.5) / 1000, 0.01).astype(int)
    assert np.bincount(drawn).tolist() == [250, 250, 250, 250]
    assert each.group == "simulation"
