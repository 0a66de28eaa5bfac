"""Bad input, told once: every problem with its file, path, value and remedy, all at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with what the user gave."""

    message: str
    """What is wrong, in one sentence."""

    file: str = ""
    """File (or other origin, such as `--set`) in which it stands; empty when there is none."""

    path: str = ""
    """Dotted path inside the file, e.g. `fleet.chat.replicas`."""

    value: object = field(default=None)
    """The offending value; None when a value is missing."""

    remedy: str = ""
    """What to do about it."""

    line: int | None = None
    """Line in the file, counted from 1, where known."""

    def __str__(self) -> str:
        """Return `file:line: path: message (got value). remedy`."""
        place = self.file + (f":{self.line}" if self.file and self.line else "")
        where = ": ".join(part for part in (place, self.path) if part)
        got = "" if self.value is None else f" (got {_short(self.value)})"
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{where}: {self.message}{got}.{remedy}" if where else f"{self.message}{got}.{remedy}"


class InputError(ValueError):
    """Raised for bad input; carries all problems found, each once, never only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple({str(problem): problem for problem in problems}.values())
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InputError], tuple[tuple[Problem, ...]]]:
        """Let another process raise it whole."""
        return type(self), (self.problems,)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names near misses, or all that is known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        likeness = [difflib.SequenceMatcher(None, each, name).ratio() for each in close]
        close = [each for each, ratio in zip(close, likeness, strict=True) if ratio > likeness[0] - 0.2]
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}." if names else ""


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
