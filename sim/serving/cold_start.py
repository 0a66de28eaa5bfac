"""How long a replica takes from nothing to its first request: its weights over a bandwidth, and a fixed part."""

from __future__ import annotations

from sim.specs.control import ColdStartSpec
from sim.specs.hardware import HardwareSpec


def cold_start_s(weight_bytes: float, bandwidth: float, fixed_s: float) -> float:
    """Return the time of a cold start, `weight_bytes / bandwidth + fixed` [s].

    Parameters
    ----------
    weight_bytes : float
        Weights that all accelerators of the replica load together [B].
    bandwidth : float
        Bandwidth at which they come, all of them together [B/s].
    fixed_s : float
        Provisioning and start of the engine [s].

    """
    return weight_bytes / bandwidth + fixed_s


def cold_start_of(start: ColdStartSpec | None, hardware: HardwareSpec, accelerators: int, weight_bytes: float) -> float:
    """Return the time of a cold start of a replica [s]; 0 where the pool states none.

    Over the network, the links of its accelerators to other systems limit it where the profile states them:
    `t = fixed + bytes / min(storage, accelerators * link)` (fact table of hardware, section 9).

    Parameters
    ----------
    start : ColdStartSpec or None
        What the pool says.
    hardware : HardwareSpec
        Profile of its accelerators.
    accelerators : int
        Accelerators of the replica.
    weight_bytes : float
        Weights on one accelerator [B].

    """
    if start is None:
        return 0.0
    bandwidth = start.bandwidth
    if start.source == "network" and hardware.scale_out is not None:
        bandwidth = min(bandwidth, accelerators * hardware.scale_out.bandwidth.value)
    return cold_start_s(accelerators * weight_bytes, bandwidth, start.fixed)
