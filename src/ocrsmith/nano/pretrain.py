"""Pretrains the nano model from scratch on text rendered on the fly.

    torchrun --standalone --nproc-per-node 4 -m ocrsmith.nano.pretrain \
        --assets build/nano --out build/nano/run --minutes 20

What makes reading emerge in minutes (measured, see `README.md` beside this file):

- The text starts with one to three characters and grows with what is read correctly (`Curriculum`).
- Two CTC heads (Graves et al. 2006) sit on the encoder while it is trained, one on SAM's map and one on the
  image tokens that the decoder gets. They tell the encoder directly what stands where; the decoder attaches to
  what they have found. They are dropped from the saved model.
- The step is dense: bf16 weights with float32 masters, one compiled encoder pass, the vocabulary head on
  response rows only, gradients reduced in one flat call.

Resumable: `--out` keeps a checkpoint of weights, optimiser and curriculum; running the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from ocrsmith.model.ocr_model import OcrModel
from ocrsmith.model.processing import OcrProcessor, ProcessingSettings
from ocrsmith.model.weights import load_model, save_model
from ocrsmith.nano.architecture import VIEW_SIZE
from ocrsmith.nano.learner import Learner, Masters, Vocabulary
from ocrsmith.nano.tokenizer import build_tokenizer

LAYOUT = (VIEW_SIZE, 0, 0, 0)


@dataclass(frozen=True)
class PretrainSettings:
    assets: Path
    """Folder with `fonts/`, `words.txt.gz` and `heldout.npz` (see `README.md` beside this file)."""
    out: Path
    init: Path | None = None
    """Start from this model folder (an export of an earlier stage) instead of from noise, at full level."""
    minutes: float = 20.0
    """Wall time of the whole schedule, over all resumed stages."""
    stage_minutes: float = 1e9
    """Stop this stage after so many minutes; the schedule goes on at the next."""
    batch: int = 256
    """Views a step and GPU."""
    lr: float = 1.2e-3
    warmup_steps: int = 300
    decay_share: float = 0.4
    """Share of the schedule, at its end, over which the learning rate falls to zero."""
    weight_decay: float = 0.05
    ctc_weight: float = 0.5
    workers: int = 14
    eval_seconds: float = 90.0
    look_every: int = 20
    """Steps between looks at the clock and the accuracy, which wait for the device."""
    seed: int = 3407
    compile: bool = True


# --- data ----------------------------------------------------------------------------------------------------


class RenderedLines(IterableDataset):
    """Endless batches, rendered in the loader's workers; `level` (0..1) is shared and may rise meanwhile."""

    def __init__(self, settings: PretrainSettings, vocabulary: Vocabulary, level: Any, rank: int) -> None:
        self.settings, self.vocabulary, self.level, self.rank = settings, vocabulary, level, rank

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        import cv2

        from ocrsmith.nano.render import LineStream

        info = torch.utils.data.get_worker_info()
        worker = info.id if info else 0
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        # The time makes a resumed stage see other lines than the one before it.
        seed = hash((self.settings.seed, self.rank, worker, time.time_ns() // 10**9)) % 2**31
        assets = self.settings.assets
        stream = LineStream(
            assets / "fonts", assets / "words.txt.gz", seed=seed, level=self.level, view_size=VIEW_SIZE
        )
        tokenizer = build_tokenizer()
        # a word in angle brackets may spell the placeholder
        lines = (line for line in stream if "<image>" not in line.text)
        while True:
            yield self.batch([next(lines) for _ in range(self.settings.batch)], tokenizer)

    def batch(self, lines: list[Any], tokenizer: Any) -> dict[str, Tensor]:
        """Tensors of one step: views, token ids with labels, CTC targets (empty for paragraphs)."""
        vocabulary = self.vocabulary
        head = vocabulary.head
        views = np.stack([line.view for line in lines])  # (B, S, S)
        texts = tokenizer([line.text for line in lines], add_special_tokens=False)["input_ids"]
        length = len(head) + max(map(len, texts)) + 1
        length += -length % 16  # few distinct lengths
        ids = np.zeros((len(lines), length), np.int64) + vocabulary.eos
        labels = np.full((len(lines), length), -100, np.int64)
        targets: list[int] = []
        target_lengths = []
        for row, (line, tokens) in enumerate(zip(lines, texts, strict=True)):
            end = len(head) + len(tokens) + 1
            ids[row, : len(head)] = head
            ids[row, len(head) : end] = labels[row, len(head) : end] = [*tokens, vocabulary.eos]
            visual = [] if "\n" in line.text else [vocabulary.characters.get(c, 0) for c in line.visual]
            visual = [] if 0 in visual else visual
            targets += visual
            target_lengths.append(len(visual))
        rows = np.flatnonzero(labels.ravel() != -100) - 1
        return {
            "views": torch.from_numpy(views),
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "label_rows": torch.from_numpy(rows),
            "targets": torch.tensor(targets, dtype=torch.long),
            "target_lengths": torch.tensor(target_lengths, dtype=torch.long),
        }


# --- schedule ------------------------------------------------------------------------------------------------


class Curriculum:
    """Raises the level of the text (length, degradation) as soon as most tokens are read, or time runs on."""

    def __init__(self, level: Any, floor_until: float = 0.45) -> None:
        self.level, self.floor_until, self.smooth = level, floor_until, 0.0

    def update(self, accuracy: float, share: float) -> float:
        """`accuracy` of next tokens, `share` of the schedule's time that has passed."""
        self.smooth = 0.9 * self.smooth + 0.1 * accuracy
        if self.smooth > 0.6:
            self.level.value = min(1.0, self.level.value + 0.015)
        self.level.value = min(1.0, max(self.level.value, (share - 0.1) / self.floor_until))
        return self.level.value


def learning_rate(settings: PretrainSettings, step: int, share: float) -> float:
    """Warm-up by steps, then constant, then linear to zero by time."""
    warm = min(1.0, (step + 1) / settings.warmup_steps)
    cool = min(1.0, (1.0 - share) / settings.decay_share)
    return settings.lr * warm * max(cool, 0.0)


# --- evaluation ----------------------------------------------------------------------------------------------


@torch.no_grad()
def read_views(model: OcrModel, vocabulary: Vocabulary, views: Tensor, max_new: int = 80) -> list[list[int]]:
    """Greedy token ids for grey views (B, S, S) uint8."""
    count = views.shape[0]
    ids = torch.tensor([vocabulary.head], device=views.device).expand(count, -1)
    rgb = views[..., None].expand(-1, -1, -1, 3)
    out = model.generate(  # type: ignore[misc]  # typed in transformers for its own models
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        views={VIEW_SIZE: rgb},
        image_layouts=[LAYOUT] * count,
        max_new_tokens=max_new,
        do_sample=False,
        eos_token_id=vocabulary.eos,
        pad_token_id=vocabulary.eos,
    )
    return out[:, ids.shape[1] :].tolist()


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance, for machines without rapidfuzz."""
    row = np.arange(len(b) + 1)
    codes = np.array([ord(c) for c in b])
    for i, character in enumerate(a, start=1):
        best = np.minimum(row[1:] + 1, row[:-1] + (codes != ord(character)))
        row = np.concatenate([[i], best])
        row = np.minimum.accumulate(row - np.arange(len(b) + 1)) + np.arange(len(b) + 1)
    return int(row[-1])


def evaluate(model: OcrModel, vocabulary: Vocabulary, folder: Path, device: torch.device) -> dict[str, float]:
    """Mean CER a script on the held-out lines of `folder`/heldout.npz (views, texts, scripts)."""
    with np.load(folder / "heldout.npz") as data:
        views, texts, scripts = data["views"], data["texts"].tolist(), data["scripts"].tolist()
    tokenizer = build_tokenizer()
    model.eval()
    scores: dict[str, list[float]] = {}
    examples: dict[str, str] = {}
    for start in range(0, len(texts), 256):
        part = torch.from_numpy(views[start : start + 256]).to(device)
        for offset, tokens in enumerate(read_views(model, vocabulary, part)):
            text = str(tokenizer.decode(tokens, skip_special_tokens=True))
            truth, script = texts[start + offset], scripts[start + offset]
            scores.setdefault(script, []).append(edit_distance(truth, text) / max(len(truth), 1))
            examples.setdefault(script, f"{truth} -> {text}")
    model.train()
    for script, example in examples.items():
        print(f"    {script}: {example}", flush=True)
    return {script: round(float(np.mean(values)), 4) for script, values in scores.items()}


# --- run -----------------------------------------------------------------------------------------------------


class Run:
    """One stage of pretraining on this process's device."""

    def __init__(self, settings: PretrainSettings) -> None:
        self.settings = settings
        self.rank = int(os.environ.get("RANK", 0))
        local = int(os.environ.get("LOCAL_RANK", 0))
        if torch.cuda.is_available():
            torch.cuda.set_device(local)
            self.device = torch.device("cuda", local)
        else:
            self.device = torch.device("cpu")
        if int(os.environ.get("WORLD_SIZE", 1)) > 1:
            dist.init_process_group("nccl" if self.device.type == "cuda" else "gloo")
        torch.manual_seed(settings.seed)
        self.vocabulary = Vocabulary.build()
        self.learner = Learner(self.vocabulary).to(self.device).train()
        if self.device.type == "cuda":
            self.learner.bfloat16()
        if settings.init is not None:
            self.learner.ocr.load_state_dict(load_model(str(settings.init)).state_dict())
        self.masters = Masters(self.learner, settings.lr, settings.weight_decay)
        self.level = multiprocessing.get_context("spawn").Value("d", 0.0 if settings.init is None else 1.0)
        self.step, self.spent, self.seen = 0, 0.0, 0
        self.resume()
        self.encode = torch.compile(self.learner.encode) if settings.compile else self.learner.encode

    @property
    def checkpoint(self) -> Path:
        return self.settings.out / "checkpoint.pt"

    def resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        with torch.no_grad():
            for master, saved in zip(self.masters.masters, state["masters"], strict=True):
                master.copy_(saved)
            self.masters.publish()
        if state.get("optimizer"):
            self.masters.optimizer.load_state_dict(state["optimizer"])
        self.step, self.spent, self.seen = state["step"], state["spent"], state["seen"]
        self.level.value = state["level"]
        self.log(f"resumed at step {self.step}, {self.spent / 60:.1f} minutes, level {self.level.value:.2f}")

    def save(self) -> None:
        if self.rank:
            return
        self.settings.out.mkdir(parents=True, exist_ok=True)
        state = {
            "masters": [m.detach() for m in self.masters.masters],
            "optimizer": self.masters.optimizer.state_dict(),
            "step": self.step,
            "spent": self.spent,
            "seen": self.seen,
            "level": self.level.value,
        }
        torch.save(state, self.checkpoint.with_suffix(".tmp"))
        os.replace(self.checkpoint.with_suffix(".tmp"), self.checkpoint)
        self.export(self.settings.out / "model")

    def export(self, folder: Path) -> None:
        """The model without its CTC heads, in bf16 and hub layout, with its processor (mode "tiny")."""
        model = self.learner.ocr
        alpha, model.config.router_aux_loss_alpha = model.config.router_aux_loss_alpha, 0.0
        state = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
        model.config.dtype = "bfloat16"
        save_model(model, folder, state_dict=state)
        context = model.config.decoder_sizes.max_position_embeddings
        processing = ProcessingSettings(mode="tiny", max_length=context)
        OcrProcessor(build_tokenizer(), processing).save_pretrained(folder)
        model.config.router_aux_loss_alpha = alpha

    def log(self, text: str) -> None:
        if self.rank == 0:
            print(text, flush=True)

    def loader(self) -> DataLoader:
        return DataLoader(
            RenderedLines(self.settings, self.vocabulary, self.level, self.rank),
            batch_size=None,
            num_workers=self.settings.workers,
            prefetch_factor=2 if self.settings.workers else None,
            pin_memory=self.device.type == "cuda",
            multiprocessing_context="spawn" if self.settings.workers else None,
        )

    def train(self) -> None:
        settings, curriculum = self.settings, Curriculum(self.level)
        total = settings.minutes * 60
        start = last_eval = last_log = time.monotonic()
        before, seen_at_log, share = self.spent, self.seen, self.spent / total
        batches = iter(self.loader())
        parts: dict[str, Tensor] = {}
        while share < 1 and self.spent - before < settings.stage_minutes * 60:
            batch = next(batches)
            lengths = batch.pop("target_lengths")
            batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
            batch["target_lengths"] = lengths  # stays on the host
            loss, parts = self.learner(self.encode, batch, settings.ctc_weight)
            loss.backward()
            norm = self.masters.step(learning_rate(settings, self.step, share))
            self.step += 1
            self.seen += settings.batch * (dist.get_world_size() if dist.is_initialized() else 1)
            if self.step % settings.look_every == 0:
                numbers = {name: float(value) for name, value in parts.items()}  # waits for the device
                self.spent, share = self.shared_clock(before + time.monotonic() - start, total)
                level = curriculum.update(self.agree(numbers["accuracy"]), share)
                now = time.monotonic()
                if self.step % (5 * settings.look_every) == 0:
                    rate = (self.seen - seen_at_log) / (now - last_log)
                    last_log, seen_at_log = now, self.seen
                    line = " ".join(f"{name} {value:.3f}" for name, value in numbers.items())
                    self.log(
                        f"{self.spent:6.0f}s step {self.step} seen {self.seen} level {level:.2f} {line} "
                        f"norm {float(norm):.2f} {rate:.0f} lines/s"
                    )
                if self.agree(now - last_eval) > settings.eval_seconds:
                    last_eval = now
                    self.evaluate_and_save()
        self.spent, share = self.shared_clock(before + time.monotonic() - start, total)
        self.evaluate_and_save()

    def agree(self, value: float) -> float:
        """The mean of a number over all processes, so that all take the same decisions."""
        if not dist.is_initialized():
            return value
        tensor = torch.tensor(value, device=self.device)
        dist.all_reduce(tensor, op=dist.ReduceOp.AVG)
        return float(tensor)

    def shared_clock(self, spent: float, total: float) -> tuple[float, float]:
        spent = self.agree(spent)
        return spent, spent / total

    def evaluate_and_save(self) -> None:
        if self.rank == 0:
            scores = evaluate(self.learner.ocr, self.vocabulary, self.settings.assets, self.device)
            self.log(f"  held-out CER at {self.spent:.0f}s: {scores}")
            record = {"step": self.step, "seconds": round(self.spent), "lines": self.seen, "cer": scores}
            self.settings.out.mkdir(parents=True, exist_ok=True)
            with (self.settings.out / "log.jsonl").open("a") as stream:
                stream.write(json.dumps(record) + "\n")
            self.save()
        if dist.is_initialized():
            dist.barrier()


def parse_settings(arguments: list[str] | None = None) -> PretrainSettings:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    defaults = PretrainSettings(Path("build/nano"), Path("build/nano/run"))
    for name, value in asdict(defaults).items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(
                flag, type=type(value) if isinstance(value, bool | int | float) else Path, default=value
            )
    return PretrainSettings(**vars(parser.parse_args(arguments)))


def main() -> None:
    settings = parse_settings()
    run = Run(settings)
    parameters = sum(p.numel() for p in run.learner.ocr.parameters())
    run.log(f"{parameters / 1e6:.1f}M parameters, {run.device}, {settings}")
    run.train()
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
