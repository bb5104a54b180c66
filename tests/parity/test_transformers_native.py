"""Parity with transformers' own `UnlimitedOcr`: the same encoder and decoder, written by others.

Its decoder adds a sliding window, here wider than any sequence. Random weights and an explicit config, so that
nothing has to be downloaded: this oracle is there wherever the tests run.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import UnlimitedOcrConfig, UnlimitedOcrForConditionalGeneration

from ocrsmith.model.attention import CausalAttention
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.vision import normalise

from .tiny import IMAGE_TOKEN, image_tokens, random_views, relative_difference, tiny_config_values, tiny_model

Layout = tuple[int, int, int, int]

# Decoder names that differ in place, not in spelling; both encoders' blocks are mapped in `ours`.
PREFIXES = {
    "model.language_model.": "model.",
    "model.vision_tower.sam_encoder.layers.": "model.sam_model.blocks.",
    "model.vision_tower.sam_encoder.": "model.sam_model.",
    "model.vision_tower.vision_encoder.encoder.": "model.vision_model.transformer.",
    "model.vision_tower.vision_encoder.": "model.vision_model.",
    "model.multi_modal_projector.": "model.projector.layers.",
}
SPELLINGS = {
    "patch_embed.projection.": "patch_embed.proj.",
    "neck.conv1.": "neck.0.",
    "neck.layer_norm1.": "neck.1.",
    "neck.conv2.": "neck.2.",
    "neck.layer_norm2.": "neck.3.",
    "sam_model.proj.conv1.": "sam_model.net_2.",
    "sam_model.proj.conv2.": "sam_model.net_3.",
    "view_separator": "view_seperator",
}


def ours(name: str) -> str:
    """The name of transformers' parameter in the original checkpoint, as far as it is one to one."""
    for old, new in PREFIXES.items():
        if name.startswith(old):
            name = new + name.removeprefix(old)
            break
    for old, new in SPELLINGS.items():
        name = name.replace(old, new)
    if name.startswith("model.sam_model.blocks."):
        name = name.replace("layer_norm", "norm")
    return name


def in_their_layout(name: str, tensors: dict[str, Tensor]) -> Tensor:
    """The tensor that belongs into transformers' parameter `name`: split or stacked where theirs is so."""
    target = ours(name)
    if target in tensors:
        return tensors[target]
    if ".self_attn." in target:  # CLIP: one matrix for queries, keys and values
        head, part = target.rsplit(".", 2)[0], target.rsplit(".", 2)[1:]
        index = ["q_proj", "k_proj", "v_proj"].index(part[0])
        return tensors[f"{head}.qkv_proj.{part[1]}"].chunk(3)[index]
    stem = target.removesuffix("gate_up_proj")
    return torch.cat([tensors[f"{stem}gate_proj"], tensors[f"{stem}up_proj"]], dim=1)


def their_config() -> UnlimitedOcrConfig:
    values = tiny_config_values()
    language, widths = values["language_config"], values["vision_config"]["width"]
    sam, clip = widths["sam_vit_b"], widths["clip-l-14-224"]
    names = (
        "vocab_size hidden_size intermediate_size moe_intermediate_size num_hidden_layers num_attention_heads "
        "num_key_value_heads n_routed_experts n_shared_experts num_experts_per_tok max_position_embeddings"
    )
    text = {name: language[name] for name in names.split()}
    layers = language["num_hidden_layers"]
    return UnlimitedOcrConfig(
        image_token_id=IMAGE_TOKEN,
        text_config={
            **text,
            "mlp_layer_types": ["dense"] + ["sparse"] * (layers - 1),
            "sliding_window": 10**6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
            "pad_token_id": None,
        },
        vision_config={
            "sam_config": {
                "hidden_size": sam["width"],
                "output_channels": sam["out_chans"],
                "num_hidden_layers": sam["layers"],
                "num_attention_heads": sam["heads"],
                "image_size": values["vision_config"]["image_size"],
                "window_size": sam["window_size"],
                "global_attn_indexes": sam["global_attn_indexes"],
                "mlp_dim": 4 * sam["width"],
                "downsample_channels": sam["downsample_channels"],
            },
            "encoder_config": {
                "hidden_size": clip["width"],
                "intermediate_size": 4 * clip["width"],
                "num_hidden_layers": clip["layers"],
                "num_attention_heads": clip["heads"],
                "image_size": clip["image_size"],
                "patch_size": clip["patch_size"],
            },
        },
        attn_implementation="sdpa",
    )


