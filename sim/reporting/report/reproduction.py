"""How to get the same numbers again: the command, what was written in the scenario, versions, seed and fingerprints."""

from __future__ import annotations

import html
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from sim.reporting.report.numbers import html_table
from sim.reporting.report.section import Section
from sim.reporting.report.studies import Study
from sim.version import __version__

_SETTINGS = {
    "samples": "--samples", "pairs": "--pairs", "replicates": "--replicates", "checks": "--checks", "seed": "--seed",
    "method": "--method",
}  # fmt: skip


def reproduction_section(studies: Sequence[Study]) -> Section:
    """Return commands, versions, seeds and fingerprints of all studies."""
    parts: list[str] = []
    for study in studies:
        manifest = study.manifest
        versions: Mapping[str, Any] = manifest.get("versions") or {"fleetcast": manifest.get("version", __version__)}
        seed = _seed(study)
        facts = [
            ["made by", f"fleetcast {html.escape(study.kind)}"],
            ["directory", html.escape(study.directory or "–")],
        ]
        facts += [["seed", html.escape(str(seed))]] if seed is not None else []
        facts += [[html.escape(name), html.escape(str(each))] for name, each in versions.items()]
        parts.append(f"<h3>{html.escape(study.label)}, {study.kind}</h3>")
        parts.append(f"<pre><code>{html.escape(command_of(study))}</code></pre>")
        parts.append(html_table(["", ""], facts, "Versions and seed", 2, "Versions and seed"))
        written = _written(study)
        if written:
            parts.append(
                f"<details><summary>As written, all changes applied: {html.escape(_file(study))}</summary>"
                f"<pre><code>{html.escape(written)}</code></pre></details>"
            )
        prints = manifest.get("fingerprints", {})
        rows = [[f"<code>{html.escape(str(name))}</code>", f"<code>{digest}</code>"] for name, digest in prints.items()]
        parts.append(
            html_table(["file", "SHA-256"], rows, "Files that were read", 2, f"{len(rows)} files with fingerprints")
        )
    parts.append(f"<p>This page was written by Fleetcast {__version__} on Python {platform.python_version()}.</p>")
    return Section("reproduce", "How to reproduce", parts)


def command_of(study: Study) -> str:
    """Return the command that makes the study again."""
    manifest = study.manifest
    file = _file(study)
    if study.kind == "run":
        more = f" --replications {manifest['replications']}" if manifest.get("replications", 1) != 1 else ""
        return f"fleetcast run {file} --seed {manifest['seed']}{more} -o again"
    if study.kind == "uncertainty":
        options = " ".join(f"{_SETTINGS[name]} {value}" for name, value in sorted(manifest["settings"].items()))
        changes = "".join(f" --set {path}={value}" for path, value in sorted(manifest.get("changed", {}).items()))
        return f"fleetcast uncertainty {study.manifest['study_id']} {options}{changes} -o again"
    if study.kind == "sweep":
        settings = " ".join(
            f"--set {path}={','.join(str(each) for each in values)}" for path, values in manifest["settings"].items()
        )
        more = f" --samples {manifest['latin_hypercube']}" if manifest.get("latin_hypercube") else ""
        return f"fleetcast sweep {file} {settings}{more} --replications {manifest['replications']} -o again"
    if study.kind == "size":
        return f"fleetcast size {file} -o again.html"
    return f"fleetcast plan {file} -o again"


def _file(study: Study) -> str:
    """Return the file under which the page tells to save what was written."""
    return f"{_name(study)}.yaml" if _written(study) else _name(study)


def _name(study: Study) -> str:
    return study.label.split(" (")[0].split("/")[0]


def _written(study: Study) -> str:
    """Return the scenario or horizon as YAML; empty where the manifest does not hold it as written."""
    manifest = study.manifest
    scenarios = manifest.get("scenarios")
    written: Any = None
    if isinstance(scenarios, Mapping) and scenarios:
        written = next(iter(scenarios.values())).get("as_written")
    elif study.kind == "sweep":
        written = manifest.get("scenario")
    elif study.kind == "plan":
        written = manifest.get("as_written")
    return "" if written is None else yaml.safe_dump(written, sort_keys=False, allow_unicode=True)


def _seed(study: Study) -> object:
    manifest = study.manifest
    if "seed" in manifest:
        return manifest["seed"]
    settings = manifest.get("settings")
    return settings.get("seed") if isinstance(settings, Mapping) and study.kind == "uncertainty" else None
