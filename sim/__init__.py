"""Fleetcast: simulate LLM inference on fleets of accelerators.

    import sim

    scenario = sim.load("quickstart")
    result = sim.simulate(scenario)
    result.latency()

Names are imported when they are first used, so that `import sim` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sim.version import __version__

if TYPE_CHECKING:
    from sim.comparison import Comparison, compare
    from sim.execution.dataset import Sweep
    from sim.execution.sweep import sweep
    from sim.loading import load
    from sim.planning.horizon import Horizon, load_horizon
    from sim.planning.plan import Plan, plan
    from sim.planning.sizing import size
    from sim.planning.uncertainty.result import Uncertainty
    from sim.planning.uncertainty.study import uncertainty
    from sim.results.result import Result
    from sim.simulation import simulate
    from sim.specs.errors import InputError
    from sim.specs.library import default_library as library
    from sim.specs.resolved import Scenario

_HOMES = {
    "Comparison": ("sim.comparison", "Comparison"),
    "Horizon": ("sim.planning.horizon", "Horizon"),
    "InputError": ("sim.specs.errors", "InputError"),
    "Plan": ("sim.planning.plan", "Plan"),
    "Result": ("sim.results.result", "Result"),
    "Scenario": ("sim.specs.resolved", "Scenario"),
    "Sweep": ("sim.execution.dataset", "Sweep"),
    "Uncertainty": ("sim.planning.uncertainty.result", "Uncertainty"),
    "compare": ("sim.comparison", "compare"),
    "library": ("sim.specs.library", "default_library"),
    "load": ("sim.loading", "load"),
    "load_horizon": ("sim.planning.horizon", "load_horizon"),
    "plan": ("sim.planning.plan", "plan"),
    "simulate": ("sim.simulation", "simulate"),
    "size": ("sim.planning.sizing", "size"),
    "sweep": ("sim.execution.sweep", "sweep"),
    "uncertainty": ("sim.planning.uncertainty.study", "uncertainty"),
}

__all__ = [
    "Comparison",
    "Horizon",
    "InputError",
    "Plan",
    "Result",
    "Scenario",
    "Sweep",
    "Uncertainty",
    "__version__",
    "compare",
    "library",
    "load",
    "load_horizon",
    "plan",
    "simulate",
    "size",
    "sweep",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sim' has no attribute {name!r}; it has {', '.join(__all__)}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
