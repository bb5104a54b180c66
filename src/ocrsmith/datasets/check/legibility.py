"""Which resolution mode the images need: how tall their letters are after each mode's resizing.

A letter height (see `ink`) of 8 pixels is taken as the least that can be read: about the height of a capital in
10-point type on an A4 page in base mode.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ocrsmith.datasets.check.figures import Tally
from ocrsmith.datasets.check.findings import Finding, Group, Part, finding
from ocrsmith.images.resize import MODES, Mode, ModeName, count_tokens, fit_within, image_layout
from ocrsmith.records import PageSample

LEGIBLE = 8.0
"""Pixels."""
GOALS = (0.90, 0.95, 0.99)
"""Shares of legible images for which a mode is recommended."""


def scale_of(width: int, height: int, mode: Mode) -> float:
    """By what an image is enlarged in a mode: the lesser of both directions where it is stretched.

    With tiles, those count: they show the page larger than the global view.
    """
    view, tile, columns, rows = image_layout(width, height, mode)
    if tile:
        return min(columns * tile / width, rows * tile / height)
    if mode.keep_aspect:
        wide, high = fit_within(width, height, view)
        return min(wide / width, high / height) if min(wide, high) > 1 else max(wide, high) / max(width, height)
    return min(view / width, view / height)


def tokens_of(width: int, height: int, mode: Mode) -> int:
    """Image tokens of an image in a mode."""
    return count_tokens(*image_layout(width, height, mode))


@dataclass(frozen=True, slots=True)
class ModeFigures:
    """What a mode makes of the images."""

    mode: str
    legible: float
    """Share of the measured images whose letters keep at least 8 pixels."""
    letter_p5: float
    letter_median: float
    """Pixels after resizing: 95 and 50 % of images have more."""
    tokens_median: float
    tokens_mean: float
    tokens_max: float
    """Image tokens."""
    needed: int
    """Images that are legible in this mode and in no cheaper one."""


@dataclass(frozen=True, slots=True)
class ModeReport:
    """All modes, and the cheapest ones that keep enough images legible."""

    modes: tuple[ModeFigures, ...]
    measured: int
    """Images whose letters could be measured."""
    total: int
    recommended: dict[float, str | None]
    """Goal (0.95: for 95 % of images) → mode; None where no mode does it."""

    @property
    def best(self) -> ModeFigures:
        """The mode that keeps most images legible; the cheapest of equals."""
        return max(self.modes, key=lambda item: (item.legible, -item.tokens_mean))

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "legible_from_pixels": LEGIBLE,
            "measured": self.measured,
            "samples": self.total,
            "modes": {
                item.mode: {
                    "legible": round(item.legible, 4),
                    "letter_height_p5": item.letter_p5,
                    "letter_height_median": item.letter_median,
                    "image_tokens_median": item.tokens_median,
                    "image_tokens_mean": round(item.tokens_mean, 1),
                    "image_tokens_max": item.tokens_max,
                    "needed_by": item.needed,
                }
                for item in self.modes
            },
            "recommended": {f"{goal:.0%}": mode for goal, mode in self.recommended.items()},
        }


class Legibility:
    """Gathers letter heights after resizing, by mode."""

    def __init__(self) -> None:
        self._letters = {name: Tally() for name in MODES}
        self._tokens = {name: Tally() for name in MODES}
        self._needed: Counter[str] = Counter()
        self._in_image, self._in_all_modes = Group(), Group()
        self.total = 0

    def add(
        self, sample: PageSample, split: Part, width: int, height: int, letter_height: float | None
    ) -> None:
        """Takes an image; None as height where no letters were found."""
        self.total += 1
        tokens = {name: tokens_of(width, height, mode) for name, mode in MODES.items()}
        for name, count in tokens.items():
            self._tokens[name].add(count)
        if letter_height is None:
            return
        letters = {name: letter_height * scale_of(width, height, mode) for name, mode in MODES.items()}
        for name, after in letters.items():
            self._letters[name].add(after)
        legible = [name for name, after in letters.items() if after >= LEGIBLE]
        if legible:
            self._needed[min(legible, key=lambda name: tokens[name])] += 1
        best = max(letters.values())
        if letter_height < LEGIBLE:
            self._in_image.add(sample, split, note=f"letters of {letter_height:.0f} px", picture=True)
        elif best < LEGIBLE:
            self._in_all_modes.add(sample, split, note=f"{best:.1f} px at best", picture=True)

    def report(self) -> ModeReport:
        """The figures of all modes, and which are recommended."""
        modes = tuple(self._figures(name) for name in MODES)
        by_cost = sorted(modes, key=lambda item: item.tokens_mean)
        measured = self._letters["base"].n
        recommended = {
            goal: next((item.mode for item in by_cost if item.legible >= goal), None) if measured else None
            for goal in GOALS
        }
        return ModeReport(modes, measured, self.total, recommended)

    def findings(self) -> list[Finding]:
        """Images whose letters are too small whatever the mode."""
        groups = {"letters_small": self._in_all_modes, "letters_small_in_image": self._in_image}
        return [
            finding(code, group.count, self.total, group.examples)
            for code, group in groups.items()
            if group.count
        ]

    def _figures(self, name: ModeName) -> ModeFigures:
        letters, tokens = self._letters[name], self._tokens[name]
        return ModeFigures(
            name,
            letters.share_from(LEGIBLE),
            letters.quantile(0.05),
            letters.quantile(0.5),
            tokens.quantile(0.5),
            tokens.mean,
            tokens.quantile(1.0),
            self._needed[name],
        )
