"""Gathers everything while the samples pass: each part of the report takes from a sample what it needs."""

from __future__ import annotations

from ocrsmith.datasets.check.characters import Inventory
from ocrsmith.datasets.check.duplicates import Copies
from ocrsmith.datasets.check.figures import Figures
from ocrsmith.datasets.check.findings import Finding, Group, finding
from ocrsmith.datasets.check.fit import Fit
from ocrsmith.datasets.check.legibility import Legibility
from ocrsmith.datasets.check.stream import Inspected
from ocrsmith.datasets.checks import LengthCheck

NEAR_LIMIT = 0.9
"""Share of the context from which a sample is near the limit."""
_USUAL = 0.5
"""Share of one-character texts above which they are what the dataset is about."""


class Census:
    """The counters of one check."""

    def __init__(self, length: LengthCheck) -> None:
        self.length = length
        self.figures, self.legibility, self.characters = Figures(), Legibility(), Inventory()
        self.copies, self.fit = Copies(), Fit()
        self.unreadable, self.blank, self.empty, self.single = Group(), Group(), Group(), Group()
        self.too_long, self.near_limit = Group(), Group()

    def add(self, item: Inspected) -> None:
        """Takes a sample."""
        sample, split, text = item.sample, item.split, item.sample.text.strip()
        self.characters.add(sample, split)
        self.copies.add(sample, split, item.traits)
        values: dict[str, float] = {
            "characters": len(sample.text),
            "lines": sample.text.count("\n") + 1,
            "bytes": len(sample.image) / 1000,
        }
        kinds = {"language": item.traits.language} if text else {}
        if not text:
            self.empty.add(sample, split, picture=True)
        elif len(text) == 1:
            self.single.add(sample, split, picture=True)
        if item.problem:
            self.unreadable.add(sample, split, note=item.problem)
        else:
            self._add_image(item, values)
            kinds |= {"format": item.format, "colour": item.colour}
        self.figures.add(split, values, kinds)

    def _add_image(self, item: Inspected, values: dict[str, float]) -> None:
        sample, split, width, height = item.sample, item.split, item.width, item.height
        letters = item.writing.letter_height
        values |= {"width": width, "height": height, "aspect": width / height}
        if letters is not None:
            values["letter_height"] = letters
        if item.writing.ink == 0 and sample.text.strip():
            self.blank.add(sample, split, picture=True)
        self.legibility.add(sample, split, width, height, letters)
        self.fit.add(sample, split, width, height, item.writing)
        if item.tokens is None:
            return
        values["tokens"] = item.tokens
        note = f"{item.tokens:,} tokens"
        if item.tokens > self.length.context:
            self.too_long.add(sample, split, note=note)
        elif item.tokens > NEAR_LIMIT * self.length.context:
            self.near_limit.add(sample, split, note=note)

    def findings(self) -> list[Finding]:
        """All findings of the pass."""
        total = self.figures.samples["all"]
        groups = {
            "unreadable_image": self.unreadable,
            "blank_image": self.blank,
            "empty_text": self.empty,
            "one_character": self.single if self.single.count <= _USUAL * total else Group(),
            "too_long": self.too_long,
            "near_limit": self.near_limit,
        }
        found = [
            finding(code, group.count, total, group.examples) for code, group in groups.items() if group.count
        ]
        found += self.legibility.findings()
        found += self.fit.findings(total)
        found += self.characters.findings()
        return found + self.copies.findings()
