"""The CPU benchmark: the same work on both sides, and figures from times to table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from benchmarks.cpu_worker import quickstart_settings
from benchmarks.reference import native_transformers

from benchmarks import cpu
from ocrsmith.model.lora import add_lora
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.settings.lora import LoraSettings

native = pytest.mark.skipif(
    not native_transformers.is_available(), reason="needs transformers with UnlimitedOcr (5.23)"
)


def told(step: float, page: float, **more: Any) -> dict[str, Any]:
    return {"steps": [step, step, 9 * step], "pages": [page], "failure": None, **more}


@pytest.fixture
def found() -> dict[str, dict[str, Any]]:
    whole = {"steps": 10, "pages": 20}
    ours = told(1.0, 0.1, whole=whole, gemm_flops=1e11, answers={"a": "x", "b": "y"})
    return {"ours": ours, "transformers": told(3.0, 0.5, answers={"a": "x", "b": "z"})}


def test_ratios_are_of_medians_and_of_the_whole_mix(found: dict[str, dict[str, Any]]) -> None:
    step, page, mix = cpu.rows_of(found)
    assert (step["×"], page["×"]) == (pytest.approx(3), pytest.approx(5))
    assert (mix["ours s"], mix["transformers s"]) == (pytest.approx(12), pytest.approx(40))
    assert mix["part"] == "quickstart: 10 steps, 20 pages"
    assert cpu.same_answers(found) == {"pages": 2, "same": 1}


def test_an_engine_that_failed_leaves_no_ratio(found: dict[str, dict[str, Any]]) -> None:
    found["transformers"] |= {"steps": [], "failure": "no such class"}
    assert cpu.rows_of(found) == []


def test_the_floor_counts_the_encoder_forward_and_backward() -> None:
    floor = cpu.floor_of(1e9)
    # 6 blocks of 12 C² weights, 1024 positions, two products each, and more
    linears = 2 * 1024 * 6 * 12 * 256**2 / 1e9
    assert linears < floor["page"] < 1.5 * linears
    assert 8 * 2 * floor["page"] < floor["step"] < 8 * 3 * floor["page"]


def test_the_recipe_is_the_quickstarts(tmp_path: Any) -> None:
    settings = quickstart_settings(tmp_path, max_steps=3)
    assert (settings.max_steps, settings.samples_per_step, settings.lora.alpha) == (3, 8, 32)
    assert settings.lora.trains_vision


@native
def test_the_reference_trains_the_encoder_with_our_loss(model: OcrModel) -> None:
    from benchmarks.workloads import WORKLOADS, make_batches

    (batch,) = make_batches("tiny", WORKLOADS["L"], 2, 1)
    peer = native_transformers.NativePeer(model, encoder_learns=True)
    loss = peer.whole_loss(batch)
    loss.backward()
    names = [name for name, p in peer.model.named_parameters() if p.grad is not None and p.grad.any()]
    assert any("vision_tower" in name for name in names)
    assert any("multi_modal_projector" in name for name in names)
    ours = add_lora(model, LoraSettings(targets=("attention", "vision")))
    with torch.no_grad():
        expected = ours(
            input_ids=batch["input_ids"],
            labels=batch["labels"],
            views=batch["views"],
            image_layouts=batch["image_layouts"],
        ).loss
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-4)
