"""The sizes of the nano model: DeepSeek-OCR's architecture at 1/180 of its size."""

from __future__ import annotations

from ocrsmith.model.config import OcrConfig

VIEW_SIZE = 512
"""Nano is trained on the views of mode "tiny": 8 x 8 image tokens."""


def nano_config(vocab_size: int, image_token_id: int) -> OcrConfig:
    """The config that pretraining starts from; everything else is read from the saved `config.json`."""
    return OcrConfig(
        language_config={
            "vocab_size": vocab_size,
            "hidden_size": 256,
            "intermediate_size": 704,
            "moe_intermediate_size": 160,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "first_k_dense_replace": 1,
            "max_position_embeddings": 2048,
        },
        vision_config={
            "image_size": VIEW_SIZE,
            "width": {
                "sam_vit_b": {
                    "width": 256,
                    "layers": 6,
                    "heads": 4,
                    "global_attn_indexes": [2, 5],
                    "window_size": 8,
                    "out_chans": 128,
                    "downsample_channels": [192, 256],
                },
                "clip-l-14-224": {"width": 256, "layers": 3, "heads": 4, "image_size": 8, "patch_size": 1},
            },
        },
        projector_config={"projector_type": "linear", "input_dim": 512, "n_embed": 256},
        image_token_id=image_token_id,
    )
