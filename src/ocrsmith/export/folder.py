"""The rest of a model folder that vLLM, transformers and ocrsmith load without remote code.

Beside the weights: the tokenizer with a rule that sets the first token, greedy generation settings, and our own
processing and decoding settings, so that whoever loads the folder prepares pages as training did.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import torch

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.errors import WeightsError
from ocrsmith.model.adapter_files import Pairs
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.lora import DECODING_FILE
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.settings.files import write_text

VLLM_MAX_TILES = 6
"""vLLM's DeepSeek-OCR cuts a page into at most so many tiles, whatever the folder says (vLLM 0.32)."""
VLLM_RANK = 16
"""Largest rank that vLLM takes unless told otherwise (vLLM 0.32)."""
LANGUAGE = "model.layers."
"""How the modules of the language part begin."""


def vllm_config(config: OcrConfig, dtype: torch.dtype) -> OcrConfig:
    """A copy with all that vLLM asks of `config.json`, for weights in this dtype."""
    config = copy.deepcopy(config)
    for name, value in (("tile_tag", "2D"), ("global_view_pos", "head")):
        if getattr(config, name, None) is None:
            setattr(config, name, value)
    config.projector_config = {"projector_type": "linear", **config.projector_config}
    config.dtype = dtype
    return config


def complete_folder(folder: Path, processor: OcrProcessor, decoding: DecodingSettings) -> None:
    """Writes what stands beside weights and config, but the card.

    Args:
        folder: the caller's.
        processor: as the adapter or the base has it.
        decoding: likewise.

    Raises:
        WeightsError: the tokenizer has a rule for its first token that is not bos.
        OutputError: a file cannot be written.
    """
    processor.save_pretrained(folder)
    tokenizer = folder / "tokenizer.json"
    rules = json.loads(tokenizer.read_text(encoding="utf-8"))
    bos = str(processor.tokenizer.bos_token)
    changed = with_bos_rule(rules, bos, processor.tokens.bos)
    if changed != rules:
        write_text(tokenizer, json.dumps(changed, ensure_ascii=False))
    tokens = {"bos_token_id": processor.tokens.bos, "eos_token_id": processor.tokens.eos}
    generation = {**tokens, "pad_token_id": processor.tokens.pad, "do_sample": False, "temperature": 0.0}
    # vLLM takes a request's missing temperature from here; its own default would sample
    write_text(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")
    write_text(folder / DECODING_FILE, json.dumps(decoding.model_dump(mode="json"), indent=2) + "\n")


def with_bos_rule(tokenizer: dict[str, Any], bos: str, bos_id: int) -> dict[str, Any]:
    """A tokenizer.json whose texts begin with bos.

    vLLM on transformers 5 does not read `add_bos_token` of tokenizer_config.json; without the rule, prompts
    that are sent as text lack the token that every training sample began with.

    Args:
        tokenizer: content of tokenizer.json; not changed.
        bos: the token, `bos_id` its id.

    Raises:
        WeightsError: there is a template that begins with another token.
    """
    present = tokenizer.get("post_processor")
    rules = present.get("processors", []) if present and present.get("type") == "Sequence" else [present]
    templates = [rule for rule in rules if rule and rule.get("type") == "TemplateProcessing"]
    if templates:
        first = next(iter(templates[0].get("single") or [{}]))
        if first.get("SpecialToken", {}).get("id") == bos:
            return tokenizer
        raise WeightsError(
            f"The tokenizer's template begins a text with {first}, not with {bos!r}.",
            place="tokenizer.json",
            mend="take both tokenizer files from the model's own folder",
        )
    begin = {"SpecialToken": {"id": bos, "type_id": 0}}
    text, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    template = {
        "type": "TemplateProcessing",
        "single": [begin, text],
        "pair": [begin, text, begin, second],
        "special_tokens": {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}},
    }
    kept = [rule for rule in rules if rule]
    post_processor = {"type": "Sequence", "processors": [*kept, template]} if kept else template
    return {**tokenizer, "post_processor": post_processor}


def vllm_notes(processor: OcrProcessor) -> list[str]:
    """Where vLLM will prepare pages otherwise than training did; a sentence each."""
    settings = processor.settings
    notes = []
    if settings.mode == "gundam" and settings.max_tiles > VLLM_MAX_TILES:
        notes.append(
            f"vLLM uses at most {VLLM_MAX_TILES} tiles; this model was set to {settings.max_tiles}. Pages that "
            "take more are cut otherwise there. Train with max_tiles 6 if they matter."
        )
    return notes


def adapter_notes(pairs: Pairs) -> list[str]:
    """What who applies the adapter with vLLM must know; a sentence each."""
    notes = []
    outside = sorted({place.module.split(".")[1] for place in pairs if not place.module.startswith(LANGUAGE)})
    if outside:
        notes.append(
            f"vLLM applies LoRA to the language part alone; this adapter also changes {', '.join(outside)}. "
            "Merge it into the base for vLLM."
        )
    rank = max(a.shape[0] for a, _ in pairs.values())
    if rank > VLLM_RANK:
        notes.append(
            f"Its rank is {rank}: vLLM needs a `--max-lora-rank` of at least that (default {VLLM_RANK})."
        )
    return notes
