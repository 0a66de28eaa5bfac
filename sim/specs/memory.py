"""What a pool keeps beyond running sequences: cached prefixes, memory of the host, and KV that moves between pools."""

from __future__ import annotations

from sim.specs.spec import Key, PositiveFraction, Spec
from sim.specs.units import PositiveBytes, PositiveBytesPerSecond, Seconds
from sim.specs.workload import WholeTokens


class HostMemorySpec(Spec):
    """Memory of the host that one replica may use, and the link to it."""

    size: PositiveBytes
    """Memory per replica [B]."""

    bandwidth: PositiveBytesPerSecond
    """One-way bandwidth between the accelerators of a replica and the host, all of them together [B/s]."""


class PrefixCacheSpec(Spec):
    """KV of finished requests that stays on a replica until it is the least recently used and its place is needed.

    A request finds at most the cached tokens of its trace, which are those that it shares with an earlier request;
    how many of them are still there depends on routing and load.
    """

    capacity_fraction: PositiveFraction = 1.0
    """Largest part of the KV memory that cached prefixes may fill; running sequences always go first [1]."""

    block: WholeTokens | None = None
    """Tokens that are kept or dropped together; none means the serving stack's KV block [tokens]."""

    host_memory: HostMemorySpec | None = None
    """Where blocks go that KV memory has no place for, and from where they are read again; none means that they are
    dropped."""


class HandOverSpec(Spec):
    """Disaggregation: this pool computes prompts only, and sends their KV to a pool that generates the answers."""

    to: Key
    """Pool that generates the answers; it takes no request from anywhere else. The ratio of the two pools'
    `replicas` is the ratio of prefill to decode."""

    bandwidth: PositiveBytesPerSecond
    """One-way bandwidth of the network at each replica that sends; its transfers wait for each other, while receivers
    take any number at once [B/s]."""

    latency: Seconds
    """Time of a transfer on top of its bytes over the bandwidth [s]."""
