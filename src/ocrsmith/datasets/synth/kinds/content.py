"""What every kind of sample produces."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ocrsmith.datasets.synth.sheet import Setter, Sheet
from ocrsmith.datasets.synth.writer import Cut, Writer


class Content(Protocol):
    """What a sample says."""

    @property
    def text(self) -> str:
        """The sample's text: what a perfect reader writes."""

    @property
    def strings(self) -> list[str]:
        """Every string that is drawn; a face must cover them all."""

    @property
    def cuts(self) -> list[Cut]:
        """The given texts in it, with where they come from."""

    @property
    def vertical(self) -> bool:
        """Whether it is set in columns."""

    def draw(self, setter: Setter, rng: random.Random) -> Sheet:
        """Its ink."""


@dataclass(frozen=True)
class Kind:
    """A kind of sample."""

    name: str
    title: str
    sizes: tuple[int, int]
    """Smallest and largest font size, in pixels."""
    write: Callable[[Writer, random.Random, bool], Content]
    """(where texts come from, randomness, whether columns are wished) → content."""
