"""What a study found, in words: numbers as people read them, and the reason behind a verdict."""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Mapping, Sequence

from sim.planning.claims.verdict import PartFound, Verdict
from sim.specs.claim import ClaimSpec, PartSpec
from sim.specs.errors import InputError, Problem

YEAR = "year"
"""Unit of dates, as decimal years."""

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_.]*)\}")


def short(value: float) -> str:
    """Return a number with three significant digits, without an exponent where that can be read."""
    if math.isnan(value):
        return "none"
    if math.isinf(value):
        return "infinite" if value > 0.0 else "-infinite"
    if value == 0.0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        return f"{value:.3g}"
    text = f"{value:,.{max(0, 2 - math.floor(math.log10(size)))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def shown(value: float, unit: str) -> str:
    """Return a number in its unit: a decimal year as a month, which never comes if it is infinite."""
    if unit != YEAR:
        return short(value)
    if not math.isfinite(value):
        return "never"
    months = round(12.0 * value)
    return f"{calendar.month_name[months % 12 + 1]} {months // 12}"


def interval(p10: float, p50: float, p90: float, unit: str) -> str:
    """Return a median with its interval and unit; the median alone where nothing varies."""
    after = "" if unit in ("1", YEAR, "") else f" {unit}"
    middle = shown(p50, unit)
    ends = shown(p10, unit), shown(p90, unit)
    return f"{middle}{after}" if set(ends) == {middle} else f"{middle}{after} ({ends[0]} to {ends[1]})"


def asked(part: PartSpec) -> str:
    """Return what is claimed of a part's number."""
    if part.at_least is not None and part.at_most is not None:
        return f"{shown(part.at_least, part.unit)} to {shown(part.at_most, part.unit)}"
    if part.at_least is not None:
        return f"at least {shown(part.at_least, part.unit)}"
    return f"at most {shown(math.nan if part.at_most is None else part.at_most, part.unit)}"


def reason_of(
    spec: ClaimSpec, parts: Sequence[PartFound], verdict: Verdict, known: Mapping[str, tuple[float, str]]
) -> str:
    """Return in words what was found for each part, the study's own explanation with its numbers, and what decides.

    Raises
    ------
    InputError
        The explanation names a number that the study does not have.

    """
    missing = [name for name in _PLACEHOLDER.findall(spec.because) if name not in known]
    if missing:
        raise InputError([Problem("stands for nothing", f"{spec.name}.yaml", "because", each) for each in missing])
    found = [
        f"{each.spec.text}: {interval(each.p10, each.p50, each.p90, each.spec.unit)}, {asked(each.spec)} claimed, "
        f"true in {each.share:.0%} of the samples"
        for each in parts
        if each.spec.role == "claim"
    ]
    because = _PLACEHOLDER.sub(lambda match: shown(*known[match[1]]), " ".join(spec.because.split()))
    decide = dict.fromkeys(each for part in parts for each in part.measurements)
    open_end = verdict is Verdict.UNDECIDED and decide
    return f"{'; '.join(found)}. {because}" + (f" To be decided by: {'; '.join(decide)}." if open_end else "")
