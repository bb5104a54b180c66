"""What plain PEFT makes of an exported adapter, on a model with a linear an expert as the hub's code has."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel

from ocrsmith.export.card import CardFacts
from ocrsmith.export.model import export_adapter
from ocrsmith.model.lora import load_adapter
from ocrsmith.model.weights import load_model

from ..model.test_lora import reference_model
from .test_merge import make_adapter


def test_plain_peft_gives_the_logits_that_ours_gives(tmp_path: Path) -> None:
    adapter = make_adapter(tmp_path / "adapter", scale=0.03)
    export_adapter("nano", adapter, tmp_path / "out", facts=CardFacts("x", "nano"))
    base = load_model("nano")
    plain = PeftModel.from_pretrained(reference_model(base), str(tmp_path / "out")).eval()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        before = base(input_ids=ids).logits
        found = plain(input_ids=ids).logits
        wanted = load_adapter(base, adapter)(input_ids=ids).logits
    assert (wanted - before).abs().max() > 0.1, "the adapter has an effect"
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
