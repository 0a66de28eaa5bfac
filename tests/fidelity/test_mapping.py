"""Runs in the words of their sources become systems of the library, or say why not."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from sim.fidelity.calibration import stacks_by_framework
from sim.fidelity.mapping import Mapper, fidelity_library
from sim.fidelity.points import DATA, MeasuredRun
from sim.fidelity.prediction import predict
from sim.fidelity.systems import UnmappedError
from sim.fidelity.wording import dataset, framework_family, speculation_of
from sim.specs.hardware import NumberFormat

Maker = Callable[..., MeasuredRun]
FP4, FP8, BF16 = NumberFormat.FP4, NumberFormat.FP8, NumberFormat.BF16
MAPPER = Mapper()


def test_a_plain_run(measured_run: Maker) -> None:
    system = MAPPER.system(measured_run())
    assert (system.hardware.name, system.model.name, system.framework) == ("h100-sxm", "llama-3.1-70b", "vllm")
    assert (system.parallelism.tensor, system.replicas) == (4, 1)
    assert (system.load.kind, system.load.amount) == ("closed", 16.0)
    assert (system.lengths.prompt_tokens, system.lengths.output_tokens, system.lengths.shape) == (1000, 200, "fixed")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("H100-SXM5-80GB", "h100-sxm"), ("H100 PCIe", "h100-pcie"),
        ("AMD Instinct MI300X", "mi300x"), ("trn2.48xlarge", "trainium2"), ("TPU v6e-8", "tpu-v6e"),
        ("GB200", "gb200-nvl72"), ("A100-80GB", "a100-sxm-80gb"), ("MI355X", "mi355x"), ("TPU-v7", "tpu-v7-ironwood"),
    ],
)  # fmt: skip
def test_accelerators_by_their_usual_names(measured_run: Maker, written: str, name: str) -> None:
    assert MAPPER.system(measured_run(accelerator=written)).hardware.name == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("MiniMax-M2.5", "minimax-m2"), ("Llama-3.1-8B-Instruct", "llama-3.1-8b"), ("DeepSeek-R1-0528", "deepseek-r1"),
        ("meta-llama/Llama-3.3-70B-Instruct-FP8", "llama-3.3-70b"), ("Llama-2-70B", "llama-2-70b"),
        ("nvidia/DeepSeek-R1-0528-FP4", "deepseek-r1"), ("Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3-235b-a22b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"), ("amd/Llama-3.3-70B-Instruct-MXFP4", "llama-3.3-70b"),
    ],
)  # fmt: skip
def test_models_by_their_usual_names(measured_run: Maker, written: str, name: str) -> None:
    assert MAPPER.system(measured_run(model=written)).model.name == name


def test_formats_follow_the_source_and_the_hardware(measured_run: Maker) -> None:
    def formats(**columns: str) -> tuple[NumberFormat, ...]:
        found = MAPPER.system(measured_run(**columns)).formats
        return found.weights, found.experts, found.kv, found.weight_arithmetic, found.expert_arithmetic

    assert formats(precision="") == (BF16, BF16, BF16, BF16, BF16)
    assert formats(precision="", model="Llama-2-70B", source="MLPerf v5.1", framework="TensorRT")[0] is FP8
    assert formats(precision="", model="Llama-2-70B", source="MLPerf v5.1", framework="", accelerator="B200")[0] is FP4
    assert formats(precision="fp4", accelerator="B200") == (FP4, FP4, FP8, FP4, FP4)
    assert formats(precision="fp8")[2] is BF16  # vLLM keeps KV in bf16 before Blackwell
    assert formats(precision="fp8", framework="trtllm 1.0")[2] is FP8
    assert formats(model="gpt-oss-120b", precision="mxfp4 weights") == (BF16, FP4, BF16, BF16, BF16)
    assert formats(model="gpt-oss-120b", precision="mxfp4 weights", accelerator="B200")[4] is FP8
    assert formats(model="DeepSeek-R1", precision="fp4", accelerator="B200")[:2] == (FP8, FP4)


def test_layouts(measured_run: Maker) -> None:
    wide = MAPPER.system(measured_run(model="DeepSeek-R1", tp="1", dp="1", ep="8", n_accel="8", accelerator="H200"))
    assert (wide.parallelism.tensor, wide.parallelism.data, wide.parallelism.expert) == (1, 8, 8)
    staged = MAPPER.system(measured_run(tp="1", pp="4", n_accel="8"))
    assert (staged.parallelism.pipeline, staged.replicas) == (4, 2)
    guessed = MAPPER.system(measured_run(tp="", n_accel="8", model="Llama-2-70B", source="MLPerf Inference v5.1"))
    assert guessed.parallelism.tensor * guessed.replicas == 8
    weights = 70e9 / guessed.parallelism.tensor
    assert weights < guessed.hardware.memory.usable.value


def test_a_decode_pool_of_its_own(measured_run: Maker) -> None:
    system = "H200 disagg prefill 1x(N=1,dpattn=True,ep=8) decode 3x(N=1,dpattn=True,ep=8)"
    found = MAPPER.system(measured_run(system=system, model="DeepSeek-R1", accelerator="H200", n_accel="4"))
    assert found.prefill is not None
    assert (found.prefill.replicas, found.prefill.parallelism.data) == (1, 8)
    assert (found.replicas, found.parallelism.data) == (3, 8)
    assert found.lengths.cached_tokens == found.lengths.prompt_tokens - 1


def test_loads(measured_run: Maker) -> None:
    assert MAPPER.system(measured_run(concurrency_or_rate="rate=8.5/s")).load.amount == 8.5
    assert MAPPER.system(measured_run(concurrency_or_rate="offline (all requests queued)")).load.kind == "offline"
    limited = measured_run(concurrency_or_rate="server", ttft_p99_limit_ms="2000", tpot_p99_limit_ms="200")
    load = MAPPER.system(limited).load
    assert (load.kind, load.ttft_limit_s, load.tpot_limit_s) == ("limits", 2.0, 0.2)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"accelerator": "Cerebras"}, "no hardware profile for 'Cerebras'"),
        ({"model": "Foo-1B"}, "no model for 'Foo-1B'"),
        ({"concurrency_or_rate": "production average"}, "a load worded 'production average'"),
        ({"concurrency_or_rate": "conc=0"}, "a load of"),
        ({"isl_mean": ""}, "length is not stated"),
        ({"spec_decode": "crystal ball"}, "speculative decoding worded"),
        ({"source": "MLPerf", "model": "Qwen3-32B"}, "lengths of the MLPerf set"),
    ],
)
def test_what_cannot_be_mapped_says_why(measured_run: Maker, columns: dict[str, str], reason: str) -> None:
    with pytest.raises(UnmappedError, match=reason):
        MAPPER.system(measured_run(**columns))


@pytest.mark.parametrize(
    ("text", "accelerator", "family"),
    [
        ("TensorRT 10.8, CUDA 12.8", "h100-sxm", "trtllm"), ("sglang 0.5.9", "h200-sxm", "sglang"),
        ("vLLM 0.9.0 ROCm 6.4", "mi300x", "vllm"), ("", "mi355x", "vllm"), ("", "b200-hgx", "trtllm"),
        ("vLLM ~0.2 (Splitwise, 2023)", "h100-sxm", "vllm-2023"), ("NxDI + vLLM", "trainium2", "neuron"),
        ("own", "trainium2", "shared"), ("LMDeploy 0.6", "h100-sxm", "shared"),
    ],
)  # fmt: skip
def test_framework_families(text: str, accelerator: str, family: str) -> None:
    assert framework_family(text, fidelity_library().hardware(accelerator).spec) == family


def test_every_file_of_the_room_is_valid_and_every_name_leads_somewhere() -> None:
    library = fidelity_library()
    for kind in ("hardware", "model", "serving_stack"):
        for name in library.names(kind):
            library.load(kind, name)
    known = {kind: library.names(kind) for kind in ("hardware", "model")}
    for line in (DATA / "names.csv").read_text().splitlines()[1:]:
        kind, _, name = line.split(",")
        assert name in known[kind], line


def test_data_set_lengths_are_those_of_the_benchmark() -> None:
    table = dataset("llama-3.1-405b")
    assert len(table) == 200
    assert sum(prompt for prompt, _ in table) / 200 == pytest.approx(9428.6, rel=0.02)
    assert dataset("qwen3-32b") == ()


@pytest.mark.parametrize(
    ("text", "drafts", "tokens"),
    [
        ("none (closed)", 0, 1.0), ("", 0, 1.0), ("MTP", 3, 2.95), ("mtp=1", 1, 1.8), ("EAGLE3 k=3", 3, 2.95),
        ("mtp 2 acceptance 0.7", 2, 2.19), ("mtp-3 accept_len=2.4", 3, 2.4),
    ],
)  # fmt: skip
def test_drafts_by_their_usual_words(text: str, drafts: int, tokens: float) -> None:
    found = speculation_of(text)
    assert found.drafts == drafts
    assert found.tokens_per_step == pytest.approx(tokens, abs=0.005)


@pytest.mark.parametrize("accelerator", sorted(fidelity_library().names("hardware")))
def test_every_accelerator_predicts_something_finite_in_every_format(measured_run: Maker, accelerator: str) -> None:
    """Formats that the part lacks are widened; only a part without bf16 cannot be predicted, and says so."""
    library = fidelity_library()
    for precision in ("bf16", "fp8", "fp4", "int8", ""):
        run = measured_run(
            accelerator=accelerator, model="gpt-oss-20b", precision=precision, osl_mean="20", tp="8", n_accel="8"
        )
        system = MAPPER.system(run)
        stack = stacks_by_framework(library, [system.framework])[system.framework]
        if BF16 not in system.hardware.peak:
            with pytest.raises(UnmappedError, match="bf16"):
                predict(system, stack)
            continue
        values = predict(system, stack).values
        assert all(0.0 < value < math.inf for value in values.values())


def test_every_model_maps_by_its_own_name(measured_run: Maker) -> None:
    for name in fidelity_library().names("model"):
        assert MAPPER.system(measured_run(model=name)).model.name == name
