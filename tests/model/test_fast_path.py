"""The fast paths of training against the plain ones: same loss, same gradients of every adapter tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ocrsmith.model import kernels
from ocrsmith.model.fast_lora import LoraLinear
from ocrsmith.model.lora import OcrPeftModel, add_lora
from ocrsmith.model.loss import chunked_cross_entropy
from ocrsmith.model.processing import Encoded, OcrProcessor
from ocrsmith.model.weights import load_model, load_processor
from ocrsmith.settings.lora import LoraSettings

TEXTS = ("one", "a longer line of text", "2024-11-03")


@pytest.fixture(scope="module")
def processor() -> OcrProcessor:
    return load_processor("nano")


@pytest.fixture(scope="module")
def samples(processor: OcrProcessor) -> list[Encoded]:
    encoded = []
    for text in TEXTS:
        image = Image.new("RGB", (300, 40), "white")
        ImageDraw.Draw(image).text((8, 12), text, fill="black")
        encoded.append(processor.encode([image], text=text))
    return encoded


@pytest.fixture
def model() -> Iterator[OcrPeftModel]:
    """nano with an adapter that has an effect."""
    torch.manual_seed(0)
    peft = add_lora(load_model("nano"), LoraSettings(r=4))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    peft.train()
    return peft


def gradients(model: OcrPeftModel, *batches: dict[str, Any], items: int | None = None) -> tuple[float, dict]:
    """Loss and gradients, summed over the batches."""
    model.zero_grad(set_to_none=True)
    total = 0.0
    for batch in batches:
        loss: Tensor = model(**batch, use_cache=False, num_items_in_batch=items).loss
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def padded(processor: OcrProcessor, samples: list[Encoded]) -> dict[str, Any]:
    """The plain way: right-padded, logits for every token."""
    batch = processor.collate(samples)
    del batch["label_rows"]
    return batch


def assert_same(ours: tuple[float, dict], plain: tuple[float, dict], tolerance: float = 1e-5) -> None:
    assert ours[0] == pytest.approx(plain[0], rel=tolerance)
    assert ours[1].keys() == plain[1].keys()
    for name, gradient in plain[1].items():
        scale = gradient.abs().max().item()
        assert scale > 0, name
        torch.testing.assert_close(ours[1][name], gradient, rtol=tolerance, atol=tolerance * scale)


def test_a_packed_row_trains_as_a_padded_batch(
    model: OcrPeftModel, processor: OcrProcessor, samples: list[Encoded]
) -> None:
    items = sum(label != -100 for sample in samples for label in sample.labels or ())
    plain = gradients(model, padded(processor, samples), items=items)
    assert_same(gradients(model, processor.collate_packed(samples), items=items), plain)


def test_any_split_into_micro_batches_gives_the_steps_gradients(
    model: OcrPeftModel, processor: OcrProcessor, samples: list[Encoded]
) -> None:
    items = sum(label != -100 for sample in samples for label in sample.labels or ())
    whole = gradients(model, processor.collate_packed(samples), items=items)
    parts = [processor.collate_packed(samples[:1]), processor.collate_packed(samples[1:])]
    assert_same(gradients(model, *parts, items=items), whole)


@pytest.mark.parametrize("kind", ["selective", "full"])
def test_checkpointing_changes_no_gradient(
    kind: Any, model: OcrPeftModel, processor: OcrProcessor, samples: list[Encoded]
) -> None:
    batch = processor.collate_packed(samples)
    plain = gradients(model, batch)
    model.get_base_model().set_checkpointing(kind)
    assert_same(gradients(model, batch), plain)


def test_a_loop_over_experts_gives_the_same_gradients(
    model: OcrPeftModel, processor: OcrProcessor, samples: list[Encoded]
) -> None:
    batch = processor.collate_packed(samples)
    plain = gradients(model, batch)
    with kernels.using(experts="loop"):
        assert_same(gradients(model, batch), plain)


def test_half_precision_follows_the_single_precision_loss(
    processor: OcrProcessor, samples: list[Encoded]
) -> None:
    """Fifty steps of nano on three samples: bfloat16 base and float32 adapter against float32 throughout."""
    batch = processor.collate_packed(samples)
    curves = {}
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        model = add_lora(load_model("nano", dtype=dtype), LoraSettings(r=4)).train()
        with torch.no_grad():
            features = model.get_base_model().encode_images(batch["views"], batch["image_layouts"])
        inputs = {k: v for k, v in batch.items() if k not in ("views", "image_layouts")}
        trained = [p for p in model.parameters() if p.requires_grad]
        assert {p.dtype for p in trained} == {torch.float32}
        optimizer = torch.optim.AdamW(trained, lr=2e-3)
        losses = []
        for _ in range(50):
            loss = model(**inputs, image_features=features, use_cache=False).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        curves[dtype] = torch.tensor(losses)
    single, half = curves.values()
    assert single[-5:].mean() < single[0] * 0.5
    assert (single - half).abs().max() < 0.15 * single[0]


# --- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_chunks_of_rows_have_the_cross_entropy_of_all(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ocrsmith.model.loss.CHUNK_BYTES", 4 * 50 * 5)  # five rows a chunk
    weight, targets = torch.randn(50, 12), torch.randint(0, 50, (rows,))
    hidden = torch.randn(rows, 12, requires_grad=True)
    plain = nn.functional.cross_entropy(hidden @ weight.t(), targets, reduction="sum")
    ours = chunked_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(ours, plain)
    (mine,), (theirs,) = (torch.autograd.grad(loss / 3, [hidden]) for loss in (ours, plain))
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [False, True])
def test_lora_linear_is_pefts(bias: bool) -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora.layer import Linear

    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(12, 20, bias=bias)).requires_grad_(False)
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    config._register_custom_module({nn.Linear: LoraLinear})
    layer: Any = inject_adapter_in_model(config, net)[0]
    assert type(layer) is LoraLinear
    x = torch.randn(2, 5, 12, requires_grad=True)
    leaves = [x, layer.lora_A["default"].weight, layer.lora_B["default"].weight]
    cotangent = torch.randn(2, 5, 20)
    ours = [layer(x), *torch.autograd.grad(layer(x), leaves, cotangent)]
    theirs = [Linear.forward(layer, x), *torch.autograd.grad(Linear.forward(layer, x), leaves, cotangent)]
    for mine, plain in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5)
