"""Sizes from `config.json` in the original layout."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ocrsmith.errors import WeightsError
from ocrsmith.model.config import OcrConfig

from ..parity.tiny import original_config_values, tiny_config_values


def test_sizes_of_the_original() -> None:
    config = OcrConfig.from_dict(original_config_values())
    decoder, sam, clip = config.decoder_sizes, config.sam_sizes, config.clip_sizes
    assert (decoder.num_hidden_layers, decoder.hidden_size, decoder.head_dim) == (12, 1280, 128)
    assert (decoder.n_routed_experts, decoder.num_experts_per_tok, decoder.moe_intermediate_size) == (
        64,
        6,
        896,
    )
    assert (decoder.rope_theta, decoder.rms_norm_eps, decoder.norm_topk_prob) == (10000.0, 1e-6, False)
    assert (sam.width, sam.layers, sam.heads, sam.window_size, sam.image_size) == (768, 12, 12, 14, 1024)
    assert sam.global_attn_indexes == (2, 5, 8, 11)
    assert (clip.width, clip.layers, clip.heads, clip.grid) == (1024, 24, 16, 16)
    assert config.image_token_id == 128815
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, 1, 2)
    assert config.router_aux_loss_alpha == 0.0
    assert not config.tie_word_embeddings


def test_what_a_file_leaves_out_is_as_in_the_original() -> None:
    bare = OcrConfig(language_config={}, vision_config={}, projector_config={})
    full = OcrConfig.from_dict(original_config_values())
    assert bare.decoder_sizes == full.decoder_sizes
    assert bare.sam_sizes == full.sam_sizes
    assert bare.clip_sizes == full.clip_sizes


def test_generation_finds_its_sizes_at_the_top_level() -> None:
    config = OcrConfig.from_dict(tiny_config_values())
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (96, 32, 3)
    assert (config.num_attention_heads, config.num_key_value_heads) == (2, 2)


@pytest.mark.parametrize("values", [original_config_values(), tiny_config_values()], ids=["3B", "tiny"])
def test_writing_keeps_what_was_read(values: dict[str, Any], tmp_path: Path) -> None:
    OcrConfig.from_dict(values).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    forgotten = {"auto_map", "_name_or_path", "transformers_version", "torch_dtype", "architectures"}
    for key in values.keys() - forgotten:
        assert written[key] == values[key], key
    assert "auto_map" not in written  # it names remote code
    again = OcrConfig.from_pretrained(tmp_path)
    assert again.decoder_sizes == OcrConfig.from_dict(values).decoder_sizes


def test_reading_does_not_change_the_given_values() -> None:
    values = tiny_config_values()
    before = copy.deepcopy(values)
    OcrConfig.from_dict(values)
    assert values == before


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        ("language_config", {"num_attention_heads": 3}, "hidden_size 32 is not a multiple of its 3 heads"),
        ("language_config", {"num_experts_per_tok": 6}, "num_experts_per_tok 6 exceeds n_routed_experts 5"),
        ("language_config", {"hidden_size": 0}, "hidden_size 0 is not a positive number"),
        ("language_config", {"vocab_size": "96"}, "vocab_size '96' is not a positive number"),
        ("language_config", {"moe_intermediate_size": -8}, "moe_intermediate_size -8 is not a positive number"),
        ("language_config", {"use_mla": True}, "multi-head latent attention"),
        ("language_config", {"kv_lora_rank": 512}, "multi-head latent attention"),
        ("language_config", {"num_key_value_heads": 1}, "grouped-query attention"),
        ("language_config", {"topk_method": "noaux_tc"}, "topk_method 'noaux_tc' is not supported (greedy is)"),
        ("language_config", {"scoring_func": "sigmoid"}, "scoring_func 'sigmoid' is not supported"),
        (
            "language_config",
            {"rope_scaling": {"type": "yarn"}},
            "rope_scaling {'type': 'yarn'} is not",
        ),
        ("projector_config", {"projector_type": "downsample_mlp_gelu"}, "projector_type 'downsample_mlp_gelu'"),
    ],
)
def test_a_model_of_another_kind_is_refused(place: str, change: dict[str, Any], message: str) -> None:
    values = tiny_config_values()
    values[place].update(change)
    with pytest.raises(WeightsError) as caught:
        OcrConfig.from_dict(values)
    assert message in str(caught.value)
    assert caught.value.mend == "use the config.json that came with the weights"


def test_encoders_that_do_not_fit_together_are_refused() -> None:
    values = tiny_config_values()
    values["vision_config"]["width"]["clip-l-14-224"].update(width=40, heads=3)
    with pytest.raises(WeightsError) as caught:
        OcrConfig.from_dict(values)
    assert "SAM hands 24 channels to a CLIP of width 40" in caught.value.problem
    assert "CLIP's width 40 is not a multiple of its 3 heads" in caught.value.problem
