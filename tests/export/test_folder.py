"""What an exported folder has besides weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import WeightsError
from ocrsmith.export.folder import adapter_notes, complete_folder, vllm_config, vllm_notes, with_bos_rule
from ocrsmith.model.adapter_names import Place
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import NANO_FOLDER, load_processor, read_config, write_config


def tokenizer(post_processor: Any = None) -> dict[str, Any]:
    words = {"<bos>": 0, "a": 1, "b": 2, "<other>": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if post_processor is not None:
        backend.post_processor = post_processor
    return dict(json.loads(backend.to_str()))


def ids(content: dict[str, Any]) -> list[int]:
    return list(Tokenizer.from_str(json.dumps(content)).encode("a b").ids)


@pytest.mark.parametrize("kind", ["none", "bytes", "sequence"])
def test_texts_begin_with_bos_whatever_the_tokenizer_had(kind: str) -> None:
    rules = {
        "none": None,
        "bytes": processors.ByteLevel(trim_offsets=False),
        "sequence": processors.Sequence([processors.ByteLevel(trim_offsets=True)]),
    }
    before = tokenizer(rules[kind])
    assert ids(before) == [1, 2]
    after = with_bos_rule(before, "<bos>", 0)
    assert ids(after) == [0, 1, 2]
    assert with_bos_rule(after, "<bos>", 0) == after, "once is enough"


def test_a_template_that_begins_otherwise_is_refused() -> None:
    other = processors.TemplateProcessing(single="<other> $A", special_tokens=[("<other>", 3)])
    with pytest.raises(WeightsError, match="begins a text with"):
        with_bos_rule(tokenizer(other), "<bos>", 0)


def test_the_folder_says_all_that_servers_ask_for(tmp_path: Path) -> None:
    decoding = DecodingSettings(max_new_tokens=100, ngram_size=20)
    write_config(tmp_path, vllm_config(read_config(NANO_FOLDER), torch.bfloat16))
    complete_folder(tmp_path, load_processor("nano"), decoding)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "deepseek_vl_v2"
    assert config["architectures"] == ["DeepseekOCRForCausalLM"]
    assert config["tile_tag"] == "2D"
    assert config["projector_config"]["projector_type"] == "linear"
    assert "auto_map" not in config
    assert config["dtype"] == "bfloat16"
    assert (tmp_path / "tokenizer_config.json").is_file()
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("x").ids[0] == 0
    assert json.loads((tmp_path / "ocrsmith_decoding.json").read_text())["ngram_size"] == 20
    generation = GenerationConfig.from_pretrained(tmp_path)
    assert (generation.do_sample, generation.temperature, generation.eos_token_id) == (False, 0.0, 1)


def test_more_tiles_than_vllm_takes_are_said() -> None:
    plain = load_processor("nano")
    many = OcrProcessor(plain.tokenizer, ProcessingSettings(mode="gundam", max_tiles=9))
    few = OcrProcessor(plain.tokenizer, ProcessingSettings(mode="gundam", max_tiles=6))
    assert "at most 6 tiles" in vllm_notes(many)[0]
    assert vllm_notes(few) == []


def test_what_vllm_does_not_apply_of_an_adapter_is_said() -> None:
    def pair(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros(rank, 8), torch.zeros(8, rank)

    plain = {Place("model.layers.0.self_attn.q_proj"): pair(16)}
    assert adapter_notes(plain) == []
    assert "projector" in adapter_notes({**plain, Place("model.projector.layers"): pair(4)})[0]
    assert "--max-lora-rank" in adapter_notes({Place("model.layers.1.mlp.experts", 3, "up_proj"): pair(32)})[0]
