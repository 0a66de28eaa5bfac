"""Compression: the shipped methods, their elasticities, and the transform of a distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.demand.compression import PowerLaw, accuracy_change, compressed_lengths, fitted_power_law, load_compression
from sim.demand.lengths import length_cdf, length_quantile, mean_length, sample_lengths
from sim.demand.streams import stream
from sim.specs.distributions import LognormalComponent, LognormalMixtureLengths
from sim.specs.errors import InputError
from sim.specs.library import Library
from sim.specs.spec import Confidence

ROOT = Path(__file__).parents[2]
LIBRARY = Library((ROOT,))
NAMES = sorted(path.stem for path in (ROOT / "compression").glob("*.yaml"))
LENGTHS = LognormalMixtureLengths(
    distribution="lognormal_mixture",
    components=(LognormalComponent(weight=1.0, mu=8.0, sigma=0.9),),
    minimum="1 tokens",
    maximum="60000 tokens",
    source=("TEST",),
    confidence=Confidence.MEASURED,
)


def test_the_methods_of_the_claims_are_there() -> None:
    assert len(NAMES) >= 20
    assert {"crisp-uniform", "crisp-difficulty-aware", "ctrlcot", "am-thinking", "dart", "dast", "aria"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_valid_and_cites_what_it_uses(name: str) -> None:
    spec = load_compression(LIBRARY, name)
    assert spec.name == name
    assert {key for point in spec.points for key in point.source} == set(spec.sources)


@pytest.mark.parametrize(
    ("name", "base", "hardest", "elasticity"),
    [
        ("crisp-uniform", "qwen3-8b", "AIME25", 1.416),
        ("crisp-uniform", "qwen3-14b", "AIME25", 1.332),
        ("crisp-difficulty-aware", "qwen3-8b", "AIME25", 1.154),
        ("crisp-difficulty-aware", "qwen3-14b", "AIME25", 1.182),
        ("aria", "r1-distill-qwen-7b", "MATH-500 L5", 1.572),
        ("thinkprune", "qwq-32b", "AIME24", 1.078),
        ("adaptthink", "r1-distill-qwen-7b", "AIME24", 1.477),
        ("diet", "r1-distill-qwen-1.5b", "AIME24", 1.129),
    ],
)
def test_elasticities_are_those_of_the_facts(name: str, base: str, hardest: str, elasticity: float) -> None:
    spec = load_compression(LIBRARY, name)
    easiest = "MATH-500 L1" if name == "aria" else "MATH-500"
    law = fitted_power_law(spec, base, (easiest, hardest))
    assert law.exponent == pytest.approx(elasticity, abs=0.001)
    for point in spec.points:
        if point.base == base and point.benchmark in (easiest, hardest):
            assert point.tokens_before is not None
            assert law.at(point.tokens_before) == pytest.approx(point.tokens_after)


def test_a_fit_over_all_levels_is_a_regression() -> None:
    spec = load_compression(LIBRARY, "aria")
    before, after = ([getattr(point, name) for point in spec.points] for name in ("tokens_before", "tokens_after"))
    slope, _ = np.polyfit(np.log(before), np.log(after), 1)
    assert fitted_power_law(spec).exponent == pytest.approx(slope)


def test_what_shortens_nothing_is_no_transform() -> None:
    for name in ("am-thinking", "ctrlcot-claim", "opsdc-v1"):
        with pytest.raises(ValueError, match="does not shorten"):
            fitted_power_law(load_compression(LIBRARY, name))
    with pytest.raises(ValueError, match="no measured lengths"):
        fitted_power_law(load_compression(LIBRARY, "dart"))
    with pytest.raises(InputError, match="crisp-uniform"):
        load_compression(LIBRARY, "crisp-unifrom")


def test_short_answers_shrink_by_more_and_none_grows() -> None:
    law = fitted_power_law(load_compression(LIBRARY, "crisp-uniform"), "qwen3-14b", ("MATH-500", "AIME24", "AIME25"))
    shares = law.at([4200.0, 8000.0, 20_000.0]) / np.array([4200.0, 8000.0, 20_000.0])
    assert (np.diff(shares) > 0.0).all()
    assert law.at(1e6) == 1e6


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("adoption", [0.0, 0.4, 1.0])
def test_the_transformed_distribution_is_that_of_transformed_samples(spread: float, adoption: float) -> None:
    law = PowerLaw(0.05, 1.3, spread)
    old = sample_lengths(LENGTHS, 200_000, stream(1, "lengths"))
    noise = stream(1, "noise").standard_normal(old.size) * spread
    shortened = np.minimum(old, np.maximum(np.rint(0.05 * old**1.3 * np.exp(noise)), 1))
    new = np.where(stream(1, "adoption").random(old.size) < adoption, shortened, old)
    described = compressed_lengths(LENGTHS, law, adoption)
    points = np.unique(np.quantile(new, np.linspace(0.01, 0.99, 99)).astype(int))
    empirical = np.searchsorted(np.sort(new), points, side="right") / new.size
    assert np.abs(length_cdf(described, points) - empirical).max() < 0.006
    assert mean_length(described) == pytest.approx(new.mean(), rel=0.01)


def test_the_tail_shrinks_less_than_the_mean() -> None:
    law = fitted_power_law(load_compression(LIBRARY, "crisp-uniform"), "qwen3-14b", ("MATH-500", "AIME24", "AIME25"))
    described = compressed_lengths(LENGTHS, law)
    kept = mean_length(described) / mean_length(LENGTHS)
    tail, before = length_quantile(described, 0.99), length_quantile(LENGTHS, 0.99)
    assert kept < 0.7
    assert tail / before > kept + 0.05


def test_accuracy_comes_along_and_depends_on_difficulty() -> None:
    spec = load_compression(LIBRARY, "crisp-uniform")
    assert accuracy_change(spec, 4884, "qwen3-8b") == pytest.approx(0.0, abs=1e-9)
    assert accuracy_change(spec, 16_492, "qwen3-8b") == pytest.approx(-0.116)
    assert accuracy_change(spec, 1e6, "qwen3-8b") == pytest.approx(-0.116)
    assert accuracy_change(load_compression(LIBRARY, "dart"), 1000) is None


@pytest.mark.parametrize(("law", "adoption"), [(PowerLaw(1.0, 1.0), 1.1), (PowerLaw(1.0, 0.0), 0.5)])
def test_transforms_that_are_none(law: PowerLaw, adoption: float) -> None:
    with pytest.raises(ValueError, match=r"adoption|exponent"):
        compressed_lengths(LENGTHS, law, adoption)


def test_answers_shorter_than_any_measured_one_shrink_by_the_same_share() -> None:
    law = PowerLaw(0.01, 1.5, 0.0, 1000.0)
    share = 0.01 * 1000.0**0.5
    assert law.at([10.0, 1000.0, 4000.0]) == pytest.approx([10.0 * share, 1000.0 * share, 0.01 * 4000.0**1.5])
    assert law.before(law.at([10.0, 999.0, 1000.0, 4000.0])) == pytest.approx([10.0, 999.0, 1000.0, 4000.0])
    fitted = fitted_power_law(load_compression(LIBRARY, "crisp-uniform"), "qwen3-14b", ["AIME24", "AIME25"])
    assert fitted.measured_from == pytest.approx(13222.0)
