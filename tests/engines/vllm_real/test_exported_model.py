"""What `ocrsmith train` learned is in what `ocrsmith export` merged; run by `make test-vllm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsmith.engines.native import NativeEngine
from ocrsmith.records import Prediction

from .checkpoint import FREE, PAGES

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]


def test_the_adapter_changes_what_is_read_and_the_merged_model_reads_as_it_does(
    base: Path, tuned: Path, native_readings: dict[str, dict[str, Prediction]]
) -> None:
    read = {}
    for name, adapter in (("base", None), ("adapter", tuned / "adapter")):
        engine = NativeEngine.load(str(base), adapter=adapter, device="cpu", dtype="float32", batch_size=2)
        answers = engine.adjusted(decoding=FREE).read(list(PAGES.values()))
        read[name] = {answer.id: answer for answer in answers}
        del engine  # there is room for one
    for page in PAGES:
        merged = native_readings["free"][page]
        assert merged.text[:4] == read["adapter"][page].text[:4], "16 bits may flip a token later on"
        assert merged.text[:4] != read["base"][page].text[:4], "the adapter has an effect"


def test_export_verified_what_it_merged(merged: Path) -> None:
    found = json.loads((merged / "ocrsmith_verification.json").read_text(encoding="utf-8"))
    assert (found["pages"], found["same_text"]) == (1, 1)
    assert found["distance"] < 0.05, "but for rounding"
    assert found["effect"] > 0.5, "there was something to verify"
