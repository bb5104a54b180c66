"""Exporting as a whole: verified, complete or not at all, and what the card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine
from ocrsmith.errors import AdapterError, OcrsmithError
from ocrsmith.evaluation.metrics import cer
from ocrsmith.export.card import CardFacts
from ocrsmith.export.model import VERIFICATION_FILE, Check, export_adapter, export_merged
from ocrsmith.export.verify import VerifiedPage, verify
from ocrsmith.model.lora import load_adapter
from ocrsmith.model.weights import NANO_FOLDER, load_model

from .test_merge import make_adapter

ARCHIVE = NANO_FOLDER.parent / "sample_archive"


@pytest.fixture(scope="module")
def pages() -> list[VerifiedPage]:
    lines = (ARCHIVE / "content.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")][:2]
    return [VerifiedPage(path, (ARCHIVE / path).read_bytes(), text) for path, text in rows]


@pytest.fixture(scope="module")
def check(pages: list[VerifiedPage]) -> Check:
    return Check(pages, cer, torch.device("cpu"), torch.float32, max_new_tokens=20)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tmp_path_factory.mktemp("adapter") / "adapter", scale=0.03)


def test_an_export_is_verified_and_loads_as_a_model(adapter: Path, check: Check, tmp_path: Path) -> None:
    done: list[int] = []
    facts = CardFacts("lines", "nano", settings={"lora.r": 4}, licence="mit")
    exported = export_merged(
        "nano",
        adapter,
        tmp_path / "out",
        facts=facts,
        check=check,
        progress=lambda count, _: done.append(count),
    )
    assert exported.verification is not None
    assert exported.verification.distance < 0.1
    assert exported.verification.effect > 0.01
    assert exported.changed > 10
    assert done[-1] > exported.changed
    engine = NativeEngine.load(str(tmp_path / "out"), max_new_tokens=20)
    answers = list(engine.read([PageRequest(page.id, page.image) for page in check.pages]))
    assert [answer.error for answer in answers] == [None] * 2
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: mit" in card
    assert "Merged against adapter on 2 pages" in card
    assert "| `lora.r` | 4 |" in card
    saved = json.loads((tmp_path / "out" / VERIFICATION_FILE).read_text())
    assert saved["pages"] == 2
    assert {path.suffix for path in (tmp_path / "out").iterdir()} <= {".json", ".safetensors", ".md"}


@pytest.mark.parametrize("harm", ["the base alone", "another scale", "one layer"])
def test_verification_finds_a_wrong_merge(adapter: Path, check: Check, tmp_path: Path, harm: str) -> None:
    merged = tmp_path / "merged"
    export_merged("nano", adapter, merged, facts=CardFacts("x", "nano"), check=None)
    base, weights = load_file(NANO_FOLDER / "model.safetensors"), load_file(merged / "model.safetensors")
    for name, weight in weights.items():
        if harm == "the base alone":
            weights[name] = base[name]
        elif harm == "another scale":
            weights[name] = (base[name].float() + (weight.float() - base[name].float()) / 2).to(weight.dtype)
        elif ".layers.3." in name:
            weights[name] = base[name]
    save_file(weights, merged / "model.safetensors", {"format": "pt"})
    result = verify(
        "nano",
        adapter,
        merged,
        check.pages,
        cer,
        device=check.device,
        dtype=check.dtype,
        decoding=DecodingSettings(max_new_tokens=8),
    )
    assert result.distance > 0.3
    assert any("logits" in problem for problem in result.problems)


def test_a_mismatch_stops_the_export_and_leaves_what_was_there(
    adapter: Path, check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("kept")
    monkeypatch.setattr("ocrsmith.export.verify.MAX_DISTANCE", 1e-9)
    with pytest.raises(AdapterError, match="not what the adapter makes"):
        export_merged("nano", adapter, tmp_path / "out", facts=CardFacts("x", "nano"), check=check)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_an_adapter_is_exported_with_what_it_needs(adapter: Path, tmp_path: Path) -> None:
    export_adapter("nano", adapter, tmp_path / "out", facts=CardFacts("x", "nano"))
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= names
    load_adapter(load_model("nano"), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "A LoRA adapter for `nano`" in card
    assert "library_name: peft" in card


@pytest.mark.parametrize("kind", ["pickle", "foreign names"])
def test_an_adapter_that_others_could_not_load_is_refused(adapter: Path, tmp_path: Path, kind: str) -> None:
    for file in adapter.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "adapter_model.safetensors"
    if kind == "pickle":
        weights.rename(tmp_path / "adapter_model.bin")
    else:
        tensors = load_file(weights)
        save_file({name.replace("model.layers", "language.layers"): t for name, t in tensors.items()}, weights)
    with pytest.raises(OcrsmithError):
        export_adapter("nano", tmp_path, tmp_path / "out", facts=CardFacts("x", "nano"))
    assert not (tmp_path / "out").exists()
