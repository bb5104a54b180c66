"""From images, a prompt and perhaps an answer to what the model takes; the only way there is.

Training, evaluation and serving all come through `OcrProcessor.encode` and `collate`. An answer only adds ids
at the end, so the model is trained on exactly the tokens and pixels that it will be asked with:

    bos · prompt, each `<image>` as its run of image tokens · answer · eos        nothing in between
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from ocrsmith.errors import ImageError, InputError, SettingsError
from ocrsmith.images.open import Alpha, flatten_image, open_image
from ocrsmith.images.resize import MODES, ImageViews, Mode, ModeName, count_tokens, image_layout, make_views
from ocrsmith.model.device_views import RawImage, RawImages, raw_image
from ocrsmith.model.tokens import OcrTokens, load_tokenizer
from ocrsmith.settings.base import Settings
from ocrsmith.settings.files import cannot_write, write_text
from ocrsmith.text.prompts import FREE_OCR, IMAGE_TOKEN, PROMPTS

SETTINGS_FILE = "ocrsmith_processing.json"
IGNORE = -100
"""Label of tokens that are not learned."""

ImageSource = Image.Image | bytes | Path | str


class ProcessingSettings(Settings):
    """How images and texts become the model's input. Saved with every adapter, run and export."""

    mode: ModeName = Field(
        default="gundam", description="resolution: tiny, small, base, large or gundam (tiles)"
    )
    min_tiles: int = Field(default=2, ge=1, le=32, description="fewest tiles of an image that gets tiles")
    max_tiles: int = Field(default=9, ge=1, le=32, description="most tiles of an image; vLLM uses at most 6")
    alpha: Alpha = Field(default="white", description="transparency: composited on white, or dropped")
    prompt: str = Field(default=FREE_OCR, description="a prompt with <image> in it, or the name of one")
    max_length: int = Field(default=8192, ge=1, description="longest sequence in tokens, image tokens included")

    @field_validator("prompt")
    @classmethod
    def _find_prompt(cls, value: str) -> str:
        if IMAGE_TOKEN not in PROMPTS.get(value, value):
            raise ValueError(
                f"prompt = {value!r}: it has no {IMAGE_TOKEN} in it and is none of {', '.join(PROMPTS)}."
            )
        return PROMPTS.get(value, value)

    @model_validator(mode="after")
    def _check_tiles(self) -> Self:
        if self.min_tiles > self.max_tiles:
            raise ValueError(f"min_tiles = {self.min_tiles} is above max_tiles = {self.max_tiles}.")
        return self


@dataclass(slots=True)
class Encoded:
    """One sample, ready to be collated."""

    input_ids: list[int]
    labels: list[int] | None
    """As long as `input_ids`, -100 on everything but the answer and eos; None without an answer."""
    views: Sequence[ImageViews | RawImage]
    """One per image, in the order of the prompt; raw where views are made on the device."""

    @property
    def num_tokens(self) -> int:
        """Length of the sequence."""
        return len(self.input_ids)

    @property
    def num_image_tokens(self) -> int:
        """Tokens of the sequence that stand for images."""
        return sum(view.num_tokens for view in self.views)


