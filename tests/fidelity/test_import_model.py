"""Configurations of checkpoints become the models that the library has already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from sim.fidelity.import_model import architecture_of, import_model
from sim.serving.parameter_counts import parameter_counts
from sim.specs.errors import InputError
from sim.specs.library import Library, builtin_root
from sim.specs.model import ArchitectureSpec, ModelSpec

LIBRARY = Library((builtin_root(),))


def dense(layers: int, hidden: int, heads: int, kv: int, width: int, vocabulary: int, context: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": 128,
        "intermediate_size": width,
        "vocab_size": vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
    }


LATENT = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama-3.1-70b": dense(80, 8192, 64, 8, 28672, 128256, 131072) | {"model_type": "llama"},
    "qwen3-32b": dense(64, 5120, 64, 8, 25600, 151936, 40960) | {"model_type": "qwen3"},
    "mixtral-8x7b": dense(32, 4096, 32, 8, 14336, 32000, 32768) | {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3-235b-a22b": dense(94, 4096, 64, 4, 12288, 151936, 40960)
    | {"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "mlp_only_layers": []},
    "minimax-m2": dense(62, 3072, 48, 8, 1536, 200064, 196608) | {"num_local_experts": 256, "num_experts_per_tok": 8},
    "deepseek-r1": dense(61, 7168, 128, 128, 18432, 129280, 163840)
    | LATENT
    | {"n_routed_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1,
       "first_k_dense_replace": 3},
    "kimi-k2": dense(61, 7168, 64, 64, 18432, 163840, 131072)
    | LATENT
    | {"n_routed_experts": 384, "num_experts_per_tok": 8, "moe_intermediate_size": 2048, "n_shared_experts": 1,
       "first_k_dense_replace": 1},
    "glm-4.5-355b-a32b": dense(92, 5120, 96, 8, 12288, 151552, 131072)
    | {"n_routed_experts": 160, "num_experts_per_tok": 8, "moe_intermediate_size": 1536, "n_shared_experts": 1,
       "first_k_dense_replace": 3},
    "gpt-oss-120b": dense(36, 2880, 64, 8, 2880, 201088, 131072)
    | {"model_type": "gpt_oss", "head_dim": 64, "num_local_experts": 128, "num_experts_per_tok": 4,
       "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 18,
       "quantization_config": {"quant_method": "mxfp4"}},
    "gemma-3-27b": dense(62, 5376, 32, 16, 21504, 262208, 131072)
    | {"model_type": "gemma3_text", "sliding_window": 1024, "sliding_window_pattern": 6, "tie_word_embeddings": True},
    "llama-4-maverick-400b-a17b": dense(48, 5120, 40, 8, 8192, 202048, 1048576)
    | {"num_local_experts": 128, "num_experts_per_tok": 1, "intermediate_size_mlp": 16384,
       "interleave_moe_layer_step": 2, "attention_chunk_size": 8192, "no_rope_layers": [1, 1, 1, 0] * 12},
    "qwen3.5-397b-a17b": dense(60, 4096, 32, 2, 0, 248320, 262144)
    | {"head_dim": 256, "attn_output_gate": True, "full_attention_interval": 4, "linear_num_key_heads": 16,
       "linear_num_value_heads": 64, "linear_key_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 512,
       "num_experts_per_tok": 10, "moe_intermediate_size": 1024, "shared_expert_intermediate_size": 1024},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_configuration_gives_the_architecture_of_the_library(name: str) -> None:
    ours = LIBRARY.model(name).spec.architecture
    imported = ArchitectureSpec.model_validate(architecture_of(CONFIGS[name]))
    assert imported.attention == ours.attention
    assert (imported.dense, imported.moe) == (ours.dense, ours.moe)
    assert parameter_counts(imported) == parameter_counts(ours)
    assert imported.context_length == ours.context_length


def test_a_mixture_of_experts_without_dense_layers_needs_no_dense_width() -> None:
    config = {key: value for key, value in CONFIGS["qwen3.5-397b-a17b"].items() if key != "intermediate_size"}
    assert architecture_of(config) == architecture_of(CONFIGS["qwen3.5-397b-a17b"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"index_topk": 2048}, "an index of the context"),
        ({"compress_ratios": [4]}, "compressed context"),
        ({"hybrid_override_pattern": "ME*"}, "state-space models"),
        ({"block_configs": [{}]}, "a shape of their own"),
        ({"num_key_value_heads": [8, 4]}, "cannot be represented"),
    ],
)
def test_what_cannot_be_represented_is_refused_and_never_taken_for_something_else(
    tmp_path: Path, changes: dict[str, Any], expected: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIGS["deepseek-r1" if "num" not in str(changes) else "qwen3-32b"] | changes))
    with pytest.raises(InputError, match=expected):
        import_model(path, "mine")


def test_the_file_that_is_written_is_a_model(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"text_config": CONFIGS["gpt-oss-120b"], "model_type": "wrapper"}))
    text, said = import_model(path, "mine")
    spec = ModelSpec.model_validate(yaml.safe_load(text))
    assert spec.formats.experts == "fp4"
    assert spec.stated.total_parameters.value == pytest.approx(116.83e9, rel=1e-3)
    assert any("36,864 B of KV" in line for line in said)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "cannot be read"),
        ("[]", "holds no JSON object"),
        ("{}", "the key is missing"),
        (json.dumps(CONFIGS["qwen3-32b"] | {"layer_types": ["mamba"] * 64}), "layers of kind mamba"),
    ],
)
def test_what_cannot_be_imported_is_told(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        import_model(path, "mine")
