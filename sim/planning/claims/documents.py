"""Changed copies of library documents, for a study that asks what if a part or a workload were another."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from sim.demand.compression import PowerLaw, fitted_power_law, load_compression
from sim.demand.lengths import length_table
from sim.specs.claim import ShorteningSpec
from sim.specs.distributions import LengthDistribution
from sim.specs.errors import InputError, Problem, suggest
from sim.specs.library import KINDS, Library

POINTS = 4000
"""Answers by which a distribution is carried through a compression."""

PROBABILITIES = (*np.linspace(0.0025, 0.9975, 400), 0.999, 0.9999)
"""Probabilities at which the shortened answers are tabulated."""


@contextmanager
def with_documents(
    library: Library, changes: Mapping[str, Mapping[str, Any]], answers: Mapping[str, ShorteningSpec]
) -> Iterator[Library]:
    """Give a library in which some documents are changed, under their own names.

    Parameters
    ----------
    library : Library
        The library to look in.
    changes : mapping
        `kind/name` -> {dotted path: value}.
    answers : mapping
        Workload -> compression of its answers.

    Raises
    ------
    InputError
        No such document, path or method; the changed document is validated when it is used.

    """
    with tempfile.TemporaryDirectory(prefix="fleetcast-study-") as folder:
        changed = Library((Path(folder), *library.roots))
        for key, paths in changes.items():
            kind, _, name = key.partition("/")
            if kind not in KINDS:
                raise InputError([Problem("unknown kind of document", value=key, remedy=suggest(kind, KINDS))])
            _write(changed, Path(folder), kind, name, paths)
        for workload, method in answers.items():
            spec = changed.workload(workload).spec
            table = shortened_quantiles(spec.output_tokens, law_of(library, method), method.reasoning_share)
            distribution = {
                "distribution": "quantile_table",
                "quantiles": {probability: f"{tokens:.0f} tokens" for probability, tokens in table.items()},
                "source": ["assumption"],
                "confidence": "assumption",
                "note": f"Shortened by {method.method}.",
            }
            _write(changed, Path(folder), "workload", workload, {"output_tokens": distribution})
        yield changed


def _write(library: Library, folder: Path, kind: str, name: str, paths: Mapping[str, Any]) -> None:
    """Write a document of the library with changes, in front of the one that it was read from."""
    raw, _ = library.read(kind, name)
    data = copy.deepcopy(raw.data)
    for path, value in paths.items():
        _set(data, path, value, raw.file)
    file = folder / KINDS[kind] / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


def law_of(library: Library, shortened: ShorteningSpec) -> PowerLaw:
    """Return T' = min(T, c T^b) as a method was measured; InputError where it is unknown or has no lengths."""
    try:
        return fitted_power_law(load_compression(library, shortened.method), shortened.base, shortened.benchmarks)
    except InputError:
        raise
    except ValueError as error:
        raise InputError([Problem(str(error), value=shortened.method)]) from None


def shortened(tokens: np.ndarray[Any, np.dtype[np.float64]], law: PowerLaw, reasoning: float) -> Any:
    """Return T' = (1 - r) T + min(r T, c (r T)^b) [tokens]; what is not reasoning stays."""
    thought = reasoning * tokens
    return tokens - thought + law.at(np.maximum(thought, 1e-9))


def shortened_quantiles(lengths: LengthDistribution, law: PowerLaw, reasoning: float) -> dict[float, float]:
    """Return quantiles of shortened answers: probability -> tokens; order is kept where the exponent is positive."""
    table = length_table(lengths)
    probabilities = np.array([0.0, *PROBABILITIES, 1.0])
    places = np.minimum(np.searchsorted(table.cumulative, probabilities, side="left"), table.cumulative.size - 1)
    after = np.maximum(1.0, np.rint(shortened((table.minimum + places).astype(np.float64), law, reasoning)))
    return {round(float(p), 6): float(t) for p, t in zip(probabilities, np.maximum.accumulate(after), strict=True)}


def answers_of(lengths: LengthDistribution) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return answers at evenly spaced probabilities, shape (POINTS,) [tokens]."""
    table = length_table(lengths)
    middle = (np.arange(POINTS) + 0.5) / POINTS
    return (table.minimum + np.searchsorted(table.cumulative, middle, side="left")).astype(np.float64)


def _set(data: dict[Any, Any], path: str, value: object, file: str) -> None:
    here: Any = data
    keys = path.split(".")
    for key in keys[:-1]:
        if not isinstance(here, dict) or key not in here:
            known = map(str, here) if isinstance(here, dict) else ()
            raise InputError([Problem("there is no such path", file, path, key, suggest(key, known))])
        here = here[key]
    if not isinstance(here, dict):
        raise InputError([Problem("there are no keys at this path", file, path)])
    here[keys[-1]] = copy.deepcopy(value)
