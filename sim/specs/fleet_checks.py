"""What must fit together between pools, classes, APIs and hardware: each problem where it stands in the scenario."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sim.specs.errors import Problem, suggest
from sim.specs.fleet import PoolSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.reading import RawDocument
from sim.specs.scenario import ScenarioSpec
from sim.specs.wording import Location

Finding = tuple[Location, object, str, str]
"""Place, value, message and remedy."""


def fleet_problems(spec: ScenarioSpec, raw: RawDocument, hardware: Mapping[str, HardwareSpec]) -> Iterator[Problem]:
    """Yield what does not fit together in a scenario whose parts are each in order.

    Parameters
    ----------
    spec : ScenarioSpec
        The scenario.
    raw : RawDocument
        The scenario as read, which knows where everything stands.
    hardware : mapping
        Hardware profiles by name; those that could not be read are not there.

    """
    for place, value, message, remedy in _findings(spec, hardware):
        yield raw.problem(message, place, value, remedy)


def targets(fleet: Mapping[str, PoolSpec]) -> set[str]:
    """Return the pools that take only what another pool sends on."""
    return {target for pool in fleet.values() for target in pool.targets if target in fleet}


def _findings(spec: ScenarioSpec, hardware: Mapping[str, HardwareSpec]) -> Iterator[Finding]:
    for name, pool in spec.fleet.items():
        yield from _target_findings(spec, name, pool)
        yield from _outage_findings(spec, name, pool)
        if pool.hardware in hardware:
            yield from _hardware_findings(spec, name, pool, hardware[pool.hardware])
    yield from _api_findings(spec)
    yield from _class_findings(spec)
    yield from _routing_findings(spec)


def _target_findings(spec: ScenarioSpec, name: str, pool: PoolSpec) -> Iterator[Finding]:
    fleet = spec.fleet
    if name in targets(fleet) and pool.serves:
        message = "another pool sends its requests here, so this pool cannot serve classes of its own"
        yield ("fleet", name, "serves"), list(pool.serves), message, "Leave `serves` out, or make a pool of its own."
    if pool.hand_over is not None:
        place = ("fleet", name, "hand_over", "to")
        to = pool.hand_over.to
        if to not in fleet or to == name:
            known = [each for each in fleet if each != name]
            yield place, to, "hands over to a pool that is not there", suggest(to, known)
        else:
            target = fleet[to]
            for key in ("model", "kv_format"):
                if getattr(target, key) != getattr(pool, key):
                    message = f"pools that share KV need the same {key}"
                    yield ("fleet", to, key), str(getattr(target, key)), message, f"Make it that of {name}."
            if target.hand_over is not None:
                yield place, to, "hands over to a pool that hands over itself", "Choose a pool that generates answers."
            if any(each.spill_over is not None and each.spill_over.to == to for each in fleet.values()):
                yield place, to, "hands over to a pool to which requests spill over", "Make a pool of its own."
    if pool.spill_over is not None:
        place = ("fleet", name, "spill_over", "to")
        to = pool.spill_over.to
        if to == name or (to not in fleet and to not in spec.apis):
            known = [each for each in (*fleet, *spec.apis) if each != name]
            yield place, to, "spills over to a pool or API that is not there", suggest(to, known)
        elif to in fleet and name in _reached(fleet, to):
            yield place, to, "spills over in a circle", "Let the last pool spill over to nothing, or to an API."


def _reached(fleet: Mapping[str, PoolSpec], start: str) -> set[str]:
    """Return the pools that requests can come to from a pool by spilling over."""
    reached: set[str] = set()
    here: str | None = start
    while here in fleet and here not in reached:
        assert here is not None, "no pool has no name"
        reached.add(here)
        onward = fleet[here].spill_over
        here = None if onward is None else onward.to
    return reached


def _outage_findings(spec: ScenarioSpec, name: str, pool: PoolSpec) -> Iterator[Finding]:
    recorded = any(traffic.trace is not None for traffic in spec.traffic.values())
    end = spec.duration + spec.drain
    late = "begins after the end of the run"
    for number, outage in enumerate(pool.outages):
        place = ("fleet", name, "outages", number)
        beyond = [each for each in outage.replicas if each >= pool.most_replicas]
        if beyond:
            message = f"the pool has replicas 0 to {pool.most_replicas - 1}"
            yield (*place, "replicas"), beyond, message, "Name positions in the pool."
        if outage.start >= end and not recorded:
            yield (*place, "start"), outage.start, late, f"The run ends after {end:g} s."
    for number, roll_out in enumerate(pool.roll_outs):
        place = ("fleet", name, "roll_outs", number)
        if roll_out.start >= end and not recorded:
            yield (*place, "start"), roll_out.start, late, f"The run ends after {end:g} s."


def _hardware_findings(spec: ScenarioSpec, name: str, pool: PoolSpec, profile: HardwareSpec) -> Iterator[Finding]:
    if pool.failures is not None:
        for key in ("accelerator", "system"):
            if getattr(pool.failures, key) is None and getattr(profile.reliability, key) is None:
                message = f"{profile.name} states no failure rate of the {key}"
                remedy = f"Write {key}: {{rate: 0.2 failures/year, repair: 1 h}} with your own numbers."
                yield ("fleet", name, "failures"), None, message, remedy
    power = profile.power
    if pool.power.rack_cap is None and spec.site.power_cap is None:
        return
    missing = [
        key
        for key, there in (
            ("thermal_design", power.thermal_design),
            ("idle_fraction", power.idle_fraction),
            ("speed_elasticity", pool.power.speed_elasticity or power.speed_elasticity),
        )
        if there is None
    ]
    if missing:
        message = f"a power cap needs {', '.join(missing)} of {profile.name}, which its profile does not state"
        yield ("fleet", name, "hardware"), pool.hardware, message, "Add it in a profile that extends it."
    elif pool.power.rack_cap is not None and power.thermal_design and power.idle_fraction:
        idle = power.thermal_design.value * power.idle_fraction.value + pool.power.host
        rack = pool.power.rack_accelerators or profile.scale_up_domain
        if idle * rack >= pool.power.rack_cap:
            message = (
                f"a rack of {rack} idle accelerators draws {idle * rack:.0f} W, so that nothing is left to compute"
            )
            yield ("fleet", name, "power", "rack_cap"), pool.power.rack_cap, message, "Raise the cap."


def _api_findings(spec: ScenarioSpec) -> Iterator[Finding]:
    used = {target for pool in spec.fleet.values() for target in pool.targets}
    for api in spec.apis:
        if api in spec.fleet:
            yield ("apis", api), None, "an API has the name of a pool", "Rename one of them."
        elif api not in used:
            yield ("apis", api), None, "no pool spills over to this API", "Name it in `spill_over.to` of a pool."


def _class_findings(spec: ScenarioSpec) -> Iterator[Finding]:
    refused = any(pool.admission is not None for pool in spec.fleet.values())
    for name, traffic in spec.traffic.items():
        if traffic.retries is not None and traffic.timeout is None and not refused:
            message = "there is nothing to try again: no timeout, and no pool refuses requests"
            yield ("traffic", name, "retries"), None, message, "Give the class a timeout, or a pool an `admission`."
    for name, pool in spec.fleet.items():
        served = pool.serves or tuple(spec.traffic)
        shares = {each: spec.traffic[each].reserved_share for each in served if each in spec.traffic}
        total = sum(share for share in shares.values() if share is not None)
        if total > 1.0:
            message = f"the classes of this pool reserve {total:g} of it, more than there is"
            yield ("fleet", name), None, message, "Lower their reserved_share."


def _routing_findings(spec: ScenarioSpec) -> Iterator[Finding]:
    if spec.routing.load_guard is not None and spec.router != "prefix_affinity":
        message = "only the router prefix_affinity has a load guard"
        yield ("routing", "load_guard"), spec.routing.load_guard, message, "Leave it out, or choose that router."
    if spec.routing.signal_age > 0.0 and spec.router == "round_robin":
        message = "round robin looks at no signal"
        yield ("routing", "signal_age"), spec.routing.signal_age, message, "Leave it out, or choose another router."
    if spec.router == "prefix_affinity" and all(pool.prefix_cache is None for pool in spec.fleet.values()):
        message = "prefix affinity without a prefix cache"
        yield ("router",), spec.router, message, "Give a pool a `prefix_cache`: {} takes all that is free."
