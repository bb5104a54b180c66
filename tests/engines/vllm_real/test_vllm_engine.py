"""The engine vllm beside the native one, on a random model with the real encoder; run by `make test-vllm`.

It needs vLLM, 8 GB of memory and some minutes, so it is not part of `make test`.
"""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import NativeEngine
from ocrsmith.engines.native.loop_end import LOOP_TOKENS
from ocrsmith.engines.registry import open_engine
from ocrsmith.engines.retries import RetryLoops
from ocrsmith.engines.vllm import VllmEngine
from ocrsmith.errors import SettingsError
from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import save_model
from ocrsmith.records import Prediction

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1800)]
VOCABULARY = 1024
SPECIAL = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>", "<image>", "<td>", "</td>"]
TOKENS = 16
FREE = DecodingSettings(max_new_tokens=TOKENS, ngram_size=0)
FIRM = DecodingSettings(max_new_tokens=TOKENS, ngram_size=2, ngram_window=TOKENS)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, pairs of letters, and the special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*SPECIAL, *letters]
    ascii_letters = [letter for letter in letters if letter.isascii() and letter.isalpha()]
    pairs = [(a, b) for a in ascii_letters for b in ascii_letters][: VOCABULARY - len(vocabulary)]
    vocabulary += ["".join(pair) for pair in pairs]
    core = Tokenizer(models.BPE({word: place for place, word in enumerate(vocabulary)}, pairs))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)]
    )
    core.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=SPECIAL[0], eos_token=SPECIAL[1], pad_token=SPECIAL[2]
    )


def make_config() -> OcrConfig:
    """The published encoder with a decoder of three layers."""
    language = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 1,
        "hidden_size": 1280,
        "intermediate_size": 1792,
        "kv_lora_rank": None,
        "lm_head": True,
        "max_position_embeddings": 2048,
        "moe_intermediate_size": 256,
        "n_group": 1,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_attention_heads": 10,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 3,
        "num_key_value_heads": 10,
        "q_lora_rank": None,
        "qk_nope_head_dim": 0,
        "qk_rope_head_dim": 0,
        "rm_head": False,
        "topk_group": 1,
        "topk_method": "greedy",
        "use_mla": False,
        "v_head_dim": 0,
        "vocab_size": VOCABULARY,
    }
    return OcrConfig(
        language_config=language,
        vision_config={
            "image_size": 1024,
            "mlp_ratio": 3.7362,
            "model_name": "deeplip_b_l",
            "model_type": "vision",
        },
        projector_config={
            "projector_type": "linear",
            "input_dim": 2048,
            "n_embed": 1280,
            "model_type": "mlp_projector",
        },
        image_token_id=SPECIAL.index("<image>"),
        tile_tag="2D",
        global_view_pos="head",
        candidate_resolutions=[[1024, 1024]],
        torch_dtype="float32",
    )


