"""The picture while it is made: first ink alone, then ink on paper."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ocrsmith.datasets.synth import pixels
from ocrsmith.datasets.synth.font_index import Face
from ocrsmith.datasets.synth.pixels import Field, Picture

Values = dict[str, float | str]
Colour = tuple[int, int, int]


@dataclass
class Canvas:
    """A sample's picture."""

    ink: Picture
    """(H, W), 255 where the ink is full."""
    text_height: float
    """The font's size in pixels: what blurs and breaks letters scales with it."""
    image: Picture
    """(H, W) or (H, W, 3): what one sees. Meaningless until `lay_on_paper`."""
    ink_colour: Colour = (0, 0, 0)
    paper_colour: Colour = (255, 255, 255)
    seal_face: Face | None = None
    """A face for the hanzi of a seal; None: seals have none."""
    quality: int | None = None
    """Of the JPEG file it is saved as; None: PNG."""
    two_levels: bool = False
    """Only black and white are left."""

    @classmethod
    def of(cls, ink: Picture, text_height: float) -> Canvas:
        """A canvas of ink that is not on paper yet."""
        return cls(ink, text_height, ink)

    def lay_on_paper(self) -> None:
        """Makes `image`: grey as long as ink and paper are."""
        share = np.arange(256, dtype=np.float32)[:, None] / 255
        ink, paper = np.array(self.ink_colour, np.float32), np.array(self.paper_colour, np.float32)
        table = np.round(paper + (ink - paper) * share).astype(np.uint8)
        grey = len(set(self.ink_colour)) == len(set(self.paper_colour)) == 1
        self.image = pixels.through_table(self.ink, np.ascontiguousarray(table[:, 0]) if grey else table)

    def encode(self) -> bytes:
        """The image file."""
        if self.quality is not None:
            return pixels.encode_jpeg(self.image, self.quality)
        return pixels.encode_png(self.image, two_levels=self.two_levels)


Effect = Callable[[Canvas, float, random.Random], Values]
"""(canvas, amount 0…1, randomness) → the values it took."""


def spots(shape: tuple[int, ...], size: float, rng: random.Random, *, smooth: bool = True) -> Field:
    """Normal noise over a picture of `shape`, in spots of about `size` pixels."""
    rows, columns = max(2, round(shape[0] / size)), max(2, round(shape[1] / size))
    coarse = np.random.default_rng(rng.getrandbits(64)).standard_normal((rows, columns), dtype=np.float32)
    return pixels.spread(coarse, shape, smooth=smooth)


def rounded(**values: float) -> Values:
    """Values as they go into `meta`."""
    return {name: round(value, 4) for name, value in values.items()}