@pytest.fixture
def model() -> OcrModel:
    return tiny_model(seed=1)


@pytest.fixture
def reference(model: OcrModel) -> UnlimitedOcrForConditionalGeneration:
    """transformers' model with the weights of `model`."""
    reference = UnlimitedOcrForConditionalGeneration(their_config())
    tensors = dict(model.state_dict())
    state = reference.state_dict()
    for name, parameter in state.items():
        parameter.copy_(in_their_layout(name, tensors))
    unused = "model.vision_model.embeddings.patch_embedding.weight"
    assert sum(p.numel() for p in reference.parameters()) == sum(
        p.numel() for name, p in model.named_parameters() if name != unused
    )
    return reference.eval()


# --- blocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 128, 192, 320])
def test_sam_clip_and_projector(
    size: int, model: OcrModel, reference: UnlimitedOcrForConditionalGeneration
) -> None:
    views = random_views([(size, 0, 0, 0)] * 2, seed=size)[size]
    pixels = normalise(views)
    tower = reference.model.vision_tower
    with torch.no_grad():
        sam = model.model.sam_model(pixels)
        assert relative_difference(sam, tower.sam_encoder(pixels).last_hidden_state) < 1e-5
        clip = model.model.vision_model(sam)
        assert relative_difference(clip, tower.vision_encoder(sam).last_hidden_state) < 1e-5
        expected = reference.model.multi_modal_projector(tower(pixels).last_hidden_state)
        assert relative_difference(model.model(views), expected) < 1e-5


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("part", ["sam", "clip", "decoder"])
def test_single_blocks(
    part: str, index: int, model: OcrModel, reference: UnlimitedOcrForConditionalGeneration
) -> None:
    generator = torch.Generator().manual_seed(index)
    tower, text = reference.model.vision_tower, reference.model.language_model
    theirs: nn.Module
    mine: nn.Module
    if part == "decoder":
        x = torch.randn(2, 7, 32, generator=generator)
        mine, theirs = model.model.layers[index], text.layers[index]
        rotary = text.rotary_emb(x, torch.arange(7)[None])
        with torch.no_grad():
            actual = mine(x, tuple(table[:, :, None] for table in rotary), CausalAttention(None), None)
            causal = torch.ones(7, 7).tril().bool()[None, None]
            expected = theirs(x, attention_mask=causal, position_embeddings=rotary)
    else:
        if part == "sam":
            mine, theirs = model.model.sam_model.blocks[index], tower.sam_encoder.layers[index]
            x = torch.randn(2, 8, 5, 16, generator=generator)  # not square, and no multiple of the window
        else:
            blocks = model.model.vision_model.transformer.layers
            index %= len(blocks)
            mine, theirs = blocks[index], tower.vision_encoder.encoder.layers[index]
            x = torch.randn(2, 9, 24, generator=generator)
        with torch.no_grad():
            actual = mine(x)
            expected = theirs(x) if part == "sam" else theirs(x, None)
    assert relative_difference(actual, expected) < 1e-5


