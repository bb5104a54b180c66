"""Trains and reads with one engine for the CPU benchmark, as `cpu.py` tells it; see `worker.py`."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.clock import peak_gib
from benchmarks.worker import Message, serve
from ocrsmith.cli.train import prepare_run, resolve_settings
from ocrsmith.datasets import Dataset, open_dataset
from ocrsmith.engines.base import PageRequest
from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.native import BATCH_SIZES, NativeEngine
from ocrsmith.model.host_memory import keep_freed_memory
from ocrsmith.model.weights import load_model, load_processor
from ocrsmith.training.collate import TrainingItem, TrainingSamples
from ocrsmith.training.settings import TrainSettings

MAX_NEW_TOKENS = 64
"""As `ocrsmith quickstart` has it."""


def quickstart_settings(data: Path, **changes: Any) -> TrainSettings:
    """The quickstart's recipe over nano's own."""
    with resources.as_file(resources.files("ocrsmith.nano") / "quickstart.yaml") as recipe:
        return resolve_settings({"data": str(data), **changes}, config=recipe)


def pages_of(dataset: Dataset, count: int) -> list[PageRequest]:
    """The first test pages, as `ocrsmith eval` asks for them."""
    samples = dataset.table("test")
    return [
        PageRequest(sample.id, sample.image, sample.prompt, expected_length=len(sample.text))
        for sample in (samples[number] for number in range(min(count, len(samples))))
    ]


class Ours:
    """`ocrsmith train` and the native engine, as the quickstart calls them."""

    def __init__(self, settings: dict[str, Any]) -> None:
        keep_freed_memory()
        self.dataset = open_dataset(settings["data"])
        self.data = Path(settings["data"])
        self.pages = pages_of(self.dataset, settings["pages"])
        self.engine = NativeEngine.load("nano", max_new_tokens=MAX_NEW_TOKENS, device="cpu")

    def train(self, steps: int) -> dict[str, Any]:
        """Seconds and losses of a short run's steps, as its own log tells them; the first is left out."""
        settings = quickstart_settings(self.data, max_steps=steps + 1, eval_every=steps + 1, eval_samples=1)
        with tempfile.TemporaryDirectory(prefix="benchmark-") as scratch:
            prepare_run(settings).train(Path(scratch) / "run")
            log = (Path(scratch) / "run" / "metrics.jsonl").read_text().splitlines()
        lines = [line for line in map(json.loads, log) if "loss" in line]
        samples = settings.samples_per_step
        return {
            "seconds": [samples / line["samples_per_second"] for line in lines[1:]],
            "loss": [line["loss"] for line in lines],
        }

    def read(self) -> dict[str, str]:
        """Answers by page."""
        return {answer.id: answer.text for answer in self.engine.read(self.pages)}


class Transformers:
    """Transformers' own classes and `generate`, PEFT, and a plain loop."""

    def __init__(self, settings: dict[str, Any]) -> None:
        from benchmarks.reference.native_transformers import NativePeer

        self.dataset = open_dataset(settings["data"])
        self.recipe = quickstart_settings(Path(settings["data"]))
        self.processor = load_processor("nano")
        self.pages = pages_of(self.dataset, settings["pages"])
        model: Any = load_model("nano", dtype=torch.float32, device="cpu")
        self.reader = NativePeer(model, adapter=False)
        lora = self.recipe.lora
        torch.manual_seed(self.recipe.seed)
        self.peer = NativePeer(model, rank=lora.r, alpha=int(lora.alpha), encoder_learns=True)
        self.peer.model.train()
        self.trained = [p for p in self.peer.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=self.recipe.learning_rate, weight_decay=self.recipe.weight_decay, fused=True
        )
        self.batches = self._batches()

    def _batches(self) -> Iterator[dict[str, Any]]:
        table = self.dataset.table("train")
        samples = TrainingSamples(table, self.processor, range(len(table)))
        loader: Any = DataLoader(
            samples,
            batch_size=self.recipe.samples_per_step,
            shuffle=True,
            drop_last=True,
            generator=torch.Generator().manual_seed(self.recipe.seed),
            collate_fn=self._collate,
        )
        while True:
            yield from loader

    def _collate(self, items: list[TrainingItem]) -> dict[str, Any]:
        return self.processor.collate([item.encoded for item in items])

    def train(self, steps: int) -> dict[str, Any]:
        """Seconds and losses of optimiser steps, images decoded within them."""
        seconds, losses = [], []
        for _ in range(steps):
            start = time.perf_counter()
            loss = self.peer.whole_loss(next(self.batches))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.max_grad_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(float(loss.detach()))
            seconds.append(time.perf_counter() - start)
        return {"seconds": seconds, "loss": losses}

    def read(self) -> dict[str, str]:
        """Answers by page, padded batches one after the other."""
        size = BATCH_SIZES["cpu"]
        answers: dict[str, str] = {}
        for start in range(0, len(self.pages), size):
            answers.update(self._read_batch(self.pages[start : start + size]))
        return answers

    @torch.inference_mode()
    def _read_batch(self, pages: list[PageRequest]) -> dict[str, str]:
        from transformers import LogitsProcessorList

        from benchmarks.reference.native_transformers import native_arguments

        processor, tokens = self.processor, self.processor.tokens
        batch = processor.collate(
            [processor.encode([page.image], page.prompt) for page in pages], padding_side="left"
        )
        length = batch["input_ids"].shape[1]
        control: Any = DecodingSettings().loop_control(processor.tokenizer, prompt_length=length)
        out = self.reader.bare.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            **native_arguments(batch, torch.float32),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            eos_token_id=tokens.eos,
            pad_token_id=tokens.pad,
            logits_processor=LogitsProcessorList([control]),
        )
        rows = out[:, length:].tolist()
        return {page.id: processor.decode(row).strip() for page, row in zip(pages, rows, strict=True)}


ENGINES: dict[str, Callable[[dict[str, Any]], Ours | Transformers]] = {
    "ours": Ours,
    "transformers": Transformers,
}


def start(settings: Message) -> tuple[Message, Callable[[Message], Message]]:
    """Sets an engine up and warms it."""
    torch.set_num_threads(settings["threads"])
    engine = ENGINES[settings["engine"]](settings)
    first = engine.train(1)

    def respond(request: Message) -> Message:
        if request["do"] == "train":
            told = engine.train(request["steps"])
        elif request["do"] == "gemm":
            told = {"flops": gemm_rate()}
        else:
            begun = time.perf_counter()
            answers = engine.read()
            told = {"seconds": (time.perf_counter() - begun) / len(answers), "answers": answers}
        return {**told, "peak_gib": peak_gib(torch.device("cpu"))}

    return {"first_loss": first["loss"][0]}, respond


def gemm_rate() -> float:
    """Operations a second of a float32 product of the shape of the encoder's widest layer."""
    rows, inner, out = 8192, 256, 1024
    a, b, into = torch.randn(rows, inner), torch.randn(inner, out), torch.empty(rows, out)
    best = float("inf")
    for _ in range(10):
        begun = time.perf_counter()
        torch.mm(a, b, out=into)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * rows * inner * out / best


if __name__ == "__main__":
    serve(start)
