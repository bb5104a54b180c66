"""What the tests of this folder share: a small dataset in memory and an engine that answers from a table."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ocrsmith.engines.base import PageRequest, ReadProgress, failed
from ocrsmith.evaluation import Evaluation
from ocrsmith.evaluation.store import PageResult
from ocrsmith.records import FinishReason, PageSample, Prediction, SplitName


def png(width: int = 60, height: int = 20) -> bytes:
    """A small white picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(buffer, format="PNG")
    return buffer.getvalue()


@dataclass
class Pages:
    """A dataset in memory with one filled split, `test`."""

    samples: list[PageSample]
    content_hash: str = "sha256:pages"
    prompt: str = "<image>\nFree OCR."

    def count(self, split: SplitName) -> int:
        return len(self.samples) if split == "test" else 0

    def iter_samples(self, split: SplitName) -> Iterator[PageSample]:
        yield from self.samples if split == "test" else ()


@dataclass
class TableEngine:
    """Looks predictions up by id. `None` fails; an exception in the table is raised."""

    answers: Mapping[str, str | BaseException | None]
    finish: Mapping[str, FinishReason] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=lambda: {"model": {"name": "table", "hash": "sha256:t"}})
    batch_size: int = 4
    asked: list[PageRequest] = field(default_factory=list)
    name: str = "table"

    def describe(self) -> dict[str, Any]:
        return {**self.settings, "runtime": {"batch_size": self.batch_size}}

    def read(
        self, requests: Sequence[PageRequest], *, progress: ReadProgress | None = None
    ) -> Iterator[Prediction]:
        for request in reversed(requests):
            self.asked.append(request)
            answer = self.answers[request.id]
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                yield failed(request, "The image is damaged.")
            else:
                reason = self.finish.get(request.id, "stop")
                yield Prediction(
                    request.id, answer, reason, seconds=0.5, tokens=len(answer) + 1, logprob_mean=-0.1
                )
            if progress:
                progress(1)


@pytest.fixture
def pages() -> Callable[..., Pages]:
    """Makes a dataset from texts: `pages(a="text of a", b=…)`; ids are the names."""

    def make(**texts: str) -> Pages:
        samples = [
            PageSample(id=name, image=png(), image_path=f"{name}.png", text=text, group=name[0])
            for name, text in texts.items()
        ]
        return Pages(samples)

    return make


@pytest.fixture
def engine() -> Callable[..., TableEngine]:
    """Makes an engine from answers: `engine(a="what it reads in a", b=None)`."""

    def make(
        finish: Mapping[str, FinishReason] | None = None, **answers: str | BaseException | None
    ) -> TableEngine:
        return TableEngine(answers, finish or {})

    return make


@pytest.fixture
def evaluation() -> Callable[..., Evaluation]:
    """Makes a finished evaluation from (reference, prediction) or (reference, prediction, finish reason)."""

    def make(*pairs: tuple[str, str] | tuple[str, str, FinishReason], **provenance: Any) -> Evaluation:
        results = [
            PageResult(
                index=place,
                id=f"p{place}",
                group=f"g{place // 2}",
                image_path=f"p{place}.png",
                reference=pair[0],
                prediction=pair[1],
                finish_reason=pair[2] if len(pair) == 3 else "stop",
                seconds=0.25,
            )
            for place, pair in enumerate(pairs)
        ]
        data = {"content_hash": "sha256:same", "split": "test", "path": "/data/archive"}
        return Evaluation.of(results, {"engine": {"name": "table"}, "dataset": data, **provenance})

    return make


@pytest.fixture
def saved(evaluation: Callable[..., Evaluation], tmp_path: Path) -> Callable[..., Path]:
    """Writes a finished evaluation: `saved("name", (reference, prediction), …)`; returns its folder."""
    from ocrsmith.evaluation import store

    def make(name: str, *pairs: Any, **provenance: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        store.save(evaluation(*pairs, **provenance), folder)
        return folder

    return make
