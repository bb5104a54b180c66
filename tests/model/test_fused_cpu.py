"""The encoder's fused path on a CPU against the plain one: the same tokens and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ocrsmith.model import fused_cpu, relative_attention
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.weights import load_model
from ocrsmith.settings.lora import LoraSettings

VISION = LoraSettings(r=4, alpha=8, targets=("vision", "projector"))


@pytest.fixture
def views() -> Tensor:
    return torch.randint(
        0, 256, (2, 512, 512, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def nano() -> OcrModel:
    return load_model("nano", dtype=torch.float32, device="cpu")


def learning(settings: LoraSettings = VISION) -> Any:
    """Nano with an adapter that does something."""
    model = add_lora(nano(), settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return model


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())


def test_tokens_are_those_of_the_plain_path(views: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nano()
    monkeypatch.setattr(fused_cpu, "CHUNK", 300)  # chunks that do not divide the rows
    with torch.no_grad():
        fused = model.model(views)
        with fused_cpu.plain_only():
            plain = model.model(views)
    assert difference(fused, plain) < 1e-5
    assert not torch.equal(fused, plain), "the fused path was not taken"


def test_gradients_are_those_of_the_plain_path(views: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_cpu, "CHUNK", 300)
    model = learning().train()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weights = torch.randn(2, 64, 256, generator=torch.Generator().manual_seed(2))

    def gradients() -> tuple[Tensor, dict[str, Tensor]]:
        model.zero_grad()
        tokens = model.get_base_model().model(views)
        (tokens * weights).sum().backward()
        return tokens, {name: p.grad.clone() for name, p in trained.items()}

    fused, found = gradients()
    with fused_cpu.plain_only():
        plain, expected = gradients()
    assert difference(fused, plain) < 1e-5
    assert len(found) == 2 * (6 * 4 + 3 * 4 + 1)
    assert max(difference(found[name], expected[name]) for name in found) < 2e-5


@pytest.mark.parametrize("what", ["dropout", "hook", "learns", "two adapters", "bfloat16"])
def test_what_does_not_fit_goes_the_plain_way(what: str) -> None:
    linear: nn.Module = nn.Linear(4, 4).requires_grad_(False)
    model = learning(VISION.model_copy(update={"dropout": 0.5})) if what == "dropout" else learning()
    adapted = model.get_base_model().model.sam_model.blocks[0].mlp.lin1
    assert fused_cpu.linear_parts(linear) is not None
    if what == "hook":
        linear.register_forward_hook(lambda *_: None)
    elif what == "learns":
        linear.requires_grad_(True)
    elif what == "bfloat16":
        linear.bfloat16()
    elif what == "two adapters":
        model.add_adapter("second", model.peft_config["default"])
        model.base_model.set_adapter(["default", "second"])
        linear = adapted
    else:
        linear = adapted.train()
    assert fused_cpu.linear_parts(linear) is None


def test_an_adapter_switched_off_leaves_the_base() -> None:
    model = learning()
    adapted = model.get_base_model().model.sam_model.blocks[0].mlp.lin1
    (parts,) = fused_cpu.linear_parts(adapted) or []
    assert not torch.equal(parts.weight, adapted.base_layer.weight)
    with model.disable_adapter():
        (bare,) = fused_cpu.linear_parts(adapted) or []
    assert torch.equal(bare.weight, adapted.base_layer.weight)
    assert bare.a is None


# --- attention ----------------------------------------------------------------------------------------------


def inputs(batch: int, heads: int, height: int, width: int, channels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(height)
    count = height * width
    packed = torch.randn(batch, count, 3, heads, channels, generator=generator)
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind()
    rows = torch.randn(batch, heads, count, height, generator=generator)
    columns = torch.randn(batch, heads, count, width, generator=generator)
    return [x.detach().requires_grad_() for x in (q, k, v, rows, columns)]


def by_definition(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    bias = (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(-2)
    return ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


@pytest.mark.parametrize("sizes", [(3, 2, 4, 4, 8), (2, 2, 3, 5, 8), (1, 2, 17, 16, 8)], ids=str)
@pytest.mark.parametrize("chunk", [2**9, 2**19])
@pytest.mark.parametrize("path", ["relative_attention", "extended_attention"])
def test_attention_and_its_gradients_follow_the_definition(
    sizes: tuple[int, ...], chunk: int, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relative_attention, "CHUNK", chunk)
    given = inputs(*sizes)
    out, expected = getattr(relative_attention, path)(*given), by_definition(*given)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(5))
    assert difference(out, expected) < 1e-5
    found = torch.autograd.grad(out, given, weights)
    wanted = torch.autograd.grad(expected, given, weights)
    assert max(map(difference, found, wanted)) < 2e-5
    with torch.no_grad():
        assert difference(getattr(relative_attention, path)(*given), expected) < 1e-5


def test_too_many_scores_to_keep_are_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relative_attention, "MOST_SCORES", 0)
    given = inputs(1, 2, 4, 4, 8)
    out = relative_attention.relative_attention(*given)
    assert difference(out, by_definition(*given)) < 1e-5
    assert "_InCache" not in type(out.grad_fn).__name__
