"""A whole tiny setting: byte tokenizer, random model, pictures of digits."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ocrsmith.model.config import OcrConfig
from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.records import PageSample
from ocrsmith.training.hardware import choose_hardware
from ocrsmith.training.run import TrainingRun, run_processor
from ocrsmith.training.settings import TrainSettings

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    special = [BOS, EOS, PAD]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(special)
    backend.add_special_tokens(["<image>", "<td>", "</td>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(processor: OcrProcessor) -> OcrConfig:
    return OcrConfig(
        language_config={
            "vocab_size": len(processor.tokenizer),
            "hidden_size": 32,
            "intermediate_size": 48,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 2,
            "max_position_embeddings": 256,
        },
        vision_config={
            "image_size": 512,
            "width": {
                "sam_vit_b": {
                    "width": 16,
                    "layers": 1,
                    "heads": 2,
                    "global_attn_indexes": [],
                    "downsample_channels": [16, 16],
                    "out_chans": 8,
                },
                "clip-l-14-224": {"width": 16, "layers": 1, "heads": 2, "image_size": 112},
            },
        },
        image_token_id=processor.tokens.image,
    )


def digits(count: int, start: int = 0) -> list[PageSample]:
    font = ImageFont.load_default(40)
    samples = []
    for number in range(start, start + count):
        image = Image.new("RGB", (200, 60), "white")
        ImageDraw.Draw(image).text((10, 5), str(number * 37), font=font, fill="black")
        file = io.BytesIO()
        image.save(file, "PNG")
        samples.append(PageSample(f"s{number}", file.getvalue(), f"s{number}.png", str(number * 37)))
    return samples


@pytest.fixture(scope="session")
def processor() -> OcrProcessor:
    return OcrProcessor(byte_tokenizer(), ProcessingSettings(mode="tiny"))


@pytest.fixture
def make_model(processor: OcrProcessor) -> Callable[[], OcrModel]:
    def make(seed: int = 0) -> OcrModel:
        torch.manual_seed(seed)
        model = OcrModel(tiny_config(processor)).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.normal_(0, 0.1)
        return model

    return make


@pytest.fixture
def model_folder(make_model, processor, tmp_path) -> Path:
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class Judge:
    """A score callable that answers with given CERs, one after another, and remembers what it was asked."""

    def __init__(self, *cers: float) -> None:
        self.cers = list(cers)
        self.asked: list[list[str]] = []

    def __call__(self, model: OcrModel, samples: Sequence[PageSample]) -> dict[str, Any]:
        assert not model.training
        torch.rand(3)  # whatever it does to the random state must not change the training
        self.asked.append([sample.id for sample in samples])
        cer = self.cers.pop(0) if len(self.cers) > 1 else self.cers[0]
        return {"cer": {"mean": cer, "micro": cer / 2, "median": cer}, "n": len(samples)}


@pytest.fixture
def make_run(make_model, processor):
    def make(train=None, validation=(), score=None, console=None, **options) -> TrainingRun:
        values = {
            "model": "tiny",
            "data": "digits",
            "max_steps": 4,
            "batch_size": 2,
            "accumulation": 2,
            "learning_rate": 1e-2,
            "warmup_steps": 1,
            "lora": {"r": 4},
            **options,
        }
        settings = TrainSettings.from_values(values)
        model = make_model().to(choose_hardware(settings).dtype)  # as `load_model` would load it
        return TrainingRun(
            model,
            run_processor(processor, settings, model),
            digits(7) if train is None else train,
            list(validation),
            settings,
            score=score,
            console=console,
        )

    return make
