"""The engine vllm without vLLM: what it asks, how it reads answers as they grow, what it refuses.

`vllm_real` runs the library itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.engines.registry import open_engine
from ocrsmith.engines.vllm import VllmEngine, check_model
from ocrsmith.engines.vllm.requests import (
    Reading,
    changed_processing,
    model_arguments,
    one_image_token,
    sampling_arguments,
)
from ocrsmith.errors import InputError, MissingExtraError, SettingsError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_processor

END = 1


@dataclass
class Logprob:
    """As `vllm.logprobs.Logprob`."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


def reading() -> Reading:
    return Reading(PageRequest("p", b""), END)


def known(tokens: Sequence[int]) -> list[dict[int, Logprob]]:
    """The chosen token, and a likelier one that the n-gram rule forbade."""
    return [{token: Logprob(-token / 100), 999: Logprob(-0.001)} for token in tokens]


class TestRequest:
    def test_the_model_is_opened_without_its_code_and_with_the_rule(self) -> None:
        asked = model_arguments(
            "/m", dtype="auto", context=8192, batch_size=7, gpu_memory_utilization=None, eager=False
        )
        assert asked["trust_remote_code"] is False
        assert asked["enable_prefix_caching"] is False
        assert asked["mm_processor_cache_gb"] == 0
        assert asked["limit_mm_per_prompt"] == {"image": 1}
        assert asked["hf_overrides"] == {"architectures": ["DeepseekOCRForCausalLM"]}
        assert asked["logits_processors"][0].endswith(":NGramPerReqLogitsProcessor")
        assert (asked["max_num_seqs"], asked["max_model_len"]) == (7, 8192)
        assert "gpu_memory_utilization" not in asked
        half = model_arguments(
            "/m", dtype="auto", context=8192, batch_size=7, gpu_memory_utilization=0.5, eager=False
        )
        assert half == {**asked, "gpu_memory_utilization": 0.5}

    def test_decoding_is_greedy_with_the_rule_of_the_settings(self) -> None:
        asked = sampling_arguments(DecodingSettings(), limit=100, end=END, whitelist=(4, 5))
        rule = {"ngram_size": 30, "window_size": 90, "whitelist_token_ids": [4, 5]}
        assert asked["extra_args"] == rule
        assert (asked["temperature"], asked["max_tokens"], asked["stop_token_ids"]) == (0.0, 100, [END])
        off = sampling_arguments(DecodingSettings(ngram_size=0), limit=100, end=END, whitelist=(4, 5))
        assert "extra_args" not in off

    def test_the_prompt_is_that_of_training_with_one_token_for_the_image(self) -> None:
        processor = OcrProcessor(
            load_processor("nano").tokenizer, ProcessingSettings(mode="gundam", max_length=8192)
        )
        tokens = processor.tokens
        whole = processor.encode_text((1000, 1400), prompt="Read. <image>\nAll.").input_ids
        asked = one_image_token(whole, tokens.image)
        assert asked.count(tokens.image) == 1
        place = asked.index(tokens.image)
        assert asked[:place] + [tokens.image] * whole.count(tokens.image) + asked[place + 1 :] == whole
        assert asked[0] == tokens.bos

    def test_what_vllm_does_otherwise_is_recorded_and_said(self) -> None:
        saved = ProcessingSettings(mode="small", alpha="drop").model_dump()
        used, missed = changed_processing(saved, (2, 6))
        assert used == {**saved, "mode": "gundam", "max_tiles": 6}
        assert missed.keys() == {"processing.mode", "processing.max_tiles"}
        assert "the model's settings say 9" in missed["processing.max_tiles"]
        assert changed_processing(used, (2, 6)) == (used, {})


