"""One measured system in the words of the library: what was served on what, how it was driven, and what was asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sim.serving.kv_cache import Formats
from sim.specs.fleet import ParallelismSpec
from sim.specs.hardware import HardwareSpec
from sim.specs.model import ModelSpec

LoadKind = Literal["closed", "open", "offline", "batch", "limits"]


class UnmappedError(ValueError):
    """Raised for a run that the simulator cannot represent; says why."""


@dataclass(frozen=True)
class Load:
    """How a system was driven."""

    kind: LoadKind
    """`closed`: users who wait for their answer; `open`: requests at a rate; `offline`: all at once; `batch`: one
    batch of equal requests; `limits`: the highest rate that keeps the limits on TTFT and TPOT."""

    amount: float
    """Users, requests/s, or sequences in the batch, of the whole system."""

    ttft_limit_s: float = math.inf
    """Limit on the 99th percentile of TTFT [s]."""

    tpot_limit_s: float = math.inf
    """Limit on the 99th percentile of TPOT [s]."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of the requests."""

    prompt_tokens: float
    """Mean prompt [tokens]."""

    output_tokens: float
    """Mean answer [tokens]."""

    shape: Literal["fixed", "uniform", "dataset"]
    """All equal, uniform in 0.8 to 1.0 of the nominal length, or those of a data set."""

    dataset: str = ""
    """Model whose MLPerf data set it is."""

    cached_tokens: float = 0.0
    """Part of the prompt that a prefix cache or another pool has computed already [tokens]."""


@dataclass(frozen=True)
class Speculation:
    """Drafts that the model checks several at a time."""

    drafts: int = 0
    """Tokens drafted for each step; 0 without speculation."""

    acceptance: float = 0.0
    """Probability that a draft is accepted, given that those before it are [1]."""

    draft_layers: float = 1.0
    """Layers of the drafting head or model, in layers of the model."""

    @property
    def tokens_per_step(self) -> float:
        """Return the mean tokens that a step gives, `(1 - a**(k+1)) / (1 - a)` (Leviathan et al., arXiv:2211.17192)."""
        if self.drafts == 0 or self.acceptance <= 0.0:
            return 1.0
        if self.acceptance >= 1.0:
            return self.drafts + 1.0
        return float((1.0 - self.acceptance ** (self.drafts + 1)) / (1.0 - self.acceptance))


@dataclass(frozen=True)
class PrefillPool:
    """Replicas that compute prompts for others to continue."""

    parallelism: ParallelismSpec
    """Layout of one of them."""

    replicas: int
    """Number of them."""


@dataclass(frozen=True)
class System:
    """One measured system in the words of the library."""

    hardware: HardwareSpec
    """Accelerator."""

    model: ModelSpec
    """Model."""

    formats: Formats
    """Number formats."""

    parallelism: ParallelismSpec
    """Layout of one replica."""

    replicas: int
    """Replicas behind one load balancer."""

    framework: str
    """Framework family: `vllm`, `sglang`, `trtllm`, `neuron`, `vllm-2023`, or `shared` where it is not known."""

    load: Load
    """How it was driven."""

    lengths: Lengths
    """What was asked."""

    regime: str
    """Regime as the source has it."""

    accelerator_name: str
    """Accelerator as written."""

    model_name: str
    """Model as written."""

    source: str
    """Source as written."""

    client: str = ""
    """Benchmark client, whose clock and transport are part of first tokens."""

    prefill: PrefillPool | None = None
    """Pool of its own that computes prompts; none where replicas do both."""

    speculation: Speculation = Speculation()
    """How answers are drafted."""
