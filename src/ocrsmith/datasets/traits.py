"""What is known of a sample without keeping it: numbers by which copies, near copies and strata are found.

Computed once, where the image is decoded anyway; about 100 bytes stand for an image and its text.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from ocrsmith.datasets.content_hash import image_digest
from ocrsmith.text.language import guess_language

PLAIN = 0
"""`visual_hash` of an image with nothing to compare: blank, or one colour."""

_WIDE = 1.9
"""Sides' ratio from which an image is a line: above landscape pages (1.4) and screens (1.78)."""
_PLAIN_DEVIATION = 1.0
"""Grey levels (of 255) that the small copy of an image must vary by to be compared."""
_GRAM = 3
_DIGIT_WEIGHT = 8
"""Numbers are what tells the filled-in copies of one form apart, so their n-grams weigh more."""
_STRIP_PIXELS = 1 << 20
_GRAMS_AT_ONCE = 1 << 14
_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Traits:
    """Digests, similarity hashes and figures of a sample."""

    image_digest: bytes
    """16 bytes of the encoded image."""
    pixel_digest: bytes
    """16 bytes of the decoded pixels: the same for a file and its lossless or grey copy."""
    visual_hash: int
    """64 bits: alike for recompressed, slightly scaled, turned or noisy copies; `PLAIN` says nothing."""
    text_digest: bytes
    """16 bytes of `comparable(text)`: what differs in white space and case only is the same text."""
    text_hash: int
    """64 bits: alike for texts that share most of their n-grams."""
    language: str
    """BCP 47 tag, see `text.language`."""
    length: int
    """Characters of the text as it is."""


def traits_of(image: bytes, pixels: Image.Image | None, text: str) -> Traits:
    """The traits of a sample.

    Args:
        image: the encoded file.
        pixels: the same, decoded and upright (from `images.open_image`); None if it cannot be: then its bytes
            stand for its pixels.
        text: its reference.
    """
    bare = comparable(text)
    return Traits(
        image_digest=image_digest(image),
        pixel_digest=image_digest(image) if pixels is None else pixel_digest(pixels),
        visual_hash=PLAIN if pixels is None else visual_hash(pixels),
        text_digest=hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=16).digest(),
        text_hash=text_hash(bare),
        language=guess_language(text),
        length=len(text),
    )


def comparable(text: str) -> str:
    """The text as it is compared: NFKC, casefolded, without white space."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def pixel_digest(pixels: Image.Image) -> bytes:
    """16 bytes of the size and the brightness of every pixel: a page and its grey copy have the same.

    SHA-256, since processors have instructions for it; in strips, so that a large page is not copied whole.
    """
    digest = hashlib.sha256(repr(pixels.size).encode())
    width, height = pixels.size
    rows = max(1, _STRIP_PIXELS // max(1, width))
    for top in range(0, height, rows):
        digest.update(pixels.crop((0, top, width, min(height, top + rows))).convert("L").tobytes())
    return digest.digest()[:16]


def visual_hash(pixels: Image.Image) -> int:
    """The signs of the 64 lowest frequencies of a small grey copy (DCT-II without the means of rows).

    A line (much wider than high) gets 16 frequencies along its width and 4 along its height, for that is where
    its text lies; a tall image the other way round, a page 8 and 8.
    """
    width, height = pixels.size
    if width >= _WIDE * height:
        size, wanted = (64, 16), (16, 4)
    elif height >= _WIDE * width:
        size, wanted = (16, 64), (4, 16)
    else:
        size, wanted = (32, 32), (8, 8)
    grey = _small_grey(pixels, size)
    if grey.std() < _PLAIN_DEVIATION:
        return PLAIN
    across, down = _cosines(size[0])[1 : wanted[0] + 1], _cosines(size[1])[: wanted[1]]
    signs = np.packbits((down @ grey @ across.T > 0).ravel())
    return int.from_bytes(signs.tobytes(), "big") or 1


def text_hash(bare: str) -> int:
    """Simhash of the character trigrams of a `comparable` text: bit by bit, the majority of their hashes."""
    codes = np.frombuffer(bare.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    weights = np.where([char.isdigit() for char in bare], _DIGIT_WEIGHT, 1) if bare else np.ones(0, np.int64)
    margin = np.zeros(_GRAM - 1, dtype=np.uint64)
    codes = np.concatenate([margin, codes, margin])
    weights = np.concatenate([margin + 1, weights, margin + 1]).astype(np.int64)
    total = np.zeros(64, dtype=np.int64)
    count = len(codes) - _GRAM + 1
    for start in range(0, count, _GRAMS_AT_ONCE):
        stop = min(count, start + _GRAMS_AT_ONCE)
        grams = np.zeros(stop - start, dtype=np.uint64)
        weight = np.ones(stop - start, dtype=np.int64)
        for offset in range(_GRAM):
            grams = _scramble(grams ^ (codes[start + offset : stop + offset] + _ODD[offset]))
            weight = np.maximum(weight, weights[start + offset : stop + offset])
        bits = np.unpackbits(grams.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1)
        total += weight @ (2 * bits.astype(np.int64) - 1)
    return int.from_bytes(np.packbits(total > 0).tobytes(), "big")


def _scramble(values: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of the value (two rounds of multiply and shift)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _small_grey(pixels: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """(height, width) float32 of `size`, each the mean of an area."""
    factor = (max(1, pixels.width // (2 * size[0])), max(1, pixels.height // (2 * size[1])))
    small = pixels.reduce(factor).convert("L").resize(size, Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


@cache
def _cosines(count: int) -> np.ndarray:
    """(count, count) basis of the DCT-II: row k has k half waves."""
    steps = np.arange(count, dtype=np.float64)
    return np.cos(np.pi * (2 * steps[None] + 1) * steps[:, None] / (2 * count)).astype(np.float32)