class TestAnswer:
    def test_tokens_come_in_pieces_with_the_logprob_of_the_chosen(self) -> None:
        page = reading()
        page.take([40, 41], known([40, 41]), None)
        assert page.finish is None
        page.take([], None, None)
        page.take([42, END], known([42, END]), "stop")
        assert (page.tokens, page.finish) == ([40, 41, 42, END], "stop")
        assert page.logprobs == [-0.4, -0.41, -0.42, -0.01]

    @pytest.mark.parametrize(
        ("tokens", "finish", "expected"),
        [
            (list(range(10, 50)), "length", "length"),
            ([7] * 40, "length", "loop"),
            ([7] * 40 + [END], "stop", "stop"),
            ([7, 8], "abort", "error"),
        ],
    )
    def test_why_it_ended(self, tokens: list[int], finish: str, expected: str) -> None:
        page = reading()
        page.take(tokens, known(tokens), finish)
        assert page.finish == expected
        assert bool(page.error) == (expected == "error")

    @pytest.mark.parametrize("piece", [1, 7, 100])
    def test_a_loop_is_ended_where_the_native_engine_ends_it(self, piece: int) -> None:
        page = reading()
        tokens = list(range(100, 140)) + [5, 6, 7] * 300
        while page.finish is None:
            new = tokens[len(page.tokens) : len(page.tokens) + piece]
            page.take(new, known(new), None)
        assert page.finish == "loop"
        assert page.tokens == tokens[: len(page.tokens)]
        assert len(page.tokens) == len(page.logprobs) == LOOP_TOKENS + 16

    def test_without_logprobs_there_are_none(self) -> None:
        page = reading()
        page.take([40], None, "length")
        assert (page.tokens, page.logprobs) == ([40], [])


class TestRefusal:
    @pytest.mark.parametrize(
        ("options", "problem"),
        [
            ({"adapter": Path("a")}, "takes no adapter"),
            ({"mode": "base"}, "gundam only"),
            ({"batch_size": 0}, "batch size is 0"),
            ({"dtype": "int4"}, "no dtype 'int4'"),
            ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
            ({"gpu_memory_utilization": float("nan")}, "gpu_memory_utilization is nan"),
        ],
    )
    def test_a_wrong_option_is_told_before_anything_is_read(
        self, options: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(SettingsError) as caught:
            open_engine("vllm", model="/nowhere", **options)
        assert problem in caught.value.problem
        assert caught.value.mend

    def test_a_model_with_another_encoder_is_refused(self) -> None:
        with pytest.raises(InputError, match="published sizes only"):
            VllmEngine.load("nano")

    def test_both_tokenizer_files_must_be_there(self, tmp_path: Path) -> None:
        config = OcrConfig(language_config={}, vision_config={}, projector_config={})
        (tmp_path / "tokenizer.json").write_text("{}")
        with pytest.raises(InputError, match=r"no tokenizer_config\.json"):
            check_model(tmp_path, config)
        (tmp_path / "tokenizer_config.json").write_text("{}")
        check_model(tmp_path, config)

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """All that is looked at before vLLM is: sizes and tokenizer."""
        load_processor("nano").save_pretrained(tmp_path)
        values = {"language_config": {"vocab_size": 7640}, "vision_config": {}, "projector_config": {}}
        (tmp_path / "config.json").write_text(json.dumps({**values, "image_token_id": 7628}))
        return tmp_path

    def test_decoding_settings_saved_with_the_model_are_checked(self, folder: Path) -> None:
        (folder / "ocrsmith_decoding.json").write_text('{"ngram_size": -1}')
        with pytest.raises(SettingsError, match="ngram_size = -1"):
            VllmEngine.load(str(folder))

    def test_vllm_that_is_missing_or_old_is_told(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "vllm", None)
        with pytest.raises(MissingExtraError) as caught:
            VllmEngine.load(str(folder))
        assert "ocrsmith[vllm]" in str(caught.value.mend)
        old = ModuleType("vllm")
        old.__dict__.update(__version__="0.13.0", __version_tuple__=(0, 13, 0))
        monkeypatch.setitem(sys.modules, "vllm", old)
        with pytest.raises(SettingsError, match=r"0\.13\.0 is too old"):
            VllmEngine.load(str(folder))
