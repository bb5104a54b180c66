"""Rows filled up to a graph's shape train as the rows themselves."""

from __future__ import annotations

import pytest
import torch
from PIL import Image, ImageDraw

from ocrsmith.model.lora import OcrPeftModel, add_lora
from ocrsmith.model.processing import Encoded, OcrProcessor
from ocrsmith.model.weights import load_model, load_processor
from ocrsmith.settings.lora import LoraSettings
from ocrsmith.training.micro_step import MicroStep, Shape, _Static


@pytest.fixture(scope="module")
def processor() -> OcrProcessor:
    return load_processor("nano")


@pytest.fixture(scope="module")
def samples(processor: OcrProcessor) -> list[Encoded]:
    encoded = []
    for text in ("one", "another line"):
        image = Image.new("RGB", (200, 30), "white")
        ImageDraw.Draw(image).text((8, 8), text, fill="black")
        encoded.append(processor.encode([image], text=text))
    return encoded


@pytest.fixture
def model() -> OcrPeftModel:
    torch.manual_seed(0)
    peft = add_lora(load_model("nano"), LoraSettings(r=4)).train()
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    return peft


def test_shapes_are_filled_up_to_few() -> None:
    assert Shape.of([310] * 8, 248) == Shape(2560, 256, 16, 512)
    assert Shape.of([310] * 8, 249) == Shape.of([318] * 8, 256)
    assert Shape.of([256], 1) == Shape(256, 128, 8, 512)


def test_filling_up_changes_neither_loss_nor_gradients(
    model: OcrPeftModel, processor: OcrProcessor, samples: list[Encoded]
) -> None:
    base = model.get_base_model()
    batch = processor.collate_packed(samples)
    with torch.no_grad():
        features = base.encode_images(batch["views"], batch["image_layouts"])
    factor = torch.tensor(1 / batch["label_rows"].numel())
    step = MicroStep(base)
    assert not step.graphs  # on a CPU nothing is replayed
    step.begin()
    loss = step(batch, features, factor)
    plain = [parameter.grad.clone() for parameter in step.trained if parameter.grad is not None]
    step.begin()
    shape = Shape.of(batch["sequence_lengths"], batch["label_rows"].numel())
    assert shape.tokens > sum(batch["sequence_lengths"])
    static = _Static(shape, base)
    for _ in range(2):  # what an earlier micro-batch left is overwritten
        step.begin()
        static.fill(batch, features, factor)
        filled = static.run(base)
    torch.testing.assert_close(filled, loss, rtol=1e-5, atol=0)
    ours = [parameter.grad for parameter in step.trained if parameter.grad is not None]
    assert len(ours) == len(plain) == len(step.trained)
    for mine, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


def test_a_learning_encoder_gets_its_gradients(processor: OcrProcessor, samples: list[Encoded]) -> None:
    peft = add_lora(load_model("nano"), LoraSettings(r=2, targets=("attention", "vision"))).train()
    step = MicroStep(peft.get_base_model())
    batch = processor.collate_packed(samples)
    step.begin()
    step(batch, None, torch.tensor(1.0))
    learned = [name for name, p in peft.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert any("sam_model" in name for name in learned)
