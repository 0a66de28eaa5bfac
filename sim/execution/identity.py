"""What a scenario is, apart from where its files lie: a digest of its content and of all that it names."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sim.execution.task import canonical_json
from sim.specs.errors import InputError
from sim.specs.library import Library, located
from sim.specs.reading import RawDocument
from sim.specs.resolved import changed, references


class Identity:
    """Digests scenarios of one library; files are read once for all of them."""

    def __init__(self, library: Library) -> None:
        """Digest what this library holds.

        Parameters
        ----------
        library : Library
            Where names are looked up.

        """
        self._library = library
        self._documents: dict[tuple[str, str], Mapping[str, str] | None] = {}
        self._traces: dict[str, str | None] = {}

    def of(self, raw: RawDocument) -> str:
        """Return SHA-256 of a scenario as written, of the documents that it names and of its recorded traces.

        Parameters
        ----------
        raw : RawDocument
            The scenario, in JSON types; it may be one that cannot be resolved.

        """
        data = copy.deepcopy(raw.data)
        documents: dict[str, Mapping[str, str] | None] = {}
        for variant in _variants(raw):
            for _, kind, name in references(variant.data):
                documents[f"{kind}/{name}"] = self._document(kind, name, raw.file)
        traffic = data.get("traffic")
        for each in traffic.values() if isinstance(traffic, dict) else ():
            if isinstance(each, dict) and isinstance(each.get("trace"), str):
                each["trace"] = self._trace(each["trace"], raw.file)
        return hashlib.sha256(canonical_json({"scenario": data, "documents": documents})).hexdigest()

    def _document(self, kind: str, name: str, beside: str) -> Mapping[str, str] | None:
        """Return the fingerprints of a document, None when it is not there."""
        if (kind, name) not in self._documents:
            try:
                self._documents[kind, name] = self._library.read(kind, name, beside)[1]
            except InputError:
                self._documents[kind, name] = None
        return self._documents[kind, name]

    def _trace(self, name: str, beside: str) -> str | None:
        path = located(name, beside)
        if str(path) not in self._traces:
            try:
                with path.open("rb") as content:
                    self._traces[str(path)] = hashlib.file_digest(content, "sha256").hexdigest()
            except OSError:
                self._traces[str(path)] = None
        return self._traces[str(path)]


def _variants(raw: RawDocument) -> Iterator[RawDocument]:
    """Yield the scenario and each of its alternatives that can be made."""
    yield raw
    alternatives: Any = raw.data.get("alternatives")
    base = replace(raw, data={key: value for key, value in raw.data.items() if key != "alternatives"})
    for delta in alternatives.values() if isinstance(alternatives, dict) else ():
        try:
            yield changed(base, delta if isinstance(delta, dict) else {})
        except InputError:
            continue
