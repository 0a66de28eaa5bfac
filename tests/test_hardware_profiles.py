"""The shipped hardware profiles: complete, sourced, free of the known traps, and equal to the fact tables."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from sim.specs.hardware import HardwareSpec, NumberFormat, PriceBasis, Status
from sim.specs.spec import ASSUMPTION_SOURCE, Confidence, Provenance, Sourced, Spec

ROOT: Final = Path(__file__).parents[1]
PROFILES: Final = ROOT / "hardware_profiles"
FACTS: Final = ROOT.parent / "shared" / "facts" / "hardware.yaml"
REPORT: Final = FACTS.with_suffix(".md")
GB: Final = 1e9
GIB: Final = 2.0**30

NAMES: Final = (
    "b200-hgx", "b300-hgx", "gb200-nvl72", "gb300-nvl72", "h100-sxm", "h200-sxm", "maia-100", "maia-200",
    "mi300x", "mi325x", "mi355x", "mi455x-helios", "rubin-ultra", "tpu-8i", "tpu-v5e", "tpu-v6e",
    "tpu-v7-ironwood", "trainium2", "trainium3", "vr200-nvl72",
)  # fmt: skip
NVL72: Final = ("gb200-nvl72", "gb300-nvl72", "vr200-nvl72", "mi455x-helios")
# Rubin Ultra ships as the two-die scenario, half of the announced four dies; it has a test of its own.
AS_IN_FACTS: Final = tuple(name for name in NAMES if name != "rubin-ultra")

# How the rows of the fact report name the parts whose ranges stand there and not in the table.
REPORT_ROWS: Final = {
    "b200-hgx": "| B200",
    "gb300-nvl72": "| GB300",
    "h100-sxm": "| H100",
    "tpu-v5e": "| TPU v5e",
    "tpu-v7-ironwood": "| TPU v7 Ironwood",
    "vr200-nvl72": "| VR",
}
# Fields of the fact table, the path in the profile, and the factor to SI.
FACT_FIELDS: Final = {
    "bf16": ("peak.bf16", 1e12),
    "fp8": ("peak.fp8", 1e12),
    "fp4": ("peak.fp4", 1e12),
    "int8": ("peak.int8", 1e12),
    "hbm_bytes_usable": ("memory.usable", 1.0),
    "hbm_bw": ("memory.bandwidth", 1e12),
    "scale_up_uni": ("scale_up.bandwidth", 1e9),
    "scale_up_domain": ("scale_up.domain", 1.0),
    "nic": ("scale_out.bandwidth", 1e9 / 8.0),
    "tdp_w": ("power.thermal_design", 1.0),
    "allin_kw": ("power.all_in", 1e3),
    "capex": ("prices.capex", 1.0),
    "price_od": ("prices.hourly.on_demand", 1.0),
    "price_spot": ("prices.hourly.spot", 1.0),
    "price_1yr": ("prices.hourly.reserved_1_year", 1.0),
    "rent_3yr": ("prices.hourly.reserved_3_year", 1.0),
    "price_reserved": ("prices.hourly.capacity_block", 1.0),
    "tco_own": ("prices.hourly.owning_hyperscaler", 1.0),
    "tco_neocloud": ("prices.hourly.owning_neocloud", 1.0),
}

# Facts that are deliberately not shipped.
NOT_SHIPPED: Final = {
    ("tpu-v6e", "fp8"): "no native FP8; the fact repeats the BF16 rate",
    ("tpu-v7-ironwood", "tdp_w"): "not published; the fact is an assumption",
    ("trainium2", "tdp_w"): "not published; the fact is an estimate of a weak source",
    ("trainium3", "tdp_w"): "not published; the fact is an estimate of a weak source",
    ("mi455x-helios", "tdp_w"): "undisclosed; the fact is a lower bound",
}
# Shipped numbers that stand elsewhere in the fact tables: in the prose of a field, or in the report's tables.
FROM_PROSE: Final = {
    ("gb300-nvl72", "prices.hourly.owning_neocloud"): (3.30, Confidence.ANALYST_ESTIMATE),
    ("tpu-v6e", "prices.hourly.reserved_1_year"): (1.89, Confidence.PUBLISHED_SPEC_VIA_SECONDARY),
    ("tpu-v6e", "prices.hourly.reserved_3_year"): (1.22, Confidence.PUBLISHED_SPEC_VIA_SECONDARY),
    ("tpu-v7-ironwood", "prices.hourly.reserved_3_year"): (5.40, Confidence.DERIVED),
    ("mi455x-helios", "power.all_in"): (pytest.approx(245e3 / 72 * 1.2, rel=2e-3), Confidence.DERIVED),
    # Not published; half of the fp8 rate, marked as our assumption.
    ("tpu-8i", "peak.bf16"): (5050e12 / 2, Confidence.ASSUMPTION),
    ("maia-200", "peak.bf16"): (5000e12 / 2, Confidence.ASSUMPTION),
}
# The fact table gives a value and says to use another one.
OTHER_VALUE: Final = {
    ("gb300-nvl72", "allin_kw"): (2.4, Confidence.DERIVED),
    ("tpu-v7-ironwood", "capex"): (25_000, Confidence.ANALYST_ESTIMATE),
}
# Conflicting values that the fact table rejects as wrong rather than uncertain: outside low and high.
REJECTED: Final = {
    ("b200-hgx", "nic"): "assumes ConnectX-8",
    ("gb200-nvl72", "nic"): "assumes ConnectX-8",
    ("vr200-nvl72", "fp4"): "50 PF is not dense",
    ("mi355x", "scale_up_uni"): "corrected by its own source",
}
# Cheaper to rent for three years than to own, by the source itself.
OWNING_NOT_BELOW_RENT: Final = {
    ("h100-sxm", PriceBasis.OWNING_HYPERSCALER),
    ("h100-sxm", PriceBasis.OWNING_NEOCLOUD),
    ("h200-sxm", PriceBasis.OWNING_NEOCLOUD),
}
# Ends of ranges that are arithmetic on the facts: rack power over 72 accelerators, times PUE 1.2.
DERIVED_ENDS: Final = {
    ("vr200-nvl72", "power.all_in"): 3.5 * 1.2,
    ("mi455x-helios", "power.all_in"): 240 / 72 * 1.2,
    ("tpu-8i", "peak.bf16"): 5050 / 4,
    ("maia-200", "peak.bf16"): 5000 / 4,
}
# Numbers that no source states by part: failures of clusters, and guesses. They have tests of their own.
OF_ALL_PARTS: Final = ("power.idle_fraction", "power.speed_elasticity", "reliability.")
WITHOUT_FAILURE_RATES: Final = {"maia-100", "maia-200", "rubin-ultra"}
# First dates that are not the first date in the facts' general-availability field.
AVAILABLE_FROM: Final = {
    "maia-100": None,
    "maia-200": None,
    "mi300x": datetime.date(2023, 12, 6),
    "mi325x": datetime.date(2026, 5, 25),
    "mi355x": datetime.date(2026, 5, 25),
    "mi455x-helios": datetime.date(2027, 4, 1),
    "rubin-ultra": None,
    "tpu-8i": None,
    "trainium3": datetime.date(2025, 12, 2),
}


@cache
def written(name: str) -> dict[str, Any]:
    """Return one file as it is written."""
    content: dict[str, Any] = yaml.safe_load((PROFILES / f"{name}.yaml").read_text("utf-8"))
    return content


@cache
def profile(name: str) -> HardwareSpec:
    """Return the profile of one file, validated."""
    return HardwareSpec.model_validate(written(name))


@cache
def all_facts() -> dict[str, Any]:
    """Return the fact table, or skip where it is not beside the checkout."""
    if not FACTS.exists():
        pytest.skip("the fact table ../shared/facts/hardware.yaml is not beside this checkout")
    facts: dict[str, Any] = yaml.safe_load(FACTS.read_text("utf-8"))
    return facts


def facts_of(name: str) -> dict[str, Any]:
    """Return the fact table's entry of one profile."""
    entry: dict[str, Any] = all_facts()["accelerators"][name.replace("-", "_")]
    return entry


