"""Why groups of points are far off: `data/explanations.yaml`, matched to source, accelerator, model and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from sim.fidelity.points import DATA

EXPLANATIONS = DATA / "explanations.yaml"
UNEXPLAINED = "Unexplained."
"""What stands beside a group without an explanation."""

_KEYS = ("source", "accelerator", "model", "metric")


def explanations() -> list[Mapping[str, str]]:
    """Return all explanations in their order; ValueError for an entry that explains nothing or has a wrong key."""
    entries: Sequence[Mapping[str, str]] = yaml.safe_load(EXPLANATIONS.read_text("utf-8"))
    for entry in entries:
        if not entry.get("why") or not set(entry) - {"why"} or set(entry) - {"why", *_KEYS}:
            raise ValueError(f"{EXPLANATIONS.name}: {dict(entry)} is no explanation of a group")
    return list(entries)


def explained(source: str, accelerator: str, model: str, metric: str) -> str:
    """Return why a group is far off, or that nobody knows."""
    group = {"source": source, "accelerator": accelerator, "model": model, "metric": metric}
    for entry in explanations():
        fits = all(group[key] == entry[key] for key in _KEYS[1:] if key in entry)
        if fits and source.startswith(entry.get("source", "")):
            return " ".join(entry["why"].split())
    return UNEXPLAINED
