"""From a measured run, as its source words it, to what the library knows: hardware, model, layout, formats, load."""

from __future__ import annotations

import dataclasses

from sim.fidelity.clients import client_of
from sim.fidelity.points import DATA, MeasuredRun
from sim.fidelity.systems import System, UnmappedError
from sim.fidelity.wording import (
    disaggregated_pools,
    formats_of_run,
    framework_family,
    keeps_wide_kv,
    layout_of,
    lengths_of,
    library_name,
    load_of,
    speculation_of,
)
from sim.specs.errors import InputError
from sim.specs.hardware import HardwareSpec, NumberFormat
from sim.specs.library import Library, default_library
from sim.specs.model import ModelSpec


def fidelity_library() -> Library:
    """Return the library with the measured systems behind it."""
    library = default_library()
    return Library((*library.roots, DATA))


class Mapper:
    """Maps runs; holds the library's documents that it has read."""

    def __init__(self, library: Library | None = None) -> None:
        self._library = library or fidelity_library()
        self._names = {kind: frozenset(self._library.names(kind)) for kind in ("hardware", "model")}
        self._hardware: dict[str, HardwareSpec] = {}
        self._models: dict[str, ModelSpec] = {}

    def system(self, run: MeasuredRun) -> System:
        """Return a run in the words of the library.

        Raises
        ------
        UnmappedError
            The library lacks its hardware or model, or the simulator cannot represent it; says which.

        """
        columns = run.columns
        hardware = self._find_hardware(columns["accelerator"], columns["system"])
        model = self._find_model(columns["model"])
        framework = framework_family(columns["framework"], hardware, columns["date"])
        formats = formats_of_run(columns["precision"], model, hardware, "mlperf" in columns["source"].lower())
        if formats.kv is NumberFormat.FP8 and keeps_wide_kv(framework, hardware, columns):
            formats = dataclasses.replace(formats, kv=NumberFormat.BF16)
        accelerators = int(run.number("n_accel") or 1)
        pools = disaggregated_pools(columns["system"], model)
        if pools is None:
            parallelism = layout_of(run, model, hardware, formats, accelerators)
            replicas = max(1, round(accelerators / parallelism.accelerators))
        else:
            parallelism, replicas = pools[1].parallelism, pools[1].replicas
        return System(
            hardware=hardware,
            model=model,
            formats=formats,
            parallelism=parallelism,
            replicas=replicas,
            framework=framework,
            load=load_of(run, accelerators),
            lengths=lengths_of(run, model, pools is not None),
            regime=columns["regime"] or "not stated",
            accelerator_name=columns["accelerator"],
            model_name=columns["model"],
            source=columns["source"],
            client=client_of(columns["source"]),
            prefill=None if pools is None else pools[0],
            speculation=speculation_of(columns["spec_decode"]),
        )

    def _find_hardware(self, written: str, system: str) -> HardwareSpec:
        name = library_name("hardware", written, self._names["hardware"])
        if name == "gh200-96gb" and "144" in system:
            name = "gh200-144gb"
        if name not in self._hardware:
            try:
                self._hardware[name] = self._library.hardware(name).spec
            except InputError:
                raise UnmappedError(f"no hardware profile for {written!r}") from None
        return self._hardware[name]

    def _find_model(self, written: str) -> ModelSpec:
        name = library_name("model", written, self._names["model"])
        if name not in self._models:
            try:
                self._models[name] = self._library.model(name).spec
            except InputError:
                raise UnmappedError(f"no model for {written!r}") from None
        return self._models[name]
