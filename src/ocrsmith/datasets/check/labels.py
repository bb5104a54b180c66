"""Labels that are likely wrong because a model, sure of itself, reads something else."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rapidfuzz.distance import Levenshtein

from ocrsmith.datasets.check.findings import Example, Finding, Part, excerpt, finding
from ocrsmith.datasets.check.picture import thumbnail
from ocrsmith.records import PageSample, Prediction

SHOWN = 24
"""Labels that the finding shows with pictures."""
BATCH = 128
"""Samples that are handed to the model at a time."""
LEAST_CER = 0.15
LEAST_CONFIDENCE = 0.6
"""Below, a disagreement says more about the model than about the label."""


@dataclass(frozen=True, slots=True)
class LabelError:
    """A label that a model disagrees with."""

    sample: PageSample
    split: Part
    prediction: str
    confidence: float
    """Geometric mean of the tokens' probabilities."""
    cer: float
    """Character error rate of the prediction against the label, 1 at most."""

    @property
    def score(self) -> float:
        """By which they are ranked: sure and far from the label first."""
        return self.confidence * self.cer

    def to_json(self) -> dict[str, Any]:
        """Without the image."""
        return {
            "id": self.sample.id,
            "split": self.split,
            "label": self.sample.text,
            "prediction": self.prediction,
            "confidence": round(self.confidence, 4),
            "cer": round(self.cer, 4),
            "score": round(self.score, 4),
        }


Read = Callable[[Sequence[PageSample]], Iterable[Prediction]]
"""Reads pages: one prediction for each sample, with its id, in any order."""


def find_label_errors(
    samples: Iterable[tuple[Part, PageSample]],
    read: Read,
    *,
    most: int = 100,
    progress: Callable[[int], None] | None = None,
) -> tuple[list[LabelError], int]:
    """Ranks the samples whose label a model confidently reads otherwise.

    Loops, cut-off and failed pages say nothing about a label and are passed over.

    Args:
        samples: with their splits; read in batches, so they may be many.
        read: the model.
        most: so many are kept, the highest scores.
        progress: told how many samples were read.

    Returns:
        The errors, likeliest first, and how many there are in all.
    """
    heap: list[tuple[float, int, LabelError]] = []
    found = done = 0
    for batch in _batches(samples):
        by_id = {str(number): pair for number, pair in enumerate(batch)}
        for prediction in read([_renamed(sample, name) for name, (_, sample) in by_id.items()]):
            split, sample = by_id[prediction.id]
            error = _judge(sample, split, prediction)
            if error is None:
                continue
            found += 1
            item = (error.score, -found, error)
            if len(heap) < most:
                heapq.heappush(heap, item)
            else:
                heapq.heappushpop(heap, item)
        done += len(batch)
        if progress:
            progress(done)
    return [error for _, _, error in sorted(heap, reverse=True)], found


def label_finding(errors: Sequence[LabelError], count: int, total: int) -> Finding:
    """The finding of `find_label_errors`, with the likeliest as examples."""
    examples = [
        Example(
            error.sample.id,
            error.split,
            excerpt(error.sample.text)[0],
            note=f"read: {excerpt(error.prediction)[0]} ({error.confidence:.0%} sure, CER {error.cer:.0%})",
            thumbnail=thumbnail(error.sample.image),
        )
        for error in errors[:SHOWN]
    ]
    return finding("label_error", count, total, examples)


def _renamed(sample: PageSample, name: str) -> PageSample:
    """Under another id: those of a foreign set may repeat."""
    return PageSample(name, sample.image, sample.image_path, sample.text, prompt=sample.prompt)


def _judge(sample: PageSample, split: Part, prediction: Prediction) -> LabelError | None:
    if prediction.finish_reason != "stop" or prediction.logprob_mean is None or not sample.text:
        return None
    confidence = math.exp(prediction.logprob_mean)
    cer = min(1.0, Levenshtein.distance(sample.text, prediction.text) / len(sample.text))
    if cer < LEAST_CER or confidence < LEAST_CONFIDENCE:
        return None
    return LabelError(sample, split, prediction.text, confidence, cer)


def _batches(samples: Iterable[tuple[Part, PageSample]]) -> Iterator[list[tuple[Part, PageSample]]]:
    iterator = iter(samples)
    while batch := list(islice(iterator, BATCH)):
        yield batch
