"""A dataset on disk with an evaluation of it, made from texts and readings."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.datasets import BuildSettings, Dataset, build_dataset, open_dataset
from ocrsmith.evaluation import Evaluation, store
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason


@dataclass(frozen=True)
class Read:
    """A page: its reference, and what was read with which confidence."""

    reference: str
    prediction: str
    confidence: float | None = None
    finish: FinishReason = "stop"
    group: str = ""


def picture(number: int) -> bytes:
    """A picture that no other number has."""
    image = Image.frombytes("L", (64, 16), bytes((x * 7 + number * 31) % 256 for x in range(64 * 16)))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def build(folder: Path, reads: Sequence[Read], *, split: str = "val", prompt: str | None = None) -> Dataset:
    """A dataset folder with the references of `reads` in one split."""
    source = folder.parent / f"{folder.name}-source"
    source.mkdir()
    rows = ["image,text,group,language"]
    for number, read in enumerate(reads):
        (source / f"p{number}.png").write_bytes(picture(number))
        text = read.reference.replace('"', '""')
        rows.append(f'p{number}.png,"{text}",{read.group or f"d{number}"},en')
    (source / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    settings = BuildSettings(splits="100/0/0")
    build_dataset([source], folder, settings if prompt is None else replace(settings, prompt=prompt))
    if split != "train":  # a dataset needs samples to train on; one made elsewhere does not
        for file in (folder / "data").iterdir():
            file.rename(file.with_name(file.name.replace("train", split)))
        (folder / "manifest.json").write_text(_moved((folder / "manifest.json").read_text(), split))
    return open_dataset(folder)


def _moved(manifest: str, split: str) -> str:
    content = json.loads(manifest)
    splits = content["splits"]
    splits[split], splits["train"] = splits["train"], splits[split]
    return json.dumps(content).replace("train-00000", f"{split}-00000")


def evaluated(folder: Path, dataset: Dataset, reads: Sequence[Read], *, split: Any = "val") -> Path:
    """A finished evaluation of it."""
    by_text = {read.reference: read for read in reads}
    results = []
    for index, sample in enumerate(dataset.iter_samples(split)):
        read = by_text[sample.text]
        results.append(
            PageResult(
                index,
                sample.id,
                sample.group if read.group else "",
                sample.image_path,
                sample.text,
                read.prediction,
                read.finish,
                logprob_mean=None if read.confidence is None else math.log(read.confidence),
                error="damaged" if read.finish == "error" else None,
                meta=sample.meta,
            )
        )
    data = {"content_hash": dataset.content_hash, "split": split, "path": str(dataset.path)}
    folder.mkdir()
    engine = {"name": "native", "model": {"name": "nano", "hash": "sha256:n"}}
    store.save(Evaluation.of(results, {"engine": engine, "dataset": data}), folder)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Builds dataset `data` and evaluation `eval` from reads; gives the evaluation's folder."""

    def make(*reads: Read, split: str = "val", prompt: str | None = None) -> Path:
        dataset = build(tmp_path / "data", reads, split=split, prompt=prompt)
        return evaluated(tmp_path / "eval", dataset, reads, split=split)

    return make


WORDS = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "flint",
    "grove",
    "haven",
    "inlet",
    "jetty",
    "kiosk",
    "maple",
)


def line(number: int) -> str:
    """A text that no other number has."""
    first, second, third = (WORDS[(number * step + step) % len(WORDS)] for step in (1, 3, 5))
    return f"{first} {second} {third} no {number:03d}"
