"""Tiny random models in the original layout, and the original's own config, for tests without recordings."""

from __future__ import annotations

from typing import Any

import torch

from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel

IMAGE_TOKEN = 95


def tiny_config_values() -> dict[str, Any]:
    """A `config.json` in the layout of the hub's, of a model with about 50,000 parameters.

    Views of 128 pixels need no resizing of SAM's position tables, all others do. The window of 3 divides none.
    """
    language = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "moe_intermediate_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "n_routed_experts": 5,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 512,
        "topk_method": "greedy",
        "use_mla": False,
        "kv_lora_rank": None,
        "q_lora_rank": None,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return {
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {"AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM"},
        "model_type": "deepseek_vl_v2",
        "image_token_id": IMAGE_TOKEN,
        "tile_tag": "2D",
        "global_view_pos": "head",
        "candidate_resolutions": [[1024, 1024]],
        "language_config": language,
        "vision_config": {
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "image_size": 128,
            "mlp_ratio": 3.7362,
            "width": {
                "sam_vit_b": {
                    "width": 16,
                    "layers": 3,
                    "heads": 2,
                    "global_attn_indexes": [1],
                    "window_size": 3,
                    "out_chans": 12,
                    "downsample_channels": [20, 24],
                },
                "clip-l-14-224": {"width": 24, "layers": 2, "heads": 2, "image_size": 28, "patch_size": 7},
            },
        },
        "projector_config": {"projector_type": "linear", "input_dim": 48, "n_embed": 32},
        "torch_dtype": "bfloat16",
    }


def original_config_values() -> dict[str, Any]:
    """The `config.json` of DeepSeek-OCR (3B), as published."""
    language = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 1,
        "hidden_size": 1280,
        "intermediate_size": 6848,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": 8192,
        "moe_intermediate_size": 896,
        "n_group": 1,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "num_attention_heads": 10,
        "num_experts_per_tok": 6,
        "num_hidden_layers": 12,
        "num_key_value_heads": 10,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "torch_dtype": "bfloat16",
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": 129280,
    }
    return {
        "_name_or_path": "deepseek-ai/DeepSeek-OCR",
        "architectures": ["DeepseekOCRForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_deepseekocr.DeepseekOCRConfig",
            "AutoModel": "modeling_deepseekocr.DeepseekOCRForCausalLM",
        },
        "candidate_resolutions": [[1024, 1024]],
        "global_view_pos": "head",
        "language_config": language,
        "model_type": "deepseek_vl_v2",
        "projector_config": {
            "input_dim": 2048,
            "model_type": "mlp_projector",
            "n_embed": 1280,
            "projector_type": "linear",
        },
        "tile_tag": "2D",
        "torch_dtype": "bfloat16",
        "transformers_version": "4.46.3",
        "vision_config": {
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
            "width": {
                "clip-l-14-224": {
                    "heads": 16,
                    "image_size": 224,
                    "layers": 24,
                    "patch_size": 14,
                    "width": 1024,
                },
                "sam_vit_b": {
                    "downsample_channels": [512, 1024],
                    "global_attn_indexes": [2, 5, 8, 11],
                    "heads": 12,
                    "layers": 12,
                    "width": 768,
                },
            },
        },
        **{key: value for key, value in language.items() if key not in ("architectures", "torch_dtype")},
    }


def tiny_model(seed: int = 0, **changes: Any) -> OcrModel:
    """A model of `tiny_config_values` in evaluation mode, every parameter random and large enough to matter."""
    model = OcrModel(OcrConfig.from_dict({**tiny_config_values(), **changes}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            if name.endswith(("gate_proj", "up_proj", "down_proj")):  # fused experts: (expert, out, in)
                fan_in = parameter.shape[-1]
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.copy_(noise * 0.2 + (1.0 if "norm" in name and name.endswith("weight") else 0.0))
            else:
                parameter.copy_(noise if "embed" in name and "patch" not in name else noise * fan_in**-0.5)
    return model.eval()


def image_tokens(layout: tuple[int, int, int, int]) -> int:
    """Tokens of an image: a token for every 64 pixels, a newline a row, a separator."""
    view, tile, columns, rows = layout
    side, tile_side = view // 64, tile // 64
    tokens = side * (side + 1) + 1
    if columns:
        tokens += rows * tile_side * (columns * tile_side + 1)
    return tokens


def random_views(layouts: list[tuple[int, int, int, int]], seed: int = 0) -> dict[int, torch.Tensor]:
    """Random uint8 views for images of these layouts."""
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[int, int] = {}
    for view, tile, columns, rows in layouts:
        if columns:
            numbers[tile] = numbers.get(tile, 0) + columns * rows
        numbers[view] = numbers.get(view, 0) + 1
    return {
        size: torch.randint(0, 256, (number, size, size, 3), generator=generator, dtype=torch.uint8)
        for size, number in numbers.items()
    }


def relative_difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, as a fraction of the largest expected value."""
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    difference = (actual - expected).abs().max().item()
    return difference / scale if scale else difference
