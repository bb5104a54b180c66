"""A random model that vLLM runs and a CPU can bear: the published encoder, a small decoder and vocabulary.

Also the pages that it reads. Its texts make no sense, but they follow the pixels, so that two engines give the
same text only if they prepare and compute the same.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import save_model

VOCABULARY = 1024
CONTEXT = 2048
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<image>", "<td>", "</td>"]
TOKENS = 16
FREE = DecodingSettings(max_new_tokens=TOKENS, ngram_size=0)
FIRM = DecodingSettings(max_new_tokens=TOKENS, ngram_size=2, ngram_window=TOKENS)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, pairs of letters, and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*SPECIAL, *letters]
    ascii_letters = [letter for letter in letters if letter.isascii() and letter.isalpha()]
    pairs = [(a, b) for a in ascii_letters for b in ascii_letters][: VOCABULARY - len(vocabulary)]
    vocabulary += ["".join(pair) for pair in pairs]
    core = Tokenizer(models.BPE({word: place for place, word in enumerate(vocabulary)}, pairs))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )


def make_config(*, layers: int = 3, dense_layers: int = 1) -> OcrConfig:
    """The published encoder with a decoder of a few layers, the first of them without experts."""
    language = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": dense_layers,
        "hidden_size": 1280,
        "intermediate_size": 1792,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": CONTEXT,
        "moe_intermediate_size": 256,
        "n_group": 1,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_attention_heads": 10,
        "num_experts_per_tok": 2,
        "num_hidden_layers": layers,
        "num_key_value_heads": 10,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": VOCABULARY,
    }
    return OcrConfig(
        language_config=language,
        vision_config={
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
        },
        projector_config={
            "projector_type": "linear",
            "input_dim": 2048,
            "n_embed": 1280,
            "model_type": "mlp_projector",
        },
        image_token_id=SPECIAL.index("<image>"),
        tile_tag="2D",
        global_view_pos="head",
        candidate_resolutions=[[1024, 1024]],
        torch_dtype="float32",
    )


def make_model(config: OcrConfig) -> OcrModel:
    """Random weights that let the pixels reach every answer."""
    torch.manual_seed(0)
    model = OcrModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02 if "sam_model" in name or "vision_model" in name else 0.05)
        model.model.projector.layers.weight.mul_(4)
        model.lm_head.weight[_unsaid()] = 0
    return model


def _unsaid() -> list[int]:
    """Ids that are never the likeliest, so that answers are ASCII: half characters are another matter."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [place for place, word in enumerate([*SPECIAL, *letters]) if not (word.isascii() and word.isalnum())]


def write_checkpoint(folder: Path, config: OcrConfig) -> Path:
    """Writes a model folder in hub layout."""
    save_model(make_model(config), folder)
    OcrProcessor(make_tokenizer(), ProcessingSettings(max_tiles=6)).save_pretrained(folder)
    return folder


def make_page(seed: int, width: int, height: int) -> bytes:
    """A PNG of random characters; one above 640 pixels along a side is cut into tiles."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    numbers = np.random.default_rng(seed)
    for top in range(10, height - 20, 30):
        draw.text((10, top), "".join(chr(number) for number in numbers.integers(48, 123, width // 8)), "black")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


PAGES = {
    "untiled": PageRequest("untiled", make_page(1, 400, 64)),
    "tiled": PageRequest("tiled", make_page(2, 700, 1300), "<image>\nRead."),
}
