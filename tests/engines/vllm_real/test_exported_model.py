"""What `ocrsmith export` merges, vLLM loads and reads as the adapter does; run by `make test-vllm`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.registry import open_engine
from ocrsmith.export.card import CardFacts
from ocrsmith.export.model import export_merged
from ocrsmith.model.lora import add_lora, save_adapter
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_model, save_model
from ocrsmith.settings.lora import LoraSettings

from .test_vllm_engine import FREE, PAGES, make_model, make_tokenizer, read

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


def make_adapter(base: Path, folder: Path) -> None:
    """On attention, MLPs and routed experts, strong enough to change every answer."""
    model = add_lora(load_model(str(base)), LoraSettings(r=4, alpha=8))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    save_adapter(model, folder)


def test_vllm_reads_the_merged_folder_as_native_reads_the_adapter(tmp_path: Path) -> None:
    base, adapter, merged = (tmp_path / name for name in ("base", "adapter", "merged"))
    save_model(make_model(), base)
    OcrProcessor(make_tokenizer(), ProcessingSettings(max_tiles=6)).save_pretrained(base)
    make_adapter(base, adapter)
    export_merged(str(base), adapter, merged, facts=CardFacts("merged", "base"), check=None)

    requests = list(PAGES.values())
    engines = {
        "base": NativeEngine.load(str(base), device="cpu", dtype="float32"),
        "adapter": NativeEngine.load(str(base), adapter=adapter, device="cpu", dtype="float32"),
        "merged": NativeEngine.load(str(merged), device="cpu", dtype="float32"),
        "vllm": open_engine("vllm", model=str(merged), dtype="float32", batch_size=2, enforce_eager=True),
    }
    answers = {}
    for name, engine in list(engines.items()):
        answers[name] = read(engine.adjusted(decoding=FREE), requests)  # type: ignore[attr-defined]
        del engines[name], engine
    for page in PAGES:
        there, here = answers["vllm"][page], answers["merged"][page]
        assert there.error is None
        assert (there.text, there.tokens) == (here.text, here.tokens)
        assert there.token_logprobs == pytest.approx(here.token_logprobs, abs=1e-3)
        assert here.text[:4] == answers["adapter"][page].text[:4], "16 bits may flip a token later on"
        assert there.text[:4] != answers["base"][page].text[:4], "the adapter has an effect"
