"""Draw lines and short paragraphs as crops of a document, and stream them stretched to the model's view."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ocrsmith.datasets.synth.shaping import for_drawing, is_rtl, visual_order
from ocrsmith.nano.alphabet import ZWNJ
from ocrsmith.nano.corpus import TextSource
from ocrsmith.nano.degrade import degrade
from ocrsmith.nano.fonts import SCRIPTS, Font, load_fonts

Gray = npt.NDArray[np.uint8]
FONT_SIZES = (16, 18, 20, 22, 24, 26, 28, 32, 36, 40, 44, 48, 56, 64)


class Sample(NamedTuple):
    """One pretraining example: the (S, S) uint8 view, the text to predict and its characters in the order in
    which they stand from left to right (without ZWNJ; lines of a paragraph joined by a line feed)."""

    view: Gray
    text: str
    visual: str
    script: str


@dataclass(frozen=True)
class Style:
    """How one crop is set. Shades are 0 (black) … 255 (white); margins are in units of the font size."""

    font_size: int
    ink: int = 20
    paper: int = 255
    left: float = 0.3
    right: float = 0.3
    top: float = 0.2
    bottom: float = 0.2
    line_gap: float = 0.35
    rule: str = ""  # "", "underline", "box" or "ruled"
    texture: float = 0.0
    min_aspect: float = 0.0  # a crop narrower than this times its height gets paper beside its text


@lru_cache(maxsize=4096)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)


def text_mask(text: str, font_path: Path | str, size: int, *, rtl: bool | None = None) -> Gray:
    """The ink of one line (H, W), 255 where it is full, cut to its bounds. `text` is in logical order; `rtl` is
    the direction of its paragraph (None: of itself)."""
    font = _font(str(font_path), size)
    drawn = for_drawing(text, rtl=rtl)
    width = (
        int(1.3 * size * len(drawn)) + 2 * size
    )  # an upper bound: measuring costs as much as a quarter of drawing
    canvas = Image.new("L", (width, 3 * size))
    ImageDraw.Draw(canvas).text((size, 2 * size), drawn, fill=255, font=font, anchor="ls")
    box = canvas.getbbox()
    if box is None:
        return np.zeros((size // 2, max(1, size // 2)), np.uint8)
    # keep the letter height's room: a lone full stop must not fill the whole crop
    box = (box[0], min(box[1], 2 * size - int(0.7 * size)), box[2], max(box[3], 2 * size + 1))
    return np.asarray(canvas.crop(box))


def random_style(rng: random.Random, strength: float, size: int | None = None) -> Style:
    """A style for one crop; `strength` 0 is black on white with plain margins."""
    size = size or rng.choice(FONT_SIZES)
    if strength <= 0:
        return Style(size)
    paper = 255 if rng.random() < 0.3 else rng.randint(int(255 - 90 * strength), 255)
    ink = rng.randint(0, int(20 + 90 * strength))
    ink = min(ink, paper - 70)
    if rng.random() < 0.06 * strength:
        ink, paper = paper, ink
    rule = rng.choice(("underline", "box", "ruled")) if rng.random() < 0.12 * strength else ""
    return Style(
        font_size=size,
        ink=ink,
        paper=paper,
        left=rng.uniform(0.05, 0.9),
        right=rng.uniform(0.05, 0.9),
        top=rng.uniform(0.04, 0.5),
        bottom=rng.uniform(0.04, 0.5),
        line_gap=rng.uniform(0.15, 0.7),
        rule=rule,
        texture=rng.uniform(2, 14) * strength if rng.random() < 0.25 else 0.0,
        min_aspect=rng.uniform(1, 16) if rng.random() < 0.5 else 0.0,
    )


def render_text(text: str, font_path: Path | str, rng: random.Random, style: Style) -> Gray:
    """`text` (one line, or a few separated by line feeds) as a grayscale crop (H, W) of natural size."""
    size = style.font_size
    rtl = is_rtl(text)
    masks = [text_mask(line, font_path, size, rtl=rtl) for line in text.split("\n")]
    gap = int(style.line_gap * size)
    inner = max(m.shape[1] for m in masks)
    height = sum(m.shape[0] for m in masks) + gap * (len(masks) - 1)
    top, bottom = int(style.top * size) + 1, int(style.bottom * size) + 1
    left, right = int(style.left * size) + 1, int(style.right * size) + 1
    spare = int(style.min_aspect * (height + top + bottom)) - (inner + left + right)
    if spare > 0:
        share = rng.random() if rng.random() < 0.5 else float(rtl)
        left += int(spare * share)
        right += spare - int(spare * share)
    ink = np.zeros((height + top + bottom, inner + left + right), np.uint8)
    y = top
    for mask in masks:
        x = left + (inner - mask.shape[1] if rtl else 0)
        ink[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
        y += mask.shape[0] + gap
    if style.rule:
        _draw_rule(ink, style, top, bottom)
    return _blend(ink, style, rng)


def _draw_rule(ink: Gray, style: Style, top: int, bottom: int) -> None:
    """An underline, a frame or a writing line, drawn outside the text's bounds."""
    height, width = ink.shape
    thick = max(1, style.font_size // 22)
    if style.rule == "underline":
        y = min(height - thick, height - bottom + thick)
        ink[y : y + thick, 2 : width - 2] = 255
    elif style.rule == "box":
        ink[:thick] = ink[-thick:] = 255
        ink[:, :thick] = ink[:, -thick:] = 255
    else:
        ink[height - thick :] = 140


def _blend(ink: Gray, style: Style, rng: random.Random) -> Gray:
    span = style.ink - style.paper
    image = np.asarray(Image.fromarray(ink).point([style.paper + span * i // 255 for i in range(256)]))
    if style.texture:
        height, width = image.shape
        seed = np.random.default_rng(rng.getrandbits(32))
        coarse = seed.normal(0, style.texture, (height // 6 + 2, width // 6 + 2)).astype(np.float32)
        field = Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)
        image = np.clip(image + np.asarray(field), 0, 255).astype(np.uint8)
    return image


def _font_size(text: str, rng: random.Random) -> int:
    """A random size, smaller for long lines: pixels beyond the view's width would only cost time."""
    units = max(sum(1.0 if c > "\u2e7f" else 0.5 for c in line) for line in text.split("\n"))
    greatest = max(24.0, 900 / units)
    return rng.choice([size for size in FONT_SIZES if size <= greatest])


def render_line(
    text: str, font_path: Path | str, rng: random.Random, strength: float = 0.5, style: Style | None = None
) -> Gray:
    """One line (or paragraph) in a random or given style, damaged with `strength` 0…1; (H, W) uint8."""
    style = style or random_style(rng, strength, _font_size(text, rng))
    return degrade(render_text(text, font_path, rng, style), rng, strength, style.font_size)


def stretch(image: Gray, size: int) -> Gray:
    """The crop stretched to (size, size) without keeping its aspect, as mode "tiny" does it (bicubic)."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))


def visual_text(text: str) -> str:
    """The characters of `text` as they stand from left to right, line by line; ZWNJ, which shows nothing of its
    own, is left out."""
    rtl = is_rtl(text)
    return "\n".join(visual_order(line.replace(ZWNJ, ""), rtl=rtl) for line in text.split("\n"))


# level from which so many of the most frequent hanzi are used
HANZI_STEPS = ((0.0, 300), (0.08, 800), (0.16, 2000), (0.26, 3755), (0.4, None))
LENGTHS: Mapping[str, tuple[int, int]] = {"latin": (3, 70), "chinese": (2, 40), "persian": (3, 60)}
MIX: Mapping[str, float] = {"latin": 0.35, "chinese": 0.40, "persian": 0.25}


class LineStream:
    """An endless stream of `Sample`s; picklable, one per worker process.

    Args:
        fonts: folder of `collect_fonts`.
        words: file of `export_words`.
        view_size: side S of the emitted views in pixels.
        seed: base seed; `for_worker(n)` derives the seed of worker n.
        level: 0…1, or an object with `.value` or convertible by `float` (a `multiprocessing.Value`, a shared
            tensor) that the trainer may change while the stream runs. It sets the greatest length (geometric
            from the shorter to the longer of `lengths`), the hanzi in use, and the damage.
        mix: weights of the scripts "latin", "chinese", "persian".
        lengths: greatest number of characters at level 0 and at level 1, by script.
        paragraph_share: part of short paragraphs (2–4 lines of a third of the length) at level 1; none below
            level 0.6.
        alphabet_share: part of uniformly random characters among the words.
        max_strength: strength of the damage at level 1 (it falls to a third at level 0).
    """

    def __init__(
        self,
        fonts: Path | str,
        words: Path | str,
        *,
        view_size: int = 512,
        seed: int = 0,
        level: Any = 1.0,
        mix: Mapping[str, float] = MIX,
        lengths: Mapping[str, tuple[int, int]] = LENGTHS,
        paragraph_share: float = 0.08,
        alphabet_share: float = 0.18,
        max_strength: float = 0.7,
        split: str = "train",
    ) -> None:
        self.fonts, self.words = Path(fonts), Path(words)
        self.view_size, self.seed, self.level = view_size, seed, level
        self.mix, self.lengths = dict(mix), dict(lengths)
        self.paragraph_share, self.alphabet_share = paragraph_share, alphabet_share
        self.max_strength, self.split = max_strength, split

    def for_worker(self, number: int) -> LineStream:
        """The same stream with the seed of worker `number` (the level stays shared)."""
        keys = [
            "view_size",
            "level",
            "mix",
            "lengths",
            "paragraph_share",
            "alphabet_share",
            "max_strength",
            "split",
        ]
        kept = {key: getattr(self, key) for key in keys}
        return LineStream(self.fonts, self.words, seed=self.seed * 1_000_003 + number + 1, **kept)

    def current_level(self) -> float:
        """The level now, 0…1."""
        return min(1.0, max(0.0, float(getattr(self.level, "value", self.level))))

    def __iter__(self) -> Iterator[Sample]:
        cv2.setNumThreads(1)  # one process a core already: threads of its own only get in the way
        rng = random.Random(self.seed)
        source = TextSource(self.words, rng.getrandbits(48))
        families = _by_family(load_fonts(self.fonts, self.split))
        scripts, weights = list(self.mix), list(self.mix.values())
        while True:
            level = self.current_level()
            limit = next(count for start, count in reversed(HANZI_STEPS) if level >= start)
            source.set_hanzi_limit(limit)
            script = rng.choices(scripts, weights=weights)[0]
            text = self._text(source, rng, script, level)
            font = _choose_font(families[script], text, rng)
            if font is None:
                continue
            strength = self.max_strength * (1 / 3 + 2 / 3 * level)
            view = stretch(render_line(text, font.path, rng, strength), self.view_size)
            yield Sample(view, text, visual_text(text), script)

    def _text(self, source: TextSource, rng: random.Random, script: str, level: float) -> str:
        first, last = self.lengths[script]
        longest = max(1, round(first * (last / first) ** level))
        if level >= 0.6 and rng.random() < self.paragraph_share * (level - 0.6) / 0.4:
            count = rng.randint(2, 4)
            return "\n".join(
                source.line(script, max(2, longest // 3), self.alphabet_share) for _ in range(count)
            )
        return source.line(script, longest, self.alphabet_share)


def _by_family(fonts: Sequence[Font]) -> dict[str, list[list[Font]]]:
    """Script → families → faces."""
    grouped: dict[str, dict[str, list[Font]]] = {name: {} for name in SCRIPTS.values()}
    for font in fonts:
        for letter in font.scripts:
            grouped[SCRIPTS[letter]].setdefault(font.family, []).append(font)
    return {script: list(families.values()) for script, families in grouped.items()}


def _choose_font(families: Sequence[Sequence[Font]], text: str, rng: random.Random) -> Font | None:
    """A face that covers all of `text`, or None after a few tries."""
    needed = frozenset("".join(for_drawing(line, rtl=is_rtl(text)) for line in text.split("\n")))
    weights = [len(faces) ** 0.5 for faces in families]  # a family of many faces is not drawn that much more
    for _ in range(12):
        font = rng.choice(rng.choices(families, weights=weights)[0])
        if font.draws(needed):
            return font
    return None
