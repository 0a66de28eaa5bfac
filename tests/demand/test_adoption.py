import numpy as np
import pytest

from sim.demand.adoption import partly_compressed
from sim.demand.compression import PowerLaw
from sim.demand.trace import Trace

COUNT = 4000


def trace() -> Trace:
    output = np.random.default_rng(2).integers(1, 5000, COUNT)
    nothing = np.zeros(COUNT, np.int64)
    return Trace(("chat",), np.arange(COUNT), nothing.astype(np.int16), nothing + 100, nothing, output)


def compressed(law: PowerLaw, share: float, adoption: float) -> Trace:
    return partly_compressed(trace(), law, share, adoption, np.random.default_rng(1))


def test_nobody_adopts_or_nothing_is_reasoning_and_nothing_changes() -> None:
    law = PowerLaw(0.4, 1.0)
    for share, adoption in ((0.5, 0.0), (0.0, 1.0)):
        np.testing.assert_array_equal(compressed(law, share, adoption).output_tokens, trace().output_tokens)


def test_a_uniform_law_saves_its_share_of_the_reasoning() -> None:
    found = compressed(PowerLaw(0.4, 1.0), 0.5, 1.0)
    expected = trace().output_tokens * (1.0 - 0.5 * 0.6)
    assert np.abs(found.output_tokens - np.maximum(1.0, expected)).max() <= 0.5 + 1e-9


def test_answers_never_grow_and_keep_a_token() -> None:
    found = compressed(PowerLaw(0.6, 1.3, spread=1.0), 1.0, 1.0)
    assert (found.output_tokens <= trace().output_tokens).all()
    assert found.output_tokens.min() >= 1


@pytest.mark.parametrize("adoption", [0.25, 0.6])
def test_a_larger_adoption_takes_in_the_smaller_one(adoption: float) -> None:
    law = PowerLaw(0.4, 1.0)
    before = trace().output_tokens
    some = compressed(law, 1.0, adoption).output_tokens < before
    more = compressed(law, 1.0, adoption + 0.2).output_tokens < before
    assert (more | ~some).all()
    assert some.mean() == pytest.approx(adoption, abs=0.03)
