"""When a claim holds: the share of samples in which a statement is true, and what would turn it."""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.planning.claims.formula import FloatArray
from sim.planning.claims.inputs import Marginal
from sim.specs.claim import PartSpec

_HALVINGS = 60

_PLACES = 33
"""Values of an unmeasured input at which a part is looked at."""


class Verdict(enum.StrEnum):
    """What a study finds."""

    HOLDS = "holds"
    IN_PART = "holds in part"
    FAILS = "does not hold"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class PartFound:
    """One statement against what was computed."""

    name: str
    """Name in the study."""

    spec: PartSpec
    """The statement."""

    p10: float
    """10th percentile, in the part's unit."""

    p50: float
    """Median."""

    p90: float
    """90th percentile."""

    share: float
    """Share of the samples in which it is true [1]."""

    verdict: Verdict
    """What follows."""

    measurements: tuple[str, ...] = ()
    """What would decide it, where it is undecided."""


def quantiles(samples: FloatArray) -> tuple[float, float, float]:
    """Return p10, p50 and p90 of samples, each one of them, so that infinite ones do no harm; NaN is not allowed."""
    p10, p50, p90 = np.quantile(samples, (0.1, 0.5, 0.9), method="inverted_cdf")
    return float(p10), float(p50), float(p90)


def truth(part: PartSpec, samples: FloatArray) -> float:
    """Return the share of samples in which a part is true [1]."""
    low = -math.inf if part.at_least is None else part.at_least
    high = math.inf if part.at_most is None else part.at_most
    return float(np.mean((samples >= low) & (samples <= high)))


def of_share(share: float, surely: float) -> Verdict:
    """Return the verdict of a share of true samples.

    holds          share >= surely
    does not hold  share <= 1 - surely
    holds in part  otherwise
    """
    if share >= surely:
        return Verdict.HOLDS
    return Verdict.FAILS if share <= 1.0 - surely + 1e-12 else Verdict.IN_PART


def judge(
    name: str,
    part: PartSpec,
    evaluate: Callable[[Mapping[str, float]], FloatArray],
    inputs: Mapping[str, Marginal],
    surely: float,
) -> PartFound:
    """Return what a part comes to and whether it is true.

    Of what only may be so, all that is not surely false holds. A part that is neither surely true nor surely false is
    undecided if inputs that nobody has measured turn it: with one of them held at some value, or all of them at some
    ends, it is surely true, and with others surely false.

    Parameters
    ----------
    name, part
        The statement.
    evaluate : callable
        Samples of its formula, some inputs held at a value.
    inputs : mapping
        Distributions of the inputs of the study.
    surely : float
        Share of true samples from which it holds [1].

    Raises
    ------
    ValueError
        The formula is no number in some sample.

    """
    samples = evaluate({})
    if np.isnan(samples).any():
        raise ValueError(f"{name} is no number in {np.isnan(samples).mean():.0%} of the samples: {part.formula}")
    share = truth(part, samples)
    verdict = of_share(share, surely)
    if part.may and verdict is Verdict.IN_PART:
        verdict = Verdict.HOLDS
    measurements: tuple[str, ...] = ()
    if verdict is Verdict.IN_PART and _turned(part, evaluate, inputs, surely):
        verdict = Verdict.UNDECIDED
        measurements = tuple(dict.fromkeys(each.measurement for each in inputs.values() if each.measurement))
    return PartFound(name, part, *quantiles(samples), share, verdict, measurements)


def _turned(
    part: PartSpec, evaluate: Callable[[Mapping[str, float]], FloatArray], inputs: Mapping[str, Marginal], surely: float
) -> bool:
    """Return whether inputs that were not measured decide alone between surely true and surely false."""
    unmeasured = {key: each for key, each in inputs.items() if each.measurement}
    held: list[dict[str, float]] = []
    for key, each in unmeasured.items():
        held += [{key: float(value)} for value in each.at(np.linspace(0.0, 1.0, _PLACES))]
    ends = [(min(each.knots), max(each.knots)) for each in unmeasured.values()]
    held += [dict(zip(unmeasured, corner, strict=True)) for corner in itertools.product(*ends)] if ends else []
    found = {of_share(truth(part, evaluate(each)), surely) for each in held}
    return {Verdict.HOLDS, Verdict.FAILS} <= found


def together(parts: Sequence[PartFound]) -> Verdict:
    """Return the verdict of a claim: that of its parts where they agree, undecided where its first is, else in part.

    Cases beside the claim do not count. An undecided part after the first does not hold: nothing shows that it does.
    """
    claimed = [each.verdict for each in parts if each.spec.role == "claim"]
    if claimed[0] is Verdict.UNDECIDED:
        return Verdict.UNDECIDED
    found = {Verdict.FAILS if each is Verdict.UNDECIDED else each for each in claimed}
    return found.pop() if len(found) == 1 else Verdict.IN_PART


def turning_point(
    part: PartSpec, median: Callable[[float], float], between: tuple[float, float]
) -> tuple[float, bool] | None:
    """Return the value of an input at which a part's median becomes true, and whether it is true above it.

    Bisection; none where the median is true, or false, at both ends.
    """

    def met(value: float) -> bool:
        return truth(part, np.array([median(value)])) == 1.0

    low, high = between
    at_low, at_high = met(low), met(high)
    if at_low == at_high:
        return None
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if met(middle) == at_low else (low, middle)
    return 0.5 * (low + high), at_high