def sourced(spec: Spec, path: str = "") -> Iterator[tuple[str, Sourced[Any]]]:
    """Yield every sourced number of a spec with its dotted path."""
    for key in type(spec).model_fields:
        value = getattr(spec, key)
        items = value.items() if isinstance(value, dict) else ((None, value),)
        for inner, item in items:
            place = ".".join(part for part in (path, key, inner) if part)
            if isinstance(item, Sourced):
                yield place, item
            elif isinstance(item, Spec) and not isinstance(item, Provenance):
                yield from sourced(item, place)


@cache
def numbers(name: str) -> dict[str, Sourced[Any]]:
    """Return every sourced number of a profile by its dotted path."""
    return dict(sourced(profile(name)))


def numbers_in(text: str) -> set[float]:
    """Return the numbers of a text, without thousands separators."""
    return {float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def written_ends(name: str, path: str) -> list[float]:
    """Return low and high of one number as they are written in the file, without their unit."""
    node: Any = written(name)
    for key in path.split("."):
        node = node[key]
    ends = (node.get("low"), node.get("high"))
    return [float(str(end).split()[0].replace("_", "")) for end in ends if end is not None]


def fact_value(fact: Any) -> float | None:
    """Return a fact's number; the domains are plain, and some are text that starts with the number."""
    if isinstance(fact, dict):
        fact = fact["value"]
    if isinstance(fact, str):
        fact = int(fact.split()[0])
    return None if fact is None else float(fact)


def test_the_list_of_profiles_is_complete_and_named_after_the_files() -> None:
    assert sorted(path.name for path in PROFILES.iterdir()) == [f"{name}.yaml" for name in NAMES]
    assert [profile(name).name for name in NAMES] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_defined_and_used(name: str) -> None:
    used = {key for number in numbers(name).values() for key in number.source} - {ASSUMPTION_SOURCE}
    assert set(profile(name).sources) == used
    assert all(len(citation) >= 25 for citation in profile(name).sources.values())


def test_a_source_key_means_the_same_everywhere() -> None:
    citations: dict[str, set[str]] = {}
    for name in NAMES:
        for key, citation in profile(name).sources.items():
            citations.setdefault(key, set()).add(citation)
    assert {key for key, versions in citations.items() if len(versions) > 1} == set()


@pytest.mark.parametrize("name", NAMES)
def test_files_are_readable(name: str) -> None:
    text = (PROFILES / f"{name}.yaml").read_text("utf-8")
    assert max(len(line) for line in text.splitlines()) <= 120
    assert profile(name).description


@pytest.mark.parametrize("name", NAMES)
def test_disputed_and_assumed_numbers_say_why(name: str) -> None:
    silent = [
        path
        for path, number in numbers(name).items()
        if not number.note
        and (
            number.low is not None
            or number.high is not None
            or number.confidence is Confidence.DERIVED
            or ASSUMPTION_SOURCE in number.source
        )
    ]
    assert silent == []


@pytest.mark.parametrize("name", NAMES)
def test_memory_bandwidth_is_never_a_rack_total(name: str) -> None:
    bandwidth = profile(name).memory.bandwidth.value
    assert 0.5e12 < bandwidth < 30e12


def test_vera_rubin_is_per_gpu_dense_and_at_the_planning_rate() -> None:
    rubin = profile("vr200-nvl72")
    assert 1.3e15 < 72 * rubin.memory.bandwidth.value < 1.6e15
    assert rubin.memory.bandwidth.high == 22e12
    assert rubin.peak[NumberFormat.FP4].value == 35e15
    assert rubin.peak[NumberFormat.FP4].high is None
    assert rubin.peak[NumberFormat.FP8].value == 17.5e15
    assert rubin.scale_up is not None
    assert (rubin.scale_up.bandwidth.value, rubin.scale_up.bandwidth.high) == (1.5e12, 1.8e12)
    assert rubin.prices.capex is not None
    assert rubin.prices.capex.low == pytest.approx(6.5e6 / 72, abs=1.0)
    assert rubin.prices.capex.high == pytest.approx(9.1e6 / 72, abs=1.0)


@pytest.mark.parametrize("name", NAMES)
def test_narrower_formats_are_not_slower(name: str) -> None:
    peak = profile(name).peak
    order = [peak[kind].value for kind in (NumberFormat.BF16, NumberFormat.FP8, NumberFormat.FP4) if kind in peak]
    assert order == sorted(order)
    assert NumberFormat.INT4 not in peak


def test_formats_that_hardware_lacks_are_absent_and_gutted_ones_are_small() -> None:
    for name in ("tpu-v5e", "tpu-v6e"):
        assert NumberFormat.FP8 not in profile(name).peak
    for name in ("h100-sxm", "h200-sxm", "trainium2", "mi300x", "mi325x", "tpu-v7-ironwood"):
        assert NumberFormat.FP4 not in profile(name).peak
    for name in ("b300-hgx", "gb300-nvl72", "vr200-nvl72"):
        peak = profile(name).peak
        assert peak[NumberFormat.INT8].value < 0.1 * peak[NumberFormat.BF16].value
        assert "gutted" in peak[NumberFormat.INT8].note
    trainium = profile("trainium3").peak
    assert trainium[NumberFormat.FP4].value == trainium[NumberFormat.FP8].value


@pytest.mark.parametrize("name", NAMES)
def test_links_are_one_way_and_slower_than_memory(name: str) -> None:
    spec = profile(name)
    for link in (spec.scale_up, spec.scale_out):
        if link is not None:
            assert (link.bandwidth.high or link.bandwidth.value) <= 1800e9
            assert link.bandwidth.value < spec.memory.bandwidth.value
    if spec.scale_up is not None and spec.scale_out is not None:
        assert spec.scale_out.bandwidth.value < spec.scale_up.bandwidth.value
        assert spec.scale_up.domain is not None


def test_a_rack_domain_has_72_accelerators() -> None:
    assert {profile(name).scale_up_domain for name in NVL72} == {72}
    assert profile("b200-hgx").scale_up_domain == 8


@pytest.mark.parametrize("name", NAMES)
def test_power_at_the_meter_exceeds_thermal_design(name: str) -> None:
    power = profile(name).power
    if power.all_in is not None:
        assert 1e3 < power.all_in.value < 5e3
        if power.thermal_design is not None:
            assert power.all_in.value > power.thermal_design.value
    # One guess for all parts: a part that differs needs a source of its own.
    assert power.idle_fraction == profile("h100-sxm").power.idle_fraction
    assert power.idle_fraction is not None
    assert power.idle_fraction.confidence is Confidence.ASSUMPTION
    assert (power.idle_fraction.low, power.idle_fraction.value, power.idle_fraction.high) == (0.1, 0.2, 0.35)


@pytest.mark.parametrize("name", NAMES)
def test_failure_rates_are_those_of_the_clusters_in_the_facts(name: str) -> None:
    reliability = profile(name).reliability
    if name in WITHOUT_FAILURE_RATES:
        assert (reliability.accelerator, reliability.system) == (None, None)
        return
    assert reliability.accelerator is not None
    assert reliability.system is not None
    clusters, year = all_facts()["economics"]["reliability"], 365.25 * 86400.0
    llama, repairs = clusters["meta_llama3"], clusters["mttr_assumption_hours"]
    rate = reliability.accelerator.rate
    assert [each * year for each in (rate.low or 0.0, rate.value, rate.high or 0.0)] == pytest.approx(
        [llama["per_gpu_year_faulty_gpu"], llama["per_gpu_year_gpu_attributed"], llama["per_gpu_year_all"]]
    )
    assert llama["interruptions"] / llama["gpus"] / llama["days"] * 365.25 == pytest.approx(rate.high * year, rel=2e-3)
    stated = reliability.system_accelerators
    size = profile(name).scale_up_domain if stated is None else stated.value
    beyond = llama["per_gpu_year_all"] - llama["per_gpu_year_gpu_attributed"]
    rate = reliability.system.rate
    assert rate.value * year == pytest.approx(beyond * size, rel=0.02)
    assert rate.low is not None
    assert rate.low * year == pytest.approx(llama["per_gpu_year_network"] * size, rel=0.05)
    assert rate.high is not None
    if name in NVL72:
        share = 1.0 - clusters["nvl72"]["rack_uptime_sla"]
        assert rate.high * year * 9 / 8766 == pytest.approx(share / (1 - share), rel=0.01)
        assert reliability.system.repair.value == repairs["nvl72_tray_swap"] * 3600
    else:
        of_accelerators = 8 * llama["per_gpu_year_gpu_attributed"]
        assert rate.high * year == pytest.approx(
            (clusters["meta_rsc1"]["per_node_year"] - of_accelerators) / 8 * size, rel=0.02
        )
        assert reliability.system.repair.value == repairs["node_repair_rma"] * 3600
    assert reliability.accelerator.repair.value == repairs["hot_spare_node_swap"] * 3600
    assert reliability.accelerator.repair.low == repairs["process_restart"] * 3600


@pytest.mark.parametrize("name", NAMES)
def test_the_price_of_a_power_cap_is_that_of_vera_rubin_or_a_guess(name: str) -> None:
    power = profile(name).power
    if power.speed_elasticity is None:
        assert power.thermal_design is None or name in WITHOUT_FAILURE_RATES
        return
    assert power.thermal_design is not None
    assert power.idle_fraction is not None
    elasticity, idle = power.speed_elasticity, power.idle_fraction.value * 2300
    published = math.log(16625 / 17500) / math.log((1800 - idle) / (2300 - idle))
    assert elasticity.low == pytest.approx(published, abs=0.005)
    assert elasticity.value == (elasticity.low if name == "vr200-nvl72" else 0.33)
    assert (elasticity.confidence is Confidence.DERIVED) == (name == "vr200-nvl72")


@pytest.mark.parametrize("name", NAMES)
def test_availability_is_consistent(name: str) -> None:
    spec = profile(name)
    when = spec.availability
    assert when.note
    assert when.purchasable is (when.status is not Status.INTERNAL)
    assert when.enabled is (name != "rubin-ultra")
    if when.announced is not None and when.available_from is not None:
        assert when.announced <= when.available_from
    if when.status is Status.SHIPPING:
        assert when.available_from is not None
        assert when.available_from <= datetime.date(2026, 11, 23)
    else:
        assert when.available_from is None or when.available_from > datetime.date(2026, 11, 23)
    if not when.purchasable:
        assert spec.prices.capex is None
        assert spec.prices.hourly == {}


def test_which_parts_are_internal_or_only_announced() -> None:
    assert {n for n in NAMES if profile(n).availability.status is Status.INTERNAL} == {"maia-100", "maia-200"}
    announced = {n for n in NAMES if profile(n).availability.status is Status.ANNOUNCED}
    assert announced == {"tpu-8i", "mi455x-helios", "rubin-ultra"}


@pytest.mark.parametrize("name", NAMES)
def test_prices_are_ordered_by_commitment(name: str) -> None:
    price = {basis: number.value for basis, number in profile(name).prices.hourly.items()}
    owning = (PriceBasis.OWNING_HYPERSCALER, PriceBasis.OWNING_NEOCLOUD)
    rents = (
        PriceBasis.RESERVED_3_YEAR, PriceBasis.RESERVED_1_YEAR, PriceBasis.CAPACITY_BLOCK, PriceBasis.ON_DEMAND
    )  # fmt: skip
    present = [price[basis] for basis in rents if basis in price]
    assert present == sorted(set(present))
    for basis in owning:
        if basis in price and PriceBasis.RESERVED_3_YEAR in price:
            below = price[basis] < price[PriceBasis.RESERVED_3_YEAR]
            assert below is ((name, basis) not in OWNING_NOT_BELOW_RENT)
    if all(basis in price for basis in owning):
        assert price[owning[0]] < price[owning[1]]
    if PriceBasis.SPOT in price:
        assert price[PriceBasis.SPOT] < price[PriceBasis.ON_DEMAND]


@pytest.mark.parametrize("name", NAMES)
def test_prices_say_as_of_when(name: str) -> None:
    quotes = profile(name).prices.hourly
    undated = [str(basis) for basis, quote in quotes.items() if re.search(r"\b20\d\d\b", quote.note) is None]
    # The facts give no date for these two quotes.
    assert undated == {"tpu-v5e": ["on_demand"], "trainium2": ["spot"]}.get(name, [])


@pytest.mark.parametrize("name", AS_IN_FACTS)
def test_every_number_is_the_fact(name: str) -> None:
    facts, shipped = facts_of(name), numbers(name)
    expected = set()
    for field, (path, factor) in FACT_FIELDS.items():
        fact = facts.get(field)
        value = fact_value(fact)
        if value is None or (name, field) in NOT_SHIPPED:
            assert path not in shipped or (name, path) in FROM_PROSE or path == "memory.usable", path
            continue
        value, confidence = OTHER_VALUE.get((name, field), (value, None))
        expected.add(path)
        assert shipped[path].value == pytest.approx(value * factor, rel=1e-9), path
        if path == "scale_up.domain":
            assert shipped[path].confidence is Confidence.PUBLISHED_SPEC_VIA_SECONDARY
        if isinstance(fact, dict):
            assert shipped[path].confidence == (confidence or fact["confidence"]), path
            conflict = fact.get("conflicts_with")
            if conflict is not None:
                number = shipped[path]
                ends = [end for end in (number.low, number.value, number.high) if end is not None]
                inside = min(ends) * (1 - 1e-9) <= conflict["value"] * factor <= max(ends) * (1 + 1e-9)
                assert inside is ((name, field) not in REJECTED), path
    extra = {path for path in shipped if not path.startswith(OF_ALL_PARTS)} - expected - {"memory.usable"}
    assert extra == {path for profile_name, path in FROM_PROSE if profile_name == name}
    for path in extra:
        assert (shipped[path].value, shipped[path].confidence) == FROM_PROSE[name, path], path


@pytest.mark.parametrize("name", AS_IN_FACTS)
def test_the_ends_of_ranges_stand_in_the_facts(name: str) -> None:
    entry = yaml.safe_dump(facts_of(name))
    lines = REPORT.read_text("utf-8").splitlines() if name in REPORT_ROWS else []
    rows = [line for line in lines if line.startswith(REPORT_ROWS[name])]
    known = numbers_in(entry) | numbers_in("\n".join(rows))
    for path in (path for path in numbers(name) if not path.startswith(OF_ALL_PARTS)):
        for end in written_ends(name, path):
            if (name, path) in DERIVED_ENDS:
                assert end == pytest.approx(DERIVED_ENDS[name, path], rel=2e-3), path
            elif path == "prices.capex":
                # Dollars stand in the facts as such, in thousands, or in millions per rack of 72.
                assert {end, end / 1e3, round(end * 72 / 1e6, 3)} & known, (path, end)
            else:
                assert end in known, (path, end)


@pytest.mark.parametrize("name", AS_IN_FACTS)
def test_every_number_names_the_sources_of_the_fact(name: str) -> None:
    facts, shipped, known = facts_of(name), numbers(name), all_facts()["sources"]
    for field, (path, _factor) in FACT_FIELDS.items():
        fact = facts.get(field)
        if isinstance(fact, dict) and path in shipped and (name, field) not in NOT_SHIPPED:
            words = {re.split(r"[ (]", source)[0] for source in fact["src"]}
            # Network rows of Google's pages carry a key of their own, because they were not re-checked.
            assert (words & set(known)) <= set(shipped[path].source), path


@pytest.mark.parametrize("name", AS_IN_FACTS)
def test_usable_memory_lies_between_the_readings_of_the_label(name: str) -> None:
    label, usable = facts_of(name)["hbm_gb_marketing"], profile(name).memory.usable
    assert 0.9 * label["value"] * GB < usable.value < 1.01 * label["value"] * GIB
    if "hbm_bytes_usable" not in facts_of(name):
        in_gib = profile(name).vendor == "NVIDIA" or str(label["unit"]).startswith("GiB")
        assert usable.value == label["value"] * (GIB if in_gib else GB)
        if profile(name).vendor == "NVIDIA":
            assert usable.low == label["value"] * GB
            assert usable.confidence is Confidence.DERIVED
        else:
            assert usable.high == (None if in_gib else label["value"] * GIB)
            assert usable.confidence == label["confidence"]


@pytest.mark.parametrize("name", NAMES)
def test_dates_are_the_facts(name: str) -> None:
    facts, when = facts_of(name), profile(name).availability
    found = re.search(r"20\d\d-\d\d(?:-\d\d)?", str(facts.get("ga", "")))
    if name in AVAILABLE_FROM:
        assert when.available_from == AVAILABLE_FROM[name]
    else:
        assert found is not None
        assert when.available_from == datetime.date.fromisoformat((found[0] + "-01")[:10])
    if when.announced is not None:
        assert when.announced.isoformat() in f"{facts.get('announced', '')} {facts['status']}"
    else:
        assert "announced" not in facts


def test_rubin_ultra_is_the_two_die_scenario() -> None:
    facts, spec = facts_of("rubin-ultra"), profile("rubin-ultra")
    assert spec.memory.usable.value == 0.5 * facts["hbm_gb_marketing"]["value"] * GB
    assert spec.memory.usable.high == facts["hbm_gb_marketing"]["value"] * GB
    assert spec.memory.bandwidth.value == 0.5 * facts["hbm_bw"]["value"] * 1e12
    assert spec.memory.bandwidth.high == facts["hbm_bw"]["value"] * 1e12
    dense_share = 35.0 / 50.0
    assert spec.peak[NumberFormat.FP4].value == pytest.approx(0.5 * dense_share * facts["fp4"]["value"] * 1e12)
    assert spec.peak[NumberFormat.FP4].high == pytest.approx(dense_share * facts["fp4"]["value"] * 1e12)
    assert {number.confidence for number in numbers("rubin-ultra").values()} == {Confidence.ASSUMPTION}
