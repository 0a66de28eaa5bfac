"""Documents that a document names: all are fetched, and all that is wrong with any of them is collected."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sim.specs.errors import InputError, Problem
from sim.specs.library import Library
from sim.specs.reading import RawDocument
from sim.specs.wording import Location

Reference = tuple[Location, str, str]
"""Where in the document it stands, the kind that is meant, and the name."""


@dataclass
class Fetched:
    """What was found."""

    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Kind -> name -> spec."""

    fingerprints: dict[str, str] = field(default_factory=dict)
    """File -> SHA-256 of all that was read."""

    problems: list[Problem] = field(default_factory=list)
    """What is missing or invalid; a name that nothing has is told at the place where it stands."""


def fetch(raw: RawDocument, library: Library, references: Iterable[Reference]) -> Fetched:
    """Return the documents that a raw document names, each read once."""
    found = Fetched()
    for location, kind, name in references:
        known = found.documents.setdefault(kind, {})
        if name in known:
            continue
        try:
            document = library.load(kind, name, raw.file)
        except InputError as error:
            found.problems += [
                each if each.file else raw.problem(each.message, location, name, each.remedy) for each in error.problems
            ]
            continue
        known[name] = document.spec
        found.fingerprints |= document.fingerprints
    return found
