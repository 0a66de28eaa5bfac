"""What an analyst loads by name: a scenario to simulate, or a horizon to plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sim.specs.errors import InputError, Problem
from sim.specs.library import default_library
from sim.specs.reading import read_yaml
from sim.specs.resolved import Scenario, load_scenario

if TYPE_CHECKING:
    from sim.planning.horizon import Horizon


def load(
    name: str,
    changes: Mapping[str, object] | None = None,
    replay: tuple[str | Sequence[str] | None, str] | None = None,
) -> Scenario | Horizon:
    """Return a scenario or a horizon by name or path.

    Parameters
    ----------
    name : str
        Name in the library, or path of a YAML file, which says its `kind`.
    changes : mapping, optional
        Dotted path -> value, applied before anything is checked.
    replay : tuple, optional
        Traffic class, all classes that the file names, or None, and file of a recorded trace that replaces a scenario's
        traffic; with None each row is replayed as the class that it names, if the file has such a column.

    Raises
    ------
    InputError
        Missing or invalid, or a trace to replay in a horizon; all problems at once.

    """
    if _kind_of(name) != "horizon":
        if replay is not None and replay[0] is None:
            from sim.demand.trace_files import classes_named

            replay = (classes_named(Path(replay[1])), replay[1])
        return load_scenario(name, changes, replay)
    if replay is not None:
        raise InputError([Problem("a horizon replays no trace", value=name, remedy="Replay it in a scenario.")])
    from sim.planning.horizon import load_horizon  # planning is slow to import, and few scripts plan

    return load_horizon(name, changes)


def _kind_of(name: str) -> str:
    """Return `horizon` for a horizon and `scenario` for all else, for which `load_scenario` has the right words."""
    if name.endswith((".yaml", ".yml")) and Path(name).is_file():
        return str(read_yaml(Path(name)).data.get("kind"))
    return "horizon" if "horizon" in default_library().kinds_of(name) else "scenario"
