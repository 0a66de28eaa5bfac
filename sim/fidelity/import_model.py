"""A model of the library from the config.json of a checkpoint on Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sim.serving.parameter_counts import parameter_counts
from sim.serving.roofline import kv_bytes_per_token, state_bytes_per_sequence
from sim.specs.errors import InputError, Problem
from sim.specs.model import ArchitectureSpec

_STRANGE = {
    "index_topk": "an index of the context",
    "compress_ratios": "compressed context",
    "hybrid_override_pattern": "state-space models",
    "block_configs": "a shape of their own each",
    "linear_attn_config": "linear attention of this kind",
}
"""Keys of layers that the architecture of the library cannot say -> what they are."""

_PUBLISHED = {
    "fp8": "fp8",
    "mxfp4": "bf16",
    "compressed-tensors": "bf16",
    "nvfp4": "fp4",
    "awq": "int4",
    "gptq": "int4",
}


def import_model(path: Path, name: str) -> tuple[str, list[str]]:
    """Return a model as YAML, and lines that say what was computed from it.

    Parameters
    ----------
    path : Path
        A config.json.
    name : str
        Name of the model in the library.

    Raises
    ------
    InputError
        No JSON object, an architecture that cannot be represented, or a key that is missing.

    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError([Problem(f"cannot be read: {error}", str(path))]) from None
    if not isinstance(config, dict):
        raise InputError([Problem("holds no JSON object", str(path))])
    text = config.get("text_config")
    shape = {**config, **text} if isinstance(text, dict) else config
    try:
        architecture = architecture_of(shape)
        spec = ArchitectureSpec.model_validate(architecture)
    except KeyError as error:
        remedy = "Is it the config.json of a language model?"
        raise InputError([Problem("the key is missing", str(path), str(error.args[0]), remedy=remedy)]) from None
    except (TypeError, ValueError) as error:
        raise InputError([Problem(f"cannot be represented: {error}", str(path))]) from None
    counts = parameter_counts(spec)
    document = {
        "kind": "model",
        "name": name,
        "title": str(config.get("_name_or_path") or name),
        "description": "Imported from the configuration of a checkpoint.",
        "vendor": "see the checkpoint",
        "license": "see the checkpoint",
        "formats": _formats(config, shape),
        "architecture": architecture,
        "stated": {
            "total_parameters": {
                "value": f"{counts.total / 1e9:.6g} Gparameters",
                "source": ["CONFIG"],
                "confidence": "derived",
                "note": "Computed from the architecture.",
            }
        },
        "sources": {"CONFIG": f"Configuration of the checkpoint: {path.name}, model_type {shape.get('model_type')}"},
    }
    said = [
        f"{counts.total / 1e9:.2f} billion parameters, {counts.active / 1e9:.2f} billion active",
        f"{kv_bytes_per_token(spec, 2.0):,.0f} B of KV per token in bf16",
        f"{state_bytes_per_sequence(spec, 2.0):,.0f} B of bounded state per sequence in bf16",
    ]
    return yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True), said


