"""Copies: images that come again with the same or another text, texts of many images, leaks between splits.

Some 200 bytes of hashes are kept of each sample; ids and beginnings of texts wait in a temporary file until the
few that are shown are known. Leaks are found by `datasets.leakage`.
"""

from __future__ import annotations

import json
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from ocrsmith.datasets.check.findings import PARTS, Example, Finding, Part, excerpt, finding
from ocrsmith.datasets.leakage import LeakIndex, LeakReport
from ocrsmith.datasets.traits import Traits
from ocrsmith.records import PageSample

_IN_MEMORY = 16 << 20
_EXAMPLES = 8
_LEAST_REPEATS = 5
"""So many images must have a text for it to be told, and 0.5 % of all."""
_LEAST_SHARE = 0.005


class Copies:
    """Finds copies among all samples."""

    def __init__(self) -> None:
        self._images, self._texts = array("Q"), array("Q")
        self._parts, self._offsets = array("b"), array("Q")
        self._notes = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - lives as long as self
        self._leaks = LeakIndex()
        self._rows: dict[str, array[int]] = {}

    def add(self, sample: PageSample, split: Part, traits: Traits) -> None:
        """Takes a sample."""
        if split is not None:
            self._rows.setdefault(split, array("Q")).append(len(self._images))
            self._leaks.add(split, traits, group=sample.group, source=sample.source)
        text = blake2b(sample.text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._images.append(int.from_bytes(traits.image_digest[:8], "little"))
        self._texts.append(int.from_bytes(text, "little"))
        self._parts.append(PARTS.index(split))
        self._offsets.append(self._notes.tell())
        note = json.dumps([sample.id, split, excerpt(sample.text)[0]])
        self._notes.write(note.encode() + b"\n")

    def findings(self) -> list[Finding]:
        """Copies within splits, and texts of many images; call once all samples are there."""
        images = np.array(self._images, np.uint64)
        texts = np.array(self._texts, np.uint64)
        return [*self._copies_of_images(images, texts), *self._repeated_texts(texts)]

    def leaks(self, name: str) -> tuple[LeakReport | None, list[Finding]]:
        """The leakage report, and its findings; None where there are no two splits.

        Args:
            name: what the dataset is called.
        """
        if len(self._rows) < 2:
            return None, []
        shown: dict[str, Example] = {}

        def id_of(_: int, split: str, place: int) -> str:
            example = self._example(self._rows[split][place])
            shown[example.id] = example
            return example.id

        report = self._leaks.report(name, id_of=id_of)
        found = []
        for leak in report.leaks:
            examples = [
                replace(shown[tested], note=f"as {known} in {leak.known}") for known, tested in leak.examples
            ]
            detail = f"{leak.known} and {leak.tested}, {leak.share:.1%} of {leak.tested}"
            code = f"leak_{leak.kind}"
            found.append(finding(code, leak.count, len(self._images), examples, detail=detail))
        return report, found

    def _copies_of_images(self, images: np.ndarray, texts: np.ndarray) -> Iterator[Finding]:
        found: dict[str, list[np.ndarray]] = {"same_image_other_text": [], "repeated_sample": []}
        parts = np.array(self._parts)
        for rows in _runs(images):
            if len(np.unique(texts[rows])) > 1:
                found["same_image_other_text"].append(rows)
            pairs = set(zip(texts[rows].tolist(), parts[rows].tolist(), strict=True))
            if len(pairs) < len(rows):
                found["repeated_sample"].append(rows)
        for code, runs in found.items():
            if runs:
                count = sum(len(rows) for rows in runs)
                yield finding(code, count, len(images), self._examples(runs))

    def _repeated_texts(self, texts: np.ndarray) -> Iterator[Finding]:
        least = max(_LEAST_REPEATS, _LEAST_SHARE * len(texts))
        runs = sorted((rows for rows in _runs(texts) if len(rows) >= least), key=len, reverse=True)
        if runs:
            examples = []
            for rows in runs[:_EXAMPLES]:
                examples.append(replace(self._example(int(rows[0])), note=f"{len(rows):,} images"))
            count = sum(len(rows) for rows in runs)
            texts_in_words = "1 text" if len(runs) == 1 else f"{len(runs):,} texts"
            yield finding("repeated_text", count, len(texts), examples, detail=texts_in_words)

    def _examples(self, runs: list[np.ndarray]) -> list[Example]:
        """Two samples of each of the first runs; such with different texts, if there are any."""
        examples = []
        for number, rows in enumerate(runs[: _EXAMPLES // 2], start=1):
            first = self._example(int(rows[0]))
            others = [self._example(int(row)) for row in rows[1:32]]
            other = next((item for item in others if item.text != first.text), others[0])
            for item in (first, other):
                examples.append(replace(item, note=f"image {number}, {len(rows)} samples"))
        return examples

    def _example(self, row: int) -> Example:
        self._notes.seek(self._offsets[row])
        sample_id, split, text = json.loads(self._notes.readline())
        return Example(sample_id, split, text)

    def to_json(self) -> dict[str, Any]:
        """How many different images and texts there are."""
        return {
            "samples": len(self._images),
            "different_images": len(np.unique(np.array(self._images, np.uint64))),
            "different_texts": len(np.unique(np.array(self._texts, np.uint64))),
        }


def _runs(values: np.ndarray) -> Iterator[np.ndarray]:
    """The rows of each value that occurs more than once, in the order of their first row."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate((np.ones(len(values[:1]), bool), ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(values))[: len(starts)]
    runs = [order[start:end] for start, end in zip(starts, ends, strict=True) if end - start > 1]
    yield from sorted(runs, key=lambda rows: int(rows[0]))
