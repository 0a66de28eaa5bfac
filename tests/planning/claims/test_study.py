"""Every published claim has a study, studies are sound, and what they find follows from their numbers."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sim.cli import main
from sim.execution.executor import make_executor
from sim.execution.store import Store
from sim.planning.claims.fleets import clear_remembered
from sim.planning.claims.formula import names_in
from sim.planning.claims.inputs import marginals
from sim.planning.claims.study import ClaimFound, load_claims, run_claim, run_claims
from sim.planning.claims.verdict import Verdict
from sim.planning.claims.wording import interval, short, shown
from sim.reporting.claims_page import claim_text, index_text, write_pages
from sim.specs.claim import ClaimSpec
from sim.specs.errors import InputError
from sim.specs.library import default_library
from sim.specs.reading import read_yaml

ROOT = Path(__file__).resolve().parents[3]
PUBLISHED = ROOT.parent / "shared" / "facts" / "claims.md"
LIBRARY = default_library()
STUDIES = {spec.id: spec for spec in load_claims()}

BARE: dict[str, Any] = {
    "kind": "claim", "name": "bare", "id": "C99", "title": "t", "claim": "water is wet", "claimed": "at least 10",
    "inputs": {"x": {"input": "range", "value": 5.0, "low": 0.0, "high": 20.0, "unit": "1",
                     "source": ["assumption"], "confidence": "assumption"}},
    "figures": {"twice": {"text": "twice", "formula": "2 * x", "unit": "x"}},
    "parts": {"a": {"text": "four times", "formula": "2 * twice", "unit": "x", "at_least": 10.0}},
    "conditions": [{"text": "the input", "vary": "x", "between": [0.0, 20.0]}],
    "assumed": ["nothing"], "because": "twice is {twice} and the part {a}",
}  # fmt: skip


def ran(changes: dict[str, Any] | None = None) -> ClaimFound:
    """Run the bare study with some of its values changed, by dotted path."""
    data = copy.deepcopy(BARE)
    for path, value in (changes or {}).items():
        *above, key = path.split(".")
        here = data
        for each in above:
            here = here[each]
        here[key] = value
    return run_claim(ClaimSpec.model_validate(data))


def mutated(number: str, path: str, value: Any) -> ClaimSpec:
    """Return a shipped study with one value changed."""
    data = read_yaml(LIBRARY.find("claim", number.lower())).data
    *above, key = path.split(".")
    here = data
    for each in above:
        here = here[each]
    here[key] = value
    return ClaimSpec.model_validate(data)


# The studies


def test_there_is_a_study_of_every_published_claim() -> None:
    if not PUBLISHED.is_file():
        pytest.skip(f"the list of published claims is not here: {PUBLISHED}")
    rows = re.findall(r"^\| (C\d\d) \| (.*?) \| .* \|$", PUBLISHED.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 23
    assert {number: STUDIES[number].claim for number, _ in rows} == dict(rows)


def test_the_studies_are_numbered_through() -> None:
    assert list(STUDIES) == [f"C{number:02}" for number in range(1, 24)]
    assert {spec.name for spec in STUDIES.values()} == {number.lower() for number in STUDIES}


@pytest.mark.parametrize("number", STUDIES)
def test_a_study_is_sound(number: str) -> None:
    """Every name in its formulas stands for something, every input can be found, and all that it states is used."""
    spec = STUDIES[number]
    known = {*spec.inputs, *spec.fleets, *spec.months, *spec.lengths, *spec.attributions}
    used: set[str] = set()
    for name, figure in spec.figures.items():
        names = names_in(figure.formula)
        assert names <= known, (name, names - known)
        known.add(name)
        used |= names
    for part in spec.parts.values():
        names = names_in(part.formula)
        assert names <= known, names - known
        used |= names
    likes = {fleet.like for fleet in spec.fleets.values()} | {each.fleet for each in spec.attributions.values()}
    told = set(re.findall(r"\{(\w+)", spec.because))
    assert not {*spec.inputs, *spec.fleets, *spec.months, *spec.lengths, *spec.attributions} - used - likes - told
    assert marginals(spec.inputs, LIBRARY).keys() == spec.inputs.keys()
    assert {each.vary for each in spec.conditions} <= spec.inputs.keys()


# What follows from numbers


def test_the_answer_has_exactly_the_published_form() -> None:
    answer = ran().to_json()
    assert list(answer) == ["id", "claim", "claimed", "computed", "verdict", "reason"]
    assert list(answer["computed"]) == ["p10", "p50", "p90", "unit"]  # type: ignore[call-overload]
    assert answer["computed"] == {
        "p10": pytest.approx(4.0, abs=0.05), "p50": pytest.approx(20.0, abs=0.05), "p90": pytest.approx(68.0, abs=0.2),
        "unit": "x",
    }  # fmt: skip
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.0, 20.0, "holds in part"), (2.6, 20.0, "holds"), (0.0, 2.4, "does not hold")],
)
def test_other_numbers_give_another_verdict(low: float, high: float, verdict: str) -> None:
    found = ran({"inputs.x.low": low, "inputs.x.high": high, "inputs.x.value": min(max(low, 5.0), high)})
    assert found.verdict.value == verdict


@pytest.mark.parametrize(("claimed", "verdict"), [(10.0, "holds in part"), (3.0, "holds"), (79.0, "does not hold")])
def test_another_claim_gets_another_verdict(claimed: float, verdict: str) -> None:
    assert ran({"parts.a.at_least": claimed}).verdict.value == verdict


def test_an_unmeasured_input_is_named_as_what_decides() -> None:
    found = ran({"inputs.x.measurement": "the length of the thing"})
    assert found.verdict is Verdict.UNDECIDED
    assert found.measurements == ("the length of the thing",)
    assert found.reason.endswith("To be decided by: the length of the thing.")
    assert "## What would decide it\n\n- The length of the thing.\n" in claim_text(found)


def test_the_condition_is_where_the_median_turns() -> None:
    (condition,) = ran().conditions
    assert condition.value == pytest.approx(2.5, rel=1e-6)
    assert condition.above
    (never,) = ran({"parts.a.at_least": 1000.0}).conditions
    assert (never.value, never.anyway) == (None, False)
    (always,) = ran({"parts.a.at_least": -1.0}).conditions
    assert (always.value, always.anyway) == (None, True)


def test_the_reason_holds_the_numbers_that_were_computed() -> None:
    reason = ran().reason
    assert reason.startswith("four times: 20 x (3.99 to 68), at least 10 claimed, true in 75% of the samples.")
    assert reason.endswith("twice is 10 and the part 20")
    assert "twice is 2 " in ran({"inputs.x.value": 1.0}).reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts.a.formula": "nothing"}, r"parts\.a.*'nothing' stands for nothing"),
        ({"figures.twice.formula": "2 *"}, r"figures\.twice.*not a formula"),
        ({"because": "{nothing}"}, "because: stands for nothing"),
        ({"parts.a.formula": "log(0 - x)"}, r"parts\.a.*no number"),
        ({"conditions": [{"text": "y", "vary": "y", "between": [0.0, 1.0]}]}, r"conditions\.0.*varies an input"),
        ({"fleets": {"f": {}}, "parts.a.formula": "f.load * x"}, r"fleets\.f.*a fleet needs a scenario"),
    ],
)
def test_what_is_wrong_with_a_study_is_told_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ran(changes)


@pytest.mark.parametrize(
    ("number", "path", "value", "before", "after"),
    [
        ("C20", "parts.only_there.at_most", 0.9, Verdict.FAILS, Verdict.HOLDS),
        ("C18", "parts.bill_of_users.at_least", 20.0, Verdict.HOLDS, Verdict.IN_PART),
        ("C18", "parts.bill_of_users.may", False, Verdict.HOLDS, Verdict.UNDECIDED),
    ],
)
def test_a_changed_study_of_the_library_can_find_otherwise(
    number: str, path: str, value: Any, before: Verdict, after: Verdict
) -> None:
    spec = STUDIES[number]
    quick = {"fleets": {}, "figures": {}, "because": "", "conditions": ()} if number == "C20" else {}
    keep = {name: part for name, part in spec.parts.items() if number != "C20" or name == "only_there"}
    changed = mutated(number, path, value)
    kept = {name: part for name, part in changed.parts.items() if name in keep}
    assert run_claim(spec.model_copy(update={**quick, "parts": keep})).verdict is before
    found = run_claim(changed.model_copy(update={**quick, "parts": kept}))
    assert found.verdict is after


def test_an_input_of_a_shipped_study_moves_its_interval_and_its_verdict() -> None:
    """No bill rises where demand hardly answers."""
    elastic = {"input": "range", "value": -0.4, "low": -0.5, "high": -0.3, "unit": "1", "source": ["assumption"],
               "confidence": "assumption"}  # fmt: skip
    data = read_yaml(LIBRARY.find("claim", "c18")).data
    data["inputs"]["elasticity"] = elastic
    found = run_claim(ClaimSpec.model_validate(data))
    assert found.parts[0].verdict is Verdict.FAILS
    assert found.verdict is Verdict.IN_PART
    shipped = run_claim(STUDIES["C18"])
    assert shipped.verdict is Verdict.HOLDS
    assert found.parts[0].p50 < shipped.parts[0].p50


# Words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234567.0, "1,234,567"), (12.345, "12.3"), (0.00012345, "0.000123"), (1.2e-6, "1.2e-06"),
     (float("inf"), "infinite"), (float("nan"), "none"), (-0.5, "-0.5"), (100.0, "100"), (2.5e9, "2.5e+09")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert short(value) == text


def test_dates_are_months_and_intervals_tell_what_varies() -> None:
    assert [shown(value, "year") for value in (2025.0, 2026.5, 2027 + 11 / 12, float("inf"))] == [
        "January 2025", "July 2026", "December 2027", "never",
    ]  # fmt: skip
    assert interval(1.0, 1.0, 1.0, "x") == "1 x"
    assert interval(1.0, 2.0, 3.0, "1") == "2 (1 to 3)"


# The command and the pages


def test_the_command_answers_in_json_and_writes_pages(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["claims", "c16", "C18", "--json", "--pages", str(tmp_path / "pages")])
    assert result.exit_code == 0, result.output
    answers = json.loads(result.stdout)
    assert list(answers) == ["claims"]
    assert [each["id"] for each in answers["claims"]] == ["C16", "C18"]
    for each in answers["claims"]:
        assert set(each) == {"id", "claim", "claimed", "computed", "verdict", "reason"}
        assert set(each["computed"]) == {"p10", "p50", "p90", "unit"}
        assert each["verdict"] in set(Verdict)
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"C16.md", "C18.md", "README.md"}


def test_an_unknown_claim_is_bad_input() -> None:
    result = CliRunner().invoke(main, ["claims", "C77"])
    assert result.exit_code == 2
    assert "there is no study of this claim (got 'C77')" in result.stderr


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    found = ran()
    write_pages(tmp_path, [found])
    assert [path.name for path in tmp_path.iterdir()] == ["C99.md"]
    assert (tmp_path / "C99.md").read_text(encoding="utf-8") == claim_text(found)


def test_the_table_of_pages_counts_verdicts() -> None:
    text = index_text([ran(), ran({"parts.a.at_least": 3.0})])
    assert "2 claims. holds: 1, holds in part: 1, does not hold: 0, undecided: 0." in text


def test_there_is_a_page_for_every_study_and_the_table_names_them_all() -> None:
    pages = {path.name for path in (ROOT / "docs" / "claims").glob("*.md")}
    assert pages == {f"{number}.md" for number in STUDIES} | {"README.md"}
    table = (ROOT / "docs" / "claims" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[(C\d\d)\]\(C\d\d\.md\)", table, re.MULTILINE) == list(STUDIES)


@pytest.mark.slow
@pytest.mark.parametrize("number", STUDIES)
def test_a_page_says_what_the_command_finds(number: str) -> None:
    page = (ROOT / "docs" / "claims" / f"{number}.md").read_text(encoding="utf-8")
    assert claim_text(run_claim(STUDIES[number])) == page


@pytest.mark.slow
def test_the_table_says_what_the_pages_say() -> None:
    table = (ROOT / "docs" / "claims" / "README.md").read_text(encoding="utf-8")
    assert index_text([run_claim(spec) for spec in STUDIES.values()]) == table


def test_fleets_that_were_simulated_elsewhere_and_kept_give_the_same_answer(tmp_path: Path) -> None:
    """The same numbers to the last bit from worker processes, from a store, and in this process."""
    fleet = {"scenario": "service-2025", "saturated": True, "layouts": [{"tensor": 4}]}
    data = copy.deepcopy(BARE) | {"fleets": {"f": fleet}, "because": "at {f.load}"}
    data["parts"]["a"]["formula"] = "x * f.output_per_accelerator_s"
    spec = ClaimSpec.model_validate(data)
    answers = []
    for workers in (1, 0, 0):
        clear_remembered()
        with make_executor(workers) as executor:
            (found,) = run_claims([spec], executor=executor, store=Store(tmp_path / "kept"))
        answers.append(found.to_json())
    clear_remembered()
    assert [*answers, run_claim(spec).to_json()] == [answers[0]] * 4
    assert len(list((tmp_path / "kept").rglob("*.json"))) == 1


def test_a_fleet_that_fails_elsewhere_is_told_by_its_study() -> None:
    data = copy.deepcopy(BARE) | {"fleets": {"f": {"scenario": "nowhere"}}}
    data["parts"]["a"]["formula"] = "x * f.load"
    with make_executor(0) as executor, pytest.raises(InputError, match=r"fleets\.f.*no scenario of this name"):
        run_claims([ClaimSpec.model_validate(data)], executor=executor)