def test_router_chooses_the_same_experts_with_the_same_weights(
    model: OcrModel, reference: UnlimitedOcrForConditionalGeneration
) -> None:
    x = torch.randn(50, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        scores, indices, weights = model.model.layers[1].mlp.gate(x)
        logits, their_weights, their_indices = reference.model.language_model.layers[1].mlp.gate(x)
    order = their_weights.argsort(dim=-1, descending=True)
    torch.testing.assert_close(scores, logits.softmax(-1))
    assert torch.equal(indices, their_indices.gather(1, order))
    torch.testing.assert_close(weights, their_weights.gather(1, order))


# --- the whole model ---------------------------------------------------------------------------------------


def batch_of(layouts: list[Layout], seed: int = 0) -> dict[str, Any]:
    """A row for each image: bos, image, five prompt tokens, six of an answer; right padded."""
    generator = torch.Generator().manual_seed(seed)
    rows, labels = [], []
    for layout in layouts:
        text = torch.randint(3, 90, (11,), generator=generator).tolist()
        tokens = [0] + [IMAGE_TOKEN] * image_tokens(layout) + text
        rows.append(tokens)
        labels.append([-100] * (len(tokens) - 6) + text[-6:])
    length = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [2] * (length - len(row)) for row in rows]),
        "labels": torch.tensor([row + [-100] * (length - len(row)) for row in labels]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
        "views": random_views(layouts, seed),
        "image_layouts": layouts,
    }


def in_their_arguments(batch: dict[str, Any]) -> dict[str, Any]:
    layouts = batch["image_layouts"]
    tiles = {tile for _, tile, _, _ in layouts if tile}
    grids = [(columns, rows) for _, _, columns, rows in layouts]
    arguments = {
        **{name: batch[name] for name in ("input_ids", "labels", "attention_mask")},
        "pixel_values": normalise(batch["views"][layouts[0][0]]),
        "use_cache": False,
    }
    if tiles:
        arguments |= {
            "pixel_values_local": normalise(batch["views"][tiles.pop()]),
            "num_local_patches": [columns * rows for columns, rows in grids],
            "patches_grid": grids,
        }
    return arguments


SCENES: dict[str, list[Layout]] = {
    "one view": [(128, 0, 0, 0)],
    "tiles": [(192, 128, 2, 3)],
    "tiled and plain in one batch": [(192, 128, 3, 1), (192, 0, 0, 0), (192, 128, 1, 2)],
    "resized tables": [(256, 0, 0, 0), (256, 64, 2, 2)],
}
every_scene = pytest.mark.parametrize("layouts", SCENES.values(), ids=SCENES.keys())


@every_scene
def test_image_features_logits_and_loss(
    layouts: list[Layout], model: OcrModel, reference: UnlimitedOcrForConditionalGeneration
) -> None:
    batch = batch_of(layouts)
    with torch.no_grad():
        features = model.encode_images(batch["views"], batch["image_layouts"])
        actual = model(**batch)
        expected = reference(**in_their_arguments(batch))
    real = batch["attention_mask"].bool()
    assert relative_difference(features, torch.cat(expected.image_hidden_states)) < 1e-5
    assert relative_difference(actual.logits[real], expected.logits[real]) < 2e-5
    assert actual.loss.item() == pytest.approx(expected.loss.item(), abs=1e-5)


@every_scene
def test_all_gradients(
    layouts: list[Layout], model: OcrModel, reference: UnlimitedOcrForConditionalGeneration
) -> None:
    batch = batch_of(layouts, seed=3)
    model.train()(**batch).loss.backward()
    reference.train()(**in_their_arguments(batch)).loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for name, parameter in reference.named_parameters():
        assert parameter.grad is not None, name
        expected, actual = parameter.grad, in_their_layout(name, gradients)
        if expected.abs().max() < 1e-7:  # a key's bias moves no softmax: its gradient is noise around zero
            assert actual.abs().max() < 1e-6, name
        else:
            assert relative_difference(actual, expected) < 5e-5, name


def test_greedy_tokens(model: OcrModel, reference: UnlimitedOcrForConditionalGeneration) -> None:
    batch = batch_of([(192, 128, 2, 1)], seed=9)
    theirs = in_their_arguments(batch)
    for name in ("labels", "use_cache"):
        theirs.pop(name)
    mine = {name: value for name, value in batch.items() if name != "labels"}
    options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 2}
    assert torch.equal(model.generate(**mine, **options), reference.generate(**theirs, **options))
