"""What is measured on: two workloads, three model sizes, random weights that route evenly.

L is a text line of 400×64 pixels: 310 tokens, 31 of them learned. P is an A4 page at 150 dpi, read as 2×3
tiles and a global view: 1,910 tokens, 1,001 of them learned. Smaller models take them with fewer pixels where
said (`Workload.mode`); the tokens of the answer are the same.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from ocrsmith.images.resize import ModeName
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.experts import Router
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_processor, read_config, resolve_model

Size = Literal["3b", "nano", "tiny"]
COMMON_TOKENS, COMMON_DIRECTIONS = 2048, 16
"""Of `balance_routers`: tokens it looks at, directions it takes out."""
FileKind = Literal["JPEG", "PNG"]
SIZES: tuple[Size, ...] = ("3b", "nano", "tiny")
PROMPT = "<image>\nOCR."
"""Five tokens in the tokenizer used here (nano's), as DeepSeek-OCR's own takes for its "Free OCR." prompt."""
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
"""Each is one token, and no two of them ever become one."""


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of sample."""

    name: str
    width: int
    height: int
    """Of the image file, in pixels."""
    labels: int
    """Tokens that are learned: those of the text, and the end of the sequence."""
    tokens: int
    """Of the whole sequence at full size."""
    quality: int = 90
    """Of the JPEG file."""

    def mode(self, size: Size) -> ModeName:
        """How the image is shown: gundam, but for lines the small models take the 512-pixel view."""
        return "tiny" if self.name == "L" and size != "3b" else "gundam"


WORKLOADS = {
    "L": Workload("L", 400, 64, labels=31, tokens=310),
    "P": Workload("P", 1240, 1754, labels=1001, tokens=1910),
}


# --- samples ----------------------------------------------------------------------------------------------


def draw(workload: Workload, seed: int, *, colour: bool = False) -> Image.Image:
    """A picture that costs what a scan costs: rows of strokes on paper, with noise.

    Args:
        workload: gives the size.
        seed: another one, another picture.
        colour: tinted paper; else the three channels are equal, as in most scans.
    """
    random = np.random.default_rng(seed)
    pixels = np.full((workload.height, workload.width), 245, np.int16)
    line = 30 if workload.name == "P" else workload.height
    for top in range(0, workload.height - line + 1, line):
        left = 8
        while left < workload.width - 24:
            width, height = int(random.integers(2, 9)), int(random.integers(line // 4, line // 2))
            start = top + line // 4 + int(random.integers(0, line // 8 + 1))
            pixels[start : start + height, left : left + width] = random.integers(10, 90)
            left += width + int(random.choice([2, 3, 9]))
    pixels += random.normal(0, 1.5, pixels.shape).astype(np.int16)
    grey = pixels.clip(0, 255).astype(np.uint8)
    channels = [grey, grey, (grey * 0.85).astype(np.uint8) if colour else grey]
    return Image.fromarray(np.stack(channels, axis=-1))


def encode_file(image: Image.Image, workload: Workload, kind: FileKind = "JPEG") -> bytes:
    """The picture as an image file in memory."""
    file = io.BytesIO()
    image.save(file, kind, **({"quality": workload.quality} if kind == "JPEG" else {}))
    return file.getvalue()


def text_of(workload: Workload, seed: int) -> str:
    """A random text of `labels` - 1 tokens; the end of the sequence is the last."""
    random = np.random.default_rng(seed + 10_000_019)
    return "".join(random.choice(list(LETTERS), workload.labels - 1))


def make_processor(size: Size, workload: Workload) -> OcrProcessor:
    """Prepares samples of the workload for a model of that size."""
    settings = ProcessingSettings(mode=workload.mode(size), prompt=PROMPT, max_length=8192)
    return OcrProcessor(load_processor("nano").tokenizer, settings)


def make_batches(size: Size, workload: Workload, batch: int, count: int, *, answers: bool = True) -> list[dict]:
    """Batches of samples as `OcrProcessor.collate` gives them; without answers they end with the prompt."""
    processor = make_processor(size, workload)
    side: Literal["right", "left"] = "right" if answers else "left"
    batches = []
    for number in range(count):
        seeds = range(number * batch, (number + 1) * batch)
        encoded = [
            processor.encode([draw(workload, seed)], text=text_of(workload, seed) if answers else None)
            for seed in seeds
        ]
        batches.append(processor.collate(encoded, padding_side=side))
    return batches


def write_dataset(folder: Path, workload: Workload, samples: int, kind: FileKind = "JPEG") -> None:
    """Builds a dataset folder of image files with the project's own command behind it."""
    from ocrsmith.datasets import BuildSettings, build_dataset

    source = folder.with_name(folder.name + "-source")
    source.mkdir(parents=True)
    with (source / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "text"])
        for seed in range(samples):
            name = f"{seed}.{'jpg' if kind == 'JPEG' else 'png'}"
            (source / name).write_bytes(encode_file(draw(workload, seed), workload, kind))
            rows.writerow([name, text_of(workload, seed)])
    build_dataset([source / "labels.csv"], folder, BuildSettings(splits="100/0/0", prompt=PROMPT))


# --- models -----------------------------------------------------------------------------------------------


def make_config(size: Size) -> OcrConfig:
    """The architecture of that size; `<image>` has the number that the tokenizer used here gives it."""
    if size == "nano":
        return read_config(resolve_model("nano"))
    image = int(load_processor("nano").tokens.image)
    if size == "3b":
        return OcrConfig(image_token_id=image)  # what the config leaves out is DeepSeek-OCR's
    return OcrConfig(
        image_token_id=image,
        language_config={
            "vocab_size": 7680,
            "hidden_size": 32,
            "intermediate_size": 48,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "n_routed_experts": 6,
            "n_shared_experts": 2,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 2048,
        },
        vision_config={
            "image_size": 512,
            "width": {
                "sam_vit_b": {
                    "width": 16,
                    "layers": 2,
                    "heads": 2,
                    "global_attn_indexes": [1],
                    "window_size": 8,
                    "downsample_channels": [16, 24],
                    "out_chans": 8,
                },
                "clip-l-14-224": {"width": 24, "layers": 1, "heads": 2, "image_size": 112},
            },
        },
    )


def make_model(
    size: Size, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu", seed: int = 0
) -> OcrModel:
    """A model with random weights, the same for the same seed, size, dtype and kind of device."""
    with torch.device("meta"):
        model = OcrModel(make_config(size))
    model = nn.Module.to(model, dtype).to_empty(device=device)
    fill_random(model, seed)
    model.config.dtype = dtype
    return model.eval()


@torch.no_grad()
def fill_random(model: OcrModel, seed: int = 0) -> None:
    """Weights under which tokens stay different from one another, so that they spread over the experts.

    Matrices keep the size of what passes through them. Embeddings and position tables are large: what is
    special in a token outweighs what attention mixes into all of them. Router rows are orthonormal, so that
    experts do not compete for the same tokens.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    routers = {id(module.weight) for module in model.modules() if isinstance(module, Router)}
    for name, parameter in model.named_parameters():
        if id(parameter) in routers:
            experts, hidden = parameter.shape
            noise = torch.randn(hidden, experts, generator=generator, device=device)
            parameter.copy_(torch.linalg.qr(noise)[0].t())
        elif parameter.ndim == 1 and ("norm" in name or ".neck." in name):
            parameter.fill_(1.0 if name.endswith("weight") else 0.0)
        elif parameter.ndim == 1 and name.endswith("bias"):
            parameter.zero_()
        else:
            free = parameter.ndim == 1 or "embed_tokens" in name or "pos" in name.rsplit(".", 2)[-2]
            fan_in = parameter.shape[-1] if parameter.ndim == 3 else parameter[0].numel()
            free = free or name.endswith(("pos_embed", "image_newline", "view_seperator", "class_embedding"))
            for part in parameter if parameter.ndim > 2 else [parameter]:  # a part at a time: less memory
                noise = torch.randn(part.shape, generator=generator, device=device)
                part.copy_(noise if free else noise * fan_in**-0.5)


@torch.no_grad()
def balance_routers(model: OcrModel, batch: dict[str, Any], dtype: torch.dtype | None = None) -> None:
    """Turns the router rows away from what the tokens of a batch have in common, layer after layer.

    Untrained layers give all tokens a few strong common directions; a router that sees them sends most tokens
    to the same experts. Trained ones have learned not to.

    Args:
        model: with weights of `fill_random`.
        batch: on the model's device.
        dtype: of autocast.
    """

    def turn(router: Any, arguments: tuple[Any, ...]) -> None:
        rows = router.weight.float()  # (experts, H)
        _, _, directions = torch.linalg.svd(arguments[0].float()[:COMMON_TOKENS], full_matrices=False)
        common = directions[: min(COMMON_DIRECTIONS, rows.shape[1] - rows.shape[0])]
        rows = rows - rows @ common.t() @ common
        router.weight.copy_(torch.linalg.qr(rows.t())[0].t())

    hooks = [m.register_forward_pre_hook(turn) for m in model.modules() if isinstance(m, Router)]
    _forward(model, batch, dtype)
    for hook in hooks:
        hook.remove()


@torch.no_grad()
def routing_balance(
    model: OcrModel, batch: dict[str, Any], dtype: torch.dtype | None = None
) -> dict[str, float]:
    """How evenly a batch spreads over the experts, to judge whether the weights are fit to be measured with.

    Returns:
        experts: of a layer; empty: those that get no token, mean over layers; largest: the most a single expert
        gets, in multiples of an even share, mean over layers.
    """
    counts: list[torch.Tensor] = []

    def count(module: nn.Module, _: Any, output: tuple[torch.Tensor, ...]) -> None:
        counts.append(torch.bincount(output[1].flatten(), minlength=output[0].shape[-1]).float())

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, Router)]
    _forward(model, batch, dtype)
    for hook in hooks:
        hook.remove()
    table = torch.stack(counts)  # (layers, experts)
    return {
        "experts": table.shape[1],
        "empty": (table == 0).sum(1).float().mean().item(),
        "largest": (table.max(1).values / table.mean(1)).mean().item(),
    }


def _forward(model: OcrModel, batch: dict[str, Any], dtype: torch.dtype | None) -> None:
    with torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not None):
        model(**{name: value for name, value in batch.items() if name != "attention_mask"}, use_cache=False)


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Moves a batch's tensors, those in `views` too."""
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, torch.Tensor):
            moved[name] = value.to(device, non_blocking=True)
        elif isinstance(value, dict):
            moved[name] = {key: part.to(device, non_blocking=True) for key, part in value.items()}
        else:
            moved[name] = value
    return moved