def architecture_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of a configuration, as YAML writes it.

    Parameters
    ----------
    config : mapping
        Configuration, that of the language model where there are several.

    Raises
    ------
    KeyError
        A key is missing.
    ValueError
        A kind of layer that cannot be represented.

    """
    strange = [f"{what} ({key})" for key, what in _STRANGE.items() if config.get(key)]
    if strange:
        raise ValueError("the library has no layers with " + ", ".join(strange))
    layers = int(config["num_hidden_layers"])
    result: dict[str, Any] = {
        "hidden_size": int(config["hidden_size"]),
        "vocabulary": int(config["vocab_size"]),
        "context_length": int(config["max_position_embeddings"]),
        "attention": _attention(config, layers),
    }
    if config.get("tie_word_embeddings", config.get("model_type", "").startswith("gemma")):
        result["tied_embeddings"] = True
    result |= _feed_forward(config, layers)
    return result | {"source": ["CONFIG"], "confidence": "published_spec"}


def _attention(config: Mapping[str, Any], layers: int) -> list[dict[str, Any]]:
    heads = int(config["num_attention_heads"])
    if config.get("kv_lora_rank"):
        return [
            {
                "kind": "mla",
                "layers": layers,
                "query_heads": heads,
                "query_rank": int(config.get("q_lora_rank") or 0),
                "kv_rank": int(config["kv_lora_rank"]),
                "nope_head_dim": int(config["qk_nope_head_dim"]),
                "rope_head_dim": int(config["qk_rope_head_dim"]),
                "value_head_dim": int(config["v_head_dim"]),
            }
        ]
    kinds = _layer_kinds(config, layers)
    grouped: dict[str, Any] = {
        "kind": "gqa",
        "query_heads": heads,
        "kv_heads": int(config.get("num_key_value_heads") or heads),
        "head_dim": int(config.get("head_dim") or config["hidden_size"] // heads),
    }
    if config.get("attn_output_gate"):
        grouped["output_gate"] = True
    if config.get("model_type") in ("gpt_oss", "qwen2"):
        grouped["biased"] = True
    groups = []
    for kind in ("full_attention", "sliding_attention", "linear_attention"):
        count = kinds.count(kind)
        if not count:
            continue
        if kind == "linear_attention":
            groups.append(
                {
                    "kind": "gated_delta_net",
                    "layers": count,
                    "key_heads": int(config["linear_num_key_heads"]),
                    "value_heads": int(config["linear_num_value_heads"]),
                    "head_dim": int(config["linear_key_head_dim"]),
                    "convolution_width": int(config["linear_conv_kernel_dim"]),
                }
            )
        else:
            window = {} if kind == "full_attention" else {"window": _window(config)}
            groups.append(
                {"kind": "gqa", "layers": count, **{k: v for k, v in grouped.items() if k != "kind"}, **window}
            )
    return groups


def _window(config: Mapping[str, Any]) -> int:
    return int(config.get("sliding_window") or config["attention_chunk_size"])


def _layer_kinds(config: Mapping[str, Any], layers: int) -> list[str]:
    """Return the kind of attention of every layer, from a list, a pattern, or one kind for all."""
    kinds = config.get("layer_types")
    if kinds:
        plain = {"chunked_attention": "sliding_attention"}
        found = [plain.get(str(kind), str(kind)) for kind in kinds]
        unknown = sorted(set(found) - {"full_attention", "sliding_attention", "linear_attention"})
        if unknown:
            raise ValueError(f"layers of kind {', '.join(unknown)}")
        return found
    no_rope = config.get("no_rope_layers")
    if no_rope and config.get("attention_chunk_size"):
        return ["sliding_attention" if rotary else "full_attention" for rotary in no_rope]
    pattern = config.get("sliding_window_pattern") or config.get("full_attention_interval")
    if pattern:
        other = "linear_attention" if config.get("full_attention_interval") else "sliding_attention"
        return ["full_attention" if (layer + 1) % int(pattern) == 0 else other for layer in range(layers)]
    return ["full_attention"] * layers


def _feed_forward(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    experts = next(
        (int(config[key]) for key in ("n_routed_experts", "num_local_experts", "num_experts") if config.get(key)), 0
    )
    if not experts:
        return {"dense": {"layers": layers, "intermediate_size": int(config["intermediate_size"])}}
    width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("n_shared_experts") or 0) * width
    shared = int(config.get("shared_expert_intermediate_size") or config.get("shared_intermediate_size") or shared)
    dense = int(config.get("first_k_dense_replace") or 0) + len(config.get("mlp_only_layers") or ())
    interval = int(config.get("interleave_moe_layer_step") or 1)
    dense_width = config["intermediate_size"] if dense else 0
    if config.get("intermediate_size_mlp"):  # Llama 4: one shared expert, and dense layers of their own width
        dense, dense_width, shared = layers - layers // interval, config["intermediate_size_mlp"], width
    moe: dict[str, Any] = {
        "layers": layers - dense,
        "experts": experts,
        "experts_per_token": int(config.get("num_experts_per_tok") or config["experts_per_token"]),
        "intermediate_size": width,
    }
    if shared:
        moe["shared_intermediate_size"] = shared
    if config.get("model_type") == "gpt_oss":
        moe["biased"] = True
    result: dict[str, Any] = {"moe": moe}
    if dense:
        result["dense"] = {"layers": dense, "intermediate_size": int(dense_width)}
    return result


def _formats(config: Mapping[str, Any], shape: Mapping[str, Any]) -> dict[str, Any]:
    quantised = config.get("quantization_config") or shape.get("quantization_config")
    method = str(quantised.get("quant_method", "")).lower() if isinstance(quantised, Mapping) else ""
    result: dict[str, Any] = {
        "weights": _PUBLISHED.get(method, "bf16"),
        "source": ["CONFIG"],
        "confidence": "published_spec",
    }
    if method == "mxfp4":
        result["experts"] = "fp4"
        result["expert_scales"] = {"block": 32, "scale": "1 B"}
    return result
