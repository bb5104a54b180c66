"""The original's gradients on its tiny checkpoint; vision and the router's loss are options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.weights import hub_tensors

from .conftest import Recording
from .tiny import relative_difference

VISION = (
    "model.sam_model",
    "model.vision_model",
    "model.projector",
    "model.image_newline",
    "model.view_seperator",
)


def gradients(model: OcrModel, **inputs: Any) -> dict[str, Tensor]:
    """Hub names → gradients of the loss in training mode."""
    model.train()
    model(**inputs).loss.backward()
    return dict(hub_tensors({name: p.grad for name, p in model.named_parameters() if p.grad is not None}))


@pytest.mark.parametrize(
    ("group", "alpha", "vision"),
    [
        ("base1024_ce", 0.0, False),
        ("base1024_ce_aux", 0.001, False),
        ("base1024_ce_vision", 0.0, True),
        ("gundam_ce_vision", 0.0, True),
    ],
)
def test_gradients(group: str, alpha: float, vision: bool, recording: Recording) -> None:
    model = recording.load()
    model.config.router_aux_loss_alpha = alpha
    for name, parameter in model.named_parameters():
        if name.startswith(VISION) and not vision:
            parameter.requires_grad_(False)
    found = gradients(model, **recording.inputs(group.split("_")[0]))
    recorded = recording.under(f"grad/{group}/")
    assert recorded
    for name, expected in recorded.items():
        parameter_name, _, place = name.partition("[")
        actual = found[parameter_name]
        if place:
            actual = actual[:64] if place == ":64]" else actual[int(place.rstrip("]"))]
        assert relative_difference(actual, expected) <= 2e-5, name
    if not vision:
        assert not [name for name in found if name.startswith(VISION)]


def test_the_router_loss_is_off_by_default_and_part_of_the_loss_when_on(recording: Recording) -> None:
    model = recording.load()
    inputs = recording.inputs("tiny512")
    with torch.no_grad():
        plain = model(**inputs).loss
        model.config.router_aux_loss_alpha = 0.5
        with_router = model(**inputs).loss
    assert plain.item() == pytest.approx(recording.tensors["tiny512/loss"].item(), abs=2e-5)
    # Σ_e f_e P_e is 1 for a perfectly even router and more for any other; two layers, alpha 0.5.
    assert 1.0 < (with_router - plain).item() < 8.0


def test_label_rows_give_the_gradients_of_the_whole_sequence(recording: Recording) -> None:
    batch = recording.batch(["tiny512", "small640"], "right")
    labels = batch["labels"]
    following = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], dim=1)
    rows = (following != -100).flatten().nonzero()[:, 0]
    whole = gradients(recording.load(), **batch)
    some = gradients(recording.load(), **batch, label_rows=rows)
    assert set(whole) == set(some)
    for name, expected in whole.items():
        assert relative_difference(some[name], expected) <= 2e-5, name
