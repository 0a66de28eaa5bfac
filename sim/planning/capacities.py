"""What replicas serve, as a plain table: all that a plan needs to know of hardware, models and software.

Making the table takes simulations (`sim.planning.coefficients`); what follows from it takes none.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, Self

import pandas as pd

from sim.planning.choices import layout_in_words
from sim.specs.fleet import ParallelismSpec

SINGLE = ParallelismSpec()


@dataclass(frozen=True)
class Service:
    """What decides how much a replica serves, apart from the hardware."""

    case: str
    """Use case."""

    model: str
    """Key of the model within it."""

    quantised: bool
    """Whether weights and KV are in the small format."""

    batched: bool
    """Whether the batch limit is the serving stack's and not the baseline's."""

    prefix_cached: bool
    """Whether the prefix cache is used."""

    compressed: bool
    """Whether all reasoning is compressed."""

    pace: float = 1.0
    """How much faster steps are than calibrated, so that limits leave that much more room; capacity itself is counted
    at the calibrated speed [1]."""


@dataclass(frozen=True)
class Coefficient:
    """What one replica serves."""

    accelerators: int
    """Accelerators of the replica; 0 where no layout serves."""

    requests_per_s: float
    """Requests within the service levels [requests/s]."""

    load: float
    """That over the saturation [1]."""

    reason: str
    """Why it serves nothing, or what limits it."""

    layout: ParallelismSpec = SINGLE
    """Parallelism of a replica."""

    max_sequences: int = 0
    """Sequences of a replica at a time; 0 where no layout serves."""

    tightness: float = math.nan
    """Largest latency over its limit at that load [1]."""


class MeanTokens(NamedTuple):
    """Mean tokens of a use case's requests, uncompressed."""

    prompt: float
    """Prompt, cached part included [tokens]."""

    cached: float
    """Part of the prompt that is found in the prefix cache [tokens]."""

    output: float
    """Answer [tokens]."""


class Capacities(Protocol):
    """What a plan asks of replicas."""

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return what one replica of a service serves on an accelerator."""

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean tokens of a use case."""


@dataclass(frozen=True)
class CapacityTable:
    """Coefficients that are known, and nothing else: it can be kept, sent to another process, and scaled."""

    replicas: Mapping[tuple[Service, str], Coefficient]
    """(Service, accelerator) -> what a replica serves."""

    means: Mapping[tuple[str, str], MeanTokens]
    """(Use case, model) -> mean tokens."""

    def replica(self, service: Service, hardware: str) -> Coefficient:
        """Return what one replica serves, at the pace asked for or the next slower one that is known.

        Raises
        ------
        ValueError
            Nothing of the kind was ever simulated.

        """
        found = self.replicas.get((service, hardware))
        if found is not None:
            return found
        paces = self._paces.get((dataclasses.replace(service, pace=1.0), hardware), ())
        if not paces:
            raise ValueError(f"the table has no capacity of {hardware} for {service}")
        # Slower steps leave less room below the limits, so what they serve is served at any faster pace.
        pace = max((each for each in paces if each <= service.pace), default=min(paces))
        return self.replicas[dataclasses.replace(service, pace=pace), hardware]

    @cached_property
    def _paces(self) -> Mapping[tuple[Service, str], list[float]]:
        found: dict[tuple[Service, str], list[float]] = {}
        for service, hardware in self.replicas:
            found.setdefault((dataclasses.replace(service, pace=1.0), hardware), []).append(service.pace)
        return found

    def tokens(self, case: str, model: str) -> MeanTokens:
        """Return mean tokens; ValueError for what was never simulated."""
        if (case, model) not in self.means:
            raise ValueError(f"the table has no tokens of {case}/{model}")
        return self.means[case, model]

    def scaled(self, factor: Callable[[Service, str], float]) -> Self:
        """Return the table with every replica serving so many times as much.

        Parameters
        ----------
        factor : callable
            Told service and accelerator; returns the factor [1]. An efficiency that is off by a factor moves capacity
            by about that factor, since load and latency scale together.

        """
        replicas = {
            (service, hardware): dataclasses.replace(
                each, requests_per_s=each.requests_per_s * factor(service, hardware)
            )
            for (service, hardware), each in self.replicas.items()
        }
        return dataclasses.replace(self, replicas=replicas)

    def table(self) -> pd.DataFrame:
        """Return one row a coefficient: what it is for, layout, requests/s, load, largest latency, what limits it."""
        rows: list[dict[str, Any]] = [
            {"accelerator": hardware, **service.__dict__, **each.__dict__, "layout": layout_in_words(each.layout)}
            for (service, hardware), each in self.replicas.items()
        ]
        return pd.DataFrame(rows)