class OcrProcessor:
    """Encodes samples, collates batches, decodes answers."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        settings: ProcessingSettings | None = None,
        *,
        resize: Literal["host", "device"] = "host",
    ) -> None:
        """
        Args:
            tokenizer: the model's.
            settings: None takes the defaults.
            resize: device: images are decoded only; `OcrModel.encode_images` makes the same views of them
                on the model's device.
        Raises:
            InputError: the tokenizer lacks bos, eos, pad or `<image>`.
        """
        self.tokenizer = tokenizer
        self.settings = settings or ProcessingSettings()
        self.resize = resize
        self.tokens = OcrTokens(tokenizer)

    @property
    def mode(self) -> Mode:
        """The resolution mode with its sizes."""
        return MODES[self.settings.mode]

    def encode(
        self, images: Sequence[ImageSource], prompt: str | None = None, text: str | None = None
    ) -> Encoded:
        """Encodes one sample.

        Args:
            images: decoded images, encoded files in memory, or paths; as many as the prompt has `<image>`.
            prompt: None takes the settings' prompt. White space around it is cut off, as the model expects.
            text: the answer to learn, taken as it is; None to ask for it.

        Raises:
            ImageError: an image cannot be opened.
            InputError: images do not match the prompt, `<image>` in the text, or too long for `max_length`.
        """
        pieces = self._split_prompt(prompt, len(images))
        answer = None if text is None else self._encode_answer(text)
        views = [self._make_views(image) for image in images]
        prefix = self._join(pieces, [view.num_tokens for view in views])
        return self._complete(prefix, answer, views)

    def encode_text(self, size: tuple[int, int], prompt: str | None = None, text: str | None = None) -> Encoded:
        """As `encode` for one upright image of that size (width, height), without its views.

        Raises:
            InputError: as `encode`.
        """
        pieces = self._split_prompt(prompt, 1)
        answer = None if text is None else self._encode_answer(text)
        return self._complete(self._join(pieces, [self.count_image_tokens(*size)]), answer, [])

    def count_tokens(
        self, image_sizes: Sequence[tuple[int, int]], prompt: str | None = None, text: str | None = None
    ) -> int:
        """Length of the sequence that `encode` would give, from the sizes (width, height) of upright images.

        Raises:
            InputError: as `encode`, but never for the length.
        """
        pieces = self._split_prompt(prompt, len(image_sizes))
        images = sum(self.count_image_tokens(width, height) for width, height in image_sizes)
        answer = 0 if text is None else len(self._encode_answer(text))
        return 1 + sum(map(len, pieces)) + images + answer

    def count_image_tokens(self, width: int, height: int) -> int:
        """Image tokens of an upright image of that size."""
        limits = {"min_tiles": self.settings.min_tiles, "max_tiles": self.settings.max_tiles}
        return count_tokens(*image_layout(width, height, self.mode, **limits))

    def collate(
        self, encoded: Sequence[Encoded], padding_side: Literal["right", "left"] = "right"
    ) -> dict[str, Any]:
        """Batches samples. Images stay uint8: they are normalised on the model's device.

        Args:
            encoded: at least one sample.
            padding_side: right for training, left for generation.

        Returns:
            input_ids, attention_mask: (B, T) int64.
            labels: (B, T) int64 with -100 on padding; only if all samples have labels, as is
            label_rows: (R,) int64, the flat indices b·T + t of the positions whose next token is learned.
            views: side S → (N_S, S, S, 3) uint8; images in order, an image's tiles before its global view. With
                `resize` on the device, the images themselves.
            image_layouts: (view_size, tile_size, columns, rows) per image, plain ints.
        """
        length = max(sample.num_tokens for sample in encoded)
        ids = np.full((len(encoded), length), self.tokens.pad, np.int64)
        mask = np.zeros_like(ids)
        labels = np.full_like(ids, IGNORE)
        for row, sample in enumerate(encoded):
            place = slice(0, sample.num_tokens) if padding_side == "right" else slice(-sample.num_tokens, None)
            ids[row, place] = sample.input_ids
            mask[row, place] = 1
            if sample.labels is not None:
                labels[row, place] = sample.labels
        batch: dict[str, Any] = {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "views": _stack_views(view for sample in encoded for view in sample.views),
            "image_layouts": [view.layout for sample in encoded for view in sample.views],
        }
        if all(sample.labels is not None for sample in encoded):
            learned_next = np.zeros(ids.shape, bool)
            learned_next[:, :-1] = labels[:, 1:] != IGNORE
            batch["labels"] = torch.from_numpy(labels)
            batch["label_rows"] = torch.from_numpy(np.flatnonzero(learned_next))
        return batch

    def collate_packed(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """Lays samples end to end in one row, without padding, for training.

        Args:
            encoded: at least one sample, all with labels.

        Returns:
            input_ids, labels: (1, ΣT) int64.
            label_rows: (R,) int64, positions whose next token is learned.
            sequence_lengths: tokens of each sample, plain ints.
            views, image_layouts: as `collate` gives them.
        """
        ids = np.concatenate([np.asarray(sample.input_ids, np.int64) for sample in encoded])
        labels = np.concatenate([np.asarray(sample.labels, np.int64) for sample in encoded])
        return {
            "input_ids": torch.from_numpy(ids)[None],
            "labels": torch.from_numpy(labels)[None],
            # A sample begins with bos, which is never learned: no row learns the next sample's first token.
            "label_rows": torch.from_numpy(np.flatnonzero(labels[1:] != IGNORE)),
            "sequence_lengths": [sample.num_tokens for sample in encoded],
            "views": _stack_views(view for sample in encoded for view in sample.views),
            "image_layouts": [view.layout for sample in encoded for view in sample.views],
        }

    def decode(self, token_ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Text of generated ids; `<td>`, `<|ref|>` and their like stay, since they are part of the answer."""
        return self.tokens.decode(token_ids, skip_special_tokens=skip_special_tokens)

    def save_pretrained(self, folder: Path | str, **_: Any) -> None:
        """Writes the tokenizer's files and `ocrsmith_processing.json`, each complete or not at all.

        Raises:
            OutputError: they cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".tokenizer-", dir=folder) as scratch:
                self.tokenizer.save_pretrained(scratch)
                for path in sorted(Path(scratch).iterdir()):
                    os.replace(path, folder / path.name)
        except OSError as error:
            raise cannot_write(error, folder) from error
        write_text(folder / SETTINGS_FILE, json.dumps(self.settings.model_dump(), indent=2, ensure_ascii=False))

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Reads what `save_pretrained` wrote, or an original hub folder (which gets the default settings).

        Raises:
            InputError: tokenizer files are missing or damaged.
            SettingsError: wrong values in `ocrsmith_processing.json`.
        """
        folder = Path(folder)
        tokenizer = load_tokenizer(folder)
        return cls(tokenizer, _read_settings(folder / SETTINGS_FILE))

    def _complete(
        self, prefix: list[int], answer: list[int] | None, views: Sequence[ImageViews | RawImage]
    ) -> Encoded:
        self._check_length(len(prefix), None if answer is None else len(answer))
        if answer is None:
            return Encoded(prefix, None, views)
        return Encoded(prefix + answer, [IGNORE] * len(prefix) + answer, views)

    def _make_views(self, source: ImageSource) -> ImageViews | RawImage:
        alpha = self.settings.alpha
        if isinstance(source, Image.Image):
            image = flatten_image(source, alpha=alpha, keep_grey=True)
        else:
            image = open_image(source, alpha=alpha, keep_grey=True)
        if not (image.width and image.height):
            raise ImageError(f"The image is {image.width}×{image.height} pixels: nothing to read.")
        limits = {"min_tiles": self.settings.min_tiles, "max_tiles": self.settings.max_tiles}
        if self.resize == "device":
            return raw_image(image, self.mode, **limits)
        return make_views(image, self.mode, **limits)

    def _split_prompt(self, prompt: str | None, images: int) -> list[list[int]]:
        """Ids of the pieces around the images: one more than images."""
        text = (self.settings.prompt if prompt is None else prompt).strip()
        pieces = text.split(IMAGE_TOKEN)
        if len(pieces) - 1 != images:
            raise InputError(
                f"The prompt {text!r} has {len(pieces) - 1} {IMAGE_TOKEN}, but there are {images} images.",
                mend=f"Write {IMAGE_TOKEN} once for each image, for example {FREE_OCR!r}.",
            )
        return [self.tokens.encode_prompt(piece) for piece in pieces]

    def _join(self, pieces: list[list[int]], image_tokens: list[int]) -> list[int]:
        ids = [self.tokens.bos, *pieces[0]]
        for count, piece in zip(image_tokens, pieces[1:], strict=True):
            ids += [self.tokens.image] * count
            ids += piece
        return ids

    def _encode_answer(self, text: str) -> list[int]:
        """Ids of the answer and eos."""
        if IMAGE_TOKEN in text:
            raise InputError(
                f"The text contains {IMAGE_TOKEN}, which stands for a picture in prompts.",
                mend=f"Take {IMAGE_TOKEN} out of the text, or leave the sample out.",
            )
        return [*self.tokens.encode_answer(text), self.tokens.eos]

    def _check_length(self, prefix: int, answer: int | None) -> None:
        limit = self.settings.max_length
        if answer is None and prefix >= limit:
            problem = f"Images and prompt take {prefix} tokens and leave no room for an answer"
        elif answer is not None and prefix + answer > limit:
            problem = f"The sample takes {prefix + answer} tokens ({prefix} image and prompt, {answer} text)"
        else:
            return
        raise InputError(
            f"{problem}; the limit is {limit}.",
            mend="Cut the page or its text into parts, or use a mode with fewer image tokens.",
        )


def _stack_views(images: Iterable[ImageViews | RawImage]) -> dict[int, Tensor] | RawImages:
    """Side S → (N_S, S, S, 3) uint8, each pixel copied once; raw images as they are."""
    raw: list[RawImage] = []
    by_size: dict[int, list[np.ndarray]] = {}
    for image in images:
        if isinstance(image, RawImage):
            raw.append(image)
            continue
        if image.tile_size:
            by_size.setdefault(image.tile_size, []).append(image.tiles)
        by_size.setdefault(image.view_size, []).append(image.global_view[None])
    if raw:
        return RawImages.of(raw)
    return {size: torch.from_numpy(np.concatenate(views)) for size, views in by_size.items()}


def _read_settings(path: Path) -> ProcessingSettings:
    if not path.is_file():
        return ProcessingSettings()
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path.name} cannot be read ({error}).", place=str(path), mend="Delete it to get the defaults."
        ) from error
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path.name} holds no JSON object.", place=str(path), mend="Delete it to get the defaults."
        )
    return ProcessingSettings.from_values(values, place=str(path))
