"""The fast paths on a GPU against the plain ones there; `make test-gpu`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ocrsmith.model import kernels
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.kernels import Groups, grouped_outer, grouped_rows
from ocrsmith.model.lora import OcrPeftModel, add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.settings.lora import LoraSettings
from ocrsmith.training.micro_step import MicroStep

pytestmark = pytest.mark.gpu
GPU = torch.device("cuda")


def a_model(dtype: torch.dtype = torch.bfloat16) -> OcrModel:
    """Small, with the head widths of DeepSeek-OCR: 64 in the encoder, 128 in the decoder."""
    torch.manual_seed(0)
    config = OcrConfig(
        image_token_id=900,
        language_config={
            "vocab_size": 1024,
            "hidden_size": 256,
            "intermediate_size": 384,
            "moe_intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "n_routed_experts": 8,
            "n_shared_experts": 2,
            "num_experts_per_tok": 3,
            "max_position_embeddings": 4096,
        },
        vision_config={
            "image_size": 1024,
            "width": {
                "sam_vit_b": {
                    "width": 128,
                    "layers": 3,
                    "heads": 2,
                    "global_attn_indexes": [2],
                    "window_size": 14,
                    "downsample_channels": [64, 128],
                    "out_chans": 32,
                },
                "clip-l-14-224": {"width": 128, "layers": 2, "heads": 2, "image_size": 224},
            },
        },
    )
    return OcrModel(config).to(GPU, dtype).eval()


def relative(ours: Tensor, plain: Tensor) -> float:
    return float((ours.float() - plain.float()).norm() / plain.float().norm())


@pytest.mark.parametrize("side", [512, 640, 1024])
def test_the_frozen_encoder_is_the_plain_one(side: int) -> None:
    model = a_model()
    views = torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8, device=GPU)
    with torch.no_grad():
        exact = a_model(torch.float32).model(views)
        ours = model.model(views)
        with kernels.using(triton=False):
            plain = model.model(views)
    assert relative(ours, exact) < 1.3 * relative(plain, exact) + 1e-3


@pytest.mark.parametrize("way", ["grouped", "triton", "loop"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_grouped_products(way: str, dtype: torch.dtype) -> None:
    if way == "grouped" and dtype != torch.bfloat16:
        pytest.skip("torch's kernel is for bfloat16")
    counts = [300, 0, 17, 1000, 1, 0, 64, 128]
    expert = torch.repeat_interleave(torch.arange(8), torch.tensor(counts)).to(GPU)
    groups = Groups(torch.tensor(counts).cumsum(0).to(GPU, torch.int32))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for inner, width in ((128, 256), (256, 16), (16, 256), (32, 128)):
        x = torch.randn(sum(counts), inner, device=GPU).to(dtype)
        y = torch.randn(sum(counts), width, device=GPU).to(dtype)
        weight = torch.randn(8, inner, width, device=GPU).to(dtype)
        with kernels.using(experts=way):
            rows, outer = grouped_rows(x, weight, groups), grouped_outer(x, y, groups)
        plain = torch.stack([x.double()[i] @ weight.double()[e] for i, e in enumerate(expert)])
        assert relative(rows, plain) < tolerance
        mine = [expert == number for number in range(8)]
        assert relative(outer, torch.stack([x.double()[m].t() @ y.double()[m] for m in mine])) < tolerance


def packed(lengths: list[int]) -> tuple[dict[str, Any], Tensor]:
    generator = torch.Generator().manual_seed(sum(lengths))
    ids = torch.randint(3, 900, (1, sum(lengths)), generator=generator)
    labels, start, images = torch.full_like(ids, -100), 0, 0
    for length in lengths:
        ids[0, start + 1 : start + 5] = 900
        images += 4
        labels[0, start + length // 2 : start + length] = ids[0, start + length // 2 : start + length]
        start += length
    rows = (labels[0, 1:] != -100).nonzero()[:, 0]
    batch = {"input_ids": ids.to(GPU), "labels": labels.to(GPU), "label_rows": rows.to(GPU)}
    features = torch.randn(images, 256, generator=generator).to(GPU, torch.bfloat16)
    return {**batch, "sequence_lengths": lengths}, features


def adapted() -> OcrPeftModel:
    peft = add_lora(a_model(), LoraSettings(r=8)).train()
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    return peft


def gradients(micro: MicroStep, lengths: list[int]) -> tuple[float, Tensor]:
    batch, features = packed(lengths)
    micro.begin()
    loss = micro(batch, features, torch.tensor(1 / batch["label_rows"].numel(), device=GPU))
    return loss.item(), torch.cat([p.grad.flatten() for p in micro.trained if p.grad is not None])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_replayed_graph_has_the_gradients_of_the_plain_pass(compiled: bool) -> None:
    """Also when other micro-batches of the same shape come, and other shapes between them."""
    peft = adapted()
    replayed, plain = MicroStep(peft.get_base_model()), MicroStep(peft.get_base_model(), graphs=False)
    assert replayed.graphs
    with kernels.using(compiled=compiled):
        for lengths in ([100, 60], [90, 80], [300], [40] * 4, [95, 70], [300], [80, 80], [310]):
            loss, ours = gradients(replayed, lengths)
            with kernels.using(compiled=False, triton=False, attention="plain", experts="loop"):
                expected, theirs = gradients(plain, lengths)
            assert loss == pytest.approx(expected, rel=2e-3)
            assert relative(ours, theirs) < 0.03
    assert sum(graph is not None for graph in replayed._captured.values()) == 2


def test_a_graph_sees_the_optimisers_steps() -> None:
    peft = adapted()
    micro = MicroStep(peft.get_base_model())
    optimizer = torch.optim.AdamW(micro.trained, lr=1e-2, fused=True)
    losses = []
    for _ in range(12):
        losses.append(gradients(micro, [100, 60])[0])
        optimizer.step()
        for parameter in micro.trained:
            parameter.grad = None  # as trainers do
    assert losses[-1] < losses[0] - 0.5
