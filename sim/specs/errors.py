"""Bad input, told once: every problem with its file, path, value and remedy, all at once."""

from __future__ import annotations

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
    """Raised for bad input; carries all problems found, never only the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