def make_model() -> OcrModel:
    """Random weights that let the pixels reach every answer."""
    torch.manual_seed(0)
    model = OcrModel(make_config()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02 if "sam_model" in name or "vision_model" in name else 0.05)
        model.model.projector.layers.weight.mul_(4)
        model.lm_head.weight[: len(SPECIAL)] = 0
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(make_model(), folder)
    OcrProcessor(make_tokenizer(), ProcessingSettings(max_tiles=6)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> VllmEngine:
    engine = open_engine("vllm", model=str(folder), dtype="float32", batch_size=2, enforce_eager=True)
    assert isinstance(engine, VllmEngine)
    return engine


def page(seed: int, width: int, height: int) -> bytes:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    numbers = np.random.default_rng(seed)
    for top in range(10, height - 20, 30):
        draw.text((10, top), "".join(chr(number) for number in numbers.integers(48, 123, width // 8)), "black")
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


PAGES = {
    "untiled": PageRequest("untiled", page(1, 400, 64)),
    "tiled": PageRequest("tiled", page(2, 700, 1300), "<image>\nRead."),
}


def read(engine: object, requests: list[PageRequest]) -> dict[str, Prediction]:
    return {answer.id: answer for answer in engine.read(requests)}  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def native(folder: Path) -> NativeEngine:
    return NativeEngine.load(str(folder), device="cpu", dtype="float32", batch_size=2)


def assert_same(engine: VllmEngine, native: NativeEngine, decoding: DecodingSettings, *names: str) -> None:
    requests = [PAGES[name] for name in names]
    there = read(engine.adjusted(decoding=decoding), requests)
    here = read(native.adjusted(decoding=decoding), requests)
    assert len({answer.text for answer in there.values()}) == len(names), "the model tells the pages apart"
    for name, expected in here.items():
        answer = there[name]
        assert (answer.finish_reason, answer.error) == (expected.finish_reason, None)
        assert (answer.text, answer.tokens) == (expected.text, expected.tokens)
        assert answer.token_ends == expected.token_ends
        assert answer.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-3)
        assert answer.mode == expected.mode == "gundam"


def test_greedy_answers_are_the_native_ones_with_and_without_tiles(
    engine: VllmEngine, native: NativeEngine
) -> None:
    assert_same(engine, native, FREE, "untiled", "tiled")


def test_the_ngram_rule_is_the_native_one(engine: VllmEngine, native: NativeEngine) -> None:
    assert_same(engine, native, FIRM, "untiled")
    (free,) = engine.adjusted(decoding=FREE).read([PAGES["untiled"]])
    (firm,) = engine.adjusted(decoding=FIRM).read([PAGES["untiled"]])
    assert free.text != firm.text, "the rule has something to forbid"


def test_a_page_that_cannot_be_read_fails_alone(engine: VllmEngine) -> None:
    told: list[int] = []
    two = PageRequest("two", page(1, 64, 64), "<image><image>")
    requests = [
        PAGES["untiled"],
        PageRequest("broken", b"no image"),
        two,
    ]
    answers = {
        answer.id: answer for answer in engine.adjusted(decoding=FREE).read(requests, progress=told.append)
    }
    assert answers["untiled"].finish_reason == "length"
    for name in ("broken", "two"):
        assert answers[name].finish_reason == "error"
        assert answers[name].error
    assert told == [1, 1, 1]


def test_more_pages_than_fit_at_a_time_are_all_read(engine: VllmEngine) -> None:
    requests = [PageRequest(str(number), page(number, 64, 64)) for number in range(5)]
    answers = read(engine.adjusted(decoding=DecodingSettings(max_new_tokens=2)), requests)
    assert sorted(answers, key=int) == [request.id for request in requests]
    assert all(answer.tokens == 2 and answer.seconds > 0 for answer in answers.values())


def test_reading_can_be_broken_off_and_begun_again(engine: VllmEngine) -> None:
    requests = [PageRequest(str(number), page(number, 64, 64)) for number in range(2)]
    short = engine.adjusted(decoding=DecodingSettings(max_new_tokens=4))
    first = list(itertools.islice(short.read(requests), 1))
    assert len(first) == 1
    assert len(read(short, requests)) == 2


def test_settings_are_told(engine: VllmEngine) -> None:
    described = engine.describe()
    assert described["processing"]["mode"] == "gundam"
    assert described["processing"]["max_tiles"] == 6
    assert described["not_honoured"] == {}
    with pytest.raises(SettingsError, match="gundam only"):
        engine.adjusted(mode="base")


def test_a_loop_is_stopped_and_read_again_and_others_after_it(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random model does not loop, so the detector is made to say so where it first looks."""
    monkeypatch.setattr("ocrsmith.engines.vllm.requests.is_endless", lambda tail: True)
    retrying = RetryLoops(engine.adjusted(decoding=DecodingSettings(max_new_tokens=600, ngram_size=0)))
    assert retrying.describe()["not_honoured"].keys() == {"loop_retries.mode"}
    (answer,) = retrying.read([PAGES["untiled"]])
    assert (answer.finish_reason, answer.tokens, answer.attempts) == ("loop", LOOP_TOKENS, 2)
    (after,) = engine.adjusted(decoding=FREE).read([PAGES["untiled"]])
    assert (after.finish_reason, after.tokens) == ("length", TOKENS)
