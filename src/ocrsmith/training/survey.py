"""A look at all training data before it is trained on: lengths, what is too long, what share is learned."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from ocrsmith.errors import DataError, ImageError, OcrsmithError
from ocrsmith.model.processing import OcrProcessor
from ocrsmith.records import Excluded
from ocrsmith.training.collate import Samples, cannot_prepare


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, least and greatest of a figure over samples."""

    mean: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(sum(values) / len(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Survey:
    """Figures of the training data; tuples have an entry for every kept sample."""

    kept: tuple[int, ...]
    """Numbers of the samples that fit."""
    lengths: tuple[int, ...]
    """Tokens of the whole sequence."""
    image_tokens: tuple[int, ...]
    answer_tokens: tuple[int, ...]
    """Tokens that are learned: the text and the end of sequence."""
    too_long: tuple[Excluded, ...]

    @property
    def tokens(self) -> Spread:
        """Tokens of a sample."""
        return Spread.of(self.lengths)

    @property
    def trained_fraction(self) -> Spread:
        """Share of a sample's tokens that the loss is taken on."""
        return Spread.of(
            [answer / length for answer, length in zip(self.answer_tokens, self.lengths, strict=True)]
        )


def survey(
    samples: Samples, processor: OcrProcessor, *, progress: Callable[[int, int], None] | None = None
) -> Survey:
    """Measures every sample by its image's header and its text; decodes no image.

    Args:
        samples: the training split.
        processor: as training will use it; its `max_length` is the limit.
        progress: is told (done, in all).

    Raises:
        DataError: no samples, none within the limit, or one that cannot be read; names it.
    """
    limit = processor.settings.max_length
    kept, lengths, image_tokens, answer_tokens, too_long = [], [], [], [], []
    for number in range(len(samples)):
        sample = samples[number]
        try:
            size = upright_size(sample.image)
            asked = processor.count_tokens([size], sample.prompt)
            whole = processor.count_tokens([size], sample.prompt, sample.text)
        except OcrsmithError as error:
            raise cannot_prepare(sample, error) from error
        if whole > limit:
            detail = f"{sample.id}: {whole} tokens ({asked} image and prompt), the limit is {limit}"
            too_long.append(Excluded("too_long", detail, sample.image_path, sample.source))
        else:
            kept.append(number)
            lengths.append(whole)
            image_tokens.append(processor.count_image_tokens(*size))
            answer_tokens.append(whole - asked)
        if progress:
            progress(number + 1, len(samples))
    if not kept:
        raise DataError(
            f"There is nothing to train on: {len(samples)} samples, {len(too_long)} of them too long.",
            mend="build a dataset with a train split, or raise processing.max_length or lower processing.mode",
        )
    return Survey(tuple(kept), tuple(lengths), tuple(image_tokens), tuple(answer_tokens), tuple(too_long))


def upright_size(image: bytes) -> tuple[int, int]:
    """Width and height after EXIF rotation, read from the file's header.

    Raises:
        ImageError: it is no image.
    """
    try:
        with Image.open(io.BytesIO(image)) as opened:
            width, height = opened.size
            turned = opened.getexif().get(_ORIENTATION, 1) in _QUARTER_TURNS
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"The image cannot be read: {error}.") from error
    return (height, width) if turned else (width, height)


_ORIENTATION = 0x0112
_QUARTER_TURNS = (5, 6, 7, 8)
