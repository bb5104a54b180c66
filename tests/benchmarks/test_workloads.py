"""The workloads are what the figures are said to be of."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from benchmarks.floor import sequence_length
from benchmarks.reference.preprocessing import prepare, prepare_pixels
from benchmarks.workloads import (
    WORKLOADS,
    balance_routers,
    draw,
    encode_file,
    make_batches,
    make_config,
    make_model,
    make_processor,
    routing_balance,
    text_of,
    write_dataset,
)
from PIL import Image

from ocrsmith.datasets import open_dataset
from ocrsmith.model.experts import Router
from ocrsmith.model.vision import normalise


@pytest.mark.parametrize(("name", "tokens", "labels"), [("L", 310, 31), ("P", 1910, 1001)])
def test_tokens_at_full_size(name: str, tokens: int, labels: int) -> None:
    workload = WORKLOADS[name]
    processor = make_processor("3b", workload)
    for seed in range(3):
        encoded = processor.encode([draw(workload, seed)], text=text_of(workload, seed))
        assert encoded.labels is not None
        assert (encoded.num_tokens, sum(label >= 0 for label in encoded.labels)) == (tokens, labels)
        assert encoded.input_ids[-1] == processor.tokens.eos
    assert workload.tokens == tokens == sequence_length(workload, "3b")


def test_pages_have_tiles_and_lines_have_none() -> None:
    (page,) = make_batches("3b", WORKLOADS["P"], 1, 1)
    (line,) = make_batches("3b", WORKLOADS["L"], 1, 1)
    assert page["image_layouts"] == [(1024, 640, 2, 3)]
    assert line["image_layouts"] == [(1024, 0, 0, 0)]


def test_small_models_take_lines_with_fewer_pixels() -> None:
    (batch,) = make_batches("nano", WORKLOADS["L"], 2, 1)
    assert batch["input_ids"].shape == (2, sequence_length(WORKLOADS["L"], "nano")) == (2, 110)
    assert batch["image_layouts"] == [(512, 0, 0, 0)] * 2


def test_without_answers_batches_end_with_the_prompt() -> None:
    (batch,) = make_batches("tiny", WORKLOADS["L"], 2, 1, answers=False)
    assert "labels" not in batch
    assert batch["input_ids"].shape[1] == 110 - 31


def test_samples_differ_and_repeat() -> None:
    line = WORKLOADS["L"]
    assert draw(line, 1).tobytes() == draw(line, 1).tobytes() != draw(line, 2).tobytes()
    assert text_of(line, 1) == text_of(line, 1) != text_of(line, 2)


def test_the_3b_architecture_is_deepseek_ocrs() -> None:
    from ocrsmith.model.ocr_model import OcrModel

    with torch.device("meta"):
        model = OcrModel(make_config("3b"))
    assert sum(p.numel() for p in model.parameters()) == 3_336_106_240


def test_random_weights_repeat_and_routers_are_orthonormal() -> None:
    model, again = make_model("tiny", seed=1), make_model("tiny", seed=1)
    for (name, left), right in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.isfinite(left).all(), name
        assert torch.equal(left, right), name
    routers = [module for module in model.modules() if isinstance(module, Router)]
    assert routers
    for router in routers:
        torch.testing.assert_close(router.weight @ router.weight.t(), torch.eye(len(router.weight)))


def test_tokens_spread_over_the_experts() -> None:
    (batch,) = make_batches("tiny", WORKLOADS["L"], 2, 1)
    model = make_model("tiny")
    balance_routers(model, batch)
    balance = routing_balance(model, batch)
    assert balance["experts"] == 6
    assert balance["empty"] == 0
    assert 1 <= balance["largest"] < 2


def test_the_dataset_holds_the_samples(tmp_path: Path) -> None:
    workload = WORKLOADS["L"]
    write_dataset(tmp_path / "data", workload, 5)
    samples = list(open_dataset(tmp_path / "data").table("train"))
    assert sorted(sample.text for sample in samples) == sorted(text_of(workload, seed) for seed in range(5))
    assert {Image.open(io.BytesIO(sample.image)).size for sample in samples} == {(400, 64)}


@pytest.mark.parametrize("name", ["L", "P"])
@pytest.mark.parametrize("colour", [False, True])
def test_plain_preprocessing_gives_our_pixels(name: str, colour: bool) -> None:
    workload = WORKLOADS[name]
    file = encode_file(draw(workload, 3, colour=colour), workload)
    encoded = make_processor("3b", workload).encode([file], text="x")
    view, tiles = prepare_pixels(file)
    assert view.tobytes() == encoded.views[0].global_view.tobytes()
    assert b"".join(tile.tobytes() for tile in tiles) == encoded.views[0].tiles.tobytes()
    global_view, _ = prepare(file)
    ours = normalise(torch.from_numpy(encoded.views[0].global_view)[None])
    torch.testing.assert_close(global_view, ours)
